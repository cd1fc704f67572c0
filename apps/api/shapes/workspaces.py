"""Workspaces, their tasks as written, and their stored secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import Any, NamedTuple

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Asked, FrozenField, Shape, Values
from apps.fleet.matching import takers
from apps.workspaces.connections import Listed, connections_in, offered
from apps.workspaces.models import Revision, Workspace
from apps.workspaces.rights import EVERYTHING_IN_SIGHT, NOT_TOLD, Sight
from engine.durations import Duration
from engine.forecast import Outlook, StepForecast
from engine.masking import MASK
from engine.rights import Right, Rights
from engine.spec.connection_types import names_in
from engine.spec.freeze import to_json
from engine.spec.model import InputField, Retry, Step, Task, Trigger
from engine.spec.model import Workspace as Definition
from engine.spec.tags import tag_set_key


def label_of(revision: Revision | None) -> str | None:
    return None if revision is None else revision.label or revision.digest


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    row: Workspace
    definition: Definition
    sight: Sight = EVERYTHING_IN_SIGHT
    stored: Sequence[str] = ()  # names of connections in the database

    @property
    def connections(self) -> int:
        return len({*self.definition.connections, *self.stored})

    @property
    def is_whole(self) -> bool:
        return self.sight.is_whole(self.row.name)

    @property
    def tasks(self) -> int:
        name = self.row.name
        return sum(Right.SEE in self.sight.on(name, task) for task in self.definition.tasks)

    @property
    def triggers(self) -> int:
        name, found = self.row.name, self.definition.triggers.values()
        return sum(Right.SEE in self.sight.on(name, one.starts) for one in found)

    @property
    def problems(self) -> Sequence[Values]:
        """Who sees only some tasks is not told what is written about others."""
        return self.row.problems if self.is_whole else ()

    @property
    def actions(self) -> int:
        return sum(not name.startswith("_inline:") for name in self.definition.actions)

    @property
    def revision(self) -> str | None:
        return label_of(self.row.current)

    @property
    def state(self) -> str:
        return "failed" if self.row.has_failed else "warnings" if self.row.problems else "loaded"

    @property
    def error(self) -> str | None:
        if self.row.has_failed and not self.is_whole:
            return NOT_TOLD
        return "\n".join(self._texts("error")) or None

    @property
    def quarantine(self) -> str | None:
        return self.row.quarantine

    @property
    def warnings(self) -> Sequence[str] | None:
        return self._texts("warning") or None

    def _texts(self, severity: str) -> list[str]:
        return [item["text"] for item in self.problems if item["severity"] == severity]


class ProblemShape(Shape[Values]):
    code = serializers.CharField()
    file = serializers.CharField()
    line = serializers.IntegerField()
    text = serializers.CharField()
    column = serializers.IntegerField()
    message = serializers.CharField()
    severity = serializers.ChoiceField(["error", "warning"])


class SizeField(serializers.IntegerField):
    def to_representation(self, value: Any) -> int:
        return len(value)


class WorkspaceShape(Shape[WorkspaceRow]):
    name = serializers.CharField(source="row.name")
    tasks_count = serializers.IntegerField(source="tasks")
    actions_count = serializers.IntegerField(source="actions")
    triggers_count = serializers.IntegerField(source="triggers")
    connections_count = serializers.IntegerField(source="connections")
    revision = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(["loaded", "warnings", "failed"])
    source = serializers.CharField(source="row.source")  # type: ignore[assignment]  # of DRF's fields, too
    location = serializers.CharField(source="row.location")
    checked_at = serializers.DateTimeField(source="row.checked_at", allow_null=True)
    problems = ProblemShape(many=True)
    error = serializers.CharField(required=False)
    quarantine = serializers.CharField(required=False)
    warnings = serializers.ListField(child=serializers.CharField(), required=False)


class RefreshShape(Shape[Values]):
    workspace = serializers.CharField()
    revision = serializers.CharField(allow_null=True)
    refreshed = serializers.BooleanField()
    error = serializers.CharField(required=False)


class RemovedShape(Shape[Values]):
    workspace = serializers.CharField()
    removed_jobs = serializers.IntegerField()


class SecretRequest(Asked):
    value = serializers.JSONField()


class SecretShape(Shape[Values]):
    name = serializers.CharField()
    updated_at = serializers.DateTimeField()
    updated_by = serializers.CharField()


# Tasks


class TriggerRow(NamedTuple):
    name: str
    trigger: Trigger

    def starts(self, task: str) -> bool:
        return task in (self.trigger.options.get("task"), self.trigger.options.get("target_task"))


@dataclass(frozen=True, slots=True)
class TaskRow:
    name: str
    workspace: str
    definition: Definition
    rights: Rights
    kinds: Mapping[str, str | None] = with_default(default_factory=dict)  # type of each connection

    @property
    def task(self) -> Task:
        return self.definition.tasks[self.name]

    @property
    def can_execute(self) -> bool:
        return self.task.manual and Right.RUN in self.rights

    @property
    def triggers(self) -> list[TriggerRow]:
        rows = [TriggerRow(*item) for item in self.definition.triggers.items()]
        return [row for row in rows if row.starts(self.name)]

    @property
    def connections(self) -> dict[str, list[str]] | None:
        """Names of connections, by type, for the types in the input of the task."""
        types = {each.type for each in self.task.input.values()}
        return offered(self.kinds, sorted(types & set(self.definition.connection_types))) or None


class InputFieldShape(Shape[InputField]):
    type = serializers.CharField()
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    required = serializers.BooleanField()  # type: ignore[assignment]  # of DRF's fields, too
    secret = serializers.BooleanField()
    default = FrozenField(allow_null=True, help_text="Only if there is one")
    options = serializers.ListField(child=serializers.CharField(), required=False)
    allow_custom = serializers.BooleanField(help_text="Only if there are options")
    multiple = serializers.BooleanField()
    order = serializers.IntegerField(required=False)

    def to_representation(self, instance: InputField) -> dict[str, Any]:
        said = super().to_representation(instance)
        if not instance.has_default:
            del said["default"]
        elif instance.secret and said["default"] is not None:
            said["default"] = MASK
        if instance.options is None:
            del said["allow_custom"]
        return said


@extend_schema_field(OpenApiTypes.OBJECT)
class FlowStepField(serializers.Field[Step, Step, dict[str, Any], Any]):
    """The step as written; keys that were not given are left out."""

    def to_representation(self, value: Step) -> dict[str, Any]:
        said: dict[str, Any] = {"action": value.action}
        for field in dataclasses.fields(value):
            given = getattr(value, field.name)
            nothing: tuple[Any, ...] = (None, False, (), {}, 0, field.default)
            if field.name not in ("action", "place", "title") and given not in nothing:
                said[field.name] = _plain(given)
        return said if value.title is None else {**said, "name": value.title}


def _plain(value: Any) -> Any:
    match value:
        case Duration():
            return value.seconds
        case Retry():
            return {
                "max_attempts": value.max_attempts,
                "delay": value.delay_s,
                "backoff": value.backoff,
                "jitter": value.jitter,
            }
    return to_json(value)


class TriggerShape(Shape[TriggerRow]):
    name = serializers.CharField()
    type = serializers.CharField(source="trigger.type")
    cron = serializers.CharField(source="trigger.options.cron", required=False)
    timezone = serializers.CharField(source="trigger.options.timezone", required=False)
    task = serializers.CharField(source="trigger.options.task", required=False)
    target_task = serializers.CharField(source="trigger.options.target_task", required=False)
    enabled = serializers.BooleanField(source="trigger.enabled")
    input = FrozenField(source="trigger.input")


class TaskTitleShape(Shape[TaskRow]):
    id = serializers.CharField(source="name")
    name = serializers.CharField(source="task.title", required=False)
    description = serializers.CharField(source="task.description", required=False)
    mode = serializers.CharField(source="task.mode")
    folder = serializers.CharField(source="task.folder", required=False)


class NeededShape(Shape[InputField]):
    type = serializers.CharField()
    required = serializers.SerializerMethodField(help_text="Callers must give it")  # type: ignore[assignment]  # of DRF's fields, too

    def get_required(self, field: InputField) -> bool:
        return field.required and not field.has_default


class TaskShape(TaskTitleShape):
    workspace = serializers.CharField()
    inputs = serializers.DictField(child=NeededShape(), source="task.input")
    has_triggers = serializers.SerializerMethodField()
    can_execute = serializers.BooleanField()

    def get_has_triggers(self, row: TaskRow) -> bool:
        return bool(row.triggers)


class TaskDetailShape(TaskTitleShape):
    input = serializers.DictField(child=InputFieldShape(), source="task.input")
    flow = serializers.DictField(child=FlowStepField(), source="task.flow")
    triggers = TriggerShape(many=True)
    can_execute = serializers.BooleanField()
    connections = serializers.DictField(required=False)


@extend_schema_field(OpenApiTypes.UUID)
class JobId(serializers.CharField):
    """The id of a job, as text; the view says what is wrong with it."""


class ExecuteRequest(Asked):
    input = serializers.DictField(required=False, allow_null=True)
    source_job_id = JobId(required=False, allow_null=True, max_length=64)


class ExecuteShape(Shape[Values]):
    job_id = serializers.UUIDField()


# Plans


class PlanRequest(Asked):
    input = serializers.DictField(required=False, allow_null=True)


@dataclass(frozen=True, slots=True)
class PlanRow:
    step: StepForecast
    workers: Sequence[str]
    connections: Sequence[Values]


def plan_rows(
    steps: Sequence[StepForecast], workspace: Workspace, definition: Definition
) -> list[PlanRow]:
    """The steps with the live workers that could run them, and the connections that they name; each
    set of tags is looked up once."""
    keys = {step.name: tag_set_key(step.tags) for step in steps if step.tags}
    found = {key: takers(key, workspace.name) for key in set(keys.values())}
    there = connections_in(workspace, definition)
    return [
        PlanRow(
            step,
            found[keys[step.name]] if step.tags else [],
            [
                _planned(key, name, there.get(name))
                for key, name in names_in(definition, step.action, step.input).items()
            ],
        )
        for step in steps
    ]


def _planned(key: str, name: str, one: Listed | None) -> Values:
    problem = one.advice if one else "There is no connection of this name"
    return {
        "input": key,
        "name": name,
        "source": one.source if one else None,
        "overrides": one.overrides if one else None,
        "problem": problem or None,
    }


class PlannedConnectionShape(Shape[Values]):
    input = serializers.CharField()
    name = serializers.CharField()
    source = serializers.ChoiceField(["files", "database"], required=False)  # type: ignore[assignment]  # of DRF's fields, too
    overrides = serializers.BooleanField(required=False)
    problem = serializers.CharField(required=False)


class StepPlanShape(Shape[PlanRow]):
    step_name = serializers.CharField(source="step.name")
    outlook = serializers.ChoiceField([each.value for each in Outlook], source="step.outlook")
    because = serializers.CharField(source="step.because")
    action_name = serializers.CharField(source="step.action")
    action_type = serializers.CharField(source="step.type")
    runner = serializers.CharField(source="step.runner")
    action_image = serializers.CharField(source="step.image", required=False)
    task = serializers.CharField(source="step.calls", required=False)
    depends_on = serializers.ListField(child=serializers.CharField(), source="step.depends_on")
    input = serializers.DictField(source="step.input")
    unknown = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        source="step.unknown",
        help_text="Inputs that are known later, with the steps that they wait for",
    )
    is_loop = serializers.BooleanField(source="step.is_loop")
    items = serializers.IntegerField(source="step.items", required=False)
    tags = serializers.ListField(child=serializers.CharField(), source="step.tags")
    workers = serializers.ListField(
        child=serializers.CharField(), help_text="Live workers that could run it"
    )
    connections = PlannedConnectionShape(many=True)


class PlanShape(Shape[Values]):
    task = serializers.CharField()
    steps = StepPlanShape(many=True)
