"""The served description is true: requests made from it get answers as described (REG-018)."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from overlay.peers.registry_auth import sign_request
from overlay.registry import openapi
from overlay.registry.routes import ROUTES, Auth
from overlay.registry.serve import Running
from tests.overlay.registry import kit

with warnings.catch_warnings():
    # Its dependencies warn at import about each other.
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

MAX_EXAMPLES = 4  # of each operation, well-formed and not
WHO = kit.node("a")


class InThread:
    """A registry with a loop of its own, for callers that block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.here: Running | None = None

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(30)
        assert self.here is not None
        return self.here

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with kit.registry(self._directory) as self.here:
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with InThread(tmp_path_factory.mktemp("registry")) as running:
        yield running


# A stream has no end, and so no answer that could be looked at.
DESCRIBED = schemathesis.openapi.from_dict(msgspec.json.decode(openapi.describe())).exclude(
    path="/v1/watch"
)
# The routes of one kind of document differ from those of another in the id only.
OPERATIONS = [
    operation
    for operation in (result.ok() for result in DESCRIBED.get_all_operations())
    if not operation.path.startswith(
        tuple(f"/v1/documents/{k}/" for k in ("farm", "node", "result"))
    )
]


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.label)
def test_answers_are_as_described(here: Running, operation: Any, mode: Any) -> None:
    # Called by hand: the pytest plugin of schemathesis does not know this pytest yet.
    @settings(max_examples=MAX_EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        _check(case, here)

    try:
        holds()
    except Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE  # nothing here can be wrong


# Left out are two checks: no schema can demand checksums and signatures, so that what it allows is
# refused all the same; and each request has a good token, which the other takes for a bad one.
def _check(case: Any, here: Running) -> None:
    prepared = case.as_transport_kwargs(base_url=f"https://127.0.0.1:{here.port}")
    signed = _signed(prepared, here)
    case.headers = {**dict(case.headers or {}), **signed}
    response = case.call(base_url=f"https://127.0.0.1:{here.port}", verify=False)
    assert response.status_code < 500
    case.validate_response(response, excluded_checks=[positive_data_acceptance, ignored_auth])


def _signed(prepared: dict[str, Any], here: Running) -> dict[str, str]:
    """A token for the request as it will be sent."""
    import requests

    request = requests.Request(
        prepared["method"],
        prepared["url"],
        params=prepared.get("params"),
        json=prepared.get("json"),
        data=prepared.get("data"),
        headers=prepared.get("headers"),
    ).prepare()
    body = request.body or b""
    token = sign_request(
        WHO,
        registry=here.id,
        method=request.method or "",
        target=request.path_url,
        body=body.encode() if isinstance(body, str) else body,
        now=kit.NOW,
    )
    return {"Authorization": token}


def test_every_route_is_described() -> None:
    described = msgspec.json.decode(openapi.describe())
    for route in ROUTES:
        operation = described["paths"][route.path][route.method.lower()]
        assert ("security" in operation) is (route.auth is Auth.SIGNED)
        if route.auth is not Auth.PUBLIC:
            assert "403" in operation["responses"]


def test_every_reference_leads_somewhere() -> None:
    text = openapi.describe().decode()
    schemas = msgspec.json.decode(text)["components"]["schemas"]
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= schemas.keys()
    assert set(schemas) >= {"Farm", "Node", "Network", "Member", "Result", "Envelope", "Problem"}
