"""Faults that were met in other systems: inputs of each kind, with the right outcome.

`kinds.yaml` holds them. Slurm, links, and what the API refuses have tests beside their code.
"""

from __future__ import annotations

import codecs
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from console.workspace_path import read_path
from engine.spec.reporting import report
from tests.apps.jobs.builders import until
from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = Path(__file__).with_name("kinds.yaml")
OF_THE_TASK = ("input", "timeout", "retry", "max_concurrent_jobs", "on_success", "flow")
OF_THE_WORKSPACE = ("actions", "tasks", "secrets")


@dataclass(frozen=True)
class Row:
    name: str
    task: str
    workspace: str
    expected: dict[str, Any]


def rows() -> Iterator[Row]:
    """The parts of a workspace stay text, as they were typed: `3.10` is not 3.1."""
    text = re.sub(r"^#.*\n", "", KINDS.read_text(encoding="utf-8"), flags=re.M)
    for row in re.split(r"^- ", text, flags=re.M)[1:]:
        parts = re.split(r"^(?=  \w+:)", "  " + row, flags=re.M)[1:]
        texts = {part.split(":")[0].strip(): part for part in parts}
        own = "".join(texts.pop(key, "") for key in OF_THE_TASK)
        around = "".join(texts.pop(key, "") for key in OF_THE_WORKSPACE)
        expected = yaml.safe_load("".join(texts.values()))
        yield Row(
            expected.pop("name"), textwrap.indent(own, "  "), textwrap.dedent(around), expected
        )


def written(row: Row, folder: Path) -> Path:
    """The workspace of a row: its task `t`, and what else it needs."""
    place = folder / "w"
    place.mkdir()
    (place / "flow.yaml").write_text("tasks:\n  t:\n" + row.task, encoding="utf-8")
    (place / "rest.yaml").write_text(row.workspace, encoding="utf-8")
    for name, content in row.expected.get("files", {}).items():
        (place / name).write_text(content, encoding="utf-8")
    for name, content in row.expected.get("bytes", {}).items():
        (place / name).write_bytes(codecs.escape_decode(content.encode())[0])
    return place


def is_there(mark: str) -> bool:
    return any(
        mark in process.info["name"] or mark in (process.info["cmdline"] or [])
        for process in psutil.process_iter(["name", "cmdline"])
    )


@pytest.mark.sample(7)
@pytest.mark.parametrize("row", [*rows()], ids=lambda row: row.name)
def test_it_ends_as_it_should(runs: Runs, tmp_path: Path, row: Row) -> None:
    expected, place = row.expected, written(row, tmp_path)
    said = report(read_path(str(place))[1])
    assert expected.get("said", "") in said
    if "refused" in expected:
        assert "error: " in said and expected["refused"] in said
        return
    inputs = [text.replace("@TMP@", str(tmp_path)) for text in expected.get("inputs", ())]
    answer, shown = runs.run(place, "t", inputs)
    steps = answer["steps"]
    assert answer["status"] == expected.get("status", "completed"), steps
    for name, output in expected.get("output", {}).items():
        assert steps[name]["output"] == output, (name, shown)
    for name, words in expected.get("error", {}).items():
        assert words in steps[name]["error"]
    assert all(words in shown for words in expected.get("log", ()))
    everything = shown + json.dumps(answer)
    assert not any(secret in everything for secret in expected.get("hidden", ()))
    if "gone" in expected:
        until(lambda: not is_there(expected["gone"]), within_s=10)
