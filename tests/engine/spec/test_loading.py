"""Many files become one workspace."""

from __future__ import annotations

import pytest

from engine import spec
from engine.durations import Duration
from engine.spec.model import Place
from tests.engine.spec.builders import load, only, sentences, workspace

TASK = "tasks: {{{name}: {{flow: {{a: {{type: script, script: echo}}}}}}}}"


def test_files_are_merged_and_hook_lists_are_appended():
    loaded = spec.load(
        {
            "b.yaml": "actions: {b: {type: script, script: b}}\non_error: [{action: b}]",
            "a.yaml": (
                "actions: {a: {type: script, script: a}}\non_error: [{action: a}]\n"
                + TASK.format(name="t")
            ),
        }
    )
    assert loaded.workspace is not None
    assert {"a", "b"} <= set(loaded.workspace.actions) and set(loaded.workspace.tasks) == {"t"}
    assert [hook.action for hook in loaded.workspace.hooks.on_error] == ["a", "b"]


def test_a_name_in_two_files_is_an_error_that_names_both_places():
    loaded = spec.load({"a.yaml": TASK.format(name="t"), "z.yaml": "\n" + TASK.format(name="t")})
    assert loaded.workspace is None
    assert [str(problem) for problem in loaded.problems] == [
        "z.yaml:2:9: error: Task 't' is defined twice: here and at a.yaml:1:9; keep one"
    ]


def test_all_problems_of_all_files_come_at_once_in_order():
    loaded = spec.load(
        {
            "b.yaml": "tasks: {x: {flow: 5}}",
            "a.yaml": "actions: {y: {}}",
            "c.yaml": "a: [",
            "d.yml": "[]",
        }
    )
    assert [problem.place.file for problem in loaded.problems] == [
        "a.yaml",
        "b.yaml",
        "c.yaml",
        "d.yml",
    ]


def test_what_an_unreadable_file_might_hold_is_not_missed():
    files = {
        "a.yaml": "tasks: {t: {flow: {s: {action: elsewhere}}}}",
        "b.yaml": "actions: {elsewhere: {",
    }
    assert [problem.place.file for problem in spec.load(files).problems] == ["b.yaml"]


def test_tasks_below_the_workflows_folder_are_filed_by_directory():
    loaded = spec.load(
        {
            ".workflows/top.yaml": TASK.format(name="top"),
            ".workflows/ops/nightly/x.yaml": TASK.format(name="deep"),
            ".workflows/ops/own.yaml": (
                "tasks: {own: {folder: /mine/, flow: {a: {type: script, script: echo}}}}"
            ),
        }
    )
    assert loaded.workspace is not None
    assert {name: task.folder for name, task in loaded.workspace.tasks.items()} == {
        "top": None,
        "deep": "ops/nightly",
        "own": "mine",
    }


def test_a_stranger_outside_the_workflows_folder_is_passed_over_with_a_warning():
    compose = "services: {db: {image: postgres}}\nvolumes: {}"
    loaded = spec.load({"compose.yaml": compose, "flow.yaml": TASK.format(name="t")})
    assert loaded.workspace is not None
    assert [(problem.severity, problem.place.file) for problem in loaded.problems] == [
        ("warning", "compose.yaml")
    ]
    assert spec.load({".workflows/compose.yaml": compose}).errors


def test_a_file_that_sops_has_not_opened_is_named():
    assert "SOPS" in only("secrets: {a: ENC}\nsops: {version: 3}").message


def test_a_source_is_looked_for_when_the_files_are_known():
    text = (
        "actions: {a: {type: script, source: ./scripts/a.sh}, b: {type: script, source: '{{ input.x"
        " }}.sh'}}"
    )
    assert load(text, paths={"scripts/a.sh"}).problems == ()
    assert [problem.code for problem in load(text, paths=set()).problems] == ["source"]
    assert load(text).problems == ()


def test_places_and_durations_reach_the_model():
    found = workspace("""
        actions:
          a: { type: approval, message: ok?, timeout: 24h }
        tasks:
          t:
            timeout: 90
            flow:
              s: { action: a, timeout: "90" }
        """)
    assert found.actions["a"].place == Place("w.yaml", 3, 3)
    assert found.actions["a"].timeout == Duration(86_400.0, "24h")
    assert found.tasks["t"].timeout == Duration(90.0, "90s")
    assert found.tasks["t"].flow["s"].place == Place("w.yaml", 8, 7)


def test_inline_steps_become_actions_with_their_fields():
    found = workspace("""
        tasks:
          t:
            flow:
              s:
                type: docker
                name: Title
                image: alpine
                env: { A: 1.10 }
                input: { n: { type: integer, default: 3 }, db: { type: none, host: x }, plain: "{{ input.x }}" }
                timeout: 5s
                tags: [gpu]
        """)
    step, action = found.tasks["t"].flow["s"], found.actions["_inline:t:s"]
    assert step.action == "_inline:t:s" and step.title == "Title" and action.title is None
    assert set(action.input) == {"n"} and step.input == {
        "db": {"type": "none", "host": "x"},
        "plain": "{{ input.x }}",
    }
    assert action.env == {"A": "1.10"} and action.tags == () and step.tags == ("gpu",)
    assert action.timeout is None and step.timeout is not None and step.timeout.seconds == 5


def test_secrets_stay_as_written_and_out_of_sight():
    found = workspace("secrets: {a: \"{{ 'ref+x' | vals }}\", b: {c: hunter2}}")
    assert found.secrets == {"a": "{{ 'ref+x' | vals }}", "b": {"c": "hunter2"}}
    assert "hunter2" not in repr(found)


def test_defaults_of_a_connection_type_fill_its_connections():
    found = workspace("""
        connection_types: { pg: { port: { type: integer, default: 5432 }, host: { type: string, required: true } } }
        connections: { db: { type: pg, host: x }, other: { type: pg, host: y, port: 1 } }
        """)
    assert found.connections["db"] == {"type": "pg", "host": "x", "port": 5432}
    assert found.connections["other"]["port"] == 1


def test_triggers_have_their_defaults():
    found = workspace(
        TASK.format(name="t") + "\ntriggers: {s: {type: scheduler, cron: '0 0 * * *', task: t}}"
    )
    assert found.triggers["s"].enabled
    assert found.triggers["s"].options == {
        "task": "t",
        "cron": "0 0 * * *",
        "timezone": "UTC",
        "catch_up": "last",
        "catch_up_window": 86_400.0,
        "jitter": 0.0,
        "idempotency_key": None,
        "idempotency_window": 86_400.0,
        "concurrency": "allow",
        "debounce": None,
        "force_refresh": False,
    }


def test_worker_triggers_are_persistent_unless_they_say_no():
    found = workspace("""
        tasks:
          t:
            flow: { a: { type: script, script: echo } }
            workflow_actions:
              - { trigger_type: on_worker_start, action_type: run_commands, commands: [date] }
              - { trigger_type: on_worker_complete, action_type: run_commands, commands: [date], persistent: false }
              - { trigger_type: on_workflow_start, action_type: run_commands, commands: [date] }
        """)
    assert [action.persistent for action in found.tasks["t"].workflow_actions] == [
        True,
        False,
        False,
    ]


def test_a_setting_of_workspace_or_server_turns_pasted_input_into_an_error():
    text = "actions: {a: {type: script, script: 'echo {{ input.x }}'}}"
    assert [problem.severity for problem in load(text).problems] == ["warning"]
    assert load(text + "\nsettings: {unsafe_templates: warn}", unsafe_templates="refuse").errors
    strict = load(text + "\nsettings: {unsafe_templates: refuse}")
    assert strict.workspace is None and [problem.code for problem in strict.problems] == [
        "unsafe-template"
    ]


def test_a_key_that_is_null_counts_as_absent():
    assert (
        load("actions: {a: {type: script, script: echo, cmd: null, retry: }}\ntasks:\n").problems
        == ()
    )


def test_five_hundred_problems_are_enough():
    text = "actions:\n" + "".join(f"  a{i}: {{type: script}}\n" for i in range(2000))
    loaded = load(text)
    assert loaded.workspace is None and len(loaded.problems) == 501
    assert "500 errors and perhaps more" in loaded.problems[-1].message


@pytest.mark.long
def test_no_number_of_warnings_refuses_a_workspace():
    text = "actions:\n" + "".join(
        f"  a{i}: {{type: script, script: x, interpreter: x}}\n" for i in range(700)
    )
    loaded = load(text)
    assert loaded.workspace is not None and len(loaded.problems) == 501
    assert "more than 500 warnings" in loaded.problems[-1].message


def test_two_inline_steps_of_one_generated_name_are_refused():
    text = """
        tasks:
          a: { flow: { "b:c": { type: script, script: one } } }
          "a:b": { flow: { c: { type: script, script: two } } }
        """
    assert any(
        "inline action has the same name as another" in sentence for sentence in sentences(text)
    )


def test_names_with_braces_are_only_names():
    text = (
        "tasks: {'a}b{0}': {input: {'{x}': {type: strnig}}, flow: {s: {type: script, script:"
        " echo}}}}"
    )
    assert only(text).message.startswith(
        "Task 'a}b{0}' input '{x}' references unknown type 'strnig'"
    )


def test_no_files_are_an_empty_workspace():
    loaded = spec.load({})
    assert loaded.workspace is not None and loaded.problems == ()


def test_a_library_is_judged_where_it_is_named():
    files = "libraries:\n  shop: {url: https://x/a}\n  'a b': {path: ../b}\n  far: {path: ../far}\n  near: {path: ../near}\n"
    there = {"w.yaml": files, ".libraries/near/w.yaml": "actions: {a: {type: script, script: a}}"}
    loaded = spec.load(there, name="shop")
    assert [str(problem) for problem in loaded.problems] == [
        "w.yaml:2:3: error: Library 'shop' has the name of this workspace; give it another one",
        "w.yaml:3:3: error: Library name 'a b' may contain only letters, digits, '-' and '_', and at"
        " most 60 of them",
        "w.yaml:4:3: error: Library 'far' has no workflow files, or was not fetched",
    ]
