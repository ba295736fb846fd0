"""The lab file: text into a Topology and back, with every fault named by its line."""
