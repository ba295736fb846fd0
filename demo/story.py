"""What happens while the demo's lab is built, told to somebody who is new to it (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from netlab.supervisor.journal import Event

STEPS = {
    "namespaces": "An internet in namespaces of this machine: homes with NAT, two providers",
    "registry": "A registry, which stores and forwards and is trusted with nothing",
    "nodes": "Six nodes start; an operator has a farm, and two tenants want the same addresses",
    "the registry serves and all nodes run": "The operator signs which nodes are the farm's, with"
    " a relay and two exits;\nthe tenants sign who is in their networks, and invite one more",
    "memberships": "Nodes join, by name or by invitation; workloads and a laptop are attached",
}
NOW_JUDGED = (
    "Everybody asks everybody. After 8 s the uplink of the first exit is cut."
    " What the file expects:"
)
WORD_CHARS_MAX = 48
SPEAKER_CHARS = 10
# Where the registry is and whether to publish is the same all the time.
_UNSAID = ("--registry",)


class Teller:
    """Lines for one event after the other; a phase is told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def lines(self, event: Event) -> Iterator[str]:
        if event.kind == "phase" and event.text in STEPS and event.text not in self._told:
            self._told.add(event.text)
            yield f"\n{STEPS[event.text]}"
        elif event.kind == "command":
            yield f"{event.subject:>{SPEAKER_CHARS}}$ {_shortened(event.text)}"
        elif event.kind == "ready":
            yield f"\nAll of it is up after {event.lab_s:.0f} s"


def _shortened(command: str) -> str:
    words = shlex.split(command)
    said = []
    for position, word in enumerate(words):
        if word in _UNSAID or (position and words[position - 1] in _UNSAID):
            continue
        said.append(f"{word[:20]}..." if len(word) > WORD_CHARS_MAX else word)
    return " ".join(said)
