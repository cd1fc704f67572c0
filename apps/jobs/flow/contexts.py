"""The values of a job: in clear for templates, masked for people, sealed for later.

What is in clear is plain JSON: never logged, never stored. A sealed value carries a list of the
secret values in it, so that whoever opens it can mask them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from apps.jobs import ports
from apps.jobs.database.sql import fetch
from apps.jobs.models import Job
from apps.jobs.plans import Node, Plan
from apps.jobs.transitions.moves import Result
from apps.jobs.transitions.rows import Instance
from apps.jobs.values import Claim, Report
from apps.workspaces.errors import SecretError
from apps.workspaces.revisions import secret_values, secrets_of, sensitive_of
from apps.workspaces.sealing import seal, unseal
from engine import templating
from engine.lifecycle import StepStatus
from engine.masking import MASK, masker, secret_strings
from engine.orders import StepOutcome
from engine.output import load_stored

if TYPE_CHECKING:
    from engine.state import Left, Seen

OUTPUTS = """
SELECT name, status, output::text, output_sealed, error FROM jobs_step
WHERE job_id = %s AND name = ANY(%s) AND loop_id IS NULL
    AND status IN ('completed', 'failed', 'skipped', 'cancelled', 'suspended')
"""
Opened = tuple[Any, tuple[str, ...]]  # a value and its secret values


# What templates see


@dataclass(frozen=True, slots=True)
class View:
    """A context, and its secret values from inputs and outputs (not the workspace's own)."""

    values: dict[str, Any] = field(repr=False)
    hidden: tuple[str, ...] = field(repr=False, default=())

    def with_each(self, each: Opened) -> View:
        return View(self.values | {"each": each[0]}, (*self.hidden, *each[1]))


def opened(stored: str | bytes) -> Opened:
    """A value with its secrets in clear, from its JSON text or its sealed form."""
    return (load_stored(stored), ()) if isinstance(stored, str) else reveal(stored)


def clear_input(job: Job) -> dict[str, Any]:
    """The job's input with secret values in clear."""
    values: dict[str, Any] = (
        reveal(job.input_sealed)[0] if job.input_sealed is not None else job.input
    )
    return values


def hidden_of(job: Job) -> tuple[str, ...]:
    """Secret values in the job's input, given by its caller or its parent."""
    return reveal(job.input_sealed)[1] if job.input_sealed is not None else ()


def outputs_of(
    job_id: UUID, names: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Entries of final steps by context name, and the secret values in them.

    An entry is {"output": ...}, with "error" after a failure; skipped, cancelled and suspended
    steps have a null output.
    """
    wanted = list(names)
    if not wanted:
        return {}, ()
    entries: dict[str, dict[str, Any]] = {}
    hidden: tuple[str, ...] = ()
    for name, status, output, sealed, error in fetch(OUTPUTS, (job_id, wanted)):
        value, secret = _output(output, sealed)
        entry: dict[str, Any] = {"output": value if status == StepStatus.COMPLETED else None}
        if status == StepStatus.FAILED:
            entry["error"] = error
        entries[templating.context_name(name)] = entry
        hidden += secret
    return entries, hidden


def with_files(
    job_id: UUID, plan: Plan, entries: dict[str, dict[str, Any]], names: frozenset[str]
) -> dict[str, dict[str, Any]]:
    """The entries with the artifacts of these steps, by file name: of a loop, the last with it."""
    bases = plan.steps_named(names)
    if not bases:
        return entries
    more = {templating.context_name(base): dict[str, Any]() for base in bases}
    for file in ports.files_of(job_id, bases):
        more[templating.context_name(file.base)][file.name] = {
            "url": file.url, "size_bytes": file.size_bytes, "content_type": file.content_type,
        }  # fmt: skip
    return {
        **entries,
        **{name: {**entries.get(name, {}), "artifacts": more[name]} for name in more},
    }


def _output(text: str | None, sealed: bytes | None) -> Opened:
    if sealed is not None:
        return reveal(sealed)
    return (None if text is None else load_stored(text)), ()


def base_view(
    job: Job, plan: Plan, names: frozenset[str], files: frozenset[str] = frozenset()
) -> View:
    """Context of `when`, `for_each`, approval messages and the inputs of steps that run on the
    server."""
    secrets = secrets_of(job.revision)
    entries, hidden = outputs_of(job.id, plan.steps_named(names))
    if plan.reads_state(names):
        from engine import state

        states = ports.keeper().seen(job.workspace_id, job.task_name)
        entries, hidden = {**state.names(states), **entries}, (*hidden, *hidden_in(states))
    entries = with_files(job.id, plan, entries, files)
    values = {**entries, "input": clear_input(job), "secret": secrets, "secrets": secrets}
    return View(values, (*hidden_of(job), *hidden))


def hidden_in(states: tuple[Seen, Seen]) -> tuple[str, ...]:
    """Secret values in what is remembered."""
    return (*states[0].hidden, *states[1].hidden)


def control_context(job: Job, plan: Plan, node: Node) -> Mapping[str, Any]:
    return base_view(job, plan, node.control_names, node.file_names).values


def each_of(instance: Instance) -> Opened:
    """The value of `each` in the templates of a loop instance, and its secret values."""
    item, hidden = opened(instance.item if instance.sealed is None else instance.sealed)
    return {"item": item, "index": instance.index, "total": instance.total}, hidden


def masks_of(job: Job, hidden: Iterable[str] = ()) -> tuple[str, ...]:
    """Secret values that must not be stored or shown in clear for this job, including `hidden`. If
    the workspace's secrets cannot be resolved, no text can contain them either."""
    try:
        known: Sequence[str] = sensitive_of(job.revision_id)
    except SecretError:
        known = ()
    return secret_values([known, hidden_of(job), list(hidden)])


def sealed_loop_output(loop_id: int) -> bytes:
    """The outputs of a loop's instances with secret values, sealed as one."""
    found = fetch(
        "SELECT output::text, output_sealed, status = 'completed' FROM jobs_step WHERE loop_id = %s"
        " ORDER BY loop_index",
        (loop_id,),
    )
    outputs = [_output(text, sealed) if is_done else (None, ()) for text, sealed, is_done in found]
    return seal_with(
        [value for value, _ in outputs], {text for _, hidden in outputs for text in hidden}
    )


def sealed_job_output(found: Iterable[tuple[str, str | None, bytes | None]]) -> bytes | None:
    """{step: output} with secret values, sealed; None if nothing is secret. `found`: (step, JSON
    text, sealed)."""
    rows = list(found)
    if all(sealed is None for _, _, sealed in rows):
        return None
    outputs = {name: _output(text, sealed) for name, text, sealed in rows}
    hidden = {secret for _, there in outputs.values() for secret in there}
    return seal_with({name: value for name, (value, _) in outputs.items()}, hidden)


# What is stored


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
