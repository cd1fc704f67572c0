"""`artifacts` of a step: what is read, and what is refused where it stands."""

from __future__ import annotations

import pytest

from engine.spec.freeze import task_from_json, to_json
from tests.engine.spec.builders import load

FLOW = """
tasks:
  t:
    flow:
      build: {{type: script, script: x}}
      ask: {{type: approval, message: Go?, depends_on: [build]}}
      s: {{depends_on: [ask], {step}}}
"""


def problems(step: str) -> list[str]:
    return [str(problem) for problem in load(FLOW.format(step=step)).problems]


def test_all_keys_are_read_and_survive_freezing() -> None:
    step = "type: script, script: x, artifacts: {paths: ['a/*'], retain: 30d, on_failure: true, from: [build]}"
    found = load(FLOW.format(step=step))
    assert found.problems == ()
    task = found.workspace.tasks["t"]  # type: ignore[union-attr]
    kept = task.flow["s"].artifacts
    assert kept is not None and kept.retain is not None
    assert (kept.paths, kept.retain.seconds) == (("a/*",), 30 * 86400)
    assert (kept.on_failure, kept.takes) == (True, ("build",))
    assert task_from_json(to_json(task)) == task


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("type: script, script: x, artifacts: {path: [a]}", "unknown key 'path' (did you mean 'paths'?)"),
        ("type: script, script: x, artifacts: {paths: ['../a']}", "leads out of the working directory"),
        ("type: script, script: x, artifacts: {retain: soon}", "is not a duration"),
        ("type: script, script: x, artifacts: {retain: 8000d}", "at most 10 years"),
        ("type: script, script: x, artifacts: {from: [bild]}", "non-existent step 'bild' (did you mean 'build'?)"),
        ("type: script, script: x, artifacts: {from: [s]}", "step 's', which does not run before it"),
        ("type: script, script: x, artifacts: {from: [ask]}", "type 'approval': steps of this type leave none"),
        ("type: task, task: other, artifacts: {}", "steps of this type never reach a worker"),
        ("type: docker, image: i, artifacts: {paths: [a]}", "an image leaves its files in $ARTIFACTS_DIR"),
        ("type: pod, image: i, artifacts: {paths: [a]}", "an image leaves its files in $ARTIFACTS_DIR"),
        ("type: script, runner: pod, script: x, artifacts: {paths: [a]}", "do not work in a pod"),
        ("type: script, runner: docker, script: x, artifacts: {paths: [a]}", "need 'workspace: copy'"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_refused_at_its_place(step: str, told: str) -> None:
    found = [text for text in problems(step) if told in text]
    assert found and ":7:" in found[0], problems(step)


def test_an_image_in_a_pod_leaves_and_takes_files() -> None:
    step = "type: pod, image: i, cmd: 'touch $ARTIFACTS_DIR/a', artifacts: {from: [build]}"
    assert problems(step) == []


def test_the_variable_needs_no_key() -> None:
    assert problems("type: script, script: 'touch $ARTIFACTS_DIR/a'") == []
