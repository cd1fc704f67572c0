"""Webhooks: a request becomes at most one job, and a line in the trigger's list of deliveries.

Nothing of the request is believed before its sender is verified, and no credential in it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.audit.services import note
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Job
from apps.triggers import firing, transitions
from apps.triggers.models import Delivery, Firing, Trigger
from apps.triggers.occasions import Occasion
from apps.workspaces.errors import SecretError
from apps.workspaces.revisions import secrets_of, sensitive_of, webhook_secret
from apps.workspaces.sealing import seal, unseal
from engine import templating, webhooks
from engine.errors import Conflict, NotFound, TemplateError
from engine.lifecycle import FINAL_JOB, FiringStatus, JobStatus
from engine.webhooks import NotVerified, Received

NOT_FOUND = "Webhook not found"
SEVERAL = "Several workspaces have a webhook of this name: put the workspace's name before it"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request. `follow`: a job whose end the caller wants to hear of, for at most
    `wait_s` seconds."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    follow: UUID | None = None
    wait_s: float = 0.0


def find(address: str, workspace: str | None = None) -> Trigger:
    """The webhook at this address. Raises NotFound, and Conflict for a short address that several
    workspaces have."""
    rows = Trigger.objects.filter(
        address=address, kind="webhook", is_listed=True, is_enabled=True
    ).select_related("workspace")
    if workspace is not None:
        rows = rows.filter(workspace__name=workspace)
    found = list(rows[:2]) if address and "\x00" not in f"{address}{workspace}" else []
    if not found:
        raise NotFound(NOT_FOUND)
    if len(found) > 1:
        raise Conflict(SEVERAL)
    return found[0]


def check(trigger: Trigger, got: Received, *, signs: bool = False) -> str | None:
    """The webhook's secret, once the sender has proved to know it. Raises NotVerified, SecretError.

    Who asks for a job sends no body to sign (`signs` is False): the secret itself is taken then.
    """
    options = trigger.definition["options"]
    kind = options.get("verify", "bearer")
    secret = _secret_of(trigger)
    if not signs and kind != "none":
        kind = "bearer"
    now, in_query = transitions.database_now().timestamp(), options.get("secret_in_query", False)
    webhooks.verify(kind, secret, got, now, in_query=in_query)
    return secret


def receive(trigger: Trigger, got: Received) -> Reply:
    """Verify a request, fire the trigger and note the delivery."""
    now = transitions.database_now()
    options = trigger.definition["options"]
    try:
        secret = check(trigger, got, signs=True)
    except NotVerified as error:
        transitions.note_rejected(trigger.pk, got.method, len(got.body), str(error), now)
        return Reply(401, {"error": "Invalid or missing secret"})
    except SecretError:
        return Reply(503, {"error": "The webhook's secret cannot be read at the moment"})
    delivery = Delivery(
        trigger=trigger,
        delivery_id=webhooks.delivery_id(options.get("verify", "bearer"), got),
        method=got.method,
        size_bytes=len(got.body),
        received_at=now,
    )
    kept = webhooks.without_credentials(got, secret)
    return _Call(trigger, kept, delivery).answer(delivery.delivery_id)


def send_again(delivery: Delivery, user: User) -> Reply:
    """The same request once more, as a delivery of its own. Raises Conflict if it was not kept."""
    if delivery.sealed_body is None:
        raise Conflict("This delivery was not kept, so it cannot be sent again")
    where, told = delivery.trigger.workspace.name, f"delivery {delivery.delivery_id}"
    note("trigger.send-again", delivery.trigger.name, by=user.email, workspace=where, detail=told)
    now = transitions.database_now()
    body = unseal(delivery.sealed_body)
    got = Received(
        delivery.method, delivery.headers, delivery.query, body["text"].encode("latin-1")
    )
    again = Delivery(
        trigger=delivery.trigger,
        delivery_id=delivery.delivery_id,
        method=delivery.method,
        size_bytes=delivery.size_bytes,
        received_at=now,
    )
    return _Call(delivery.trigger, got, again, user=user).answer("")


def _secret_of(trigger: Trigger) -> str | None:
    current = trigger.workspace.current_id
    return webhook_secret(current, trigger.name) if current is not None else None


class _Call:
    """A verified request on its way to a job."""

    def __init__(
        self, trigger: Trigger, got: Received, delivery: Delivery, user: User | None = None
    ) -> None:
        self._trigger = trigger
        self._options: Mapping[str, Any] = trigger.definition["options"]
        self._got = got
        self._delivery = delivery
        self._user = user
        self._said = {"trigger": trigger.address, "task": trigger.task}

    def answer(self, key: str) -> Reply:
        """`key`: what makes a second delivery a repeat of the first."""
        if self._trigger.paused_at is not None:
            return self._skip("the trigger is paused")
        if webhooks.breaks_its_word(self._got):
            kind = self._got.headers["content-type"][:100]
            return self._refuse(f"the Content-Type is {kind}, but the body is no JSON", 400)
        if not webhooks.is_storable(webhooks.parse(self._got)):
            return self._refuse("the body holds NUL, or half of a surrogate pair; leave it out")
        try:
            if not self._wanted():
                return self._skip("the filter is false")
        except (TemplateError, SecretError) as error:
            return self._refuse(f"filter: {error}")
        occasion = Occasion(
            Firing.Cause.DELIVERY,
            self._context(),
            key=key,
            by=self._user.email if self._user else "",
            user_id=self._user.pk if self._user else None,
            given=self._given(),
            allow_unknown=True,
        )
        found, is_repeat = firing.fire_or_find(self._trigger.pk, occasion)
        return self._tell(found, is_repeat)

    def _given(self) -> dict[str, Any]:
        """What the job's input holds beside the trigger's own."""
        return {
            "body": webhooks.parse(self._got),
            "headers": dict(self._got.headers),
            "method": self._got.method,
            "query": dict(self._got.query),
        }

    def _context(self) -> dict[str, Any]:
        return {**self._given(), "delivery_id": self._delivery.delivery_id}

    def _wanted(self) -> bool:
        condition = self._options.get("filter")
        current = self._trigger.workspace.current_id
        if condition is None or current is None:
            return True
        secrets = secrets_of(current)
        context = {**self._context(), "secret": secrets, "secrets": secrets}
        return templating.is_true(condition, context)

    def _tell(self, found: Firing, is_repeat: bool) -> Reply:
        outcome = Delivery.Outcome
        match found.status:
            case FiringStatus.REFUSED:
                return self._note(outcome.REFUSED, 422, {"error": found.reason}, found)
            case FiringStatus.SKIPPED if found.job_id is None:
                body = {**self._said, "skipped": True, "reason": found.reason}
                return self._note(outcome.SKIPPED, 200, body, found)
            case FiringStatus.WAITING:
                body = {**self._said, "waiting": True, "reason": found.reason}
                return self._note(outcome.STARTED, 202, body, found)
        is_repeat = is_repeat or found.status == FiringStatus.SKIPPED  # by its idempotency_key
        what = outcome.REPEATED if is_repeat else outcome.STARTED
        body = {"job_id": str(found.job_id), **self._said}
        reply = self._note(what, 200, body, found)
        if self._options.get("mode") != "sync" or self._user is not None:
            return reply
        return Reply(200, body, found.job_id, float(self._options.get("timeout_secs") or 30))

    def _skip(self, reason: str) -> Reply:
        body = {**self._said, "skipped": True, "reason": reason}
        return self._note(Delivery.Outcome.SKIPPED, 200, body)

    def _refuse(self, reason: str, status: int = 422) -> Reply:
        current = self._trigger.workspace.current_id
        masked = str(redact(reason, sensitive_of(current) if current is not None else ()))
        transitions.note_refused(self._trigger.pk, masked, self._delivery.received_at)
        return self._note(Delivery.Outcome.REFUSED, status, {"error": masked})

    def _note(
        self, outcome: str, status: int, body: Mapping[str, Any], found: Firing | None = None
    ) -> Reply:
        current = self._trigger.workspace.current_id
        masks = sensitive_of(current) if current is not None else ()
        row = self._delivery
        row.headers, row.query = redact([dict(self._got.headers), dict(self._got.query)], masks)
        row.sealed_body = seal({"text": self._got.body.decode("latin-1")})
        row.outcome, row.answer, row.firing = outcome, status, found
        row.reason = str(body.get("reason") or body.get("error") or "")
        row.save()
        transitions.forget_deliveries(self._trigger.pk)
        return Reply(status, body)


def job_of(trigger: Trigger, job_id: UUID) -> dict[str, Any]:
    """A job of this webhook, as its status route shows it. Raises NotFound."""
    source = f"{trigger.workspace.name}/{trigger.name}"
    rows = Job.objects.filter(pk=job_id, source_type="webhook", source_id=source)
    columns = ("status", "output", "created_at", "completed_at")
    row = rows.values_list(*columns).first()
    if row is None:
        raise NotFound("Job not found")
    status, output, created_at, completed_at = row
    return {
        "job_id": str(job_id),
        "trigger": trigger.address,
        "task": trigger.task,
        "status": status,
        "output": output,
        "created_at": created_at.isoformat(),
        "completed_at": completed_at.isoformat() if completed_at else None,
    }


def is_final(status: str) -> bool:
    return JobStatus(status) in FINAL_JOB
