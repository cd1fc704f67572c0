"""The form of an approver: always checked, secret values sealed, the same for all approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.approvals.models import ApprovalRequest, Vote
from apps.jobs.flow import abroad, contexts
from apps.jobs.flow.contexts import blanked, redact, reveal, seal_with
from apps.jobs.models import Job
from apps.jobs.plans import Node
from apps.jobs.services import resolve_input
from apps.workspaces.revisions import secret_values
from engine.errors import InputError
from engine.masking import MASK
from engine.spec.freeze import field_from_json
from engine.spec.inputs import secret_fields
from engine.spec.model import InputField


@dataclass(frozen=True, slots=True)
class Answers:
    """The form filled in."""

    clear: dict[str, Any] = field(repr=False)
    shown: dict[str, Any]
    hidden: tuple[str, ...] = field(repr=False)

    @property
    def sealed(self) -> bytes | None:
        return seal_with(self.clear, self.hidden) if self.clear != self.shown else None

    def joined(self, head: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
        """The step's output as shown, and the sealed one if it contains a secret."""
        seen = {**head, "input": self.shown}
        clear = {**head, "input": self.clear}
        return seen, seal_with(clear, self.hidden) if seen != clear else None


def fields_of(request: ApprovalRequest) -> Mapping[str, InputField]:
    """The form that people fill in for the call of an agent."""
    return {name: field_from_json(data) for name, data in request.fields.items()}


def checked(
    job: Job,
    node: Node,
    fields: Mapping[str, InputField],
    given: Mapping[str, Any],
    before: Sequence[Vote],
) -> Answers | None:
    """The checked form; None if the action declares none. Raises InputError, also for values that
    differ from those of earlier approvals."""
    agreed = _clear_of(before[0]) if before else {}
    if before and not given:
        clear = agreed
    else:
        clear = resolve_input(fields, _unmasked(given, agreed), abroad.secrets_of_action(job, node))
        if before and clear != agreed:
            _refuse_other(clear, agreed, before[0])
    if not fields:
        return None
    secret = secret_fields(fields)
    typed = secret_values([clear[name] for name in secret if clear.get(name) is not None])
    masks = contexts.masks_of(job, (*typed, *abroad.masks_of(node)))
    return Answers(clear, blanked(redact(clear, masks), secret), masks)


def _clear_of(vote: Vote) -> dict[str, Any]:
    return reveal(vote.input_sealed)[0] if vote.input_sealed is not None else (vote.input or {})


def _unmasked(given: Mapping[str, Any], agreed: Mapping[str, Any]) -> dict[str, Any]:
    """The submitted values, with "unchanged" masks replaced by the approved value that they stand
    for."""
    return {
        name: agreed[name] if value == MASK and name in agreed else value
        for name, value in given.items()
    }


def _refuse_other(clear: Mapping[str, Any], agreed: Mapping[str, Any], first: Vote) -> None:
    differing = [name for name in {**clear, **agreed} if clear.get(name) != agreed.get(name)]
    text = f"differs from what {first.user.email} approved: keep that value, or reject"
    raise InputError({name: f"'{name}' {text}" for name in differing})
