"""Files of pods that really run: fetched before the script starts, sent once it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import Pinned, Shelves, Verdict
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.pod.orders import CONFIG, build_pod_order
from tests.runners.pod.shop import Shop

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


@pytest.fixture
def shop(docker_engine: docker.DockerClient) -> Iterator[Shop]:
    found = Shop(docker_engine)
    yield found
    found.close()


@pytest.fixture
def finish(runner: PodRunner, shop: Shop, tmp_path: Path) -> Callable[..., tuple[Any, Log]]:
    def run(code: str, **shelves: Any) -> tuple[Any, Log]:
        pinned = Pinned(f"{shop.url}/workspace", "pass")
        order = build_order(
            tmp_path, code, workspace_dir=None, pinned=pinned, shelves=shop.shelves(**shelves)
        )
        log = Log()
        return runner.run(order, log, Stop()), log

    return run


def test_a_script_takes_files_and_leaves_some(finish: Any, shop: Shop) -> None:
    code = "mkdir $ARTIFACTS_DIR/d; umask 077; cp $ARTIFACTS_IN/build/a.txt $ARTIFACTS_DIR/d/b.txt"
    outcome, log = finish(code, takes=True)
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert shop.got == {"./d/b.txt": b"given"} and shop.numbers == ["1"]
    assert any("Stored it" in text for text in log.texts())


def test_a_step_that_leaves_nothing_sends_nothing(finish: Any, shop: Shop) -> None:
    outcome, _ = finish("true")
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert shop.numbers == []


@pytest.mark.parametrize("on_failure", [True, False])
def test_a_failed_step_sends_files_if_that_is_wanted(
    finish: Any, shop: Shop, on_failure: bool
) -> None:
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x; exit 3", on_failure=on_failure)
    assert outcome.exit_code == 3
    assert shop.got == ({"./x": b"x\n"} if on_failure else {})


def test_a_refusal_fails_the_step_and_an_outage_is_waited_for(finish: Any, shop: Shop) -> None:
    shop.answers = [(503, "away\n"), (200, "Stored it\n")]
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.SUCCEEDED and shop.got == {"./x": b"x\n"}
    shop.answers = [(422, "'x' is too large\n")]
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error == "The artifacts could not be stored: 'x' is too large"


def test_the_container_that_sends_is_the_platforms() -> None:
    from engine.errors import AuthorError
    from runners.pod.manifest import build_plan

    parcel = Pinned("http://s/worker/artifacts", "pass")
    wish = {"spec": {"containers": [{"name": "stroem-artifacts", "image": "evil"}]}}
    order = build_pod_order(shelves=Shelves(Path("/nowhere"), parcel=parcel), manifest=wish)
    with pytest.raises(AuthorError, match=r"spec.containers\[stroem-artifacts\] belongs to the"):
        build_plan(order, CONFIG)
