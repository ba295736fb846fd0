"""One runnable file per figure we claim: `python -m bench.NAME` prints JSON."""
