from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from engine.output import StoredDecoder

SOURCES = ("step", "upload", "restore")  # of a version of a state


class Blob(models.Model):
    """Bytes in the storage. Exists from `stored_at` on, until `leaving_at`; before and after, the
    row says what to clear away."""

    key = models.CharField(max_length=200, unique=True, help_text="Its name in the storage")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256")
    size_bytes = models.BigIntegerField(default=0)
    stored_at = models.DateTimeField(null=True, blank=True)
    leaving_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(db_default=Now(), help_text="When it was last put or begun")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["digest", "size_bytes"],
                condition=Q(stored_at__isnull=False, leaving_at__isnull=True),
                name="artifacts_blob_once",
            )
        ]
        indexes = [models.Index(fields=["used_at"], name="artifacts_blob_used")]

    def __str__(self) -> str:
        return self.digest[:12]


class Installation(models.Model):
    """The one row that the storage is compared with: both belong to the same installation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    is_only = models.BooleanField(default=True, unique=True)
    marked_at = models.DateTimeField(null=True, help_text="When its mark was put into the storage")


class Artifact(models.Model):
    """A file that an attempt of a step has left. It counts once the attempt has ended, see
    `files.shelf`. Without foreign keys into jobs, whose rows are locked while steps end."""

    job_id = models.UUIDField()
    workspace_id = models.BigIntegerField()
    step_id = models.BigIntegerField()
    step_name = models.CharField(max_length=300)
    base = models.CharField(max_length=300, help_text="Name of the node in the flow")
    attempt_id = models.BigIntegerField()
    name = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100)
    size_bytes = models.BigIntegerField()
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    has_failed = models.BooleanField(
        default=False, db_default=False, help_text="Stored although the step had failed"
    )
    is_program = models.BooleanField(
        default=False, db_default=False, help_text="Its owner could execute it"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attempt_id", "name"], name="artifacts_artifact_once")
        ]
        indexes = [
            models.Index(fields=["job_id", "id"], name="artifacts_artifact_job"),
            models.Index(
                fields=["workspace_id"], include=["size_bytes"], name="artifacts_artifact_workspace"
            ),
            models.Index(
                fields=["expires_at"],
                name="artifacts_artifact_expiry",
                condition=Q(expires_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PodStep(models.Model):
    """What the worker of a step in a pod and the platform's container beside it tell each other.
    `exit_code`: of its image, once that has ended. `sealed`: what its log hides, and what it has
    set by `stroem-step`."""

    attempt_id = models.BigIntegerField(primary_key=True)
    exit_code = models.IntegerField(null=True)
    sealed = models.BinaryField(null=True)
    told_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"attempt {self.attempt_id}"


class State(models.Model):
    """What a task remembers, or its workspace: the newest version. `written`: the version that
    last wrote a key, also of removed ones. `sealed`: the values, if some are secret."""

    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="states"
    )
    task_name = models.CharField(max_length=300, blank=True, help_text="Empty: of the workspace")
    version = models.PositiveIntegerField(default=0)
    values = models.JSONField(default=dict, decoder=StoredDecoder)
    sealed = models.BinaryField(null=True)
    written = models.JSONField(default=dict)
    files_written = models.PositiveIntegerField(default=0)
    files = models.ForeignKey(
        "FileSet", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "task_name"], name="artifacts_state_once")
        ]

    def __str__(self) -> str:
        return self.task_name or "the workspace"


class FileSet(models.Model):
    """The files of one or more versions in a row: a version that wrote none has those before."""

    state = models.ForeignKey(State, on_delete=models.CASCADE, related_name="file_sets")
    count = models.PositiveIntegerField()
    size_bytes = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.count} files"


class StateFile(models.Model):
    file_set = models.ForeignKey(FileSet, on_delete=models.CASCADE, related_name="files")
    path = models.TextField()
    is_program = models.BooleanField(default=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["path"]
        constraints = [
            models.UniqueConstraint(fields=["file_set", "path"], name="artifacts_statefile_once")
        ]

    def __str__(self) -> str:
        return self.path


class StateVersion(models.Model):
    """One version of a state. `base`: the version that its writer saw. Jobs may be removed: their
    ids are no foreign keys."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    state = models.ForeignKey(State, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    values = models.JSONField(default=dict, decoder=StoredDecoder)
    sealed = models.BinaryField(null=True)
    files = models.ForeignKey(
        FileSet, null=True, blank=True, on_delete=models.SET_NULL, related_name="versions"
    )
    written = models.JSONField(default=list, help_text="Keys")
    removed = models.JSONField(default=list, help_text="Keys")
    wrote_files = models.BooleanField(default=False)
    base = models.PositiveIntegerField(null=True)
    source = models.CharField(max_length=10, choices=[(one, one) for one in SOURCES])
    job_id = models.UUIDField(null=True)
    step_name = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["state", "number"], name="artifacts_version_once")
        ]

    def __str__(self) -> str:
        return f"version {self.number}"


class JobLog(models.Model):
    """The lines of a job that are in the storage, in sum. `removed_lines`: those that retention has
    taken, at last at `removed_at`."""

    job_id = models.UUIDField(primary_key=True)
    workspace_id = models.BigIntegerField()
    ended_at = models.DateTimeField(help_text="The end of the job, when lines were last moved")
    line_count = models.BigIntegerField(default=0)
    raw_bytes = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0, help_text="Compressed")
    removed_lines = models.BigIntegerField(default=0)
    removed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["workspace_id", "ended_at"],
                include=["size_bytes"],
                name="artifacts_joblog_oldest",
                condition=Q(size_bytes__gt=0),
            )
        ]

    def __str__(self) -> str:
        return f"{self.line_count} lines"


class LogFrame(models.Model):
    """A run of a job's batches of lines in a volume, see `logs.packing`."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField()
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    place = models.BigIntegerField(help_text="Where its bytes begin")
    size_bytes = models.IntegerField(help_text="Compressed")
    raw_bytes = models.IntegerField()
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    line_count = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    steps = ArrayField(models.BigIntegerField())
    attempts = ArrayField(models.BigIntegerField())
    lines = ArrayField(models.IntegerField())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job_id", "first_id"], name="artifacts_logframe_once")
        ]

    def __str__(self) -> str:
        return f"{self.line_count} lines"


class LogRound(models.Model):
    """The one row of those who move lines: whose turn it is, and how the last one went."""

    is_only = models.BooleanField(default=True, unique=True)
    holder = models.UUIDField(null=True)
    held_until = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, help_text="The last round without an error")
    waiting = models.IntegerField(default=0, help_text="Jobs whose lines that round left here")
    error = models.TextField(blank=True, default="")
    failing_since = models.DateTimeField(null=True)
