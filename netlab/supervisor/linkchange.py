"""What a wish to change a link makes of its impairment: each parameter on its own. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from netlab.files.quantities import format_drop, format_rate, format_share, format_time
from netlab.impairment import Both, Impairment
from netlab.refusals import impairments
from netlab.supervisor.status import LinkRequest


def changed(both: Both, request: LinkRequest) -> Both:
    """Raises Rejected for what no link can do, naming the parameter."""
    up = down = None
    if request.direction in ("both", "up"):
        up = _change(both.up, request)
    if request.direction in ("both", "down"):
        down = _change(both.down, request)
    found = Both(up=both.up if up is None else up, down=both.down if down is None else down)
    for fault in impairments.find(found, path=request.link):
        raise fault
    return found


def describe(both: Both) -> str:
    """ "delay 20ms, loss 1%", with both directions where they differ."""
    if both.up == both.down:
        return _words(both.up)
    return f"up: {_words(both.up)}; down: {_words(both.down)}"


def _change(before: Impairment, request: LinkRequest) -> Impairment:
    given = {
        name: value
        for name, value in msgspec.structs.asdict(request.change).items()
        if value is not None
    }
    return replace(Impairment() if request.clear else before, **given)


def _words(impairment: Impairment) -> str:
    said = [
        f"{name} {written}"
        for name, written in (
            ("delay", impairment.delay_s and format_time(impairment.delay_s)),
            ("jitter", impairment.jitter_s and format_time(impairment.jitter_s)),
            ("loss", impairment.loss and format_share(impairment.loss)),
            ("duplicate", impairment.duplicate and format_share(impairment.duplicate)),
            ("reorder", impairment.reorder and format_share(impairment.reorder)),
            ("rate", impairment.rate_bit_s and format_rate(impairment.rate_bit_s)),
        )
        if written
    ]
    said += [f"drop {format_drop(drop)}" for drop in impairment.drops]
    return ", ".join(said) or "nothing"
