"""`zos lab ls`: which labs there are."""

from __future__ import annotations

from typing import Any

from netlab.supervisor.places import Place
from overlay.errors import OverlayError
from zos_core.cli import output
from zos_core.cli.command import command


@command("ls")
def ls() -> None:
    """List the labs of this user: those that are up, and what dead ones have left.

    \b
    Examples:
      zos lab ls
      zos lab ls --json
    """
    from netlab.supervisor import places

    labs = [_describe(place) for place in places.list_places()]
    header = ("LAB", "STATE", "NODES", "AGE", "WORK DIRECTORY")
    lines = output.table(header, map(_row, labs))
    output.show({"labs": labs}, *(lines if labs else ["no lab is up"]))


def _describe(place: Place) -> dict[str, Any]:
    from netlab.supervisor import asking, places
    from netlab.supervisor.status import LabStatus

    found: dict[str, Any] = {"name": place.name, "state": "dead", "nodes": None, "lab_s": None}
    if places.is_alive(place):
        try:
            status = asking.get(place, "/v1/lab", LabStatus)
            found |= {"state": status.state, "nodes": len(status.nodes), "lab_s": status.lab_s}
        except OverlayError:
            found["state"] = "starting"  # or just ending: it has a lock, and no socket
    return {**found, "workdir": str(place.workdir)}


def _row(lab: dict[str, Any]) -> tuple[str, ...]:
    age = "-" if lab["lab_s"] is None else f"{lab['lab_s']:.0f} s"
    nodes = "-" if lab["nodes"] is None else str(lab["nodes"])
    return lab["name"], lab["state"], nodes, age, lab["workdir"]
