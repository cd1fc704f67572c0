"""With `run_as`, the worker is root where its steps' directories are another user's. A step that
puts links there while the worker acts makes it read, change and remove nothing outside of them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from engine.errors import PlatformError, StroemError
from engine.orders import Verdict
from runners.host.dependencies import EnvironmentCache, Recipe
from runners.host.environment import User, find_user
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.test_local import find_python_for_all
from tests.workers.tarballs import tarball
from workers.disk import WorkerDirectory
from workers.outputs import MARK, Outputs
from workers.trees import Scratches, Workspaces

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


@pytest.mark.long
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


def test_a_program_that_an_author_chose_is_never_run_as_root(place: Path, user: User) -> None:
    """A compiler is asked for its version before the step starts."""
    seen = place / "seen"
    seen.mkdir(mode=0o777)
    seen.chmod(0o777)
    program = place / "go"
    program.write_text(f"#!/bin/sh\nid -u >> {seen}/ids\n")
    program.chmod(0o755)
    runner = LocalRunner(LocalConfig(place / "environments", run_as=user.name))
    for dependencies in ((), ("example.org/x",)):
        with suppress(StroemError):
            runner.run(
                build_order(
                    place, "package main", language="go", interpreter=str(program),
                    dependencies=dependencies,
                ),
                Log(), Stop(),
            )  # fmt: skip
    assert set((seen / "ids").read_text().split()) == {str(user.uid)}


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
