"""suppress, without the price of importing contextlib."""

from __future__ import annotations


class suppress:  # noqa: N801 - as contextlib has it
    """These exceptions end the block and nothing else."""

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)
