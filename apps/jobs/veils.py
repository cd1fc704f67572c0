"""Hides from rows in memory what a reader lacks the right to see. Such rows are shown, never saved.

Outputs, files and state repeat inputs, so they go with the right 'inputs'; errors quote what
programs printed, so they go with the right 'logs'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.jobs.models import Attempt, Job, Step
from apps.workspaces.rights import REFUSALS
from engine.rights import Right, Rights


def reasons(rights: Rights) -> dict[str, str]:
    """Why fields are empty, by the right that is missing."""
    return {str(right): why for right, why in REFUSALS.items() if right not in rights}


def job(row: Job, rights: Rights) -> Job:
    if Right.INPUTS not in rights:
        row.input = row.output = None
    if Right.LOGS not in rights:
        row.error = ""
    return row


def steps(rows: Iterable[Step], rights: Rights) -> None:
    hides_inputs, hides_logs = Right.INPUTS not in rights, Right.LOGS not in rights
    for row in rows if hides_inputs or hides_logs else ():
        if hides_inputs:
            row.input = row.output = row.loop_item = None
        if hides_logs:
            row.error = ""


def attempts(rows: Iterable[Attempt], rights: Rights) -> None:
    for row in rows if Right.LOGS not in rights else ():
        row.error = ""


def actions(rows: Sequence[Mapping[str, Any]], rights: Rights) -> list[Mapping[str, Any]]:
    """Workflow actions as their room describes them."""
    if Right.LOGS in rights:
        return list(rows)
    return [
        {
            **row,
            "reason": None,
            "runs": [{**run, "error": None} for run in row["runs"]],
            "allocations": [{**one, "error": None} for one in row["allocations"]],
        }
        for row in rows
    ]
