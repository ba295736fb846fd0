"""Labs: many nodes in namespaces on one machine, running the shipped code unchanged."""
