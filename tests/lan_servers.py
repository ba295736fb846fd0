"""What gives addresses in a LAN: a stock dnsmasq, DHCP and router advertisements."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def giving(
    netns: AbstractContextManager[object], link: str, *, first: str, last: str, router: str
) -> Iterator[None]:
    """Leases of two minutes from `first` to `last`, and all IPv6 prefixes that the link has."""
    argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]
    argv += [f"--interface={link}", "--bind-interfaces", "--leasefile-ro", "--dhcp-authoritative"]
    argv += ["--no-ping", "--enable-ra", f"--ra-param={link},high,4,60", "--pid-file"]
    argv += [f"--dhcp-range={first},{last},255.255.255.0,2m", f"--dhcp-option=3,{router}"]
    argv += [f"--dhcp-range=::,constructor:{link},slaac,64,2m", "--log-facility=/dev/null"]
    with netns:
        server = subprocess.Popen(argv)
    try:
        yield
    finally:
        server.kill()
        server.wait()
