"""Nothing secret is stored in clear: what is shown is masked, what is needed later is sealed beside
it.

What is sealed takes along which secret values it holds, so that whoever opens it can hide them as
well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from apps.jobs.transitions.moves import Result
from apps.jobs.values import Claim, Report
from apps.workspaces.sealing import seal, unseal
from engine.masking import MASK, masker, secret_strings
from engine.orders import StepOutcome

Opened = tuple[Any, tuple[str, ...]]  # a value, and the secret values in it


def shown(value: Any, masks: tuple[str, ...]) -> Any:
    """The value as people may see it."""
    return masker(masks).value(value) if masks else value


def blanked(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`values` with those of these names hidden as a whole, however short they are."""
    return values | {name: MASK for name in names if values.get(name) is not None}


def conceal(value: Any, masks: tuple[str, ...]) -> tuple[Any, bytes | None]:
    """The value as people may see it, and the value itself sealed where that differs."""
    seen = shown(value, masks)
    return seen, None if seen == value else seal_with(value, masks)


def seal_with(value: Any, hidden: Iterable[str]) -> bytes:
    """The value sealed, with those of the `hidden` that it holds."""
    within = secret_strings(value, _keys_of(value))
    return seal(
        {
            "value": value,
            "hidden": [text for text in hidden if any(text in other for other in within)],
        }
    )


def reveal(sealed: bytes | memoryview) -> Opened:
    """What was sealed, and the secret values that it holds."""
    content = unseal(sealed)
    return content["value"], tuple(content["hidden"])


def masked_result(result: Result, masks: tuple[str, ...]) -> Result:
    """The result with its error and output masked; an output that held a secret is kept sealed as
    well."""
    if not masks:
        return result
    error = masker(masks).text(result.error)
    if result.output_sealed is not None or not result.has_output:
        return replace(result, error=error, output=shown(result.output, masks))
    output, sealed = conceal(result.output, masks)
    return replace(result, error=error, output=output, output_sealed=sealed)


@dataclass(frozen=True, slots=True)
class Told:
    """A worker's report as it may be stored: what is secret in it is masked, and sealed beside."""

    claim: Claim
    outcome: StepOutcome
    result: Result
    input: Any
    progress: int | None


def redacted(report: Report) -> Told:
    """Masks a report, once for all that is done with it."""
    outcome, masks = report.outcome, report.masks
    result = masked_result(Result(outcome.error or "", outcome.output, outcome.has_output), masks)
    return Told(
        report.claim,
        replace(outcome, error=result.error or None, output=result.output),
        result,
        shown(report.input, masks),
        report.progress,
    )


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
