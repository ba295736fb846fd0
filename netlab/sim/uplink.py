"""An exit's own way to the internet, and what its operator says of it."""

from __future__ import annotations

from overlay.documents.exits import ExitService
from overlay.model import Address, Family

BEACONS: dict[Family, Address] = {4: Address("9.9.9.9"), 6: Address("2620:fe::fe")}


class Uplink:
    """`is_cut`: nothing comes out by it, and no beacon answers."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self.families = tuple(sorted(families))
        self.is_cut = False
        self.draining_until: int | None = None  # Unix seconds

    def service(self) -> ExitService:
        return ExitService(
            beacons=tuple(BEACONS[family] for family in self.families),
            families=self.families,
            draining_until=self.draining_until,
        )

    def carries(self, target: Address) -> bool:
        return not self.is_cut and family_of(target) in self.families


def family_of(address: Address) -> Family:
    return 6 if ":" in address else 4
