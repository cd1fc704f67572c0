"""Every cell of the field validity matrix, from the table as the documentation prints it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command

from engine.spec.fields import ACTION_FIELDS, TYPES
from tests.engine.spec.builders import load

# Columns: script docker pod task agent approval. docs/reference/yaml.md describes the same fields.
MATRIX = """
script          + - - - - -
source          + - - - - -
cmd             - + + - - -
entrypoint      - + + - - -
command         - + + - - -
image           - + + - - -
runner          + - - - - -
language        + - - - - -
dependencies    + - - - - -
interpreter     + - - - - -
manifest        + - + - - -
task            - - - + - -
provider        - - - - + -
prompt          - - - - + -
system_prompt   - - - - + -
message         - - - - - +
model           - - - - + -
temperature     - - - - + -
tags            + + + - - -
env             + + + - - -
timeout         + + + - + +
input           + + + ~ + +
args            + - - - - -
workdir         + + + - - -
resources       + + + - - -
name            + + + + + +
description     + + + + + +
output          + + + + + +
retry           + + + ~ + ~
max_tokens      - - - - + -
max_turns       - - - - + -
tools           - - - - + -
limits          - - - - + -
interactive     - - - - + -
workspace       + - - - - -
umask           + - - - - -
shm_size        + + + - - -
user            + + + - - -
platform        + + + - - -
pull            + + + - - -
volumes         + + + - - -
on_worker_lost  + + + - - -
approvers       - - - - + +
min_approvals   - - - - + +
separation      - - - - + +
reminders       - - - - + +
escalation      - - - - + +
ask_timeout     - - - - + -
"""
CELLS = [
    (words[0], action_type, mark)
    for words in (line.split() for line in MATRIX.strip().splitlines())
    for action_type, mark in zip(TYPES, words[1:], strict=True)
]
# What each type needs, without the key under test, and a good value for every key.
NEEDED = {
    "script": {"script": "echo", "runner": "pod", "language": "python"},
    "docker": {"image": "alpine"},
    "pod": {"image": "alpine"},
    "task": {"task": "there"},
    "agent": {
        "provider": "p",
        "prompt": "x",
        "tools": "[{task: there, approval: always}]",
        "max_turns": "5",
    },
    "approval": {"message": "ok?"},
}
VALUES = {
    "script": "echo", "source": "a.py", "cmd": "x", "entrypoint": "[x]", "command": "[x]", "image": "alpine",
    "runner": "pod", "language": "python", "dependencies": "[x]", "interpreter": "x", "manifest": "{}", "task": "there",
    "provider": "p", "prompt": "x", "system_prompt": "x", "message": "x", "model": "m", "temperature": "1",
    "tags": "[gpu]", "env": "{A: b}", "timeout": "5m", "input": "{a: {type: string}}", "args": "[x]", "workdir": "/x",
    "resources": "{cpu: 1}", "name": "x", "description": "x", "output": "{a: {type: string}}",
    "limits": "{turns: 5}", "ask_timeout": "1h", "retry": "{max_attempts: 2}", "max_tokens": "5", "max_turns": "5", "tools": "[{task: there}]",
    "shm_size": "1Gi", "user": '"1000:1000"', "platform": "linux/arm64", "pull": "always",
    "volumes": '{data: "/data:ro"}',
    "interactive": "true", "workspace": "copy", "umask": "0027", "on_worker_lost": "retry", "approvers": "{groups: [ops]}",
    "min_approvals": "1", "separation": "true", "reminders": "[1h]", "escalation": "{after: 1h, groups: [ops]}",
}  # fmt: skip

TASK = "tasks:\n  there: {flow: {a: {type: script, script: echo}}}\n"


def write_fields(key: str, action_type: str) -> str:
    """An action of this type with all that it needs, and `key`."""
    fields = {"type": action_type, **NEEDED[action_type], key: VALUES[key]}
    if key == "source" and action_type == "script":
        del fields["script"]
    return ", ".join(f"{name}: {value}" for name, value in fields.items())


def problems_of(key: str, action_type: str) -> list[tuple[str, str]]:
    text = f"actions:\n  it: {{{write_fields(key, action_type)}}}\n{TASK}"
    found = load(text).problems
    return [(problem.severity, problem.message) for problem in found]


@pytest.mark.parametrize(("key", "action_type", "mark"), CELLS)
def test_a_cell_of_the_matrix(key, action_type, mark):
    found = problems_of(key, action_type)
    match mark:
        case "+":
            assert found == []
        case "~":
            assert [severity for severity, _ in found] == ["warning"]
        case _:
            assert [severity for severity, _ in found] == ["error"]
            assert f"'{key}'" in found[0][1] and "Action 'it'" in found[0][1]


def test_the_matrix_has_a_row_for_every_field():
    assert {key for key, _, _ in CELLS} | {"type"} == set(ACTION_FIELDS)
    assert len(CELLS) == 48 * 6


# The table as the documentation has it, and the cells in which ours differs from it: each on
# purpose.
DOCUMENTED = """
script          + - - - - -
source          + - - - - -
cmd             - + + - - -
entrypoint      - + + - - -
command         - + + - - -
image           - + + - - -
runner          + - - - - -
language        + - - - - -
dependencies    + - - - - -
interpreter     + - - - - -
manifest        + - + - - -
task            - - - + - -
provider        - - - - + -
prompt          - - - - + -
system_prompt   - - - - + -
message         - - - - - +
model           - - - - + -
output          - - - - + -
temperature     - - - - + -
tags            + + + - - -
env             + + + - - -
timeout         + + + - + +
input           + + + + + +
"""
# output documents what a step of any type answers; the called task declares the inputs, not the
# action that calls it
WIDER = {("output", other) for other in TYPES if other != "agent"} | {("input", "task")}


def test_the_matrix_is_the_documented_one_but_for_what_is_wider_on_purpose():
    rows = (line.split() for line in DOCUMENTED.strip().splitlines())
    documented = {
        (words[0], action_type, mark)
        for words in rows
        for action_type, mark in zip(TYPES, words[1:], strict=True)
    }
    ours = {(key, action_type): mark for key, action_type, mark in CELLS}
    differing = {
        (key, action_type)
        for key, action_type, mark in documented
        if ours[key, action_type] != mark
    }
    assert differing == WIDER


# Where the table says more than yes or no: (pod runner only), (local/docker/pod), "a language other
# than shell".


def found_in(**fields: str) -> list[str]:
    written = ", ".join(
        f"{name}: {value}" for name, value in {"type": "script", "script": "echo", **fields}.items()
    )
    return [
        f"{problem.severity}: {problem.message}"
        for problem in load(f"actions: {{it: {{{written}}}}}").problems
    ]


@pytest.mark.parametrize("runner", ["local", "docker", "pod"])
@pytest.mark.parametrize(
    ("key", "value", "fitting"),
    [
        ("manifest", "{}", "pod"),
        ("workspace", "copy", "docker pod"),
        ("shm_size", "1g", "docker pod"),
        ("user", "1000", "docker pod"),
        ("platform", "linux/amd64", "docker pod"),
        ("pull", "never", "docker pod"),
        ("volumes", "{data: /data}", "docker pod"),
    ],
)
def test_a_field_that_only_some_runners_know_is_refused_on_the_others(
    runner: str, key: str, value: str, fitting: str
):
    found = found_in(runner=runner, **{key: value})
    if runner in fitting.split():
        assert found == []
    else:
        (sentence,) = found
        assert sentence.startswith(f"error: Action 'it' has '{key}' field but runner is '{runner}'")


def test_a_manifest_is_refused_where_no_runner_is_named():
    (sentence,) = found_in(manifest="{}")
    assert (
        sentence
        == "error: Action 'it' has 'manifest' field but runner is 'local' (manifest is only valid"
        " on pod actions)"
    )


@pytest.mark.parametrize("runner", ["local", "docker", "pod"])
@pytest.mark.parametrize(
    "language", ["shell", "python", "javascript", "js", "typescript", "ts", "go"]
)
def test_every_runner_takes_every_language_and_shell_alone_takes_no_dependencies(
    runner: str, language: str
):
    assert found_in(runner=runner, language=language) == []
    found = found_in(runner=runner, language=language, dependencies="[a]")
    if language == "shell":
        (sentence,) = found
        assert (
            sentence.startswith("error: ")
            and "dependencies require a non-shell language" in sentence
        )
    else:
        assert found == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("runner", "kubernetes", "invalid runner 'kubernetes' (expected: local, docker, pod)"),
        (
            "runner",
            "Docker",
            "invalid runner 'Docker' (expected: local, docker, pod) (did you mean 'docker'?)",
        ),
        (
            "language",
            "py",
            "invalid language 'py' (expected: shell, python, javascript, typescript, go, js, ts)",
        ),
        (
            "language",
            "bash",
            "invalid language 'bash' (expected: shell, python, javascript, typescript, go, js, ts)",
        ),
    ],
)
def test_a_runner_or_language_that_is_unknown_is_answered_with_those_that_are(
    key: str, value: str, expected: str
):
    (sentence,) = found_in(**{key: value})
    assert sentence == f"error: Action 'it' has {expected}"


def test_validate_reports_every_refused_cell_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """All of the table in one workspace, through the command."""
    lines, expected = ["actions:"], {}
    for key, action_type, mark in CELLS:
        name = f"{action_type}-{key}"
        lines.append(f"  {name}: {{{write_fields(key, action_type)}}}")
        if mark == "-":
            expected[len(lines)] = (f"'{name}'", f"'{key}'")
    (tmp_path / "flows.yaml").write_text("\n".join([*lines, TASK]))
    (tmp_path / VALUES["source"]).touch()
    with pytest.raises(SystemExit) as ended:
        call_command("validate", str(tmp_path))
    assert ended.value.code == 1
    told = [line for line in capsys.readouterr().out.splitlines() if ": error" in line]
    assert sorted(int(line.split(":")[1]) for line in told) == sorted(expected)
    for line in told:
        assert all(word in line for word in expected[int(line.split(":")[1])])
