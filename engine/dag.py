"""Graphs of names: cycles, order, closure. A graph maps each name to its dependencies.

Nothing here recurses: a chain of 10,000 steps is an ordinary job. Names that a graph mentions but
does not contain are ignored; the caller reports them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

Graph = Mapping[str, Collection[str]]


def find_cycle(graph: Graph) -> tuple[str, ...] | None:
    """One cycle, closed (`('a', 'b', 'a')`: a needs b, b needs a), or None. It begins with the name
    that comes first in the graph."""
    try:
        TopologicalSorter({name: needs for name, needs in graph.items() if needs}).prepare()
    except CycleError as found:
        ring = found.args[1][:0:-1]  # graphlib returns dependencies before their dependents
        members = set(ring)
        first = ring.index(next(name for name in graph if name in members))
        return (*ring[first:], *ring[: first + 1])
    return None


def topological_order(graph: Graph) -> tuple[str, ...]:
    """Every name after its dependencies, ties in the graph's order; raises ValueError on a
    cycle."""
    sorter = TopologicalSorter(dict.fromkeys(graph, ()))
    for name, needs in graph.items():
        sorter.add(name, *(needed for needed in needs if needed in graph))
    try:
        return tuple(sorter.static_order())
    except CycleError:
        raise ValueError("Cycle detected: " + " -> ".join(find_cycle(graph) or ())) from None


def invert(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Each name's dependents, in the graph's order."""
    followers: dict[str, dict[str, None]] = {name: {} for name in graph}
    for name, needs in graph.items():
        for needed in needs:
            if needed in followers:
                followers[needed][name] = None
    return {name: tuple(names) for name, names in followers.items()}


def closure(graph: Graph, start: Iterable[str]) -> frozenset[str]:
    """All direct and indirect dependencies of `start`, and `start` itself."""
    reached: set[str] = set()
    waiting = [name for name in start if name in graph]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(
                needed for needed in graph[name] if needed in graph and needed not in reached
            )
    return frozenset(reached)
