"""Packets of a lab's links, written down: files for Wireshark, or a line each."""
