"""How a refusal is said: the path, the reason, and what was probably meant. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from overlay.errors import Rejected

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# As many as one can look through at a glance.
LISTED_MAX = 12
WORD_CHARS_MAX = 4096
WORDS_MAX = 256


def no_label(name: str, *, path: str) -> Iterator[Rejected]:
    if not DNS_LABEL.fullmatch(name):
        yield Rejected(
            f"{name!r} is no DNS label",
            field=path,
            remedy="use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        )


def repeated(names: Iterable[str], *, path: str, what: str) -> Iterator[Rejected]:
    """`path` has {} where the name belongs."""
    for name, count in Counter(names).items():
        if count > 1:
            yield Rejected(
                f"{what} given {count} times",
                field=path.format(name),
                remedy="give each a name of its own",
            )


def unknown(value: str, *, known: Collection[str], path: str, what: str = "") -> Iterator[Rejected]:
    """`what` is the sort of thing: "node"."""
    if value not in known:
        yield Rejected(
            f"there is no {what} {value!r}" if what else f"there is no {value!r}",
            field=path,
            remedy=did_you_mean(value, known, what=what),
        )


def did_you_mean(word: str, known: Collection[str], *, what: str = "") -> str:
    """The nearest of the known words; all of them when none is near and they are few."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return f"add one, or leave it out; there is no {what or 'such thing'}"
    if len(known) > LISTED_MAX:
        return f"there are {len(known)}, none of them like it"
    return f"there is {', '.join(map(repr, sorted(known)))}"


def out_of_bounds(
    value: float, *, lowest: float, highest: float, unit: str = "", path: str
) -> Iterator[Rejected]:
    """What is no number is out of bounds too."""
    if not lowest <= value <= highest:
        found, least, most = map(number, (value, lowest, highest))
        yield Rejected(
            f"{found}{unit and f' {unit}'} is out of bounds",
            field=path,
            remedy=f"choose {least} to {most}{unit and f' {unit}'}",
        )


def number(value: float) -> str:
    """Digits as people write them."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def no_argv(argv: Sequence[str], *, path: str) -> Iterator[Rejected]:
    """What no program can be started with."""
    if not argv or not argv[0]:
        yield Rejected("names no program", field=path, remedy="write the program and its arguments")
    if len(argv) > WORDS_MAX:
        yield Rejected(
            f"has {len(argv)} words, {WORDS_MAX} is the most",
            field=path,
            remedy="put it into a script",
        )
    if any("\0" in word for word in argv):
        yield Rejected("has a zero byte", field=path, remedy="take it out")
    if any(len(word) > WORD_CHARS_MAX for word in argv):
        yield Rejected(
            f"has a word of more than {WORD_CHARS_MAX} characters",
            field=path,
            remedy="put it into a file",
        )
