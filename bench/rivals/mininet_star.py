"""A star of so many hosts, as mininet's own documents build one. For Debian's Python."""

import sys

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import Topo


class Star(Topo):
    def build(self, count):
        hub = self.addSwitch("s1")
        for number in range(count):
            address = f"10.{number >> 8}.{number & 255}.2/8"
            self.addLink(
                self.addHost(f"h{number}", ip=address, defaultRoute="via 10.255.255.254"), hub
            )


setLogLevel("error")
net = Mininet(topo=Star(int(sys.argv[1])), switch=LinuxBridge, controller=None)
net.start()
print("up", flush=True)
sys.stdin.readline()
net.stop()
