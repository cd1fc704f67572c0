"""`manage.py up`: one command, and nothing of it is left when it ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest

from stroem_project.config import load
from tests.acceptance.house import OF_OTHER_DATABASES, ROOT, Up, free_port, manage
from tests.standalone.processes import eventually, guard_of, is_alive

ENDS_WITHIN_S = 10.0
Start = Callable[..., Up]


@contextlib.contextmanager
def starter(default: Path) -> Iterator[Start]:
    """A function that starts `up`, as often as it is called. At the end nothing of them may run."""
    started: list[Up] = []

    def begin(data_dir: Path = default, **more: object) -> Up:
        started.append(Up(data_dir, **more))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for up in started:
        up.end()
    for up in started:
        eventually(lambda: not up.processes(), within_s=15)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starter(tmp_path / "var") as begin:
        yield begin


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that runs, for tests that leave it running."""
    with starter(tmp_path_factory.mktemp("up") / "var") as begin:
        up = begin()
        up.wait_until_ready()
        yield up


def database_of(up: Up) -> str:
    url = load({"STROEM__DATA_DIR": str(up.data_dir)}).db.url
    assert url is not None
    return url


def test_commands_beside_it_use_its_database_whatever_libpq_is_told_of_others(up: Up) -> None:
    for variables in ({"PGDATESTYLE": "German"}, OF_OTHER_DATABASES):
        said = manage("workers", STROEM__DATA_DIR=str(up.data_dir), **variables)
        assert said.returncode == 0 and "live" in said.stdout, said


def test_times_of_a_named_database_are_read_however_others_want_them(up: Up) -> None:
    url = database_of(up)
    said = manage("workers", STROEM__DB__URL=url, PGDATESTYLE="German", PGTZ="Asia/Tokyo")
    assert said.returncode == 0 and "live" in said.stdout, said
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("ALTER ROLE CURRENT_USER SET datestyle = 'German'")
        try:
            assert manage("workers", STROEM__DB__URL=url).returncode == 0
        finally:
            link.execute("ALTER ROLE CURRENT_USER RESET datestyle")


def test_it_says_where_to_go_and_how_to_sign_in_and_ctrl_c_ends_it_all(start: Start) -> None:
    up = start()
    line = up.wait_until_ready()
    assert f"http://127.0.0.1:{up.port}/" in line and up.password() in line
    assert up.ask("/healthz")[0] == 200
    assert load({"STROEM__DATA_DIR": str(up.data_dir)}).served_at == f"http://127.0.0.1:{up.port}"
    assert up.sign_in()
    processes = up.processes()
    assert len(processes) >= 5

    began = time.monotonic()
    assert up.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < ENDS_WITHIN_S
    eventually(lambda: not up.processes(), within_s=2)
    assert not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in processes
    )
    assert not (up.data_dir / "pair.json").exists()


STUBBORN = """
actions:
  stay: {type: script, script: "trap '' TERM; echo $$ > MARK; while :; do sleep 0.1; done"}
tasks:
  main: {flow: {stay: {action: stay}}}
"""


@pytest.mark.long
def test_a_step_that_ignores_term_does_not_hold_up_the_end(start: Start, tmp_path: Path) -> None:
    mark, flows = tmp_path / "mark", tmp_path / "flows"
    flows.mkdir()
    (flows / "flows.yaml").write_text(STUBBORN.replace("MARK", str(mark)))
    up = start(STROEM__WORKSPACES__OURS__TYPE="folder", STROEM__WORKSPACES__OURS__PATH=str(flows))
    up.wait_until_ready()
    token = up.sign_in()
    eventually(lambda: up.ask("/api/workspaces/ours/tasks/main", token=token)[0] == 200)
    assert up.ask("/api/workspaces/ours/tasks/main/execute", {"input": {}}, token)[0] == 200
    eventually(lambda: mark.exists() and mark.read_text().strip(), within_s=20)
    began = time.monotonic()
    assert up.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < ENDS_WITHIN_S
    assert not is_alive(int(mark.read_text()))
    # It had time to tell what became of the step: nobody has to wait for a lease to run out.
    assert "stopped; 1 steps had to be ended" in (up.data_dir / "log" / "worker.log").read_text()


LEFT = """
actions:
  once: {type: script, script: "echo once >> MARK; sleep 600"}
  again: {type: script, on_worker_lost: retry, script: "echo again >> MARK; sleep 600"}
  brief: {type: script, script: "echo brief >> MARK; while [ ! -e MARK.go ]; do sleep 0.1; done"}
tasks:
  once: {flow: {build: {action: once}}}
  again: {flow: {build: {action: again}}}
  brief: {flow: {build: {action: brief}}}
"""


def begin(up: Up, token: str, task: str) -> str:
    """Start a job of the task; its id."""
    path = f"/api/workspaces/ours/tasks/{task}"
    eventually(lambda: up.ask(path, token=token)[0] == 200)
    status, answer = up.ask(f"{path}/execute", {"input": {}}, token)
    assert status == 200, answer
    return str(answer["job_id"])


@pytest.mark.long
def test_ctrl_c_asks_once_and_says_how_to_resume_what_was_stopped(
    start: Start, tmp_path: Path
) -> None:
    mark, flows = tmp_path / "mark", tmp_path / "flows"
    flows.mkdir()
    (flows / "flows.yaml").write_text(LEFT.replace("MARK", str(mark)))
    up = start(
        STROEM__WORKSPACES__OURS__TYPE="folder",
        STROEM__WORKSPACES__OURS__PATH=str(flows),
        STROEM__WORKER__DRAIN_SECS="300",
    )
    up.wait_until_ready()
    token = up.sign_in()
    jobs = {task: begin(up, token, task) for task in ("once", "again", "brief")}
    eventually(lambda: mark.exists() and len(mark.read_text().split()) == 3, within_s=30)

    up.process.send_signal(signal.SIGINT)
    asks = "3 steps run; waiting up to 300 s. Ctrl-C again to stop them."
    eventually(lambda: asks in up.lines, within_s=10)
    Path(f"{mark}.go").touch()  # what ends meanwhile has not been stopped
    brief = up.data_dir / "log" / "worker.log"
    assert up.process.poll() is None, brief.read_text()
    database = psycopg.connect(database_of(up), autocommit=True)
    query = "SELECT status FROM jobs_job WHERE id = %s"
    eventually(
        lambda: database.execute(query, [jobs["brief"]]).fetchone() == ("completed",), within_s=20
    )
    database.close()

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    told = sorted(line for line in up.lines if line.startswith("Step "))
    assert told == sorted([
        f"Step 'build' of job {jobs['once']} (ours/once) was stopped; `manage.py restart"
        f" {jobs['once']} --failed` resumes it.",
        f"Step 'build' of job {jobs['again']} (ours/again) was stopped and handed back; the next"
        " start runs it again.",
    ])  # fmt: skip

    second = start(
        STROEM__WORKSPACES__OURS__TYPE="folder", STROEM__WORKSPACES__OURS__PATH=str(flows)
    )
    second.wait_until_ready()
    eventually(lambda: mark.read_text().split().count("again") == 2, within_s=30)
    assert mark.read_text().split().count("once") == 1
    with psycopg.connect(database_of(second)) as database:
        query = "SELECT losses FROM jobs_step WHERE job_id = %s"
        assert database.execute(query, [jobs["again"]]).fetchone() == (0,)


FLOWS = """
actions:
  first: {type: script, on_worker_lost: retry, script: "echo begun >> MARK; sleep 2"}
  second: {type: script, script: "echo done >> MARK"}
tasks:
  long: {flow: {first: {action: first}, second: {action: second, depends_on: [first]}}}
"""


@pytest.mark.long
def test_a_kill_leaves_nothing_running_and_a_second_start_carries_on(
    start: Start, tmp_path: Path
) -> None:
    mark, flows = tmp_path / "mark", tmp_path / "flows"
    flows.mkdir()
    (flows / "flows.yaml").write_text(FLOWS.replace("MARK", str(mark)))
    settings = {
        "STROEM__WORKSPACES__OURS__TYPE": "folder",
        "STROEM__WORKSPACES__OURS__PATH": str(flows),
        "STROEM__RECOVERY__HEARTBEAT_TIMEOUT_SECS": "10",
    }
    first = start(**settings)
    first.wait_until_ready()
    token = first.sign_in()
    eventually(lambda: first.ask("/api/workspaces/ours/tasks/long", token=token)[0] == 200)
    status, begun = first.ask("/api/workspaces/ours/tasks/long/execute", {"input": {}}, token)
    assert status == 200, begun
    eventually(mark.exists)
    with psycopg.connect(database_of(first), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    password = first.password()

    first.stop(signal.SIGKILL)
    eventually(lambda: not first.processes(), within_s=ENDS_WITHIN_S)

    second = start(**settings)
    line = second.wait_until_ready()
    assert "and its password" in line, "a password is shown once only"
    with psycopg.connect(database_of(second)) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    token = second.sign_in(password=password)
    job = f"/api/jobs/{begun['job_id']}"
    eventually(lambda: second.ask(job, token=token)[1]["status"] == "completed", within_s=40)
    assert mark.read_text().split() == ["begun", "begun", "done"]


@pytest.mark.long
def test_a_second_start_need_not_wait_for_the_end_of_a_killed_one(start: Start) -> None:
    first = start()
    first.wait_until_ready()
    first.process.kill()
    second = start()
    second.wait_until_ready()
    assert second.ask("/healthz")[0] == 200


@pytest.mark.slow
def test_what_a_kill_of_the_guard_too_left_is_recognised(start: Start) -> None:
    first = start()
    first.wait_until_ready()
    guard = guard_of(first.process.pid)
    database = first.pid_of("bin/postgres", "-D")
    ours = [first.pid_of("manage.py", command) for command in ("server", "scheduler", "worker")]
    # stopped first, so that neither sees the other go
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (guard, first.process.pid):
            os.kill(pid, number)
    first.process.wait()
    eventually(lambda: not any(is_alive(pid) for pid in ours), within_s=ENDS_WITHIN_S)
    assert is_alive(database)

    second = start()
    second.wait_until_ready()

    assert not is_alive(database)


@pytest.mark.long
def test_two_in_one_directory_are_refused(up: Up) -> None:
    second = manage("up", STROEM__DATA_DIR=str(up.data_dir), PORT=str(free_port()))
    assert second.returncode == 1
    assert f"already running in {up.data_dir} (process {up.process.pid})" in second.stderr
    assert up.ask("/healthz")[0] == 200


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "words", [("bin/postgres", "-D"), ("valkey-server",), ("manage.py", "server")]
)
def test_what_dies_is_started_again(up: Up, words: tuple[str, ...]) -> None:
    old = up.pid_of(*words)
    os.kill(old, signal.SIGKILL)

    def is_back() -> bool:
        with contextlib.suppress(AssertionError, OSError, psutil.Error):
            return up.pid_of(*words) != old and up.ask("/healthz")[0] == 200
        return False

    eventually(is_back, within_s=20)
    eventually(lambda: "restarting it in" in up.output)


@pytest.mark.long
def test_a_taken_port_is_said_before_anything_is_started(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = manage("up", "--port", str(port), STROEM__DATA_DIR=str(tmp_path / "var"))
    assert answer.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in answer.stderr
    assert not (tmp_path / "var" / "postgres").exists()


def test_a_wrong_setting_is_one_sentence(tmp_path: Path) -> None:
    answer = manage("up", STROEM__DATA_DIR=str(tmp_path / "var"), STROEM__RECOVERY__LOST_RETRYS="1")
    assert answer.returncode != 0
    assert "unknown key 'recovery.lost_retrys'; did you mean 'lost_retries'?" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (
        "PORT must be a number"
        in manage("up", PORT="http", STROEM__DATA_DIR=str(tmp_path / "var")).stderr
    )


@pytest.mark.long
def test_servers_and_administrator_named_by_the_settings_are_used_and_left_alone(
    start: Start,
) -> None:
    url = os.environ["STROEM__DB__URL"]
    name = f"given_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    password = "correct horse battery"
    up = start(
        STROEM__DB__URL=urlunsplit(urlsplit(url)._replace(path=f"/{name}")),
        STROEM__BROKER__URL=os.environ["STROEM__BROKER__URL"],
        STROEM_ADMIN_EMAIL="ada@example.org",
        STROEM_ADMIN_PASSWORD=password,
    )
    line = up.wait_until_ready()
    assert "database: the server named by the settings" in up.output
    assert not (up.data_dir / "postgres").exists()
    assert "ada@example.org" in line and password not in up.output
    assert up.sign_in("ada@example.org", password)
    for pid in up.processes():
        with contextlib.suppress(psutil.Error):
            assert password not in psutil.Process(pid).environ().values()

    assert up.stop(signal.SIGTERM) == 0

    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.long
def test_a_short_password_is_taken_on_the_loopback_address_only(
    start: Start, tmp_path: Path
) -> None:
    short = {"STROEM_ADMIN_EMAIL": "boss@example.org", "STROEM_ADMIN_PASSWORD": "admin"}
    refused = manage(
        "up", STROEM__DATA_DIR=str(tmp_path / "var"), STROEM__LISTEN="0.0.0.0:8080", **short
    )
    assert refused.returncode == 2
    assert "STROEM_ADMIN_PASSWORD must have at least 10 characters: 0.0.0.0" in refused.stderr
    assert not (tmp_path / "var" / "postgres").exists()
    up = start(**short)
    up.wait_until_ready()
    assert "WARNING: STROEM_ADMIN_PASSWORD must have at least 10 characters" in up.output
    assert up.sign_in("boss@example.org", "admin")


@pytest.mark.long
@pytest.mark.root
def test_it_works_for_a_user_who_is_not_root(start: Start) -> None:
    place = Path("/var/tmp") / f"stroem-{os.getpid()}-{time.monotonic_ns()}"
    tree, home = place / "tree", place / "home"
    home.mkdir(parents=True)
    try:
        ignore = shutil.ignore_patterns(
            ".venv", ".git", "var", "tests", "node_modules", "screenshots", ".*_cache"
        )
        shutil.copytree(ROOT, tree, ignore=ignore)
        shutil.chown(home, "nobody", "nogroup")
        packages = str(Path(psycopg.__file__).parents[1])
        python = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "/usr/bin/python3",
        ]
        environment = {"PYTHONPATH": packages, "HOME": str(home)}
        if subprocess.run(
            [*python, "-c", "import psycopg, django, celery"], env=os.environ | environment
        ).returncode:
            # Nobody may read the interpreter or the packages here; a user namespace takes root's
            # powers away, too.
            shutil.chown(home, "root", "root")
            python = [
                "unshare",
                "--user",
                "--map-user=65534",
                "--map-group=65534",
                "--",
                sys.executable,
            ]
        up = start(home / "var", prefix=python, cwd=tree, **environment)
        up.wait_until_ready()
        assert up.ask("/healthz")[0] == 200
        assert "unshare" not in " ".join(psutil.Process(up.pid_of("bin/postgres", "-D")).cmdline())
        up.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)
