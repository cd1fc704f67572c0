"""`manage.py worker`: claims and runs steps until it is told to stop; then it drains."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from console.arguments import full_id, whole_number
from console.managed import OurCommand, require_database
from engine import VERSION
from engine.errors import StroemError
from engine.lifecycle import FINAL_JOB
from engine.slurm_script import Launch
from engine.spec.tags import ACTIONS
from runners.docker.errors import EngineGone
from runners.docker.finding import find_endpoint
from stroem_project.celery import app
from stroem_project.config import ROOT
from stroem_project.handover import open_environments
from stroem_project.health_files import keep_touching
from workers import allocation
from workers.allocation import AllocationPlace
from workers.config import WorkerConfig, load, typed_name
from workers.leaver import Departure, Leaver
from workers.process import Eviction

if TYPE_CHECKING:
    from workers.assembly import Assembly

log = logging.getLogger("stroem.worker")
# options of workers in allocations, and the settings that say it elsewhere
IN_ALLOCATIONS = {
    "scheduler": "",
    "output_dir": "output_root",
    "pass_env": "pass_env",
    "max_parallel_jobs": "max_concurrent",
}


class Command(OurCommand):
    help = (
        "Run steps that need no other tags than this worker's. On SIGTERM or Ctrl-C, start no more"
        " steps and wait `drain_secs` for running ones; a second signal stops them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="worker-config.yaml (default: no file); STROEM__WORKER__* variables override it",
        )
        parser.add_argument("--name", type=typed_name, help="overrides `worker_name`")
        parser.add_argument("--job", type=full_id, help="only run steps of this job")
        parser.add_argument(
            "--allocation",
            type=full_id,
            help="Slurm allocation that this worker runs in; needs --job, --scheduler and --config",
        )
        parser.add_argument("--scheduler", help="name of the allocation's Slurm scheduler")
        parser.add_argument(
            "--output-dir",
            metavar="PATH",
            help="the job's output directory on the host that requested the allocation",
        )
        parser.add_argument(
            "--pass-env",
            action="append",
            default=[],
            type=_variable,
            metavar="NAME",
            help="steps see this variable of the allocation's environment; * and ? match many",
        )
        parser.add_argument(
            "--max-parallel-jobs",
            type=whole_number(1, 10_000),
            help="run this many steps at a time, whatever they need",
        )
        parser.add_argument(
            "--lifeline-fd",
            type=int,
            help=SUPPRESS,  # `up` and `run` use it: stop at once when this descriptor closes
        )

    def handle(self, *args: Any, **options: Any) -> None:
        place = _place(options)
        config = self._config(options)
        require_database()
        if place is not None:
            config = allocation.configure(config, place, options["max_parallel_jobs"])
        os.environ.setdefault("STROEM_DB_POOL", str(config.max_concurrent + 3))
        _suit_database(config.max_concurrent + 3)
        if options["job"] is not None and place is None:  # an allocation leaves by itself
            with suppress(DatabaseError):  # the worker waits until it is there
                _refuse_ended(options["job"])
        hurry, stop = threading.Event(), threading.Event()
        eviction = Eviction(by_slurm=place is not None)
        eviction.listen()
        _listen_to_signals(stop, hurry, eviction)
        if options["lifeline_fd"] is not None:
            from standalone.supervision.lifeline import watch  # only `up` and `run` ask for it

            watch(options["lifeline_fd"], partial(_stop_at_once, stop, hurry))
        self._serve(config, options["job"], place, stop, hurry, eviction)
        _end()

    def _config(self, options: dict[str, Any]) -> WorkerConfig:
        environ = dict(os.environ)
        if options["name"]:
            environ["STROEM__WORKER__WORKER_NAME"] = options["name"]
        file = Path(options["config"]) if options["config"] else None
        try:
            config = load(file, environ, data_dir=settings.STROEM.data_dir, has_docker=_has_docker)
            _check_sections(config)
        except (StroemError, TypeError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        return config

    def _assemble(
        self,
        config: WorkerConfig,
        job_id: UUID | None,
        place: AllocationPlace | None,
        eviction: Eviction,
    ) -> Assembly:
        from apps.artifacts import ledger as artifacts
        from apps.artifacts.state import ledger as states
        from apps.jobs import bells, ledger
        from apps.triggers import ledger as events
        from apps.workflow_actions import ledger as allocations
        from apps.workspaces.ledger import archive, pass_for
        from runners.host.environment import harden
        from workers.assembly import assemble
        from workers.door import Doors

        _warn_of_open_environments(config)
        signed = partial(pass_for, token=config.worker_token)
        try:
            harden()
            return assemble(
                config,
                Doors(ledger, allocations, events, artifacts, bells, archive, signed, app, states),
                _launch(config),
                lease_s=settings.STROEM.recovery.heartbeat_timeout_s,
                version=VERSION,
                withheld=_credentials(config),
                job_id=job_id,
                allocation=place,
                eviction=eviction,
            )
        except (StroemError, OSError) as error:
            raise CommandError(f"this worker cannot start: {error}", returncode=2) from error

    def _serve(
        self,
        config: WorkerConfig,
        job_id: UUID | None,
        place: AllocationPlace | None,
        stop: threading.Event,
        hurry: threading.Event,
        eviction: Eviction,
    ) -> None:
        from apps.jobs import ledger
        from apps.workflow_actions import ledger as allocations

        assembly = self._assemble(config, job_id, place, eviction)
        keep_touching(lambda: assembly.presence.may_claim)
        leaver: Leaver | None = None
        try:
            if not assembly.open(stop):
                return
            self.stdout.write(_greeting(config, assembly.worker.queues))
            self.stdout.flush()
            if place is not None and job_id is not None:
                allocations.begun(place.id, place.number, assembly.outputs.difference)
                leaver = Leaver(
                    ledger, allocations, config, place, job_id,
                    lambda: assembly.presence.worker_id,
                    assembly.attempts, stop.set, eviction, assembly.packing,
                )  # fmt: skip
                leaver.start()
            log.info("started", extra={"fields": {"queues": len(assembly.worker.queues)}})
            stop.wait()
            leaving = leaver.departure if leaver else Departure(config.drain_secs)
            steps = len(assembly.attempts.all())
            log.info("draining", extra={"fields": {"steps": steps, "wait_s": leaving.wait_s}})
            stopped = assembly.worker.drain(
                leaving.wait_s,
                hurry,
                leaving.leave_by,
                reason=leaving.reason,
                text=leaving.text,
                grace_s=leaving.grace_s,
            )
            log.info("stopped; %d steps had to be ended", stopped)
        finally:
            assembly.close()


def _refuse_ended(job_id: UUID) -> None:
    from apps.jobs.models import Job

    status = Job.objects.filter(pk=job_id).values_list("status", flat=True).first()
    if status is None:
        raise CommandError(f"--job: there is no job {job_id}", returncode=2)
    if status in FINAL_JOB:
        raise CommandError(f"--job: job {job_id} is {status} already", returncode=2)


def _variable(text: str) -> str:
    if not text.strip() or "=" in text:
        raise ArgumentTypeError(f"must be a name or pattern such as OMP_*, not '{text[:60]}'")
    return text


def _place(options: dict[str, Any]) -> AllocationPlace | None:
    """The allocation that the options name. Other users must not be able to read the worker's
    credentials."""
    if options["allocation"] is None:
        for name, setting in IN_ALLOCATIONS.items():
            if options[name]:
                cure = f"; elsewhere `{setting}` in the settings says it" if setting else ""
                option = f"--{name.replace('_', '-')}"
                raise CommandError(f"{option} needs --allocation{cure}", returncode=2)
        return None
    if options["job"] is None or options["scheduler"] is None or options["config"] is None:
        raise CommandError("--allocation needs --job, --scheduler and --config", returncode=2)
    try:
        wrong = allocation.check_config_mode(Path(options["config"]))
    except OSError as error:
        wrong = f"{options['config']} cannot be read: {error.strerror}"
    if wrong:
        raise CommandError(wrong, returncode=2)
    return AllocationPlace.here(
        options["allocation"],
        options["scheduler"],
        pass_env=options["pass_env"],
        output_dir=options["output_dir"],
    )


def _credentials(config: WorkerConfig) -> tuple[str, ...]:
    """Values to hide from the environment of workflow actions' commands."""
    database = settings.DATABASES["default"]
    found = (
        settings.STROEM.db.url, settings.STROEM.broker.url, settings.STROEM.worker_token,
        config.worker_token,
        str(database.get("PASSWORD") or ""), settings.SECRET_KEY, *settings.STROEM_KEYS,
        *(provider.api_key for provider in settings.STROEM.agents.providers.values()),
    )  # fmt: skip
    return tuple(str(value) for value in found if value)


def _warn_of_open_environments(config: WorkerConfig) -> None:
    if config.run_as:
        return
    for pid in open_environments(_credentials(config)):
        log.warning(
            "steps can read credentials in /proc/%d/environ: set `run_as`, or start the worker so"
            " that no process above it has them in its environment",
            pid,
        )


def _launch(config: WorkerConfig) -> Launch:
    """How to start a worker on a node: like this one, from the same files."""
    default = config.slurm_worker_config
    return Launch(
        # -E: a module that the scheduler's setup loads must not change the worker's own Python
        (sys.executable, "-E", str(ROOT / "manage.py"), "worker"),
        str(ROOT),
        None if default is None else str(default),
    )


def _greeting(config: WorkerConfig, queues: tuple[str, ...]) -> str:
    of_steps = sorted(key for key in queues if ACTIONS not in key.split("+"))
    return (
        f"worker {config.worker_name}: tags {', '.join(config.tags)}; {config.max_concurrent}"
        f" slots; queues {', '.join(of_steps) or 'none yet'}"
    )


def _listen_to_signals(stop: threading.Event, hurry: threading.Event, eviction: Eviction) -> None:
    def on_signal(number: int, frame: FrameType | None) -> None:
        eviction.note()
        # Slurm may send TERM more than once, and leaves the same time after it
        is_second = stop.is_set() and not (eviction.is_by_slurm and number == signal.SIGTERM)
        (hurry if is_second else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    _disregard_what_is_ignored()


def _disregard_what_is_ignored() -> None:
    """Under `nohup` or a shell's `&`, signals are ignored, and steps would inherit that. A handler
    that does nothing is not inherited. Python itself resets SIGPIPE and SIGXFSZ for children."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


def _stop_at_once(stop: threading.Event, hurry: threading.Event) -> None:
    hurry.set()
    stop.set()


def _has_docker() -> bool:
    """Whether a Docker engine answers here. Imports the client only if there may be one."""
    try:
        find_endpoint(None)
    except EngineGone:
        return False
    from runners.docker.connection import Connection

    return bool(Connection(None).is_alive())


def _check_sections(config: WorkerConfig) -> None:
    """Report wrong keys of a runner's section at the start, not in the first step."""
    if config.docker is not None:
        from runners.docker.config import DockerConfig

        DockerConfig.from_section(config.docker, owner=config.worker_name)
    if config.kubernetes is not None:
        from runners.pod.config import PodConfig

        PodConfig.from_section(config.kubernetes, owner=config.worker_name)


def _suit_database(pool_size: int) -> None:
    """One connection per slot, and one each for leases, logs and the start; lookups by index only.

    A worker's statements are planned once. Planned on nearly empty tables, they would use full
    scans, and still do so in a job of ten thousand steps.
    """
    options = settings.DATABASES["default"].get("OPTIONS", {})
    if isinstance(options.get("pool"), dict):
        options["pool"]["max_size"] = max(pool_size, options["pool"].get("max_size", 0))
    options["options"] = f"{options.get('options', '')} -c enable_seqscan=off -c enable_sort=off"


def _end() -> NoReturn:
    """Exit at once, even if threads hang in calls to broker or database."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
