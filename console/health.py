"""The checks of `doctor`. Each yields findings: a sentence and, for a problem, its remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psycopg
from django.conf import settings
from django.db import DatabaseError

from console.managed import NO_DATABASE
from engine.errors import StroemError
from engine.spec.checks_flow import UNBUILT
from engine.spec.tags import AGENTS
from workers.config import WorkerConfig, load

OLDEST_POSTGRES = 15
MOST_NAMED = 5
LOW_SPACE_BYTES, NO_SPACE_BYTES = 2 * 1024**3, 200 * 1024**2
BROKER_WAITS_S = 3
TOOLCHAINS = {
    "shell": ("bash", "sh"),
    "python": ("uv", "python3", "python"),
    "javascript": ("bun", "node"),
    "typescript": ("bun", "deno"),
    "go": ("go",),
}

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    about: str
    sentence: str


ok = partial(Finding, "ok")
warning = partial(Finding, "warning")
problem = partial(Finding, "problem")


def examine(worker_file: Path | None = None) -> Iterator[Finding]:
    """Run all checks; those that need the database are skipped if it cannot be reached.

    `worker_file` is a worker's configuration: its cluster is checked as that worker would use it.
    """
    yield from _configuration()
    database = list(_database())
    yield from database
    if all(finding.level != "problem" for finding in database):
        yield from _guarded("migrations", _migrations)
        yield from _guarded("workers", _workers)
        yield from _guarded("workspaces", _workspaces)
        yield from _guarded("triggers", _triggers)
        yield from _guarded("subscriptions", _subscriptions)
        yield from _guarded("logs", _logs)
    yield from _broker()
    yield from _docker()
    yield from examine_cluster(worker_file)
    yield from _toolchains()
    yield from _cells()
    yield from _disk()


def _configuration() -> Iterator[Finding]:
    source = settings.STROEM.file or "no file, only defaults and the environment"
    yield ok("configuration", f"read from {source}")
    key_file: Path = settings.STROEM.key_file
    if key_file.exists() and key_file.stat().st_mode & 0o077:
        yield problem("keys", f"{key_file} can be read by other users: run `chmod 600 {key_file}`")


def _database() -> Iterator[Finding]:
    url = settings.STROEM.db.url
    if not url:
        yield problem("database", NO_DATABASE)
        return
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            major = connection.info.server_version // 10000
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        yield problem(
            "database", f"cannot be reached ({reason}): start it, or correct STROEM__DB__URL"
        )
        return
    if major < OLDEST_POSTGRES:
        yield problem("database", f"is PostgreSQL {major}: use {OLDEST_POSTGRES} or newer")
    else:
        yield ok("database", f"PostgreSQL {major} answers")


def _guarded(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except DatabaseError as error:
        yield problem(about, f"cannot be read from the database: {str(error).splitlines()[0]}")


def _migrations() -> Iterator[Finding]:
    from apps.fleet.presence import missing_migrations

    stale = problem("migrations", "the tables are not up to date: run `manage.py migrate`")
    yield stale if missing_migrations() else ok("migrations", "the tables are up to date")


def _workers() -> Iterator[Finding]:
    from apps.fleet import vitals

    alive = vitals.alive().exclude(tags__contains=[AGENTS]).order_by("name")
    names = [f"{worker.name} ({', '.join(worker.tags)})" for worker in alive]
    none = warning("workers", "none is alive, so no step can run: start `manage.py worker`")
    yield ok("workers", f"alive: {'; '.join(names)}") if names else none
    speaking = vitals.alive().filter(tags__contains=[AGENTS]).values_list("name", flat=True)
    if speaking:
        yield ok("agents", f"alive: {', '.join(sorted(speaking))}")
    else:
        yield from _nobody_speaks()
    mcp = settings.STROEM.agents.mcp
    if mcp.commands and mcp.run_as is None:
        yield warning(
            "agents",
            "programs of MCP servers may read what `manage.py agents` may, its keys too: name a"
            " system user for them in `agents.mcp.run_as`",
        )


def _nobody_speaks() -> Iterator[Finding]:
    """It matters to those who have agent steps, or a provider for them."""
    users = _workspaces_with_agents()
    start = "start `manage.py agents`"
    if not settings.STROEM.agents.providers:
        start = f"name a provider in `agents.providers`, and {start}"
    if users:
        named = ", ".join(users[:MOST_NAMED]) + ("" if len(users) <= MOST_NAMED else " and others")
        yield warning(
            "agents", f"no process for agents is alive, and {named} has agent steps: {start}"
        )
    elif settings.STROEM.agents.providers:
        yield warning("agents", f"no process for agents is alive: {start}")


def _workspaces_with_agents() -> list[str]:
    from apps.workspaces.models import Workspace
    from apps.workspaces.revisions import definitions_of

    current = dict(Workspace.objects.exclude(current=None).values_list("current_id", "name"))
    found = definitions_of(list(current))
    return sorted(
        current[key]
        for key, definition in found.items()
        if any(action.type == "agent" for action in definition.actions.values())
    )


def ask_providers() -> Iterator[Finding]:
    """One small question to each provider of language models; it may cost a fraction of a cent."""
    from runners.agents.services import Services

    services = Services(settings.STROEM.agents.providers)
    if not settings.STROEM.agents.providers:
        yield warning("providers", "`agents.providers` names none")
    for name, provider in sorted(settings.STROEM.agents.providers.items()):
        try:
            if provider.type == "fake":
                services.model(name, None)
                yield ok(f"provider {name}", f"its answers stand in {provider.answers}")
                continue
            answer = services.try_out(name)
        except StroemError as error:
            yield problem(f"provider {name}", str(error))
        else:
            yield ok(f"provider {name}", f"{answer.model} answers after {answer.latency_s:.1f} s")


def _workspaces() -> Iterator[Finding]:
    from apps.workspaces.models import Workspace

    rows = list(Workspace.objects.failing_first())
    for row in rows:
        unbuilt = [found for found in row.problems if found.get("code") == UNBUILT]
        others = [found for found in row.problems if found not in unbuilt]
        if row.quarantine:
            yield problem("workspaces", f"{row.name}: {row.quarantine}")
        elif others:
            yield _troubled(row.name, others, has_failed=row.has_failed)
        elif row.current_id is None:
            yield warning("workspaces", f"{row.name}: not read yet")
        for found in unbuilt:
            yield warning("workspaces", f"{row.name}: {found['message']}")
    sound = sum(not row.problems and row.quarantine is None for row in rows)
    if sound or not rows:
        yield ok("workspaces", f"{sound} of {len(rows)} without problems")


def _triggers() -> Iterator[Finding]:
    from apps.triggers.services import troubles

    troubled = list(troubles())
    for name, trouble in troubled:
        yield warning("triggers", f"{name}: {trouble}")
    if not troubled:
        yield ok("triggers", "none is in trouble")


def _subscriptions() -> Iterator[Finding]:
    from apps.subscriptions.services import troubles

    for name, trouble in troubles():
        yield warning("subscriptions", f"{name}: {trouble}")


def _logs() -> Iterator[Finding]:
    from apps.artifacts.logs import standing

    found, limits = standing.standing(), settings.STROEM.logs
    if not found.is_on:
        here = "lines of ended jobs stay in the database"
        if limits.has_limits:
            told = f"{here}, so `logs.retain` and `logs.workspace_mb` remove nothing"
            yield warning("logs", f"{told}: name a storage under `storage`")
        else:
            yield ok("logs", f"{here}: name a storage under `storage` to move them there")
        return
    if found.error:
        told = f"for {found.failing_s / 60:.0f} minutes, no lines could be moved to the storage"
        waiting = f"ended jobs whose lines wait in the database: {found.waiting:,}"
        yield warning("logs", f"{told} ({found.error}); {waiting}")
        return
    sizes = standing.sizes()
    many = f"{sizes['lines']:,} lines, {sizes['bytes'] / 1024**2:,.1f} MB"
    yield ok("logs", f"in the storage, of ended jobs: {many} (jobs: {sizes['jobs']:,})")


def _troubled(name: str, problems: Sequence[Mapping[str, Any]], *, has_failed: bool) -> Finding:
    """The first problem in full, as the console prints it, and how many more there are."""
    first = min(problems, key=lambda found: found["severity"] != "error")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    state = "failed to load: " if has_failed else ""
    return warning("workspaces", f"{name}: {state}{first['text']}{more}")


def _broker() -> Iterator[Finding]:
    from kombu import Connection
    from kombu.exceptions import KombuError

    url = settings.STROEM.broker.url
    if not url:
        if settings.STROEM.db.url:
            yield problem("broker", "no broker is configured: set STROEM__BROKER__URL")
        return
    try:
        with Connection(url, connect_timeout=BROKER_WAITS_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_WAITS_S)
            yield ok("broker", f"{connection.transport.driver_type} answers")
    except (KombuError, OSError) as error:
        yield problem(
            "broker",
            f"cannot be reached ({type(error).__name__}): start it, or correct STROEM__BROKER__URL",
        )


def _docker() -> Iterator[Finding]:
    from runners.docker.connection import Connection

    trouble = Connection(None).find_trouble()
    if trouble is None:
        yield ok("docker", "an engine answers")
    else:
        yield warning("docker", f"{trouble}. Steps that need one can only run on other workers")


def examine_cluster(worker_file: Path | None) -> Iterator[Finding]:
    """Check the cluster of a worker with this configuration."""
    try:
        worker = load(worker_file, os.environ, data_dir=settings.STROEM.data_dir)
        if worker.kubernetes is None:
            where = worker_file or "the environment"
            yield ok(
                "kubernetes", f"no section in {where}: to check a cluster, use `--config FILE`"
            )
        else:
            yield from _cluster(worker, worker.kubernetes)
    except (StroemError, TypeError, ValueError) as error:
        yield problem("kubernetes", str(error))


def _cluster(worker: WorkerConfig, section: Mapping[str, Any]) -> Iterator[Finding]:
    from runners.pod.answers import ClusterAway, Denied, Refused
    from runners.pod.cluster import Cluster
    from runners.pod.config import PodConfig
    from runners.pod.rights import find_missing, find_objection

    config = PodConfig.from_section(
        section, owner=worker.worker_name, runner_image=worker.runner_image
    )
    cluster, place = Cluster(config), f"in namespace '{config.namespace}'"
    if worker.server_url is None:
        yield warning(
            "kubernetes", "scripts in pods cannot fetch their workspace: set `server_url`"
        )
    try:
        missing = list(find_missing(cluster))
        for right in missing:
            verbs = f"{' and '.join(right.verbs)} {right.resource}"
            amiss = problem if right.is_needed else warning
            yield amiss(
                "kubernetes", f"the account may not {verbs} {place}, so {right.without}: grant it"
            )
        if not any("create" in right.verbs and right.resource == "pods" for right in missing):
            objection = find_objection(cluster, config)
            if objection is not None:
                yield problem("kubernetes", f"a pod {place} would be refused: {objection}")
            elif not missing:
                yield ok("kubernetes", f"the API server answers and allows what steps need {place}")
    except Denied as error:
        remedy = "renew the account's credentials"
        yield problem("kubernetes", f"the API server refuses this account ({error}): {remedy}")
    except ClusterAway as error:
        remedy = "start it, or correct `kubeconfig` and `context` in the section `kubernetes:`"
        yield problem("kubernetes", f"{str(error).rstrip('.')}: {remedy}")
    except Refused as error:
        remedy = "allow it to create selfsubjectaccessreviews"
        yield problem("kubernetes", f"the API server refuses this account ({error}): {remedy}")


def _toolchains() -> Iterator[Finding]:
    for language, programs in TOOLCHAINS.items():
        found = next((path for program in programs if (path := shutil.which(program))), None)
        wanted = f"to run such steps on this machine, install {' or '.join(programs)}"
        level = ok if found else warning
        yield level("toolchain", f"{language}: {found or wanted}")


def _cells() -> Iterator[Finding]:
    from runners.guard import offspring, strays

    found = offspring.make_cells(strays.identify_keeper(os.getpid()))
    if found is not None:
        strays.remove_cells(found.root)
        yield ok("processes", "each local step gets a cgroup: nothing that it starts outlives it")
    else:
        yield ok(
            "processes",
            "no cgroups (v2) for this user: what a local step leaves running is found by its"
            " ancestry; for more, run the worker as root or with a delegated slice",
        )


def _disk() -> Iterator[Finding]:
    folder: Path = settings.STROEM.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    sentence = f"{free / 1024**3:.1f} GB free at {folder}"
    if free < NO_SPACE_BYTES:
        yield problem("disk", f"{sentence}: free some space, or logs and results will be lost")
    elif free < LOW_SPACE_BYTES:
        yield warning("disk", f"{sentence}: free some space soon")
    else:
        yield ok("disk", sentence)
