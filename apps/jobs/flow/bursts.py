"""Many jobs that begin at the same moment, in a few statements."""

from __future__ import annotations

from collections.abc import Sequence

from apps.jobs import bells
from apps.jobs.flow import creation
from apps.jobs.flow.creation import Birth
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen


def launch_all(births: Sequence[Birth]) -> list[Job]:
    """Start jobs that begin without a decision (`Plan.begins_plainly`), in the open transaction;
    what `starting.create` does for one."""
    if not births:
        return []
    jobs, roots = creation.write_all(births)
    ready = pen.begin_many({job.id: ids for job, ids in zip(jobs, roots, strict=True)})
    bells.ring_after_commit(ready)
    return jobs
