"""Where a job's files come to lie: on hosts whose settings differ, in several directories."""

from __future__ import annotations

from uuid import UUID

from apps.jobs.models import StepEvent
from apps.jobs.transitions import moves as step_pen

KIND, DIFFERS = "output_dir", "output_differs"


def opened(job_id: UUID, directory: str, host: str) -> str:
    """A worker uses this directory as the job's own. Returns how another worker's differs, which
    the job's history says as well; empty if none does."""
    if directory not in (known := _known(job_id)):
        step_pen.note(job_id, KIND, f"{directory} on {host}")
        known = _known(job_id)  # of two at the same moment, one sees both
    others = [place for one, place in known.items() if one != directory]
    if not others:
        return ""
    text = (
        f"The job's files lie in several output directories: {directory} on {host}, and"
        f" {', '.join(others)}. Give all hosts the same shared directory as `output_root`"
    )
    step_pen.note(job_id, DIFFERS, text)
    return text


def _known(job_id: UUID) -> dict[str, str]:
    """Directory -> the first place of that name."""
    found = StepEvent.objects.filter(job_id=job_id, kind=KIND).order_by("-id")
    details = found.values_list("detail", flat=True)
    return {detail.rpartition(" on ")[0]: detail for detail in details}
