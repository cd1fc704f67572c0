"""What callers send, checked; and the shapes of answers, for the schema."""

from __future__ import annotations

from rest_framework import serializers

NAME = "Name is required"


class ErrorShape(serializers.Serializer):
    error = serializers.CharField()


class LoginRequest(serializers.Serializer):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)


class RefreshRequest(serializers.Serializer):
    refresh_token = serializers.CharField(required=False, allow_blank=True, max_length=200)


class TokenShape(serializers.Serializer):
    access_token = serializers.CharField()


class StatusShape(serializers.Serializer):
    status = serializers.CharField()


class MeShape(serializers.Serializer):
    user_id = serializers.IntegerField()
    name = serializers.CharField()
    email = serializers.EmailField()
    is_admin = serializers.BooleanField()
    groups = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class KeyRequest(serializers.Serializer):
    name = serializers.CharField(
        max_length=200, error_messages=dict.fromkeys(("required", "blank", "null"), NAME)
    )
    expires_in_days = serializers.IntegerField(required=False, allow_null=True, max_value=36500)


class KeyShape(serializers.Serializer):
    prefix = serializers.CharField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewKeyShape(serializers.Serializer):
    key = serializers.CharField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class ConfigShape(serializers.Serializer):
    auth_required = serializers.BooleanField()
    acl_enabled = serializers.BooleanField()
    oidc_providers = serializers.ListField(child=serializers.DictField())
    has_internal_auth = serializers.BooleanField()
    version = serializers.CharField()


class ProblemShape(serializers.Serializer):
    severity = serializers.ChoiceField(["error", "warning"])
    file = serializers.CharField()
    line = serializers.IntegerField()
    column = serializers.IntegerField()
    code = serializers.CharField()
    message = serializers.CharField()
    text = serializers.CharField()


class WorkspaceShape(serializers.Serializer):
    name = serializers.CharField()
    tasks_count = serializers.IntegerField()
    actions_count = serializers.IntegerField()
    triggers_count = serializers.IntegerField()
    connections_count = serializers.IntegerField()
    revision = serializers.CharField(allow_null=True)
    error = serializers.CharField(required=False)
    warnings = serializers.ListField(child=serializers.CharField(), required=False)
    problems = ProblemShape(many=True)


class RefreshShape(serializers.Serializer):
    workspace = serializers.CharField()
    revision = serializers.CharField(allow_null=True)
    refreshed = serializers.BooleanField()


class SecretRequest(serializers.Serializer):
    value = serializers.JSONField()


class SecretShape(serializers.Serializer):
    name = serializers.CharField()
    updated_at = serializers.DateTimeField()
    updated_by = serializers.CharField()


class TaskShape(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    mode = serializers.CharField()
    workspace = serializers.CharField()
    folder = serializers.CharField(required=False)
    has_triggers = serializers.BooleanField()
    can_execute = serializers.BooleanField()


class TaskDetailShape(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    mode = serializers.CharField()
    folder = serializers.CharField(required=False)
    input = serializers.DictField()
    flow = serializers.DictField()
    triggers = serializers.ListField(child=serializers.DictField())
    connections = serializers.DictField(required=False)
    can_execute = serializers.BooleanField()


class ExecuteRequest(serializers.Serializer):
    input = serializers.DictField(required=False, allow_null=True)
    source_job_id = serializers.CharField(required=False, allow_null=True, max_length=64)


class ExecuteShape(serializers.Serializer):
    job_id = serializers.UUIDField()


class JobShape(serializers.Serializer):
    job_id = serializers.UUIDField()
    workspace = serializers.CharField()
    task_name = serializers.CharField()
    mode = serializers.CharField()
    status = serializers.CharField()
    source_type = serializers.CharField()
    source_id = serializers.CharField(allow_null=True)
    revision = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    retry_of_job_id = serializers.UUIDField(allow_null=True)
    retry_job_id = serializers.UUIDField(allow_null=True)
    retry_attempt = serializers.IntegerField()
    max_retries = serializers.IntegerField()


class JobPage(serializers.Serializer):
    items = JobShape(many=True)
    total = serializers.IntegerField()


class StepShape(serializers.Serializer):
    step_name = serializers.CharField()
    action_name = serializers.CharField()
    action_type = serializers.CharField()
    action_image = serializers.CharField(allow_null=True)
    runner = serializers.CharField()
    input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    status = serializers.CharField()
    worker_id = serializers.UUIDField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    suspended_at = serializers.DateTimeField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    when_condition = serializers.CharField(allow_null=True)
    for_each_expr = serializers.JSONField(allow_null=True)
    loop_source = serializers.CharField(allow_null=True)
    loop_index = serializers.IntegerField(allow_null=True)
    loop_total = serializers.IntegerField(allow_null=True)
    depends_on = serializers.ListField(child=serializers.CharField())
    retry_attempt = serializers.IntegerField()
    max_retries = serializers.IntegerField()
    retry_history = serializers.ListField(child=serializers.DictField())
    retry_at = serializers.DateTimeField(allow_null=True)


class ActionRunShape(serializers.Serializer):
    id = serializers.IntegerField(
        allow_null=True,
        help_text="Send it as `run` to read the log of this run alone; null while it waits",
    )
    attempt = serializers.IntegerField()
    status = serializers.ChoiceField(
        ["ready", "running", "succeeded", "failed", "cancelled", "lost"]
    )
    session = serializers.IntegerField(
        allow_null=True, help_text="The worker session that it belongs to"
    )
    worker_id = serializers.UUIDField(allow_null=True)
    worker = serializers.CharField(allow_null=True)
    command = serializers.IntegerField(
        allow_null=True, help_text="How many of its commands were begun"
    )
    exit_code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    due_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    duration_secs = serializers.FloatField(allow_null=True)


class AllocationShape(serializers.Serializer):
    id = serializers.UUIDField()
    scheduler = serializers.CharField()
    status = serializers.ChoiceField(
        ["requested", "pending", "active", "complete", "failed", "lost"]
    )
    slurm_job_id = serializers.CharField(allow_null=True)
    state = serializers.CharField(allow_null=True, help_text="In Slurm's own word")
    nodes = serializers.CharField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    script = serializers.CharField(help_text="What sbatch was given")
    requested_at = serializers.DateTimeField()
    submitted_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class WorkflowActionShape(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField(help_text="Its own, or `workflow_actions[0]`")
    index = serializers.IntegerField(help_text="Its place in the task's list")
    generation = serializers.IntegerField(help_text="1, and one more for each restart of the job")
    trigger_type = serializers.CharField()
    action_types = serializers.ListField(child=serializers.CharField())
    status = serializers.ChoiceField(
        [
            "waiting",
            "held",
            "armed",
            "running",
            "succeeded",
            "failed",
            "skipped",
            "cancelled",
            "superseded",
        ]
    )
    progress = serializers.CharField(
        allow_null=True, help_text="`3 of 7 ready`; null where it watches no steps"
    )
    reached = serializers.IntegerField(
        help_text="How many of the watched steps have reached what it waits for"
    )
    required = serializers.IntegerField()
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
    timeout = serializers.CharField(allow_null=True)
    commands = serializers.ListField(child=serializers.CharField())
    outcome = serializers.CharField(allow_null=True, help_text="Of what it watched")
    reason = serializers.CharField(allow_null=True, help_text="Why it was skipped, or has failed")
    created_at = serializers.DateTimeField()
    armed_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    runs = ActionRunShape(many=True)
    allocations = AllocationShape(many=True)


class JobDetailShape(JobShape):
    input = serializers.JSONField(allow_null=True)
    raw_input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    source_job_id = serializers.UUIDField(allow_null=True)
    restart_from_step = serializers.CharField(allow_null=True)
    worker_id = serializers.UUIDField(allow_null=True)
    parent_job_id = serializers.UUIDField(allow_null=True)
    steps = StepShape(many=True)
    workflow_actions = WorkflowActionShape(many=True, help_text="Of the newest generation first")


class LogShape(serializers.Serializer):
    logs = serializers.CharField(help_text="JSON lines: {ts, stream, step, line}")
    next = serializers.CharField(help_text="Send it as `after` to get what arrived since")
    has_more = serializers.BooleanField(help_text="True when there is more to read already")


class WorkerShape(serializers.Serializer):
    worker_id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(["active", "inactive"])
    capabilities = serializers.ListField(child=serializers.CharField())
    tags = serializers.ListField(child=serializers.CharField())
    version = serializers.CharField()
    last_heartbeat = serializers.DateTimeField()
    registered_at = serializers.DateTimeField()


class WorkerPage(serializers.Serializer):
    items = WorkerShape(many=True)
    total = serializers.IntegerField()


class WorkerDetailShape(WorkerShape):
    steps = serializers.DictField()
