"""No secret is stored in clear: people see masked values, and values needed later are sealed beside
them.

A sealed value carries a list of the secret values in it, so that whoever opens it can mask them
too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apps.jobs.transitions.moves import Result
from apps.jobs.values import Claim, Report
from apps.workspaces.sealing import seal, unseal
from engine.masking import MASK, masker, secret_strings
from engine.orders import StepOutcome

if TYPE_CHECKING:
    from engine.state import Left

Opened = tuple[Any, tuple[str, ...]]  # a value and its secret values


def redact(value: Any, masks: tuple[str, ...]) -> Any:
    """The value with secrets masked."""
    return masker(masks).value(value) if masks else value


def blanked(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`values` with the named entries hidden completely, however short."""
    return values | {name: MASK for name in names if values.get(name) is not None}


def redact_and_seal(value: Any, masks: tuple[str, ...]) -> tuple[Any, bytes | None]:
    """The masked value, and the sealed original if they differ."""
    seen = redact(value, masks)
    return seen, None if seen == value else seal_with(value, masks)


def seal_with(value: Any, hidden: Iterable[str]) -> bytes:
    """The value sealed, with the `hidden` values that it contains."""
    within = secret_strings(value, _keys_of(value))
    return seal(
        {
            "value": value,
            "hidden": [text for text in hidden if any(text in other for other in within)],
        }
    )


def reveal(sealed: bytes | memoryview) -> Opened:
    """A sealed value, and the secret values in it."""
    content = unseal(sealed)
    return content["value"], tuple(content["hidden"])


def redact_result(result: Result, masks: tuple[str, ...]) -> Result:
    """The result with error and output masked; an output with secrets is also kept sealed."""
    if not masks:
        return result
    error = masker(masks).text(result.error)
    if result.output_sealed is not None or not result.has_output:
        return replace(result, error=error, output=redact(result.output, masks))
    output, sealed = redact_and_seal(result.output, masks)
    return replace(result, error=error, output=output, output_sealed=sealed)


@dataclass(frozen=True, slots=True)
class Told:
    """A worker's report as it may be stored: secrets masked, and sealed beside."""

    claim: Claim
    outcome: StepOutcome
    result: Result
    input: Any
    progress: int | None
    left: Left | None = None  # in clear, with `masks`: its keeper masks and seals
    masks: tuple[str, ...] = ()


def redact_report(report: Report) -> Told:
    """Mask a report once, for everything that is done with it."""
    outcome, masks = report.outcome, report.masks
    result = Result(outcome.error or "", outcome.output, outcome.has_output)
    if masks:
        result = redact_result(result, masks)
        outcome = replace(outcome, error=result.error or None, output=result.output)
    seen = redact(report.input, masks)
    return Told(report.claim, outcome, result, seen, report.progress, report.left, masks)


def _keys_of(value: Any) -> list[str]:
    keys: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            keys += item
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return keys
