"""The form that an approver fills in: checked always, secret values sealed, the same for all who
approve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.approvals.models import Vote
from apps.jobs.flow import contexts
from apps.jobs.flow.redaction import blanked, reveal, seal_with, shown
from apps.jobs.services import resolve_input
from apps.workspaces.secrets import secret_values, secrets_of
from engine.errors import InputError
from engine.inputs import secret_fields
from engine.masking import MASK

if TYPE_CHECKING:
    from apps.approvals.decisions import Case


@dataclass(frozen=True, slots=True)
class Answers:
    """The form filled in. `clear` is None where there is no form."""

    clear: dict[str, Any] | None = field(repr=False)
    shown: dict[str, Any] | None
    hidden: tuple[str, ...] = field(repr=False, default=())

    @property
    def sealed(self) -> bytes | None:
        return seal_with(self.clear, self.hidden) if self.clear != self.shown else None

    def joined(self, head: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
        """The step's output as shown, and sealed where it holds a secret."""
        if self.clear is None:
            return dict(head), None
        seen = {**head, "input": self.shown}
        clear = {**head, "input": self.clear}
        return seen, seal_with(clear, self.hidden) if seen != clear else None


def checked(case: Case, given: Mapping[str, Any] | None, before: Sequence[Vote]) -> Answers:
    """The form as the action declares it. Raises InputError, also for what earlier approvals did
    not agree to."""
    job = case.advance.job
    fields = case.advance.plan.nodes[case.state.base].action.input
    agreed = clear_of(before[0]) if before else None
    if not given and agreed is not None:
        clear = agreed
    else:
        clear = resolve_input(
            fields, _unmasked(given or {}, agreed or {}), secrets_of(job.revision)
        )
        if before and clear != (agreed or {}):
            _refuse_other(clear, agreed or {}, before[0])
    secret = secret_fields(fields)
    typed = secret_values([clear[name] for name in secret if clear.get(name) is not None])
    masks = contexts.masks_of(job, typed)
    if not fields:
        return Answers(None, None)
    return Answers(clear, blanked(shown(clear, masks), secret), masks)


def clear_of(vote: Vote) -> dict[str, Any]:
    return reveal(vote.input_sealed)[0] if vote.input_sealed is not None else (vote.input or {})


def _unmasked(given: Mapping[str, Any], agreed: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, where a value left at the mask means "as it was approved": nobody sees what it
    stands for."""
    return {
        name: agreed[name] if value == MASK and name in agreed else value
        for name, value in given.items()
    }


def _refuse_other(clear: Mapping[str, Any], agreed: Mapping[str, Any], first: Vote) -> None:
    differing = [name for name in {**clear, **agreed} if clear.get(name) != agreed.get(name)]
    text = f"differs from what {first.user.email} approved: leave it as it is, or reject"
    raise InputError({name: f"'{name}' {text}" for name in differing})
