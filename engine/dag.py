"""Graphs of names: cycles, order, reach. A graph maps each name to the names that it needs.

Everything here is a loop, not a recursion: a chain of 10,000 steps is an ordinary job. Names that a
graph mentions but does not hold are ignored; to complain about them is the caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

Graph = Mapping[str, Iterable[str]]


def find_cycle(graph: Graph) -> tuple[str, ...] | None:
    """One cycle, closed (`('a', 'b', 'a')`: a needs b, b needs a), or None. The same graph gives
    the same cycle."""
    finished: set[str] = set()
    for start in graph:
        if start in finished:
            continue
        path, on_path = [start], {start}
        ways = [iter(graph[start])]
        while ways:
            for needed in ways[-1]:
                if needed in on_path:
                    return (*path[path.index(needed) :], needed)
                if needed in graph and needed not in finished:
                    path.append(needed)
                    on_path.add(needed)
                    ways.append(iter(graph[needed]))
                    break
            else:
                ways.pop()
                on_path.discard(path[-1])
                finished.add(path.pop())
    return None


def topological_order(graph: Graph) -> tuple[str, ...]:
    """Every name after what it needs, ties in the graph's own order; raises ValueError when there
    is a cycle."""
    missing = {
        name: {needed for needed in needs if needed in graph} for name, needs in graph.items()
    }
    followers = invert(graph)
    ready = deque(name for name, needs in missing.items() if not needs)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for follower in followers[name]:
            missing[follower].discard(name)
            if not missing[follower]:
                ready.append(follower)
    if len(order) < len(missing):
        raise ValueError("Cycle detected: " + " -> ".join(find_cycle(graph) or ()))
    return tuple(order)


def invert(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Each name's followers: those that need it, in the graph's order."""
    followers: dict[str, dict[str, None]] = {name: {} for name in graph}
    for name, needs in graph.items():
        for needed in needs:
            if needed in followers:
                followers[needed][name] = None
    return {name: tuple(names) for name, names in followers.items()}


def closure(graph: Graph, start: Iterable[str]) -> frozenset[str]:
    """All that `start` needs, directly or not, `start` included."""
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
