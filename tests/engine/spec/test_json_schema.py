"""The JSON Schema for editors takes what the parser takes, and refuses what a schema can know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine import VERSION, spec
from engine.spec import json_schema, meanings, reader
from engine.spec.fields import ACTION_FIELDS, STEP_FIELDS, TASK_FIELDS, TOP_FIELDS, TYPES
from tests.engine.spec.builders import SPECS
from tests.engine.spec.test_mistakes import CASES
from tests.specs.test_docs import BLOCKS, rows_below

ROOT = SPECS.parents[1]
SCHEMA = json.loads(json.dumps(json_schema.build()))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
OF_A_SCHEMA = {  # what is known of a value without a look at another
    "unknown-key", "bad-type", "missing-field", "forbidden-field", "action-type", "output-type",
    "out-of-range", "duration", "runner", "language", "setting", "transport", "trigger-type",
    "scheduler-type", "property-type", "action_type",
}  # fmt: skip
NOT_A_WORKFLOW = ("values.yaml", "server-config.yaml", "worker-config.yaml")


def complaints(text: str) -> list[str]:
    root = reader.read("w.yaml", text).root
    assert root is not None
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(root.plain())]


def good() -> Iterator[Any]:
    for path in sorted((SPECS / "valid").glob("*.yaml")):
        yield pytest.param(path.read_text(), id=path.stem)
    for folder in sorted((ROOT / "examples").iterdir()):
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for name in spec.select(files):
            yield pytest.param((folder / name).read_text(), id=f"{folder.name}-{name}")
    for block in BLOCKS:
        if block.file not in NOT_A_WORKFLOW and not (block.file or "").startswith(
            (".git", "deploy")
        ):
            yield pytest.param(block.text, id=str(block))


def is_ours(text: str) -> bool:
    document = reader.read("w.yaml", text)
    return document.root is not None and not document.is_torc


@pytest.mark.parametrize("text", list(good()))
def test_examples_guides_and_good_files_pass(text: str) -> None:
    if is_ours(text):
        assert complaints(text) == []


def mistakes() -> Iterator[Any]:
    """Each mistake of one of these kinds, by itself."""
    for title, text, _ in CASES:
        found = spec.load({"w.yaml": text}, paths={"w.yaml", "scripts/build.sh"}).problems
        if any(one.code in OF_A_SCHEMA and one.severity == "error" for one in found):
            yield pytest.param(text, id=title)


@pytest.mark.parametrize("text", list(mistakes()))
def test_mistakes_that_a_schema_can_know_are_refused(text: str) -> None:
    assert complaints(text)


@pytest.mark.parametrize(
    "path", sorted((SPECS / "broken").glob("*.yaml")), ids=lambda path: path.stem
)
def test_broken_files_are_refused(path: Path) -> None:
    text = path.read_text()
    found = spec.load({"x.yaml": text}, paths={"scripts/build.sh"}).problems
    is_known = any(one.code in OF_A_SCHEMA and one.severity == "error" for one in found)
    if is_known and is_ours(text):
        assert complaints(text)


def keys(part: Mapping[str, Any]) -> set[str]:
    return set(part["properties"])


def test_it_has_the_keys_of_the_parser() -> None:
    step = SCHEMA["definitions"]["step"]
    assert keys(SCHEMA) == set(TOP_FIELDS)
    assert keys(SCHEMA["definitions"]["task"]) == set(TASK_FIELDS)
    assert keys(step["else"]) == {*STEP_FIELDS, "type"}
    for shape, beside in ((SCHEMA["definitions"]["action"], ()), (step["then"], STEP_FIELDS)):
        for action_type, branch in zip(TYPES, shape["allOf"], strict=True):
            wanted = {name for name, row in ACTION_FIELDS.items() if action_type in row.types}
            assert keys(branch["then"]) == (wanted | set(beside)) - (
                {"action"} if beside else set()
            )


def test_its_id_carries_the_version_and_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert VERSION in SCHEMA["$id"]


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Top level", meanings.TOP),
        ("Actions", meanings.ACTION),
        ("Steps", meanings.STEP),
        ("Tasks", meanings.TASK),
        ("Triggers", meanings.TRIGGER),
    ],
)
def test_what_editors_show_is_what_the_reference_says(
    heading: str, words: Mapping[str, str]
) -> None:
    listed = {
        key: re.sub(r"(: )?\[([^\]]*)\]\([^)]*\)", r"\1\2", row[-1]).replace("`", "")
        for row in rows_below(heading, "reference/yaml.md")
        for key in re.findall(r"`([a-z_]+)`", row[0])
    }
    assert words == listed
