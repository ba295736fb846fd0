"""Exit nodes: which exit a tenant's traffic takes, and the rules it leaves by.

Empty until a network document can name exits; see specs/STATUS.md.
"""
