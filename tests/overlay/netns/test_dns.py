"""What a name server is told, as text; what it answers is tried in tests/kernel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overlay import addressing
from overlay.addressing import address_of, host_address, subnet_v4, subnet_v6
from overlay.model import Address, Prefix
from overlay.netns import dns
from overlay.netns.dns import NameService, arguments, format_hosts, format_servers

SERVICE = NameService(
    addresses=(Address("10.1.3.1"), Address("fd00:1:2:3::1")),
    ranges=(Prefix("10.1.0.0/16"), Prefix("fd00:1:2::/48")),
    top="zos",
    hosts="",
)


def words(service: NameService = SERVICE) -> tuple[str, ...]:
    return arguments(service, directory="/run/d", group="nogroup")


def test_it_listens_at_the_gateways_addresses_and_nowhere_else() -> None:  # DNS-023
    assert [word for word in words() if word.startswith("--listen")] == [
        "--listen-address=10.1.3.1",
        "--listen-address=fd00:1:2:3::1",
    ]
    assert "--bind-interfaces" in words()
    assert not [word for word in words() if word.startswith("--interface")]


def test_it_takes_nothing_from_the_machine_and_offers_nothing_else() -> None:  # DNS-023
    assert {"--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=nobody"} <= {*words()}
    assert not [word for word in words() if "dhcp" in word or "tftp" in word]


def test_what_it_keeps_and_waits_for_is_bounded() -> None:  # DNS-023
    assert f"--cache-size={dns.CACHE_NAMES}" in words()
    assert f"--dns-forward-max={dns.MAX_FORWARDED}" in words()


def test_nobody_outside_is_asked_about_the_network() -> None:  # DNS-022
    assert "--local=/zos/" in words()
    assert "--rev-server=10.1.0.0/16" in words()
    assert "--rev-server=fd00:1:2::/48" in words()


def test_names_and_resolvers_are_no_part_of_the_command_line() -> None:  # DNS-021
    other = NameService(
        SERVICE.addresses, SERVICE.ranges, SERVICE.top, "10.1.3.2 web.home.zos\n", (ADDRESS,)
    )
    assert words(other) == words()


ADDRESS = Address("192.0.2.53")


def test_one_line_for_each_address() -> None:  # DNS-012
    places = [((Address("10.1.3.2"), Address("fd00:1:2:3::2")), ("web", "web.n1"))]
    assert format_hosts(places, domain="home.zos") == (
        "10.1.3.2 web.home.zos web.n1.home.zos\nfd00:1:2:3::2 web.home.zos web.n1.home.zos\n"
    )
    assert format_hosts([], domain="home.zos") == ""


def test_resolvers_are_asked_from_any_port() -> None:  # DNS-022
    servers = format_servers((ADDRESS, Address("2001:db8::53")))
    assert servers == "server=192.0.2.53\nserver=2001:db8::53\n"
    assert format_servers(()) == ""


@given(
    range_v4=st.sampled_from(("10.0.0.0/8", "172.16.0.0/12")),
    range_v6=st.sampled_from(("fd00::/48", "fd12:0:1::/48", "fd00:1::/48", "fdff:ffff:ffff::/48")),
    index=st.integers(0, 4_095),
    host=st.integers(1, 254),
)
def test_addresses_by_their_text_are_the_same(
    range_v4: str, range_v6: str, index: int, host: int
) -> None:
    v4, v6 = Prefix(range_v4), Prefix(range_v6)
    assert addressing.host_addresses(v4, v6, index=index, host=host) == tuple(
        address_of(host_address(subnet, host))
        for subnet in (subnet_v4(v4, index), subnet_v6(v6, index))
    )
