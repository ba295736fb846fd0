"""The group `zos lab` and the table of its commands."""

from __future__ import annotations

import click

from zos_core.cli.command import Lazy, LazyGroup

_LIFE, _FILES, _LOOK, _INSIDE, _FAULTS, _MODEL = (
    "Life",
    "Files",
    "Look",
    "Inside",
    "Faults",
    "Virtual time",
)

COMMANDS = {
    "up": Lazy("netlab.cli.up:up", "Build a lab from a file.", _LIFE),
    "down": Lazy("netlab.cli.down:down", "End a lab; nothing of it is left.", _LIFE),
    "plan": Lazy("netlab.cli.apply:plan", "Show what apply would do.", _LIFE),
    "apply": Lazy("netlab.cli.apply:apply", "Make a lab what its file says now.", _LIFE),
    "run": Lazy("netlab.cli.run:run", "Build a lab, judge it, end it.", _LIFE),
    "labs": Lazy("netlab.cli.labs:labs", "List the labs that are shipped.", _LIFE),
    "ls": Lazy("netlab.cli.ls:ls", "List the labs that are up.", _LIFE),
    "bench": Lazy("netlab.cli.bench:bench", "Measure what labs take here.", _LIFE),
    "doctor": Lazy("netlab.cli.doctor:doctor", "Check what labs can have here.", _LIFE),
    "gc": Lazy("netlab.cli.gc:gc", "Remove what dead labs have left.", _LIFE),
    "lint": Lazy("netlab.cli.lint:lint", "Say all that is wrong with a file.", _FILES),
    "graph": Lazy("netlab.cli.graph:graph", "Draw a file, or a lab that is up.", _FILES),
    "import": Lazy("netlab.cli.import_:import_", "Make a lab file of a containerlab's.", _FILES),
    "status": Lazy("netlab.cli.status:status", "Show nodes, links, tunnels.", _LOOK),
    "check": Lazy("netlab.cli.check:check", "Judge what its file expects.", _LOOK),
    "events": Lazy("netlab.cli.events:events", "Show what has happened.", _LOOK),
    "watch": Lazy("netlab.cli.watch:watch", "Show a lab as a page in the browser.", _LOOK),
    "top": Lazy("netlab.cli.top:top", "Show the busiest links and tunnels.", _LOOK),
    "nat": Lazy("netlab.cli.nat:nat", "Measure what a router's NAT does.", _LOOK),
    "logs": Lazy("netlab.cli.logs:logs", "Show what programs have said.", _LOOK),
    "pcap": Lazy("netlab.cli.pcap:pcap", "Show or keep the packets of a link.", _LOOK),
    "exec": Lazy("netlab.cli.exec:exec_", "Run a command in a node.", _INSIDE),
    "shell": Lazy("netlab.cli.shell:shell", "Open a shell in a node.", _INSIDE),
    "link": Lazy("netlab.cli.link:link", "Cut and mend links.", _FAULTS),
    "kill": Lazy("netlab.cli.power:kill", "Cut the power of a node.", _FAULTS),
    "restart": Lazy("netlab.cli.power:restart", "Switch a node off and on again.", _FAULTS),
    "pause": Lazy("netlab.cli.power:pause", "Stop every process of a node.", _FAULTS),
    "resume": Lazy("netlab.cli.power:resume", "Let a paused node go on.", _FAULTS),
    "partition": Lazy("netlab.cli.partition:partition", "Cut the network in parts.", _FAULTS),
    "heal": Lazy("netlab.cli.partition:heal", "Make the network whole again.", _FAULTS),
    "reboot-nat": Lazy("netlab.cli.router:reboot_nat", "Make a router forget.", _FAULTS),
    "sim": Lazy("netlab.cli.sim:sim", "Live whole worlds of nodes, seed by seed.", _MODEL),
}


@click.group("lab", cls=LazyGroup, lazy=COMMANDS)
def lab() -> None:
    """Run networks in namespaces on this machine: nodes, NATs, faults, tenants.

    A lab is up until it is taken down, and answers while it is. LAB and --lab may be left out when
    exactly one lab is up. Nothing of a lab is left when it ends, however it ends.

    \b
    Examples:
      zos lab up two-homes.lab.toml
      zos lab exec alice -- ping -c 1 bob
      zos lab down
    """
