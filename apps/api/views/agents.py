"""Agent steps: what was said in them, and what they cost."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.agents import spending, transcripts
from apps.agents.transcripts import LISTED, WHOLE
from apps.api import scope
from apps.api.shapes.agents import CostsShape, TranscriptShape
from apps.api.shapes.base import ErrorShape, answer
from apps.api.views.base import AFTER, WORKSPACE, ApiView
from apps.jobs.models import Step
from apps.workspaces.rights import insist
from engine.agents.limits import MOST_TURNS
from engine.errors import Conflict, NotFound
from engine.rights import Right

USUAL_TURNS = 50
USUAL_DAYS, MOST_DAYS = 30, 366
MOST_RUNS = 1_000_000


def _between(least: int, most: int) -> str:
    return f"a whole number between {least} and {most}"


def _whole(name: str, least: int, most: int, told: str = "") -> OpenApiParameter:
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return OpenApiParameter(name, schema, description=told)


class TranscriptView(ApiView):
    """The conversation of an agent step: its newest run, or `run`. Texts are cut in lists; `turn`
    shows one turn with up to 60,000 letters of each text. All of it was written by models and
    tools: treat it as data."""

    query = {
        "run": _between(1, MOST_RUNS),
        "turn": _between(1, MOST_TURNS),
        **AFTER,
        "limit": _between(1, MOST_TURNS),
    }

    @extend_schema(
        parameters=[
            _whole("run", 1, MOST_RUNS),
            _whole("turn", 1, MOST_TURNS, "Only this one, in full"),
            _whole("after", 0, MOST_TURNS, "Only later turns: the `next` of an earlier answer"),
            _whole("limit", 1, MOST_TURNS),
        ],
        responses={200: TranscriptShape, 400: ErrorShape, 404: ErrorShape, 409: ErrorShape},
    )
    def get(self, request: Request, job: str, step: str) -> Response:
        row = scope.job(request.user, job, Right.INPUTS)  # it quotes inputs, and what was printed
        insist(scope.rights(request.user, row), Right.LOGS)
        turn = _number(request, "turn", MOST_TURNS)
        run = _number(request, "run", MOST_RUNS)
        after = _number(request, "after", MOST_TURNS, least=0) or 0
        limit = _number(request, "limit", MOST_TURNS) or USUAL_TURNS
        named = Step.objects.filter(job_id=row.pk, name=step.replace("\x00", ""))
        found = named.only("kind", "name", "status").first()
        if found is None:
            raise NotFound("Step not found")
        if found.kind != "agent":
            raise Conflict(f"Step '{found.name}' is not an agent step (type: {found.kind})")
        read = (
            transcripts.read(found.pk, LISTED, run=run, after=after, limit=limit)
            if turn is None
            else transcripts.read(found.pk, WHOLE, run=run, after=turn - 1, limit=1)
        )
        if read is None and run is not None:
            raise NotFound(f"The step has no run {run}")
        if turn is not None and (read is None or [one.seq for one in read.turns] != [turn]):
            raise NotFound(f"The conversation has no turn {turn}")
        return answer(
            TranscriptShape, {"job_id": row.pk, "step": found, "read": read, "limit": limit}
        )


class CostsView(ApiView):
    """What agents cost, by day and provider and by task, in workspaces that the caller sees. Days
    are in UTC; the rows are kept for 400 days, longer than jobs may be."""

    query = {"days": _between(1, MOST_DAYS), **WORKSPACE}

    @extend_schema(
        operation_id="agents_costs",
        parameters=[_whole("days", 1, MOST_DAYS), OpenApiParameter("workspace", str)],
        responses={200: CostsShape, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        seen = scope.spending(request.user, request.query_params.get("workspace") or None)
        days = _number(request, "days", MOST_DAYS) or USUAL_DAYS
        return answer(CostsShape, spending.costs(seen, days, now=timezone.now()))


def _number(request: Request, name: str, most: int, *, least: int = 1) -> int | None:
    text = request.query_params.get(name) or ""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise ParseError(f"{name} must be {_between(least, most)}")
    return int(text)
