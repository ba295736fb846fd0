"""What the kernel suite has machines from, for what this machine's own kernel has no links for."""

from tests.kernel.conftest import machine, private_underlay, sandbox

__all__ = ("machine", "private_underlay", "sandbox")
