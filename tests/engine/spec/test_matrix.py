"""Every cell of the field validity matrix, from the table as the documentation prints it."""

from __future__ import annotations

import pytest

from engine.spec.fields import ACTION_FIELDS, TYPES
from tests.engine.spec.builders import load

# Columns: script docker pod task agent approval. Source: Action types, "Field validity reference", and our additions.
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
input           + + + + + +
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
interactive     - - - - + -
workspace       + - - - - -
on_worker_lost  + + + - - -
approvers       - - - - - +
min_approvals   - - - - - +
separation      - - - - - +
reminders       - - - - - +
escalation      - - - - - +
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
    "agent": {"provider": "p", "prompt": "x", "tools": "[{task: there}]", "max_turns": "5"},
    "approval": {"message": "ok?"},
}
VALUES = {
    "script": "echo", "source": "a.py", "cmd": "x", "entrypoint": "[x]", "command": "[x]", "image": "alpine",
    "runner": "pod", "language": "python", "dependencies": "[x]", "interpreter": "x", "manifest": "{}", "task": "there",
    "provider": "p", "prompt": "x", "system_prompt": "x", "message": "x", "model": "m", "temperature": "1",
    "tags": "[gpu]", "env": "{A: b}", "timeout": "5m", "input": "{a: {type: string}}", "args": "[x]", "workdir": "x",
    "resources": "{cpu: 1}", "name": "x", "description": "x", "output": "{a: {type: string}}",
    "retry": "{max_attempts: 2}", "max_tokens": "5", "max_turns": "5", "tools": "[{task: there}]",
    "interactive": "true", "workspace": "copy", "on_worker_lost": "retry", "approvers": "{groups: [ops]}",
    "min_approvals": "1", "separation": "true", "reminders": "[1h]", "escalation": "{after: 1h, groups: [ops]}",
}  # fmt: skip


def problems_of(key: str, action_type: str) -> list[tuple[str, str]]:
    fields = {"type": action_type, **NEEDED[action_type], key: VALUES[key]}
    if key == "source" and action_type == "script":
        del fields["script"]
    written = ", ".join(f"{name}: {value}" for name, value in fields.items())
    text = f"actions:\n  it: {{{written}}}\ntasks:\n  there: {{flow: {{a: {{type: script, script: echo}}}}}}\n"
    return [(problem.severity, problem.message) for problem in load(text).problems]


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
    assert len(CELLS) == 40 * 6
