"""What pages show of conversations: the transcript of a step, and what agents cost.

The transcript goes to the browser as JSON, which inserts each text as text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, JsonResponse
from django.utils import timezone

from apps.adminkit.charts import Bars, Series
from apps.adminkit.paging import Beginning
from apps.agents import spending, transcripts
from apps.agents.spending import Costs
from apps.agents.transcripts import BRIEF, WHOLE
from apps.jobs.models import Step
from apps.jobs.pages.job import found
from apps.workspaces.rights import insist, sight_of
from engine.rights import Right

DAYS = 30
MOST_TASKS, MOST_COLOURS = 6, 4
TONES = ("run", "next", "ok", "wait")
OTHERS = "others"


def transcript(request: HttpRequest, job_id: UUID, step_id: int) -> JsonResponse:
    """The turns of a run of a step in brief, from number `from` on, or one `turn` in full. Without
    `run`, of the newest."""
    row, rights = found(request, job_id)
    for needed in (Right.INPUTS, Right.LOGS):  # it quotes both
        insist(rights, needed)
    step = Step.objects.filter(pk=step_id, job_id=row.pk, kind="agent")
    if not step.exists():
        raise Http404("This job has no such agent step.")
    given = {name: _number(request, name) for name in ("run", "from", "turn")}
    first, turn = given["from"] or 1, given["turn"]
    read = (
        transcripts.read(step_id, BRIEF, run=given["run"], after=first - 1)
        if turn is None
        else transcripts.read(step_id, WHOLE, run=given["run"], after=turn - 1, limit=1)
    )
    return JsonResponse({"transcript": None if read is None else asdict(read)})


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 5 else None


# The dashboard


def cost_panel(request: HttpRequest) -> dict[str, Any] | None:
    """What agents have cost in the last 30 days; nothing where no agent has said anything."""
    seen = sight_of(request.user).named_tasks()
    found = spending.costs(seen, DAYS, now=timezone.now(), most_tasks=MOST_TASKS)
    if not found.days:
        return None
    return {
        "chart": _chart(found),
        "total": found.total,
        "tasks": found.tasks,
        "has_more": found.has_more,
        "providers": Beginning(found.providers, MOST_TASKS),
        "days": DAYS,
    }


def _chart(found: Costs) -> Bars:
    """Cost by day, in a colour for each of the dearest providers."""
    days = [found.until.fromordinal(found.since.toordinal() + one) for one in range(DAYS)]
    named = [name for name, _ in found.providers[:MOST_COLOURS]]
    if len(found.providers) > MOST_COLOURS:
        named = [*named[:-1], OTHERS]
    known: dict[tuple[Any, str], float] = {}
    for one in found.days:
        key = (one.day, one.provider if one.provider in named else OTHERS)
        known[key] = known.get(key, 0.0) + one.spent.cost
    return Bars(
        "Cost by day, in US dollars",
        [day.strftime("%d %b") for day in days],
        [
            Series(name, tone, [round(known.get((day, name), 0.0), 4) for day in days])
            for name, tone in zip(named, TONES, strict=False)
        ],
        nothing="Nothing with a known price.",
        head="Day",
        least=0.01,
    )
