"""One job in a terminal: its steps, its workflow actions with their runs and allocations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from console.port import JobLine, JobView, RequestLine, StepLine
from console.screen import clean
from console.tables import json_line

MOST_STEPS = 1000
MOST_LINES = 8
ASKS = {"question": "the agent asks: ", "call": "the agent wants to call "}
UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
HEADER = f"{'JOB':<36}  {'STATUS':<9}  {'CREATED (UTC)':<19}  {'TOOK':>10}  TASK"


def list_line(job: JobLine) -> str:
    took = _took(job.started_at, job.completed_at or job.asked_at)
    place = clean(f"{job.workspace}/{job.task_name}")
    return f"{job.job_id}  {job.status:<9}  {job.created_at:%Y-%m-%d %H:%M:%S}  {took:>10}  {place}"


def list_json(job: JobLine) -> str:
    return json_line({name: value for name, value in asdict(job).items() if name != "asked_at"})


def as_lines(job: JobView) -> Iterator[str]:
    """The report, line by line. Control characters from the job never reach the terminal."""
    place = clean(f"{job.workspace}/{job.task_name}")
    yield f"{job.job_id}  {job.status}  {place}  {_took(job.started_at, job.completed_at)}".rstrip()
    yield from _error(job.error)
    asked = {one.step_name: tuple(_request(one)) for one in job.requests}
    for step in job.steps[:MOST_STEPS]:
        took = _took(step.started_at, step.completed_at)
        yield f"step    {step.status:<10}  {took:>9}  {clean(step.step_name)}{_next_try(step)}"
        yield from _attempts(step)
        yield from _error(step.error)
        yield from asked.get(step.step_name, ())
    if len(job.steps) > MOST_STEPS:
        yield f"        and {len(job.steps) - MOST_STEPS} more steps"
    for action in job.workflow_actions:
        yield from _action(action)


def as_json(job: JobView) -> str:
    """The report as one JSON object."""
    return json_line(asdict(job))


def _next_try(step: StepLine) -> str:
    return f" (next try at {step.retry_at:%Y-%m-%d %H:%M:%S})" if step.retry_at else ""


def _request(one: RequestLine) -> Iterator[str]:
    """Who is asked, for how long, and what."""
    waits = span((one.asked_at - one.created_at).total_seconds())
    more = f", {one.approvals} of {one.needed} approvals given" if one.needed > 1 else ""
    due = f", due at {one.deadline_at:%Y-%m-%d %H:%M:%S}" if one.deadline_at else ""
    yield f"  waits for {clean(one.asked)}, asked {waits} ago{more}{due}"
    lines = [line for line in one.message.splitlines() if line.strip()]
    for line in lines[:MOST_LINES]:
        yield f"          {ASKS.get(one.about, '')}{clean(line)}"
    if len(lines) > MOST_LINES:
        yield f"          and {len(lines) - MOST_LINES} more lines"
    if one.about == "question":
        yield f"          answer: approve JOB {clean(one.step_name)} --input answer=TEXT"


def _attempts(step: StepLine) -> Iterator[str]:
    """Each attempt; the last error stands with the step."""
    for number, one in enumerate(step.attempts, start=1):
        code = "" if one.exit_code is None else f", exit code {one.exit_code}"
        where = f" on {one.worker}" if one.worker else ""
        took = _took(one.started_at, one.ended_at)
        yield f"  run   {one.status:<10}  {took:>9}  try {number}{clean(where)}{code}"
        if one.error != step.error:
            yield from _error(one.error)


def _action(action: Mapping[str, Any]) -> Iterator[str]:
    about = [action["trigger_type"], "+".join(action["action_types"])]
    about += [action["progress"]] if action["progress"] else []
    about += [f"generation {action['generation']}"] if action["generation"] > 1 else []
    yield f"action  {action['status']:<10}  {'':>9}  {clean(action['name'])} ({', '.join(about)})"
    if not any(run["error"] == action["reason"] for run in action["runs"]):
        yield from _error(action["reason"])
    for run in action["runs"]:
        code = "" if run["exit_code"] is None else f", exit code {run['exit_code']}"
        where = f" on {run['worker']}" if run["worker"] else ""
        took = _took(run["started_at"], run["ended_at"])
        yield f"  run   {run['status']:<10}  {took:>9}  try {run['attempt']}{clean(where)}{code}"
        yield from _error(run["error"])
    for one in action["allocations"]:
        number = f"Slurm job {one['slurm_job_id']}" if one["slurm_job_id"] else "not submitted"
        number += f" on cluster {one['cluster']}" if one["cluster"] else ""
        state = f", {one['state']}" if one["state"] else ""
        state += f": {one['reason']}" if one["reason"] else ""
        nodes = f" on {one['nodes']}" if one["nodes"] else ""
        took = _took(one["started_at"], one["ended_at"])
        yield (
            f"  nodes {one['status']:<10}  {took:>9} "
            f" {clean(one['scheduler'] + ': ' + number + state + nodes)}"
        )
        yield from _error(one["error"])


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    for size, name, next_size, next_name in UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {name} {seconds % size // next_size:.0f} {next_name}"
    return f"{seconds:.1f} s"


def _took(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.1f} s" if start and end else ""


def _error(text: str | None) -> Iterator[str]:
    for line in (text or "").splitlines():
        yield f"          {clean(line)}"
