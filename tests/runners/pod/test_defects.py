"""Faults of the predecessor that must not return, as far as they concern pods."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from engine.orders import ScriptWork, StepOutcome, Verdict
from runners.pod.manifest import build_plan
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.engine import build_image
from tests.runners.pod.fake_checks import check_object
from tests.runners.pod.orders import CONFIG, build_pod_order
from workers.execution import Pins

needs_engine = pytest.mark.docker
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def finish(runner: PodRunner, tmp_path: Path) -> Any:
    def run(code: str | None = None, **fields: Any) -> tuple[StepOutcome, Log]:
        log = Log()
        return runner.run(build_order(tmp_path, code, **fields), log, Stop()), log

    return run


@needs_engine
def test_the_paths_that_a_step_is_told_are_paths_of_its_pod(finish: Any, pin: Any, tmp_path: Path):
    tree, given = tmp_path / "cache" / "revision", tmp_path / "input.json"
    given.write_text('{"who": "Ada"}')
    env = {"STATE_DIR": f"{tree}/state", "ROOT": str(tree)}
    code = 'cat "$STROEM_INPUT_FILE"; echo; cat "$STATE_DIR/last"; cat "$ROOT/a"; env'
    pinned = pin({"a": "file\n", "state/last": "state\n"})
    outcome, log = finish(code, env=env, workspace_dir=tree, input_path=given, pinned=pinned)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert log.texts()[:3] == ['{"who": "Ada"}', "state", "file"]
    assert str(tmp_path) not in "\n".join(log.texts())


def test_a_pod_fetches_the_revision_that_its_job_has_pinned_and_no_other():
    claim = SimpleNamespace(workspace="ops", attempt_id=7, fence=3, revision_digest="f" * 64)
    pinned = Pins("http://stroem:8080", lambda *what: f"pass-for-{what}").pin(claim)  # type: ignore[arg-type]
    assert pinned.url == f"http://stroem:8080/worker/workspace/ops.tar.gz?revision={'f' * 64}"
    secret = build_plan(build_pod_order(pinned=pinned), CONFIG).secret
    assert secret is not None
    addresses = [value for value in secret["stringData"].values() if "/worker/workspace/" in value]
    assert addresses == [pinned.url]
    assert pinned.token == f"pass-for-{(7, 3, 'f' * 64)}"


def test_pods_of_retries_and_of_look_alike_steps_have_names_and_labels_of_their_own_which_are_legal():
    orders = [
        build_pod_order(step_name=step, task_name="Ünï [x]", attempt=attempt)
        for step, attempt in (("x[1]", "a1"), ("x-1", "a2"), ("x[1]", "a3"), ("X 1", "a4"))
    ]
    pods = [build_plan(order, CONFIG).pod for order in orders]
    for pod, order in zip(pods, orders, strict=True):
        check_object("pods", "stroem-jobs", pod)
        assert pod["metadata"]["annotations"]["stroem.io/step-name"] == order.step_name
    assert len({pod["metadata"]["name"] for pod in pods}) == len(orders)
    assert len({pod["metadata"]["labels"]["stroem.io/attempt"] for pod in pods}) == len(orders)


@needs_engine
def test_what_is_written_at_once_becomes_its_lines_and_what_is_written_in_pieces_one(finish: Any):
    code = "printf 'a\\nOUTPUT: 1\\nb\\nOUT'; sleep 0.5; printf 'PUT: {\"x\": 2}\\nend'"
    outcome, log = finish(code)
    assert outcome.output == {"x": 2}
    assert log.texts() == ["a", "OUTPUT: 1", "b", 'OUTPUT: {"x": 2}', "end"]


@needs_engine
def test_a_script_runs_whatever_entrypoint_its_image_has(
    finish: Any, docker_engine: docker.DockerClient, base_image: str
):
    recipe = f'FROM {base_image}\nENTRYPOINT ["bash", "-c"]\nCMD ["exit 0"]\n'
    build_image(docker_engine, "stroem-test-entrypoint:1", {"Dockerfile": (recipe.encode(), 0o644)})
    for language, code in (
        ("shell", "echo it runs; exit 3"),
        ("python", "print('it runs'); raise SystemExit(3)"),
    ):
        outcome, log = finish(
            work=ScriptWork(code=code, language=language, runner_image="stroem-test-entrypoint:1")
        )
        assert (outcome.exit_code, log.texts()) == (3, ["it runs"])


def test_a_pod_mounts_nothing_of_the_host_that_its_worker_runs_on():
    for mode in ("readonly", "copy"):
        order = build_pod_order(
            ScriptWork(source="a.sh", workspace_mode=mode), scratch_dir=Path("/var/lib/stroem/1")
        )
        pod = build_plan(order, CONFIG).pod
        assert all(set(volume) == {"name", "emptyDir"} for volume in pod["spec"]["volumes"])
        assert "/var/lib/stroem" not in json.dumps(pod)


@needs_engine
def test_workers_that_share_no_folder_with_any_node_run_steps_with_files(
    finish: Any, pin: Any, tmp_path: Path
):
    """The tree that the worker names is not even there: all that a pod needs comes over the
    network."""
    pinned = pin({"count.sh": "ls | wc -l\n"})
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(
                finish, source="count.sh", workspace_dir=None, pinned=pinned, workspace_mode=mode
            )
            for mode in ("readonly", "copy")
        ]
        assert [run.result()[1].texts() for run in runs] == [["1"], ["1"]]
