"""Answers `stroem-step` for steps in pods, whose worker cannot be reached from there: the container
beside the step asks the server, and the worker reads in the end what the step has set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from django.db import transaction

from apps.artifacts import blobs
from apps.artifacts.files import shelf
from apps.artifacts.models import PodStep
from apps.artifacts.questions import UNAVAILABLE, Answer, Questions, Refusal, refused, words_of
from apps.artifacts.values import Taken
from apps.jobs import ports
from apps.jobs.models import Attempt, Job
from apps.workspaces.sealing import seal, unseal
from engine.state import Seen

_WRITE = ("state set", "output set")


@dataclass(frozen=True, slots=True)
class _Platform:
    """What a step of this job sees, in this process."""

    job: Job

    def state_of(self, claim: Any) -> tuple[Seen, Seen]:
        return ports.keeper().seen(self.job.workspace_id, self.job.task_name)

    def taken(self, claim: Any, steps: Sequence[str]) -> list[Taken]:
        return shelf.taken(self.job.pk, steps)

    def open_taken(self, file: Taken) -> IO[bytes]:
        return blobs.open_blob(blobs.Stored(file.blob_id, "", file.size))

    def released(self) -> None:
        """The caller returns the connection."""


def begin(attempt_id: int, masks: Sequence[str], *, emits: bool) -> None:
    """From now on, questions of this attempt are answered. `masks`: what its log hides."""
    kept = {"masks": list(masks), "emits": emits, "noted": None}
    PodStep.objects.update_or_create(attempt_id=attempt_id, defaults={"sealed": seal(kept)})


def noted(attempt_id: int) -> dict[str, Any] | None:
    """What the step has set; None if it has set nothing. Raises PodStep.DoesNotExist if that is not
    known."""
    sealed = PodStep.objects.values_list("sealed", flat=True).get(
        pk=attempt_id, sealed__isnull=False
    )
    assert sealed is not None
    found: dict[str, Any] | None = unseal(sealed)["noted"]
    return found


def answer(attempt_id: int, asked: bytes) -> Answer:
    """Raises Away and OperationalError if the question may be asked again."""
    try:
        words = words_of(asked)
        if words[:1] and words[0] in _WRITE:
            with transaction.atomic():  # one after the other: none is lost
                return _answer(attempt_id, words, PodStep.objects.select_for_update())
        return _answer(attempt_id, words, PodStep.objects.all())
    except Refusal as refusal:
        if type(refusal) is not Refusal:
            raise
        return refused(refusal)


def _answer(attempt_id: int, words: list[str], rows: Any) -> Answer:
    row = rows.filter(pk=attempt_id, sealed__isnull=False).first()
    if row is None:
        raise Refusal(UNAVAILABLE, "the worker has not said that this step may ask")
    kept = unseal(row.sealed)
    job = Job.objects.get(pk__in=Attempt.objects.filter(pk=attempt_id).values("job_id"))
    platform = _Platform(job)
    questions = Questions(None, platform, platform, masks=kept["masks"], emits=kept["emits"])
    if kept["noted"] is not None:
        questions.recall(kept["noted"])
    found = questions.answer(words, lambda: True)
    if words[0] in _WRITE:
        row.sealed = seal({**kept, "noted": questions.noted})
        row.save(update_fields=["sealed"])
    return found
