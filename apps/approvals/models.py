"""Approval requests, their votes, and the append-only record of every attempt to decide."""

from __future__ import annotations

from enum import StrEnum

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Func, Q

from engine.lifecycle import RequestStatus

NOW = Func(function="clock_timestamp")


LEADS = {
    "question": "The agent asks: ",
    "call": "The agent wants to call ",
    "limit": "The agent has reached a limit: ",
}


class ApprovalRequest(models.Model):
    """One suspension of one approval step: message, approvers, deadline and result.

    `status` follows the step in the step's own transaction. The step, with its fence and under the
    lock of the job, is what decides whether the request is open.
    """

    job = models.ForeignKey(
        "jobs.Job", on_delete=models.CASCADE, related_name="approvals", db_constraint=False
    )
    step_id = models.BigIntegerField()
    fence = models.IntegerField(help_text="Which suspension of the step")
    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="+"
    )
    task_name = models.CharField(max_length=300)
    step_name = models.CharField(max_length=300)
    message = models.TextField(help_text="Markdown, rendered at suspension, secret values masked")
    fields = models.JSONField(
        default=dict, help_text="The form: what the approver is asked to fill in, by name"
    )
    about = models.CharField(
        max_length=10,
        choices=[(each, each) for each in ("step", "call", "question", "limit")],
        default="step",
        db_default="step",
        help_text="The step itself, or of an agent: a tool call, a question, or its limits",
    )
    summary = models.CharField(
        max_length=300,
        blank=True,
        default="",
        db_default="",
        help_text="Of an agent: what it asks, on one line",
    )
    digest = models.CharField(
        max_length=64, help_text="Of what was shown; who names another one is refused"
    )
    users = ArrayField(
        models.TextField(), default=list, help_text="E-mails of those who are asked, lower case"
    )
    groups = ArrayField(
        models.TextField(), default=list, help_text="Names of groups that are asked"
    )
    asks_operators = models.BooleanField(
        default=False, help_text="Nobody was named: operators of the workspace decide"
    )
    min_approvals = models.SmallIntegerField(default=1)
    separation = models.BooleanField(default=False, help_text="Who started the job may not decide")
    starters = ArrayField(
        models.TextField(), default=list, help_text="E-mails of who started or restarted the job"
    )
    requested_by = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    status = models.CharField(
        max_length=10,
        choices=[(each.value, each.replace("_", " ").capitalize()) for each in RequestStatus],
        default=RequestStatus.OPEN,
    )
    created_at = models.DateTimeField(db_default=NOW)
    deadline_at = models.DateTimeField(null=True)
    timeout_text = models.CharField(max_length=50, blank=True, help_text="As the author wrote it")
    remind_at = models.DateTimeField(
        null=True, help_text="When the next reminder or the escalation is due"
    )
    reminders_sent = models.SmallIntegerField(default=0)
    escalated_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(
        max_length=254, blank=True, help_text="Who decided or cancelled; empty: time did"
    )
    reason = models.TextField(blank=True, help_text="Of a rejection or a cancellation")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["step_id", "fence"], name="approvals_request_once"),
            models.CheckConstraint(
                name="approvals_request_status",
                condition=Q(status=RequestStatus.OPEN, closed_at=None)
                | Q(
                    status__in=[each for each in RequestStatus if each is not RequestStatus.OPEN],
                    closed_at__isnull=False,
                ),
            ),
        ]
        indexes = [
            models.Index(
                fields=["workspace", "-created_at"],
                name="approvals_open",
                condition=Q(status=RequestStatus.OPEN),
            ),
            models.Index(
                fields=["remind_at"], name="approvals_due", condition=Q(status=RequestStatus.OPEN)
            ),
            models.Index(fields=["-created_at", "-id"], name="approvals_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}: {self.step_name}"

    @property
    def is_open(self) -> bool:
        return self.status == RequestStatus.OPEN

    @property
    def is_question(self) -> bool:
        """Whether an agent wants to be told something, rather than be allowed something."""
        return self.about == "question"

    @property
    def is_of_agent(self) -> bool:
        return self.about != "step"

    @property
    def is_call(self) -> bool:
        return self.about == "call"

    @property
    def lead(self) -> str:
        """What the summary is, of an agent."""
        return LEADS.get(self.about, "")

    @property
    def told(self) -> str:
        """What an agent asks, on one line; empty for an approval step."""
        return self.lead + self.summary

    @property
    def given(self) -> int:
        """How many have approved."""
        return sum(vote.approved for vote in self.votes.all())


class Vote(models.Model):
    """One person's current decision on a request. Withdrawing deletes it; the record keeps it."""

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="votes")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    approved = models.BooleanField()
    reason = models.TextField(blank=True)
    input = models.JSONField(null=True, help_text="The form as shown: secret values are masked")
    input_sealed = models.BinaryField(
        null=True, help_text="The form with its secret values, encrypted"
    )
    at = models.DateTimeField(db_default=NOW)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request", "user"], name="approvals_vote_once")
        ]

    def __str__(self) -> str:
        return f"{self.user}: {'approved' if self.approved else 'rejected'}"


class Delegation(models.Model):
    """An approver lets another person decide in their place, for one request."""

    request = models.ForeignKey(
        ApprovalRequest, on_delete=models.CASCADE, related_name="delegations"
    )
    giver = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    taker = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(db_default=NOW)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request", "giver"], name="approvals_delegation_once")
        ]

    def __str__(self) -> str:
        return f"{self.giver} -> {self.taker}"


class Link(models.Model):
    """A single-use link that leads one person to the page of a request. It never decides."""

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="links")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=NOW)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"link for {self.user}"


class Notice(models.Model):
    """A message to the approvers: the request, a reminder, the escalation, a delegation. The outbox
    of the mail."""

    class Kind(models.TextChoices):
        SUSPENDED = "suspended", "suspended"
        REMINDER = "reminder", "reminder"
        ESCALATED = "escalated", "escalated"
        DELEGATED = "delegated", "delegated"

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=10, choices=Kind)
    number = models.SmallIntegerField(default=0, help_text="Of the reminder")
    user = models.ForeignKey(
        "accounts.User",
        null=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Only for this person",
    )
    created_at = models.DateTimeField(db_default=NOW)
    tries = models.SmallIntegerField(default=0)
    try_at = models.DateTimeField(db_default=NOW, help_text="Not before then")
    mailed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["request", "kind", "number", "user"],
                name="approvals_notice_once",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["try_at"], name="approvals_unsent", condition=Q(mailed_at=None))
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DONE = "done"
    COUNTED = "counted"  # and more approvals are needed
    REFUSED = "refused"
    LATE = "late"
    INVALID = "invalid"


class Record(models.Model):
    """Every attempt to decide, withdraw, delegate or open a link, also refused ones. The database
    prevents changes and deletion. It outlives job, request and user, so it holds their names
    instead of references."""

    request_id = models.BigIntegerField()
    job_id = models.UUIDField()
    workspace = models.CharField(max_length=100)
    task_name = models.CharField(max_length=300)
    step_name = models.CharField(max_length=300)
    actor = models.CharField(max_length=254, blank=True, help_text="E-mail; empty: time did")
    what = models.CharField(
        max_length=12, help_text="approve, reject, withdraw, delegate, take_back, link, open, ..."
    )
    outcome = models.CharField(max_length=12, help_text="done, counted, refused, late or invalid")
    detail = models.TextField(blank=True)
    via = models.CharField(max_length=10, help_text="api, admin, cli, link or server")
    address = models.CharField(max_length=100, blank=True)
    at = models.DateTimeField(db_default=NOW)

    class Meta:
        verbose_name = "decision"
        indexes = [
            models.Index(fields=["request_id", "id"], name="approvals_record_request"),
            models.Index(fields=["job_id", "id"], name="approvals_record_job"),
        ]

    def __str__(self) -> str:
        return f"{self.actor or 'server'}: {self.what} {self.outcome}"
