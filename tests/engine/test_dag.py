"""Graphs of names."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import dag

names = st.sampled_from("abcdefgh")
graphs = st.dictionaries(names, st.lists(names, max_size=4), max_size=8)


def test_a_cycle_is_named_from_its_first_step_and_closed():
    #   a <-- c <-- b <-- a      d hangs on it
    assert dag.find_cycle({"d": ["a"], "a": ["c"], "b": ["a"], "c": ["b"]}) == ("a", "c", "b", "a")
    assert dag.find_cycle({"d": ["b"], "a": ["c"], "b": ["a"], "c": ["b"]}) == ("a", "c", "b", "a")
    assert dag.find_cycle({"a": ["a"]}) == ("a", "a")
    assert dag.find_cycle({"a": ["b", "c"], "b": ["c"], "c": ["nobody"]}) is None


def test_the_order_puts_every_name_after_what_it_needs_and_keeps_ties():
    assert dag.topological_order({"z": [], "b": ["z", "a"], "a": [], "c": ["z"]}) == (
        "z",
        "a",
        "c",
        "b",
    )
    with pytest.raises(ValueError, match="a -> b -> a"):
        dag.topological_order({"a": ["b"], "b": ["a"]})


def test_the_closure_is_all_that_a_name_needs():
    graph = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"]}
    assert dag.closure(graph, ["c"]) == {"a", "b", "c"}
    assert dag.closure(graph, ["nobody"]) == frozenset()


def test_followers_are_the_graph_the_other_way_round():
    assert dag.invert({"a": [], "b": ["a", "a"], "c": ["a", "nobody"]}) == {
        "a": ("b", "c"),
        "b": (),
        "c": (),
    }


def test_a_chain_of_ten_thousand_is_no_burden():
    chain = {f"s{i}": [f"s{i - 1}"] for i in range(10_000)}
    assert dag.find_cycle(chain) is None
    assert len(dag.topological_order(chain)) == len(dag.closure(chain, ["s9999"])) == 10_000
    ring = {**chain, "s0": ["s9999"]}
    assert len(dag.find_cycle(ring) or ()) == 10_001


@given(graphs)
def test_there_is_an_order_exactly_when_there_is_no_cycle(graph):
    cycle = dag.find_cycle(graph)
    if cycle is None:
        order = dag.topological_order(graph)
        assert sorted(order) == sorted(graph)
        assert all(
            order.index(need) < order.index(name)
            for name in graph
            for need in graph[name]
            if need in graph
        )
    else:
        assert cycle[0] == cycle[-1] and all(b in graph[a] for a, b in pairwise(cycle))
        with pytest.raises(ValueError):
            dag.topological_order(graph)
