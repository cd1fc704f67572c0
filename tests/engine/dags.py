"""Random flows, and how each of them must end: the oracle of the state machines.

A flow says beforehand how often each step fails, so that its end is known, in whatever order its
steps run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

ALWAYS = 99


@dataclass(frozen=True)
class Node:
    name: str
    needs: tuple[str, ...] = ()
    tolerates: bool = False
    when: Literal["none", "true", "false", "error"] = "none"
    runs: int = 1  # at most; more than one is `retry`
    fails: int = 0  # so many runs fail before one succeeds
    items: int | None = None  # a loop of so many; each of the `bad` ones fails always
    width: int | None = None  # max_parallel
    sequential: bool = False
    bad: frozenset[int] = frozenset()
    is_child: bool = False

    def instance_status(self, index: int) -> str:
        if self.sequential and not self.tolerates and any(bad < index for bad in self.bad):
            return "skipped"
        return "failed" if index in self.bad else "completed"

    @property
    def end(self) -> str:
        """How it ends once it runs."""
        if self.items is None:
            return "failed" if self.fails >= self.runs else "completed"
        if self.items == 0:
            return "skipped"
        return "failed" if self.bad and not self.tolerates else "completed"


@dataclass(frozen=True)
class Flow:
    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def ends(self) -> dict[str, str]:
        """How every step ends."""
        found: dict[str, str] = {}
        for node in self.nodes:
            found[node.name] = self._end(node, found)
        return found

    def _end(self, node: Node, found: dict[str, str]) -> str:
        before = [found[name] for name in node.needs]
        is_bad = any(found[name] == "failed" and not self[name].tolerates for name in node.needs)
        if not node.tolerates and (
            is_bad or (before and all(status == "skipped" for status in before))
        ):
            return "skipped"
        if node.when in ("false", "error"):
            return {"false": "skipped", "error": "failed"}[node.when]
        return node.end

    def job_status(self) -> str:
        bad = [
            name
            for name, status in self.ends().items()
            if status == "failed" and not self[name].tolerates
        ]
        return "failed" if bad else "completed"


@st.composite
def flows(draw: st.DrawFn, *, with_server_steps: bool = False, most: int = 7) -> Flow:
    nodes: list[Node] = []
    for number in range(draw(st.integers(2, most))):
        names = [node.name for node in nodes]
        needs = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        common = {
            "name": f"s{number}",
            "needs": tuple(needs),
            "tolerates": draw(st.booleans()),
            "when": draw(st.sampled_from(["none", "none", "none", "true", "false", "error"])),
        }
        kind = draw(
            st.sampled_from(
                ["plain", "plain", "plain", "loop", "child" if with_server_steps else "plain"]
            )
        )
        if kind == "loop":
            items = draw(st.integers(0, 4))
            common |= {
                "items": items,
                "width": draw(st.sampled_from([None, 1, 2])),
                "sequential": draw(st.booleans()),
                "bad": draw(st.frozensets(st.integers(0, items - 1), max_size=2))
                if items
                else frozenset(),
                "is_child": with_server_steps and draw(st.booleans()),
            }
        elif kind == "child":
            common |= {"is_child": True, "fails": draw(st.sampled_from([0, ALWAYS]))}
        else:
            common |= {
                "runs": draw(st.integers(1, 3)),
                "fails": draw(st.sampled_from([0, 0, 1, 2, ALWAYS])),
            }
        nodes.append(Node(**common))
    return Flow(tuple(nodes))
