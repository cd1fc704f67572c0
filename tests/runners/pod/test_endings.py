"""What went missing never ends in success: logs across restarts of the API server and rotations by
the node, and outputs that do not depend on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.orders import ImageWork, Verdict
from runners.pod.runner import PodRunner
from runners.pod.told import Told, read_stamp
from tests.runners.contract import Log, Run, Stop, build_order
from tests.runners.pod.fake_api import FakeCluster
from tests.standalone.processes import eventually

needs_engine = pytest.mark.docker
pytestmark = pytest.mark.timeout(180)
FLOOD = "echo ready; until [ -e /tmp/go ]; do sleep 0.05; done; seq 1 20000"


@pytest.fixture
def begin(runner: PodRunner, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    with ThreadPoolExecutor(32) as pool:
        runs: list[Run] = []

        def start(code: str | None = None, runner: PodRunner = runner, **fields: Any) -> Run:
            order, log, stop = build_order(tmp_path, code, **fields), Log(), Stop()
            run = Run(order, log, stop, pool.submit(runner.run, order, log, stop))
            runs.append(run)
            return run

        yield start
        for run in runs:
            if not run.future.done():
                run.stop.set()


def has_ended(pod: dict[str, Any]) -> bool:
    entries = pod["status"].get("containerStatuses", [])
    return any(entry["name"] == "step" and "terminated" in entry["state"] for entry in entries)


@contextmanager
def away(cluster: FakeCluster) -> Iterator[None]:
    """The API server is away meanwhile."""
    with cluster.changed:
        cluster.is_away = True
        cluster.generation += 1
        cluster.changed.notify_all()
    try:
        yield
    finally:
        cluster.is_away = False


def run_through_rotation(cluster: FakeCluster, run: Run) -> Any:
    """The node rotates while nobody can read."""
    cluster.log_file_bytes = 100_000
    run.log.wait_for("ready")
    with away(cluster):
        for name in cluster.pods:
            cluster.kubelets[name].containers["step"].exec_run(["touch", "/tmp/go"])
        cluster.wait_for(lambda: all(map(has_ended, cluster.pods.values())), 60)
    return run.outcome()


def wait_for_news(cluster: FakeCluster, runs: list[Run]) -> None:
    """The server knows its accounts again, and each run tells something more or has ended."""
    eventually(lambda: not any(fault.times for fault in cluster.faults), within_s=60)
    known = [len(run.log.lines) for run in runs]
    eventually(
        lambda: all(
            run.future.done() or len(run.log.lines) > count
            for run, count in zip(runs, known, strict=True)
        ),
        within_s=60,
    )


def server_lines(run: Run) -> str:
    return "\n".join(line.text for line in run.log.lines if line.stream == "server")


@needs_engine
def test_restarts_of_the_server_lose_no_line_and_double_none(
    begin: Callable[..., Run], cluster: FakeCluster
):
    run = begin(
        "for i in $(seq 1 60); do seq $((i*50-49)) $((i*50)); sleep 0.4; done; echo OUTPUT: 7"
    )
    run.log.wait_for("50")
    for _ in range(3):
        cluster.restart()
        wait_for_news(cluster, [run])
    outcome = run.outcome()
    assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, 7)
    assert run.log.texts() == [*map(str, range(1, 3001)), "OUTPUT: 7"]


@needs_engine
def test_lines_that_the_node_threw_away_are_counted_and_an_output_among_them_is_known(
    begin: Callable[..., Run], cluster: FakeCluster
):
    run = begin(f"{FLOOD}; echo 'OUTPUT: 7'; seq 1 20000")
    outcome = run_through_rotation(cluster, run)
    assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, 7)
    missing = 40_002 - len(run.log.texts())
    assert missing > 0
    assert (
        f"{missing} of 40002 lines of this step are missing: its node had thrown"
        in server_lines(run)
    )


@needs_engine
def test_a_step_without_output_that_lost_lines_ends_well_and_says_so(
    begin: Callable[..., Run], cluster: FakeCluster
):
    run = begin(FLOOD)
    outcome = run_through_rotation(cluster, run)
    assert (outcome.verdict, outcome.has_output) == (Verdict.SUCCEEDED, False)
    assert "of 20001 lines of this step are missing" in server_lines(run)


@needs_engine
def test_an_output_too_long_for_the_record_that_was_thrown_away_fails_the_step(
    begin: Callable[..., Run], cluster: FakeCluster
):
    big = "printf 'OUTPUT: \"'; head -c 5000 /dev/zero | tr '\\000' x; printf '\"\\n'"
    outcome = run_through_rotation(cluster, begin(f"{FLOOD}; {big}; seq 1 20000"))
    assert (outcome.verdict, outcome.has_output) == (Verdict.FAILED, False)
    assert "its OUTPUT is not known" in outcome.error
    assert "thrown them away" in outcome.error


@needs_engine
def test_an_image_that_lost_lines_fails_unless_its_output_came_later_or_beside_the_log(
    begin: Callable[..., Run], cluster: FakeCluster, base_image: str
):
    def run(cmd: str) -> Any:
        return run_through_rotation(cluster, begin(work=ImageWork(base_image, cmd=cmd)))

    lost = run(f"{FLOOD}; echo 'OUTPUT: 1'; seq 1 20000")
    assert (lost.verdict, lost.has_output) == (Verdict.FAILED, False)
    assert "/dev/termination-log" in lost.error
    later = run(f"{FLOOD}; echo 'OUTPUT: 2'")
    assert (later.verdict, later.output) == (Verdict.SUCCEEDED, 2)
    beside = run(f"{FLOOD}; echo 'OUTPUT: 3' >/dev/termination-log; seq 1 20000")
    assert (beside.verdict, beside.output) == (Verdict.SUCCEEDED, 3)


@needs_engine
def test_an_account_that_may_not_read_logs_still_learns_the_outputs_of_scripts(
    begin: Callable[..., Run], cluster: FakeCluster, base_image: str
):
    cluster.forbidden = {("get", "pods/log")}
    script = begin("echo 'OUTPUT: {\"x\": 2}'")
    image = begin(work=ImageWork(base_image, cmd="echo 'OUTPUT: 1'"))
    assert script.outcome().output == {"x": 2}
    outcome = image.outcome()
    assert outcome.verdict is Verdict.FAILED
    assert "may not read logs" in outcome.error


@needs_engine
@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("printf 'a\\n\\n'", ["a", ""]),
        ("printf 'a\\n\\nb'", ["a", "", "b"]),
        ("(while :; do echo noise; sleep 0.01; done) & sleep 0.3; kill $!; echo end", None),
        ("(sleep 300 &); trap 'kill 0' EXIT; echo end", None),
    ],
)
def test_the_end_of_the_log_is_not_shown_and_changes_no_line(
    begin: Callable[..., Run], code: str, texts: list[str] | None
):
    run = begin(code)
    run.outcome()
    assert run.log.texts() == texts or (texts is None and "end" in run.log.texts())
    assert "stroem" not in "\n".join(run.log.texts())


@needs_engine
def test_a_step_whose_line_is_too_long_to_look_through_still_passes_its_output(
    begin: Callable[..., Run],
):
    run = begin("head -c 100000000 /dev/zero | tr '\\000' x; echo; echo 'OUTPUT: 5'")
    outcome = run.outcome(150)
    assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, 5)


@needs_engine
def test_a_teller_that_is_slow_does_not_hold_up_the_reader(
    runner: PodRunner, cluster: FakeCluster, tmp_path: Path
):
    """While nothing is told, the node rotates twice: who reads on loses nothing."""
    cluster.log_file_bytes = 100_000
    log, may_go_on = Log(), threading.Event()

    def tell(line: Any) -> None:
        if line.text == "1":
            may_go_on.wait(60)
        log(line)

    lines = "i=0; while [ $i -lt 60 ]; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); i=$((i + 1)); sleep 0.05; done"
    order = build_order(tmp_path, lines)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, order, tell, Stop())
        cluster.wait_for(lambda: cluster.pods and all(map(has_ended, cluster.pods.values())), 60)
        may_go_on.set()
        assert future.result(60).verdict is Verdict.SUCCEEDED
    assert log.texts() == [*map(str, range(1, 60_001))]


# the record of lines, alone


def stamp(second: float, text: str) -> bytes:
    return f"2026-01-01T00:{int(second // 60):02d}:{second % 60:09.6f}Z {text}".encode()


def at(second: float) -> float:
    found = read_stamp(stamp(second, ""))
    assert found is not None
    return found


def test_a_connection_that_does_not_repeat_the_last_line_shows_a_gap():
    told = Told()
    told.begin()
    assert all(told.take(stamp(second, f"line {second}")) for second in range(5))
    told.begin()
    assert [bool(told.take(stamp(second, f"line {second}"))) for second in range(3, 7)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert told.gaps == 0
    told.begin()
    assert told.take(stamp(30, "much later"))
    assert (told.gaps, told.count) == (1, 8)


def test_a_last_connection_that_brings_nothing_at_all_shows_a_gap():
    told = Told()
    told.begin()
    assert told.take(stamp(1, "line"))
    told.end()
    assert told.gaps == 0
    told.begin()
    told.end()
    assert told.gaps == 1


def test_a_reader_that_lags_notices_that_the_node_skipped_a_file():
    told = Told()
    told.begin()
    for number in range(2000):
        told.take(stamp(number / 1000, "x" * 1000), at(20))
    told.take(stamp(15, "the file after the next"), at(24))
    assert told.gaps == 1


def test_what_was_written_before_a_connection_began_lies_in_one_file():
    """After an outage, a step that speaks rarely is told late, and has lost nothing."""
    told = Told(at(0))
    told.begin(at(0))
    told.take(stamp(1, "x" * 2_000_000), at(1))
    told.pause(at(5))
    told.begin(at(60))
    told.take(stamp(1, "x" * 2_000_000), at(60))
    for second in (10, 20, 40, 60):
        told.take(stamp(second, "tick"), at(60))
    assert told.gaps == 0


@pytest.mark.parametrize(
    ("connected", "first", "gaps"), [(1, 300, 0), (20, 1, 0), (20, 19, 1), (20, 300, 1)]
)
def test_a_first_connection_that_comes_late_may_have_missed_the_beginning(
    connected: float, first: float, gaps: int
):
    told = Told(at(0))
    told.begin(at(connected))
    told.take(stamp(first, "line"), at(max(connected, first)))
    assert told.gaps == gaps


def test_a_silent_container_has_missed_nothing_unless_nobody_listened():
    told = Told(at(0))
    for second in (1, 60, 120):  # idle connections are cut
        told.begin(at(second))
        told.pause(at(second + 58))
    told.end()
    assert told.gaps == 0
    told.begin(at(300))
    told.end()
    assert told.gaps == 1
    brief = Told(at(0), at(2))
    brief.begin(at(300))
    brief.end()
    assert brief.gaps == 0


def test_a_quiet_step_is_no_gap():
    told = Told()
    told.begin()
    for second in (1, 50, 300):
        told.take(stamp(second, "x" * 1_000_000), at(second + 0.1))
    assert told.gaps == 0


# long ones


@pytest.mark.slow
@needs_engine
@pytest.mark.timeout(900)
def test_twenty_pods_of_ten_thousand_lines_survive_ten_restarts(
    begin: Callable[..., Run], cluster: FakeCluster
):
    code = (
        "i=0; while [ $i -lt 10000 ]; do echo $i; i=$((i+1));"
        ' [ $((i % 250)) = 0 ] && sleep 3; done; echo "OUTPUT: $N"'
    )
    runs = [begin(code, env={"N": str(number)}) for number in range(20)]
    for run in runs:
        run.log.wait_for("0", 300)
    for _ in range(10):
        cluster.restart(refusals=40, denials=20)
        wait_for_news(cluster, runs)
    for number, run in enumerate(runs):
        outcome = run.outcome(600)
        assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, number), outcome.error
        assert run.log.texts() == [*map(str, range(10_000)), f"OUTPUT: {number}"]


@pytest.mark.slow
@needs_engine
@pytest.mark.timeout(900)
def test_a_hundred_megabytes_are_told_truthfully(begin: Callable[..., Run]):
    count = 1_100_000
    run = begin(f"seq -f %090.0f 1 {count}; echo 'OUTPUT: 7'", log_bytes=200_000_000)
    outcome = run.outcome(800)
    assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, 7)
    texts = run.log.texts()
    assert texts == sorted(set(texts))
    missing = count + 1 - len(texts)
    assert missing == 0 or f"{missing} of {count + 1} lines" in server_lines(run)
