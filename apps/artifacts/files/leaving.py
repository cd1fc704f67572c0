"""Artifacts come and go: noted for an attempt under way, removed with their job or by age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, Sum
from django.db.models.functions import Now

from apps.artifacts.errors import TooLarge
from apps.artifacts.files import shelf
from apps.artifacts.models import Artifact, PodStep
from apps.artifacts.values import Left, Limits, tighter
from apps.jobs.models import Attempt, Job, Step
from engine.resources import show_bytes

BATCH = 500
OWN = "workspace__current__definition__artifacts"  # of a job: `settings.artifacts`
SETTLED = timedelta(days=1)  # an attempt that does not count by then never will


def limits() -> Limits:
    given = settings.STROEM.artifacts
    mb = 1024 * 1024
    return Limits(
        file_bytes=given.file_mb * mb,
        job_bytes=given.job_mb * mb,
        workspace_bytes=None if given.workspace_mb is None else given.workspace_mb * mb,
        files=given.files,
        patience_s=given.patience_s,
    )


def refuse_beyond(job_id: UUID, step_id: int, sizes: Sequence[int]) -> None:
    """Raises TooLarge if the step's files, with those of the job's other steps, are too many or too
    large."""
    known, others = limits(), shelf.of_job(job_id).exclude(step_id=step_id)
    total = sum(sizes)
    there = others.aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    if len(sizes) + others.count() > known.files:
        raise TooLarge(f"a job may leave {known.files:,} files (`artifacts.files`)")
    if there + total > known.job_bytes:
        raise TooLarge(
            f"they have {show_bytes(total)}, and a job may leave {show_bytes(known.job_bytes)}"
            f" (`artifacts.job_mb`), of which {show_bytes(there)} are used"
        )
    workspace, own = Job.objects.values_list("workspace_id", OWN).get(id=job_id)
    _, most = tighter(own, None, known.workspace_bytes)
    if most is None:
        return
    used = Artifact.objects.filter(workspace_id=workspace).exclude(step_id=step_id)
    there = used.aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    if there + total > most.amount:
        raise TooLarge(
            f"the workspace may keep {show_bytes(int(most.amount))} of artifacts"
            f" ({most.source('artifacts.workspace_mb')}), of which {show_bytes(there)} are used"
        )


@transaction.atomic
def leave(
    attempt_id: int,
    fence: int,
    files: Sequence[Left],
    retain_s: float | None,
    *,
    has_failed: bool = False,
) -> bool:
    """Note these files for an attempt that is alive, instead of what was noted for it before; False
    if it is not. `has_failed`: it is going to end so. Raises TooLarge."""
    with connection.cursor() as cursor:  # two steps of a job may not pass its limit together
        cursor.execute("SELECT job_id, step_id FROM jobs_attempt WHERE id = %s", [attempt_id])
        found = cursor.fetchone()
        if found is None:
            return False
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", [str(found[0])])
    alive = Attempt.objects.filter(
        id=attempt_id, fence=fence, ended_at__isnull=True, lease_until__gt=Now()
    )
    attempt = alive.select_for_update(no_key=True).first()
    if attempt is None:
        return False
    refuse_beyond(attempt.job_id, attempt.step_id, [file.size for file in files])
    Artifact.objects.filter(attempt_id=attempt_id).delete()
    _note(attempt, files, retain_s, has_failed)
    return True


def _note(
    attempt: Attempt, files: Sequence[Left], retain_s: float | None, has_failed: bool
) -> None:
    workspace, own, name, base = Step.objects.values_list(
        "job__workspace_id", f"job__{OWN}", "name", "base"
    ).get(id=attempt.step_id)
    usual, _ = tighter(own, settings.STROEM.artifacts.retain, None)
    kept_s = retain_s
    if retain_s is None and usual is not None:
        kept_s = usual.amount
    Artifact.objects.bulk_create(
        (
            Artifact(
                job_id=attempt.job_id,
                workspace_id=workspace,
                step_id=attempt.step_id,
                step_name=name,
                base=base,
                attempt_id=attempt.id,
                name=file.name,
                content_type=file.content_type,
                size_bytes=file.size,
                blob_id=file.blob_id,
                has_failed=has_failed,
                is_program=file.is_program,
                expires_at=None if kept_s is None else Now() + timedelta(seconds=kept_s),
            )
            for file in files
        ),
        batch_size=BATCH,
    )


def tell_end(attempt_id: int, exit_code: int) -> None:
    """The image of this attempt has ended in its pod."""
    PodStep.objects.update_or_create(attempt_id=attempt_id, defaults={"exit_code": exit_code})


def end_of(attempt_id: int) -> int | None:
    """The exit code of the image, once it has ended."""
    return PodStep.objects.filter(pk=attempt_id).values_list("exit_code", flat=True).first()


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Their jobs are being removed; the bytes go later, see `blobs.clear_unused`."""
    Artifact.objects.filter(job_id__in=job_ids)._raw_delete("default")


def expire() -> int:
    """Remove rows whose time is over, and those of attempts that do not count; returns how many.
    Nothing of a job that is open: a later step may take it."""
    alive = Attempt.objects.filter(pk=OuterRef("pk"), ended_at__isnull=True)
    PodStep.objects.filter(~Exists(alive), told_at__lt=Now() - SETTLED)._raw_delete("default")
    ended = Job.objects.filter(pk=OuterRef("job_id"), completed_at__isnull=False)
    old = Q(created_at__lt=Now() - SETTLED) & (~Exists(shelf.own()) | Exists(shelf.later()))
    found = Artifact.objects.filter(Q(expires_at__lt=Now()) | old, Exists(ended))
    removed = 0
    while rows := list(found.values_list("id", flat=True)[:BATCH]):
        removed += Artifact.objects.filter(id__in=rows)._raw_delete("default")
    return removed
