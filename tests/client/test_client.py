"""`stroem` on a laptop, against a real server and worker, which all these tests share."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from apps.accounts import devices
from apps.accounts.models import Role, User
from apps.artifacts.models import Artifact
from apps.artifacts.state.keeping import Writer
from apps.fleet.models import Worker
from apps.fleet.vitals import ClockTimestamp
from apps.jobs.models import Job
from apps.workspaces.models import Connection, Secret, Workspace
from engine.state import Change
from stroem import remote
from stroem.http import Server
from stroem.profiles import Profile
from stroem.remote import Remote
from tests.acceptance.house import manage
from tests.acceptance.serving import Served
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import start, until, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.client.laptop import Laptop, key_of
from tests.house import House, database_url

pytestmark = pytest.mark.django_db(transaction=True)
SAID = 'OUTPUT: {"said": true}'
FLOW = r"""
actions:
  greet: {type: script, script: 'printf "hello %s\n" "$STROEM_INPUT_NAME"; echo "OUTPUT: {\"said\": true}"', input: {name: {type: string}}}
  fail: {type: script, script: "echo bad luck >&2; exit 3"}
  wait: {type: script, script: "sleep 60"}
  ask: {type: approval, message: "Go on?", input: {note: {type: string}}}
  reach: {type: script, script: 'echo "reached $STROEM_INPUT_TO"', input: {to: {type: db}}}
connection_types: {db: {check: reach, host: {type: string}, password: {type: string, secret: true}}}
tasks:
  main:
    description: Greets somebody
    input: {name: {type: string, required: true}, times: {type: integer, default: 2}}
    flow:
      say: {action: greet, input: {name: "{{ input.name }}"}}
      call: {type: task, task: inner, depends_on: [say]}
  inner: {flow: {within: {action: greet, input: {name: child}}}}
  broken: {flow: {one: {action: fail, retry: {max_attempts: 2, delay: 1s}}, two: {action: greet, input: {name: x}, depends_on: [one]}}}
  slow: {flow: {one: {action: wait}}}
  asking: {flow: {gate: {action: ask}}}
"""


@pytest.fixture(scope="module")
def house(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:  # noqa: F811
    env = os.environ | {"STROEM__DB__URL": database_url()}
    found = House(tmp_path_factory.mktemp("house"), env)
    yield found
    found.close()


@pytest.fixture(scope="module")
def served(house: House) -> Served:
    workspace(house.folder / "sources", FLOW, "shop")
    house.worker("bench")
    house.scheduler()  # for retries
    return Served(house)


@pytest.fixture
def laptop(served: Served, tmp_path: Path) -> Laptop:
    """Signed in as an administrator of workspaces."""
    home = tmp_path / "home"
    home.mkdir()
    found = Laptop(home)
    User.objects.filter(email="ann@example.org").update(email=f"{uuid4()}@example.org")
    url = f"http://127.0.0.1:{served.port}"
    said = found.lines("login", url, given=key_of(Role.ADMIN, "ann@example.org") + "\n")
    assert said == [f"{url}: signed in as ann@example.org (profile default)"]
    return found


def same(house: House, laptop: Laptop, *words: str) -> list[str]:
    """What both programs print."""
    ours = laptop.lines(*words)
    theirs = manage(*words, **{k: v for k, v in house.env.items() if k.startswith("STROEM")})
    assert theirs.returncode == 0, theirs
    assert ours == theirs.stdout.splitlines()
    return ours


def test_a_job_is_started_followed_and_shown_as_manage_py_does(
    house: House, laptop: Laptop
) -> None:
    *progress, last = laptop.lines("run", "shop", "main", "--input", "name=Ada", "--follow")
    assert Job.objects.get(pk=last).status == "completed"
    assert [line for line in progress if "hello" in line] == [
        "say | hello Ada",
        "call/within | hello child",
    ]
    assert "call/within: completed" in " ".join(progress)
    assert progress[-1] == "main: completed"
    assert "shop/inner" in " ".join(same(house, laptop, "jobs", "--status", "completed"))
    same(house, laptop, "jobs", "--workspace", "shop", "--task", "main", "--json")
    same(house, laptop, "jobs", last[:30])
    same(house, laptop, "jobs", last, "--json")
    assert same(house, laptop, "logs", last) == [f"say | {line}" for line in ("hello Ada", SAID)]
    assert same(house, laptop, "logs", last, "--step", "say") == ["hello Ada", SAID]
    assert json.loads(same(house, laptop, "logs", last, "--json")[0])["line"] == "hello Ada"
    assert same(house, laptop, "tasks", "shop")[0].startswith("WORKSPACE  TASK")
    same(house, laptop, "tasks", "--json")
    same(house, laptop, "workspaces", "--json")
    assert "bench" in laptop.lines("workers")[1]
    answer = json.loads(
        laptop.lines("run", "shop", "main", "--input", "name=Bo", "--follow", "--json")[-1]
    )
    assert (answer["status"], answer["steps"]["say"]["output"]) == ("completed", {"said": True})


@pytest.mark.long
def test_state_is_what_manage_py_shows(house: House, laptop: Laptop) -> None:
    workspace_id = Workspace.objects.values_list("pk", flat=True).get(name="shop")
    for values in ({"n": 1}, {"n": 2, "at": "noon"}):
        remember(workspace_id, "main", Change(0, values), Writer("restore", by="ada"))
    same(house, laptop, "state", "get", "shop", "--task", "main")
    same(house, laptop, "state", "get", "shop", "--task", "main", "--version", "1", "--json")
    assert same(house, laptop, "state", "get", "shop", "at", "--task", "main") == ["noon"]
    same(house, laptop, "state", "history", "shop", "--task", "main")
    assert laptop.lines("state", "restore", "shop", "1", "--task", "main") == [
        "Version 1 is back, as version 3."
    ]
    assert laptop.complaint("state", "restore", "shop", "9", "--task", "main") == (
        "error: Version 9 of this state is not kept"
    )


@pytest.mark.long
def test_a_job_that_fails_ends_with_1_and_runs_again(house: House, laptop: Laptop) -> None:
    *progress, last = laptop.lines("run", "shop", "broken", "--follow", code=1)
    assert "one | bad luck" in progress
    assert "broken: failed" in progress
    same(house, laptop, "jobs", last)  # with each attempt and the worker's name
    assert laptop.lines("logs", last, "--follow", code=1)
    assert laptop.lines("restart", last, "--failed") == [last]
    assert laptop.complaint("restart", last, "--failed", code=1).startswith(f"{last}: ")
    until(lambda: Job.objects.get(pk=last).status == "failed")
    again = json.loads(laptop.lines("restart", last, "--json")[0])["job_id"]
    assert Job.objects.get(pk=again).rerun_of_id == Job.objects.get(pk=last).pk


def test_a_job_is_cancelled_once(laptop: Laptop) -> None:
    (job_id,) = laptop.lines("run", "shop", "slow")
    assert laptop.lines("cancel", job_id[:30]) == [f"{job_id}: asked to stop"]
    until(lambda: Job.objects.get(pk=job_id).status == "cancelled")
    assert laptop.complaint("cancel", job_id, code=1) == (
        f"{job_id}: Job is already in a terminal state"
    )


def test_an_approval_is_decided_by_who_has_signed_in(laptop: Laptop) -> None:
    first, second = (laptop.lines("run", "shop", "asking")[0] for _ in range(2))
    assert laptop.lines("approve", first, "gate", "--input", "note=fine") == ["gate: approved"]
    assert "approved" in laptop.complaint("approve", first, "gate", code=1)
    told = json.loads(laptop.lines("reject", second, "gate", "--reason", "no", "--json")[0])
    assert told == {"step": "gate", "status": "rejected"}
    assert laptop.complaint("approve", first, "gat") == "error: Step not found (as ann@example.org)"


def test_secrets_are_set_and_never_shown(laptop: Laptop, tmp_path: Path) -> None:
    assert laptop.lines("secrets", "list", "shop") == ["No stored secrets."]
    assert laptop.lines("secrets", "set", "shop", "pw", given="canary-4711\n") == ["pw: stored"]
    (tmp_path / "pem").write_text("canary-4712\nmore\n")
    laptop.lines("secrets", "set", "shop", "pem", "--from-file", str(tmp_path / "pem"))
    shown = laptop.lines("secrets", "list", "shop", "--json")
    assert [json.loads(line)["name"] for line in shown] == ["pem", "pw"]
    assert "canary" not in "".join(shown)
    assert laptop.lines("secrets", "remove", "shop", "pw") == ["pw: removed"]
    assert laptop.complaint("secrets", "remove", "shop", "pw").endswith("'pw' not found in shop")
    assert Secret.objects.count() == 1


@pytest.mark.long
def test_connections_are_set_checked_and_never_shown(house: House, laptop: Laptop) -> None:
    Connection.objects.all().delete()  # of a run of this test that failed half-way
    values = json.dumps({"host": "h.internal", "password": "canary-4711"})
    said = laptop.lines("connections", "set", "shop", "main", "--type", "db", given=values)
    assert said == ["main: stored as version 1"]
    given = '{"password": "canary-4712"}'
    assert laptop.lines("connections", "set", "shop", "main", given=given) == [
        "main: stored as version 2"
    ]
    lines = laptop.lines("connections", "check", "shop", "main", "--follow")
    assert "h.internal" in " ".join(lines) and lines[-1] == "main: completed"
    (shown,) = same(house, laptop, "connections", "list", "shop", "--json")
    assert json.loads(shown)["check"] == "completed" and "canary" not in " ".join((*lines, shown))
    wrong = laptop.complaint("connections", "set", "shop", "main", given='{"hots": "x"}')
    assert "field 'hots' is not declared (did you mean 'host'?)" in wrong
    assert "JSON object" in laptop.complaint("connections", "set", "shop", "main", given="canary")
    assert laptop.lines("connections", "remove", "shop", "main") == ["main: removed"]
    assert same(house, laptop, "connections", "list", "shop") == ["No connections."]


def test_what_is_wrong_is_one_sentence(laptop: Laptop, served: Served) -> None:
    nowhere = "00000000-0000-4000-8000-000000000000"
    for words, sentence in (
        (("jobz",), "There is no command 'jobz': did you mean 'jobs'? `stroem help` lists all."),
        (("jobs", "zz"), "'zz' is not a job id: give the id, or at least its first 4 characters"),
        (("logs", nowhere), f"There is no job {nowhere}: `stroem jobs` lists them"),
        (("jobs", "--task", "main"), "--task needs --workspace: tasks are named within one"),
        (("tasks", "nothing"), "Workspace 'nothing' not found"),
        (("jobs", "--workspace", "nothing"), "Workspace 'nothing' not found"),
        (("run", "shop", "nothing"), "Task not found"),
        (("run", "shop", "main"), "input 'name' is required"),
        (("run", "shop", "main", "--input", "name"), "--input takes NAME=VALUE, not 'name'."),
        (("jobs", "--profile", "other"), "There is no profile 'other' (there are: default)"),
        (("login", "https://x/y"), "'https://x/y' is not the address of a server"),
    ):
        assert sentence in laptop.complaint(*words), words
    assert Job.objects.count() == 0


def test_triggers_are_listed_however_many_there_are(
    house: House, laptop: Laptop, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = "".join(
        f"  t{n}: {{type: scheduler, cron: '0 0 1 1 *', task: main}}\n" for n in range(5)
    )
    workspace(house.folder / "ticking", f"{FLOW}triggers:\n{ticks}", "ticking")
    monkeypatch.setattr(remote, "PAGE", 2)
    url, key = f"http://127.0.0.1:{served.port}", key_of(Role.ADMIN, "tick@example.org")
    found = Remote(Server(Profile(url, key))).triggers("ticking")
    assert [one.name for one in found] == [f"t{n}" for n in range(5)]
    assert laptop.complaint("triggers", "list", "tikking") == "error: Workspace 'tikking' not found"


def test_live_workers_are_listed_however_many_have_stopped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dict.fromkeys(("started_at", "heartbeat_at", "stopped_at"), ClockTimestamp())
    Worker.objects.bulk_create(
        Worker(name="gone", tags=[], slots=1, version="1", pid=1, **now) for _ in range(5)
    )
    monkeypatch.setattr(remote, "PAGE", 2)
    url, key = f"http://127.0.0.1:{served.port}", key_of(Role.VIEWER, "walter@example.org")
    found = Remote(Server(Profile(url, key)))
    assert [one.name for one in found.workers(with_gone=False)] == ["bench"]
    assert [one.name for one in found.workers(with_gone=True)].count("gone") == 5


def test_a_viewer_sees_and_does_nothing(laptop: Laptop, served: Served) -> None:
    viewer = Laptop(laptop.home, {"STROEM_URL": f"http://127.0.0.1:{served.port}"})
    viewer.env["STROEM_TOKEN"] = key_of(Role.VIEWER, "vera@example.org", "shop")
    assert len(viewer.lines("tasks")) == 6
    assert viewer.complaint("run", "shop", "slow") == "error: View-only access"
    assert viewer.complaint("secrets", "list", "shop") == "error: Permission denied"
    assert viewer.complaint("remove_workspace", "shop", "--yes") == (
        "error: Only superusers may remove a workspace"
    )
    assert Workspace.objects.filter(name="shop").exists()
    stranger = Laptop(laptop.home, {**viewer.env, "STROEM_TOKEN": "strm_" + "0" * 64})
    url = viewer.env["STROEM_URL"]
    assert stranger.complaint("tasks") == (
        f"error: {url}: Invalid API key: run `stroem login {url}`"
    )


def test_keys_lie_in_a_private_file_and_go_to_their_server_only(
    laptop: Laptop, served: Served
) -> None:
    file = laptop.home / ".config" / "stroem" / "client.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    key = json.loads(file.read_text())["profiles"]["default"]["key"]
    assert key.startswith("strm_")
    other = "http://127.0.0.1:9"
    assert laptop.complaint("jobs", "--server", other).startswith(f"error: No key for {other}")
    url = f"http://127.0.0.1:{served.port}"
    laptop.lines("login", url, "--profile", "second", given=key + "\n")
    shown = [json.loads(line) for line in laptop.lines("profiles", "--json")]
    assert [(one["name"], one["current"]) for one in shown] == [
        ("default", True),
        ("second", False),
    ]
    assert key not in str(shown)
    assert "second" in laptop.lines("profiles", "second")[2]
    assert laptop.lines("logout") == ["second: removed"]
    file.chmod(0o644)
    assert laptop.complaint("jobs").endswith(f"run `chmod 600 {file}`")


@pytest.mark.long
def test_a_password_makes_a_key(laptop: Laptop, served: Served) -> None:
    url = f"http://127.0.0.1:{served.port}"
    words = ("login", url, "--email", "ann@example.org")
    assert laptop.complaint(*words, given="wrong\n") == f"error: {url}: Invalid email or password"
    laptop.lines(*words, given="correct horse battery\n")
    assert laptop.lines("tasks")
    # and so does a code that somebody confirms in a browser
    command, env = laptop.command("login", url, "--device", "--scope", "admin")
    asking = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert asking.stderr is not None
    told = asking.stderr.readline().strip()
    assert "/admin/device/ and confirm the code " in told
    root = User.objects.create_superuser("rita@example.org")
    devices.answer(devices.found(told.rpartition(" ")[2]), root, confirmed=True)
    out, err = asking.communicate(timeout=100)
    assert (asking.returncode, err) == (0, "")
    assert out == f"{url}: signed in as rita@example.org (profile default)\n"
    acts = [json.loads(line)["what"] for line in laptop.lines("audit", "--limit", "2")]
    assert acts == ["api-key.add", "device.confirm"]


@pytest.mark.long
def test_following_outlives_a_restart_of_the_server(
    laptop: Laptop, served: Served, house: House
) -> None:
    command, env = laptop.command("run", "shop", "slow", "--follow")
    following = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "one: running\n"
    job = Job.objects.get()
    house.kill(served.process, tree=True)
    served.process = house.start("server", "--port", str(served.port))
    until(served._answers, within_s=30, every_s=0.1)
    laptop.lines("cancel", str(job.pk))
    out, err = following.communicate(timeout=100)
    assert (following.returncode, out.splitlines()[-1]) == (1, str(job.pk)), err
    assert "slow: cancelled" in out


@pytest.mark.long
def test_ctrl_c_leaves_the_job_running(laptop: Laptop) -> None:
    command, env = laptop.command("run", "shop", "slow", "--follow")
    following = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "one: running\n"
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=30)
    job = Job.objects.get()
    assert (following.returncode, job.status) == (130, "running")
    assert out.splitlines()[-1] == str(job.pk)
    assert f"`stroem cancel {job.pk}` stops it" in err
    laptop.lines("cancel", str(job.pk))


@pytest.mark.long
def test_completion_knows_workspaces_tasks_and_jobs(laptop: Laptop) -> None:
    (job_id,) = laptop.lines("run", "shop", "asking")
    names = Workspace.objects.order_by("name").values_list("name", flat=True)  # of other tests, too
    assert "shop" in names and laptop.lines("completion", "--names", "workspaces") == [*names]
    assert "slow" in laptop.lines("completion", "--names", "tasks", "--workspace", "shop")
    assert laptop.lines("completion", "--names", "jobs") == [job_id]
    assert laptop.lines("completion", "--names", "profiles") == ["default"]


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:9"])
def test_a_server_that_is_not_there_is_named(tmp_path: Path, url: str) -> None:
    env = {"STROEM_URL": url, "STROEM_TOKEN": "strm_" + "0" * 64}
    said = Laptop(tmp_path, env).complaint("jobs")
    assert said.startswith(f"error: {url} cannot be reached: ")
    assert len(said.splitlines()) == 1


@pytest.mark.long
def test_files_of_a_job_are_listed_and_downloaded_by_both_programs(
    house: House, laptop: Laptop, tmp_path: Path
) -> None:
    job = start(Workspace.objects.get(name="shop"), "asking")
    data = os.urandom(700_000)
    shelve(job, "gate", {"dir/data.bin": data, "a.txt": b"text"})
    Artifact.objects.filter(job_id=job.pk, name="dir/data.bin").update(is_program=True)
    listed = same(house, laptop, "artifacts", str(job.pk))
    assert listed[1].split()[:3] == ["dir/data.bin", "gate", "application/octet-stream"]
    assert json.loads(same(house, laptop, "artifacts", str(job.pk), "--json")[1])["size_bytes"] == 4
    for program in (laptop.lines, lambda *words: same(house, laptop, *words)):
        target = tmp_path / "target"
        program("artifacts", str(job.pk), "dir/data.bin", "-o", str(target))
        assert target.read_bytes() == data and os.access(target, os.X_OK)
    laptop.lines("artifacts", str(job.pk), "--all", "-o", str(tmp_path / "all"))
    assert (tmp_path / "all" / "gate" / "dir" / "data.bin").read_bytes() == data
    assert not os.access(tmp_path / "all" / "gate" / "a.txt", os.X_OK)
    said = laptop.complaint("artifacts", str(job.pk), "dir/data.bni")
    assert "has no artifact 'dir/data.bni'" in said and "did you mean 'dir/data.bin'?" in said


@pytest.mark.long
def test_a_download_that_breaks_off_goes_on_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    """A server that sends a third of what is left each time."""
    data, asked = os.urandom(30_000), list[str | None]()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.headers["Range"])
            first = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.send_response(206 if first else 200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            self.wfile.write(data[first:] if len(asked) > 2 else data[first : first + 10_000])

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        profile = Profile(f"http://127.0.0.1:{server.server_port}", "key")
        found = b"".join(Server(profile).pieces("jobs", "1", "artifacts", "a"))
        server.shutdown()
    assert found == data
    assert asked == [None, "bytes=10000-", "bytes=20000-"]
