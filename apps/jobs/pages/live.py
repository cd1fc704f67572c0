"""The stream of one job's page: its state, then changes; the lines of a log, then new ones."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils import timezone

from apps.accounts import sessions
from apps.jobs import ports
from apps.jobs.log import search, tails
from apps.jobs.log.archive import LogsAway
from apps.jobs.log.cursors import EVERYTHING, SETTLED_S, Choice, Chunk, Whose
from apps.jobs.models import Attempt, Job, Step, Unit
from apps.jobs.pages.hub import (
    JOB_FIELDS,
    Item,
    Reader,
    event,
    hub,
    log_item,
    off_loop,
    progress_item,
    state_item,
)
from apps.workspaces.rights import insist, sight_of
from engine.rights import NO_RIGHTS, Right, Rights

CHECK_EVERY_S = 20.0
KEEP_ALIVE_S = (
    10.0  # together half a minute: a stream ends within a minute of what ends its session
)
LINES_BEHIND = 5_000
FOUND_AT_ONCE = 200
ALL, SERVER, NO_LOG = "all", "server", "none"
_BESIDE = re.compile(r"action-([0-9]{1,18})(?:-([0-9]{1,18}))?")
FORBIDDEN = event("bye", {"reason": "You may no longer see this job."})
OVER = event("bye", {"reason": ""})


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who reads which log."""

    session_key: str
    job: Job
    choice: Choice | None
    inside: int = 0  # the step, if it moves inside
    with_errors: bool = True


async def stream(request: HttpRequest, job_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """Server-Sent Events. `log=` is a step's id, `all`, `server`, a workflow action (`action-ID`)
    or one run of it (`action-ID-RUN`); without it, only the state is sent."""
    ticket = await off_loop(admit, request, job_id, request.GET.get("log", ""))
    answer = StreamingHttpResponse(
        _told(ticket, _last_id(request)), content_type="text/event-stream"
    )
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


async def download(request: HttpRequest, job_id: UUID) -> StreamingHttpResponse | HttpResponse:
    """A log as a text file, read in pieces."""
    wanted = request.GET.get("log") or ALL
    ticket = await off_loop(_admit_to_lines, request, job_id, wanted)
    try:
        first = await off_loop(tails.piece, job_id, ticket.choice or EVERYTHING, 0)
    except LogsAway as error:
        return HttpResponse(f"{error}\n", status=503, content_type="text/plain; charset=utf-8")
    answer = StreamingHttpResponse(_text(ticket, first), content_type="text/plain; charset=utf-8")
    what = (
        f"step-{wanted}"
        if wanted.isascii() and wanted.isdigit()
        else "job"
        if wanted == ALL
        else wanted
    )
    answer.headers["Content-Disposition"] = f'attachment; filename="{job_id}-{what}.log"'
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def find(request: HttpRequest, job_id: UUID) -> JsonResponse:
    """Lines of a log that hold a text, as JSON. `log` as for the stream; `q`; `after`: `next` of
    the last answer."""
    ticket = _admit_to_lines(request, job_id, request.GET.get("log") or ALL)
    text = request.GET.get("q", "")
    try:
        place = search.Place.parse(request.GET.get("after") or "0")
    except ValueError:
        raise Http404("There is no such place in the log.") from None
    if not 1 <= len(text) <= search.LONGEST_TERM:
        told = f"Search for a text of 1 to {search.LONGEST_TERM} characters."
        return JsonResponse({"error": told}, status=400)
    try:
        found = search.find(job_id, ticket.choice or EVERYTHING, text, place, FOUND_AT_ONCE)
    except LogsAway as error:
        return JsonResponse({"error": str(error)}, status=503)
    hits = [asdict(hit) for hit in found.hits]
    return JsonResponse({"hits": hits, "next": str(found.next), "stopped": found.stopped})


def admit(request: HttpRequest, job_id: UUID, wanted: str) -> Ticket:
    """A ticket for a caller who may see this job, and read its logs if they are `wanted`. Raises
    Http404: what a caller must not see does not exist; and PermissionDenied."""
    if not admin.site.has_permission(request):
        raise Http404
    job = (
        Job.objects.only(*JOB_FIELDS, "workspace__name")
        .select_related("workspace")
        .filter(pk=job_id)
        .first()
    )
    rights = _rights(request, job)
    if job is None or Right.SEE not in rights:
        raise Http404
    if wanted not in ("", NO_LOG):
        insist(rights, Right.LOGS)
    key = request.session.session_key or ""
    if wanted.isascii() and wanted.isdigit():
        return Ticket(key, job, *_of_step(job, wanted))
    return Ticket(key, job, _choice(job, wanted), with_errors=Right.LOGS in rights)


def _admit_to_lines(request: HttpRequest, job_id: UUID, wanted: str) -> Ticket:
    if wanted == NO_LOG:  # a stream without lines needs no right on them; this is none
        raise Http404
    return admit(request, job_id, wanted)


def _rights(request: HttpRequest, job: Job | None) -> Rights:
    return sight_of(request.user).on(job.workspace.name, job.task_name) if job else NO_RIGHTS


def _of_step(job: Job, wanted: str) -> tuple[Choice, int]:
    """Its lines, and its id if there is more to it than its moves."""
    rows = Step.objects.filter(pk=int(wanted), job_id=job.pk) if len(wanted) <= 18 else None
    kind = None if rows is None else rows.values_list("kind", flat=True).first()
    if kind is None:
        raise Http404
    return Choice.of(Whose.STEP, int(wanted)), int(wanted) if ports.has_progress(kind) else 0


def _choice(job: Job, wanted: str) -> Choice | None:
    if wanted in ("", NO_LOG):
        return None
    if wanted == ALL:
        return EVERYTHING
    if wanted == SERVER:
        return Choice(Whose.SERVER)
    if beside := _BESIDE.fullmatch(wanted):
        return _choice_beside(job, int(beside[1]), beside[2])
    raise Http404


def _choice_beside(job: Job, id: int, run: str | None) -> Choice:
    if not ports.is_beside(job.pk, id):
        raise Http404
    if run is None:
        return Choice.of(Whose.ACTION, id)
    units = Unit.objects.filter(job_id=job.pk, owner_id=id).values("id")
    if not Attempt.objects.filter(pk=int(run), step_id__in=units).exists():
        raise Http404
    return Choice.of(Whose.ATTEMPT, int(run))


def _last_id(request: HttpRequest) -> int | None:
    text = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


async def _told(ticket: Ticket, last_id: int | None) -> AsyncIterator[str]:
    with hub().joined(Reader(ticket.job.pk, ticket.choice, ticket.inside)) as reader:
        yield "retry: 1000\n\n"
        now = await off_loop(_state, ticket.job.pk)
        yield now.told(with_errors=ticket.with_errors)
        if ticket.inside:
            for step_id, mark in (await off_loop(ports.progress, [ticket.inside])).items():
                yield progress_item(step_id, mark).text
        sent = _Sent()
        if ticket.choice is not None:
            try:
                async for text in _backfill(ticket, last_id, sent):
                    yield text
            except LogsAway as error:
                yield event("away", {"reason": str(error)})
            yield event("caught-up", {})
        async for text in _live(ticket, reader, sent.lacks, now):
            yield text


@dataclass(slots=True)
class _Sent:
    """What a reader has been given of what was stored: all of it after `floor`."""

    floor: int = 0
    ids: set[int] = field(default_factory=set)

    def lacks(self, chunk: Chunk) -> bool:
        return chunk.id > self.floor and chunk.id not in self.ids


async def _backfill(ticket: Ticket, last_id: int | None, sent: _Sent) -> AsyncIterator[str]:
    if last_id is None:
        sent.floor = await off_loop(tails.start_of_tail, ticket.job.pk, ticket.choice, LINES_BEHIND)
        if sent.floor:
            yield event("cut", {"lines": LINES_BEHIND})
    async for chunk in _stored(ticket, sent.floor, last_id):
        sent.ids.add(chunk.id)
        yield log_item(chunk).text


def _state(job_id: UUID) -> Item:
    return state_item(Job.objects.only(*JOB_FIELDS).get(pk=job_id))


async def _stored(ticket: Ticket, floor: int, last_id: int | None) -> AsyncIterator[Chunk]:
    """What is already stored: the last lines, or those after `last_id` with late commits before it.
    Batches may repeat; readers recognise them by number."""
    after = floor
    if last_id is not None:
        after = last_id
        for chunk in await off_loop(tails.late, ticket.job.pk, ticket.choice, last_id):
            yield chunk
    while pieces := await off_loop(tails.piece, ticket.job.pk, ticket.choice, after):
        for chunk in pieces:
            yield chunk
        after = pieces[-1].id


async def _live(
    ticket: Ticket, reader: Reader, is_new: Callable[[Chunk], bool], now: Item
) -> AsyncIterator[str]:
    checked = time.monotonic()
    over_since = _over_since(ticket.job) if now.is_over else None
    while not reader.is_lost:
        items = await _next(reader, KEEP_ALIVE_S if over_since is None else 1.0)
        for item in items:
            if item.inside:
                pass
            elif item.of is None:
                over_since = (over_since or time.monotonic()) if item.is_over else None
            elif not is_new(item.of):
                continue
            yield item.told(with_errors=ticket.with_errors)
        if not items:
            yield ": still here\n\n"
        if over_since is not None and time.monotonic() - over_since > SETTLED_S:
            yield OVER
            return
        if time.monotonic() - checked > CHECK_EVERY_S:
            if not await off_loop(_may_still, ticket):
                yield FORBIDDEN
                return
            checked = time.monotonic()


def _over_since(job: Job) -> float:
    """When the job ended, on this process's monotonic clock."""
    age_s = (timezone.now() - job.completed_at).total_seconds() if job.completed_at else 0.0
    return time.monotonic() - max(0.0, age_s)


async def _next(reader: Reader, within_s: float) -> list[Item]:
    """The queued items, at least one unless none comes in time."""
    try:
        items = [await asyncio.wait_for(reader.waiting.get(), within_s)]
    except TimeoutError:
        return []
    while not reader.waiting.empty():
        items.append(reader.waiting.get_nowait())
    return items


def _may_still(ticket: Ticket) -> bool:
    """Whether the session is still valid and its user may still see what they are told."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(ticket.session_key)
    if not sessions.holds(request.session):
        return False
    request.user = get_user(request)
    needed = {Right.SEE, Right.LOGS} if ticket.with_errors else {Right.SEE}
    return admin.site.has_permission(request) and needed <= _rights(request, ticket.job)


async def _text(ticket: Ticket, first: list[Chunk]) -> AsyncIterator[str]:
    """If lines cannot be read, the transfer breaks off after a sentence that says so."""
    choice, pieces = ticket.choice or EVERYTHING, first
    while pieces:
        yield "".join(_plain(pieces, with_step=choice.whose in (Whose.ALL, Whose.SERVER)))
        try:
            pieces = await off_loop(tails.piece, ticket.job.pk, choice, pieces[-1].id)
        except LogsAway as error:
            yield f"{error}\n"
            raise


def _plain(pieces: list[Chunk], *, with_step: bool) -> Iterator[str]:
    for chunk in pieces:
        for line in chunk.lines.split("\n"):
            if line:
                record: dict[str, Any] = json.loads(line)
                step = f" [{record['step']}]" if with_step else ""
                yield f"{record['ts']}{step} {record['line']}\n"
