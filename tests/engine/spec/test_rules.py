"""Each group of rules judges the drafts that have what it is about, and no others."""

from __future__ import annotations

import pytest

from engine.spec import parser
from tests.architecture.house import ROOT
from tests.architecture.walks import Walk

PLAIN = """
tasks:
  t:
    flow:
      a: {type: script, script: date}
"""
ALWAYS = {"flow", "actions", "inputs", "reads", "calls", "templates"}
TASK = "tasks: {t: {flow: {a: {type: script, script: date"
OF_SOME = {
    "a trigger": (
        "triggers",
        PLAIN + "triggers: {n: {type: scheduler, cron: '0 5 * * *', task: t}}",
    ),
    "ends of jobs": ("exports", PLAIN + "exports: {job_ends: {t: {to: [other]}}}"),
    "an exported action": (
        "exports",
        "actions: {a: {type: script, script: date}}\nexports: {actions: {a: {to: [other]}}}",
    ),
    "a workflow action": (
        "workflow_actions",
        PLAIN
        + "    workflow_actions:\n"
        + "      - {trigger_type: on_workflow_start, action_type: run_commands, commands: [date]}",
    ),
    "a Slurm scheduler": ("nodes", PLAIN + "slurm_schedulers: {s: {account: lab}}"),
    "letters beyond ASCII": ("names", TASK.replace("a:", "\xe4:") + "}}}}"),
    "artifacts": ("artifacts", TASK + ", artifacts: {paths: ['*']}}}}}"),
    "an image": ("containers", "actions: {a: {type: docker, image: alpine}}"),
    "a pod": ("containers", "actions: {a: {type: pod, image: alpine}}"),
    "a script in a container": ("containers", TASK + ", runner: docker}}}}"),
    "a script in a pod": ("containers", TASK + ", runner: pod}}}}"),
    "an approval": ("approvals", "actions: {a: {type: approval, message: hello}}"),
    "an agent": ("agents", "actions: {a: {type: agent, provider: p, model: m, prompt: hello}}"),
}


def entered(text: str) -> set[str]:
    with Walk() as walk:
        parser.load({"flow.yaml": text})
    return {
        path.removeprefix("engine/spec/checks_").removesuffix(".py")
        for path in walk.files
        if path.startswith("engine/spec/checks_")
    }


def test_a_plain_workspace_enters_no_rules_about_what_it_has_not() -> None:
    assert entered(PLAIN) == ALWAYS


@pytest.mark.parametrize("what", OF_SOME)
def test_rules_are_entered_for_what_they_are_about(what: str) -> None:
    group, text = OF_SOME[what]
    assert entered(text) - ALWAYS == {group}


def test_the_table_knows_every_group() -> None:
    files = (ROOT / "engine/spec").glob("checks_*.py")
    groups = {path.stem.removeprefix("checks_") for path in files}
    assert groups == ALWAYS | {group for group, _ in OF_SOME.values()}
