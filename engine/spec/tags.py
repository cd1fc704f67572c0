"""Which workers may run a step. Source: Runners, 'Required tags'."""

from __future__ import annotations

from collections.abc import Iterable

from engine.spec.model import Action, Step

SLURM_PREFIX = "slurm:"
SUBMITS = "slurm"  # the tag of a worker that can call sbatch
ANY_SCHEDULER = "_any"  # in place of a scheduler's name: any allocation of the run
ACTIONS = (
    "@actions"  # in the tag sets of workflow actions: no author may write it, no worker has it
)
_BY_RUNNER = {"local": "script", "docker": "docker", "pod": "kubernetes"}
_BY_TYPE = {"docker": "docker", "pod": "kubernetes"}


def required_tags(action: Action, step: Step | None = None) -> tuple[str, ...]:
    """The tags that a worker must have, sorted and unique; empty when the server does the step
    itself."""
    if action.type in ("task", "agent", "approval"):
        return ()
    tags = {
        _BY_RUNNER[action.runner] if action.type == "script" else _BY_TYPE[action.type],
        *action.tags,
    }
    if step is not None:
        tags.update(step.tags)
        if step.scheduler:
            tags.add(SLURM_PREFIX + step.scheduler)
    return tuple(sorted(tags))


def tag_set_key(tags: Iterable[str]) -> str:
    """The name of a set of tags, the same for every order: `docker+gpu`."""
    return "+".join(sorted(set(tags)))


def action_key(tags: Iterable[str]) -> str:
    """The tag set of a workflow action that takes a worker with these tags."""
    return tag_set_key((ACTIONS, *tags))


def action_keys(tags: Iterable[str]) -> tuple[str, ...]:
    """The tag sets of all workflow actions that a worker with these tags can do."""
    kinds = (("script",), (SUBMITS,), ("script", SUBMITS))
    return tuple(action_key(kind) for kind in kinds if set(kind) <= set(tags))
