"""Metrics in Prometheus' text format: requests as this process counted them; everything else as the
database says at the moment."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction

from apps.artifacts.logs import standing as logs
from apps.fleet import vitals
from apps.jobs import counts

log = logging.getLogger(__name__)
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONGEST_QUERY_MS = 2000
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]  # suffix of the name, labels, value


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: how it is called, and how its samples are read."""

    name: str
    kind: str
    about: str
    read: Callable[[], Iterable[Sample]]


class Requests:
    """Requests to the API since this process started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = Counter[tuple[str, str, str]]()
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(BUCKETS_S))
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._totals = Counter[str]()

    def note(self, method: str, route: str, status: int, took_s: float) -> None:
        with self._lock:
            self._count[method, route, str(status)] += 1
            self._sums[route] += took_s
            self._totals[route] += 1
            buckets = self._buckets[route]
            for index, bound in enumerate(BUCKETS_S):
                if took_s <= bound:
                    buckets[index] += 1

    def counted(self) -> list[Sample]:
        with self._lock:
            return [
                ("", {"method": method, "route": route, "status": status}, count)
                for (method, route, status), count in sorted(self._count.items())
            ]

    def durations(self) -> list[Sample]:
        with self._lock:
            return [sample for route in sorted(self._totals) for sample in self._of(route)]

    def _of(self, route: str) -> Iterator[Sample]:
        for bound, count in zip(BUCKETS_S, self._buckets[route], strict=True):
            yield "_bucket", {"route": route, "le": f"{bound:g}"}, count
        yield "_bucket", {"route": route, "le": "+Inf"}, self._totals[route]
        yield "_sum", {"route": route}, self._sums[route]
        yield "_count", {"route": route}, self._totals[route]


requests = Requests()


def _by(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [("", {label: key}, value) for key, value in values.items()]


def _one(value: float) -> list[Sample]:
    return [("", {}, value)]


def _workers() -> list[Sample]:
    states = [state.value for state in vitals.WorkerState if state != vitals.WorkerState.STOPPED]
    found = Counter(getattr(row, "state") for row in vitals.with_vitals(vitals.here()))  # noqa: B009  (annotated)
    return _by("state", {state: found[state] for state in states})


class _Ended:
    """A restart takes an end back, but what Prometheus calls a counter must not shrink."""

    def __init__(self) -> None:
        self._most: dict[str, int] = {}

    def __call__(self) -> list[Sample]:
        for status, count in counts.jobs_ended().items():
            self._most[status] = max(count, self._most.get(status, 0))
        return _by("status", self._most)


ended = _Ended()
FAMILIES = (
    Family("stroem_http_requests_total", "counter", "Requests to the API", requests.counted),
    Family(
        "stroem_http_request_duration_seconds",
        "histogram",
        "How long requests to the API took",
        requests.durations,
    ),
    Family(
        "stroem_jobs_created_total",
        "counter",
        "Jobs by what started them",
        lambda: _by("source_type", counts.jobs_created()),
    ),
    Family("stroem_jobs_completed_total", "counter", "Jobs that ended, by status", ended),
    Family(
        "stroem_jobs_in_flight",
        "gauge",
        "Jobs that have not ended",
        lambda: _by("status", counts.jobs_in_flight()),
    ),
    Family(
        "stroem_steps_ready",
        "gauge",
        "Steps that wait for a worker",
        lambda: _one(counts.steps_ready()),
    ),
    Family(
        "stroem_steps_oldest_ready_seconds",
        "gauge",
        "How long the first of them has waited",
        lambda: _one(counts.oldest_ready_s()),
    ),
    Family(
        "stroem_workers_active",
        "gauge",
        "Workers that are alive",
        lambda: _one(vitals.alive().count()),
    ),
    Family("stroem_workers", "gauge", "Workers that have not left, by state", _workers),
    Family(
        "stroem_schedulers",
        "gauge",
        "Schedulers that sweep",
        lambda: _one(vitals.schedulers().count()),
    ),
    Family(
        "stroem_log_archive",
        "gauge",
        "Log lines of ended jobs in the storage: jobs, lines, bytes, and raw bytes before"
        " compression",
        lambda: _by("of", logs.sizes()),
    ),
    Family(
        "stroem_log_archive_waiting_jobs",
        "gauge",
        "Ended jobs whose lines the last round could not move",
        lambda: _one(logs.standing().waiting),
    ),
    Family(
        "stroem_log_archive_failing_seconds",
        "gauge",
        "How long lines could not be moved; 0 if they can",
        lambda: _one(logs.standing().failing_s),
    ),
)


def page(families: Iterable[Family] = FAMILIES) -> str:
    """All metrics. One that the database cannot answer in time is left out, and counted as such."""
    labels = {"replica_id": f"{socket.gethostname()}:{os.getpid()}"}
    lines: list[str] = []
    failed = 0
    began = time.monotonic()
    for family in families:
        try:
            samples = _in_time(family.read)
        except DatabaseError as error:
            failed += 1
            log.warning("%s is left out: %s", family.name, str(error).strip().splitlines()[:1])
            continue
        lines += _lines(family, samples, labels)
    took = Family("stroem_scrape_seconds", "gauge", "How long this page took", list)
    lines += _lines(took, _one(time.monotonic() - began), labels)
    missing = Family("stroem_scrape_failures", "gauge", "Metrics left out of this page", list)
    lines += _lines(missing, _one(failed), labels)
    return "\n".join(lines) + "\n"


def _in_time(read: Callable[[], Iterable[Sample]]) -> list[Sample]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {LONGEST_QUERY_MS}")
        return list(read())


def _lines(family: Family, samples: Iterable[Sample], common: Labels) -> Iterator[str]:
    yield f"# HELP {family.name} {family.about}"
    yield f"# TYPE {family.name} {family.kind}"
    for suffix, labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in {**labels, **common}.items())
        yield f"{family.name}{suffix}{{{shown}}} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
