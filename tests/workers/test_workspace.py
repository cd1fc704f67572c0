"""Each step sees the pinned files, and nothing that another step did to them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from engine.errors import PlatformError
from tests.standalone.processes import eventually
from tests.workers.tarballs import linked_tarball, odd_tarball, tarball
from workers.archive import unpack
from workers.disk import WorkerDirectory, remove
from workers.trees import SHORT_LOOK, Scratches, Tree, Workspaces

FILES = {
    "flow.yaml": "a: 1\n",
    "bin/run.sh": "#!/bin/sh\necho hi\n",
    "data/deep/er/x.csv": "1,2\n",
    "empty/": "",
}
DIGEST = "ab" * 32


class Shelf:
    """Serves archives and counts how often."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.archives: dict[int, bytes] = {}
        self.default = tarball(FILES, {"bin/run.sh": 0o777})

    def __call__(self, revision_id: int) -> bytes:
        self.calls.append(revision_id)
        return self.archives.get(revision_id, self.default)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def workspaces(tmp_path, shelf):
    directory = WorkerDirectory(tmp_path / "cache", is_shared=False)
    yield Workspaces(directory, shelf, max_retained=2)
    directory.close()


@pytest.fixture
def scratches(tmp_path):
    directory = WorkerDirectory(tmp_path / "cache", is_shared=False)
    yield Scratches(directory)
    directory.close()


def contents(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.read_text() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


def test_a_tree_holds_the_files_with_tame_modes(workspaces):
    tree = workspaces.take(1, DIGEST)
    assert (tree.path / "flow.yaml").read_text() == "a: 1\n"
    assert (tree.path / "bin/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tree.path / "data/deep/er/x.csv").stat().st_mode & 0o7777 == 0o644
    assert (tree.path / "empty").is_dir()


def test_a_tree_holds_the_links_that_stay_inside(workspaces, shelf, tmp_path):
    links = {"bin/go": "run.sh", "current": "data/deep", "back": "current/../../flow.yaml"}
    shelf.default = linked_tarball({k: v for k, v in FILES.items() if v}, links)
    tree = workspaces.take(1, DIGEST)
    assert {name: os.readlink(tree.path / name) for name in links} == links
    assert (tree.path / "bin/go").read_text() == FILES["bin/run.sh"]
    assert (tree.path / "current/er/x.csv").read_text() == "1,2\n"
    assert (tree.path / "back").read_text() == "a: 1\n"
    pristine = contents(tree.path)
    (tmp_path / "elsewhere").mkdir()
    (tree.path / "bin/go").unlink()
    (tree.path / "bin/go").write_text("mine")
    (tree.path / "current").unlink()
    os.symlink(tmp_path / "elsewhere", tree.path / "current")
    (tree.path / "back").unlink()
    workspaces.give_back(DIGEST, tree)
    again = workspaces.take(1, DIGEST)
    assert again is tree
    assert contents(again.path) == pristine
    assert {name: os.readlink(again.path / name) for name in links} == links


def vandalise_contents(root: Path) -> None:
    (root / "flow.yaml").write_text("b: 2\n")


def vandalise_same_size_at_the_old_time(root: Path) -> None:
    before = (root / "flow.yaml").stat()
    (root / "flow.yaml").write_text("a: 9\n")
    os.utime(root / "flow.yaml", ns=(before.st_atime_ns, before.st_mtime_ns))


def vandalise_by_adding(root: Path) -> None:
    (root / "new").write_text("x")
    (root / "data/deep/sub/sub").mkdir(parents=True)
    (root / "data/deep/sub/sub/f").write_text("x")
    os.symlink("/etc", root / "link")
    os.mkfifo(root / "pipe")


def vandalise_by_removing(root: Path) -> None:
    (root / "flow.yaml").unlink()
    remove(root / "data")


def vandalise_by_swapping_kinds(root: Path) -> None:
    remove(root / "data")
    os.symlink("/tmp", root / "data")
    (root / "flow.yaml").unlink()
    (root / "flow.yaml").mkdir()
    (root / "empty").rmdir()
    (root / "empty").write_text("now a file")


def vandalise_modes(root: Path) -> None:
    (root / "bin/run.sh").chmod(0o000)
    (root / "data").chmod(0o000)
    root.chmod(0o500)


def vandalise_through_a_hard_link(root: Path) -> None:
    os.link(root / "flow.yaml", root.parent.parent / "kept-name")
    (root.parent.parent / "kept-name").write_text("c: 3\n")


def vandalise_by_replacing(root: Path) -> None:
    (root / "other").write_text("z: 0\n")
    os.replace(root / "other", root / "flow.yaml")


def vandalise_names_at_the_old_times(root: Path) -> None:
    for folder, change in ((root, "new"), (root / "data/deep/er", "x.csv"), (root / "empty", "a")):
        before = folder.stat()
        if (folder / change).exists():
            (folder / change).unlink()
        else:
            (folder / change).write_text("x")
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


VANDALS = [value for name, value in sorted(globals().items()) if name.startswith("vandalise_")]


@pytest.mark.parametrize("vandalise", VANDALS, ids=lambda vandal: vandal.__name__)
@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
def test_what_a_step_does_to_its_tree_is_gone_for_the_next_one(
    workspaces, vandalise, pause, is_old, listed
):
    tree = workspaces.take(1, DIGEST)
    pristine = contents(tree.path)
    if is_old:
        take_when_old(workspaces, tree, listed)
        assert tree.is_untouched()
    time.sleep(pause)  # not a wait: both sides of the file system's clock tick are meant
    vandalise(tree.path)
    assert not tree.is_untouched()
    workspaces.give_back(DIGEST, tree)
    again = workspaces.take(1, DIGEST)
    assert again is tree
    assert contents(again.path) == pristine
    assert again.path.stat().st_mode & 0o777 == 0o755
    assert workspaces.healed == 1


@pytest.fixture
def listed(monkeypatch):
    """A list that grows with each directory that is listed."""
    calls: list[int] = []
    real = os.scandir

    def counting(where):
        calls.append(where)
        return real(where)

    monkeypatch.setattr("os.scandir", counting)
    return calls


def take_when_old(workspaces, tree: Tree, listed: list[int]) -> None:
    """Until its times tell what a step changed, so that no directory of it needs to be listed."""

    def is_old() -> bool:
        workspaces.give_back(DIGEST, tree)
        assert workspaces.take(1, DIGEST) is tree
        listed.clear()
        workspaces.give_back(DIGEST, tree)
        assert workspaces.take(1, DIGEST) is tree
        return not listed

    eventually(is_old, 10)
    assert workspaces.healed == 0


@pytest.fixture
def coarse_clock(monkeypatch):
    """A file system whose clock stands still: what is written twice bears the same time."""
    now = time.time_ns() + 3600 * 10**9  # within the tick also on a machine that stalls
    monkeypatch.setattr(
        "workers.trees.stamp_of",
        lambda found: (found.st_mode, found.st_size, now, now, found.st_ino),
    )


def test_a_change_in_the_same_tick_of_the_clock_is_found(workspaces, coarse_clock):
    tree = workspaces.take(1, DIGEST)
    with (tree.path / "flow.yaml").open("r+") as file:
        file.write("a: 9\n")
    workspaces.give_back(DIGEST, tree)
    assert (workspaces.take(1, DIGEST).path / "flow.yaml").read_text() == "a: 1\n"


def test_an_input_that_was_changed_in_the_same_tick_is_written_anew(scratches, coarse_clock):
    first = scratches.open(b'{"a": 1}')
    with open(first.input_path, "r+b") as file:
        file.write(b'{"a": 9}')
    scratches.close(first)
    assert Path(scratches.open(b'{"a": 1}').input_path).read_bytes() == b'{"a": 1}'


def test_the_kept_name_of_a_hard_link_changes_no_later_tree(workspaces, tmp_path):
    tree = workspaces.take(1, DIGEST)
    os.link(tree.path / "flow.yaml", tmp_path / "kept")
    workspaces.give_back(DIGEST, tree)
    tree = workspaces.take(1, DIGEST)
    (tmp_path / "kept").write_text("evil\n")
    assert (tree.path / "flow.yaml").read_text() == "a: 1\n"


def test_an_untouched_tree_is_used_again_and_fetched_once(workspaces, shelf):
    for _ in range(5):
        tree = workspaces.take(1, DIGEST)
        workspaces.give_back(DIGEST, tree)
    assert (shelf.calls, workspaces.planted, workspaces.healed) == ([1], 1, 0)


def test_steps_at_the_same_time_have_trees_of_their_own(workspaces, shelf):
    trees: list = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        trees.append(workspaces.take(1, DIGEST))

    threads = [threading.Thread(target=take) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len({tree.path for tree in trees}) == 8
    assert shelf.calls == [1]


def test_a_small_untouched_workspace_costs_far_less_than_a_step(workspaces):
    tree = workspaces.take(1, DIGEST)
    workspaces.give_back(DIGEST, tree)
    time.sleep(0.05)  # so that nothing counts as freshly written
    rounds = []
    for _ in range(50):
        began = time.perf_counter()
        workspaces.give_back(DIGEST, workspaces.take(1, DIGEST))
        rounds.append(time.perf_counter() - began)
    assert sorted(rounds)[len(rounds) // 2] < 0.0004


def test_a_tree_that_cannot_be_mended_is_never_handed_out(workspaces, monkeypatch):
    tree = workspaces.take(1, DIGEST)
    (tree.path / "flow.yaml").write_text("spoilt")

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.trees.copy_file", fail)
    workspaces.give_back(DIGEST, tree)
    monkeypatch.undo()
    again = workspaces.take(1, DIGEST)
    assert again is not tree and not tree.path.exists()
    assert (again.path / "flow.yaml").read_text() == "a: 1\n"


def test_a_damaged_copy_on_this_host_is_fetched_again(workspaces, shelf, tmp_path):
    first = workspaces.take(1, DIGEST)
    kept = tmp_path / "cache/revisions" / DIGEST / "tree/flow.yaml"
    kept.chmod(0o644)
    kept.write_text("x: 1\n")
    second = workspaces.take(1, DIGEST)
    assert (second.path / "flow.yaml").read_text() == "a: 1\n"
    assert shelf.calls == [1, 1]
    assert (first.path / "flow.yaml").read_text() == "a: 1\n"


def test_an_interrupted_fetch_leaves_nothing_half_done(workspaces, shelf, tmp_path):
    shelf.archives[1] = shelf.default[: len(shelf.default) // 2]
    with pytest.raises(PlatformError):
        workspaces.take(1, DIGEST)
    assert [entry for entry in (tmp_path / "cache/revisions").iterdir() if entry.is_dir()] == []
    del shelf.archives[1]
    assert workspaces.take(1, DIGEST).path.is_dir()


def test_only_the_newest_revisions_are_kept_beside_those_in_use(workspaces, shelf, tmp_path):
    digests = [f"{n:064x}" for n in range(5)]
    used = workspaces.take(0, digests[0])
    for n in range(1, 5):
        workspaces.give_back(digests[n], workspaces.take(n, digests[n]))
    kept = {entry.name for entry in (tmp_path / "cache/revisions").iterdir() if entry.is_dir()}
    assert kept == {digests[0], digests[3], digests[4]}
    assert used.path.is_dir()


def test_a_revision_that_another_worker_uses_is_not_removed(tmp_path, shelf):
    here, there = (WorkerDirectory(tmp_path / "cache", is_shared=False) for _ in range(2))
    mine, other = Workspaces(here, shelf, max_retained=0), Workspaces(there, shelf, max_retained=0)
    tree = other.take(1, DIGEST)
    mine.give_back(DIGEST, mine.take(1, DIGEST))
    assert (tmp_path / "cache/revisions" / DIGEST).is_dir()
    assert shelf.calls == [1]
    other.give_back(DIGEST, tree)
    assert not (tmp_path / "cache/revisions" / DIGEST).exists()


def test_what_a_killed_worker_left_is_removed_by_the_next_one(tmp_path):
    program = (
        "import os, sys, pathlib; from workers.disk import WorkerDirectory;"
        "directory = WorkerDirectory(pathlib.Path(sys.argv[1]), is_shared=False);"
        "(directory.scratch / 'left').mkdir();"
        "print(directory.root, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    left = Path(done.stdout.strip())
    assert left.is_dir()
    WorkerDirectory(tmp_path, is_shared=False).close()
    assert not left.exists() and list((tmp_path / "runs").iterdir()) == []


def test_a_scratch_directory_is_private_and_holds_the_input_alone(scratches):
    scratch = scratches.open(b'{"a": 1}')
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    assert Path(scratch.input_path).stat().st_mode & 0o777 == 0o600
    assert {path.name: path.read_bytes() for path in scratch.path.iterdir()} == {
        "input.json": b'{"a": 1}'
    }


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
def test_only_an_empty_directory_for_artifacts_is_passed_over(scratches, is_old, listed):
    """Whatever else a step made of it is for whoever stores artifacts, who also says what is wrong."""
    scratch = open_when_old(scratches, b"{}", listed) if is_old else scratches.open(b"{}")
    assert not scratch.may_hold_artifacts
    (scratch.left / "folder").mkdir()
    assert scratch.may_hold_artifacts and not scratch.is_untouched()
    (scratch.left / "folder").rmdir()
    scratch.left.rmdir()
    assert scratch.may_hold_artifacts
    scratch.left.symlink_to(scratch.path)
    assert scratch.may_hold_artifacts


def litter(scratch) -> None:
    (scratch.path / "closed").mkdir()
    (scratch.path / "closed/file").write_text("x")
    (scratch.path / "closed").chmod(0)
    os.symlink("/etc", scratch.path / "link")
    scratch.path.chmod(0o777)


def rewrite_input(scratch) -> None:
    Path(scratch.input_path).write_bytes(b'{"a": 9}')


def replace_input_by_a_link(scratch) -> None:
    Path(scratch.input_path).unlink()
    os.symlink("/etc/hostname", scratch.input_path)


def remove_input(scratch) -> None:
    Path(scratch.input_path).unlink()


def litter_at_the_old_time(scratch) -> None:
    for folder in (scratch.path, scratch.left):
        before = folder.stat()
        (folder / "file").write_text("x")
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def open_when_old(scratches, data: bytes, listed: list[int]):
    """A directory whose times tell what an attempt changed, so that it need not be listed."""

    def is_old() -> bool:
        scratches.close(scratches.open(data))
        listed.clear()
        scratches.close(scratches.open(data))
        return not listed

    eventually(is_old, 10)
    scratch = scratches.open(data)
    assert scratch.is_untouched()
    return scratch


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize(
    "spoil", [litter, litter_at_the_old_time, rewrite_input, replace_input_by_a_link, remove_input]
)
def test_the_next_attempt_finds_nothing_of_the_one_before(scratches, spoil, is_old, listed):
    data = b'{"a": 1}'
    first = open_when_old(scratches, data, listed) if is_old else scratches.open(data)
    spoil(first)
    assert not first.is_untouched()
    scratches.close(first)
    for data in (b'{"a": 1}', b'{"b": 22}', b'{"b": 22}'):
        again = scratches.open(data)
        assert again is first
        assert {path.name: path.read_bytes() for path in again.path.iterdir()} == {
            "input.json": data
        }
        assert again.path.stat().st_mode & 0o777 == 0o700
        assert list(again.left.iterdir()) == []
        scratches.close(again)


def test_what_is_secret_is_gone_however_old_its_directory(scratches, listed):
    scratches.close(open_when_old(scratches, b"{}", listed))
    secret = scratches.open(b"{}", is_secret=True)
    assert not secret.is_untouched()
    scratches.close(secret)
    assert list(secret.path.iterdir()) == []


def test_what_an_attempt_took_from_others_is_removed_after_it(scratches, listed):
    scratch = open_when_old(scratches, b"{}", listed)
    scratch.taken.mkdir()
    assert not scratch.is_untouched()
    scratches.close(scratch)
    assert not scratches.open(b"{}").taken.exists()


def test_a_large_tree_takes_no_short_look(workspaces, shelf, listed):
    shelf.archives[1] = tarball({f"file{n}": "x" for n in range(SHORT_LOOK + 1)}, {})
    tree = workspaces.take(1, DIGEST)
    take_when_old(workspaces, tree, listed)
    assert not tree.is_untouched()


def test_a_scratch_directory_that_is_gone_is_replaced(scratches):
    first = scratches.open(b"{}")
    remove(first.path)
    scratches.close(first)
    assert scratches.open(b"{}").path.is_dir()


def test_a_tree_deeper_than_a_path_may_be_long_is_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 50, dir_fd=here)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert remove(top)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "word"),
    [
        (odd_tarball("link", tarfile.SYMTYPE, "/etc/passwd"), "leads out of the workspace"),
        (odd_tarball("link", tarfile.SYMTYPE, "nowhere"), "leads to 'nowhere'"),
        (odd_tarball("link", tarfile.SYMTYPE, "link"), "leads in a circle"),
        (odd_tarball("link", tarfile.SYMTYPE, ""), "is not a path"),
        (linked_tarball({"a/b": "x"}, {"l": "a/../../x"}), "leads out of the workspace"),
        (linked_tarball({"a/b": "x"}, {"l": "a", "m": "l/../.."}), "leads out of the workspace"),
        (linked_tarball({"d/x": "x"}, {"d": "/etc"}), "both as a file and as a directory"),
        (linked_tarball({"d/x": "x"}, {"d": "."}), "both as a file and as a directory"),
        (linked_tarball({"d": "x"}, {"d": "e"}), "not a plain file"),
        (odd_tarball("hard", tarfile.LNKTYPE, "../x"), "not a plain file"),
        (odd_tarball("dev", tarfile.CHRTYPE), "not a plain file"),
        (odd_tarball("pipe", tarfile.FIFOTYPE), "not a plain file"),
        (tarball({"../out": "x"}), "outside"),
        (tarball({"/etc/x": "x"}), "outside"),
        (tarball({"a/../../b": "x"}), "outside"),
        (tarball({"a": "x", "a/b": "x"}), "both as a file and as a directory"),
        (tarball({"a/b": "x", "a": "x"}), "not a plain file"),
        (tarball({"n" * 1100: "x"}), "outside"),
        (b"not an archive", "cannot be read"),
    ],
    # Archives carry the time of day: as names of tests they would differ between the processes of a
    # run.
    ids=[
        "link",
        "dangling-link",
        "circle",
        "empty-link",
        "link-around",
        "link-by-link",
        "write-through-a-link",
        "write-through-a-link-inside",
        "file-over-a-link",
        "hard-link",
        "device",
        "pipe",
        "above",
        "root",
        "around",
        "file-then-folder",
        "folder-then-file",
        "long-name",
        "no-archive",
    ],
)
def test_an_odd_archive_is_refused_and_writes_nothing_outside(tmp_path, archive, word):
    into = tmp_path / "in" / "side"
    into.mkdir(parents=True)
    with pytest.raises(PlatformError, match=word):
        unpack(archive, into)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["side"]
