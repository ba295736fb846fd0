"""Queueing disciplines as messages: byte for byte what a general encoder makes of the request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from pyroute2.netlink.rtnl.tcmsg.sched_netem import options as netem_options
from pyroute2.netlink.rtnl.tcmsg.sched_tbf import options as tbf_options

from netlab.keeper import rtnetlink as nl
from netlab.keeper import traffic

REPLACE = nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_REPLACE
U32 = 0xFFFFFFFF


class Netem(netem_options):
    """With what that encoder does not know yet."""

    nla_map = (
        *netem_options.nla_map,
        ("TCA_NETEM_ECN", "none"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "none"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
        ("TCA_NETEM_SLOT", "none"),
        ("TCA_NETEM_SLOT_DIST", "none"),
        ("TCA_NETEM_PRNG_SEED", "uint64"),
    )


class Tbf(nla):
    nla_map = (
        *tbf_options.nla_map,
        ("TCA_TBF_RATE64", "uint64"),
        ("TCA_TBF_PRATE64", "uint64"),
        ("TCA_TBF_BURST", "uint32"),
    )

    class tbf_parms(nla):  # noqa: N801
        fields = tbf_options.tbf_parms.fields

    class rtab(nla):  # noqa: N801
        pass

    class ptab(nla):  # noqa: N801
        pass


def reference(kind: str, options: dict, options_type, *, parent: int, handle: int, ifindex: int):
    message_type = type(
        "message",
        (tcmsg,),
        {"get_options": staticmethod(lambda *_, **__: options_type)},
    )
    message = message_type()
    message["index"], message["handle"], message["parent"] = ifindex, handle, parent
    message["attrs"] = [["TCA_KIND", kind], ["TCA_OPTIONS", options]]
    message["header"]["type"] = traffic.RTM_NEWQDISC
    message["header"]["flags"] = REPLACE
    message.encode()
    return bytes(message.data)


SHARES = st.floats(0, 1)


@given(
    ifindex=st.integers(1, 2**31 - 1),
    delay=st.integers(0, 2**62),
    jitter=st.integers(0, 2**62),
    duplicate=SHARES,
    reorder=SHARES,
    seed=st.integers(0, 2**64 - 1),
)
def test_netem_is_encoded_as_the_reference_does(  # LAB-012
    ifindex, delay, jitter, duplicate, reorder, seed
):
    options = {
        "delay": 0,
        "limit": traffic.NETEM_PACKETS,
        "loss": 0,
        "gap": 1 if reorder else 0,
        "duplicate": round(duplicate * U32),
        "jitter": 0,
        "attrs": [
            ["TCA_NETEM_LATENCY64", delay],
            ["TCA_NETEM_JITTER64", jitter],
            ["TCA_NETEM_REORDER", {"prob_reorder": round(reorder * U32), "corr_reorder": 0}],
            ["TCA_NETEM_RATE", {"rate": U32 if jitter else 0}],
            ["TCA_NETEM_PRNG_SEED", seed],
        ],
    }
    packed = traffic.netem(
        ifindex,
        delay_ns=delay,
        jitter_ns=jitter,
        duplicate=duplicate,
        reorder=reorder,
        seed=seed,
    )
    assert packed == reference(
        "netem", options, Netem, parent=traffic.TC_H_ROOT, handle=0x10000, ifindex=ifindex
    )


@pytest.mark.parametrize("in_netem", [False, True])
@given(rate=st.integers(8, 2**40), burst=st.integers(0, U32), queue=st.integers(0, U32))
def test_tbf_is_encoded_as_the_reference_does(in_netem, rate, burst, queue):  # LAB-012
    parameters = {"rate___reserved": 1, "rate": min(rate // 8, U32), "limit": queue}
    attributes = [["TCA_TBF_PARMS", parameters], ["TCA_TBF_BURST", burst]]
    if rate // 8 > U32:
        attributes.append(["TCA_TBF_RATE64", rate // 8])
    packed = traffic.tbf(
        7, rate_bit_s=rate, burst_bytes=burst, queue_bytes=queue, in_netem=in_netem
    )
    parent = 0x10001 if in_netem else traffic.TC_H_ROOT
    options = {"attrs": attributes}
    assert packed == reference("tbf", options, Tbf, parent=parent, handle=0x20000, ifindex=7)


def test_no_netem_is_encoded_as_the_reference_does():  # LAB-012
    message = tcmsg()
    message["index"], message["handle"], message["parent"] = 3, 0x10000, traffic.TC_H_ROOT
    message["header"]["type"], message["header"]["flags"] = traffic.RTM_DELQDISC, nl.NLM_F_REQUEST
    message.encode()
    assert traffic.no_netem(3) == bytes(message.data)
