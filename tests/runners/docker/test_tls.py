"""An engine that is reached over TLS, as in Docker in Docker, through a network that breaks."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import StepOrder, StepOutcome, Verdict
from runners.docker.config import DockerConfig
from runners.docker.connection import Connection
from runners.docker.runner import DockerRunner
from tests.runners.contract import Leftovers, Log, RunnerContract, Stop, build_order
from tests.runners.docker.certificates import make_authority
from tests.runners.docker.engine import need
from tests.runners.docker.second_engine import IMAGE, SecondEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

NUMBERS = 'i=0; while [ $i -lt {} ]; do echo "line $i"; i=$((i+1)); done'


@pytest.fixture(scope="module")
def tls_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondEngine]:
    """As the engine beside the worker in a pod, which shares no file with it."""
    need(shutil.which("openssl"), "openssl is needed for certificates")
    folder = tmp_path_factory.mktemp("tls")
    engine = SecondEngine(folder, uses_tls=True)
    yield engine
    engine.close()


@pytest.fixture
def remote(
    tls_engine: SecondEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> SecondEngine:
    """The engine, named by this process's environment. An authority for the web trusts it not."""
    make_authority(tmp_path / "web", "the web")
    for name, value in tls_engine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "web" / "ca.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "web" / "ca.pem"))
    return tls_engine


@pytest.fixture
def runner(remote: SecondEngine, owner: str) -> DockerRunner:
    return DockerRunner(DockerConfig(owner=owner, runner_image=IMAGE, pull="never", sharing="copy"))


@pytest.fixture
def start(runner: DockerRunner, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    pool = ThreadPoolExecutor(128)

    def begin(code: str, **changes: Any) -> tuple[StepOrder, Log, Future[StepOutcome]]:
        order, log = build_order(tmp_path, code, **changes), Log()
        return order, log, pool.submit(runner.run, order, log, Stop())

    yield begin
    pool.shutdown(wait=False)


def numbers(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


class TestDockerOverTls(RunnerContract):
    """The whole contract: the connection makes no difference."""

    pytestmark = pytest.mark.slow
    slack_s = 2.0

    @pytest.fixture
    def runner(self, runner: DockerRunner) -> DockerRunner:
        return runner

    @pytest.fixture
    def leftovers(self, tls_engine: SecondEngine) -> Leftovers:
        def find(attempt: str) -> list[str]:
            client = tls_engine.connect()
            mine = {"label": f"stroem.io/attempt={attempt}"}
            found = [
                *client.containers.list(all=True, filters=mine),
                *client.volumes.list(filters=mine),
            ]
            client.close()
            return [item.name for item in found]

        return find


def test_lines_and_output_come_over_tls(start: Callable[..., Any]):
    _, log, future = start(
        f"echo early; sleep 1; {NUMBERS.format(20_000)}; echo oops >&2; echo 'OUTPUT: 7'"
    )
    log.wait_for("early")
    assert not future.done()
    outcome = future.result(60)
    assert (outcome.verdict, outcome.error, outcome.output) == (Verdict.SUCCEEDED, None, 7)
    assert log.texts("stdout") == ["early", *numbers(20_000), "OUTPUT: 7"]
    assert log.texts("stderr") == ["oops"]


@pytest.mark.parametrize("is_rude", [False, True], ids=["closed", "reset"])
def test_a_stream_that_is_cut_loses_no_line_while_the_step_runs_on(
    start: Callable[..., Any], remote: SecondEngine, is_rude: bool
):
    code = f"{NUMBERS.format(500)}; echo half; sleep 4; {NUMBERS.format(500)}; echo 'OUTPUT: 1'"
    _, log, future = start(code)
    log.wait_for("half")
    assert remote.door is not None and remote.door.cut(is_rude=is_rude)
    outcome = future.result(60)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error
    assert log.texts() == [*numbers(500), "half", *numbers(500), "OUTPUT: 1"]
    assert outcome.output == 1
    assert [text for text in log.texts("server") if "broke" in text]


@pytest.mark.parametrize("rest_s", [0, 0.1, 1])
def test_a_stream_that_is_cut_just_before_the_end_loses_no_line(
    start: Callable[..., Any], remote: SecondEngine, rest_s: float
):
    """The container has ended by the time anybody looks: that its stream is over says nothing."""
    code = (
        "printf 'part '; echo half; read -r _ < /tmp/gate; echo 'the same'; echo 'the same';"
        f" {NUMBERS.format(300)}; echo 'OUTPUT: 2'; echo 'the same'; sleep {rest_s}"
    )
    order, log, future = start(f"mkfifo /tmp/gate; {code}")
    log.wait_for("half")
    assert remote.door is not None and remote.door.cut()
    client = remote.connect()
    client.containers.get(f"stroem-{order.attempt}").exec_run(["sh", "-c", "echo go > /tmp/gate"])
    client.close()
    outcome = future.result(60)
    assert (outcome.verdict, outcome.error, outcome.output) == (Verdict.SUCCEEDED, None, 2)
    assert log.texts() == [
        "part half", "the same", "the same", *numbers(300), "OUTPUT: 2", "the same",
    ]  # fmt: skip


def test_a_step_whose_lost_lines_nobody_has_is_not_completed(
    start: Callable[..., Any], remote: SecondEngine, monkeypatch: pytest.MonkeyPatch
):
    """The engine keeps a bounded record: here, less than was written."""
    monkeypatch.setattr("runners.docker.output.KEPT_BYTES", 10_000)
    _, log, future = start(f"{NUMBERS.format(500)}; echo half; sleep 4; echo 'OUTPUT: 3'")
    log.wait_for("half")
    assert remote.door is not None and remote.door.cut()
    outcome = future.result(60)
    assert outcome.verdict is Verdict.LOST
    assert "lines may be missing" in outcome.error
    assert [text for text in log.texts("server") if "may be missing" in text]


@pytest.mark.parametrize(
    "last",
    [
        "true",
        "echo",
        "printf 'no newline'",
        r"printf 'broken \377\342\230 characters\n'",
        "head -c 100000 /dev/zero | tr '\\000' x; echo",
        "head -c 100000 /dev/zero | tr '\\000' x",
    ],
)
def test_a_long_log_over_a_sound_connection_is_completed(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, last: str
):
    monkeypatch.setattr("runners.docker.output.KEPT_BYTES", 10_000)
    _, log, future = start(f"{NUMBERS.format(500)}; echo 'OUTPUT: 3'; {last}")
    outcome = future.result(60)
    assert (outcome.verdict, outcome.error, outcome.output) == (Verdict.SUCCEEDED, None, 3)
    assert log.texts()[:500] == numbers(500)


def test_an_engine_that_is_restarted_and_keeps_its_containers_loses_no_line(
    tmp_path: Path, owner: str
):
    engine = SecondEngine(tmp_path, options=("--live-restore",))
    config = DockerConfig(owner=owner, runner_image=IMAGE, pull="never", host=engine.url)
    code = f"{NUMBERS.format(300)}; echo half; sleep 6; {NUMBERS.format(300)}; echo 'OUTPUT: 4'"
    order, log = build_order(tmp_path, code), Log()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(DockerRunner(config).run, order, log, Stop())
        log.wait_for("half")
        engine.kill(signal.SIGTERM)
        engine.start()
        outcome = future.result(60)
    engine.close()
    assert (outcome.verdict, outcome.error, outcome.output) == (Verdict.SUCCEEDED, None, 4)
    assert log.texts() == [*numbers(300), "half", *numbers(300), "OUTPUT: 4"]


def test_a_step_that_ends_well_because_its_engine_shuts_down_is_lost(tmp_path: Path, owner: str):
    """The engine signals the container, and the script makes a success of it."""
    engine = SecondEngine(tmp_path)
    config = DockerConfig(owner=owner, runner_image=IMAGE, pull="never", host=engine.url)
    order, log = build_order(tmp_path, "trap 'exit 0' TERM; echo ready; sleep 300 & wait"), Log()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(DockerRunner(config).run, order, log, Stop())
        log.wait_for("ready")
        engine.kill(signal.SIGTERM)
        engine.start()
        outcome = future.result(60)
    engine.close()
    assert outcome.verdict is Verdict.LOST


def test_a_line_of_three_megabytes_is_shown_once(start: Callable[..., Any]):
    _, log, future = start("head -c 3000000 /dev/zero | tr '\\000' x; echo; echo after")
    assert future.result(60).verdict is Verdict.SUCCEEDED
    long, after = log.texts()
    assert long.startswith("xxx") and "more bytes" in long and after == "after"


def test_the_certificates_of_the_web_do_not_replace_the_engines(remote: SecondEngine):
    assert Connection(None).find_trouble() is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DOCKER_CERT_PATH", "nowhere", "nowhere/cert.pem of the Docker engine does not exist"),
        ("DOCKER_CERT_PATH", "web", "is not trusted"),
        ("DOCKER_HOST", "tcp://127.0.0.1:1", "nothing listens there"),
        ("DOCKER_HOST", "tcp://no.such.host.invalid:2376", "cannot be resolved"),
        ("DOCKER_HOST", "ssh://me@there", "ssh -nNT -L"),
        ("DOCKER_HOST", "there:2376", "must begin with"),
    ],
)
def test_what_is_wrong_with_a_connection_is_said(
    remote: SecondEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str,
    told: str,
):  # fmt: skip
    folder = remote.certificates / "client"
    for file in ("cert.pem", "key.pem"):
        shutil.copy(folder / file, tmp_path / "web" / file)
    monkeypatch.setenv(name, str(tmp_path / value) if "PATH" in name else value)
    trouble = Connection(None).find_trouble()
    assert trouble is not None and told in trouble
    for library in ("DockerException", "NewConnectionError", "HTTPConnectionPool", "Errno"):
        assert library not in trouble


def test_an_engine_that_wants_tls_says_so(remote: SecondEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DOCKER_TLS_VERIFY")
    monkeypatch.delenv("DOCKER_CERT_PATH")
    trouble = Connection(None).find_trouble()
    assert trouble is not None and "DOCKER_TLS_VERIFY" in trouble


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_steps_at_once_over_tls(start: Callable[..., Any], remote: SecondEngine):
    runs = [start(f"{NUMBERS.format(200)}; echo 'OUTPUT: {number}'") for number in range(100)]
    for number, (_, log, future) in enumerate(runs):
        outcome = future.result(500)
        assert (outcome.verdict, outcome.error) == (Verdict.SUCCEEDED, None)
        assert outcome.output == number
        assert log.texts("stdout")[:-1] == numbers(200)
    client: docker.DockerClient = remote.connect()
    assert client.containers.list(all=True) == []
    client.close()
