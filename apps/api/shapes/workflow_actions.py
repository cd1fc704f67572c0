"""Workflow actions of a job, from `workflow_actions.snapshots`, which masks secret values."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.base import Shape, Values
from apps.workflow_actions.snapshots import RUN_STATUSES
from engine.lifecycle import ActionStatus, AllocationStatus


class ActionRunShape(Shape[Values]):
    id = serializers.IntegerField(
        allow_null=True,
        help_text="Send it as `run` to read only the log of this run; null while it waits",
    )
    attempt = serializers.IntegerField()
    status = serializers.ChoiceField(RUN_STATUSES)
    session = serializers.IntegerField(
        allow_null=True, help_text="The worker session that it belongs to"
    )
    worker_id = serializers.UUIDField(allow_null=True)
    worker = serializers.CharField(allow_null=True)
    command = serializers.IntegerField(
        allow_null=True, help_text="How many of its commands were started"
    )
    exit_code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    due_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    duration_secs = serializers.FloatField(allow_null=True)


class AllocationShape(Shape[Values]):
    id = serializers.UUIDField()
    scheduler = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in AllocationStatus])
    slurm_job_id = serializers.CharField(allow_null=True)
    state = serializers.CharField(allow_null=True, help_text="As Slurm calls it")
    reason = serializers.CharField(
        allow_null=True, help_text="Why Slurm has not started it yet, and what that means"
    )
    cluster = serializers.CharField(
        allow_null=True, help_text="If it is not the one that Slurm's programs ask by default"
    )
    nodes = serializers.CharField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    script = serializers.CharField(help_text="The script passed to sbatch")
    requested_at = serializers.DateTimeField()
    submitted_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class WorkflowActionShape(Shape[Values]):
    id = serializers.IntegerField()
    name = serializers.CharField(help_text="Its own, or `workflow_actions[0]`")
    index = serializers.IntegerField(help_text="Its place in the task's list")
    generation = serializers.IntegerField(help_text="From 1; each restart of the job adds one")
    trigger_type = serializers.CharField()
    action_types = serializers.ListField(child=serializers.CharField())
    status = serializers.ChoiceField([status.value for status in ActionStatus])
    progress = serializers.CharField(
        allow_null=True, help_text="`3 of 7 ready`; null if it watches no steps"
    )
    reached = serializers.IntegerField(
        help_text="How many of the watched steps have reached the state it waits for"
    )
    required = serializers.IntegerField()  # type: ignore[assignment]  # of DRF's fields, too
    may_grow = serializers.BooleanField(help_text="A loop may still add steps")
    jobs = serializers.ListField(child=serializers.CharField())
    job_name_regexes = serializers.ListField(child=serializers.CharField())
    selected = serializers.ListField(
        child=serializers.CharField(), help_text="Steps of the flow that it watches"
    )
    persistent = serializers.BooleanField()
    barrier = serializers.BooleanField()
    needs = serializers.ListField(child=serializers.CharField())
    when = serializers.CharField(allow_null=True)
    rerun = serializers.CharField()
    on_failure = serializers.CharField()
    where = serializers.CharField(
        allow_null=True,
        help_text="`nodes` or `any`: which workers run its commands; null: see the guide",
    )
    timeout = serializers.CharField(allow_null=True)
    commands = serializers.ListField(child=serializers.CharField())
    outcome = serializers.CharField(allow_null=True, help_text="Of what it watched")
    reason = serializers.CharField(allow_null=True, help_text="Why it was skipped or failed")
    created_at = serializers.DateTimeField()
    armed_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    runs = ActionRunShape(many=True)
    allocations = AllocationShape(many=True)
