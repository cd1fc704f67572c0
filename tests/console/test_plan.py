"""`manage.py plan` and the API's: what they foresee is what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from apps.accounts.models import Role
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import workspace
from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
tasks:
  main:
    input: {fast: {type: boolean, default: false}, places: {type: string, default: '["x", "y"]'}}
    flow:
      a: {type: script, script: "true"}
      quick: {type: script, script: "true", depends_on: [a], when: "{{ input.fast }}"}
      after_quick: {type: script, script: "true", depends_on: [quick]}
      slow: {type: script, script: "true", depends_on: [a], when: "{{ not input.fast }}"}
      loop: {type: script, script: "true", for_each: "{{ input.places }}"}
      broken: {type: script, script: "true", input: {x: "{{ input.fast | nth(n='x') }}"}}
      beside: {type: script, script: "true", depends_on: [broken]}
"""
ENDS = {"runs": "completed", "skipped": "skipped", "fails": "failed"}


def planned(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[Any]:
    call_command("plan", str(folder), "--json", *options)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_run_ends_as_the_plan_said(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str], fast: str
) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    foreseen = planned(tmp_path, capsys, "--input", f"fast={fast}")

    answer, shown = runs.run(tmp_path, "main", [f"fast={fast}"])

    # beside the loop, its instances
    ended = {name: one["status"] for name, one in answer["steps"].items() if "[" not in name}
    assert {step["name"]: ENDS[step["outlook"]] for step in foreseen} == ended, shown
    loop = next(step for step in foreseen if step["name"] == "loop")
    assert loop["items"] == len(answer["steps"]["loop"]["output"]) == 2


def test_it_names_the_live_workers_that_could_run_a_step(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.yaml").write_text(
        "tasks:\n  main:\n    flow:\n      here: {type: script, script: 'true'}\n"
        "      far: {type: script, script: 'true', tags: [mars]}\n"
    )
    found = {
        step["name"]: step["workers"] for step in planned(tmp_path, capsys, "--workspace", "w")
    }
    assert len(found["here"]) == 1 and found["far"] == []


def test_people_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    call_command("plan", str(tmp_path))
    shown = capsys.readouterr().out
    assert "Plan of 'main'; nothing was run." in shown
    assert "quick        skipped  script on the worker, tags script" in shown
    assert "    when: {{ input.fast }} is false" in shown
    assert "for each of 2 items" in shown


def test_a_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    with pytest.raises(CommandError, match="'fast' must be true or false"):
        call_command("plan", str(tmp_path), "--input", "fast=perhaps")


def test_the_api_plans_for_those_who_may_run(tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "flows")
    path = "/api/workspaces/flows/tasks/main/plan"
    answer = caller(Role.OPERATOR).post(path, {"input": {"fast": True}}, format="json")
    assert answer.status_code == 200, answer.content
    steps = {step["step_name"]: step for step in answer.json()["steps"]}
    assert steps["quick"]["outlook"] == "runs" and steps["slow"]["outlook"] == "skipped"
    wrong = caller(Role.OPERATOR).post(path, {"input": {"fast": "perhaps"}}, format="json")
    assert (wrong.status_code, "must be true or false" in wrong.json()["error"]) == (400, True)
    assert caller(Role.VIEWER).post(path, {}, format="json").status_code == 403
    assert APIClient().post(path, {}, format="json").status_code == 401
