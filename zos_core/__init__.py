"""The node: composition root, command line, and later bus, supervision, storage and compute."""
