"""Names outside are asked by way of the exit in use, or not at all (DNS-022)."""

from __future__ import annotations

import time

import pytest

from netlab.fleet.fleet import Fleet
from tests.asking import NO_SUCH_NAME, REFUSED, Said, ask, said
from tests.lab.leaving import EXITS, RESOLVERS, network_status, offer, topology, with_exits
from tests.lab.scene import measured, until

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(300)]

OUTSIDE = "who.example.com"
# Each exit has a resolver of its own. What they say is public: AS112 (RFC 7534).
AT = dict(zip(EXITS, RESOLVERS, strict=True))
SAYS = {"e1": ("192.175.48.1", "2620:4f:8000::1"), "e2": ("192.175.48.6", "2620:4f:8000::6")}
INSIDE = "10.1.1.2"  # what nobody outside may say that it is


def _resolvers(fleet: Fleet, name: str) -> tuple[str, ...]:
    return tuple(map(str, fleet.lab.node(AT[name]).addresses))


async def _serve_outside(fleet: Fleet, name: str) -> None:
    words = (f"--listen-address={address}" for address in _resolvers(fleet, name))
    known = (f"--host-record={OUTSIDE},{','.join(SAYS[name])}", f"--host-record=evil.com,{INSIDE}")
    alone = ("--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces")
    argv = ("dnsmasq", "--keep-in-foreground", "--pid-file=", *alone, *words, *known)
    await fleet.lab.node(AT[name]).spawn(*argv, log="resolver")


async def test_names_outside_are_asked_by_way_of_the_exit_and_move_with_it(lab):
    # DNS-022, DNS-029
    async with with_exits(await lab(topology())) as fleet:
        for name in EXITS:
            await _serve_outside(fleet, name)
        alice = fleet.person("alice", at="registry")
        await alice.zos("network", "exit", "set", "home", *EXITS, "--registry", fleet.registry)
        inside = str(
            fleet.lab.node("n1").path(f"/run/netns/{fleet.inside['alice/home/web'].netns}")
        )
        here = await network_status(fleet, "n1")
        web = here.attachments[0].address_v4.partition("/")[0]
        servers = (str(here.gateway_v4), str(here.gateway_v6))

        async def is_said(name: str, expected: Said, kind: str = "A") -> bool:
            """By both families and both transports."""
            answers = [
                await ask(inside, server, name, kind, by=by, within_s=2.0)
                for server in servers
                for by in ("udp", "tcp")
            ]
            return all(answer == expected for answer in answers)

        async def becomes(expected: Said, kind: str = "A") -> None:
            async def look() -> bool:
                return await is_said(OUTSIDE, expected, kind)

            await until(look, f"{OUTSIDE} is {expected}")

        await becomes(REFUSED)
        await until(lambda: is_said("web.home.zos", said(web)), "web has its name")
        netns = fleet.inside["alice/home/web"].netns
        look_up = ("ip", "netns", "exec", netns, "getent", "ahosts", "web")
        assert web in (await fleet.lab.node("n1").run(*look_up)).text  # it has a resolv.conf
        await offer(fleet, "e1", resolvers=_resolvers(fleet, "e1"))
        await becomes(said(SAYS["e1"][0]))
        assert await is_said(OUTSIDE, said(SAYS["e1"][1]), "AAAA")
        names = (await network_status(fleet, "n1")).names
        assert names is not None
        assert names.resolvers == _resolvers(fleet, "e1")
        # Neither another's word about what is inside, nor a question about it, passes.
        assert await is_said("evil.com", Said("NOERROR", frozenset()))
        assert await is_said("nobody.home.zos", NO_SUCH_NAME)
        # Whoever asks the exit's own name server is answered by the exit's own way.
        exit_ = await network_status(fleet, "e1")
        for server in (str(exit_.gateway_v4), str(exit_.gateway_v6)):
            assert await ask(inside, server, OUTSIDE) == said(SAYS["e1"][0])
        await offer(fleet, "e2", resolvers=_resolvers(fleet, "e2"))
        await until(lambda: _is_known(fleet, "e2"), "the other exit is ready")
        await fleet.lab.node("e1").kill()
        cut = time.monotonic()
        await becomes(said(SAYS["e2"][0]))
        measured(next_resolver_s=time.monotonic() - cut)
        assert await is_said(OUTSIDE, said(SAYS["e2"][1]), "AAAA")
        await fleet.lab.node("e2").kill()
        await becomes(REFUSED)
        assert await is_said("web.home.zos", said(web))


async def _is_known(fleet: Fleet, name: str) -> bool:
    peers = (await network_status(fleet, "n1")).peers
    return any(peer.name == name and peer.state == "active" for peer in peers)
