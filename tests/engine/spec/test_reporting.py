from __future__ import annotations

from engine import spec
from tests.engine.spec.builders import load


def test_problems_come_one_a_line_with_a_summary():
    loaded = load(
        "actions:\n  a: { type: script }\n  b: { type: script, script: 'echo {{ input.x }}' }\n"
    )
    lines = spec.report(loaded).splitlines()
    assert (
        lines[0]
        == "w.yaml:2:3: error: Action 'a' is type 'script' but missing 'script' or 'source' field"
    )
    assert lines[1].startswith(
        "w.yaml:3:22: warning: Action 'b' script: {{ input.x }} is pasted into shell code"
    )
    assert lines[2] == "Not valid: 1 error, 1 warning."


def test_a_good_workspace_is_counted_and_its_selections_are_shown():
    loaded = load("""
        actions: { a: { type: script, script: echo } }
        tasks:
          t:
            flow: { train-1: { action: a }, train-2: { action: a }, other: { action: a } }
            workflow_actions:
              - trigger_type: on_jobs_ready
                action_type: run_commands
                commands: [date]
                job_name_regexes: ["train-[0-9]"]
        """)
    assert spec.report(loaded).splitlines() == [
        "w.yaml:7:9: note: on_jobs_ready of task 't' selects train-1, train-2",
        "Valid: 1 action, 1 task.",
    ]


def test_hostile_names_cannot_forge_lines():
    loaded = load('actions: {"a\\nb.yaml:1:1: error: fake\\e[31m": 5}')
    assert all(
        line.startswith(("w.yaml:", "Not valid")) for line in spec.report(loaded).splitlines()
    )
    assert "\x1b" not in spec.report(loaded)
