"""The drawing of a flow: what is one node, and that arrows never go round."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from apps.jobs.pages import pictures
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)
HEAD = 'actions: { go: { type: script, script: "true" } }\ntasks:\n  main:\n    flow:\n'


def drawn(tmp_path: Path, *lines: str) -> tuple[dict[str, int], set[tuple[str, str]]]:
    """Nodes with the number of their steps, and arrows, by label."""
    text = HEAD + "".join(f"      {line}\n" for line in lines)
    job = start(workspace(tmp_path, text))
    picture = pictures.picture_of(job.blueprint_id)
    labels = [node.label for node in picture.nodes]
    arrows = {(labels[a], labels[b]) for a, b in picture.edges}
    return {node.label: len(node.bases) for node in picture.nodes}, arrows


def test_steps_alike_but_for_a_number_are_one_node(tmp_path: Path) -> None:
    #   a --> fit_1 ... fit_3 --> z
    nodes, arrows = drawn(
        tmp_path,
        "a: { action: go }",
        *(f"fit_{n}: {{ action: go, depends_on: [a] }}" for n in range(3)),
        "z: { action: go, depends_on: [fit_0, fit_1, fit_2] }",
    )
    assert nodes == {"a": 1, "fit_#": 3, "z": 1}
    assert arrows == {("a", "fit_#"), ("fit_#", "z")}


def test_two_alike_stay_two(tmp_path: Path) -> None:
    nodes, _ = drawn(tmp_path, "fit_1: { action: go }", "fit_2: { action: go }")
    assert nodes == {"fit_1": 1, "fit_2": 1}


def test_a_chain_of_numbered_steps_is_not_folded_into_a_circle(tmp_path: Path) -> None:
    #   s1 --> t1 --> s2 --> t2 --> s3 --> t3
    names = ["s1", "t1", "s2", "t2", "s3", "t3"]
    lines = [
        f"{name}: {{ action: go, depends_on: [{names[i - 1] if i else ''}] }}"
        for i, name in enumerate(names)
    ]
    nodes, arrows = drawn(tmp_path, *lines)
    assert set(nodes) == set(names)
    assert arrows == set(pairwise(names))


def test_a_node_of_many_shows_what_needs_a_person_first(tmp_path: Path) -> None:
    text = HEAD + "".join(f"      fit_{n}: {{ action: go }}\n" for n in range(4))
    job = start(workspace(tmp_path, text))
    Hand().work({"fit_2": failed()})
    [standing] = pictures.counted(job.pk, pictures.picture_of(job.blueprint_id)).values()
    assert standing["status"] == "failed"
    assert standing["counts"] == {"failed": 1, "completed": 3}
    assert pictures.totals(job.pk) == {"failed": 1, "completed": 3}


def test_a_loop_counts_its_instances(tmp_path: Path) -> None:
    job = start(
        workspace(tmp_path, HEAD + '      each: { action: go, for_each: ["a", "b", "c"] }\n')
    )
    Hand().work()
    [standing] = pictures.counted(job.pk, pictures.picture_of(job.blueprint_id)).values()
    assert (standing["status"], standing["counts"], standing["total"]) == (
        "completed",
        {"completed": 3},
        3,
    )


def test_above_300_nodes_there_is_no_picture(tmp_path: Path) -> None:
    names = [f"s{'x' * n}" for n in range(150)] + [f"t{'y' * n}" for n in range(151)]
    job = start(
        workspace(tmp_path, HEAD + "".join(f"      {name}: {{ action: go }}\n" for name in names))
    )
    assert not pictures.picture_of(job.blueprint_id).is_drawn
