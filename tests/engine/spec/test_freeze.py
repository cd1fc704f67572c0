"""Definitions through JSON and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.spec import freeze
from engine.spec.model import (
    Action,
    Duration,
    Escalation,
    Hook,
    Hooks,
    InputField,
    OutputField,
    Place,
    Retry,
    Step,
    Task,
    WorkflowAction,
    Workspace,
)  # fmt: skip

names = st.text("abc-_0", min_size=1, max_size=5)
texts = st.text(max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(names, json_values, max_size=2)
durations = st.builds(Duration, st.floats(1, 1e6), texts)
tuples = st.lists(texts, max_size=3).map(tuple)
places = st.builds(Place, texts, st.integers(0, 99), st.integers(0, 99))
retries = st.builds(
    Retry,
    st.integers(1, 10),
    st.floats(1, 3600),
    st.sampled_from(["fixed", "exponential"]),
    st.booleans(),
)
fields = st.builds(
    InputField,
    type=names,
    default=json_values,
    options=st.none() | tuples,
    order=st.none() | numbers,
)
outputs = st.builds(
    OutputField,
    type=names,
    default=json_values,
    options=st.none() | st.lists(json_values).map(tuple),
)
actions = st.builds(
    Action,
    type=st.sampled_from(["script", "docker", "pod", "task", "agent", "approval"]),
    input=st.dictionaries(names, fields, max_size=2),
    output=st.dictionaries(names, outputs, max_size=2),
    tags=tuples,
    env=st.dictionaries(names, texts, max_size=2),
    timeout=st.none() | durations,
    retry=st.none() | retries,
    on_worker_lost=st.none() | st.sampled_from(["fail", "retry"]),
    resources=objects,
    command=st.none() | tuples,
    manifest=st.none() | objects,
    approvers=objects,
    reminders=st.lists(durations, max_size=2).map(tuple),
    escalation=st.none() | st.builds(Escalation, durations, tuples, tuples),
    temperature=st.none() | st.floats(0, 2),
    tools=st.lists(objects, max_size=2).map(tuple),
    place=places,
)
hooks = st.builds(
    Hooks, on_error=st.lists(st.builds(Hook, names, objects, places), max_size=2).map(tuple)
)
steps = st.builds(
    Step,
    action=names,
    depends_on=tuples,
    input=objects,
    for_each=st.none() | texts | st.lists(json_values, max_size=3).map(tuple),
    timeout=st.none() | durations,
    retry=st.none() | retries,
    place=places,
)
workflow_actions = st.builds(
    WorkflowAction, names, st.lists(objects, max_size=2).map(tuple), retry=st.none() | retries
)
tasks = st.builds(
    Task,
    flow=st.dictionaries(names, steps, max_size=3),
    input=st.dictionaries(names, fields, max_size=2),
    hooks=hooks,
    workflow_actions=st.lists(workflow_actions, max_size=2).map(tuple),
    slurm_schedulers=st.dictionaries(names, objects, max_size=2),
    torc=objects,
    place=places,
)


def through_text(thing: object) -> Any:
    return json.loads(json.dumps(freeze.to_json(thing), allow_nan=False))


@pytest.mark.long
@given(actions)
@settings(max_examples=150, deadline=None)
def test_an_action_comes_back_as_it_was(action):
    assert freeze.action_from_json(through_text(action)) == action


@pytest.mark.long
@given(tasks)
@settings(max_examples=150, deadline=None)
def test_a_task_comes_back_as_it_was(task):
    assert freeze.task_from_json(through_text(task)) == task


@given(hooks)
@settings(max_examples=30, deadline=None)
def test_hooks_come_back_as_they_were(found):
    assert freeze.hooks_from_json(through_text(found)) == found


SECRETIVE = Workspace(
    secrets={"token": "hunter2", "nested": {"a": "hunter2"}},
    connection_types={
        "pg": {"password": {"type": "string", "secret": True}, "host": {"type": "string"}}
    },
    connections={
        "db": {"type": "pg", "host": "h", "password": "hunter2"},
        "other": {"type": "pg", "host": "h", "password": "{{ secret.token }}"},
    },
)


def test_a_frozen_workspace_holds_no_secret():
    stored = through_text(SECRETIVE)
    assert "hunter2" not in json.dumps(stored)
    restored = freeze.workspace_from_json(stored)
    assert restored.secrets == {"token": None, "nested": None}
    assert restored.connections["db"] == {"type": "pg", "host": "h", "password": None}
    assert restored.connections["other"]["password"] == "{{ secret.token }}"


@pytest.mark.parametrize("extra", [{"invented_later": 5}])
def test_keys_of_another_version_are_passed_over(extra):
    assert freeze.action_from_json({**through_text(Action("script")), **extra}) == Action("script")
