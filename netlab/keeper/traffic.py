"""The kernel's own means to hold packets back, as packed messages: queueing disciplines of a link.

Two kinds, each with a fixed handle, so that sending a message again changes what is there in place
and keeps what waits in it. Constants are those of linux/pkt_sched.h.
"""

from __future__ import annotations

import struct

from netlab.keeper import rtnetlink as nl

RTM_NEWQDISC, RTM_DELQDISC = 36, 37
TC_H_ROOT = 0xFFFFFFFF
NETEM_HANDLE, TBF_HANDLE = 0x10000, 0x20000
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_NETEM_REORDER, TCA_NETEM_RATE = 3, 6
TCA_NETEM_LATENCY64, TCA_NETEM_JITTER64, TCA_NETEM_PRNG_SEED = 10, 11, 14
TC_LINKLAYER_ETHERNET = 1

# What netem may hold, in packets: of small ones a second and more at what a namespace carries.
NETEM_PACKETS = 200_000
# As fast as it can be said in 32 bits: not a limit, but packets then leave netem in order.
NETEM_IN_ORDER_BYTE_S = 0xFFFFFFFF
# "Without a limit" for a discipline that stays, so that nothing in it is lost.
UNLIMITED_BIT_S = 400_000_000_000

_TCMSG = struct.Struct("=BxxxiIII")
_RATE = struct.Struct("=BBHhHI")
_TBF = struct.Struct("=12s12sIII")
_NETEM = struct.Struct("=6I")
_PAIR = struct.Struct("=II")
_NETEM_RATE = struct.Struct("=IiIi")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_S64 = struct.Struct("=q")
_U32_MAX = 0xFFFFFFFF


def tbf(
    ifindex: int, *, rate_bit_s: int, burst_bytes: int, queue_bytes: int, in_netem: bool = False
) -> bytes:
    """Send at this rate, `burst_bytes` at once at most; what the queue has no room for is lost."""
    rate = rate_bit_s // 8
    parameters = _TBF.pack(
        _RATE.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _U32_MAX)),
        bytes(_RATE.size),
        queue_bytes,
        0,
        0,
    )
    options = nl.attribute(TCA_TBF_PARMS, parameters)
    options += nl.attribute(TCA_TBF_BURST, _U32.pack(burst_bytes))
    if rate > _U32_MAX:
        options += nl.attribute(TCA_TBF_RATE64, _U64.pack(rate))
    parent = NETEM_HANDLE + 1 if in_netem else TC_H_ROOT
    return _qdisc(ifindex, "tbf", parent=parent, handle=TBF_HANDLE, options=options)


def netem(
    ifindex: int,
    *,
    delay_ns: int = 0,
    jitter_ns: int = 0,
    duplicate: float = 0.0,
    reorder: float = 0.0,
    seed: int = 0,
) -> bytes:
    """Hold every packet back. Order is kept, save for the share that is to overtake.

    The seed is taken by kernels from 6.6 on; older ones draw anew each time.
    """
    options = _NETEM.pack(0, NETEM_PACKETS, 0, 1 if reorder else 0, _share(duplicate), 0)
    options += nl.attribute(TCA_NETEM_LATENCY64, _S64.pack(delay_ns))
    options += nl.attribute(TCA_NETEM_JITTER64, _S64.pack(jitter_ns))
    options += nl.attribute(TCA_NETEM_REORDER, _PAIR.pack(_share(reorder), 0))
    in_order = NETEM_IN_ORDER_BYTE_S if jitter_ns else 0
    options += nl.attribute(TCA_NETEM_RATE, _NETEM_RATE.pack(in_order, 0, 0, 0))
    options += nl.attribute(TCA_NETEM_PRNG_SEED, _U64.pack(seed))
    return _qdisc(ifindex, "netem", parent=TC_H_ROOT, handle=NETEM_HANDLE, options=options)


def no_netem(ifindex: int) -> bytes:
    """Take the discipline away, with all that waits in it."""
    body = _TCMSG.pack(0, ifindex, NETEM_HANDLE, TC_H_ROOT, 0)
    return nl.message(RTM_DELQDISC, nl.NLM_F_REQUEST, body)


def _qdisc(ifindex: int, kind: str, *, parent: int, handle: int, options: bytes) -> bytes:
    body = _TCMSG.pack(0, ifindex, handle, parent, 0)
    body += nl.attribute(TCA_KIND, kind.encode() + b"\0") + nl.attribute(TCA_OPTIONS, options)
    return nl.message(RTM_NEWQDISC, nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_REPLACE, body)


def _share(share: float) -> int:
    return round(share * _U32_MAX)
