"""Nothing secret is stored in clear: what is shown is masked, what is needed later is sealed beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.jobs.transitions.moves import Result
from apps.workspaces.sealing import seal_json
from engine.masking import Masker


def shown(value: Any, masks: tuple[str, ...]) -> Any:
    """The value as people may see it."""
    return Masker(masks).value(value) if masks else value


def masked_result(result: Result, masks: tuple[str, ...]) -> Result:
    """The result with its error and output masked; an output that held a secret is kept sealed as well."""
    if not masks:
        return result
    masker = Masker(masks)
    output = masker.value(result.output)
    sealed = result.output_sealed
    if sealed is None and output != result.output:
        sealed = seal_json(result.output)
    return replace(result, error=masker.text(result.error), output=output, output_sealed=sealed)
