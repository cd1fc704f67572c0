"""The ledger for workers: archives of pinned revisions, and passes for pods to fetch them."""

from __future__ import annotations

from apps.workspaces import passes
from apps.workspaces.models import Revision
from apps.workspaces.sealing import unseal_bytes
from engine.errors import NotFound


def archive(revision_id: int) -> bytes:
    """The decrypted tar.gz of the pinned tree. It may contain secrets: keep it in directories with
    mode 0700."""
    sealed = (
        Revision.objects.filter(pk=revision_id).values_list("archive__sealed", flat=True).first()
    )
    if sealed is None:
        raise NotFound(f"revision {revision_id} is gone; its workspace was removed")
    return unseal_bytes(sealed)


def pass_for(attempt_id: int, fence: int, digest: str, token: str | None = None) -> str:
    """The pass for the archive of the revision with this digest, valid while the attempt is alive.
    A secret of this attempt. `token`: the worker's `worker_token`."""
    return passes.issue(attempt_id, fence, digest, token)
