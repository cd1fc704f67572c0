"""Rights out of grants, denials and what files keep to some."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rights import (
    ALL_RIGHTS,
    NO_RIGHTS,
    OF_OPERATORS,
    OF_VIEWERS,
    Ground,
    Holder,
    Keepers,
    Right,
    Rule,
    decide,
    explain,
    expression,
    matches,
    path_of,
)

ANN = Holder("ann@example.org", frozenset({"release"}))
RELEASE = Ground("prod", "deploy/release")
WHOLE = Ground("prod")


def rule(*rights: Right, tasks: str = "*", workspaces: str = "*", denies: bool = False) -> Rule:
    return Rule(1, workspaces, frozenset(rights), tasks, denies)


def viewer(tasks: str = "*", workspaces: str = "*") -> Rule:
    return Rule(1, workspaces, OF_VIEWERS, tasks)


def test_nothing_is_allowed_without_a_grant() -> None:
    assert decide([], ANN, RELEASE) == NO_RIGHTS


def test_grants_add_up() -> None:
    assert decide([viewer(), rule(Right.RUN, tasks="deploy/*")], ANN, RELEASE) == {
        *OF_VIEWERS,
        Right.RUN,
    }


@pytest.mark.parametrize(
    ("tasks", "path", "fits"),
    [
        ("*", "deploy/release", True),
        ("deploy/*", "deploy/release", True),
        ("deploy/*", "deploy/eu/release", True),
        ("deploy/*", "deployment", False),
        ("release", "deploy/release", False),
        ("*release", "deploy/release", True),
        ("deploy/release", "deploy/release", True),
        ("Deploy/*", "deploy/release", False),
        ("deploy/r.lease", "deploy/release", False),
    ],
)
def test_a_grant_is_for_the_folders_and_tasks_that_match(tasks: str, path: str, fits: bool) -> None:
    assert (decide([viewer(tasks)], ANN, Ground("prod", path)) == OF_VIEWERS) is fits


def test_a_grant_on_some_tasks_gives_nothing_on_the_workspace_itself() -> None:
    some = Rule(1, "*", ALL_RIGHTS, "deploy/*")
    assert decide([some], ANN, WHOLE) == NO_RIGHTS
    assert decide([Rule(1, "*", ALL_RIGHTS, "**")], ANN, WHOLE) == ALL_RIGHTS


def test_a_denial_wins_over_every_grant_however_specific() -> None:
    deny = rule(Right.RUN, denies=True)
    exact = Rule(2, "prod", OF_OPERATORS, "deploy/release")
    for order in ([deny, exact], [exact, deny]):
        assert decide(order, ANN, RELEASE) == OF_OPERATORS - {Right.RUN}


def test_who_is_denied_to_see_has_no_right_at_all() -> None:
    rules = [Rule(1, "*", ALL_RIGHTS), rule(Right.SEE, tasks="deploy/*", denies=True)]
    assert decide(rules, ANN, RELEASE) == NO_RIGHTS
    assert decide(rules, ANN, Ground("prod", "build")) == ALL_RIGHTS
    assert decide(rules, ANN, WHOLE) == ALL_RIGHTS


def test_files_take_rights_from_all_but_those_they_name_and_give_none() -> None:
    kept = Ground("prod", "release", {Right.RUN: [Keepers(groups=("release",))]})
    operator = [Rule(1, "*", OF_OPERATORS)]
    assert decide(operator, ANN, kept) == OF_OPERATORS
    assert decide(operator, Holder("bob@example.org"), kept) == OF_OPERATORS - {Right.RUN}
    assert decide([viewer()], ANN, kept) == OF_VIEWERS
    assert decide([], ANN, kept) == NO_RIGHTS


def test_of_two_rules_in_the_files_both_must_include_a_person() -> None:
    both = [Keepers(groups=("release",)), Keepers(users=("bob@example.org",))]
    kept = Ground("prod", "release", {Right.RUN: both})
    for who in (ANN, Holder("bob@example.org")):
        assert Right.RUN not in decide([Rule(1, "*", OF_OPERATORS)], who, kept)


def test_an_explanation_names_what_decided() -> None:
    grant = Rule(1, "*", OF_OPERATORS, held_by="ann@example.org")
    deny = Rule(2, "prod", frozenset({Right.LOGS}), "deploy/*", True, "the group release")
    kept = Ground("prod", "deploy/release", {Right.RUN: [Keepers(users=("bob@example.org",))]})
    told = explain([grant, deny], ANN, kept)
    assert (told[Right.SEE].allowed, told[Right.SEE].rule) == (True, grant)
    assert (told[Right.LOGS].allowed, told[Right.LOGS].rule) == (False, deny)
    assert "keep it to bob@example.org" in told[Right.RUN].because
    assert told[Right.SECRETS].because == "no grant gives it"


RULES = st.builds(
    Rule,
    id=st.just(1),
    workspaces=st.sampled_from(["*", "prod", "pr*", "test"]),
    rights=st.frozensets(st.sampled_from(Right)),
    tasks=st.sampled_from(["*", "deploy/*", "deploy/release", "*e", "build"]),
    denies=st.booleans(),
)
ACCESS = st.dictionaries(
    st.sampled_from(Right),
    st.lists(
        st.builds(Keepers, users=st.just(()), groups=st.sampled_from([("release",), ("other",)])),
        max_size=2,
    ),
)


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from([None, "deploy/release", "build", "deploy/x"]),
    ACCESS,
)
def test_an_explanation_never_differs_from_the_decision(
    rules: list[Rule], path: str | None, access: dict[Right, list[Keepers]]
) -> None:
    ground = Ground("prod", path, access)
    told = explain(rules, ANN, ground)
    assert {right for right, verdict in told.items() if verdict.allowed} == decide(
        rules, ANN, ground
    )


@given(st.text("ab*/.", max_size=8), st.text("ab/.", max_size=8))
def test_a_pattern_means_the_same_here_and_in_a_regular_expression(pattern: str, name: str) -> None:
    assert matches(pattern, name) == (re.fullmatch(expression(pattern), name) is not None)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 200 + "b", "a" * 5000)


def test_a_task_without_a_folder_is_matched_by_its_name() -> None:
    assert (path_of("build", None), path_of("build", "ops/eu")) == ("build", "ops/eu/build")
