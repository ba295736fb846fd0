"""`zos network publish`: sign and publish a file after an edit by hand, alone or with others."""

from __future__ import annotations

from pathlib import Path

import click

from overlay.documents import envelope as dsse
from overlay.documents import schema
from overlay.documents.envelope import Envelope
from overlay.errors import Rejected
from zos_core.cli import output
from zos_core.cli.command import Command
from zos_core.cli.completion import complete_networks
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home
from zos_core.cli.publishing import NetworkEdit


@click.command("publish", cls=Command)
@click.argument("net", metavar="NET", shell_complete=complete_networks)
@click.option("--no-publish", is_flag=True, help="Print the signed envelope instead.")
@click.option(
    "--signatures-from",
    "others",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Envelope of another owner, signed over the same file.",
)
@registry_option
def publish(net: str, no_publish: bool, others: tuple[Path, ...], registry: str | None) -> None:
    """Sign the file as its next version and publish it.

    A network of several owners needs as many signatures as its threshold: each owner prints an
    envelope with --no-publish over the same file, and one of them publishes it with the others'.

    \b
    Examples:
      zos network publish home
      zos network publish lab --no-publish > alice.json
      zos network publish lab --signatures-from alice.json
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    envelopes = [_read_envelope(path) for path in others]
    if no_publish:
        click.echo(dsse.encode_envelope(edit.sign(others=envelopes)))
        return
    if not _is_published(edit):
        with output.progress("publishing"):
            edit.publish(others=envelopes)
    file = edit.file
    value = {"network": edit.id, "name": file.name, "version": file.version, "published": True}
    output.show(value, f"{file.name} is published as version {file.version}")


def _is_published(edit: NetworkEdit) -> bool:
    """Whether the registry has exactly this file; then only the version in it may be behind."""
    published = edit.directory().fetch(f"network/{edit.id}", schema.Network)
    if published is None or edit.document(published.version) != published:
        return False
    edit.record(published.version)
    return True


def _read_envelope(path: Path) -> Envelope:
    try:
        return dsse.parse_envelope(path.read_bytes())
    except Rejected as exc:
        raise Rejected(f"{path}: {exc.message}", field=exc.field, remedy=exc.remedy) from exc
