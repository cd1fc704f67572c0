"""The examples do what their first lines say: each runs from a folder, with one command and no
network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.workspaces.libraries.attaching import attach_here
from apps.workspaces.reading import load
from apps.workspaces.sources.tree import read_folder
from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs  # noqa: F401  (fixtures)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NEEDS_A_PERSON = {("approvals", "deploy")}
LIMITED = {("limits", "publish-all"), ("limits", "publish")}
NEEDS_AN_ENGINE = {("containers", "check")}  # test_docker.py runs it
CONSUMERS = {("triggers", "watch-folder"), ("triggers", "read-stream")}  # test_sources.py does


@dataclass(frozen=True)
class Example:
    """One run, and what a person would see of it."""

    folder: str
    task: str
    inputs: dict[str, str] = field(default_factory=dict)
    status: str = "completed"
    steps: dict[str, str] = field(default_factory=dict)  # step -> status; all of them
    outputs: dict[str, Any] = field(default_factory=dict)  # step -> output; those worth a look

    def __str__(self) -> str:
        return " ".join(
            (self.folder, self.task, *(f"{name}={value}" for name, value in self.inputs.items()))
        )


def done(*steps: str) -> dict[str, str]:
    return dict.fromkeys(steps, "completed")


RUNS = [
    Example(
        "artifacts",
        "report",
        steps=done("measure", "measure[0]", "measure[1]", "join"),
        outputs={"join": {"lines": 4}},
    ),
    Example(
        "data",
        "load",
        steps=done("extract", "total"),
        outputs={"extract": {"loaded": 2, "new": 2}, "total": {"new": 2, "sum": 42}},
    ),
    Example(
        "libraries",
        "announce",
        {"version": "1.4.2"},
        steps=done("tell", "count"),
        outputs={"count": {"count": {"words": 3}}},
    ),
    Example(
        "hello",
        "hello-world",
        {"name": 'E2E "quoted"'},
        steps=done("say-hello", "shout"),
        outputs={"say-hello": {"greeting": 'Hello E2E "quoted"'}},
    ),
    Example(
        "state",
        "collect",
        {"word": "again"},
        steps=done("add", "tell"),
        outputs={"tell": {"count": 1, "lines": 1}},
    ),
    Example(
        "etl",
        "daily-sales",
        {"currency": "NOK"},
        steps=done("find", "clean", "clean[0]", "clean[1]", "clean[2]", "report"),
        outputs={
            "report": {"total": "2678.40", "currency": "NOK", "rejected": ["1004", "2003", "3004"]}
        },
    ),
    Example(
        "triggers",
        "collect",
        {"since": "monday", "until": "tuesday"},
        steps=done("count"),
        outputs={"count": {"files": 3}},
    ),
    Example("triggers", "import-file", {"name": "sales.csv"}, steps=done("load")),
    Example("triggers", "handle-order", {"number": "7"}, steps=done("handle")),
    Example("triggers", "publish", {"files": "3"}, steps=done("send")),
    Example("triggers", "tell", {"text": "no disk"}, steps=done("write")),
    Example("ci", "build", {"version": "1.4.2"}, steps=done("lint", "test", "package")),
    Example(
        "conditionals",
        "release",
        {"environment": "production"},
        steps=done("diff", "to-production", "announce") | {"to-staging": "skipped"},
    ),
    Example(
        "conditionals",
        "release",
        {"dry_run": "true"},
        steps=done("diff") | dict.fromkeys(("to-staging", "to-production", "announce"), "skipped"),
    ),
    Example(
        "loops",
        "resize-all",
        steps=done(
            "pictures", "resize", "resize[0]", "resize[1]", "resize[2]", "resize[3]", "summary"
        ),
        outputs={
            "resize": [{"thumbnail": f"small-{name}.png"} for name in ("cat", "dog", "owl", "fox")]
        },
    ),
    Example(
        "loops", "migrate-in-order", steps=done("migrate", "migrate[0]", "migrate[1]", "migrate[2]")
    ),
    Example("hooks", "nightly", steps=done("back-up")),
    Example("hooks", "nightly", {"break": "true"}, status="failed", steps={"back-up": "failed"}),
    Example("approvals", "deploy-unattended", steps={"ask": "failed", "deploy": "skipped"}),
    Example("secrets", "call-service", steps=done("call"), outputs={"call": {"length": 21}}),
    Example("child-tasks", "build", {"version": "7"}, steps=done("compile", "check")),
    Example(
        "child-tasks",
        "release",
        steps=done("build", "publish"),
        outputs={"build": {"check": {"passed": True}}},
    ),
    Example("inputs", "order", {"product": "lamp", "quantity": "2"}, steps=done("print")),
    Example(
        "safe-values",
        "greet",
        steps=done("environment", "argument", "file", "quoting"),
        outputs={"file": {"name": 'O\'Brien; echo pwned $(id) "quoted" \\ done'}},
    ),
    Example(
        "continue-on-failure",
        "nightly",
        steps={"refresh-cache": "failed", "report": "completed", "clean-up": "completed"},
    ),
    Example("timeouts", "impatient", steps={"wait": "failed", "go-on": "completed"}),
    Example(
        "workflow-actions",
        "train",
        steps=done("part-1", "part-2", "collect"),
        outputs={"collect": {"parts": "one two "}},
    ),
]


def run_alone(folder: str, task: str, inputs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`manage.py run` as a newcomer types it: no database, no broker and no settings of the tests'
    own."""
    command = [sys.executable, "manage.py", "run", str(EXAMPLES / folder), task, "--json"]
    for name, value in inputs.items():
        command += ["--input", f"{name}={value}"]
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STROEM_", "DJANGO_"))
    }
    return subprocess.run(
        command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=100, check=False
    )


def answer_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.stdout.strip(), finished.stderr
    answer = json.loads(finished.stdout.strip().splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


@pytest.mark.sample(5)
@pytest.mark.parametrize("example", RUNS, ids=str)
@pytest.mark.django_db(transaction=True)
def test_the_example_does_what_it_says(example: Example, runs: Runs) -> None:
    inputs = [f"{name}={value}" for name, value in example.inputs.items()]

    answer, shown = runs.run(EXAMPLES / example.folder, example.task, inputs)

    seen = {name: step["status"] for name, step in answer["steps"].items()}
    assert seen == example.steps, shown
    assert answer["status"] == example.status
    for name, output in example.outputs.items():
        assert answer["steps"][name]["output"] == output


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_the_retry_example_succeeds_at_its_third_try(tmp_path: Path, runs: Runs) -> None:
    answer, _ = runs.run(EXAMPLES / "retry", "fetch-report", [f"marks={tmp_path / 'marks'}"])

    assert answer["status"] == "completed"
    assert answer["steps"]["fetch"]["output"] == {"tries": 3}


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_the_limits_example_publishes_one_page_at_a_time(tmp_path: Path, runs: Runs) -> None:
    answer, _ = runs.run(EXAMPLES / "limits", "publish-all", [f"shelf={tmp_path / 'shelf'}"])

    assert answer["status"] == "completed", answer
    published = [child["upload"]["published"] for child in answer["output"]["pages"]]
    assert published == ["home", "news", "about"]


def test_an_input_that_makes_no_sense_is_refused_with_a_sentence() -> None:
    finished = run_alone("inputs", "order", {"product": "lamp", "quantity": "many"})

    assert finished.returncode == 2
    assert "quantity" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("folder", "task", "inputs", "status"),
    [
        ("etl", "daily-sales", {"currency": "NOK"}, "completed"),
        ("hooks", "nightly", {"break": "true"}, "failed"),
    ],
)
def test_an_example_runs_with_one_command(
    folder: str, task: str, inputs: dict[str, str], status: str
) -> None:
    finished = run_alone(folder, task, inputs)

    assert answer_of(finished)["status"] == status
    assert finished.returncode == (0 if status == "completed" else 1)


@pytest.mark.long
def test_a_trial_of_a_task_fires_no_trigger_and_starts_no_event_source(tmp_path: Path) -> None:
    place, seen = tmp_path / "trial", tmp_path / "seen"
    place.mkdir()
    (place / "flow.yaml").write_text(f"""
tasks:
  main: {{flow: {{wait: {{type: script, script: sleep 4}}}}}}
  other: {{flow: {{a: {{type: script, script: "touch {seen}"}}}}}}
  never: {{flow: {{a: {{type: script, script: "touch {seen}"}}}}}}
triggers:
  often: {{type: scheduler, cron: "* * * * * *", task: other}}
  source: {{type: event_source, task: never, target_task: other}}
""")
    assert answer_of(run_alone(str(place), "main", {}))["status"] == "completed"
    assert not seen.exists()


@pytest.mark.long
def test_the_secret_of_the_example_is_nowhere_in_what_is_printed() -> None:
    finished = run_alone("secrets", "call-service", {})

    assert "not-a-real-token-4711" not in finished.stdout + finished.stderr
    assert answer_of(finished)["status"] == "completed"


def test_every_task_of_every_example_is_run_here() -> None:
    tasks = {
        (file.relative_to(EXAMPLES).parts[0], task)
        for file in (*EXAMPLES.glob("*/*.yaml"), *EXAMPLES.glob("libraries/.workflows/*.yaml"))
        for task in yaml.safe_load(file.read_text(encoding="utf-8")).get("tasks", {})
    }
    covered = {(example.folder, example.task) for example in RUNS} | {
        ("retry", "fetch-report"),
        *LIMITED,
    }
    assert tasks == covered | NEEDS_A_PERSON | NEEDS_AN_ENGINE | CONSUMERS


@pytest.mark.parametrize(
    "folder",
    sorted(path for path in EXAMPLES.iterdir() if path.is_dir()),
    ids=lambda path: path.name,
)
def test_an_example_loads_without_a_word_of_complaint(folder: Path) -> None:
    attached = attach_here(read_folder(folder), folder)
    assert attached.problems == ()
    loaded = load(attached.tree, folder.name)
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.workspace and loaded.workspace.tasks


@pytest.mark.parametrize(
    "file", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda file: file.parent.name
)
def test_an_example_begins_with_words_for_its_reader(file: Path) -> None:
    head = file.read_text(encoding="utf-8").split("\n\n", 1)[0]
    assert all(line.startswith("#") for line in head.splitlines()), f"{file}: begin with a comment"
    assert f"manage.py run examples/{file.parent.name} " in file.read_text(encoding="utf-8")
