"""The commands' port, implemented on the platform's database with an operator's rights."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, astuple, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet, TextField, Value
from django.db.models.functions import Now, NullIf

from apps.accounts.models import User
from apps.approvals import rights
from apps.approvals import services as approvals
from apps.approvals.errors import NotAllowed
from apps.approvals.transitions import Caller
from apps.audit import reading
from apps.audit import services as audit
from apps.connections import checks
from apps.fleet import matching, vitals
from apps.fleet.models import Worker
from apps.jobs import services
from apps.jobs.flow import restarts
from apps.jobs.log import search
from apps.jobs.log.cursors import EVERYTHING, Choice, Cursor, Piece, Whose, read
from apps.jobs.models import Attempt, Job, Step
from apps.jobs.upkeep.removal import remove_workspace
from apps.triggers import services as triggers
from apps.triggers import transitions
from apps.triggers.models import Trigger
from apps.triggers.snapshots import with_sources
from apps.workflow_actions import following, snapshots
from apps.workspaces import connections
from apps.workspaces import secrets as stored_secrets
from apps.workspaces import services as workspaces
from apps.workspaces.models import Secret, Workspace
from apps.workspaces.refreshing.rounds import refresh
from apps.workspaces.revisions import definition_of, definitions_of
from apps.workspaces.rights import sight_of
from console import port
from console.database_files import Files
from engine.errors import Conflict, InputError, NotFound
from engine.lifecycle import FiringStatus
from engine.rights import Right
from engine.spec.connection_types import uses_of
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean

JOB_LINE = (
    "pk", "status", "workspace__name", "task_name", "created_at", "started_at", "completed_at",
    "asked_at",
)  # fmt: skip
OR_NONE = NullIf("error", Value("", TextField()))


class Database(Files):
    """Implements `console.port.Platform` where this process can reach the database."""

    slowest_look_s = 0.5

    def __init__(self) -> None:
        audit.begin(audit.of_command())

    def audit(self, wanted: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        names = {**wanted}
        since, until = (_time(names.pop(name, None)) for name in ("since", "until"))
        rows = reading.exported(reading.chosen(names, since, until))
        return (reading.as_json(row) for row in rows)

    def job_ids(self, first: UUID, last: UUID, most: int) -> list[UUID]:
        found = Job.objects.filter(pk__gte=first, pk__lte=last)
        return list(found.order_by("pk").values_list("pk", flat=True)[:most])

    def jobs(
        self, *, workspace: str | None, task: str | None, status: str | None, limit: int
    ) -> list[port.JobLine]:
        given = {"workspace__name": workspace, "task_name": task, "status": status}
        wanted = {name: value for name, value in given.items() if value is not None}
        rows = Job.objects.filter(**wanted).order_by("-created_at", "-id").annotate(asked_at=Now())
        found = [port.JobLine(*row) for row in rows.values_list(*JOB_LINE)[:limit]]
        if not found:
            _check_names(workspace, task)
        return found

    def workspaces(self) -> list[port.WorkspaceLine]:
        rows = Workspace.objects.failing_first().select_related("current")
        return [_workspace_line(row) for row in rows.defer("current__definition")]

    def tasks(self, workspace: str | None) -> list[port.TaskLine]:
        _check_names(workspace, None)
        rows = Workspace.objects.filter(current__isnull=False).order_by("name")
        names = dict(rows.values_list("current_id", "name"))
        wanted = {key: name for key, name in names.items() if workspace in (None, name)}
        definitions = definitions_of(wanted)
        return [
            port.TaskLine(
                name,
                task,
                found.description or found.title or "",
                {
                    key: (one.type, one.required and not one.has_default)
                    for key, one in found.input.items()
                },
            )
            for key, name in wanted.items()
            for task, found in sorted(definitions[key].tasks.items())
        ]

    def job(self, job_id: UUID) -> port.JobView:
        job = Job.objects.select_related("workspace").get(pk=job_id)
        steps = Step.objects.filter(job_id=job_id).order_by("position", "loop_index", "id")
        columns = steps.values_list(
            "pk", "name", "status", "started_at", "completed_at", OR_NONE, "retry_at"
        )
        attempts = _attempts(steps)
        return port.JobView(
            job.pk, job.workspace.name, job.task_name, job.status, job.error or None,
            job.created_at, job.started_at, job.completed_at,
            [
                port.StepLine(name, status, begun, ended, error, retry_at, attempts[pk])
                for pk, name, status, begun, ended, error, retry_at in columns
            ],
            snapshots.actions_of(job),
            [_request(row) for row in rights.open_of(job_id)],
        )  # fmt: skip

    def triggers(self, workspace: str | None) -> list[port.TriggerLine]:
        _check_names(workspace, None)
        rows = Trigger.objects.select_related("workspace").order_by("workspace__name", "name")
        if workspace is not None:
            rows = rows.filter(workspace__name=workspace)
        now = transitions.database_now()
        return [
            port.TriggerLine(
                row.workspace.name,
                row.name,
                triggers.state_of(row),
                row.kind,
                triggers.described(row),
                row.task,
                triggers.next_runs(row, now),
                row.last_fired_at,
                row.failures,
                row.last_error,
            )
            for row in with_sources(rows)
        ]

    def act_on_trigger(self, workspace: str, name: str, what: str, email: str | None) -> str:
        _check_names(workspace, None)
        row = Trigger.objects.filter(workspace__name=workspace, name=name).first()
        if row is None:
            names = Trigger.objects.filter(workspace__name=workspace).values_list("name", flat=True)
            hint = did_you_mean(name, names)
            raise NotFound(f"Workspace '{workspace}' has no trigger '{name}'{hint}")
        user = _operator(email, workspace, row.task)
        by = user.email if user else "operator"
        if what == "fire":
            found = triggers.fire_by_hand(row.pk, user=user, by=by)
            if found.job_id is None and found.status != FiringStatus.WAITING:
                raise Conflict(f"No job was started: {found.reason}")
            return str(found.job_id or f"The trigger fired; it {found.reason}.")
        if what in ("send-again", "discard"):
            done = triggers.deal_with(row.pk, "all", what, by=by)
            return port.dealt([(one.status, one.reason) for one in done])
        (triggers.pause if what == "pause" else triggers.resume)(row.pk, by=by)
        return f"Trigger '{name}' " + ("is paused." if what == "pause" else "fires again.")

    def state(self, workspace: str, task: str, version: int | None) -> port.StateView:
        from console import database_states

        return database_states.view(_owner_of_state(workspace, task), task, version)

    def state_history(self, workspace: str, task: str) -> list[port.StateVersionLine]:
        from console import database_states

        return database_states.versions(_owner_of_state(workspace, task), task)

    def restore_state(self, workspace: str, task: str, version: int, email: str | None) -> int:
        from console import database_states

        workspace_id = _owner_of_state(workspace, task)
        user = _operator(email, workspace, task, Right.RUN if task else Right.MANAGE)
        by = user.email if user else "operator"
        return database_states.restore(workspace_id, task, version, by)

    def log(
        self, job_ids: Collection[UUID], after: str, *, step: str = "", action: str = ""
    ) -> port.LogPiece:
        choice = _part_of_log(job_ids, step, action) if step or action else EVERYTHING
        return _piece(read(job_ids, Cursor.parse(after), choice))

    def search_log(self, job_id: UUID, text: str, after: str, step: str = "") -> port.LogMatches:
        choice = _part_of_log([job_id], step, "") if step else EVERYTHING
        found = search.find(job_id, choice, text, search.Place.parse(after), search.MOST_HITS)
        lines = [port.LogLine(job_id, hit.step, hit.line) for hit in found.hits]
        return port.LogMatches(lines, str(found.next), found.stopped != search.Stop.END)

    def news(self, root: UUID, after: str, known_actions: Collection[int]) -> port.News:
        found = following.news(root, Cursor.parse(after), known_actions)
        return port.News(
            found.relatives,
            found.steps,
            [port.ActionNews(*astuple(action)) for action in found.actions],
            _piece(found.log),
            found.has_ended,
        )

    def result(self, job_id: UUID) -> port.JobResult:
        job = Job.objects.get(pk=job_id)
        while job.retry_job_id is not None:
            job = Job.objects.get(pk=job.retry_job_id)
        return port.JobResult(job.pk, job.status, job.error, job.output)

    def step_results(self, job_id: UUID) -> dict[str, port.StepResult]:
        rows = Step.objects.filter(job_id=job_id).order_by("position", "id")
        columns = rows.values_list("name", "status", "output", OR_NONE)
        return {name: port.StepResult(*values) for name, *values in columns}

    def start(
        self,
        workspace: str,
        task: str,
        given: Mapping[str, Any],
        source: str,
        email: str | None = None,
    ) -> UUID:
        user = _operator(email, workspace, task)
        by = {"source_id": source} if user is None else {"user": user}
        try:
            return services.start_job(workspace, task, given, source_type="user", **by).pk
        except NotFound as error:
            _check_names(workspace, task, str(error))
            raise

    def cancel(self, job_id: UUID, email: str | None = None) -> None:
        user = _operator(email, *_task_of(job_id))
        services.cancel_job(job_id, actor=user.email if user else "operator")

    def rerun(self, job_id: UUID, email: str | None) -> UUID:
        return services.rerun_job(job_id, actor=_operator(email, *_task_of(job_id))).pk

    def restart_failed(self, job_id: UUID, email: str | None) -> None:
        user = _operator(email, *_task_of(job_id))
        restarts.restart_failed(job_id, actor=user.email if user else "operator")

    def person(self, email: str | None) -> str:
        return _person(email).email

    def decide(self, job_id: UUID, step: str, email: str, verdict: port.Verdict) -> port.Decision:
        caller = Caller(_person(email), "cli", audit.of_command().address)
        request = approvals.request_of(job_id, step)
        try:
            decided = approvals.decide(request.pk, caller, **asdict(verdict))
        except NotAllowed as error:
            raise Conflict(str(error)) from error
        return port.Decision(decided.status, decided.approvals, decided.needed)

    def workers(self, *, with_gone: bool) -> list[port.WorkerLine]:
        chosen = Worker.objects.all() if with_gone else vitals.here()
        rows = chosen.order_by("-started_at", "id").annotate(asked_at=Now())
        return [
            port.WorkerLine(
                row.pk, row.name, getattr(row, "state"), row.tags, row.busy, row.slots, row.version,  # noqa: B009  (annotated)
                (getattr(row, "asked_at") - row.heartbeat_at).total_seconds(),  # noqa: B009  (annotated)
            )
            for row in vitals.with_vitals(rows)
        ]  # fmt: skip

    def libraries(self, workspace: str | None) -> list[port.LibraryLine]:
        from console import database_libraries

        return database_libraries.listed(_workspace(workspace) if workspace else None)

    def refresh_libraries(self, workspace: str, name: str | None) -> None:
        from console import database_libraries

        database_libraries.refresh(_workspace(workspace), name, audit.of_command().address)

    def secrets(self, workspace: str) -> list[port.SecretLine]:
        rows = Secret.objects.filter(workspace=_workspace(workspace)).order_by("name")
        return [
            port.SecretLine(*row) for row in rows.values_list("name", "updated_at", "updated_by")
        ]

    def store_secret(self, workspace: str, name: str, value: str) -> None:
        by = audit.of_command().address
        stored_secrets.store_secret(_workspace(workspace), name, value, by=by)

    def remove_secret(self, workspace: str, name: str) -> None:
        stored_secrets.remove_secret(_workspace(workspace), name)

    def connections(self, workspace: str) -> list[port.ConnectionLine]:
        row = _workspace(workspace)
        definition = definition_of(row.current_id) if row.current_id else Definition()
        uses, last = uses_of(definition), checks.last_checks([row])
        return [
            port.ConnectionLine(
                one.name,
                one.type,
                one.source,
                one.overrides,
                one.row.version if one.row else None,
                len(uses.get(one.name, ())),
                job.status if (job := last.get((row.pk, one.name))) else None,
                one.advice or None,
            )
            for one in connections.connections_in(row, definition).values()
        ]

    def store_connection(
        self, workspace: str, name: str, kind: str | None, values: Mapping[str, Any]
    ) -> int:
        row, by = _workspace(workspace), audit.of_command().address
        adds, kind = kind is None, kind or connections.kind_of(row, name)
        return connections.store(row, name, kind, values, by=by, adds=adds).version

    def remove_connection(self, workspace: str, name: str) -> bool:
        return connections.remove(_workspace(workspace), name)

    def check_connection(self, workspace: str, name: str, email: str | None) -> UUID:
        user = _operator(email, workspace, checks.task_of(name))
        return checks.start(_workspace(workspace), name, user).pk

    def remove_workspace(self, name: str) -> int:
        _check_names(name, None)
        return remove_workspace(name)

    def takers(self, tag_set: str, workspace: str) -> list[str]:
        return matching.takers(tag_set, workspace)

    def unserved(self, workspace: str) -> str | None:
        return matching.unserved(workspace)

    def connection_notes(self, workspace: str, definition: Definition) -> list[str]:
        names = Workspace.objects.values_list("name", flat=True)
        if workspace not in names:
            return [f"No workspace '{workspace}' is imported here{did_you_mean(workspace, names)}."]
        return connections.notes(workspace, definition)

    def import_folder(self, name: str, path: Path, directory: str = "") -> port.Imported:
        read = partial(refresh, waits=True)
        row = workspaces.import_folder(name, path, directory=directory, read=read)
        found = _imported(row)
        tasks = definition_of(row.current.pk).tasks.values() if row.current else ()
        if directory and not any(task.source_format == "torc" for task in tasks):
            told = "--chdir has no effect: no task comes from a Torc file"
            return replace(found, problems=[*found.problems, told])
        return found

    def import_git(self, name: str, address: str, ref: str, credential: str) -> port.Imported:
        read = partial(refresh, waits=True)
        found = workspaces.import_git(name, address, ref, credential, is_local=True, read=read)
        return _imported(found)


def _piece(piece: Piece) -> port.LogPiece:
    lines = [
        port.LogLine(job_id, record["step"], record["line"])
        for job_id, chunk in piece.chunks
        for record in map(json.loads, filter(None, chunk.split("\n")))
    ]
    return port.LogPiece(lines, str(piece.next), piece.has_more)


def _workspace(name: str) -> Workspace:
    _check_names(name, None)
    return Workspace.objects.get(name=name)


def _attempts(steps: QuerySet[Step]) -> Mapping[int, list[port.AttemptLine]]:
    """The attempts of these steps, of those only that were tried more than once, or will be."""
    tried = steps.filter(Q(fence__gt=1) | Q(retry_at__isnull=False)).order_by()
    rows = Attempt.objects.filter(step_id__in=tried.values("pk")).order_by("step_id", "fence")
    names = dict(
        Worker.objects.filter(pk__in=rows.order_by().values("worker_id")).values_list("pk", "name")
    )
    found: defaultdict[int, list[port.AttemptLine]] = defaultdict(list)
    for row in rows:
        line = port.AttemptLine(
            row.status, names.get(row.worker_id, ""), row.exit_code, row.error or None,
            row.started_at or row.claimed_at, row.ended_at,
        )  # fmt: skip
        found[row.step_id].append(line)
    return found


def _part_of_log(job_ids: Collection[UUID], step: str, action: str) -> Choice:
    """What of the job's log is meant."""
    (job_id,) = job_ids
    if action:
        job = Job.objects.get(pk=job_id)
        return Choice.of(Whose.ACTION, *snapshots.actions_called(job, action))
    if step == port.SERVER:
        return Choice(Whose.SERVER)
    found = Step.objects.filter(job_id=job_id, name=step).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"Job {job_id} has no step '{step}'")
    return Choice.of(Whose.STEP, found)


def _person(email: str | None) -> User:
    if email is None:
        user = rights.only_person()
        if user is None:
            raise InputError({"as": "give --as EMAIL: there is no account, or more than one"})
        return user
    user = rights.person(email)
    if user is None:
        raise InputError(
            {"as": f"--as: there is no active user {email[:100]}; give the e-mail of an account"}
        )
    return user


def _operator(
    email: str | None, workspace: str, task: str, needed: Right = Right.RUN
) -> User | None:
    if email is None:
        return None
    user = _person(email)
    if needed not in sight_of(user).on(workspace, task):
        what = f"task '{task}' of {workspace}" if task else workspace
        raise InputError({"as": f"--as: {user.email} lacks the right '{needed}' on {what}"})
    return user


def _owner_of_state(workspace: str, task: str) -> int:
    """The id of the workspace. Raises NotFound."""
    _check_names(workspace, task or None)
    return Workspace.objects.values_list("pk", flat=True).get(name=workspace)


def _request(row: Any) -> port.RequestLine:
    return port.RequestLine(
        row.step_name, rights.asked_in_words(row), row.created_at, row.deadline_at, row.about,
        row.summary or row.message, row.given, row.min_approvals, row.asked_at,
    )  # fmt: skip


def _task_of(job_id: UUID) -> tuple[str, str]:
    job = Job.objects.select_related("workspace").get(pk=job_id)
    return job.workspace.name, job.task_name


def _check_names(workspace: str | None, task: str | None, said: str = "") -> None:
    """Raises NotFound for a workspace, or a task of it, that does not exist. `said`: what has been
    found out so far."""
    rows = Workspace.objects.order_by("name")
    names = list(rows.values_list("name", flat=True))
    if workspace is not None and workspace not in names:
        said = said or f"There is no workspace '{workspace[:100]}'"
        raise NotFound(f"{said}{did_you_mean(workspace, names)}: `manage.py workspaces` lists them")
    if task is None:
        return
    chosen = rows if workspace is None else rows.filter(name=workspace)
    current = [key for key in chosen.values_list("current_id", flat=True) if key is not None]
    known = sorted({name for one in definitions_of(current).values() for name in one.tasks})
    # a task of former days may have left jobs
    if task not in known and not Job.objects.filter(workspace__in=chosen, task_name=task).exists():
        said = said or f"There is no task '{task[:100]}'"
        raise NotFound(f"{said}{did_you_mean(task, known)}: `manage.py tasks` lists them")


def _workspace_line(row: Workspace) -> port.WorkspaceLine:
    state = "failed" if row.has_failed else "warnings" if row.problems else "loaded"
    if row.quarantine:
        state = "quarantine"
    return port.WorkspaceLine(
        row.name,
        state,
        row.source,
        row.location,
        (row.current.label or row.current.digest)[:12] if row.current else None,
        row.checked_at,
        len(definition_of(row.current.pk).tasks) if row.current else 0,
        _problems(row),
    )


def _problems(row: Workspace) -> list[str]:
    texts = [problem["text"] for problem in row.problems]
    return [row.quarantine, *texts] if row.quarantine else texts


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _imported(workspace: Workspace) -> port.Imported:
    revision = workspace.current
    return port.Imported(
        workspace.name,
        _problems(workspace),
        workspace.has_failed,
        (revision.label or revision.digest)[:12] if revision else None,
        sorted(definition_of(revision.pk).tasks) if revision else [],
    )
