"""What steps leave behind, with a real worker: files travel from step to step and stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from apps.artifacts import blobs
from apps.artifacts.files import shelf
from apps.artifacts.models import Artifact, Blob
from apps.jobs.models import Step
from tests.apps.jobs.builders import until
from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs

__all__ = ["_django_db_helper", "shared_db", "shared_runs"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def small_limits() -> Iterator[None]:
    """In the environment of the processes that the house starts."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"FILE_MB": "2", "JOB_MB": "4", "FILES": "6"}.items():
            patch.setenv(f"STROEM__ARTIFACTS__{key}", value)
        yield


def write(folder: Path, text: str, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in {"workflow.yaml": text, **files}.items():
        (folder / name).write_text(content)
    return folder


def left(job_id: str) -> dict[str, bytes]:
    found = {}
    for one in shelf.of_job(UUID(job_id)):
        with blobs.open_blob(one.blob) as stream:
            found[f"{one.step_name}:{one.name}"] = stream.read()
    return found


def errors(job_id: str) -> str:
    return "\n".join(Step.objects.filter(job_id=job_id).values_list("error", flat=True))


def go(runs: Runs, folder: Path, *inputs: str, status: str = "completed") -> tuple[str, str]:
    answer, shown = runs.run(folder, "t", inputs)
    assert answer["status"] == status, (answer, shown)
    return str(answer["job_id"]), shown


def test_files_are_stored_and_handed_on(runs: Runs, tmp_path: Path) -> None:
    text = """
    tasks:
      t:
        flow:
          build:
            type: script
            script: |
              mkdir -p "$ARTIFACTS_DIR/sub" target
              printf hello > "$ARTIFACTS_DIR/a.txt"
              printf '{"a": 1}' > "$ARTIFACTS_DIR/sub/b.json"
              printf jar > target/app.jar; printf no > target/app.log
              chmod +x target/app.jar
            artifacts: {paths: ["target/*.jar"]}
          use:
            type: script
            depends_on: [build]
            artifacts: {from: [build]}
            script: |
              set -e
              cd "$ARTIFACTS_IN/build"
              [ "$(find . -type f -perm -111)" = ./target/app.jar ]
              echo "OUTPUT: {\\"found\\": \\"$(find . -type f | sort | tr '\\n' ' ')$(cat a.txt)\\"}"
    """
    job, shown = go(runs, write(tmp_path / "ws", text))
    assert left(job) == {
        "build:a.txt": b"hello",
        "build:sub/b.json": b'{"a": 1}',
        "build:target/app.jar": b"jar",
    }
    assert "Stored 3 artifacts (16 bytes)" in shown
    assert Step.objects.get(job_id=job, name="use").output == {
        "found": "./a.txt ./sub/b.json ./target/app.jar hello"
    }
    types = {one.name: one.content_type for one in shelf.of_job(UUID(job))}
    assert types["a.txt"] == "text/plain" and types["sub/b.json"] == "application/json"


def test_each_instance_of_a_loop_has_a_directory(runs: Runs, tmp_path: Path) -> None:
    text = """
    tasks:
      t:
        flow:
          part:
            for_each: [x, y]
            type: script
            script: 'printf "{{ each.item | sh }}" > "$ARTIFACTS_DIR/p.txt"'
          join:
            depends_on: [part]
            type: script
            artifacts: {from: [part]}
            script: 'cat "$ARTIFACTS_IN"/part/0/p.txt "$ARTIFACTS_IN"/part/1/p.txt > "$ARTIFACTS_DIR/all"'
    """
    job, _ = go(runs, write(tmp_path / "ws", text))
    assert left(job)["join:all"] == b"xy"


def test_a_failed_step_leaves_files_only_if_that_is_wanted(runs: Runs, tmp_path: Path) -> None:
    text = """
    tasks:
      t:
        flow:
          quiet: {type: script, script: 'touch $ARTIFACTS_DIR/q; exit 3'}
          loud: {type: script, script: 'touch $ARTIFACTS_DIR/l; exit 3', artifacts: {on_failure: true}}
    """
    job, _ = go(runs, write(tmp_path / "ws", text), status="failed")
    assert left(job) == {"loud:l": b""}


def test_the_last_attempt_counts(runs: Runs, tmp_path: Path) -> None:
    text = """
    tasks:
      t:
        flow:
          again:
            type: script
            retry: {max_attempts: 2, delay: 1s}
            artifacts: {on_failure: true}
            script: 'touch "$ARTIFACTS_DIR/of-$STROEM_ATTEMPT_NUMBER"; test "$STROEM_ATTEMPT_NUMBER" = 2'
    """
    job, _ = go(runs, write(tmp_path / "ws", text))
    assert left(job) == {"again:of-2": b""}
    assert Artifact.objects.filter(job_id=job).count() == 2


def test_links_and_pipes_lead_nowhere(runs: Runs, tmp_path: Path) -> None:
    text = """
    tasks:
      t:
        flow:
          sly:
            type: script
            artifacts: {paths: ["away/*", "up/**"]}
            script: |
              ln -s /etc/passwd "$ARTIFACTS_DIR/passwd"
              ln -s /etc "$ARTIFACTS_DIR/etc"
              mkfifo "$ARTIFACTS_DIR/pipe"
              ln -s /etc away; mkdir up; ln -s /etc/passwd up/p
              printf good > "$ARTIFACTS_DIR/good"
    """
    job, shown = go(runs, write(tmp_path / "ws", text))
    assert left(job) == {"sly:good": b"good"}
    for name in ("passwd", "etc", "pipe"):
        assert f"Warning: the artifact '{name}' is no regular file, and is left out" in shown
    assert "no file matches `away/*` of `artifacts.paths`" in shown


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("touch \"$ARTIFACTS_DIR/$(printf 'a\\nb')\"", "must not contain control characters"),
        ('touch "$ARTIFACTS_DIR/-rf"', "must not begin with '-'"),
        ('touch x "$ARTIFACTS_DIR/x"', "is both in ARTIFACTS_DIR and named by `paths`"),
        ('truncate -s 3M "$ARTIFACTS_DIR/big"', "a file may have 2 MiB (`artifacts.file_mb`)"),
        ('for n in 1 2 3; do head -c 1500K /dev/urandom > "$ARTIFACTS_DIR/$n"; done',
         "a job may leave 4 MiB (`artifacts.job_mb`)"),
        ('for n in 1 2 3 4 5 6 7; do touch "$ARTIFACTS_DIR/$n"; done',
         "a job may leave 6 files (`artifacts.files`)"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_fails_the_step(
    runs: Runs, tmp_path: Path, script: str, told: str
) -> None:
    text = "tasks: {t: {flow: {s: {type: script, source: go.sh, artifacts: {paths: ['x']}}}}}"
    job, _ = go(runs, write(tmp_path / "ws", text, **{"go.sh": script}), status="failed")
    assert told in errors(job) and "The artifacts could not be stored" in errors(job)
    assert left(job) == {}


def test_equal_files_are_stored_once(runs: Runs, tmp_path: Path) -> None:
    token = os.urandom(8).hex()
    text = f"""
    tasks:
      t:
        flow:
          one: {{type: script, script: 'echo {token} > $ARTIFACTS_DIR/a'}}
          two: {{type: script, script: 'echo {token} > $ARTIFACTS_DIR/b'}}
    """
    job, _ = go(runs, write(tmp_path / "ws", text))
    digests = {one.blob.digest for one in shelf.of_job(UUID(job))}
    assert len(digests) == 1 and Blob.objects.filter(digest__in=digests).count() == 1


def test_templates_and_hooks_know_their_addresses(runs: Runs, tmp_path: Path) -> None:
    text = """
    actions:
      tell:
        type: script
        input: {files: {type: text}}
        script: 'echo "OUTPUT: {\\"files\\": $STROEM_INPUT_FILES}"'
    tasks:
      t:
        on_success: [{action: tell, input: {files: "{{ hook.artifacts | json_encode }}"}}]
        flow:
          build: {type: script, script: 'echo x > "$ARTIFACTS_DIR/re port.txt"'}
          use:
            type: script
            depends_on: [build]
            input:
              url: "{{ build.artifacts['re port.txt'].url }}"
              size: "{{ build.artifacts['re port.txt'].size_bytes }}"
            script: 'echo "OUTPUT: {\\"is\\": \\"$STROEM_INPUT_URL $STROEM_INPUT_SIZE\\"}"'
          miss:
            type: script
            depends_on: [build]
            continue_on_failure: true
            input: {url: "{{ build.artifacts['gone.txt'].url }}"}
            script: "true"
    """
    job, _ = go(runs, write(tmp_path / "ws", text))
    url = f"/api/jobs/{job}/artifacts/re%20port.txt"
    said = Step.objects.get(job_id=job, name="use").output["is"]
    assert said.startswith("http") and said.endswith(f"{url}?step=build 2")
    assert "gone.txt" in Step.objects.get(job_id=job, name="miss").error
    hook = until(
        lambda: Step.objects.filter(
            job__source_type="hook", job__source_id=job, status="completed"
        ).first()
    )
    (told,) = hook.output["files"]
    assert (told["name"], told["step_name"], told["size_bytes"]) == ("re port.txt", "build", 2)
    assert told["url"].endswith(url) and told["created_at"]
