"""Datagrams that go as one arrive as they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overlay.relay import trains
from overlay.relay.limits import Place

ONE: Place = ("192.0.2.1", 1)
TWO: Place = ("2001:db8::1", 2, 0, 0)
SENDINGS = st.lists(
    st.tuples(
        st.sampled_from([ONE, TWO]),
        st.sampled_from([b"", b"a" * 32, b"b" * 32, b"c" * 40, b"d" * 1_452, b"e" * 9_216]),
    ),
    max_size=300,
)


@given(SENDINGS)
def test_joined_and_cut_again_everything_is_there_in_order(sendings):  # REL-044
    joined = list(trains.join(sendings))
    assert [(place, car) for place, cars in joined for car in cars] == sendings
    for _, cars in joined:
        first = len(cars[0])
        assert 1 <= len(cars) <= trains.MAX_CARS
        assert all(len(car) == first for car in cars[:-1])
        assert len(cars[-1]) <= first
        assert sum(map(len, cars)) <= trains.MAX_BYTES
        if cars[-1]:
            assert list(trains.cut(b"".join(cars), first)) == cars


def test_a_train_has_so_many_cars_and_so_many_bytes():  # REL-044
    small = [(ONE, b"x" * 32)] * (trains.MAX_CARS + 1)
    assert [len(cars) for _, cars in trains.join(small)] == [trains.MAX_CARS, 1]
    large = [(ONE, b"x" * 9_000)] * 10
    assert [len(cars) for _, cars in trains.join(large)] == [7, 3]


def test_what_is_shorter_ends_a_train_and_what_is_longer_begins_one():  # REL-044
    sizes = [5, 5, 3, 3, 5, 6]
    joined = trains.join([(ONE, b"x" * size) for size in sizes])
    assert [[len(car) for car in cars] for _, cars in joined] == [[5, 5, 3], [3], [5], [6]]
