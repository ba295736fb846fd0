"""What a name server of one tenant netns is told: its command line and its files. Pure.

dnsmasq takes everything from the command line, nothing from the machine's /etc, and reads two files
of ours anew on SIGHUP: names of the network, and whom to ask about all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from overlay.model import Address, Prefix

# Not /run/zos: that goes with the node, name servers do not.
DIRECTORY = "/run/zos-dns"
PORT = 53
USER = "nobody"
HOSTS_FILE, SERVERS_FILE, PID_FILE = "hosts", "servers", "pid"

RESOLV_CONF = "/etc/resolv.conf"
# Sockets of services that would answer a workload from the machine's own resolver (nss-resolve(8),
# nscd(8)); without them the C library reads resolv.conf.
MACHINE_RESOLVERS = ("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket")

# For one tenant, so that none takes memory or ports from others.
CACHE_NAMES = 1_000
MAX_FORWARDED = 150  # questions that wait for an answer from outside
MAX_TTL_S = 3_600  # an answer from one exit is not kept for the days that it may say


class NameService(msgspec.Struct, frozen=True):
    """What the name server of one tenant netns answers."""

    addresses: tuple[Address, ...]  # where, and nowhere else
    ranges: tuple[Prefix, ...]  # of these, nobody else is asked what an address is called
    top: str  # nor about names that end like this
    hosts: str  # what is called how, as text of hosts(5)
    resolvers: tuple[Address, ...] = ()  # who is asked about all others; nobody: refused at once


def arguments(service: NameService, *, directory: str, group: str) -> tuple[str, ...]:
    """What dnsmasq is started with. Two that serve alike have the same."""
    return (
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        f"--pid-file={directory}/{PID_FILE}",
        f"--user={USER}",
        f"--group={group}",
        # To where nobody reads: a line for whatever a workload does wrong would be many.
        "--log-facility=-",
        f"--port={PORT}",
        "--bind-interfaces",
        *(f"--listen-address={address}" for address in service.addresses),
        "--no-hosts",
        "--no-resolv",
        "--no-poll",
        "--no-ident",
        f"--addn-hosts={directory}/{HOSTS_FILE}",
        f"--servers-file={directory}/{SERVERS_FILE}",
        f"--local=/{service.top}/",
        *(f"--rev-server={prefix}" for prefix in service.ranges),
        "--domain-needed",
        "--bogus-priv",
        # Somebody outside does not name what is inside for a browser of ours (DNS rebinding).
        "--stop-dns-rebind",
        f"--rebind-domain-ok=/{service.top}/",
        f"--cache-size={CACHE_NAMES}",
        f"--dns-forward-max={MAX_FORWARDED}",
        f"--max-cache-ttl={MAX_TTL_S}",
    )


def format_hosts(places: Iterable[tuple[Sequence[Address], Sequence[str]]], *, domain: str) -> str:
    """Lines of hosts(5): addresses, and what they are called below `domain`; the first name is what
    an address answers with. Names are labels that documents have checked (DNS-013)."""
    lines = []
    for addresses, names in places:
        called = " ".join(f"{name}.{domain}" for name in names)
        lines += [f"{address} {called}\n" for address in addresses]
    return "".join(lines)


def format_servers(resolvers: Iterable[Address]) -> str:
    """The servers file. Where a question leaves from is the kernel's to choose, and its port each
    time another: a source named here would be one port for all (RFC 5452 section 9.2)."""
    return "".join(f"server={address}\n" for address in resolvers)


def format_resolv_conf(servers: Iterable[Address], *, domain: str) -> str:
    """What resolv.conf(5) says in a workload. Only a name without a dot is looked for in `domain`:
    else a member called com could take every name that ends so."""
    lines = [f"nameserver {address}" for address in servers]
    return "\n".join((*lines, f"search {domain}", "options ndots:1")) + "\n"
