"""Fires a trigger: renders its input and starts the job, in one transaction with the record of it.

A slot or a key exists once per trigger, so every occasion starts at most one job, however many
processes report it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet

from apps.jobs import services as jobs
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.creation import Origin
from apps.jobs.flow.redaction import redact
from apps.jobs.models import Job
from apps.triggers import transitions
from apps.triggers.errors import NotListed
from apps.triggers.models import Firing, Trigger
from apps.workspaces.errors import SecretError, SecretsPending
from apps.workspaces.models import Revision
from apps.workspaces.sealing import seal, unseal
from apps.workspaces.secrets import secrets_of, sensitive_of
from engine import templating
from engine.errors import Conflict, NotFound, StaleMove, StroemError
from engine.lifecycle import OPEN_JOB, FiringEventKind, FiringStatus
from engine.spec.model import Trigger as Definition

log = logging.getLogger("stroem.triggers")
MOST_QUEUED = 1000
DEALT_WITH = "this occasion was dealt with already"
UNTOUCHED = "waits its turn"  # the end of a job left it; nothing was decided yet
SOURCES = {"webhook": "webhook", "event_source": "event_source"}  # others: trigger


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a trigger fires. `context` is what its templates read, `given` are values beside its
    `input:`, which wins; `allow_unknown`: they need not be declared."""

    cause: Firing.Cause
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    slot: datetime | None = None
    key: str = ""
    by: str = ""
    user_id: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    allow_unknown: bool = False
    hidden: tuple[str, ...] = field(default=(), repr=False)  # secret values in the context

    @property
    def is_by_hand(self) -> bool:
        return self.cause == Firing.Cause.HAND


def fire(trigger_id: int, occasion: Occasion) -> Firing:
    """What becomes of this occasion: a job, a wait, or the reason why there is none. The same slot
    or key again brings the first one. Raises NotFound, and NotListed for a trigger that is gone."""
    return fire_or_find(trigger_id, occasion)[0]


def fire_or_find(trigger_id: int, occasion: Occasion) -> tuple[Firing, bool]:
    """The same, and whether this slot or key had been dealt with before."""
    found, is_repeat = _fire(trigger_id, occasion)
    found.refresh_from_db()
    return found, is_repeat


@retried
def _fire(trigger_id: int, occasion: Occasion) -> tuple[Firing, bool]:
    trigger = transitions.locked(trigger_id)
    if trigger is None:
        raise NotFound(f"Trigger {trigger_id} not found")
    if not trigger.is_listed:
        raise NotListed(
            f"The files of workspace '{trigger.workspace}' do not have trigger"
            f" '{trigger.name}' any more"
        )
    first = _first(trigger, occasion)
    if first is not None:
        return first, True
    return fire_locked(trigger, occasion, transitions.database_now()), False


def fire_locked(trigger: Trigger, occasion: Occasion, now: datetime) -> Firing:
    """The same, with the trigger locked in the open transaction."""
    first = _first(trigger, occasion)
    if first is not None:
        return first
    row = Firing(
        trigger=trigger, cause=occasion.cause, slot=occasion.slot, key=occasion.key, by=occasion.by
    )
    attempt = _Attempt(trigger, occasion, row, now)
    attempt.begin()
    return attempt.row


def _first(trigger: Trigger, occasion: Occasion) -> Firing | None:
    rows = Firing.objects.filter(trigger=trigger)
    if occasion.slot is not None:
        return rows.filter(slot=occasion.slot).first()
    return rows.filter(key=occasion.key).first() if occasion.key else None


@retried
def resume(firing_id: int, trigger_id: int, now: datetime) -> bool:
    """Go on with a firing that waited; False if it waits still."""
    trigger = transitions.locked(trigger_id)
    row = Firing.objects.filter(pk=firing_id, status=FiringStatus.WAITING).first()
    if trigger is None or row is None or row.sealed is None:
        return False
    if not trigger.is_live:
        reason = "the trigger was paused, disabled or removed while this waited"
        return transitions.move(row, FiringEventKind.SKIPPED, reason=reason)
    occasion = _opened(row)
    if row.cause == Firing.Cause.JOB and row.reason == UNTOUCHED:
        row.delete()  # from here on as if the job had ended just now
        fire_locked(trigger, occasion, now)
        return True
    return _Attempt(trigger, occasion, row, now).go_on()


def bury(trigger: Trigger, occasion: Occasion, reason: str, now: datetime) -> None:
    """Keep an event of which no job can be made, with its trigger locked in the open
    transaction."""
    row = Firing(trigger=trigger, cause=occasion.cause, key=occasion.key)
    _Attempt(trigger, occasion, row, now).refuse(StroemError(reason))


def send_again(trigger: Trigger, row: Firing, by: str, now: datetime) -> None:
    """Make a job of a dead letter, with its trigger locked in the open transaction."""
    if not transitions.move(row, FiringEventKind.SENT_AGAIN, keeps=True):
        raise StaleMove(DEALT_WITH)
    row.by = by
    row.save(update_fields=["by"])
    _Attempt(trigger, _opened(row), row, now).go_on()


def is_readable(row: Firing) -> bool:
    """Whether a dead letter is an event, and no line that could not be read."""
    return row.sealed is not None and "event" in _opened(row).context


def _sealed(occasion: Occasion) -> bytes:
    kept = {
        "context": dict(occasion.context),
        "given": dict(occasion.given),
        "user_id": occasion.user_id,
        "allow_unknown": occasion.allow_unknown,
        "hidden": list(occasion.hidden),
    }
    return seal(kept)


def waiting_row(trigger: Trigger, occasion: Occasion, now: datetime, reason: str) -> Firing:
    """A firing that waits, not written yet; its occasion is sealed with it."""
    return Firing(
        trigger=trigger,
        cause=occasion.cause,
        slot=occasion.slot,
        key=occasion.key,
        by=occasion.by,
        status=FiringStatus.WAITING,
        reason=reason,
        due_at=now,
        sealed=_sealed(occasion),
    )


def _opened(row: Firing) -> Occasion:
    kept = unseal(row.sealed or b"")
    return Occasion(
        Firing.Cause(row.cause),
        kept["context"],
        row.slot,
        row.key,
        row.by,
        kept["user_id"],
        kept["given"],
        kept["allow_unknown"],
        tuple(kept["hidden"]),
    )


class _Attempt:
    """One occasion of a locked trigger, on its way to a job."""

    def __init__(self, trigger: Trigger, occasion: Occasion, row: Firing, now: datetime) -> None:
        self.trigger = trigger
        self.occasion = occasion
        self.row = row
        self.now = now
        self.definition: Definition = trigger.described
        self.source = SOURCES.get(trigger.kind, "trigger")
        self.source_id = f"{trigger.workspace.name}/{trigger.name}"

    # -- decisions

    def begin(self) -> None:
        options = self.definition.options
        try:
            self.row.idempotency = self._idempotency()
        except SecretsPending:  # nothing is known yet: the occasion is looked at again
            raise
        except StroemError as error:
            return self.refuse(error)
        same = self._same()
        if same is not None:
            self.row.job_id = same.job_id
            when = f"{same.created_at:%Y-%m-%d %H:%M:%S} UTC"
            return self._end(FiringEventKind.SKIPPED, f"the same idempotency_key as at {when}")
        debounce_s = options.get("debounce")
        if debounce_s and not self.occasion.is_by_hand:
            transitions.supersede_waiting(self.trigger.pk, "another one came before it was quiet")
            return self._wait(timedelta(seconds=debounce_s), "waits until it is quiet")
        if options.get("force_refresh"):
            return self._wait(timedelta(), "waits until the workspace was read again")
        self.go_on()
        return None

    def go_on(self) -> bool:
        """Start the job, unless jobs of an earlier time are in the way; False if it waits."""
        concurrency = self.definition.options.get("concurrency", "allow")
        others = [] if concurrency == "allow" or self.occasion.is_by_hand else self._open_jobs()
        if others and concurrency == "skip":
            self._end(FiringEventKind.SKIPPED, f"job {others[0]} is still open")
            return True
        if concurrency == "queue" and (others or self._ahead().exists()):
            if self.row.pk is None and self._ahead().count() >= MOST_QUEUED:
                reason = f"{MOST_QUEUED} runs wait in the queue already"
                self._end(FiringEventKind.SKIPPED, reason)
                return True
            self._wait(timedelta(), "waits for the job before it")
            return False
        if others and concurrency == "cancel_previous":
            self._cancel(others)
        self._start()
        return True

    def _open_jobs(self) -> list[UUID]:
        """Those that the trigger started, and the runs that retry one of them."""
        own = Job.objects.filter(source_type=self.source, source_id=self.source_id)
        found = Q(pk__in=own.filter(status__in=OPEN_JOB).values("pk"))
        found |= Q(source_type="retry", retry_of_id__in=own.values("pk"))
        rows = Job.objects.filter(found, status__in=OPEN_JOB)
        return list(rows.order_by("id").values_list("id", flat=True))

    def _ahead(self) -> QuerySet[Firing]:
        """The firings before this one in the queue."""
        waiting = Firing.objects.filter(trigger=self.trigger, status=FiringStatus.WAITING)
        return waiting.filter(pk__lt=self.row.pk) if self.row.pk else waiting

    def _cancel(self, job_ids: list[UUID]) -> None:
        for job_id in job_ids:
            try:
                jobs.cancel_job(
                    job_id, actor="", reason=f"Trigger '{self.trigger.name}' fired again"
                )
            except Conflict:
                continue  # it has ended in the meantime

    def _idempotency(self) -> str:
        template = self.definition.options.get("idempotency_key")
        if template is None or self.occasion.is_by_hand:
            return ""
        text = str(templating.render(template, self._context(self._revision())))
        return hashlib.sha256(text.encode()).hexdigest() if text.strip() else ""

    def _same(self) -> Firing | None:
        if not self.row.idempotency:
            return None
        since = self.now - timedelta(seconds=self.definition.options["idempotency_window"])
        rows = Firing.objects.filter(
            trigger=self.trigger, idempotency=self.row.idempotency, created_at__gt=since
        )
        kept = (FiringStatus.STARTED, FiringStatus.WAITING)
        return rows.filter(status__in=kept).order_by("-created_at").first()

    # -- what is written

    def _start(self) -> None:
        try:
            with transaction.atomic():
                job = self._launch()
        except SecretsPending:
            raise
        except StroemError as error:
            self.refuse(error)
        except DatabaseError:
            raise  # the transaction is lost; its owner retries
        except Exception as error:  # an outer edge: a broken trigger must not stop the others
            log.exception("trigger %s could not start its job", self.source_id)
            self.refuse(StroemError(f"the server failed ({type(error).__name__}); see its log"))
        else:
            self._end(FiringEventKind.STARTED, job=job.id)
            transitions.note_started(self.trigger.pk, job.id, self.now)

    def _launch(self) -> Job:
        revision = self._revision()
        values = templating.render_value(dict(self.definition.input), self._context(revision))
        origin = Origin(
            self.source, self.source_id, self.occasion.user_id, scheduled_at=self.occasion.slot
        )
        task, given = self.definition.starts, self.occasion.given
        is_event = self.occasion.cause == Firing.Cause.EVENT  # its `input:` is defaults
        return jobs.launch(
            revision,
            task,
            blueprints.of_task(revision.pk, task),
            {**values, **given} if is_event else {**given, **values},
            origin,
            allow_unknown=self.occasion.allow_unknown,
            hidden=self.occasion.hidden,
        )

    def _revision(self) -> Revision:
        workspace = self.trigger.workspace
        if workspace.current_id is None:
            raise NotFound(f"Workspace '{workspace.name}' has no usable revision")
        return Revision(id=workspace.current_id, workspace_id=workspace.pk)

    def _context(self, revision: Revision) -> dict[str, Any]:
        secrets = secrets_of(revision)
        about = {
            "name": self.trigger.name,
            "type": self.trigger.kind,
            "workspace": self.trigger.workspace.name,
        }
        return {**self.occasion.context, "trigger": about, "secret": secrets, "secrets": secrets}

    def refuse(self, error: StroemError) -> None:
        reason = str(redact(str(error), (*self._masks(), *self.occasion.hidden)))
        if self.occasion.cause == Firing.Cause.EVENT:  # its sender has forgotten it by now
            self.row.sealed = _sealed(self.occasion)
            self._end(FiringEventKind.DIED, reason)
        else:
            self._end(FiringEventKind.REFUSED, reason)
        transitions.note_refused(self.trigger.pk, reason, self.now)

    def _masks(self) -> tuple[str, ...]:
        current = self.trigger.workspace.current_id
        try:
            return sensitive_of(current) if current is not None else ()
        except SecretError:
            return ()

    def _end(self, event: FiringEventKind, reason: str = "", job: UUID | None = None) -> None:
        if self.row.pk is not None:
            keeps = event is FiringEventKind.DIED
            is_noted = transitions.move(self.row, event, reason=reason, job=job, keeps=keeps)
        else:
            self.row.job_id = job or self.row.job_id
            is_noted = transitions.write_ended(self.row, event, reason, self.now)
        if not is_noted:
            raise StaleMove(DEALT_WITH)  # and the job is taken back

    def _wait(self, wait: timedelta, reason: str) -> None:
        if self.row.pk is not None:
            return  # it waits already
        key, self.row = (
            self.row.idempotency,
            waiting_row(self.trigger, self.occasion, self.now + wait, reason),
        )
        self.row.idempotency = key
        if not transitions.write(self.row, self.now):
            raise StaleMove(DEALT_WITH)
