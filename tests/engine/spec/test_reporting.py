from __future__ import annotations

import pytest

from engine import spec
from engine.spec.reporting import is_empty
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
    assert lines[1:3] == ["      a: { type: script }", "      ^"]
    assert lines[3].startswith(
        "w.yaml:3:22: warning: Action 'b' script: {{ input.x }} is pasted into shell code"
    )
    assert lines[5] == " " * 25 + "^"
    assert lines[6] == "Not valid: 1 error, 1 warning."


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
        line.startswith(("w.yaml:", "Not valid", "    "))
        for line in spec.report(loaded).splitlines()
    )
    assert "\x1b" not in spec.report(loaded)


def test_a_line_that_may_hold_a_secret_is_not_shown():
    for text in (
        "secrets:\n  a b: hunter2\n",
        "connections:\n  db: { type: none, password: hunter2 }\n",
        "actions:\n  a: { type: script, script: echo, env: { API_TOKEN: hunter2 }, odd: 1 }\n",
        "actions:\n  a: { type: script, script: echo, envs: { password: 'hunter2' } }\n",
        "{secrets: {a b: hunter2}}\n",
        "triggers: { x: { type: webhook, secret: hunter2, task: t } }\n",
    ):
        loaded = load(text)
        assert loaded.problems and "hunter2" not in spec.report(loaded), text


def test_a_long_line_is_cut_around_the_place():
    loaded = load(f"actions: {{ a: {{ type: script, script: '{'x' * 300}', odd: 1 }} }}")
    excerpt = loaded.problems[0].excerpt.split("\n")
    assert len(excerpt[0]) < 100 and excerpt[0][excerpt[1].index("^") :].startswith("odd: 1")


def test_an_encrypted_file_is_not_shown():
    loaded = spec.load({"a.sops.yaml": "actions: { a: { type: script, odd: 1 } }"})
    assert loaded.problems and not any(problem.excerpt for problem in loaded.problems)


@pytest.mark.parametrize("text", ["", "tasks:", "settings: {unsafe_templates: warn}"])
def test_files_without_anything_in_them_are_not_called_valid(text: str):
    loaded = spec.load({"w.yaml": text})
    assert is_empty(loaded)
    assert spec.report(loaded).splitlines()[-1].startswith("Nothing to check: there are no tasks")
    assert not is_empty(spec.load({"w.yaml": "secrets: {a: b}"}))
    assert not is_empty(spec.load({"w.yaml": "tasks: {t: {}}"}))
