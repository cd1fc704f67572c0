"""Jobs and their steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Asked, Shape, TextOrNull, Values, listed
from apps.api.shapes.workflow_actions import WorkflowActionShape
from apps.api.shapes.workspaces import InputFieldShape
from apps.jobs.models import Attempt, Step
from apps.jobs.plans import Node
from engine.lifecycle import AttemptStatus
from engine.rights import ALL_RIGHTS, Right, Rights
from engine.spec.freeze import to_json
from engine.spec.model import InputField


class JobShape(Shape[Values]):  # out of a row of JOB_COLUMNS
    job_id = serializers.UUIDField(source="id")
    workspace = serializers.CharField(source="workspace__name")
    task_name = serializers.CharField()
    mode = serializers.SerializerMethodField()
    status = serializers.CharField()
    source_type = serializers.CharField()
    source_id = TextOrNull()
    revision = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    retry_of_job_id = serializers.UUIDField(source="retry_of_id", allow_null=True)
    retry_job_id = serializers.UUIDField(allow_null=True)
    retry_attempt = serializers.IntegerField()
    max_retries = serializers.SerializerMethodField()

    def get_mode(self, row: Values) -> str:
        return str(row["mode"] or "distributed")

    def get_revision(self, row: Values) -> str:
        return str(row["revision__label"] or row["revision__digest"])

    def get_max_retries(self, row: Values) -> int:
        return max(0, int(row["max_attempts"] or 1) - 1)


JOB_COLUMNS = {field.source or name for name, field in JobShape().fields.items()} - {"*"} | {
    "mode",
    "revision__label",
    "revision__digest",
    "max_attempts",
}


class RestartRequest(Asked):
    failed = serializers.BooleanField(
        required=False, help_text="Go on with this job instead of starting a new one"
    )


class JobPage(Shape[Values]):
    items = JobShape(many=True)
    total = serializers.IntegerField(help_text="Of all pages; counts up to 100,000")
    next = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page; null on the last one"
    )


class Failure(NamedTuple):
    """A failed or lost attempt."""

    attempt: int
    row: Attempt

    @property
    def started_at(self) -> Any:
        return self.row.started_at or self.row.claimed_at


class FailureShape(Shape[Failure]):
    attempt = serializers.IntegerField(help_text="Counts from 0")
    status = serializers.CharField(source="row.status", help_text="failed, or lost")
    worker_id = serializers.UUIDField(source="row.worker_id")
    exit_code = serializers.IntegerField(source="row.exit_code", allow_null=True)
    error = serializers.CharField(source="row.error")
    started_at = serializers.DateTimeField()
    failed_at = serializers.DateTimeField(source="row.ended_at", allow_null=True)


class AttemptShape(Shape["Try"]):
    status = serializers.CharField(source="row.status", help_text="running, or how it ended")
    worker = serializers.CharField(help_text="Its name; empty if it is no longer known")
    exit_code = serializers.IntegerField(source="row.exit_code", allow_null=True)
    error = TextOrNull(source="row.error")
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(source="row.ended_at", allow_null=True)


class Try(NamedTuple):
    """An attempt, and the name of its worker."""

    row: Attempt
    worker: str

    @property
    def started_at(self) -> Any:
        return self.row.started_at or self.row.claimed_at


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step and, if known, its definition in the frozen flow."""

    step: Step
    node: Node | None
    attempts: list[Try]
    form: dict[str, InputField] | None = None  # of an agent that waits for a person
    rights: Rights = ALL_RIGHTS

    @property
    def failures(self) -> list[Attempt]:
        ended = (AttemptStatus.FAILED, AttemptStatus.LOST)
        return [one.row for one in self.attempts if one.row.status in ended]

    @property
    def input(self) -> Any:
        """The rendered input; before the claim, the input as written."""
        if self.step.input is None and self.node is not None and Right.INPUTS in self.rights:
            return to_json(self.node.step.input)
        return self.step.input

    @property
    def loop_source(self) -> str | None:
        return self.step.base if self.step.loop_index is not None else None

    @property
    def retry_attempt(self) -> int:
        return max(0, self.step.attempts - 1)

    @property
    def retry_history(self) -> list[Failure]:
        return [Failure(*item) for item in enumerate(self.failures)]

    @property
    def action_name(self) -> str:
        return self.node.step.action if self.node else ""

    @property
    def action_workspace(self) -> str | None:
        """The workspace that the action belongs to, if it is not the job's own."""
        return (self.node.abroad.workspace or None) if self.node and self.node.abroad else None

    @property
    def action_revision(self) -> str | None:
        return (self.node.abroad.digest or None) if self.node and self.node.abroad else None

    @property
    def action_with_secrets(self) -> bool | None:
        found = self.node.abroad if self.node else None
        return found.with_secrets if found is not None and not found.refusal else None

    @property
    def for_each(self) -> Any:
        return to_json(self.node.step.for_each) if self.node and not self.loop_source else None

    @property
    def depends_on(self) -> tuple[str, ...]:
        return self.node.step.depends_on if self.node else ()

    @property
    def max_retries(self) -> int:
        retry = self.node.retry if self.node else None
        return max(0, retry.max_attempts - 1) if retry else 0

    @property
    def approval_fields(self) -> dict[str, InputField] | None:
        if self.node is None or self.step.kind != "approval":
            return self.form
        return dict(self.node.action.input)

    @property
    def approval_message(self) -> str | None:
        output = self.step.output if self.approval_fields is not None else None
        return output.get("approval_message") if isinstance(output, dict) else None


class Hidden(serializers.DictField):
    """What the caller lacks the right to see, and a sentence for each."""

    def __init__(self) -> None:
        told = "By right: why fields are null that the caller may not see"
        super().__init__(child=serializers.CharField(), help_text=told)


class Batches(serializers.ListSerializer[Any]):
    """Turns batches of rows into an iterator of lists, which `StepsRenderer` writes one by one: a
    job can have 10,000 steps."""

    def to_representation(self, data: Iterable[list[StepRow]]) -> Iterator[list[Any]]:  # type: ignore[override]  # not yet a list
        return (listed(StepShape, rows) for rows in data)


class StepShape(Shape[StepRow]):
    step_name = serializers.CharField(source="step.name")
    action_type = serializers.CharField(source="step.kind")
    runner = serializers.CharField(source="step.runner")
    input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(source="step.output", allow_null=True)
    status = serializers.CharField(source="step.status")
    worker_id = serializers.UUIDField(source="step.worker_id", allow_null=True)
    started_at = serializers.DateTimeField(source="step.started_at", allow_null=True)
    completed_at = serializers.DateTimeField(source="step.completed_at", allow_null=True)
    suspended_at = serializers.DateTimeField(source="step.suspended_at", allow_null=True)
    error_message = TextOrNull(source="step.error")
    loop_source = serializers.CharField(allow_null=True)
    loop_index = serializers.IntegerField(source="step.loop_index", allow_null=True)
    loop_total = serializers.IntegerField(source="step.loop_total", allow_null=True)
    retry_attempt = serializers.IntegerField()
    retry_history = FailureShape(many=True)
    attempts = AttemptShape(
        many=True, help_text="Of steps that were tried more than once, or will be"
    )
    retry_at = serializers.DateTimeField(source="step.retry_at", allow_null=True)
    action_name = serializers.CharField()
    action_workspace = serializers.CharField(
        allow_null=True, help_text="Whose action it is, if it belongs to another workspace"
    )
    action_revision = serializers.CharField(
        allow_null=True, help_text="Then the revision of that workspace, pinned at the start"
    )
    action_with_secrets = serializers.BooleanField(
        allow_null=True, help_text="And whether the owner gave its secrets then"
    )
    action_image = serializers.CharField(source="node.action.image", allow_null=True)
    when_condition = serializers.CharField(source="node.step.when", allow_null=True)
    for_each_expr = serializers.JSONField(source="for_each", allow_null=True)
    depends_on = serializers.ListField(child=serializers.CharField())
    max_retries = serializers.IntegerField()
    approval_fields = serializers.DictField(child=InputFieldShape(), required=False)
    approval_message = serializers.CharField(required=False)

    class Meta:
        list_serializer_class = Batches


class StepPage(Shape[Values]):  # of one batch of rows
    items = serializers.SerializerMethodField()
    total = serializers.IntegerField()
    next = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page; null on the last one"
    )
    hidden = Hidden()

    @extend_schema_field(StepShape(many=True))
    def get_items(self, page: Values) -> list[dict[str, Any]]:
        return listed(StepShape, page["items"])


# out of the row of JOB_COLUMNS with the `job`, its `steps` and its `workflow_actions`
class JobDetailShape(JobShape):
    input = serializers.JSONField(source="job.input", allow_null=True)
    raw_input = serializers.JSONField(source="job.input", allow_null=True)
    output = serializers.JSONField(source="job.output", allow_null=True)
    error = TextOrNull(source="job.error")
    source_job_id = serializers.UUIDField(source="job.rerun_of_id", allow_null=True)
    restart_from_step = serializers.SerializerMethodField()
    worker_id = serializers.SerializerMethodField()
    parent_job_id = serializers.UUIDField(source="job.parent_job_id", allow_null=True)
    steps = StepShape(many=True)
    workflow_actions = WorkflowActionShape(many=True, help_text="Newest generation first")
    hidden = Hidden()

    def get_restart_from_step(self, row: Values) -> str | None:
        return None

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_worker_id(self, row: Values) -> None:
        return None
