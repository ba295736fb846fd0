"""Counters for operators, without a word about anybody: no ids, no addresses."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from overlay.registry.routes import Route
from overlay.registry.service import Service

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """One set of counters, for one registry."""

    def __init__(self, service: Service) -> None:
        self._all = CollectorRegistry()
        self._all.register(_Held(service))
        self._requests = Counter(
            "zos_registry_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._all,
        )
        self._seconds = Histogram(
            "zos_registry_request_seconds",
            "Time to answer a request; streams are not in it",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self._all,
        )

    def count(self, route: Route | None, status: int, *, elapsed_s: float | None = None) -> None:
        # Labels come from the route table, so that nobody outside makes new series.
        path = route.path if route is not None else "none"
        method = route.method if route is not None else "none"
        self._requests.labels(method, path, str(status)).inc()
        if elapsed_s is not None:
            self._seconds.labels(path).observe(elapsed_s)

    def render(self) -> tuple[bytes, str]:
        """The text and its content type."""
        return generate_latest(self._all), CONTENT_TYPE_LATEST


class _Held(Collector):
    """What is read when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        directory, watchers = self._service.directory, self._service.watchers
        documents = GaugeMetricFamily("zos_registry_documents", "Documents held", labels=("kind",))
        for kind, count in directory.counts().items():
            documents.add_metric((kind,), count)
        yield documents
        yield GaugeMetricFamily("zos_registry_bytes", "Size of all documents", directory.bytes)
        yield GaugeMetricFamily("zos_registry_revision", "Newest revision", directory.revision)
        yield GaugeMetricFamily(
            "zos_registry_unreadable", "Stored documents left out", directory.unreadable
        )
        yield GaugeMetricFamily("zos_registry_watchers", "Open streams", watchers.count)
        yield CounterMetricFamily("zos_registry_slow_watchers", "Closed as slow", watchers.slow)
        yield CounterMetricFamily("zos_registry_lines_sent", "Lines to streams", watchers.sent)
        yield CounterMetricFamily(
            "zos_registry_conflicts", "Decisions made again", self._service.conflicts
        )
