"""`stroem-step` in pods that really run: the container beside the script asks the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import HELPER, HelperFolder, Pinned, Verdict
from runners.pod import parcels
from runners.pod.runner import PodRunner
from tests.apps.jobs.builders import until
from tests.runners.contract import Log, Run, Stop, build_order
from tests.runners.pod.fake_api import FakeCluster
from tests.runners.pod.shop import Shop
from workers.pipes import PROGRAM

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


@pytest.fixture
def shop(docker_engine: docker.DockerClient) -> Iterator[Shop]:
    found = Shop(docker_engine)
    yield found
    found.close()


@pytest.fixture
def order(shop: Shop, tmp_path: Path) -> Callable[[str], Any]:
    folder = tmp_path / "helper"
    folder.mkdir()
    (folder / HELPER).write_bytes(PROGRAM.read_bytes())

    def build(code: str) -> Any:
        return build_order(
            tmp_path,
            code,
            workspace_dir=None,
            pinned=Pinned(f"{shop.url}/workspace", "pass"),
            shelves=shop.shelves(),
            helper=HelperFolder(folder, is_needed=True),
        )

    return build


def test_a_script_asks_and_gets_answers(runner: PodRunner, shop: Shop, order: Any) -> None:
    shop.replies = [
        (503, b"away"), (200, b"0 2\n7\n"), (200, b"3 9\nno such\n\n"), (200, b"0 4\n\0\1\2\3"),
    ]  # fmt: skip
    code = """
    stroem-step state get cursor
    stroem-step state get gone; echo "code $?"
    stroem-step artifact get build a.bin "$PWD/x" 2>/dev/null || stroem-step help >/dev/null
    cd /tmp; stroem-step state set key 'two words
    and a line'
    echo kept > report; stroem-step artifact put report
    """
    log = Log()
    outcome = runner.run(order(code), log, Stop())
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert log.texts("stdout")[:1] == ["7"] and "code 3" in log.texts()
    assert shop.asked[:2] == [["state get", "cursor"]] * 2  # the first time, nobody answered
    assert shop.asked[-1] == ["state set", "key", "two words\n    and a line"]
    assert shop.got == {"./report": b"kept\n"}


def test_many_ask_at_once(runner: PodRunner, shop: Shop, order: Any) -> None:
    code = (
        'for i in 1 2 3 4 5 6 7 8 9; do stroem-step state set k$i $i & p="${p:-} $!"; done;'
        " for one in $p; do wait $one || exit 9; done"
    )
    log = Log()
    outcome = runner.run(order(code), log, Stop())
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert sorted(words[1] for words in shop.asked) == [f"k{number}" for number in range(1, 10)]


def test_turns_that_are_lost_or_stand_still_come_back(
    runner: PodRunner, shop: Shop, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "_SERVE", parcels._SERVE.replace("sleep 15", "sleep 1"))
    code = """
    cd /.stroem-step
    take() { dd bs=8 count=1 <free 2>/dev/null; }
    stroem-step state set k before
    for i in 1 2 3; do take >/dev/null; done  # as one that is killed
    { printf '2\\0state'; sleep 300; } >"$(take).in" &
    stroem-step state set k lost
    head -c 50000 /dev/zero | tr '\\0' 9 >free
    stroem-step state set k garbage
    for i in 1 2 3 4 5 6 7 8; do stroem-step state set k $i & p="${p:-} $!"; done
    for one in $p; do wait $one || exit 9; done
    head -c 3000000 /dev/zero | tr '\\0' x | stroem-step state set big -
    echo "code $?"
    """
    log = Log()
    outcome = runner.run(order(code), log, Stop())
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    said = [words[-1] for words in shop.asked if words[1] == "k"]
    assert said[:3] == ["before", "lost", "garbage"]
    assert sorted(said[3:]) == [str(number) for number in range(1, 9)]
    assert log.texts()[-2:] == ["too much", "code 65"]


def test_a_refusal_of_the_server_is_told(runner: PodRunner, shop: Shop, order: Any) -> None:
    shop.replies = [(410, b"")]
    log = Log()
    outcome = runner.run(order("stroem-step state version; exit $?"), log, Stop())
    assert outcome.exit_code == 69
    assert any("the server does not answer (410)" in text for text in log.texts())


def test_a_step_does_not_wait_for_a_container_that_was_killed(
    runner: PodRunner, order: Any, cluster: FakeCluster, docker_engine: docker.DockerClient
) -> None:
    import threading
    from concurrent.futures import Future

    log, stop, future = Log(), Stop(), Future[Any]()
    run = Run(order("echo ready; sleep 300"), log, stop, future)
    threading.Thread(
        target=lambda: future.set_result(runner.run(run.order, log, stop)), daemon=True
    ).start()
    log.wait_for("ready")
    name = {"name": f"{run.order.attempt}-step-stroem"}
    until(lambda: docker_engine.containers.list(filters=name))[0].kill()
    outcome = run.outcome()
    assert outcome.verdict is Verdict.FAILED
    assert "the container that answers `stroem-step` has died" in outcome.error
