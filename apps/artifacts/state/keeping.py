"""Writes versions of states and reads the newest ones.

A state is locked by its row, the task's before the workspace's; what reads needs no lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.artifacts.models import FileSet, State, StateFile, StateVersion
from apps.jobs.database.sql import repaired
from apps.jobs.flow.contexts import redact_and_seal, reveal
from apps.jobs.models import Attempt
from apps.jobs.ports import Leaving
from engine import state as engine
from engine.state import Change, Kept, Seen

AGAIN = "Run the step again: `retry` on the step does that"
CURES = (
    f"{AGAIN}; or let the task's jobs follow each other with `state: {{on_conflict: serialize}}`,"
    " or take the last writer's value with `last_wins`"
)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who or what makes a version."""

    source: str
    job_id: UUID | None = None
    step_name: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A locked state, with its values in clear."""

    row: State
    kept: Kept
    hidden: tuple[str, ...]


class Shelf:
    """What `jobs` asks about states."""

    def seen(self, workspace_id: int, task_name: str) -> tuple[Seen, Seen]:
        """Of the task and of its workspace. One query, and one more for each that has files."""
        wanted = State.objects.filter(
            workspace_id=workspace_id, task_name__in={task_name, ""}
        ).select_related(None)
        found = {row.task_name: row for row in wanted}
        return _seen(found.get(task_name)), _seen(found.get(""))

    def keep(self, leaving: Leaving) -> str | None:
        claim, left = leaving.claim, leaving.left
        changes = [(claim.task_name, left.task), ("", left.workspace)]
        opened = [
            (locked(leaving.workspace_id, name), change)
            for name, change in changes
            if not change.is_empty
        ]
        for one, change in opened:
            refusal = _refusal(one, change, leaving)
            if refusal is not None:
                return refusal
        writer = Writer("step", claim.job_id, claim.step_name)
        for one, change in opened:
            record(one, change, writer, masks=leaving.masks)
        return None


def _seen(row: State | None) -> Seen:
    if row is None:
        return Seen()
    values, hidden = clear(row)
    return Seen(row.version, values, files_of(row.files_id), hidden, row.written)


def clear(row: State | StateVersion) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values with secrets in clear, and the secrets among them."""
    return reveal(row.sealed) if row.sealed is not None else (row.values, ())


def files_of(file_set: int | None) -> tuple[engine.StateFile, ...]:
    if file_set is None:
        return ()
    rows = StateFile.objects.filter(file_set=file_set).select_related("blob")
    return tuple(
        engine.StateFile(
            row.path, row.blob.size_bytes, row.blob.digest, row.is_program, row.blob_id
        )
        for row in rows
    )


def locked(workspace_id: int, task_name: str) -> Opened:
    """The state, locked until the transaction ends; made if it is new."""
    rows = State.objects.select_for_update(no_key=True)
    of = {"workspace_id": workspace_id, "task_name": task_name}
    row = rows.filter(**of).first()
    if row is None:
        State.objects.bulk_create([State(**of)], ignore_conflicts=True)
        row = rows.get(**of)
    values, hidden = clear(row)
    return Opened(row, Kept(row.version, values, row.written, row.files_written), hidden)


def record(
    opened: Opened,
    change: Change,
    writer: Writer,
    *,
    masks: Sequence[str] = (),
    files: FileSet | None = None,
) -> StateVersion:
    """Store the next version. `files`: an existing set in place of the change's own."""
    row, after = opened.row, opened.kept.after(change)
    shown, sealed = redact_and_seal(repaired(after.values), (*masks, *opened.hidden))
    if change.files is not None:
        row.files = files or _stored(row, change.files)
    row.version, row.values, row.sealed = after.version, shown, sealed
    row.written, row.files_written = repaired(after.written), after.files_written
    row.save()
    version = StateVersion.objects.create(
        state=row,
        number=row.version,
        values=shown,
        sealed=sealed,
        files=row.files,
        written=repaired(list(change.values)),
        removed=repaired(list(change.removed)),
        wrote_files=change.files is not None,
        base=change.base,
        source=writer.source,
        job_id=writer.job_id,
        step_name=writer.step_name,
        by=writer.by,
    )
    prune(row)
    return version


def prune(row: State) -> None:
    """Remove the versions beyond those that are kept, and sets of files that none has any more."""
    limits = settings.STROEM.state_storage
    most = limits.max_snapshots
    if not row.task_name and limits.global_max_snapshots is not None:
        most = limits.global_max_snapshots
    gone, _ = row.versions.filter(number__lte=row.version - most).delete()
    if gone:
        forget_files(row)


def forget_files(row: State) -> None:
    unused = row.file_sets.filter(versions=None)
    (unused.exclude(pk=row.files_id) if row.files_id else unused).delete()


def _stored(row: State, files: Iterable[engine.StateFile]) -> FileSet | None:
    found = list(files)
    if not found:
        return None
    made = FileSet.objects.create(
        state=row, count=len(found), size_bytes=sum(file.size for file in found)
    )
    StateFile.objects.bulk_create(
        [
            StateFile(file_set=made, path=file.path, is_program=file.is_program, blob_id=file.blob)
            for file in found
        ]
    )
    return made


# What is refused


def _refusal(opened: Opened, change: Change, leaving: Leaving) -> str | None:
    owner = f"task '{opened.row.task_name}'" if opened.row.task_name else "the workspace"
    if leaving.rule.on_conflict != "last_wins":
        base = _base_of(opened, leaving) if change.base is None else change.base
        lost = opened.kept.lost(change, base)
        if lost:
            what = ", ".join(lost)
            is_curable = opened.row.task_name and leaving.rule.on_conflict == "fail"
            cure = CURES if is_curable else AGAIN
            return (
                f"The state of {owner} was not changed, because this would overwrite {what}:"
                f" {_others(opened, base)} since the step saw version {base}. {cure}"
            )
    if broken := opened.kept.broken(change):
        return (
            f"The state of {owner} was not changed, because {', '.join(broken)} was written after"
            f" the version that `stroem-step state set --if-version` named. {AGAIN}"
        )
    return too_large(opened.kept.after(change), owner)


def too_large(kept: Kept, owner: str) -> str | None:
    size = len(json.dumps(kept.values, ensure_ascii=False).encode("utf-8", "replace"))
    if size <= engine.MOST_VALUE_BYTES:
        return None
    return (
        f"The state of {owner} was not changed, because its values would take {size:,} bytes of at"
        f" most {engine.MOST_VALUE_BYTES:,}; write large data to files in STATE_OUT_DIR"
    )


def _others(opened: Opened, base: int) -> str:
    later = opened.row.versions.filter(number__gt=base).first()
    if later is None:
        return f"version {opened.row.version} has come"
    whose = f"job {later.job_id}" if later.job_id else later.by or later.source
    return f"{whose} has made version {later.number}"


def _base_of(opened: Opened, leaving: Leaving) -> int:
    """The version that was the newest when the step was claimed, for one that has not looked."""
    claimed = Attempt.objects.values("claimed_at").get(pk=leaving.claim.attempt_id)["claimed_at"]
    later = opened.row.versions.filter(created_at__gt=claimed).order_by("number").first()
    return later.number - 1 if later else opened.row.version
