"""From the policy of a network to the rules of one node: names resolved, others' rules left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from overlay import addressing
from overlay.documents import fields, schema
from overlay.documents.schema import Network, Rule
from overlay.model import AllowRule, Prefix


def resolve_policy(
    network: Network, *, ranges: tuple[Prefix, Prefix], own: Iterable[int]
) -> tuple[AllowRule, ...] | None:
    """The rules that concern the indexes `own`, names resolved; None when there is no policy."""
    if not network.policy:
        return None
    spans = schema.names(network)
    here = frozenset(own)
    return tuple(
        rule
        for written in network.policy
        if (rule := _allow_rule(written, spans=spans, ranges=ranges, own=here)) is not None
    )


def _allow_rule(
    rule: Rule, *, spans: Mapping[str, range], ranges: tuple[Prefix, Prefix], own: frozenset[int]
) -> AllowRule | None:
    to = [range(index, index + 1) for index in own if _covers(rule.to, index, spans)]
    if not to:
        return None
    return AllowRule(
        source=(
            tuple(sorted(ranges))
            if "*" in rule.source
            else addressing.merged_subnets(*ranges, (spans[name] for name in rule.source))
        ),
        to=addressing.merged_subnets(*ranges, to),
        protocol=rule.protocol,
        ports=tuple(sorted(map(fields.parse_port_range, rule.ports))),
    )


def _covers(names: Iterable[str], index: int, spans: Mapping[str, range]) -> bool:
    return any(name == "*" or index in spans[name] for name in names)
