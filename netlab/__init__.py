"""Labs: many nodes on one machine, each in namespaces of its own, running shipped code unchanged.

This package imports nothing here: the keeper's start is part of the price of every lab.
"""
