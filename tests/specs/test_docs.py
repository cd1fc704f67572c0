"""The pages tell the truth: their YAML loads and runs, their links lead somewhere, their tables are
the code's."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.spec.fields import ACTION_FIELDS, STEP_FIELDS, TASK_FIELDS, TOP_FIELDS, TYPES
from engine.spec.parser import load
from engine.templating.runtime import BUILT_IN_FILTERS
from stroem.program import COMMANDS, parser_of
from stroem_project import config
from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs  # noqa: F401  (fixtures)
from tests.specs.chart import GIVEN, rendered
from workers import config as worker_config

COMMAND_APPS = {"console", "standalone", "stroem_project"}
ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "skills").rglob("*.md")),
]
FENCE = re.compile(r"^```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"# file: (?P<name>\S+)\n")
RUN = re.compile(r"^# run: (?P<call>.+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """One YAML block of a page."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}#{self.number}"

    @property
    def file(self) -> str | None:
        head = HEAD.match(self.text)
        return head["name"] if head else None

    @property
    def calls(self) -> list[list[str]]:
        return [found["call"].split() for found in RUN.finditer(self.text)]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, number, found["text"]) for number, found in enumerate(FENCE.finditer(text), 1)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CALLS = [(block, call) for block in BLOCKS for call in block.calls]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_yaml_block_loads_without_a_word_of_complaint(block: Block, tmp_path: Path) -> None:
    assert block.file, f"{block}: begin the block with `# file: NAME`, so that it can be checked"
    file = tmp_path / block.file
    file.write_text(block.text, encoding="utf-8")
    match block.file:
        case "values.yaml":
            rendered(*GIVEN, "--values", str(file))
        case "server-config.yaml":
            config.load({"STROEM_CONFIG": str(file)})
        case "worker-config.yaml":
            worker_config.load(file, {}, data_dir=tmp_path)
        case "deploy.yml" | ".gitlab-ci.yml":
            assert commands_in(yaml.safe_load(block.text)) == ["run"]
        case name:
            assert [
                str(problem) for problem in load({name: block.text}, name="docs").problems
            ] == []


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("block", "call"), CALLS, ids=[f"{block} {call[0]}" for block, call in CALLS]
)
@pytest.mark.django_db(transaction=True)
def test_a_flow_of_the_guides_runs(
    block: Block, call: list[str], tmp_path: Path, runs: Runs
) -> None:
    assert block.file
    (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    task, *inputs = call

    answer, shown = runs.run(tmp_path, task, inputs)

    assert answer["status"] == "completed", shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target = found["target"]
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def commands_in(pipeline: Any) -> list[str]:
    """The commands of the client that a pipeline calls, each with options that it has."""
    match pipeline:
        case dict():
            return [name for value in pipeline.values() for name in commands_in(value)]
        case list():
            return [name for value in pipeline for name in commands_in(value)]
        case str() if pipeline.startswith("stroem "):
            _, name, *words = shlex.split(pipeline)
            parser_of(name, import_module(COMMANDS[name][0]).Command()).parse_args(words)
            return [name]
    return []


def rows_below(heading: str, page: str) -> list[list[str]]:
    """The cells of the table under a heading, as text; the head of the table left out."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def keys_of(rows: list[list[str]]) -> list[str]:
    return [key for row in rows for key in re.findall(r"`([a-z_]+)`", row[0])]


def test_the_reference_lists_the_keys_of_an_action_and_their_types() -> None:
    listed = {keys_of([row])[0]: row[1] for row in rows_below("Actions", "reference/yaml.md")}
    assert listed == {
        name: "all" if len(row.types) == len(TYPES) else row.valid_types.replace("/", ", ")
        for name, row in ACTION_FIELDS.items()
    }


@pytest.mark.parametrize(
    ("heading", "fields"),
    [("Top level", TOP_FIELDS), ("Steps", STEP_FIELDS), ("Tasks", TASK_FIELDS)],
)
def test_the_reference_lists_the_keys_that_there_are(heading: str, fields: tuple[str, ...]) -> None:
    listed = keys_of(rows_below(heading, "reference/yaml.md"))
    assert sorted(listed) == sorted(fields)


def test_the_reference_lists_the_filters_that_there_are() -> None:
    text = (
        (ROOT / "docs/reference/yaml.md").read_text(encoding="utf-8").split("\n## Filters\n", 1)[1]
    )
    listed = re.findall(r"`([a-z_]+)`", text.split("\n\n")[1])
    assert sorted(listed) == sorted(BUILT_IN_FILTERS)


def test_the_configuration_page_lists_the_worker_settings_that_there_are() -> None:
    listed = keys_of(rows_below("Worker", "reference/configuration.md"))
    names = set(worker_config.WorkerConfig.__dataclass_fields__) | {"capabilities"}
    assert sorted(listed) == sorted(names)


def test_the_commands_page_names_commands_that_exist() -> None:
    from django.core.management import get_commands

    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    table = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    named = {command for cell in table for command in re.findall(r"`([a-z_]+)", cell)}
    ours = {name for name, app in get_commands().items() if app in COMMAND_APPS}
    assert named <= set(get_commands())
    assert ours <= named
