"""Both WireGuard back ends keep one contract, on real devices between real netns.

ZOS_TEST_BACKEND names the one that must be there: kernel or wireguard-go. Without it, all that this
machine has are run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlay.addressing import parse_endpoint
from overlay.errors import Rejected, Unavailable
from overlay.keys.wireguard import WireGuardKey, format_key
from overlay.model import Endpoint, Prefix, WgDevice, WgPeer, WgPublicKey
from overlay.netns import backend, control, namespaces, spawn
from overlay.netns.uapi import UserspaceWireGuard
from overlay.netns.wg_kernel import KernelWireGuard, why_unavailable
from overlay.netns.wg_trial import sends_where_told
from overlay.ports import DeviceRef, WireGuard

pytestmark = pytest.mark.usefixtures("sandbox")

BIRTH = "w-abcdefghijkl"
PORT = 51820
PING_BYTES = 128  # what WireGuard makes of a ping of IPv4
UNDERLAY = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
SUBNETS = (
    (Prefix("10.1.0.0/24"), Prefix("fd12:3456:789a::/64")),
    (Prefix("10.1.1.0/24"), Prefix("fd12:3456:789a:1::/64")),
)
INSIDE = {4: ("10.1.0.1", "10.1.1.1"), 6: ("fd12:3456:789a::1", "fd12:3456:789a:1::1")}


def binaries() -> list[str]:
    """One of each version: the old one that Debian 12 has, the new one that set-up brings."""
    named = os.environ.get(backend.BINARY_SETTING)
    installed = shutil.which("wireguard-go")
    return list(dict.fromkeys(str(Path(path).resolve()) for path in (installed, named) if path))


def backends() -> list[str]:
    wanted = os.environ.get("ZOS_TEST_BACKEND")
    assert wanted in (None, "kernel", "wireguard-go"), wanted
    if wanted == "kernel":
        return ["kernel"]
    if wanted == "wireguard-go":
        return binaries() or ["wireguard-go is missing"]
    return [*(["kernel"] if why_unavailable() is None else []), *binaries()]


def back_end(named: str, underlay: str) -> WireGuard:
    if named == "kernel":
        return KernelWireGuard(underlay=underlay)
    return UserspaceWireGuard(Path(named), underlay=underlay)


@dataclass(frozen=True)
class Site:
    """A node, as far as WireGuard needs one: an underlay netns and a tenant netns."""

    underlay: str
    tenant: str
    ref: DeviceRef
    wireguard: WireGuard
    key: WireGuardKey

    @property
    def born(self) -> DeviceRef:
        return DeviceRef(self.ref.birth_name)

    async def actual(self) -> WgDevice:
        device = await self.wireguard.read(self.ref)
        assert device is not None
        return device


@pytest.fixture(params=backends())
def named(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def sites(named: str) -> AsyncIterator[tuple[Site, Site]]:
    """Two underlay netns joined by a cable, each with an address of both families."""
    made = tuple(make_site(named, index) for index in range(2))
    run("ip", "-n", "u0", "link", "add", "e0", "type", "veth", "peer", "e0", "netns", "u1")
    for index, site in enumerate(made):
        with namespaces.hop(site.underlay):
            run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.e0.accept_dad=0")
        for family, length in ((4, 24), (6, 64)):
            address = f"{UNDERLAY[family][index]}/{length}"
            run("ip", "-n", f"u{index}", "addr", "add", address, "dev", "e0")
        run("ip", "-n", f"u{index}", "link", "set", "e0", "up")
    try:
        yield made
    finally:
        for index, site in enumerate(made):
            run("ip", "-n", f"t{index}", "link", "del", "wg0", check=False)
            run("ip", "-n", f"u{index}", "link", "del", site.ref.birth_name, check=False)
            await site.wireguard.retire(site.ref.birth_name)
            site.wireguard.close()
            namespaces.remove(f"u{index}")
            namespaces.remove(f"t{index}")
        assert not list_sockets()
        assert not list_processes()


@pytest.fixture
def site(sites: tuple[Site, Site]) -> Site:
    return sites[0]


async def test_peers_of_both_families_are_sent_to_where_they_are() -> None:  # WGD-019
    assert await sends_where_told(Path(binaries()[-1]))
    assert not list_processes()
    assert not list_sockets()


class TestWireGuard:
    """What both back ends promise."""

    async def test_create_makes_a_link_that_can_be_configured(self, site: Site) -> None:  # WGD-001
        await site.wireguard.create(site.ref.birth_name)
        await site.wireguard.write(site.born, private_key=site.key, listen_port=PORT)

        assert await site.wireguard.read(site.born) == WgDevice(site.key.public_key, PORT, {})

    async def test_create_adopts_what_is_there(self, site: Site) -> None:  # WGD-002
        await site.wireguard.create(site.ref.birth_name)
        await site.wireguard.write(site.born, private_key=site.key, put=[peer(1)])

        with renewed(site.wireguard) as again:
            await again.create(site.ref.birth_name)
            device = await again.read(site.born)

        assert device is not None
        assert device.public_key == site.key.public_key
        assert set(device.peers) == {key_of(1)}

    async def test_a_device_that_is_not_there_reads_as_none(self, site: Site) -> None:  # WGD-003
        assert await site.wireguard.read(site.born) is None
        assert await site.wireguard.read(site.ref) is None
        assert await site.wireguard.read(DeviceRef("w-x", "/run/netns/absent")) is None
        assert await site.wireguard.read_traffic(site.ref) == {}

    async def test_writing_to_a_device_that_is_not_there_is_unavailable(self, site: Site) -> None:
        for ref in (site.born, site.ref, DeviceRef("w-x", "/run/netns/absent")):
            with pytest.raises(Unavailable):
                await site.wireguard.write(ref, put=[peer(1)])

    async def test_a_device_without_key_reads_as_one(self, site: Site) -> None:
        await site.wireguard.create(site.ref.birth_name)
        device = await site.wireguard.read(site.born)
        assert device is not None
        assert device.public_key is None

    async def test_what_is_written_is_read_back(self, site: Site) -> None:  # WGD-004
        await born_and_moved(site)
        peers = {
            key_of(n): peer(n, endpoint=parse_endpoint(text), keepalive_s=n)
            for n, text in enumerate(["192.0.2.1:1", "[2001:db8::5]:65535", "[fd00::1:0:0:1]:7"])
        }
        await site.wireguard.write(site.ref, listen_port=PORT, put=list(peers.values()))

        assert await site.actual() == WgDevice(site.key.public_key, PORT, peers)
        assert shown_peers(site) == {format_key(key) for key in peers}
        traffic = await site.wireguard.read_traffic(site.ref)
        assert {key: each.rx_bytes for key, each in traffic.items()} == dict.fromkeys(peers, 0)

    async def test_put_replaces_allowed_ips_and_keepalive(self, site: Site) -> None:  # WGD-005
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1, keepalive_s=25)])
        shrunk = WgPeer(key_of(1), (Prefix("10.1.99.0/24"),))
        await site.wireguard.write(site.ref, put=[shrunk])

        assert (await site.actual()).peers == {key_of(1): shrunk}

    @pytest.mark.parametrize("text", ["192.0.2.1:1", "[2001:db8::5]:2"])
    async def test_put_without_endpoint_keeps_the_one_that_is_known(
        self, site: Site, text: str
    ) -> None:  # WGD-006
        await born_and_moved(site)
        known = peer(1, endpoint=parse_endpoint(text))
        await site.wireguard.write(site.ref, put=[known])
        await site.wireguard.write(site.ref, put=[peer(1)])

        assert (await site.actual()).peers == {key_of(1): known}

    async def test_a_prefix_belongs_to_the_peer_that_was_put_last(self, site: Site) -> None:
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1)])
        thief = WgPeer(key_of(2), peer(1).allowed_ips)
        await site.wireguard.write(site.ref, put=[thief])

        assert (await site.actual()).peers == {
            key_of(1): WgPeer(key_of(1), ()),
            key_of(2): thief,
        }

    async def test_drop_comes_first_and_of_what_is_not_there_is_no_error(self, site: Site) -> None:
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1), peer(2)])
        heir = WgPeer(key_of(3), peer(1).allowed_ips)
        await site.wireguard.write(site.ref, put=[heir], drop=[key_of(1), key_of(9)])

        assert (await site.actual()).peers == {key_of(2): peer(2), key_of(3): heir}

    async def test_a_peer_can_be_dropped_and_put_at_once(self, site: Site) -> None:
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1, endpoint=parse_endpoint("192.0.2.1:1"))])
        await site.wireguard.write(site.ref, put=[peer(1)], drop=[key_of(1)])

        assert (await site.actual()).peers == {key_of(1): peer(1)}

    async def test_a_preshared_key_set_by_hand_shows_and_goes(self, site: Site) -> None:  # WGD-007
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1)])
        set_preshared_key(site, key_of(1))

        assert (await site.actual()).peers[key_of(1)].allowed_ips == ()

        await site.wireguard.write(site.ref, put=[peer(1)])
        assert (await site.actual()).peers == {key_of(1): peer(1)}

    async def test_a_peer_changed_by_hand_is_seen_at_the_next_read(self, site: Site) -> None:
        await born_and_moved(site)
        await site.wireguard.write(site.ref, put=[peer(1), peer(2)])
        await site.actual()
        with namespaces.hop(site.tenant):
            set_by_hand(site, key_of(1), "persistent-keepalive", "7")
            set_by_hand(site, key_of(2), "remove")

        assert (await site.actual()).peers == {key_of(1): peer(1, keepalive_s=7)}

    async def test_thousands_of_peers_and_of_prefixes_are_written_and_read(
        self, site: Site
    ) -> None:
        await born_and_moved(site)
        peers = {key_of(n): peer(n) for n in range(1500)}
        many = (*(f"10.{200 + n // 256}.{n % 256}.0/24" for n in range(2000)), *peer(7).allowed_ips)
        peers[key_of(7)] = WgPeer(key_of(7), tuple(sorted(map(Prefix, many))))
        await site.wireguard.write(site.ref, put=list(peers.values()))
        assert (await site.actual()).peers == peers

        await site.wireguard.write(site.ref, drop=list(peers))
        assert (await site.actual()).peers == {}

    @pytest.mark.parametrize("up", [False, True])
    @pytest.mark.parametrize(
        ("family", "anywhere"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    )
    async def test_a_listen_port_in_use_is_refused_and_the_old_one_kept(
        self, site: Site, family: int, anywhere: str, up: bool
    ) -> None:  # WGD-008
        await born_and_moved(site)
        if not up:
            run("ip", "-n", "t0", "link", "set", "wg0", "down")
        await site.wireguard.write(site.ref, listen_port=PORT)
        with namespaces.open_socket(site.underlay, family, socket.SOCK_DGRAM) as taken:
            taken.bind((anywhere, PORT + 1))
            with pytest.raises(Unavailable, match=str(PORT + 1)):
                await site.wireguard.write(site.ref, listen_port=PORT + 1)
        assert (await site.actual()).listen_port == PORT

        # Its own is not somebody else's, and what is free again can be had.
        for port in (PORT, PORT + 1):
            await site.wireguard.write(site.ref, listen_port=port)
            assert (await site.actual()).listen_port == port

    @pytest.mark.parametrize("outer", [4, 6])
    async def test_traffic_passes_after_the_move_and_the_udp_socket_stays(
        self, sites: tuple[Site, Site], outer: int
    ) -> None:  # WGD-009
        for here, there in ((0, 1), (1, 0)):
            await born_and_moved(sites[here])
            give_addresses(here)
            far = Endpoint(parse_endpoint(f"[{UNDERLAY[6][there]}]:{PORT}").address, PORT)
            if outer == 4:
                far = parse_endpoint(f"{UNDERLAY[4][there]}:{PORT}")
            peer_there = WgPeer(sites[there].key.public_key, SUBNETS[there], far)
            await sites[here].wireguard.write(sites[here].ref, listen_port=PORT, put=[peer_there])

        for inner in (4, 6):
            await ping(0, INSIDE[inner][1])
            await ping(1, INSIDE[inner][0])

        for index, site in enumerate(sites):
            with namespaces.hop(site.underlay):
                assert f":{PORT}" in shown("ss", "-lnuH")
            with namespaces.hop(site.tenant):
                assert shown("ss", "-lnuH") == ""
            (traffic,) = (await site.wireguard.read_traffic(site.ref)).values()
            assert traffic.rx_bytes > 0
            assert traffic.tx_bytes > 0
            (far_peer,) = (await site.actual()).peers.values()
            assert far_peer.latest_handshake > 0
            assert far_peer.endpoint is not None
            assert far_peer.endpoint.address == UNDERLAY[outer][1 - index]

    async def test_a_restart_finds_the_device_and_its_sessions(
        self, sites: tuple[Site, Site]
    ) -> None:
        await connect(sites)
        with renewed(sites[0].wireguard) as again:
            device = await again.read(sites[0].ref)
            assert device is not None
            assert device.peers[sites[1].key.public_key].latest_handshake > 0

            await again.write(sites[0].ref, put=[WgPeer(sites[1].key.public_key, SUBNETS[1])])
        await ping(0, INSIDE[4][1])

    @pytest.mark.parametrize("asks", ["who replaced its key", "the other"])
    async def test_a_key_that_is_replaced_loses_nothing_that_comes(
        self, sites: tuple[Site, Site], asks: str
    ) -> None:  # WGD-018
        await connect(sites)
        former, coming = sites[0].key.public_key, WireGuardKey(secrets.token_bytes(32))
        second = WgPeer(coming.public_key, (), parse_endpoint(f"{UNDERLAY[4][0]}:{PORT}"))
        await sites[1].wireguard.write(sites[1].ref, put=[second])
        before = (await sites[0].actual()).peers[sites[1].key.public_key]
        heard = await rx_bytes(sites[0])

        await sites[0].wireguard.write(sites[0].ref, private_key=coming)

        after = await sites[0].actual()
        assert after.public_key == coming.public_key
        assert after.peers == {sites[1].key.public_key: before}
        if asks == "the other":
            # The only thing that leads to a peer without allowed IPs.
            asking = WgPeer(coming.public_key, (), second.endpoint, keepalive_s=25)
            await sites[1].wireguard.write(sites[1].ref, put=[asking])
            await until_handshake(sites[1], coming.public_key)
        # It comes by the session with the former key; the answer begins one with the new.
        await spawn.run(
            ["ping", "-n", "-c", "1", "-w", "1", INSIDE[4][0]],
            timeout_s=40,
            netns=f"{namespaces.PIN_DIR}/t1",
        )
        assert await rx_bytes(sites[0]) >= heard + PING_BYTES
        await until_handshake(sites[1], coming.public_key)

        bearer = WgPeer(coming.public_key, SUBNETS[0])
        await sites[1].wireguard.write(sites[1].ref, put=[bearer])
        peers = (await sites[1].actual()).peers
        assert peers[former].allowed_ips == ()
        assert peers[coming.public_key].allowed_ips == tuple(sorted(SUBNETS[0]))
        for inner in (4, 6):
            await ping(0, INSIDE[inner][1])
            await ping(1, INSIDE[inner][0])

    async def test_a_link_deleted_by_hand_can_be_born_again_at_once(
        self, site: Site
    ) -> None:  # WGD-010
        for _ in range(3):
            await born_and_moved(site)
            run("ip", "-n", "t0", "link", "del", "wg0")
            assert await site.wireguard.read(site.ref) is None

    async def test_a_tenant_netns_that_is_lost_takes_the_device_along(self, site: Site) -> None:
        # WGD-010
        await born_and_moved(site)
        namespaces.remove("t0")
        await site.wireguard.create(site.ref.birth_name)

        device = await site.wireguard.read(site.born)
        assert device is not None
        assert device.public_key is None
        namespaces.create("t0")

    async def test_retire_leaves_nothing(self, site: Site) -> None:  # WGD-011
        await born_and_moved(site)
        run("ip", "-n", "t0", "link", "del", "wg0")
        await site.wireguard.retire(site.ref.birth_name)

        assert list_processes() == []
        assert list_sockets() == []
        await site.wireguard.retire(site.ref.birth_name)

    async def test_no_key_is_in_an_argument_an_environment_or_a_repr(self, site: Site) -> None:
        # SPW-002
        await born_and_moved(site)
        seen = repr(await site.actual()) + repr(site.wireguard)
        for pid in list_processes():
            seen += public(pid, "cmdline") + public(pid, "environ")
        for form in (site.key.reveal().hex(), format_key(site.key.reveal())):
            assert form not in seen


class TestWireguardGo:
    """What only a process can get wrong."""

    __test__ = backends() != ["kernel"]

    @pytest.fixture
    def named(self) -> str:
        return backends()[-1]

    async def test_a_stale_socket_is_in_nobodys_way(self, site: Site) -> None:  # WGD-012
        control.SOCKET_DIR.mkdir(exist_ok=True)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(control.SOCKET_DIR / f"{site.ref.birth_name}.sock"))
        assert await site.wireguard.read(site.ref) is None

        await site.wireguard.create(site.ref.birth_name)

        assert await site.wireguard.read(site.born) is not None

    async def test_retire_ends_a_process_that_stays_although_its_link_is_there(
        self, site: Site
    ) -> None:  # WGD-011
        await born_and_moved(site)
        await site.wireguard.retire(site.ref.birth_name)

        assert list_processes() == []
        assert list_sockets() == []

    async def test_retire_ends_a_process_that_another_run_of_the_node_started(
        self, site: Site
    ) -> None:  # WGD-011
        await born_and_moved(site)
        with renewed(site.wireguard) as again:
            await again.retire(site.ref.birth_name)

        assert list_processes() == []
        assert list_sockets() == []

    async def test_a_process_that_is_killed_leaves_no_zombie_and_is_born_again(
        self, site: Site
    ) -> None:  # SPW-003
        await born_and_moved(site)
        (pid,) = list_processes()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while spawn.is_running(pid):  # noqa: ASYNC110 - nobody is told of the reaping
                await asyncio.sleep(0)
        assert await site.wireguard.read(site.ref) is None

        await site.wireguard.create(site.ref.birth_name)

        assert await site.wireguard.read(site.born) is not None

    async def test_a_start_that_fails_says_why(self, site: Site) -> None:  # WGD-013
        run("ip", "-n", "u0", "link", "add", site.ref.birth_name, "type", "bridge")
        with pytest.raises(Unavailable, match=site.ref.birth_name):
            await site.wireguard.create(site.ref.birth_name)

    async def test_a_start_that_is_given_up_leaves_no_process(self, site: Site) -> None:
        # SPW-003
        for pause_ms in range(0, 30, 3):
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(
                    site.wireguard.create(site.ref.birth_name), name="starts"
                )
                await asyncio.sleep(pause_ms / 1_000)
                starting.cancel()
            await site.wireguard.retire(site.ref.birth_name)
            async with asyncio.timeout(10):
                while list_processes():  # noqa: ASYNC110 - nobody is told of the reaping
                    await asyncio.sleep(0.01)

    async def test_a_binary_that_is_not_there_is_rejected(self, site: Site) -> None:
        absent = UserspaceWireGuard(Path("/absent/wireguard-go"), underlay=site.underlay)
        with pytest.raises(Rejected, match="/absent"):
            await absent.create(site.ref.birth_name)

    async def test_the_process_has_a_session_of_its_own_and_nothing_of_ours(
        self, site: Site
    ) -> None:  # SPW-001
        await site.wireguard.create(site.ref.birth_name)
        (pid,) = list_processes()
        assert os.getsid(pid) == pid
        names = {line.partition("=")[0] for line in public(pid, "environ").split("\0") if line}
        assert names == {"PATH", "LANG", "WG_PROCESS_FOREGROUND", "LOG_LEVEL"}
        streams = {(Path(f"/proc/{pid}/fd") / str(fd)).readlink() for fd in range(3)}
        assert streams == {Path("/dev/null")}


class TestChoice:
    async def test_choice_takes_the_kernel_where_it_has_wireguard(self) -> None:  # WGD-014
        choice = await backend.choose(os.environ)
        wanted = "kernel" if why_unavailable() is None else "wireguard-go"
        assert choice.wireguard.name == wanted
        assert wanted.partition("-")[0] in choice.reason

    async def test_a_kernel_that_is_asked_for_and_not_there_is_rejected(self) -> None:
        setting = {backend.BACKEND_SETTING: "kernel"}
        if why_unavailable() is None:
            assert (await backend.choose(setting)).wireguard.name == "kernel"
            return
        with pytest.raises(Rejected, match="no WireGuard"):
            await backend.choose(setting)

    async def test_the_probe_leaves_nothing(self) -> None:
        before = shown("ip", "link")
        why_unavailable()
        assert shown("ip", "link") == before


def make_site(named: str, index: int) -> Site:
    namespaces.create(f"u{index}")
    namespaces.create(f"t{index}")
    underlay, tenant = (namespaces.pin_path(f"{kind}{index}") for kind in "ut")
    ref = DeviceRef(f"{BIRTH}{index}", tenant)
    key = WireGuardKey(secrets.token_bytes(32))
    return Site(underlay, tenant, ref, back_end(named, underlay), key)


def renewed(wireguard: WireGuard) -> AbstractContextManager[WireGuard]:
    """The back end of a process that starts and knows nothing."""
    if isinstance(wireguard, UserspaceWireGuard):
        return closing(UserspaceWireGuard(wireguard._binary, underlay=wireguard._underlay))
    assert isinstance(wireguard, KernelWireGuard)
    return closing(KernelWireGuard(underlay=wireguard._underlay))


async def born_and_moved(site: Site) -> None:
    await site.wireguard.create(site.ref.birth_name)
    underlay, tenant = (Path(path).name for path in (site.underlay, site.tenant))
    run("ip", "-n", underlay, "link", "set", site.ref.birth_name, "netns", tenant, "name", "wg0")
    await site.wireguard.write(site.ref, private_key=site.key)
    run("ip", "-n", tenant, "link", "set", "wg0", "up")


def give_addresses(index: int) -> None:
    for family, length in ((4, 24), (6, 64)):
        address = f"{INSIDE[family][index]}/{length}"
        run("ip", "-n", f"t{index}", "addr", "add", address, "dev", "wg0", "nodad")
    for prefix in SUBNETS[1 - index]:
        run("ip", "-n", f"t{index}", "route", "add", prefix, "dev", "wg0")


async def connect(sites: tuple[Site, Site]) -> None:
    for here, there in ((0, 1), (1, 0)):
        await born_and_moved(sites[here])
        give_addresses(here)
        far = parse_endpoint(f"{UNDERLAY[4][there]}:{PORT}")
        peer_there = WgPeer(sites[there].key.public_key, SUBNETS[there], far)
        await sites[here].wireguard.write(sites[here].ref, listen_port=PORT, put=[peer_there])
    await ping(0, INSIDE[4][1])


async def rx_bytes(site: Site) -> int:
    (traffic,) = (await site.wireguard.read_traffic(site.ref)).values()
    return traffic.rx_bytes


async def until_handshake(site: Site, key: WgPublicKey) -> None:
    """An initiation that was lost is repeated after 5 s."""
    async with asyncio.timeout(40):
        while not (await site.actual()).peers[key].latest_handshake:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def ping(index: int, address: str) -> None:
    """A handshake that met a device without its peer yet is repeated after 5 s."""
    argv = ["ping", "-n", "-c", "1", "-i", "0.2", "-w", "30", address]
    answer = await spawn.run(argv, timeout_s=40, netns=f"{namespaces.PIN_DIR}/t{index}")
    assert answer.code == 0, answer.stdout.decode()


def key_of(number: int) -> WgPublicKey:
    return WgPublicKey(number.to_bytes(4, "big") * 8)


def peer(number: int, *, endpoint: Endpoint | None = None, keepalive_s: int = 0) -> WgPeer:
    v4 = Prefix(f"10.{1 + number // 256}.{number % 256}.0/24")
    v6 = Prefix(f"fd12:3456:789a:{number + 16:x}::/64")
    return WgPeer(key_of(number), (v4, v6), endpoint, keepalive_s)


def wg_name(site: Site) -> str:
    """wg finds a wireguard-go device by the name of its control socket."""
    return "wg0" if site.wireguard.name == "kernel" else site.ref.birth_name


def shown_peers(site: Site) -> set[str]:
    with namespaces.hop(site.tenant):
        return set(shown("wg", "show", wg_name(site), "peers").split())


def set_by_hand(site: Site, key: WgPublicKey, *what: str) -> None:
    run("wg", "set", wg_name(site), "peer", format_key(key), *what)


def set_preshared_key(site: Site, key: WgPublicKey) -> None:
    secret = Path("/run/preshared")
    secret.write_text(format_key(secrets.token_bytes(32)))
    with namespaces.hop(site.tenant):
        set_by_hand(site, key, "preshared-key", str(secret))
    secret.unlink()


def list_sockets() -> list[Path]:
    return list(control.SOCKET_DIR.glob("*.sock"))


def list_processes() -> list[int]:
    """Processes of wireguard-go with our birth names, of this mount namespace."""
    own = Path("/proc/self/ns/mnt").readlink()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if (
                argv[-2:-1]
                and argv[-2].startswith(BIRTH.encode())
                and (entry / "ns/mnt").readlink() == own
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def public(pid: int, part: str) -> str:
    """What everybody can read of a process."""
    return Path(f"/proc/{pid}/{part}").read_bytes().decode(errors="replace")


def run(*argv: str, check: bool = True) -> None:
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert done.returncode == 0 or not check, f"{argv}: {done.stderr}"


def shown(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout
