"""Queries the database a few times a second for all open pages together, while there are any.

Readers share each event; a reader that cannot keep up is dropped and resumes where it left off. No
reader holds a database connection, and no step ever waits for this code.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection
from django.db.models import F

from apps.jobs import ports
from apps.jobs.log import tails
from apps.jobs.log.cursors import Choice, Chunk
from apps.jobs.models import Job, Step
from apps.jobs.pages import pictures
from engine.lifecycle import JobStatus, OwnerKind, StepStatus

log = logging.getLogger("stroem.live")
PAUSE_S = 0.08
LONGEST_PAUSE_S = 0.25
SHARE = 4  # each look is followed by a pause this many times as long, up to the longest
STILL_AFTER_S = 5.0
PAUSE_AFTER_ERROR_S = 2.0
MOST_WAITING = 500
JOB_FIELDS = (
    "id", "status", "is_held", "blueprint_id", "open_steps", "error", "created_at", "started_at",
    "completed_at",
    "cancel_requested_at", "is_timed_out", "retry_job_id", "has_actions",
)  # fmt: skip


@dataclass(eq=False)
class Reader:
    """One open page: what it wants of its job, and the events queued for it. `inside`: the step
    whose progress it shows, beyond the moves of the step; 0 for none."""

    job_id: UUID
    choice: Choice | None
    inside: int = 0
    waiting: asyncio.Queue[Item] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    is_lost: bool = False

    def give(self, item: Item) -> None:
        if isinstance(item.of, Chunk) and (self.choice is None or not self.choice.wants(item.of)):
            return
        if item.inside and item.inside != self.inside:
            return
        try:
            self.waiting.put_nowait(item)
        except asyncio.QueueFull:
            self.is_lost = True


@dataclass(frozen=True, slots=True)
class Item:
    """An event ready to send, and its source: a batch of lines, or the state of the job."""

    text: str
    of: Chunk | None
    bare: str = ""  # the same without errors, if there are any
    is_over: bool = False
    inside: int = 0  # only for those who show the progress of this step

    def told(self, *, with_errors: bool) -> str:
        return self.text if with_errors else self.bare or self.text


class Hub:
    """The readers of one server process and the task that queries for them."""

    def __init__(self) -> None:
        self.readers: dict[UUID, set[Reader]] = {}
        self.watches: dict[UUID, tails.Watch] = {}
        self.marks: dict[int, str] = {}  # of the steps whose progress is shown
        self.told: set[UUID] = set()  # jobs whose lines the last look read
        # what readers know of what runs beside the steps
        self.beside: dict[UUID, list[dict[str, Any]]] = {}
        self.task: asyncio.Task[None] | None = None

    @contextmanager
    def joined(self, reader: Reader) -> Iterator[Reader]:
        self.readers.setdefault(reader.job_id, set()).add(reader)
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._look_again_and_again())
        try:
            yield reader
        finally:
            left = self.readers[reader.job_id]
            left.discard(reader)
            if not left:
                del self.readers[reader.job_id]

    async def _look_again_and_again(self) -> None:
        moved = time.monotonic()
        while self.readers:
            began = time.monotonic()
            try:
                with_logs = {
                    job_id
                    for job_id, readers in self.readers.items()
                    if any(reader.choice for reader in readers)
                }
                inside = {
                    reader.inside: job_id
                    for job_id, readers in self.readers.items()
                    for reader in readers
                    if reader.inside
                }
                items = await off_loop(self._look, set(self.readers), with_logs, inside)
            except DatabaseError as error:
                log.warning("cannot update live pages: %s", str(error).strip().splitlines()[:1])
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
                continue
            for job_id, item in items:
                for reader in tuple(self.readers.get(job_id, ())):
                    reader.give(item)
            now = time.monotonic()
            moved = now if items else moved
            await asyncio.sleep(pause_after(now - began, still_s=now - moved))
        self.watches.clear()
        self.marks.clear()

    def _look(
        self, job_ids: set[UUID], with_logs: set[UUID], inside: dict[int, UUID]
    ) -> list[tuple[UUID, Item]]:
        for gone in self.watches.keys() - job_ids:
            del self.watches[gone]
            self.beside.pop(gone, None)
        for new in job_ids - self.watches.keys():
            self.watches[new] = tails.watch(new)
        # new readers have read everything up to here themselves
        for new in with_logs & self.watches.keys() - self.told:
            self.watches[new].chunks = tails.watch(new).chunks
        self.told = with_logs
        found = tails.look(self.watches, with_logs)
        moved = {job_id: news.step_ids for job_id, news in found.items() if news.is_moved}
        items = [
            (job_id, state_item(job, moved[job_id], told=self.beside))
            for job_id, job in _jobs(moved).items()
        ]
        items += [
            (chunk.job_id, log_item(chunk)) for news in found.values() for chunk in news.chunks
        ]
        return items + self._progress(inside)

    def _progress(self, inside: dict[int, UUID]) -> list[tuple[UUID, Item]]:
        """What moved inside these steps; no query without any."""
        known, self.marks = self.marks, ports.progress(list(inside)) if inside else {}
        return [
            (inside[step_id], progress_item(step_id, mark))
            for step_id, mark in self.marks.items()
            if known.get(step_id) != mark
        ]


def pause_after(took_s: float, *, still_s: float) -> float:
    """The time to the next look: short, unless looks are slow (a large job, a busy database) or
    nothing happens."""
    return (
        LONGEST_PAUSE_S
        if still_s > STILL_AFTER_S
        else min(LONGEST_PAUSE_S, max(PAUSE_S, SHARE * took_s))
    )


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of this server process."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


async def pieces_of(source: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Piece by piece, in threads: a slow reader holds one piece, and no thread."""
    try:
        while (piece := await off_loop(next, source, None)) is not None:
            yield piece
    finally:
        await off_loop(source.close)


async def off_loop(function: Any, *args: Any) -> Any:
    """Run a function that uses the database in a thread, and return the connection at once."""

    def call() -> Any:
        try:
            return function(*args)
        finally:
            connection.close()

    return await sync_to_async(call, thread_sensitive=False)()


def _jobs(moved: dict[UUID, list[int]]) -> dict[UUID, Job]:
    return Job.objects.only(*JOB_FIELDS).in_bulk(list(moved)) if moved else {}


def state_item(
    job: Job,
    step_ids: list[int] | None = None,
    *,
    told: dict[UUID, list[dict[str, Any]]] | None = None,
) -> Item:
    """The state of the job: all of its nodes, or with `step_ids` only what changed with these
    steps. `told`: what readers already know of what runs beside the steps; it is left out until it
    changes."""
    picture = pictures.picture_of(job.blueprint_id)
    bases = None
    steps: list[dict[str, Any]] = []
    if step_ids is not None:
        steps = tails.step_rows([job.pk], step_ids).get(job.pk, [])
        bases = {step["base"] for step in steps}
    nodes = (
        pictures.counted(job.pk, picture, bases)
        if picture.is_drawn and (bases is None or bases)
        else {}
    )
    content = {
        "job": job_state(job),
        "totals": pictures.totals(job.pk),
        "nodes": nodes,
        "steps": steps[: tails.MOST_STEPS],
    }
    beside = ports.shown_beside(job)
    if job.has_actions and (told is None or told.get(job.pk) != beside):
        content["actions"] = beside
    if told is not None:
        told[job.pk] = beside
    is_over = job.completed_at is not None and not any(brief["is_open"] for brief in beside)
    bare = without_errors(content)
    return Item(
        event("state", content),
        None,
        bare=event("state", bare) if bare != content else "",
        is_over=is_over,
    )


def without_errors(content: dict[str, Any]) -> dict[str, Any]:
    """For readers who may not see what programs printed."""
    said = {
        **content,
        "job": {**content["job"], "error": ""},
        "steps": [{**step, "error": ""} for step in content["steps"]],
    }
    if "actions" in content:
        said["actions"] = [{**one, "reason": ""} for one in content["actions"]]
    return said


def job_state(job: Job) -> dict[str, Any]:
    return {
        "status": "held" if job.is_held else job.status,
        "error": job.error,
        "started": job.started_at.isoformat() if job.started_at else None,
        "ended": job.completed_at.isoformat() if job.completed_at else None,
        "stopping": _stopping(job),
        "failed_step": _failed_step(job) if job.status == JobStatus.FAILED else None,
    }


def _failed_step(job: Job) -> Mapping[str, Any] | None:
    """The first step that made the job fail: of a loop, the instance."""
    failed = Step.objects.filter(job_id=job.pk, status=StepStatus.FAILED)
    ended = failed.order_by("tolerates", "completed_at", F("loop_index").asc(nulls_last=True))
    return ended.values("id", "name", "kind").first()


def _stopping(job: Job) -> str:
    """What a job is called that has been asked to stop and has not ended; empty for others."""
    if job.cancel_requested_at is None or job.completed_at is not None:
        return ""
    return "timing out" if job.is_timed_out else "cancelling"


def log_item(chunk: Chunk) -> Item:
    lines = "[" + ",".join(line for line in chunk.lines.split("\n") if line) + "]"
    step = chunk.step_id if chunk.owner_kind == OwnerKind.STEP else 0
    text = (
        f'id: {chunk.id}\nevent: log\ndata: {{"chunk": {chunk.id}, "step": {step},'
        f' "lines": {lines}}}\n\n'
    )
    return Item(text, chunk)


def progress_item(step_id: int, mark: str) -> Item:
    content = {"step": step_id, "mark": mark}
    return Item(event("progress", content), None, inside=step_id)


def event(name: str, content: Any) -> str:
    """One Server-Sent Event."""
    return f"event: {name}\ndata: {json.dumps(content, ensure_ascii=False, default=str)}\n\n"
