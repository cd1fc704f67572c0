"""One occasion of a trigger on its way to a job: what is decided, and what is written."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet

from apps.jobs import services as jobs
from apps.jobs.flow import blueprints
from apps.jobs.flow.contexts import redact
from apps.jobs.flow.starting import Birth, Origin
from apps.jobs.models import Job
from apps.triggers import transitions
from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import Occasion, sealed, waiting_row
from apps.workspaces.errors import SecretError, SecretsPending
from apps.workspaces.models import Revision
from apps.workspaces.revisions import secrets_of, sensitive_of
from engine import templating
from engine.errors import Conflict, NotFound, StaleMove, StroemError
from engine.lifecycle import OPEN_JOB, FiringEventKind, FiringStatus
from engine.spec.model import Trigger as Definition

log = logging.getLogger("stroem.triggers")
MOST_QUEUED = 1000
DEALT_WITH = "this occasion was dealt with already"
SOURCES = {"webhook": "webhook", "event_source": "event_source"}  # others: trigger


class Attempt:
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
        return jobs.create(self.prepare())

    def prepare(self) -> Birth:
        """What the job is to be; refused here, if it is refused at all."""
        revision = self._revision()
        values = templating.render_value(dict(self.definition.input), self._context(revision))
        origin = Origin(
            self.source, self.source_id, self.occasion.user_id, scheduled_at=self.occasion.slot
        )
        task, given = self.definition.starts, self.occasion.given
        is_event = self.occasion.cause == Firing.Cause.EVENT  # its `input:` is defaults
        return jobs.prepare(
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
            self.row.sealed = sealed(self.occasion)
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
