"""Thousands of nodes in virtual time: the overlay's own decisions in a world that is all model.

Pure but for `run`, `corpus` and `__main__`: a world follows from a scenario and a seed alone.
"""
