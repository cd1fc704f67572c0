"""Nothing secret is stored in clear: what is shown is masked, what is needed later is sealed beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.jobs.transitions.moves import Result
from apps.workspaces.sealing import seal
from engine.masking import masker


def shown(value: Any, masks: tuple[str, ...]) -> Any:
    """The value as people may see it."""
    return masker(masks).value(value) if masks else value


def masked_result(result: Result, masks: tuple[str, ...]) -> Result:
    """The result with its error and output masked; an output that held a secret is kept sealed as well."""
    if not masks:
        return result
    hider = masker(masks)
    output = hider.value(result.output)
    sealed = result.output_sealed
    if sealed is None and output != result.output:
        sealed = seal(result.output)
    return replace(result, error=hider.text(result.error), output=output, output_sealed=sealed)
