"""What netlab adds to `zos`. Every `zos` imports it, so it imports nothing but its own type."""

from __future__ import annotations

from zos_core.cli.command import Lazy

SUMMARY = "Run networks in namespaces on this machine."

COMMANDS = {"lab": Lazy("netlab.cli.lab:lab", SUMMARY, "Labs")}
