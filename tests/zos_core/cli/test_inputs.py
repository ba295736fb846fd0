"""In which network somebody is looked for, on a node that has several."""

from __future__ import annotations

from typing import Any

import pytest

from overlay.errors import Conflict
from tests.zos_core import situation as at
from zos_core.cli import inputs, local
from zos_core.status import NetworkStatus, WhyInputs

HOME = at.network()
WORK = at.network(id="net1work", name="work", range_v4="10.2.0.0/16", range_v6="fd22::/48")


@pytest.fixture(autouse=True)
def two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, NetworkStatus] = {each.id: each for each in (HOME, WORK)}

    def get(_: str, __: type[WhyInputs], *, network: str) -> Any:
        return at.why_inputs(network=known[network])

    monkeypatch.setattr(local, "fetch_status", lambda: at.node_status(*known.values()))
    monkeypatch.setattr(local, "get", get)


def test_an_address_of_one_network_is_no_place_outside_for_another() -> None:  # CLI-031
    assert inputs.find_inputs(None, "a", target="10.1.2.5").network.name == HOME.name
    assert inputs.find_inputs(None, "a", target="10.2.2.5").network.name == "work"


def test_a_place_outside_of_all_is_asked_for_in_one_that_is_chosen() -> None:
    with pytest.raises(Conflict, match="home, work"):
        inputs.find_inputs(None, "a", target="1.1.1.1")
