"""The worker's door: claim, material, started, append, renew, finish, give back. The only way in
for `workers`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, connections

from apps.fleet import presence, reach
from apps.jobs import door, ports
from apps.jobs.database.sql import end_lingering, fetch_together, let_linger, retried, sweep_lines
from apps.jobs.flow import abroad, blueprints, contexts, finishing
from apps.jobs.flow.contexts import Told, redact_report
from apps.jobs.models import Job
from apps.jobs.transitions import claims, rows
from apps.jobs.transitions.claims import Completion
from apps.jobs.values import CHECKS
from apps.jobs.values import ActionMaterial as ActionMaterial
from apps.jobs.values import Claim as Claim
from apps.jobs.values import Finished as Finished
from apps.jobs.values import Home as Home
from apps.jobs.values import Material as Material
from apps.jobs.values import Renewal as Renewal
from apps.jobs.values import Report as Report
from apps.jobs.values import TagSetRef as TagSetRef
from apps.workspaces.models import Revision
from apps.workspaces.revisions import (
    connections_of,
    look_again,
    secret_values,
    secrets_of,
    sensitive_of,
    stored_of,
)
from engine.lifecycle import OwnerKind
from engine.orders import Line

if TYPE_CHECKING:
    from engine.state import Seen

LINGER_S = 0.1
DEADLOCKS = ("40001", "40P01")


def register(
    *,
    name: str,
    tags: Sequence[str],
    slots: int,
    version: str,
    offers: Mapping[str, Any] | None = None,
    job_id: UUID | None = None,
    workspaces: Sequence[str] = (),
) -> UUID:
    """Add a worker row. Every process start adds one, so leases of an earlier start are never
    adopted. It can claim nothing outside `workspaces`, if any are named."""
    return presence.register(
        name=name,
        tags=tags,
        slots=slots,
        version=version,
        offers=offers or {},
        job_id=job_id,
        workspaces=workspaces,
    )


def retire(worker_id: UUID) -> None:
    """Note that the worker has shut down in order."""
    presence.retire(worker_id)


def covered(tags: Collection[str]) -> tuple[TagSetRef, ...]:
    """The tag sets of steps that a worker with these tags may run."""
    return tuple(TagSetRef(id, key) for id, key in reach.covered(tags).items())


def covered_actions(tags: Collection[str]) -> tuple[TagSetRef, ...]:
    """The tag sets of workflow actions that a worker with these tags may run."""
    return tuple(TagSetRef(id, key) for id, key in reach.covered_actions(tags).items())


def covered_by_agents() -> tuple[TagSetRef, ...]:
    """The tag set of agent steps, for processes that speak to models."""
    return tuple(TagSetRef(id, key) for id, key in reach.of_agents().items())


def claim(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    *,
    job_id: UUID | None = None,
    only_bound: bool = False,
) -> Claim | None:
    """Take the best ready row of these tag sets, which are all of steps or all of workflow actions;
    None if nothing is ready. `only_bound`: only what no other worker can do."""
    lease_s = settings.STROEM.recovery.heartbeat_timeout_s
    if not tag_set_ids:
        return None
    if reach.is_of_actions(tag_set_ids[0]):
        return _claim_unit(worker_id, tag_set_ids, lease_s, job_id, only_bound)
    serves = reach.workspaces_of(worker_id)
    row = claims.claim(worker_id, tag_set_ids, lease_s=lease_s, job_id=job_id, serves=serves)
    return _claim(row) if row else None


@retried
def _claim_unit(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    lease_s: float,
    job_id: UUID | None,
    only_bound: bool,
) -> Claim | None:
    """Claim and tell the owner, in one transaction."""
    row = claims.claim(
        worker_id,
        tag_set_ids,
        lease_s=lease_s,
        job_id=job_id,
        are_units=True,
        only_bound=only_bound,
        serves=reach.workspaces_of(worker_id),
    )
    if row is None:
        return None
    taken = _claim(row)
    return ports.owner_of(taken.owner_kind).claimed(taken, worker_id)


def _claim(row: Any) -> Claim:
    workspace, digest = _pinned(row.revision_id)
    return Claim(
        step_id=row.step_id,
        attempt_id=row.attempt_id,
        fence=row.fence,
        job_id=row.job_id,
        step_name=row.step_name,
        base=row.base,
        task_name=row.task_name,
        workspace=workspace,
        revision_id=row.revision_id,
        revision_digest=digest,
        blueprint_id=row.blueprint_id,
        number=row.number,
        timeout_s=row.timeout_s,
        tag_set_id=row.tag_set_id,
        is_started=row.is_started,
        is_more=row.is_more,
        owner_kind=OwnerKind(row.owner_kind),
        owner_id=row.owner_id,
        job_ends_in_s=row.job_ends_in_s,
        scheduled_at=row.scheduled_at,
        generation=row.generation,
        job_input=row.input if row.input_sealed is None else bytes(row.input_sealed),
    )


@lru_cache(maxsize=256)
def _pinned(revision_id: int) -> tuple[str, str]:
    return Revision.objects.values_list("workspace__name", "digest").get(id=revision_id)


def material(claim: Claim) -> Material | ActionMaterial:
    """What the worker needs to carry out this claim."""
    if claim.owner_kind is OwnerKind.STEP:
        return _material_of_step(claim)
    return ports.owner_of(claim.owner_kind).material(claim)


def _material_of_step(claim: Claim) -> Material:
    """What is needed to render the claimed step's order."""
    if claim.task_name.startswith(CHECKS):  # of what was stored a moment ago, perhaps
        look_again(claim.revision_id)
    plan = blueprints.load(claim.blueprint_id)
    node = plan.nodes[claim.base]
    given, hidden = contexts.opened(claim.job_input)
    outputs, hidden_there = contexts.outputs_of(claim.job_id, plan.steps_named(node.work_names))
    if node.file_names:
        outputs = contexts.with_files(claim.job_id, plan, outputs, node.file_names)
    each: Any = None
    hidden_here: tuple[str, ...] = ()
    if claim.step_name != claim.base:
        (instance,) = rows.instances([claim.step_id])
        each, hidden_here = contexts.each_of(instance)
    states = state_of(claim) if plan.uses_state else None
    if states is not None:
        hidden_here = (*hidden_here, *contexts.hidden_in(states))
    around = door.surroundings_of(claim, plan, node) if plan.has_surroundings else door.NOTHING
    home = abroad.home_of(claim.workspace, node) if node.abroad is not None else None
    if home is not None:
        hidden_here = (*hidden_here, *home.masks)
    masks, others = sensitive_of(claim.revision_id), (*hidden, *hidden_there, *hidden_here)
    return Material(
        action=node.action,
        step=node.step,
        job_input=given,
        outputs=outputs,
        secrets=secrets_of(claim.revision_id),
        connections=connections_of(claim.revision_id),
        each=each,
        environment=around.environment,
        chdir=around.chdir,
        masks=secret_values([masks, others]) if others else masks,
        output_dir=around.output_dir,
        recovery=around.recovery,
        has_sessions=around.has_sessions,
        emits=plan.emits,
        mentions_artifacts=plan.mentions_artifacts,
        mentions_helper=plan.mentions_helper,
        declares_state=plan.task.state is not None,
        state=states,
        stored_connections=stored_of(claim.revision_id),
        home=home,
    )


def state_of(claim: Claim) -> tuple[Seen, Seen]:
    """What the task of this claim and its workspace remember now."""
    return ports.keeper().seen(_workspace_of(claim.revision_id), claim.task_name)


@lru_cache(maxsize=256)
def _workspace_of(revision_id: int) -> int:
    return Revision.objects.values_list("workspace_id", flat=True).get(id=revision_id)


def started(claim: Claim, *, input: Any, masks: tuple[str, ...]) -> bool:
    """Note that the step's process may exist from now on; False if this worker has lost the
    attempt."""
    if claim.is_started:
        return True
    return claims.start(claim.attempt_id, claim.fence)


def append(claim: Claim, seq: int, lines: Sequence[Line]) -> bool:
    """Store a batch of log lines; repeating (attempt, seq) changes nothing. False if the attempt
    has ended."""
    return claims.append(claim, seq, lines)


def renew(
    worker_id: UUID,
    live: Mapping[int, int],
    busy: int,
    progress: Mapping[int, int] = MappingProxyType({}),
) -> Renewal:
    """Extend the leases of these attempts (id -> fence) of all lanes, and report the worker as
    alive. `progress`: how many commands of workflow actions have begun, by attempt."""
    lease_s = settings.STROEM.recovery.heartbeat_timeout_s
    seen, limits, (row,) = fetch_together(
        [
            (presence.BEAT, {"worker": worker_id, "busy": busy}),
            (reach.LIMITS, {}),
            (claims.RENEW, claims.renew_params(worker_id, live, progress, lease_s)),
        ]
    )
    reach.heed(worker_id, limits)
    ours = frozenset(row.ours or ())
    return Renewal(bool(seen), frozenset(live) - ours, frozenset(row.cancelled or ()))


def finish(
    report: Report,
    *,
    claim_for: Sequence[int] = (),
    worker_id: UUID | None = None,
    lines: Sequence[Line] = (),
    seq: int = 0,
    job_id: UUID | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Finished:
    """End an attempt and advance its job in one transaction, then claim the next step in another.
    `meanwhile` is called while the database works on the report."""
    told = redact_report(report if report.claim.owner_id is None else _with_masks(report))
    completion = finishing.compiled(told)
    if completion is not None and worker_id and claim_for and not connection.in_atomic_block:
        accepted, counts, following = _finish_and_claim(
            told, completion, worker_id, claim_for, lines, seq, job_id, meanwhile
        )
    else:
        meanwhile()
        if lines:
            claims.append(report.claim, seq, lines)
        accepted, counts = finishing.finish(told)
        following = claim(worker_id, claim_for, job_id=job_id) if worker_id and claim_for else None
    if following is not None and counts.get(following.tag_set_id):
        counts[following.tag_set_id] -= 1
    names = reach.keys_of(counts)
    return Finished(
        accepted, following, {names[id]: count for id, count in counts.items() if count}
    )


def _with_masks(report: Report) -> Report:
    """Add masks for errors that the worker quotes itself: it masks only what commands print."""
    if not report.outcome.error:
        return report
    return replace(report, masks=contexts.masks_of(Job.objects.get(id=report.claim.job_id)))


def _finish_and_claim(
    report: Told,
    completion: Completion,
    worker_id: UUID,
    claim_for: Sequence[int],
    lines: Sequence[Line],
    seq: int,
    job_id: UUID | None,
    meanwhile: Callable[[], None],
) -> tuple[bool, dict[int, int], Claim | None]:
    """The last lines, the common end and the next claim in one transaction, one round trip and one
    disk flush. A step of the same revision is claimed as started: its files are in place, so its
    process starts at once."""
    lease_s = settings.STROEM.recovery.heartbeat_timeout_s
    serves = reach.workspaces_of(worker_id)
    taking = claims.claim_params(
        worker_id, claim_for, lease_s, job_id, warm=[report.claim.revision_id], serves=serves
    )
    statement = claims.claiming(
        are_units=False, serves_some=bool(serves), is_one_set=len(claim_for) == 1
    )
    statements = [
        (claims.LOCK, {"job": completion.job_id}),
        (completion.statement, completion.params),
        (statement, taking),
    ]
    if lines:
        statements.insert(0, (claims.APPEND, claims.append_params(report.claim, seq, lines)))
    try:
        *_, ended, taken = fetch_together(statements, meanwhile)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) not in DEADLOCKS:
            raise
        ended, taken = [], []
        if lines:
            claims.append(report.claim, seq, lines)
    counts = claims.read_completion(ended)
    accepted = counts is not None
    if counts is None:  # refused or deadlocked: the general path takes over
        accepted, counts = finishing.finish(report)
    row = taken[0] if taken else None
    if row is None:
        row = claims.claim_elsewhere(claim_for, taking, statement)
    return accepted, counts, _claim(row) if row else None


def ended(names: frozenset[str]) -> frozenset[str]:
    """Those of the attempts with these names (see `Claim.name`) that have ended for good, on any
    worker."""
    return door.ended(names)


def give_back(claim: Claim) -> None:
    """Return a step whose process has not started; it is ready again at once."""
    finishing.lose(claim.attempt_id, is_loss=False)


def linger(is_on: bool) -> None:
    """Let threads keep the connection of their last `finish` for a moment; `sweep_connections` must
    then be called."""
    if is_on:
        let_linger()
    else:
        end_lingering()


def sweep_connections() -> None:
    """Return connections that no thread has used for a moment."""
    sweep_lines(LINGER_S)


def released() -> None:
    """Return this thread's database connection; the one of the hot path may linger."""
    if connection.connection is not None:
        connections.close_all()


def schema_problem() -> str | None:
    """One sentence if the database's schema does not match this code, else None."""
    return presence.schema_problem()
