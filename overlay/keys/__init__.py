"""Keys: who signs, what a WireGuard device is made of, and how both are kept on disk."""
