from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import Rejected
from zos_core.files import toml
from zos_core.files.toml import parse_toml


class Inner(msgspec.Struct, frozen=True):
    size: int = 0


class Model(msgspec.Struct, frozen=True):
    name: str
    at: datetime | None = None
    inner: dict[str, Inner] = {}
    many: tuple[Inner, ...] = ()


def test_values_become_types() -> None:
    text = 'name = "x"\nat = 2027-01-01T00:00:00Z\n[inner.a]\nsize = 3\n[[many]]\nsize = 4\n'

    parsed = parse_toml(text, Model, what="file")

    assert parsed == Model("x", datetime(2027, 1, 1, tzinfo=UTC), {"a": Inner(3)}, (Inner(4),))


def test_wrong_value_is_named_by_its_key() -> None:
    with pytest.raises(Rejected) as caught:
        parse_toml('name = "x"\n[inner.a]\nsize = "big"\n', Model, what="file")

    assert caught.value.field == "inner[...].size"


def test_missing_key_is_named() -> None:
    with pytest.raises(Rejected, match="name"):
        parse_toml("", Model, what="file")


def test_file_beyond_the_bound_is_refused_unread() -> None:
    fits = 'name = "x"\n'.ljust(toml.MAX_FILE_CHARS, "\n")

    assert parse_toml(fits, Model, what="file").name == "x"
    with pytest.raises(Rejected, match="longer"):
        parse_toml(fits + "\n", Model, what="file")


@given(st.text())
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        parse_toml(text, Model, what="file")
    except Rejected:
        return


def test_version_is_set_where_it_stands_or_at_the_top() -> None:
    assert toml.set_version("a = 1\nversion = 2 # two\n", 3) == "a = 1\nversion = 3 # two\n"
    assert toml.set_version("a = 1\n", 3) == "version = 3\na = 1\n"


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert toml.nearest("netwrok", ["network", "node"]) == "network"
    assert toml.nearest("zzz", ["network", "node"]) is None


@pytest.mark.parametrize(
    "text", ["name = " + "[" * 100_000, "name = " + "9" * 100_000], ids=["nested", "endless"]
)
def test_what_python_itself_gives_up_on_is_refused(text: str) -> None:  # CLI-004
    with pytest.raises(Rejected, match="nested too deeply or holds a number"):
        parse_toml(text, Model, what="file")
