"""Namespaces and WireGuard devices: desired and actual state, the plan between, its application."""
