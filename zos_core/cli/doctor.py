"""`zos doctor`: whether this machine can be a node, with a remedy for what is in the way."""

from __future__ import annotations

from collections import Counter

import click
import msgspec

from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.directory import registry_option
from zos_core.cli.exits import Exit

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@command("doctor")
@registry_option
@click.pass_context
def doctor(ctx: click.Context, registry: str | None) -> None:
    """Check this machine: rights, kernel, WireGuard, firewall, clock, registry, limits.

    Nothing is changed: what has to be tried is tried in a network namespace that is gone
    afterwards. Exit code 1 when something fails.

    \b
    Examples:
      sudo zos doctor
      sudo zos doctor --registry https://192.0.2.1:8443#registry1...
    """
    from zos_core.cli import examination

    with output.progress("examining"):
        findings = examination.examine(registry=registry)
    count = Counter(finding.verdict for finding in findings)
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        verdict = output.mark(finding.verdict.ljust(4), _COLOURS[finding.verdict])
        lines.append(f"{verdict}  {finding.name.ljust(width)}  {finding.evidence}")
        if finding.remedy and finding.verdict != "ok":
            lines.append(f"      {' ' * width}  -> {finding.remedy}")
    summary = f"{count['ok']} ok, {count['warn']} to look at, {count['fail']} in the way"
    output.show({"findings": msgspec.to_builtins(findings)}, *lines, summary)
    if count["fail"]:
        ctx.exit(Exit.NOT_HEALTHY)
