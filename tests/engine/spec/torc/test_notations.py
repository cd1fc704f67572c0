"""YAML, JSON, JSON5 and KDL: four ways to say the same."""

from __future__ import annotations

import json

import pytest

from engine import spec
from engine.spec import freeze
from engine.spec.torc import document as documents
from tests.engine.spec.builders import with_secrets_of
from tests.engine.spec.torc.builders import NOTATIONS, SAME, read


def said(notation: str) -> dict[str, object]:
    """What a notation's file says, without the places where it says it."""
    loaded = spec.load({f"sweep.{notation}": (SAME / f"sweep.{notation}").read_bytes()})
    assert loaded.workspace is not None, spec.report(loaded)

    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key not in ("place", "file")}
        return [bare(item) for item in value] if isinstance(value, list) else value

    found = bare(freeze.to_json(loaded.workspace))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("notation", NOTATIONS[1:])
def test_the_same_specification_is_the_same_task_in_every_notation(notation):
    assert said(notation) == said("yaml")


def test_everything_that_a_specification_says_is_in_the_task():
    found = read((SAME / "sweep.yaml").read_text())
    trains = ["train_0.0010_adam", "train_0.0010_sgd", "train_0.0100_adam", "train_0.0100_sgd"]
    shards = ["shard_001_x", "shard_002_y", "shard_003_z"]
    assert found.names == ["fetch", *trains, *shards, "rank"]
    assert found.task.description == "Everything that a specification can say"
    assert found.needs("train_0.0010_adam") == {"fetch"}, "through the file that it reads"
    assert found.needs("rank") == {*trains, *shards}, (
        "by pattern, through files and through user data"
    )
    assert found.script("shard_002_y") == "echo 002 y 2"
    assert (
        "bash env.sh train --lr 0.01 --opt sgd data/raw.csv --out models/sgd_0.0100.bin"
        in found.script(trains[3])
    )
    assert '"epochs":3' in found.script("rank")
    large = {
        "num_cpus": 8,
        "memory": str(32 * 1024**3),
        "runtime": "P0DT4H",
        "num_gpus": 1,
        "num_nodes": 2,
    }
    assert found.action(trains[0]).resources == large
    assert found.step(trains[0]).scheduler == "gpu" and found.step("rank").join == "all"
    assert found.step(trains[0]).join == "any", "of one dependency, any is all"
    assert found.step("shard_001_x").join == "done", "it runs whatever became of what it waits for"
    rules = found.step("fetch").retry.rules
    assert [(rule.exit_codes, rule.match_all, rule.max_attempts) for rule in rules] == [
        ((10, 11), False, 3),
        ((), True, 2),
    ]
    scheduler = found.task.slurm_schedulers["gpu"]
    assert (scheduler["account"], scheduler["nodes"], scheduler["walltime"]) == (
        "lab",
        2,
        "04:00:00",
    )
    assert scheduler["defaults"] == {"mail-type": "FAIL", "exclusive": True}
    first, nodes, done, comes, leaves = found.task.workflow_actions
    assert (
        first.rerun == "always"
        and first.match == "search"
        and first.do[0]["commands"][0] == "mkdir -p logs"
    )
    assert nodes.do[0]["num_allocations"] == 2 and nodes.do[0]["max_parallel_jobs"] == 4
    assert done.jobs == ("fetch", "rank") and done.job_name_regexes == ("shard_00.*",)
    assert comes.persistent and not leaves.persistent


@pytest.mark.parametrize("notation", NOTATIONS)
def test_without_a_suffix_the_text_tells_its_notation(notation):
    content = (SAME / f"sweep.{notation}").read_bytes()
    document = documents.read("specification", content)
    assert document.is_torc


@pytest.mark.parametrize("notation", NOTATIONS[1:])
def test_a_folder_holds_specifications_and_other_files(notation):
    contents = {f"deep/sweep.{notation}": (SAME / f"sweep.{notation}").read_bytes()}
    others = {
        "package.json": b'{"name": "x", "jobs": 1}',
        "notes.kdl": b'note "job"',
        "data.json": b"[1, 2]",
    }
    assert spec.select_specifications({**contents, **others}) == [f"deep/sweep.{notation}"]


def test_two_specifications_of_one_name_are_one_too_many():
    text = (SAME / "sweep.yaml").read_text()
    loaded = spec.load({"a.yaml": text, "b.yaml": text})
    (problem,) = loaded.errors
    assert (
        str(problem.place).startswith("b.yaml:2:")
        and "defined twice" in problem.message
        and "a.yaml:2" in str(problem)
    )


def test_a_specification_stands_beside_our_own_files():
    ours = "tasks: {mine: {flow: {a: {type: task, task: sweep}}}}"
    loaded = spec.load({"sweep.kdl": (SAME / "sweep.kdl").read_bytes(), "ours.yaml": ours})
    assert loaded.workspace is not None, spec.report(loaded)
    assert set(loaded.workspace.tasks) == {"mine", "sweep"}


def test_a_frozen_task_is_the_task():
    loaded = spec.load({"sweep.json5": (SAME / "sweep.json5").read_bytes()})
    assert loaded.workspace is not None
    stored = json.loads(json.dumps(freeze.to_json(loaded.workspace), allow_nan=False))
    assert with_secrets_of(loaded.workspace, freeze.workspace_from_json(stored)) == loaded.workspace
