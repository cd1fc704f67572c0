"""The flow of a job as a drawing: its nodes, its arrows, and what is folded into one node. Pure
except for `counted`.

A loop and its instances are one node. So are three or more steps of one kind at one depth whose
names differ only in numbers (`fit_1` ... `fit_90`). Depth keeps the drawing free of cycles: arrows
always lead deeper.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch
from apps.jobs.flow import blueprints
from apps.jobs.pages import action_pictures
from apps.jobs.pages.action_pictures import DrawnAction
from apps.jobs.plans import Plan
from engine.lifecycle import StepStatus

MOST_DRAWN = 300
FEWEST_FOLDED = 3
# The status that a folded node shows: what needs a person, then running, waiting, ended.
PRECEDENCE = (
    StepStatus.FAILED,
    StepStatus.SUSPENDED,
    StepStatus.RUNNING,
    StepStatus.READY,
    StepStatus.CANCELLED,
    StepStatus.PENDING,
    StepStatus.COMPLETED,
    StepStatus.SKIPPED,
)
_DIGITS = re.compile(r"\d+")

COUNTS = """
SELECT base, status, loop_id IS NOT NULL, count(*) FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND (%s::text[] IS NULL OR base = ANY(%s))
GROUP BY 1, 2, 3
"""
SINGLES = """
SELECT base, id, child_job_id FROM jobs_step WHERE job_id = %s AND owner_kind = 'step'
    AND loop_id IS NULL AND base = ANY(%s)
"""

TOTALS = """
SELECT status, count(*) FROM jobs_step WHERE job_id = %s AND owner_kind = 'step'
    AND (loop_total IS NULL OR loop_index IS NOT NULL) GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One node: a step of the flow, a loop, or steps whose names differ only in numbers."""

    label: str
    title: str
    kind: str
    bases: tuple[str, ...]
    is_loop: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    nodes: tuple[Drawn, ...]
    edges: tuple[tuple[int, int], ...]
    place: Mapping[str, int]  # flow name -> index of its node
    actions: tuple[DrawnAction, ...] = ()

    @property
    def is_drawn(self) -> bool:
        return len(self.nodes) <= MOST_DRAWN


@lru_cache(maxsize=256)
def picture_of(blueprint_id: int) -> Picture:
    """The drawing of a blueprint; cached, because blueprints never change."""
    return draw(blueprints.load(blueprint_id))


def draw(plan: Plan) -> Picture:
    groups = _groups(plan)
    place = {name: index for index, names in enumerate(groups) for name in names}
    nodes = tuple(_node(plan, names) for names in groups)
    edges = {
        (place[dependency], place[name])
        for name, node in plan.nodes.items()
        for dependency in node.step.depends_on
    }
    return Picture(
        nodes, tuple(sorted(edges)), place, action_pictures.drawn_actions(plan.task, place)
    )


def _groups(plan: Plan) -> list[tuple[str, ...]]:
    depth: dict[str, int] = {}
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, node in plan.nodes.items():  # in topological order
        depth[name] = 1 + max((depth[dependency] for dependency in node.step.depends_on), default=0)
        alike[
            _DIGITS.sub("#", name), node.action.type, node.step.for_each is not None, depth[name]
        ].append(name)
    groups: list[tuple[str, ...]] = []
    for names in alike.values():
        groups += [tuple(names)] if len(names) >= FEWEST_FOLDED else [(name,) for name in names]
    return groups


def _node(plan: Plan, names: tuple[str, ...]) -> Drawn:
    first = plan.nodes[names[0]]
    is_loop = first.step.for_each is not None
    if len(names) > 1:
        return Drawn(_DIGITS.sub("#", names[0]), "", first.action.type, names, is_loop)
    step, action = first.step, first.action
    title, description = step.title or action.title, step.description or action.description
    return Drawn(names[0], title or "", first.action.type, names, is_loop, description or "")


def counted(
    job_id: UUID, picture: Picture, bases: Iterable[str] | None = None
) -> dict[int, dict[str, Any]]:
    """The state of the nodes, by index: a status, counts, and the step's id if the node is one
    step. Two queries. With `bases`, only the nodes of these steps."""
    wanted = None if bases is None else sorted(_with_siblings(picture, bases))
    own: dict[int, Counter[str]] = defaultdict(Counter)
    instances: dict[int, Counter[str]] = defaultdict(Counter)
    for base, status, is_instance, count in fetch(COUNTS, (job_id, wanted, wanted)):
        index = picture.place.get(base)
        if index is not None:
            (instances if is_instance else own)[index][status] += count
    single = [
        picture.nodes[index].bases[0] for index in own if len(picture.nodes[index].bases) == 1
    ]
    found = (
        {base: (step_id, child) for base, step_id, child in fetch(SINGLES, (job_id, single))}
        if single
        else {}
    )
    return {
        index: _standing(picture.nodes[index], own[index], instances[index], found) for index in own
    }


def totals(job_id: UUID) -> dict[str, int]:
    """How many steps have each status; a loop counts by its instances."""
    found = dict(fetch(TOTALS, (job_id,)))
    return {status: found[status] for status in PRECEDENCE if status in found}


def _with_siblings(picture: Picture, bases: Iterable[str]) -> set[str]:
    indexes = {picture.place[base] for base in bases if base in picture.place}
    return {name for index in indexes for name in picture.nodes[index].bases}


def _standing(
    node: Drawn,
    own: Counter[str],
    instances: Counter[str],
    found: Mapping[str, tuple[int, UUID | None]],
) -> dict[str, Any]:
    step_id, child = (
        found.get(node.bases[0], (None, None)) if len(node.bases) == 1 else (None, None)
    )
    counts = instances if instances else own
    return {
        "status": next(status for status in PRECEDENCE if own[status]),
        "counts": {status: counts[status] for status in PRECEDENCE if counts[status]},
        "total": counts.total(),
        "step": step_id,
        "child": str(child) if child else None,
    }


def drawing(picture: Picture, standings: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Everything the browser needs to draw the flow, as JSON."""
    nodes = [
        {
            "label": node.label,
            "title": node.title,
            "description": node.description,
            "kind": node.kind,
            "loop": node.is_loop,
            "folded": len(node.bases) if len(node.bases) > 1 else 0,
            **standings.get(
                index,
                {
                    "status": StepStatus.PENDING,
                    "counts": {},
                    "total": 0,
                    "step": None,
                    "child": None,
                },
            ),
        }
        for index, node in enumerate(picture.nodes)
    ]
    edges = [list(edge) for edge in picture.edges]
    return {"nodes": nodes, "edges": edges, "actions": action_pictures.as_json(picture.actions)}
