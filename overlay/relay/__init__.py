"""A UDP forwarder for WireGuard packets that it cannot read."""
