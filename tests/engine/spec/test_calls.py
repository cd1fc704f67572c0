"""What a step gives to what it calls, and what its code reads: said before a job fails."""

from __future__ import annotations

import pytest

from engine.spec.freeze import task_from_json, to_json
from tests.engine.spec.builders import load, sentences

DEPLOY = """
    actions:
      deploy:
        type: script
        input: { version: { type: string, required: true }, mode: { type: string } }
        script: echo "$STROEM_INPUT_VERSION" "$STROEM_INPUT_MODE"
"""


def warned(text: str) -> list[str]:
    assert sentences(text) == []
    return sentences(text, "warning")


@pytest.mark.parametrize(
    "task",
    [
        "input: { version: { type: string } }, flow: { s: { action: deploy } }",
        "flow: { s: { action: deploy, input: { version: '{{ secret.v }}' } } }",
        "flow: { s: { action: deploy, input: { version: 1 } } }",
    ],
)
def test_a_required_input_may_come_from_the_step_or_from_the_job(task: str):
    assert warned(f"    secrets: {{ v: x }}{DEPLOY}    tasks: {{ t: {{ {task} }} }}\n") == []


def test_a_required_input_that_nobody_gives_is_said_for_steps_hooks_and_tasks():
    found = warned(f"""{DEPLOY}
      call: {{ type: task, task: child }}
    tasks:
      child:
        input: {{ n: {{ type: integer, required: true }} }}
        flow: {{ s: {{ type: script, script: echo }} }}
      t:
        input: {{ n: {{ type: integer }} }}
        flow: {{ a: {{ action: deploy }}, b: {{ action: call }}, c: {{ type: task, task: child }} }}
        on_error: [ {{ action: deploy }} ]
    """)
    assert found == [
        "Task 't' step 'a' does not pass input 'version', which action 'deploy' requires",
        "Task 't' step 'b' does not pass input 'n', which task 'child' requires",
        "Task 't' step 'c' does not pass input 'n', which task 'child' requires",
        "Task 't' on_error[0] does not pass input 'version', which action 'deploy' requires",
    ]


def test_a_given_input_that_is_neither_declared_nor_read_is_said():
    found = warned(
        DEPLOY + "    tasks: { t: { flow: { s: { action: deploy, input: { verison: 1, mode: b,"
        " version: c } } } } }\n"
    )
    assert found == [
        "Task 't' step 's' passes input 'verison', which action 'deploy' does not declare or read"
        " (did you mean 'version'?)"
    ]


@pytest.mark.parametrize(
    "script",
    ["echo {{ input.extra | sh }}", 'echo "$STROEM_INPUT_EXTRA"', 'cat "$STROEM_INPUT_FILE"'],
)
def test_an_input_that_the_code_reads_needs_no_declaration(script: str):
    text = f"""
    actions: {{ a: {{ type: script, script: '{script}' }} }}
    tasks: {{ t: {{ flow: {{ s: {{ action: a, input: {{ extra: x }} }} }} }} }}
    """
    assert warned(text) == []


@pytest.mark.parametrize(
    "script",
    ["echo {{ input.version | sh }}", 'echo "$STROEM_INPUT_VERSION"', "${STROEM_INPUT_VERSION}"],
)
def test_an_inline_step_reads_the_input_of_its_job_and_a_named_action_does_not(script: str):
    job = "input: { version: { type: string, required: true } }"
    inline = f"tasks: {{ t: {{ {job}, flow: {{ s: {{ type: script, script: '{script}' }} }} }} }}"
    assert warned(inline) == []
    named = f"""
    actions: {{ a: {{ type: script, script: '{script}' }} }}
    tasks:
      t: {{ {job}, flow: {{ s: {{ action: a }}, r: {{ action: a, input: {{ version: x }} }} }} }}
    """
    assert warned(named) == [
        "Task 't' step 's' does not pass input 'version', which the script of action 'a' reads"
    ]


def test_advice_names_only_variables_that_are_there():
    text = """
    actions: { a: { type: script, script: "echo {{ input.version }}" } }
    tasks:
      t:
        input: { version: { type: string, required: true } }
        flow: { s: { type: script, script: "echo {{ input.version }}" } }
    """
    named, inline = warned(text)
    assert "declare input 'version' and use \"$STROEM_INPUT_VERSION\"" in named
    assert 'code; use "$STROEM_INPUT_VERSION"' in inline


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("{{ input.nmae | sh }}", "(did you mean 'name'?)"),
        ("$STROEM_INPUT_NMAE", "(did you mean 'name'?)"),
        ("{{ secret.tokn | sh }}", "(did you mean 'token'?)"),
        ("{{ secrets.token | sh }}", "(did you mean 'secret'?)"),
        ("{{ bulid.output.x | sh }}", "(did you mean 'build'?)"),
    ],
)
def test_a_misspelt_name_in_code_is_said(code: str, told: str):
    text = f"""
    secrets: {{ token: abc }}
    tasks:
      t:
        input: {{ name: {{ type: string }} }}
        flow:
          build: {{ type: script, script: make }}
          s: {{ type: script, depends_on: [build], script: 'echo {code}' }}
    """
    (sentence,) = warned(text)
    assert sentence.endswith(told)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("{{ input.nmae }}", "which the task does not declare (did you mean 'name'?)"),
        ("{{ build.outptu.x }}", "'build.outptu', which does not exist (did you mean 'output'?)"),
        ("{{ each.itme }}", "'each.itme', which does not exist (did you mean 'item'?)"),
    ],
)
def test_a_misspelt_name_in_the_input_of_a_step_is_said(code: str, told: str):
    text = f"""
    tasks:
      t:
        input: {{ name: {{ type: string }} }}
        flow:
          build: {{ type: script, script: make }}
          s:
            type: script
            depends_on: [build]
            for_each: [1]
            script: echo
            input: {{ x: "{code}" }}
    """
    (sentence,) = warned(text)
    assert told in sentence


def test_a_misspelt_name_of_a_hook_is_said():
    text = """
    actions: { a: { type: script, script: 'cat "$STROEM_INPUT_FILE"' } }
    tasks:
      t:
        flow: { s: { type: script, script: make } }
        on_error: [ { action: a, input: { x: "{{ hook.job_id }} {{ hook.eror_message }}" } } ]
        on_suspended: [ { action: a, input: { x: "{{ hook.message }} {{ hook.step }}" } } ]
    """
    first, second = warned(text)
    assert first.endswith(
        "'hook.eror_message', which does not exist (did you mean 'error_message'?)"
    )
    assert "'hook.step', which does not exist" in second


def test_suggestions_propose_only_what_exists():
    text = (
        "tasks: { t: { flow: { s: { type: script, script: x, input: { a: '{{ stat.x }}' } } } } }"
    )
    (sentence,) = warned(text)
    assert "did you mean 'state'?" in sentence


@pytest.mark.parametrize("name", ["file", "File", "FILE"])
@pytest.mark.parametrize(
    "text",
    [
        "tasks: {{ t: {{ input: {{ {name}: {{ type: string }} }}, flow: {{ s: {{ type: script, script: x }} }} }} }}",
        "actions: {{ a: {{ type: script, script: x, input: {{ {name}: {{ type: string }} }} }} }}",
        "tasks: {{ t: {{ flow: {{ s: {{ type: script, script: x, input: {{ {name}: x }} }} }} }} }}",
    ],
)
def test_an_input_that_takes_the_variable_of_the_input_file_is_told_of_the_other(
    name: str, text: str
):
    (sentence,) = sentences(text.format(name=name), "warning")
    assert f"input '{name}' sets STROEM_INPUT_FILE" in sentence
    assert "STROEM_INPUTS_FILE" in sentence


def test_an_input_named_like_another_variable_of_ours_is_told_apart_by_its_prefix():
    text = "tasks: { t: { input: { job_id: { type: string } }, flow: { s: { type: script, script: x } } } }"
    assert load(text).problems == ()


def test_an_own_variable_that_ours_would_replace_is_refused():
    text = "actions: { a: { type: script, script: x, env: { STROEM_JOB_ID: mine } } }"
    (sentence,) = sentences(text)
    assert "STROEM_JOB_ID" in sentence and "rename" in sentence


@pytest.mark.parametrize("name", ["make all", "1st", "über", "a.b"])
def test_a_step_that_no_template_can_name_is_told(name: str):
    (sentence,) = warned(
        f"tasks: {{ t: {{ flow: {{ '{name}': {{ type: script, script: x }} }} }} }}"
    )
    assert "no template can read its output" in sentence


def test_a_webhook_may_bring_fields_that_nobody_declares():
    text = """
    tasks: { t: { flow: { s: { type: script, script: "echo {{ input.body.ref | sh }}" } } } }
    triggers: { push: { type: webhook, name: push, task: t, verify: none } }
    """
    assert warned(text) == []


def test_an_action_of_another_workspace_is_for_the_server_to_judge():
    text = """
    tasks:
      t: { flow: { s: { action: product.deploy } } }
      o: { flow: { s: { action: common.deploy } } }
    """
    found = [problem for problem in load(text).problems if problem.code == "elsewhere"]
    assert [(problem.severity, problem.place.line) for problem in found] == [
        ("warning", 3),
        ("warning", 4),
    ]
    assert "'product.deploy' of another workspace: only a server can say" in found[0].message


@pytest.mark.parametrize(
    ("text", "told"),
    [("hooks with actions of other workspaces", "on_success: [{ action: common.tell }]")],
)
def test_what_is_not_built_is_one_warning(text: str, told: str):
    found = [problem.message for problem in load(told).problems if problem.code == "not-built"]
    assert found == [
        f"this version does not carry out {text}, with which no job starts: common.tell"
    ]


@pytest.mark.parametrize(
    "script", ["echo 'STATE: {}'", "ls $STATE_DIR", "echo {{ state.n }} {{ global_state.m.x }}"]
)
def test_state_is_carried_out(script: str):
    text = f"tasks: {{ t: {{ flow: {{ s: {{ type: script, script: {script!r} }} }} }} }}"
    assert [problem for problem in load(text).problems if problem.code == "not-built"] == []


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ("{on_conflict: never}", "must be one of fail, last_wins, serialize, not 'never'"),
        ("{on_conflikt: fail}", "unknown key 'on_conflikt' (did you mean 'on_conflict'?)"),
        ("serialize", "'state' must be a mapping, not text"),
    ],
)
def test_a_wrong_rule_for_state_is_an_error_at_its_place(state: str, wrong: str):
    text = f"""
    tasks:
      t:
        state: {state}
        flow: {{ s: {{ type: script, script: "true" }} }}
    """
    (problem,) = load(text).errors
    assert wrong in problem.message and problem.place.line == 4


def test_a_rule_for_state_is_read_and_frozen():
    text = "tasks: { t: { state: {on_conflict: serialize}, flow: { s: { type: script, script: x } } } }"
    loaded = load(text)
    task = loaded.workspace.tasks["t"]
    assert task.state.on_conflict == "serialize"
    assert task_from_json(to_json(task)).state == task.state
