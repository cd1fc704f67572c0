"""Workspaces, the frozen revisions that jobs pin, libraries, and stored secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from django.db import models

from apps.workspaces.libraries.lock import Pin

WHOLE = ""  # among the tasks of a list, stands for the workspace itself
FAILED = models.Q(problems__contains=[{"severity": "error"}]) | models.Q(
    quarantined_at__isnull=False
)


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def failing(self) -> Self:
        """Those whose newest state failed to load, by name."""
        return self.filter(FAILED).order_by("name")

    def failing_first(self) -> Self:
        """Those whose newest state failed to load, then the others, each by name."""
        last = models.Case(models.When(FAILED, then=0), default=1)
        return self.order_by(last, "name")


class Workspace(models.Model):
    """A folder or git reference with workflow files. Names are slugs."""

    class Source(models.TextChoices):
        FOLDER = "folder", "Folder"
        GIT = "git", "Git"

    name = models.SlugField(max_length=100, unique=True)
    source = models.CharField(max_length=10, choices=Source)
    location = models.CharField(
        max_length=1000, help_text="Path of the folder, or URL without credentials"
    )
    ref = models.CharField(
        max_length=255, blank=True, help_text="Branch, tag or commit of a git source"
    )
    credential = models.CharField(
        max_length=100, blank=True, help_text="Name under `git_auth` in the configuration"
    )
    poll_interval_s = models.PositiveIntegerField(default=60)
    directory = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        help_text="Where steps of Torc files run; empty: in the file's own folder",
    )
    current = models.ForeignKey(
        "Revision",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Last good revision",
    )
    problems = models.JSONField(
        default=list, blank=True, help_text="What the last load found: errors and warnings"
    )
    checked_at = models.DateTimeField(null=True, blank=True)
    reading_until = models.DateTimeField(
        null=True, blank=True, help_text="Somebody reads the source, at the latest until then"
    )
    stops = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Reads in a row that a limit ended"
    )
    stopped_because = models.CharField(max_length=500, blank=True, default="", db_default="")
    not_before = models.DateTimeField(
        null=True, blank=True, help_text="When the scheduler may read it again after such an end"
    )
    quarantined_at = models.DateTimeField(null=True, blank=True)
    announced = models.TextField(
        blank=True, default="", db_default="", help_text="Events with subscribers, between spaces"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WorkspaceQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def announces(self, event: str) -> bool:
        """Whether somebody has subscribed to this event."""
        return event in self.announced.split()

    @property
    def has_failed(self) -> bool:
        """True if the newest state of the source failed to load, so that an older revision is in
        force."""
        return any(problem.get("severity") == "error" for problem in self.problems)

    @property
    def quarantine(self) -> str | None:
        """Why the source is hardly read any more, and what ends that; None if it is read."""
        if self.quarantined_at is None or self.not_before is None:
            return None
        reads = (
            f"the last {self.stops} reads of its source were" if self.stops > 1 else "a read was"
        )
        return (
            f"in quarantine since {_minute(self.quarantined_at)}: {reads} stopped at a limit"
            f" ({self.stopped_because}). It is tried again at {_minute(self.not_before)};"
            " an administrator who reads it again before, with success, releases it"
        )


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


class Blob(models.Model):
    """Bytes by digest: revision archives. Encrypted, since they may contain secrets."""

    digest = models.CharField(max_length=64, primary_key=True)
    size_bytes = models.BigIntegerField()
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)


class Revision(models.Model):
    """One state of a workspace, identified by the hash of its content."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="revisions")
    digest = models.CharField(max_length=64, help_text="SHA-256 over paths, modes and contents")
    label = models.CharField(max_length=64, blank=True, help_text="Commit id of a git source")
    archive = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    definition = models.JSONField(help_text="The parsed workspace without secret values")
    sealed_secrets = models.BinaryField(
        null=True, help_text="Encrypted `secrets:` and `connections:` of the files"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "digest"], name="workspaces_revision_once")
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}@{self.digest[:12]}"


class Library(models.Model):
    """A library of a workspace at its pin, with its files as a sealed archive."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="libraries")
    name = models.CharField(max_length=60)
    address = models.CharField(max_length=1000, help_text="URL of the repository, or folder")
    ref = models.CharField(max_length=255, blank=True)
    commit = models.CharField(max_length=64, blank=True, help_text="Empty for a folder")
    tree = models.CharField(max_length=64, help_text="SHA-256 over its files")
    sealed = models.BinaryField()
    is_locked = models.BooleanField(default=False, help_text="The workspace's lock file pins it")
    is_due = models.BooleanField(default=False, help_text="Move the pin with the next read")
    pinned_at = models.DateTimeField()
    pinned_by = models.CharField(max_length=254, blank=True)

    class Meta:
        verbose_name_plural = "libraries"
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="workspaces_library_once")
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.name}"

    @property
    def pin(self) -> Pin:
        return Pin(self.address, self.ref, self.commit, self.tree)

    @property
    def label(self) -> str:
        """Short, for people."""
        return (self.commit or self.tree)[:12]


class TaskList(models.Model):
    """The tasks of a workspace's files, now and before, as rights on them are decided: a task that
    has left the files keeps its folder and whom they kept it to."""

    workspace = models.OneToOneField(
        Workspace, on_delete=models.CASCADE, primary_key=True, related_name="task_list"
    )
    tasks = models.JSONField(
        default=dict, help_text="By name: [folder, access]; the workspace itself without a name"
    )
    is_kept = models.BooleanField(default=False, help_text="The files keep some rights to some")

    def __str__(self) -> str:
        return f"tasks of {self.workspace_id}"


class Secret(models.Model):
    """A secret stored in the database: write-only in admin and API, encrypted at rest."""

    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="stored_secrets"
    )
    name = models.CharField(max_length=200)
    sealed = models.BinaryField()
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.CharField(max_length=254, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="workspaces_secret_once")
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.name}"


class Connection(models.Model):
    """A connection stored in the database, in place of one of the files with the same name. Its
    values are write-only where they are secret, and encrypted at rest."""

    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="stored_connections"
    )
    name = models.CharField(max_length=100)
    type = models.CharField(max_length=200)
    sealed = models.BinaryField(help_text="Encrypted `values`, and which of them are `secret`")
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.CharField(max_length=254, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="workspaces_connection_once")
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.name}"
