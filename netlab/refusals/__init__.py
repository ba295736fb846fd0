"""Why parts of a topology cannot be, one noun per module; netlab/faults.py asks them all. Pure."""
