"""`zos network access`: a laptop or phone without zos, by way of one node."""

from __future__ import annotations

from pathlib import Path

import click

from overlay import addressing
from overlay.documents import schema, trust
from overlay.errors import Rejected, Unavailable
from overlay.keys import store, wireguard
from overlay.keys.wireguard import WireGuardKey
from overlay.model import Endpoint
from overlay.peers.zone import domain_of
from zos_core import wgquick
from zos_core.cli import output
from zos_core.cli.command import Command
from zos_core.cli.completion import complete_networks
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home, write_text
from zos_core.cli.publishing import NetworkEdit
from zos_core.files import network as network_files
from zos_core.wgquick import AccessConfig


@click.command("access", cls=Command)
@click.argument("net", metavar="NET", shell_complete=complete_networks)
@click.argument("words", metavar="[add|remove] DEVICE", nargs=-1, required=True)
@click.option("--via", metavar="NODE", help="The member that the device connects to.")
@click.option("--public-key", metavar="KEY", help="The device's own key; else one is made.")
@click.option("--endpoint", metavar="ADDRESS:PORT", help="Where the device finds the node.")
@click.option(
    "--dns/--no-dns",
    default=None,
    help="Ask the network about all names, not only its own. By default where it has an exit.",
)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="Write it to a file.")
@click.option("--qr", is_flag=True, help="Also draw the configuration, on standard error.")
@registry_option
def access(
    net: str,
    words: tuple[str, ...],
    via: str | None,
    public_key: str | None,
    endpoint: str | None,
    dns: bool | None,
    path: Path | None,
    qr: bool,
    registry: str | None,
) -> None:
    """Let a device without zos in; prints a wg-quick configuration.

    The private key is made here and is in the printed configuration only. With --public-key it
    never leaves the device.

    \b
    Examples:
      zos network access home laptop --via n1 -o laptop.conf
      zos network access home add phone --via n1 --qr
      zos network access home remove laptop
    """
    action, device = _words(words)
    edit = NetworkEdit(Home(), net, registry=registry)
    if action == "remove":
        return _remove(edit, device)
    if via is None:
        raise click.UsageError("--via is missing: the node that the device connects to")
    key = store.generate_wireguard_key() if public_key is None else None
    public = key.public_key if key else wireguard.parse_public_key(public_key or "")
    index = network_files.free_index(edit.file)
    asks_for_all = bool(edit.file.exits) if dns is None else dns
    config = _config(edit, device, via, index=index, endpoint=endpoint, asks_for_all=asks_for_all)
    text_key = wireguard.format_key(public)
    edit.change(
        lambda text: network_files.add_access(
            text, device, public_key=text_key, index=index, via=via
        )
    )
    with output.progress("publishing"):
        edit.publish()
    _hand_over(edit, config, key, path=path, qr=qr)
    return None


def _words(words: tuple[str, ...]) -> tuple[str, str]:
    if len(words) == 1:
        return "add", words[0]
    if len(words) == 2 and words[0] in ("add", "remove"):
        return words[0], words[1]
    raise click.UsageError(f"{' '.join(words)!r} is not: [add|remove] DEVICE")


def _remove(edit: NetworkEdit, device: str) -> None:
    edit.change(lambda text: network_files.remove_entry(text, "access", device))
    with output.progress("publishing"):
        version = edit.publish()
    value = {"network": edit.id, "name": edit.file.name, "device": device, "version": version}
    output.show(value, f"{device} is not in {edit.file.name} any more")


def _config(
    edit: NetworkEdit,
    device: str,
    via: str,
    *,
    index: int,
    endpoint: str | None,
    asks_for_all: bool,
) -> AccessConfig:
    """What the device needs. Raises Unavailable while the node has not joined (CLI-021)."""
    member = _member(edit, via)
    range_v4 = addressing.parse_range(edit.file.range)
    range_v6 = addressing.ula_range(edit.id)
    ranges = (range_v4, range_v6)
    own = addressing.host_addresses(*ranges, index=index, host=addressing.GATEWAY_HOST)
    return AccessConfig(
        network=edit.file.name,
        device=device,
        via=via,
        address_v4=own[0],
        address_v6=own[1],
        ranges=ranges,
        peer=wireguard.wireguard_public_key(member.device),
        endpoint=_endpoint(member, via, endpoint),
        servers=addressing.host_addresses(
            *ranges, index=member.index, host=addressing.GATEWAY_HOST
        ),
        domain=domain_of(edit.file.name),
        asks_for_all=asks_for_all,
    )


def _member(edit: NetworkEdit, via: str) -> schema.Member:
    entry = edit.file.members.get(via)
    node = entry.node if entry is not None else via
    if not node.startswith("node1"):
        known = ", ".join(sorted(edit.file.members)) or "none yet"
        raise Rejected(f"{via!r} is no member", field="--via", remedy=f"members: {known}")
    member = edit.directory().fetch(f"member/{edit.id}/{node}", schema.Member)
    if member is None:
        raise Unavailable(
            f"{via} has not joined {edit.file.name} yet, so nobody knows its key",
            field="--via",
            remedy=f"start the node, then see: zos network show {edit.named}",
        )
    trust.Roster(edit.document(edit.file.version + 1)).admit(member)
    if member.next_device is not None:
        raise Unavailable(
            f"{via} is replacing its key, and the device would be given the former one",
            field="--via",
            remedy="ask again when `zos network show` names another key for it",
        )
    return member


def _endpoint(member: schema.Member, via: str, wanted: str | None) -> Endpoint:
    if wanted is not None:
        return addressing.parse_endpoint(wanted, field="--endpoint")
    endpoint = wgquick.select_endpoint(schema.candidates(member))
    if endpoint is None:
        raise Rejected(
            f"{via} offers no endpoint",
            field="--via",
            remedy="choose a public node, or give --endpoint ADDRESS:PORT",
        )
    return endpoint


def _hand_over(
    edit: NetworkEdit,
    config: AccessConfig,
    key: WireGuardKey | None,
    *,
    path: Path | None,
    qr: bool,
) -> None:
    """Show the configuration once, or write it to a file that only its owner reads."""
    text = wgquick.format_config(config, key)
    value = {
        "network": edit.id,
        "name": edit.file.name,
        "version": edit.file.version,
        "device": config.device,
        "via": config.via,
        "endpoint": str(config.endpoint),
        "addresses": [config.address_v4, config.address_v6],
        "dns": [*config.servers, config.domain],
    }
    if path is not None:
        write_text(path, text)
        # A bare name would be looked for in /etc/wireguard.
        output.say(f"wrote {path}; start it with: wg-quick up {path.absolute()}")
        output.show({**value, "path": str(path)}, str(path))
    else:
        output.show({**value, "config": text}, text.rstrip("\n"))
    if qr:
        output.draw_qr(text)
