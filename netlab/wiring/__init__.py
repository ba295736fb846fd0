"""From a topology to all that the kernel is told: addresses, MACs, messages, files, rules. Pure."""
