"""With `run_as`, the worker is root where its steps' directories are another user's. A step that
puts links there while the worker acts makes it read, change and remove nothing outside of them."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from engine.errors import PlatformError, StroemError
from engine.orders import StepOrder, StepOutcome, Verdict
from runners.host.dependencies import EnvironmentCache, Recipe
from runners.host.environment import User, act_as, find_user
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.test_local import find_python_for_all
from tests.workers.fakes import FakeLedger, FakeRunner, claim, material
from tests.workers.tarballs import tarball
from workers.attempts import Attempt
from workers.disk import WorkerDirectory
from workers.execution import Execution, Pins
from workers.outputs import MARK, Outputs
from workers.reporting import LogPump
from workers.scratch import Scratches
from workers.users import Users
from workers.workspace import Workspaces

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
ROUNDS = [pytest.param(25, id="quick"), pytest.param(1000, id="long", marks=pytest.mark.slow)]
JOB = UUID(int=1)
DIGEST = "cd" * 32
FILES = {"flow.sh": "echo hi\r\n", "data/deep/er/x.csv": "1,2\n", "data/y": "y", "bin/run.sh": "z"}
KEY = "the-key-of-somebody-else"
# read, write, attributes, open, moves, create, delete, the thing itself
ANY_TOUCH = 0x1 | 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
LIBC = ctypes.CDLL(None, use_errno=True)


class Outside:
    """What is not the step's: a private directory with a key, and an open one. The kernel reports
    whatever happens there."""

    def __init__(self, root: Path) -> None:
        self.closed, self.open = root / "closed", root / "open"
        self.key = self.closed / "key"
        for folder, mode in ((self.closed, 0o700), (self.open, 0o755)):
            folder.mkdir()
            (folder / "er").mkdir()
            (folder / "key").write_text(KEY)
            (folder / "key").chmod(0o600)
            (folder / "er" / "key").write_text(KEY)
            folder.chmod(mode)
        self.before = self.describe()
        self._fd = LIBC.inotify_init1(os.O_NONBLOCK)
        for path in (self.closed, self.open, *self.closed.rglob("*"), *self.open.rglob("*")):
            assert LIBC.inotify_add_watch(self._fd, os.fsencode(path), ANY_TOUCH) > 0

    def describe(self) -> list[tuple[object, ...]]:
        found = []
        for path in sorted((*self.closed.rglob("*"), *self.open.rglob("*"))):
            at = path.lstat()
            text = path.read_text() if path.is_file() else ""
            found.append((path, at.st_mode, at.st_uid, at.st_gid, at.st_mtime_ns, text))
        return found

    def check(self) -> None:
        with pytest.raises(BlockingIOError):  # no event at all
            raise AssertionError(f"the worker touched it: {os.read(self._fd, 4096)!r}")
        assert self.describe() == self.before
        with suppress(BlockingIOError):
            os.read(self._fd, 1 << 20)  # our own look


class Racers:
    """Two processes of the step's user: one is always at it, one waits for the worker."""

    def __init__(self, program: Path, opened: ExitStack, user: User) -> None:
        self._processes = [
            opened.enter_context(
                subprocess.Popen(
                    [find_python_for_all(), str(program), kind],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd="/",
                    user=user.uid,
                    group=user.gid,
                    extra_groups=user.groups,
                )
            )
            for kind in ("watch", "always")
        ]
        opened.callback(lambda: [process.kill() for process in self._processes])

    def attack(self, paths: list[Path], to: Path, make: tuple[Path, ...] = ()) -> None:
        """Return once both are at it; `make` are directories to spoil first."""
        for process in self._processes:
            order = {"swap": list(map(str, paths)), "to": str(to), "make": list(map(str, make))}
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"ready\n"
            make = ()

    def rest(self) -> None:
        self.attack([], Path("/"))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stroem-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def user() -> User:
    return find_user("nobody")


@pytest.fixture
def outside(place: Path) -> Outside:
    (place / "outside").mkdir()
    return Outside(place / "outside")


@pytest.fixture
def racers(place: Path, user: User) -> Iterator[Racers]:
    program = place / "racer.py"
    program.write_text(Path(__file__).with_name("racer.py").read_text())
    with ExitStack() as opened:
        yield Racers(program, opened, user)


@pytest.fixture
def directory(place: Path) -> Iterator[WorkerDirectory]:
    made = WorkerDirectory(place / "cache", is_shared=True)
    yield made
    made.close()


def targets(outside: Outside, number: int) -> Path:
    return (outside.closed, outside.key, outside.open)[number % 3]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_tidying_a_working_tree(
    place: Path,
    directory: WorkerDirectory,
    outside: Outside,
    racers: Racers,
    user: User,
    rounds: int,
) -> None:
    workspaces = Workspaces(directory, lambda _: tarball(FILES))
    for number in range(rounds):
        tree = workspaces.take(1, DIGEST, user.owner)
        names = ("data", "data/deep", "data/deep/er", "flow.sh", "junk", "junk/a", "closed", "bin")
        racers.attack([tree.path / name for name in names], targets(outside, number), (tree.path,))
        workspaces.give_back(DIGEST, tree)
        racers.rest()
    outside.check()
    assert workspaces.healed + workspaces.discarded == rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_emptying_a_scratch_directory(
    directory: WorkerDirectory, outside: Outside, racers: Racers, user: User, rounds: int
) -> None:
    scratches = Scratches(directory)
    for number in range(rounds):
        scratch = scratches.open(b'{"a": %d}' % number, user.owner)
        names = ("input.json", "junk", "junk/a", "closed", "closed/a")
        racers.attack(
            [scratch.path / name for name in names], targets(outside, number), (scratch.path,)
        )
        scratches.close(scratch)
        with suppress(OSError):  # its input may have been replaced; that is the step's own loss
            scratches.close(scratches.open(b'{"b": 1}', user.owner))
        racers.rest()
    outside.check()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_making_an_output_directory(
    place: Path, outside: Outside, racers: Racers, user: User, rounds: int
) -> None:
    mine = place / "mine"
    mine.mkdir()
    os.chown(mine, user.uid, user.gid)
    for number in range(rounds):
        outputs = Outputs(place / "output", user)
        folder = mine / str(number)
        inner = folder / "junk" / "a"
        target = (outside.closed, outside.key)[number % 2]  # the open one is open to the user, too
        racers.attack([folder, inner, inner / MARK], target, (folder,))
        with suppress(StroemError):
            outputs.offer(JOB, outputs.open(str(inner / "new" / "b"), JOB))
        with suppress(StroemError):
            outputs.offer(JOB, outputs.open(str(inner), JOB))
            outputs.adopt(JOB, str(inner))
        racers.rest()
    outside.check()
    assert [path for path in mine.rglob("*") if path.lstat().st_uid != user.uid] == []


@pytest.mark.parametrize("rounds", ROUNDS)
def test_taking_over_installed_dependencies(
    place: Path, outside: Outside, racers: Racers, user: User, rounds: int
) -> None:
    cache = EnvironmentCache(place / "environments", user)
    cache.prepare()
    for number in range(rounds):
        recipe = Recipe("python", ("t",), (str(number),), (), {"listed.txt": "x"})

        def install(folder: Path, number: int = number) -> None:
            names = ("junk", "junk/a", "junk/a/b/file", "closed", "listed.txt", ".ready")
            racers.attack([folder / name for name in names], targets(outside, number), (folder,))

        with suppress(StroemError, OSError), cache.hold(recipe, install, lambda _: None, print):
            pass
        racers.rest()
        cache.prune(0.0)
    outside.check()


@pytest.mark.parametrize("rounds", [pytest.param(10, id="quick"), ROUNDS[1]])
def test_the_files_that_start_a_step(
    place: Path,
    directory: WorkerDirectory,
    outside: Outside,
    racers: Racers,
    user: User,
    rounds: int,
) -> None:
    """Its source and its first line, its script, its directory: no line shows the key."""
    workspaces = Workspaces(directory, lambda _: tarball(FILES))
    scratches = Scratches(directory)
    runner = LocalRunner(LocalConfig(place / "environments", run_as=user.name))
    lines: list[str] = []
    for number in range(rounds):
        tree = workspaces.take(1, DIGEST, user.owner)
        scratch = scratches.open(b"{}", user.owner)
        source = {"source": "bin/run.sh"} if number % 2 else {}
        order = build_order(
            place, None if source else "cat input.json; echo \"$0\"", **source,
            workspace_dir=tree.path, is_open=False, workdir="data/deep",
        )  # fmt: skip
        order = replace(order, scratch_dir=scratch.path, input_path=scratch.input_path)
        raced = [tree.path / "bin", tree.path / "bin/run.sh", tree.path / "data/deep"]
        racers.attack([*raced, scratch.path / "step.sh"], targets(outside, number))
        log = Log()
        with suppress(StroemError):
            runner.run(order, log, Stop())
        racers.rest()
        lines += log.texts()
        scratches.close(scratch)
        workspaces.give_back(DIGEST, tree)
    assert KEY not in "\n".join(lines)
    assert outside.describe() == outside.before  # a shell of the step's may have looked at it


def test_a_step_enters_its_directory_as_its_user(place: Path, user: User) -> None:
    """Else it could read what lies open below a closed directory."""
    inner = place / "closed" / "inner"
    inner.mkdir(parents=True)
    (inner / "key").write_text(KEY)
    (place / "closed").chmod(0o700)
    runner = LocalRunner(LocalConfig(place / "environments", run_as=user.name))
    for code, chdir in (("cat key", inner), ("pwd", place)):
        log = Log()
        outcome = runner.run(build_order(place, code, chdir=chdir), log, Stop())
        assert KEY not in "\n".join(log.texts())
        assert (outcome.verdict is Verdict.SUCCEEDED) == (chdir == place)


def test_a_directory_that_its_author_named_is_made_as_the_user(place: Path, user: User) -> None:
    outputs = Outputs(place / "output", user)
    with pytest.raises(PlatformError, match=r"Permission denied.*\(as the user nobody\)"):
        outputs.open(str(place / "etc" / "new"), JOB)
    assert not (place / "etc").exists()
    made = outputs.open("", JOB)
    assert (made.stat().st_uid, (place / "output").stat().st_uid) == (user.uid, 0)


def test_a_link_in_the_place_of_an_output_directory_is_left_alone(place: Path, user: User) -> None:
    (place / "output").mkdir()
    os.chown(place / "output", user.uid, user.gid)  # as earlier versions did
    (place / "closed").mkdir(mode=0o700)
    (place / "output" / str(JOB)).symlink_to(place / "closed")
    with suppress(PlatformError):
        Outputs(place / "output", user).open("", JOB)
    assert (place / "closed").stat().st_uid == 0


def test_what_an_installer_left_is_not_ready(place: Path, user: User) -> None:
    """The worker was killed while it ran: only the worker's own mark counts."""
    cache = EnvironmentCache(place / "environments", user)
    cache.prepare()
    recipe = Recipe("python", ("t",), ("x",), ())
    left = place / "environments" / f"environments-{user.name}" / recipe.key
    left.mkdir()
    (left / ".ready").write_text("")
    for path in (left, left / ".ready"):
        os.chown(path, user.uid, user.gid)
    installed: list[Path] = []
    with cache.hold(recipe, installed.append, lambda _: None, print):
        assert installed == [left]
    with cache.hold(recipe, installed.append, lambda _: None, print):
        assert installed == [left]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, place: Path) -> Callable[[str], User]:
    """Users that nothing else on this machine runs as: what runs as them is killed."""
    numbers: dict[str, int] = {}
    base = 1_000_000 + secrets.randbelow(1_000_000_000)

    def find(name: str) -> User:
        number = base + numbers.setdefault(name, len(numbers))
        gid = base if name != "stranger" else base + 1
        return User(name, number, gid, (gid,), "/", "/bin/sh")

    monkeypatch.setattr("workers.users.find_user", find)
    monkeypatch.setattr("workers.users.LOCKS", place)
    return find


def start(user: User, command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command}; echo ready; sleep 300"],
        stdout=subprocess.PIPE, cwd="/", start_new_session=True, env={},
        user=user.uid, group=user.gid, extra_groups=(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_what_runs_as_the_user_of_a_slot_ends_with_its_step(made_up: Callable[[str], User]) -> None:
    users = Users(("step1", "step2"))
    mine, other = users.take(is_local=True), users.take(is_local=True)
    assert mine and other and mine.uid != other.uid
    with pytest.raises(PlatformError, match="in use"):
        users.take(is_local=True)
    assert users.take(is_local=False) is None
    stubborn, neighbour = start(mine, "trap '' TERM HUP INT"), start(other, "true")
    users.end_all(mine)
    assert stubborn.wait(10) == -signal.SIGKILL and neighbour.poll() is None
    users.end_all(other)
    assert neighbour.wait(10) == -signal.SIGKILL
    users.give_back(mine)
    assert users.take(is_local=True) is mine
    users.close()


def test_the_users_of_slots_belong_to_one_worker(made_up: Callable[[str], User]) -> None:
    users = Users(("step1", "step2"))
    with pytest.raises(PlatformError, match="another worker of this host runs steps as step2"):
        Users(("step2", "step3"))
    users.close()
    Users(("step2", "step3")).close()
    with pytest.raises(PlatformError, match="same primary group"):
        Users(("step1", "stranger"))


def test_a_slot_sees_nothing_of_another_but_the_jobs_output(
    made_up: Callable[[str], User], place: Path, directory: WorkerDirectory
) -> None:
    mine, other = made_up("step1"), made_up("step2")
    workspaces = Workspaces(directory, lambda _: tarball(FILES), mode=0o700)
    scratches = Scratches(directory)
    trees = [workspaces.take(1, DIGEST, user.owner) for user in (mine, other)]
    kept = [scratches.open(b"{}", user.owner) for user in (mine, other)]
    for user, tree, scratch in zip((mine, other), trees, kept, strict=True):
        act_as(user, "sh", "-c", f"cat {scratch.input_path} {tree.path}/data/y; ls {tree.path}")
    for file in (trees[0].path / "data/y", trees[0].path / "flow.sh", kept[0].input_path):
        with pytest.raises(OSError, match="Permission denied"):
            act_as(other, "cat", str(file))
    for tree, scratch in zip(trees, kept, strict=True):
        scratches.close(scratch)
        workspaces.give_back(DIGEST, tree)
    assert workspaces.take(1, DIGEST, other.owner) is trees[1]
    assert scratches.open(b"{}", mine.owner) is kept[0]
    mine_too = made_up("actions")
    (place / "named").mkdir()
    os.chown(place / "named", mine.uid, mine.gid)
    (place / "named").chmod(0o770)
    for named in ("", str(place / "named" / "new")):
        output = Outputs(place / "output", mine_too, is_for_group=True).open(named, JOB)
        act_as(mine, "sh", "-c", f"umask 022; echo hi > {output}/file")
        assert act_as(other, "sh", "-c", f"cat {output}/file; touch {output}/mine") == "hi\n"
        assert output.stat().st_mode & 0o7777 == 0o2770


def test_steps_at_the_same_time_run_as_different_users_and_leave_nothing(
    made_up: Callable[[str], User], directory: WorkerDirectory
) -> None:
    ledger = FakeLedger()
    left: list[subprocess.Popen[bytes]] = []
    ledger.material_of = lambda _: material()

    def leave_a_process(order: StepOrder, _lines: object, _stop: object) -> StepOutcome:
        assert order.run_as
        user = made_up(order.run_as)
        left.append(start(user, f"test -O {order.scratch_dir} && test -O {order.input_path}"))
        for path in (order.scratch_dir, order.work.workspace_dir):  # type: ignore[union-attr]
            assert path is not None
            found = path.stat()
            assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*user.owner, 0o700)
        return StepOutcome(Verdict.SUCCEEDED, 0)

    runner = FakeRunner(leave_a_process)
    execution = Execution(
        ledger,  # type: ignore[arg-type]
        Workspaces(directory, lambda _: tarball(FILES), mode=0o700),
        Scratches(directory),
        LogPump(ledger.append, ledger.released),
        lambda action: runner,
        Pins(None, lambda *_: ""),
        stop_grace_s=1.0,
        users=Users(("step1", "step2")),
    )
    for _ in range(2):
        attempts = [Attempt(claim(number), 0.0) for number in (1, 2)]
        performed = [execution.perform(attempt) for attempt in attempts]
        assert {order.run_as for order in runner.orders[-2:]} == {"step1", "step2"}
        assert all(process.poll() is None for process in left[-2:])
        for attempt, one in zip(attempts, performed, strict=True):
            execution.tidy(attempt, one)
        assert [process.wait(10) for process in left] == [-signal.SIGKILL] * len(left)
    assert len({order.scratch_dir for order in runner.orders}) == 2
