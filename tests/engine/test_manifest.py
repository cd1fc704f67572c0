"""The merge rules of a pod's `manifest`, with the five examples of the documentation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.manifest import copy_plain, drop_nulls, merge

GENERATED: dict[str, Any] = {
    "metadata": {"name": "stroem-a1-step", "labels": {"stroem.io/attempt": "a1"}},
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "step",
                "image": "node:20",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            }
        ],
    },
}


def test_service_account_and_annotations_are_added_beside_what_was_generated():
    merged = merge(
        GENERATED,
        {
            "metadata": {"annotations": {"iam.amazonaws.com/role": "my-role"}},
            "spec": {"serviceAccountName": "my-sa"},
        },
    )
    assert merged["metadata"] == {
        "name": "stroem-a1-step",
        "labels": {"stroem.io/attempt": "a1"},
        "annotations": {"iam.amazonaws.com/role": "my-role"},
    }
    assert merged["spec"]["serviceAccountName"] == "my-sa"
    assert merged["spec"]["containers"] == GENERATED["spec"]["containers"]


def test_resources_reach_the_step_container_by_its_name():
    resources = {"requests": {"memory": "256Mi", "cpu": "500m"}, "limits": {"memory": "512Mi"}}
    merged = merge(GENERATED, {"spec": {"containers": [{"name": "step", "resources": resources}]}})
    assert len(merged["spec"]["containers"]) == 1
    assert merged["spec"]["containers"][0]["image"] == "node:20"
    assert merged["spec"]["containers"][0]["resources"] == resources


def test_node_selector_and_tolerations_are_added():
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    merged = merge(
        GENERATED, {"spec": {"nodeSelector": {"gpu": "true"}, "tolerations": tolerations}}
    )
    assert merged["spec"]["nodeSelector"] == {"gpu": "true"}
    assert merged["spec"]["tolerations"] == tolerations


def test_an_unknown_container_is_appended_as_a_sidecar():
    sidecar = {
        "name": "postgres-sidecar",
        "image": "postgres:16",
        "env": [{"name": "POSTGRES_PASSWORD", "value": "test"}],
    }
    merged = merge(GENERATED, {"spec": {"containers": [sidecar]}})
    assert [container["name"] for container in merged["spec"]["containers"]] == [
        "step",
        "postgres-sidecar",
    ]
    assert merged["spec"]["containers"][1] == sidecar


def test_environment_variables_are_matched_by_name_and_keep_their_order():
    override = {
        "spec": {
            "containers": [{"name": "step", "env": [{"name": "C", "value": "3"}, _env("A", "9")]}]
        }
    }
    env = merge(GENERATED, override)["spec"]["containers"][0]["env"]
    assert env == [_env("A", "9"), _env("B", "2"), _env("C", "3")]


def test_lists_without_names_and_scalars_are_replaced_as_a_whole():
    base = {"args": ["a", "b"], "ports": [{"containerPort": 1}], "n": 1, "deep": {"x": 1}}
    override = {"args": ["c"], "ports": [{"containerPort": 2}], "n": 2, "deep": [1]}
    assert merge(base, override) == override


def test_a_list_with_one_nameless_item_is_replaced_as_a_whole():
    assert merge([{"name": "a"}], [{"name": "a"}, {"image": "x"}]) == [
        {"name": "a"},
        {"image": "x"},
    ]


def test_a_list_that_says_a_name_twice_is_replaced_as_a_whole():
    twice = [{"name": "a", "x": 1}, {"name": "a", "x": 2}]
    assert merge([{"name": "a"}, {"name": "b"}], twice) == twice


def test_nulls_stay_in_the_merge_and_go_before_sending():
    merged = merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}})
    assert merged == {"a": {"b": None, "c": 2}}
    assert drop_nulls(merged) == {"a": {"c": 2}}


def _env(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


_names = st.sampled_from(["step", "side", "db", "A", "B"])
_leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3)
_values: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_names, inner, max_size=3)
        | st.lists(
            st.builds(
                lambda name, extra: {**extra, "name": name},
                _names,
                st.dictionaries(_names, inner, max_size=2),
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)
_objects = st.dictionaries(_names, _values, max_size=4)


@settings(max_examples=300, deadline=None)
@given(_objects)
def test_an_empty_override_changes_nothing(base: dict[str, Any]):
    assert merge(base, {}) == base


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(_objects, _objects)
def test_laying_the_same_override_over_twice_is_laying_it_over_once(
    base: dict[str, Any], override: dict[str, Any]
):
    once = merge(base, override)
    assert merge(once, override) == once


@settings(max_examples=300, deadline=None)
@given(_objects, _objects)
def test_a_merge_changes_neither_of_its_arguments_and_shares_nothing(
    base: dict[str, Any], override: dict[str, Any]
):
    before = copy.deepcopy((base, override))
    merged = merge(base, override)
    _scribble(merged)
    assert (base, override) == before


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_names, unique=True, min_size=1, max_size=5),
    st.lists(_names, unique=True, min_size=1, max_size=5),
)
def test_named_lists_keep_the_order_of_the_base_and_append_strangers_in_theirs(
    base: list[str], override: list[str]
):
    merged = merge(
        [{"name": name, "old": True} for name in base],
        [{"name": name, "new": True} for name in override],
    )
    strangers = [name for name in override if name not in base]
    assert [item["name"] for item in merged] == base + strangers
    assert all(item.get("old") is (True if item["name"] in base else None) for item in merged)
    assert all(item.get("new") is (True if item["name"] in override else None) for item in merged)


def test_a_copy_is_made_of_plain_dicts_and_lists():
    assert copy_plain({"a": ({"b": 1},)}) == {"a": [{"b": 1}]}


def _scribble(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _scribble(item)
        value["scribble"] = True
    elif isinstance(value, list):
        for item in value:
            _scribble(item)
        value.append("scribble")
