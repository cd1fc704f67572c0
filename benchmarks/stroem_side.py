"""Drives Stroem: workers with a durable PostgreSQL and a broker; starts jobs as the API does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 900
ENDED = "SELECT NOT EXISTS (SELECT 1 FROM jobs_job WHERE id IN ({}) AND completed_at IS NULL)"


def workflow(steps: dict[str, list[str]]) -> str:
    """A workspace file with one task `main` whose steps run `true`."""
    lines = ["actions:", "  work: {type: script, script: 'true'}", "tasks:", "  main:", "    flow:"]
    for name, needs in steps.items():
        after = f", depends_on: [{', '.join(needs)}]" if needs else ""
        lines.append(f"      {name}: {{action: work{after}}}")
    return "\n".join(lines) + "\n"


def specification(steps: dict[str, list[str]]) -> str:
    """The same as a Torc file."""
    lines = ["name: main", "jobs:"]
    lines += [
        f"- {{name: {name}, command: 'true', depends_on: [{', '.join(needs)}]}}"
        for name, needs in steps.items()
    ]
    return "\n".join(lines) + "\n"


def chain_steps(count: int) -> dict[str, list[str]]:
    return {f"s{i}": [f"s{i - 1}"] if i else [] for i in range(count)}


def fan_steps(width: int) -> dict[str, list[str]]:
    middle = {f"m{i}": ["first"] for i in range(width)}
    return {"first": [], **middle, "last": list(middle)}


class Side:
    """A running installation, for which Django is set up in this process."""

    def __init__(self, folder: Path, processes: int, slots: int) -> None:
        self.folder = folder
        self.processes = processes
        self.slots = slots
        self._children: list[subprocess.Popen[bytes]] = []
        self._eye: psycopg.Connection[Any] | None = None

    def start(self, *commands: list[str]) -> None:
        for number, command in enumerate(commands):
            log = (self.folder / f"{command[0]}{number}.log").open("wb")
            argv = [sys.executable, str(ROOT / "manage.py"), *command]
            self._children.append(
                subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
            )

    def start_workers(self) -> None:
        for number in range(self.processes):
            config = self.folder / f"worker{number}.yaml"
            config.write_text(
                f"worker_name: bench{number}\nmax_concurrent: {self.slots}\ntags: [script]\n"
                f"workspace_cache_dir: {self.folder / f'cache{number}'}\n"
            )
            self.start(["worker", "--config", str(config)])
        from apps.fleet.models import Worker

        wait(lambda: Worker.objects.filter(stopped_at=None).count() == self.processes)

    def stop(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(30)

    def load(self, name: str, text: str) -> None:
        from apps.workspaces.services import import_folder

        folder = self.folder / "workspaces" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "workflow.yaml").write_text(text)
        found = import_folder(name, folder)
        if found.current is None:
            raise SystemExit(f"benchmark workspace {name} is wrong: {found.problems}")

    def run(self, name: str, jobs: int = 1) -> float:
        """Seconds from before the first submission until all jobs have completed."""
        from apps.jobs.models import Job
        from apps.jobs.services import start_job

        began = time.perf_counter()
        ids = [start_job(name, "main", {}).id for _ in range(jobs)]
        ended = ENDED.format(", ".join(f"'{id}'" for id in ids)).encode()
        wait(lambda: self._look(ended), every_s=0.002)
        took = time.perf_counter() - began
        bad = Job.objects.filter(id__in=ids).exclude(status="completed").first()
        if bad is not None:
            raise SystemExit(f"benchmark job {bad.id} {bad.status}: {bad.error}")
        return took

    def _look(self, question: bytes) -> bool:
        """As cheap as possible: looking takes time from what is measured."""
        if self._eye is None:
            self._eye = psycopg.connect(os.environ["STROEM__DB__URL"], autocommit=True)
        return self._eye.pgconn.exec_(question).get_value(0, 0) == b"t"

    def processes_seen(self) -> list[psutil.Process]:
        return [psutil.Process(child.pid) for child in self._children]


def wait(condition: Callable[[], Any], every_s: float = 0.05) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the benchmark did not end in time")
        time.sleep(every_s)


@contextmanager
def installation(
    processes: int, slots: int, broker_url: str | None = None
) -> Iterator[tuple[Side, str]]:
    """A durable PostgreSQL, a broker and workers. Yields the side, and the URL of a second broker
    for bare Celery."""
    from standalone.embedded import postgres
    from standalone.embedded.folders import temporary_folders
    from standalone.embedded.pair import TemporaryBroker
    from standalone.supervision.lifeline import Lifeline

    lifeline = Lifeline()
    with ExitStack() as stack:
        stack.callback(lifeline.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stroem-bench-")))
        store, sockets = temporary_folders(lifeline)
        cluster = postgres.Cluster(store, sockets)
        postgres.prepare(cluster)
        server = lifeline.spawn(postgres.program(cluster, folder / "database.log"))
        stack.callback(server.stop)
        server.wait_until_ready()
        postgres.create_database(cluster)
        ours, theirs = TemporaryBroker(lifeline), TemporaryBroker(lifeline)
        stack.callback(ours.stop)
        stack.callback(theirs.stop)
        os.environ["STROEM__DB__URL"] = cluster.url()
        os.environ["STROEM__BROKER__URL"] = broker_url or ours.start()
        os.environ["STROEM__DATA_DIR"] = str(folder / "data")
        os.environ["STROEM_LOG_LEVEL"] = "WARNING"
        os.environ["DJANGO_SETTINGS_MODULE"] = "stroem_project.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        side = Side(folder, processes, slots)
        stack.callback(side.stop)
        side.start_workers()
        yield side, theirs.start()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
