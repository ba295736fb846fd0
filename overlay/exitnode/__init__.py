"""Exit nodes: which exit a tenant's traffic takes, and the rules it leaves by."""
