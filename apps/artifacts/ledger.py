"""The ledger for workers: they put bytes into the storage, and note which attempt they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any, BinaryIO

from django.core.exceptions import ObjectDoesNotExist

from apps.artifacts import blobs
from apps.artifacts.blobs import Stored as Stored
from apps.artifacts.blobs import Upload as Upload
from apps.artifacts.errors import StorageAway as StorageAway
from apps.artifacts.errors import TooLarge as TooLarge
from apps.artifacts.errors import Unsteady as Unsteady
from apps.artifacts.files import asking, leaving, shelf
from apps.artifacts.questions import MOST_BYTES as MOST_BYTES
from apps.artifacts.questions import Answer as Answer
from apps.artifacts.questions import Questions as Questions
from apps.artifacts.questions import Refusal as Refusal
from apps.artifacts.questions import refused as refused
from apps.artifacts.questions import words_of as words_of
from apps.artifacts.values import Left as Left
from apps.artifacts.values import Limits as Limits
from apps.artifacts.values import Taken as Taken
from apps.jobs.ledger import released as released
from apps.jobs.values import Claim
from engine.errors import PlatformError


def limits() -> Limits:
    """Of files that steps leave."""
    return leaving.limits()


def refuse_beyond(claim: Claim, sizes: Sequence[int]) -> None:
    """Raises TooLarge, before anything travels."""
    leaving.refuse_beyond(claim.job_id, claim.step_id, sizes)


def begin(stream: BinaryIO) -> Upload:
    """Store bytes by its `go_on`, which raises StorageAway when it may be repeated, TooLarge,
    Unsteady."""
    return Upload(stream, at_most=leaving.limits().file_bytes)


def leave(
    claim: Claim, files: Sequence[Left], retain_s: float | None, *, has_failed: bool = False
) -> bool:
    """Note the files of this attempt, all or none; False if this worker has lost it. They count
    once its end has been reported: success, or failure if it `has_failed`."""
    return leaving.leave(claim.attempt_id, claim.fence, files, retain_s, has_failed=has_failed)


def tell_end(claim: Claim, exit_code: int) -> None:
    """The image of this attempt has ended in its pod: what sends its files may begin."""
    leaving.tell_end(claim.attempt_id, exit_code)


def may_ask(claim: Claim, masks: Sequence[str], *, emits: bool) -> None:
    """The step of this claim runs in a pod, where the server answers `stroem-step`."""
    asking.begin(claim.attempt_id, masks, emits=emits)


def noted(claim: Claim) -> dict[str, Any] | None:
    """What it has set, if anything. Raises PlatformError if that is not known any more."""
    try:
        return asking.noted(claim.attempt_id)
    except ObjectDoesNotExist:
        raise PlatformError(
            "what the step has set by `stroem-step` is not known any more"
        ) from None


def taken(claim: Claim, steps: Sequence[str]) -> list[Taken]:
    """What these steps of the job have left."""
    return shelf.taken(claim.job_id, steps)


def open_taken(file: Taken) -> IO[bytes]:
    """Its bytes; the caller closes the stream. Raises StorageAway."""
    return blobs.open_blob(blobs.Stored(file.blob_id, "", file.size))
