"""Metrics for Prometheus at /metrics: https://prometheus.io/docs/instrumenting."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from isoline.engines.base import Observer
from isoline.inference.task import Result
from isoline.jobs.job import State
from isoline.jobs.queue import Jobs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics(Observer):
    """The counters of one server. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._stages = Histogram(
            "isoline_tile_seconds",
            "Seconds per tile, by stage",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._failed = Counter("isoline_tiles_failed", "Tiles that failed", registry=self._registry)
        self._deaths = Counter(
            "isoline_workers_died", "Workers that died and were replaced", registry=self._registry
        )
        self._surveys = Counter(
            "isoline_surveys",
            "Surveys of whole images, by whether they were cached",
            ["remembered"],
            registry=self._registry,
        )
        self._requests = Histogram(
            "isoline_request_seconds",
            "Seconds to the first byte of a response, by route and status",
            ["route", "method", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge("isoline_streams", "Open event streams", registry=self._registry)

    def watch(self, jobs: Jobs) -> None:
        """Report the number of jobs in each state from now on."""
        self._registry.register(_JobStates(jobs))

    def computed(self, result: Result) -> None:
        for stage, seconds in result.stage_seconds.items():
            self._stages.labels(stage).observe(seconds)

    def tile_failed(self) -> None:
        self._failed.inc()

    def worker_died(self) -> None:
        self._deaths.inc()

    def surveyed(self, remembered: bool) -> None:
        self._surveys.labels(str(remembered).lower()).inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).observe(seconds)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)


class _JobStates(Collector):
    """Counts jobs whenever metrics are collected."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("isoline_jobs", "Stored jobs, by state", labels=["state"])
        states = [job.state for job in self._jobs.all()]
        for state in State:
            family.add_metric([state.value], states.count(state))
        return [family]
