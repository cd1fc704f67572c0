"""The worker's door: the files of a pinned revision, and the passes with which pods fetch them."""

from __future__ import annotations

from apps.workspaces import passes
from apps.workspaces.models import Revision
from apps.workspaces.sealing import unseal_bytes
from engine.errors import NotFound


def archive(revision_id: int) -> bytes:
    """The tar.gz of the pinned tree, opened. It may hold secrets: keep it in directories of mode
    0700."""
    sealed = (
        Revision.objects.filter(pk=revision_id).values_list("archive__sealed", flat=True).first()
    )
    if sealed is None:
        raise NotFound(f"revision {revision_id} is gone; its workspace was removed")
    return unseal_bytes(sealed)


def pass_for(attempt_id: int, fence: int, digest: str) -> str:
    """What opens the archive of the revision with this digest while the attempt is alive. A secret
    of this attempt."""
    return passes.issue(attempt_id, fence, digest)
