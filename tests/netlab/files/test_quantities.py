from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.files import quantities
from netlab.impairment import Drop
from overlay.errors import Rejected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("500us", 0.0005), ("5s", 5.0), ("1m", 60.0), ("2h", 7200.0), ("1.5 s", 1.5)],
)
def test_time_is_read_in_seconds(text, seconds):  # LAB-282
    assert quantities.parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "bit_s"),
    [("10mbit", 10**7), ("10Mbit", 10**7), ("1.5gbit", 15 * 10**8), ("64Kbit", 64000), ("7bit", 7)],
)
def test_rate_is_read_in_bits_a_second(text, bit_s):  # LAB-282
    assert quantities.parse_rate(text) == bit_s


@pytest.mark.parametrize(("text", "share"), [("1.5%", 0.015), ("0%", 0.0), ("100 %", 1.0)])
def test_share_is_read_as_part_of_one(text, share):  # LAB-282
    assert quantities.parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "remedy"),
    [("20", "'20ms'"), ("20msec", "'20ms'"), ("20MS", "'20ms'"), ("", "'20ms'"), ("20 days", "us")],
)
def test_time_without_a_unit_of_time_is_refused_with_the_nearest(text, remedy):  # LAB-282
    with pytest.raises(Rejected) as caught:
        quantities.parse_time(text)
    assert remedy in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["-1ms", "1e3ms", "01ms", ".5ms", "1.ms", "1ms\n", "٣ms", "nan s"])
def test_time_is_digits_and_nothing_else(text):
    with pytest.raises(Rejected):
        quantities.parse_time(text)


def test_rate_is_whole_bits_and_no_bytes():
    with pytest.raises(Rejected, match="whole number"):
        quantities.parse_rate("1.0001kbit")
    with pytest.raises(Rejected, match="mbit"):
        quantities.parse_rate("10mb")


@pytest.mark.parametrize("drop", [Drop("response", 2), Drop("initiation"), Drop("data", 10**6)])
def test_drop_is_read_as_it_was_written(drop):
    assert quantities.parse_drop(quantities.format_drop(drop)) == drop


@pytest.mark.parametrize(
    "text", ["respons 2", "response  2", "response 0", "response 02", "data x"]
)
def test_drop_of_anything_else_is_refused(text):
    with pytest.raises(Rejected):
        quantities.parse_drop(text)


@given(st.floats(min_value=0, max_value=1e9))
def test_any_time_is_read_as_it_was_written(seconds):  # LAB-281
    assert quantities.parse_time(quantities.format_time(seconds)) == seconds


@given(st.floats(min_value=0, max_value=1))
def test_any_share_is_read_as_it_was_written(share):  # LAB-281
    assert quantities.parse_share(quantities.format_share(share)) == share


@given(st.integers(min_value=0, max_value=10**15))
def test_any_rate_is_read_as_it_was_written(bit_s):  # LAB-281
    assert quantities.parse_rate(quantities.format_rate(bit_s)) == bit_s


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text):
    for parse in (quantities.parse_time, quantities.parse_share, quantities.parse_rate):
        try:
            assert parse(text) >= 0
        except Rejected:
            continue
