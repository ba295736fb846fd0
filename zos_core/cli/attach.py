"""`zos attach` and `zos detach`: a network namespace joins a network as a workload, and leaves."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from zos_core.cli import local, output
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks, complete_workloads
from zos_core.status import AttachAnswer, AttachmentStatus, AttachRequest, DetachRequest, Done

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)


@command("attach")
@_NET
@click.argument("name")
@click.option("--netns", metavar="PATH", type=click.Path(path_type=Path), help="As in /run/netns.")
@click.option("--pid", type=click.IntRange(1), help="The netns of this process.")
@click.option("--link", default="eth0", show_default=True, help="Name of the link inside.")
def attach(net: str, name: str, netns: Path | None, pid: int | None, link: str) -> None:
    """Attach a network namespace to a network, with addresses of its own.

    For names inside the network, resolv_conf of --json is what its /etc/resolv.conf is to say;
    ip-netns(8) takes that from /etc/netns.

    \b
    Examples:
      sudo zos attach home web --netns /run/netns/web
      sudo zos attach home db --pid 4711 --link net0
    """
    if (netns is None) == (pid is None):
        raise click.UsageError("give one of --netns PATH and --pid PID")
    path = str(netns.absolute()) if netns is not None else f"/proc/{pid}/ns/net"
    request = AttachRequest(network=net, name=name, netns=path, link=link)
    answer = local.post("/v1/attach", request, AttachAnswer)
    value = {
        "network": answer.network,
        "attachment": msgspec.to_builtins(answer.attachment),
        "resolv_conf": answer.resolv_conf,
    }
    output.show(value, describe(answer.attachment))


@command("detach")
@_NET
@click.argument("name", shell_complete=complete_workloads)
def detach(net: str, name: str) -> None:
    """Take a workload out of a network. The namespace itself stays.

    \b
    Examples:
      sudo zos detach home web
    """
    local.post("/v1/detach", DetachRequest(network=net, name=name), Done)
    output.show({"network": net, "name": name}, f"{name} is detached from {net}")


def describe(attachment: AttachmentStatus) -> str:
    """`web: 10.1.1.2 fd12:..::2 on eth0`"""
    v4, v6 = (a.partition("/")[0] for a in (attachment.address_v4, attachment.address_v6))
    return f"{attachment.name}: {v4} {v6} on {attachment.link}"
