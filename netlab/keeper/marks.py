"""How packets on their way to the pump and from it are told apart: by bits of their mark.

A mark stays with a packet inside one network namespace and is gone when it leaves.
"""

from __future__ import annotations

NUMBER_MASK = 0x00FFFFFF  # which direction of which link
TO_PUMP = 0x01000000
FROM_PUMP = 0x02000000

# Where the pump listens in a namespace. What goes out on WHOLE comes in on it again; what goes out
# on CUT comes in on its other end, every segment a packet of its own.
WHOLE = "lo"
CUT, CUT_END = "pump0", "pump1"
CUT_IFINDEX, CUT_END_IFINDEX = 60_001, 60_002
