"""What workloads are called, in member documents (specs DNS-001 .. DNS-004)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta

from overlay.addressing import FIRST_WORKLOAD_HOST, LAST_WORKLOAD_HOST
from overlay.documents.fields import Label, check_distinct
from overlay.errors import Rejected

# As many as a node's subnet has addresses for: no workload is left without a name.
MAX_WORKLOAD_NAMES = LAST_WORKLOAD_HOST - FIRST_WORKLOAD_HOST + 1


class WorkloadName(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a member: the workload with the host-th address of the member's subnets."""

    name: Label
    host: Annotated[int, Meta(ge=FIRST_WORKLOAD_HOST, le=LAST_WORKLOAD_HOST)]


Workloads = Annotated[tuple[WorkloadName, ...], Meta(max_length=MAX_WORKLOAD_NAMES)]


def check_workloads(workloads: tuple[WorkloadName, ...]) -> None:
    """Raise Rejected unless they stand in order of their addresses, each name and address once."""
    check_distinct((workload.name for workload in workloads), "workloads")
    for n, (before, after) in enumerate(pairwise(workloads), start=1):
        if before.host >= after.host:
            raise Rejected(
                f"host {after.host} comes after {before.host}", field=f"workloads[{n}].host"
            )
