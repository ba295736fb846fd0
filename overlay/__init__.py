"""The network: keys, signed documents, registry, peers, namespaces, WireGuard, firewall, exits."""
