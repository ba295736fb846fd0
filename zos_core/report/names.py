"""Who answers for names inside a network, as status shows it."""

from __future__ import annotations

from collections.abc import Iterable

from overlay.netns.dns import format_resolv_conf
from overlay.netns.state import Attachment
from overlay.peers.zone import domain_of
from overlay.reconcile.answering import Answers
from overlay.reconcile.resource import ResourceLoop
from zos_core.status import HealthItem, NamesStatus, NetworkStatus


def names_status(answers: Answers | None) -> NamesStatus | None:
    """None before the first pass over the network resource."""
    if answers is None:
        return None
    error = answers.error
    remedy = "" if error is None else error.remedy or "zos tries again by itself"
    return NamesStatus(
        domain=answers.domain,
        state="serving" if answers.is_served else "failed" if error is not None else "starting",
        message=error.message if error is not None else "",
        remedy=remedy,
        servers=answers.service.addresses,
        names=answers.names,
        left_out=answers.left_out,
        resolvers=answers.service.resolvers,
    )


def resolv_conf(loop: ResourceLoop, attachment: Attachment) -> str:
    """What the workload's resolv.conf is to say."""
    if (document := loop.document) is None:
        return ""
    servers = (attachment.gateway_v4, attachment.gateway_v6)
    return format_resolv_conf(servers, domain=domain_of(document.name))


def names_health(network: NetworkStatus) -> Iterable[HealthItem]:
    names = network.names
    if names is not None and names.state == "failed":
        yield HealthItem(
            "names-failed",
            f"Nobody answers for names in {network.name}",
            "warning",
            f"{names.message}; the network works, its names do not",
            names.remedy,
            network=network.id,
        )
    if names is not None and names.left_out:
        yield HealthItem(
            "names-left-out",
            f"{names.left_out} names of {network.name} are not answered",
            "warning",
            f"{network.name} has more than {names.names} names",
            "the tenant makes two networks of it",
            network=network.id,
        )
