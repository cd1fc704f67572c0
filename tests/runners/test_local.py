"""The local runner keeps the contract of all runners, and some promises of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import PlatformError
from engine.orders import ImageWork, Verdict
from runners.base import Runner
from runners.guard import offspring, strays
from runners.guard.guard import Guard
from runners.host.environment import find_shell
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Leftovers, Log, Run, RunnerContract, Stop, build_order


@pytest.fixture(scope="module")
def guard():
    guard = Guard(lease_s=600, margin_s=8)
    guard.start()
    yield guard
    guard.close()


class TestLocalRunner(RunnerContract):
    @pytest.fixture
    def runner(self, guard: Guard, tmp_path) -> Runner:
        return LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)

    @pytest.fixture
    def leftovers(self) -> Leftovers:
        return lambda attempt: [
            str(strays.read_process(pid)) for pid in strays.Hunt(attempt=attempt).look()
        ]


# What only a process of this host can be asked.


@pytest.fixture
def runner(guard, tmp_path):
    return LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)


@pytest.fixture
def finish(runner, tmp_path):
    def run(code: str | None = None, **fields):
        log = Log()
        return runner.run(build_order(tmp_path, code, **fields), log, Stop()), log

    return run


def test_a_step_whose_exit_code_nobody_knows_is_no_success(finish, monkeypatch):
    real = offspring.reap

    def reap(process):
        os.waitpid(process.pid, 0)  # as another part of the process, or the system itself
        return real(process)

    monkeypatch.setattr(offspring, "reap", reap)
    with pytest.raises(PlatformError, match=r"exit code .* is not known: .* SIGCHLD"):
        finish("exit 3")


def test_a_step_inherits_no_open_file_of_the_worker(finish, tmp_path):
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        _, log = finish("ls -l /proc/self/fd; cat <&0 | wc -c")
    assert "secret" not in "\n".join(log.texts())
    assert "/dev/null" in "\n".join(log.texts())
    assert log.texts()[-1].strip() == "0"


def test_the_attempts_directory_is_tmpdir_and_its_script_is_the_users_alone(finish):
    outcome, log = finish('cd "$TMPDIR" && stat -c %a . step.sh', is_open=False)
    assert outcome.error is None
    assert log.texts() == ["700", "600"]


@pytest.mark.parametrize(
    ("own", "asked", "modes"),
    [
        (0o002, None, ["664", "775", "775"]),
        (0o022, None, ["644", "755", "755"]),
        (0o022, 0o027, ["640", "750", "750"]),
        (0o077, 0o002, ["664", "775", "775"]),
    ],
)
def test_files_of_a_step_follow_the_workers_umask_or_the_steps_own(finish, own, asked, modes):
    before = os.umask(own)
    try:
        _, log = finish(
            "echo > file; mkdir folder; echo > tool; chmod +x tool; stat -c %a file folder tool",
            umask=asked,
        )
    finally:
        os.umask(before)
    assert log.texts() == modes


SHELL_SCRIPTS = {
    "arguments": 'echo "$#" "$2"; printf "%s|" "$@"; exit 3',
    "lines and a here-document": (
        "set -eu\nname=Ada\ncat <<END\nHello $name\nEND\nfalse\necho never\n"
    ),
    "functions and traps": (
        "trap 'echo bye' EXIT\nsay() { echo \"$1\"; return 4; }\nsay one || say two\n"
    ),
    "a last command that a signal ends": "echo begun; sh -c 'kill -9 $$'",
    "a last command of its own": "cd /; exec pwd",
    "output": "echo 'OUTPUT: {\"a\": [1, 2]}'",
    "input": "cat; read line || echo nothing to read",
    "a filter": "exec > >(sed s/a/b/); echo a",
    "nothing": "",
    "a comment": "# true",
    "an option": "-x",
    "quotes": """echo 'it'"'"'s' "$(printf '%s' "a b")" `echo c`""",
    "not ascii": "echo é",
}


@pytest.mark.parametrize("code", SHELL_SCRIPTS.values(), ids=SHELL_SCRIPTS)
def test_an_open_script_does_what_it_does_out_of_a_file(finish, code):
    found = [finish(code, is_open=is_open, args=("a", "b c")) for is_open in (True, False)]
    (one, open_log), (other, file_log) = found
    assert (one.verdict, one.exit_code, one.output) == (
        other.verdict,
        other.exit_code,
        other.output,
    )
    assert open_log.texts("stdout") == file_log.texts("stdout")


def test_only_an_open_short_script_is_seen_in_process_lists(finish):
    look = "tr '\\0' ' ' < /proc/$$/cmdline; : canary"
    assert "canary" in finish(look)[1].texts()[0]
    for code, is_open in ((look, False), (f"{look}; : {'x' * 20_000}", True)):
        assert "canary" not in "\n".join(finish(code, is_open=is_open)[1].texts())


def test_a_shells_complaint_names_the_line_and_no_path_of_ours(finish):
    _, log = finish("true\nno-such-program")
    assert log.texts("stderr") == ["bash: line 2: no-such-program: command not found"]


def test_a_step_leads_a_session_of_its_own(finish):
    _, log = finish("ps -o sid= -p $$; echo $$")
    assert log.texts()[0].strip() == log.texts()[1]


def test_text_has_a_character_set_even_when_the_worker_names_none(tmp_path, monkeypatch):
    for name in ("LANG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    runner, log = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache")), Log()
    runner.run(build_order(tmp_path, "locale charmap"), log, Stop())
    assert log.texts() == ["UTF-8"]


@pytest.mark.parametrize(
    ("own", "seen"), [("/bin/zsh", "/bin/zsh"), (None, find_shell(os.getuid()))]
)
def test_shell_is_the_workers_own_or_that_of_its_user(tmp_path, monkeypatch, own, seen):
    monkeypatch.delenv("SHELL", raising=False)
    if own is not None:
        monkeypatch.setenv("SHELL", own)
    runner, log = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache")), Log()
    runner.run(build_order(tmp_path, "printenv SHELL"), log, Stop())
    assert log.texts() == [seen]


@pytest.mark.parametrize(
    ("entry", "found"),
    [("/bin/bash", "/bin/bash"), ("/usr/sbin/nologin", "/bin/sh"), ("", "/bin/sh")],
)
def test_a_user_without_a_shell_to_work_with_has_the_plain_one(monkeypatch, entry, found):
    one = pwd.struct_passwd(("svc", "x", 900, 900, "", "/srv", entry))
    monkeypatch.setattr(pwd, "getpwuid", {900: one}.__getitem__)
    assert (find_shell(900), find_shell(901)) == (found, "/bin/sh")


def test_git_does_not_take_a_repository_around_the_steps_files_for_theirs(finish, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    outcome, log = finish("mkdir -p a/b && cd a/b && ! git rev-parse --show-toplevel", env={})
    assert (outcome.verdict, str(tmp_path) in "".join(log.texts())) == (Verdict.SUCCEEDED, False)
    outcome, _ = finish("git init -q . && mkdir a && cd a && git status")
    assert outcome.verdict is Verdict.SUCCEEDED


def test_an_operator_may_let_more_of_the_workers_environment_through(tmp_path, monkeypatch):
    monkeypatch.setenv("SITE", "north")
    runner, log = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache", pass_env=("SITE",))), Log()
    runner.run(build_order(tmp_path, "echo $SITE"), log, Stop())
    assert log.texts() == ["north"]


def test_an_author_cannot_take_the_marks_away(finish):
    _, log = finish(
        "echo $STROEM_MARK $STROEM_KEEPER", env={"STROEM_MARK": "x", "STROEM_KEEPER": "y"}
    )
    attempt, keeper = log.texts()[0].split()
    assert attempt != "x"
    assert keeper != "y"


def test_what_a_filter_at_the_scripts_end_still_says_is_kept(finish):
    outcome, log = finish(
        'exec > >(while read -r line; do sleep 0.1; echo "seen $line"; done); echo a; echo b'
    )
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["seen a", "seen b"]


def test_a_process_left_behind_is_ended_and_mentioned(finish):
    began = time.monotonic()
    outcome, log = finish("setsid sleep 300 >/dev/null 2>&1 & sleep 0.3; echo done")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert any("left running" in line.text for line in log.lines)
    assert time.monotonic() - began < 3


def test_a_daemon_with_a_cleaned_environment_ends_with_its_step(start_step, tmp_path):
    # Without mark, group or session, but still below the script: found as a descendant.
    run = start_step(
        "env -i setsid sh -c 'trap \"\" TERM; echo pid $$; sleep 300' & wait", stop_grace_s=0.5
    )
    run.log.wait_for("pid ")
    pid = int(run.log.texts()[0].split()[1])
    run.stop.set("cancel")
    run.outcome()
    process = strays.read_process(pid)
    assert process is None or process.state in "ZX"


@pytest.fixture
def start_step(runner, tmp_path):
    with ThreadPoolExecutor(4) as pool:

        def begin(code: str, **fields):
            order, log, stop = build_order(tmp_path, code, **fields), Log(), Stop()
            return Run(order, log, stop, pool.submit(runner.run, order, log, stop))

        yield begin


def test_no_zombie_is_left_of_what_steps_left_behind(finish):
    for _ in range(3):
        finish("(setsid sh -c 'exit 0' &) ; (sleep 0.05 &) ; exit 0")
    finish("sleep 0.2")
    mine = [
        process
        for process in strays.list_processes()
        if process.ppid == os.getpid() and process.state == "Z"
    ]
    assert mine == []


def test_nothing_accumulates_in_the_worker_over_many_steps(finish):
    finish("true")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(50):
        finish("true")
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"args": ("a\0b",)}, "NUL"),
        ({"env": {"VALUE": "a\0b"}}, "NUL"),
        ({"args": ("\ud800",)}, "surrogate"),
        ({"args": ("x" * 200_000,)}, "too long"),
        ({"workdir": "nowhere"}, "nowhere"),
        ({"workdir": "../.."}, "outside"),
        ({"workdir": "/etc"}, "outside"),
        ({"interpreter": "./missing"}, "missing"),
        ({"interpreter": "'"}, "interpreter"),
    ],
)
def test_a_step_that_cannot_be_started_fails_with_one_sentence(finish, fields, words):
    outcome, log = finish("true", **fields)
    assert outcome.verdict is Verdict.FAILED
    assert words in outcome.error
    assert "\n" not in outcome.error
    assert log.lines == []


def test_a_source_that_is_no_program_is_run_by_the_shell(finish, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, mode in (("plain.sh", 0o644), ("no-shebang.sh", 0o755)):
        (tree / name).write_text("echo ran $1\n")
        (tree / name).chmod(mode)
        assert finish(source=name, args=("it",), workspace_dir=tree)[1].texts() == ["ran it"]


def test_a_source_that_leads_out_of_the_workspace_by_a_link_is_refused(finish, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "outside.sh").write_text("echo outside\n")
    (tree / "link.sh").symlink_to(tmp_path / "outside.sh")
    assert "outside the workspace" in finish(source="link.sh", workspace_dir=tree)[0].error


def test_secrets_in_a_script_are_in_no_argument_list_on_the_host(start_step):
    run = start_step(
        ": canary-in-script; echo ready; sleep 300", env={"TOKEN": "canary-in-env"}, is_open=False
    )
    run.log.wait_for("ready")
    lines = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for pid in strays.Hunt(attempt=run.order.attempt).look()
    ]
    assert lines
    assert not any(b"canary" in line for line in lines)
    run.stop.set()


def test_a_flood_is_read_at_the_pace_of_its_reader(runner, tmp_path):
    seen = []

    def slow(line) -> None:
        seen.append(line)
        if len(seen) < 50:
            time.sleep(0.01)

    order = build_order(tmp_path, "yes | head -n 2000")
    assert runner.run(order, slow, Stop()).verdict is Verdict.SUCCEEDED
    assert len(seen) == 2000


def test_a_flood_can_be_cancelled(start_step):
    run = start_step("yes")
    run.log.wait_for("y")
    asked = time.monotonic()
    run.stop.set("cancel")
    assert run.outcome().verdict is Verdict.CANCELLED
    assert time.monotonic() - asked < 5


def test_a_sink_that_breaks_does_not_leave_the_step_running(runner, tmp_path):
    def broken(line) -> None:
        raise OSError("the sink broke")

    order = build_order(tmp_path, "trap '' TERM; while :; do echo x; sleep 0.05; done")
    with pytest.raises(OSError, match="the sink broke"):
        runner.run(order, broken, Stop())
    assert strays.Hunt(attempt=order.attempt).look() == set()


def test_a_scratch_directory_that_cannot_be_written_is_the_platforms_fault_and_named(
    runner, tmp_path
):
    order = build_order(tmp_path, "true", is_open=False)
    order.scratch_dir.rmdir()
    with pytest.raises(PlatformError, match=str(order.scratch_dir)):
        runner.run(order, Log(), Stop())


def test_an_image_is_no_order_for_this_runner(runner, tmp_path):
    with pytest.raises(PlatformError, match="image"):
        runner.run(build_order(tmp_path, work=ImageWork("alpine")), Log(), Stop())


def test_processes_are_listed_the_same_way_without_proc():
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        by_ps = {entry.pid: entry for entry in strays._list_by_ps()}
        entry = strays.read_process(process.pid)
        assert by_ps[process.pid][:3] == entry[:3]
        process.kill()


# Other users. As root these tests become one; without root they check what a worker without root
# can promise.


AS_NOBODY = (
    {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    if os.geteuid() == 0
    else {}
)


def test_other_processes_of_its_user_cannot_read_a_hardened_worker(open_folder):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from runners.host.environment import harden; import"
        " subprocess, os\nif sys.argv[2] == 'hard': harden()\ncode = f'cat"
        " /proc/{os.getpid()}/environ; cat /proc/{os.getpid()}/maps; ls -l"
        " /proc/{os.getpid()}/fd/'\nrun = subprocess.run(['sh', '-c', code], capture_output=True,"
        " env={'PATH': os.environ['PATH']})\nprint(run.stdout.decode())"
    )
    root = Path(__file__).resolve().parents[2]
    for package in ("engine", "runners"):
        shutil.copytree(
            root / package, open_folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    python = find_python_for_all() if AS_NOBODY else sys.executable
    seen = {}
    for kind in ("hard", "soft"):
        answer = subprocess.run(
            [python, "-c", program, str(open_folder), kind],
            **AS_NOBODY,
            env={"PATH": os.environ["PATH"], "STROEM__DB__URL": "canary"},
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        seen[kind] = answer.stdout
    assert "canary" in seen["soft"]
    assert seen["hard"].strip() == ""


def find_python_for_all() -> str:
    """A Python that every user may start; the one of the tests may lie in root's own folder."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            command = [python, "-c", "from enum import StrEnum"]
            if (
                subprocess.run(
                    command, **AS_NOBODY, capture_output=True, cwd="/", check=False
                ).returncode
                == 0
            ):
                return python
    pytest.fail("no Python 3.11 that every user may start")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
class TestAnotherUser:
    @pytest.fixture
    def finish(self, guard, open_folder):
        runner = LocalRunner(LocalConfig(cache_dir=open_folder / "cache", run_as="nobody"), guard)

        def run(code: str | None = None, **fields):
            log = Log()
            return runner.run(build_order(open_folder, code, **fields), log, Stop()), log

        return run

    def test_a_step_runs_as_the_user_and_writes_to_its_own_directory(self, finish):
        outcome, log = finish(
            'id -un; echo "$USER $SHELL"; touch "$TMPDIR/mine" && stat -c "%U %a" "$TMPDIR"'
            ' "$TMPDIR/mine"',
            umask=0o077,
        )
        assert outcome.error is None
        assert log.texts() == ["nobody", "nobody /bin/sh", "nobody 700", "nobody 600"]

    def test_a_step_cannot_read_what_is_the_workers_alone(self, finish, open_folder):
        secret = open_folder / "worker-config.yaml"
        secret.write_text("canary")
        secret.chmod(0o600)
        outcome, log = finish(f"cat {secret} /proc/{os.getpid()}/environ")
        assert outcome.verdict is Verdict.FAILED
        assert log.texts("stdout") == []

    def test_a_step_has_none_of_the_workers_groups(self, finish):
        _, log = finish("id -G")
        assert "0" not in log.texts()[0].split()

    def test_a_stop_reaches_the_user_too(self, guard, open_folder):
        runner = LocalRunner(LocalConfig(cache_dir=open_folder / "cache"), guard)
        order, log, stop = (
            build_order(open_folder, "setsid sleep 300 & echo ready; wait", run_as="nobody"),
            Log(),
            Stop(),
        )
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(runner.run, order, log, stop)
            log.wait_for("ready")
            stop.set("cancel")
            assert future.result(10).verdict is Verdict.CANCELLED
        assert strays.Hunt(attempt=order.attempt).look() == set()

    def test_installed_dependencies_are_the_workers_and_no_step_can_change_them(
        self, finish, wheels
    ):
        python = find_python_for_all()
        code = (
            "import stroem_greet, os\n"
            "try: open(stroem_greet.__file__, 'a')\n"
            "except PermissionError: print(f'OUTPUT: \"{stroem_greet.VERSION}\"')"
        )
        for _ in range(2):
            outcome, _ = finish(
                code, language="python", interpreter=python, dependencies=("stroem-greet",)
            )
            assert outcome.error is None
            assert outcome.output == "2.0"

    def test_a_user_that_does_not_exist_is_one_sentence(self, open_folder):
        runner = LocalRunner(LocalConfig(cache_dir=open_folder / "cache", run_as="no-such-user"))
        with pytest.raises(PlatformError, match="no-such-user"):
            runner.run(build_order(open_folder, "true"), Log(), Stop())


@pytest.mark.parametrize("name", ["script", "script.sh"])
@pytest.mark.parametrize("is_program", [True, False])
def test_a_script_runs_by_the_program_of_its_first_line(finish, tmp_path, name, is_program):
    tree = tmp_path / "tree"
    tree.mkdir()
    code = "#!/usr/bin/env python3\nimport sys\nprint('OUTPUT:', sys.argv[1:].__len__())\n"
    (tree / name).write_text(code)
    (tree / name).chmod(0o755 if is_program else 0o644)
    outcome, _ = finish(source=name, args=("a", "b"), workspace_dir=tree)
    assert (outcome.error, outcome.output) == (None, 2)
    assert finish(code, args=("a",))[0].output == 1


def test_options_in_the_first_line_hold(finish, tmp_path):
    code = "#!/bin/bash -eu\nfalse\necho went on\n"
    assert finish(code)[0].verdict is Verdict.FAILED
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "strict").write_text(code)
    outcome, log = finish(source="strict", workspace_dir=tree)
    assert (outcome.verdict, log.texts()) == (Verdict.FAILED, [])


def test_a_program_that_is_none_of_ours_runs_its_script(finish):
    code = '#!/usr/bin/awk -f\nBEGIN { print "OUTPUT: 3" }\n'
    assert finish(code)[0].output == 3


def test_a_first_line_that_names_nothing_here_is_refused(finish):
    for line in ("#!/nowhere/bash", "#!/usr/bin/env nowhere9", "#!/usr/bin/env -S nowhere9 -x"):
        outcome, _ = finish(f"{line}\necho ran\n")
        assert outcome.verdict is Verdict.FAILED
        assert "the script's first line names" in outcome.error
        assert "nowhere" in outcome.error


def test_another_language_wins_over_the_first_line_and_says_so(finish):
    outcome, log = finish("#!/bin/bash\nprint('OUTPUT: 1')\n", language="python")
    assert outcome.output == 1
    assert log.texts("server") == [
        "The script's first line names /bin/bash, but its language is python, which runs it"
    ]


def test_dependencies_need_a_first_line_without_options(finish):
    code = "#!/usr/bin/env -S uv run --script\nprint()\n"
    outcome, _ = finish(code, language="python", dependencies=("six",))
    assert "uv run --script" in outcome.error


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"#!/bin/bash\r\n"])
def test_a_shell_script_saved_on_windows_runs_and_says_so(finish, tmp_path, head):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "work").mkdir()
    (tree / "saved.sh").write_bytes(head + b"set -e\r\ncd work\r\nfalse\r\necho went on\r\n")
    (tree / "saved.sh").chmod(0o755)
    (tree / "link").symlink_to("saved.sh")
    for source in ("saved.sh", "link"):
        (tree / "saved.sh").write_bytes(head + b"set -e\r\ncd work\r\nfalse\r\necho went on\r\n")
        outcome, log = finish(source=source, workspace_dir=tree)
        assert outcome.verdict is Verdict.FAILED
        assert log.texts() == []
        assert log.texts("server") == [
            f"{source} has Windows line ends (CR LF); the step runs it with LF"
        ]
    assert (tree / "saved.sh").stat().st_mode & 0o777 == 0o755
    assert (tree / "link").is_symlink()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b"\xef\xbb\xbfecho ran\n",
            "saved.sh begins with a byte order mark; the step runs it without",
        ),
        (
            "echo ran\n".encode("utf-16"),
            "saved.sh is UTF-16 text, which no shell reads; save it as UTF-8",
        ),
    ],
)
def test_a_shell_script_of_another_encoding_says_so(finish, tmp_path, data, says):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "saved.sh").write_bytes(data)
    outcome, log = finish(source="saved.sh", workspace_dir=tree)
    assert "".join([*log.texts("server"), outcome.error or ""]) == says
    assert log.texts() == (["ran"] if outcome.verdict is Verdict.SUCCEEDED else [])


def test_a_compiled_source_runs_and_keeps_its_bytes(finish, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy2(os.path.realpath(shutil.which("echo")), tree / "echo")
    before = (tree / "echo").read_bytes()
    assert finish(source="echo", args=("it runs",), workspace_dir=tree)[1].texts() == ["it runs"]
    assert (tree / "echo").read_bytes() == before


HIDERS = {
    "setsid": "env -i setsid sh -c '(trap \"\" TERM HUP; exec /bin/sleep {0}) &'",
    "twice forked": "(env -i nohup setsid sh -c '(/bin/sleep {0} &) &' > /dev/null 2>&1 &)",
    "held pipe": "setsid env -i sleep {0} &",
    "another user": "su - nobody -s /bin/sh -c '/bin/sleep {0} > /dev/null 2>&1 &'",
}


def find_sleepers(seconds: int) -> list[int]:
    wanted = [b"sleep", str(seconds).encode()]
    found = []
    for process in strays.list_processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[:2]
            if [words[0].rpartition(b"/")[2], *words[1:]] == wanted and strays.is_living(process):
                found.append(process.pid)
    return found


@pytest.fixture(params=["cgroup", "ancestry"])
def hiding(request, guard, tmp_path):
    """Runs code on a host with cgroups, and on one without."""
    if request.param == "cgroup" and guard.cells is None:
        pytest.skip("no cgroup v2 that this user may write to")
    cells = guard.cells
    guard.cells = cells if request.param == "cgroup" else None
    yield LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
    guard.cells = cells


@pytest.mark.parametrize("way", HIDERS)
def test_nothing_that_hides_outlives_its_step(hiding, tmp_path, way):
    if way == "another user" and os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    seconds = 40_000 + os.getpid() % 1000 * 10 + list(HIDERS).index(way)
    code, log = HIDERS[way].format(seconds), Log()
    wait = f"until ps -eo args= | grep -qE '^(/bin/)?sleep {seconds}$'; do sleep 0.01; done"
    outcome = hiding.run(build_order(tmp_path, f"{code}\n{wait}\necho started"), log, Stop())
    assert (outcome.verdict, log.texts()[-1]) == (Verdict.SUCCEEDED, "started")
    assert find_sleepers(seconds) == []
    assert "the step left running were ended" in log.texts("server")[-1]


@pytest.mark.parametrize("way", ["setsid", "twice forked"])
def test_nothing_that_hides_outlives_the_time_out_of_its_step(hiding, tmp_path, way):
    seconds = 50_000 + os.getpid() % 1000 * 10 + list(HIDERS).index(way)
    code = f"trap '' TERM\n{HIDERS[way].format(seconds)}\nwhile :; do sleep 1; done"
    order = build_order(tmp_path, code, timeout_s=1.0, stop_grace_s=0.2)
    assert hiding.run(order, Log(), Stop()).verdict is Verdict.TIMED_OUT
    assert find_sleepers(seconds) == []


def test_what_a_process_starts_before_it_has_its_cgroup_follows_it(runner, guard):
    if guard.cells is None:
        pytest.skip("no cgroup v2 that this user may write to")
    seconds = 70_000 + os.getpid() % 1000 * 10
    code = f"(setsid sleep {seconds} &)\nsleep {seconds} &\necho started\nwait"
    with subprocess.Popen(
        ["sh", "-c", code], stdout=subprocess.PIPE, env={}, start_new_session=True
    ) as process:
        try:
            process.stdout.readline()
            place = guard.cells.admit(process.pid)
            guard.cells.enclose(place)
            assert place.cell is not None
            while len(find_sleepers(seconds)) < 2:
                time.sleep(0.01)
            assert {process.pid, *find_sleepers(seconds)} <= strays.list_members(place.cell.path)
        finally:  # wherever they are
            strays.send(signal.SIGKILL, find_sleepers(seconds), (process.pid,))


def test_what_was_left_by_one_that_ended_before_the_next_started_is_ended(runner, guard, tmp_path):
    """The worker has not heard of its end yet: the sink holds the thread that would."""
    if guard.cells is None:
        pytest.skip("no cgroup v2 that this user may write to")
    seconds = 80_000 + os.getpid() % 1000 * 10
    was_read, may_go_on, texts = threading.Event(), threading.Event(), []

    def hold(line) -> None:
        texts.append(line.text)
        was_read.set()
        may_go_on.wait(60)

    code = f"echo $$; (env -i setsid sleep {seconds} > /dev/null 2>&1 &)"
    with ThreadPoolExecutor(1) as pool:
        try:
            run = pool.submit(runner.run, build_order(tmp_path, code), hold, Stop())
            assert was_read.wait(60)
            os.waitid(os.P_PID, int(texts[0]), os.WEXITED | os.WNOWAIT)
            while not find_sleepers(seconds):
                time.sleep(0.01)
            assert runner.run(build_order(tmp_path, "true"), Log(), Stop()).error is None
            assert find_sleepers(seconds), "the other has ended what is not its own"
            may_go_on.set()
            assert run.result(60).verdict is Verdict.SUCCEEDED
            assert find_sleepers(seconds) == []
        finally:
            may_go_on.set()
            strays.send(signal.SIGKILL, find_sleepers(seconds))


def test_nothing_that_hides_outlives_its_step_when_a_cgroup_was_removed(tmp_path):
    """By whoever cleans up on this host; the worker still holds it for the next step."""
    guard, seconds = Guard(lease_s=600, margin_s=8), 90_000 + os.getpid() % 1000 * 10
    guard.start()
    try:
        if guard.cells is None:
            pytest.skip("no cgroup v2 that this user may write to")
        runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
        assert runner.run(build_order(tmp_path, "sleep 0.1"), Log(), Stop()).error is None
        strays.remove_empty_cells(guard.cells.root)
        code = f"(env -i setsid sleep {seconds} > /dev/null 2>&1 &)"
        assert runner.run(build_order(tmp_path, code), Log(), Stop()).error is None
        assert find_sleepers(seconds) == []
    finally:
        strays.send(signal.SIGKILL, find_sleepers(seconds))
        guard.close()


def test_a_number_is_not_known_any_more_once_its_process_is_reaped(start_step):
    """While what it left is ended, another process may get the number."""
    code = "echo $$; (trap '' TERM; exec sleep 300) > /dev/null 2>&1 & sleep 0.2"
    run = start_step(code, stop_grace_s=2.0)
    while not run.log.texts():
        time.sleep(0.01)
    pid = int(run.log.texts()[0])
    assert pid in offspring.started
    while pid in offspring.started:
        assert not run.future.done(), "its number was known to the end"
        time.sleep(0.001)
    assert not run.future.done(), "what it left still runs"
    assert run.outcome().verdict is Verdict.SUCCEEDED


def test_an_orphan_of_one_of_two_steps_is_ended_with_the_last_of_them(guard, tmp_path, start_step):
    """Without cgroups nothing tells whose it is; no step ends what may be another's."""
    cells, guard.cells = guard.cells, None
    try:
        seconds = 60_000 + os.getpid() % 1000 * 10
        wait = f"until ps -eo args= | grep -qE '^(/bin/)?sleep {seconds}$'; do sleep 0.01; done"
        long = start_step("echo ready; sleep 300")
        long.log.wait_for("ready")
        hider = f"{HIDERS['setsid'].format(seconds)}\n{wait}"
        runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
        assert runner.run(build_order(tmp_path, hider), Log(), Stop()).error is None
        assert len(find_sleepers(seconds)) == 1
        long.stop.set()
        long.outcome()
        assert find_sleepers(seconds) == []
    finally:
        guard.cells = cells


def test_a_guard_that_was_replaced_is_no_orphan_of_a_step(tmp_path):
    """It is then a child of this process, without marks, in a session of its own."""
    guard = Guard(lease_s=600, margin_s=8)
    guard.start()
    cells = guard.cells
    try:
        for guard.cells in (cells, None):
            old = strays.identify(guard.pid)
            os.kill(guard.pid, signal.SIGKILL)
            while strays.is_alive(old):
                time.sleep(0.01)
            guard.beat()
            runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
            assert runner.run(build_order(tmp_path, "true"), Log(), Stop()).error is None
            assert strays.is_alive(strays.identify(guard.pid))
    finally:
        guard.close()
        guard.wait()


@pytest.mark.parametrize("has_cells", [True, False])
def test_a_child_of_the_worker_that_is_no_step_is_left_alone(runner, guard, tmp_path, has_cells):
    """A server, for example, in a session of its own and without marks."""
    cells, guard.cells = guard.cells, guard.cells if has_cells else None
    own = subprocess.Popen(["sleep", "300"], env={}, start_new_session=True)
    try:
        for code in ("true", "(setsid sleep 300 &)", "sleep 0.1"):
            assert runner.run(build_order(tmp_path, code), Log(), Stop()).error is None
        assert own.poll() is None
    finally:
        guard.cells = cells
        own.kill()
        own.wait()
