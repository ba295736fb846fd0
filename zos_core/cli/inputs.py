"""What the node knows about the network in which somebody is looked for."""

from __future__ import annotations

from overlay.errors import Conflict, Rejected
from zos_core import why
from zos_core.cli import local
from zos_core.status import WhyInputs


def find_inputs(network: str | None, name: str, *, target: str | None = None) -> WhyInputs:
    """The network in which `name` means somebody, and `target` as well, or a place outside.

    Raises Rejected or Conflict.
    """
    status = local.fetch_status()
    if network is not None or len(status.networks) <= 1:
        chosen = local.choose_network(status, network)
        return local.get("/v1/why", WhyInputs, network=chosen.id)
    found: list[WhyInputs] = []
    inside: list[WhyInputs] = []  # of these, where the target is somebody as well
    refusal = Rejected("nobody is called that in any network of this node")
    for each in status.networks:
        inputs = local.get("/v1/why", WhyInputs, network=each.id)
        try:
            why.find_party(inputs, name)
            meant = why.find_target(inputs, target) if target is not None else None
        except Rejected as exc:
            refusal = exc
        else:
            found.append(inputs)
            if isinstance(meant, why.Party):
                inside.append(inputs)
    found = inside or found
    if len(found) > 1:
        both = ", ".join(inputs.network.name for inputs in found)
        names = name if target is None else f"{name} and {target}"
        raise Conflict(f"{names} is in {both}", remedy="choose with --network NET")
    if not found:
        raise refusal
    return found[0]
