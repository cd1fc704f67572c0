"""Reading folders and git repositories: what is read, skipped and refused."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.workspaces.errors import SourceError
from apps.workspaces.sources.git import GitSource, check_ref, check_url, newest_commit, read_git
from apps.workspaces.sources.gitprogram import Credential
from apps.workspaces.sources.tree import Limits, read_folder

WORKFLOW = "actions: {a: {type: script, script: 'true'}}\n"


def paths(tree: object) -> list[str]:
    return [file.path for file in tree.files]  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    (root / "scripts").mkdir(parents=True)
    (root / "flow.yaml").write_text(WORKFLOW)
    (root / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    (root / "scripts" / "run.sh").chmod(0o755)
    return root


def test_a_folder_gives_its_regular_files_in_order(folder: Path) -> None:
    tree = read_folder(folder)
    assert paths(tree) == ["flow.yaml", "scripts/run.sh"]
    assert [file.mode for file in tree.files] == [0o644, 0o755]
    assert tree.warnings == ()


def test_pointers_of_git_lfs_are_named_and_kept(folder: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    (folder / "model.bin").write_text(pointer)
    (folder / "about-lfs.md").write_text(f"{pointer}\n" * 100)
    tree = read_folder(folder)
    assert "model.bin" in paths(tree)
    [warning] = tree.warnings
    assert str(warning).startswith("model.bin: warning: it is a pointer of Git LFS, and steps get")


def test_links_that_lead_out_are_left_out_with_a_warning_and_never_followed(
    folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "passwd").write_text("root")
    (folder / "link.txt").symlink_to(secret / "passwd")
    (folder / "linked").symlink_to(secret)
    tree = read_folder(folder)
    assert paths(tree) == ["flow.yaml", "scripts/run.sh"]
    assert [str(warning) for warning in tree.warnings] == [
        "link.txt: warning: left out: it is a symbolic link, and it leads out of the workspace",
        "linked: warning: left out: it is a symbolic link, and it leads out of the workspace",
    ]


def test_links_that_stay_inside_are_kept(folder: Path) -> None:
    before = read_folder(folder).digest
    (folder / "tools").mkdir()
    (folder / "tools" / "run").symlink_to("../scripts/run.sh")
    (folder / "tools" / "absolute").symlink_to(folder / "scripts" / "run.sh")
    (folder / "current").symlink_to("tools")
    (folder / "self").symlink_to(".")
    tree = read_folder(folder)
    assert tree.warnings == ()
    assert tree.links == {
        "current": "tools",
        "self": ".",
        "tools/absolute": "../scripts/run.sh",
        "tools/run": "../scripts/run.sh",
    }
    assert tree.digest != before
    for path in ("tools/run", "current/run", "current/absolute", "self/self/scripts/run.sh"):
        assert path in tree.names
    for path in ("current", "tools", "current/none", "../ws/flow.yaml", "/etc/passwd", "self"):
        assert path not in tree.names
    with tarfile.open(fileobj=io.BytesIO(tree.archive())) as archive:
        entries = [(member.name, member.issym()) for member in archive]
    assert entries[:4] == [
        ("scripts", False), ("tools", False), ("flow.yaml", False), ("scripts/run.sh", False),
    ]  # fmt: skip
    assert all(is_link for _, is_link in entries[4:])


@pytest.mark.parametrize(
    ("name", "target", "why"),
    [
        ("a", "nowhere", "it leads to 'nowhere', which is not part of the workspace"),
        ("a", "var/data", "it leads to 'var', which is not part of the workspace"),
        ("a", "a", "it leads in a circle"),
        ("a", "../ws/flow.yaml", "it leads out of the workspace"),
        ("scripts/a", "../../x", "it leads out of the workspace"),
        ("scripts/a", "../nowhere/../flow.yaml", "it leads to 'nowhere', which is not part of the"),
        ("a", "flow.yaml/x", "it leads to 'flow.yaml', which is not part of the workspace"),
        ("a", "flow.yaml/", "it leads to 'flow.yaml', which is not part of the workspace"),
        ("a", "/etc/passwd", "it leads out of the workspace"),
        ("a", "b\\c", "target is not a plain path"),
    ],
)
def test_a_link_that_ends_nowhere_is_left_out_by_name(
    folder: Path, name: str, target: str, why: str
) -> None:
    (folder / "var").mkdir()
    (folder / "var" / "data").write_text("x")
    os.symlink(target, folder / name)
    tree = read_folder(folder)
    assert tree.links == {}
    told = {warning.place.file: warning.message for warning in tree.warnings}
    assert why in told[name]


def test_links_out_of_links_are_found_out(folder: Path) -> None:
    """Each hop stays inside by its letters, and the whole leads out."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x").write_text("x")
    (folder / "up").symlink_to("a/b")
    (folder / "out").symlink_to("up/../../..")
    (folder / "only").mkdir()
    (folder / "only" / "bad").symlink_to("../out/etc")
    (folder / "to-empty").symlink_to("only")
    tree = read_folder(folder)
    assert tree.links == {"up": "a/b"}
    assert sorted(warning.place.file for warning in tree.warnings) == [
        "only/bad", "out", "to-empty",
    ]  # fmt: skip


def test_git_and_generated_folders_are_left_out(folder: Path) -> None:
    for name in (".git", "__pycache__", ".venv", "var", "scripts/var"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    tree = read_folder(folder)
    assert paths(tree) == ["flow.yaml", "scripts/run.sh", "scripts/var/x"]
    assert {warning.place.file for warning in tree.warnings} == {".venv", "var"}


def test_a_pipe_does_not_block_the_import(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert [str(warning) for warning in read_folder(folder).warnings] == [
        "pipe: warning: left out: it is not a regular file"
    ]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x7fb", os.fsdecode(b"\xff")])
def test_names_that_cannot_travel_are_left_out(folder: Path, name: str) -> None:
    (folder / name).write_text("x")
    tree = read_folder(folder)
    assert paths(tree) == ["flow.yaml", "scripts/run.sh"]
    assert len(tree.warnings) == 1


def test_too_many_files_are_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="more than 1 files"):
        read_folder(folder, Limits(files=1))


def test_too_many_bytes_are_refused_before_they_are_read(folder: Path) -> None:
    with open(folder / "big", "wb") as handle:
        handle.truncate(50_000_000_000)
    with pytest.raises(SourceError, match="larger than 200 MB"):
        read_folder(folder)


@pytest.mark.parametrize("where", ["nowhere", "ws/flow.yaml"])
def test_a_folder_that_is_none_is_one_sentence(folder: Path, where: str) -> None:
    with pytest.raises(SourceError, match=r"there is no folder|is a file"):
        read_folder(folder.parent / where)


def test_equal_trees_have_equal_digests_and_archives(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    os.utime(other / "flow.yaml", (1, 1))
    one, two = read_folder(folder), read_folder(other)
    assert (one.digest, one.archive()) == (two.digest, two.archive())


@pytest.mark.parametrize("change", ["content", "mode", "name", "shift"])
def test_every_change_changes_the_digest(folder: Path, change: str) -> None:
    before = read_folder(folder).digest
    flow = folder / "flow.yaml"
    match change:
        case "content":
            flow.write_text(WORKFLOW + "#")
        case "mode":
            flow.chmod(0o755)
        case "name":
            flow.rename(folder / "flow.yml")
        case "shift":  # the same bytes, cut elsewhere between name and content
            flow.rename(folder / "flow.yamla")
    assert read_folder(folder).digest != before


def test_the_archive_holds_directories_and_regular_files_only(folder: Path) -> None:
    (folder / "scripts" / "run.sh").chmod(0o4777)
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress(read_folder(folder).archive()))
    ) as archive:
        found = [
            (entry.name, entry.mode, entry.isreg() or entry.isdir(), entry.uid, entry.mtime)
            for entry in archive
        ]
    assert found == [
        ("scripts", 0o755, True, 0, 0),
        ("flow.yaml", 0o644, True, 0, 0),
        ("scripts/run.sh", 0o755, True, 0, 0),
    ]


# git


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *identity, *words], cwd=where, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


@pytest.fixture
def repository(folder: Path) -> Path:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def local(repository: Path, ref: str = "") -> GitSource:
    return GitSource(str(repository), ref, is_local=True)


def test_a_repository_gives_the_files_of_its_commit_and_the_commit_id(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "flow.yaml").write_text("changed, and not committed")
    tree = read_git(local(repository))
    assert (tree.label, paths(tree)) == (commit, ["flow.yaml", "scripts/run.sh"])
    assert tree.files[0].content.decode() == WORKFLOW
    assert [file.mode for file in tree.files] == [0o644, 0o755]


@pytest.fixture
def two_commits(repository: Path) -> Iterator[tuple[Path, str, str]]:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "v1")
    (repository / "flow.yaml").write_text("second: 2\n")
    git(repository, "commit", "-q", "-a", "-m", "two")
    yield repository, first, git(repository, "rev-parse", "HEAD")


def test_a_ref_may_be_a_branch_a_tag_or_a_commit(two_commits: tuple[Path, str, str]) -> None:
    repository, first, second = two_commits
    assert read_git(local(repository, "main")).label == second
    assert read_git(local(repository, "v1")).label == first
    assert read_git(local(repository, first)).label == first


def test_an_old_commit_comes_by_its_id_over_the_file_protocol_too(
    two_commits: tuple[Path, str, str],
) -> None:
    repository, first, _ = two_commits
    assert read_git(GitSource(f"file://{repository}", first, is_local=True)).label == first


def test_an_unknown_ref_is_one_sentence(repository: Path) -> None:
    with pytest.raises(SourceError, match="no branch, tag or commit 'gone'"):
        read_git(local(repository, "gone"))
    with pytest.raises(SourceError):
        read_git(local(repository, "0" * 40))


@pytest.mark.parametrize(
    "ref",
    [
        "--output=/tmp/x",
        "-x",
        "a..b",
        "a b",
        "a\nb",
        "@{1}",
        "a@{1}",
        "/a",
        "a/",
        "a.lock",
        ".a",
        "a/.b",
        "",
        "a/b.lock/c",
        "@",
        "a;b",
        "$(x)",
        "a:b",
        "a" * 300,
    ],
)
def test_refs_that_git_could_misread_are_refused(ref: str) -> None:
    with pytest.raises(SourceError):
        check_ref(ref)


@pytest.mark.parametrize(
    "branch", ["feature/#12-größe", "#12", "日本/語", "release=1,2", "a@b+c!%"]
)
def test_branches_are_read_whatever_their_names(repository: Path, branch: str) -> None:
    git(repository, "branch", branch)
    assert read_git(local(repository, branch)).label == newest_commit(local(repository, branch))


def test_a_shortened_commit_id_is_told_to_be_whole(repository: Path) -> None:
    short = read_git(local(repository)).label[:9]
    with pytest.raises(SourceError, match=f"'{short}'; a commit is named by all its 40 digits"):
        read_git(local(repository, short))


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ssh://-oProxyCommand=x/y",
        "ssh://-x@host/y",
        "-x@host:y",
        "fd::17",
        "http://host/x.git",
        "git://host/x.git",
        "file:///etc",
        "/etc",
        "../x",
        "x",
        "",
        "https://",
        "https://user:token@host/x",
        "https://token@host/x",
        "https://host/a b",
        "https://[",
        "javascript:alert(1)",
    ],
)
def test_addresses_that_callers_may_not_use_are_refused(url: str) -> None:
    with pytest.raises(SourceError) as refused:
        check_url(url, is_local=False)
    assert "token" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://host/x.git", "ssh://git@host:22/x.git", "git@host:team/x.git"]
)
def test_usual_addresses_are_accepted(url: str) -> None:
    assert check_url(url, is_local=False) == url


def test_nothing_of_a_hostile_repository_runs_or_leaves_the_tree(
    repository: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    touch = f"#!/bin/sh\ntouch {marker}\n"
    for hook in (
        "post-checkout",
        "post-merge",
        "pre-commit",
        "reference-transaction",
        "post-upload-pack",
    ):
        path = repository / ".git" / "hooks" / hook
        path.write_text(touch)
    git(repository, "config", "filter.evil.smudge", f"touch {marker}")
    git(repository, "config", "uploadpack.packObjectsHook", f"touch {marker}; exec")
    git(repository, "config", "core.fsmonitor", f"touch {marker}")
    (repository / ".gitattributes").write_text("* filter=evil\nflow.yaml export-ignore\n")
    (repository / "out").symlink_to("/etc/passwd")
    (repository / "dot").symlink_to(".git")
    git(repository, "add", ".gitattributes", "out", "dot")
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "commit", "-q", "--allow-empty", "-m", "x")
    git(repository, "submodule", "--quiet", "add", str(inner), "sub")
    git(repository, "commit", "-q", "-m", "evil")
    for hook in (repository / ".git" / "hooks").iterdir():
        hook.chmod(0o755)
    marker.unlink(missing_ok=True)
    tree = read_git(local(repository))
    assert paths(tree) == [".gitattributes", ".gitmodules", "flow.yaml", "scripts/run.sh"]
    assert sorted(str(warning) for warning in tree.warnings) == [
        "dot: warning: left out: it is a symbolic link, and it leads to '.git', which is not part"
        " of the workspace",
        "out: warning: left out: it is a symbolic link, and it leads out of the workspace",
        "sub: warning: left out: it is a submodule",
    ]
    assert not marker.exists()


def test_links_of_a_repository_are_kept(repository: Path) -> None:
    (repository / "run").symlink_to("scripts/run.sh")
    (repository / "current").symlink_to("scripts")
    git(repository, "add", "run", "current")
    git(repository, "commit", "-q", "-m", "links")
    tree = read_git(local(repository))
    assert tree.links == {"current": "scripts", "run": "scripts/run.sh"}
    assert tree.warnings == ()


def test_a_tree_that_names_git_or_parents_is_left_out(repository: Path) -> None:
    blob = git(repository, "rev-parse", "HEAD:flow.yaml")
    raw = b"".join(
        b"100644 " + name + b"\0" + bytes.fromhex(blob) for name in (b"..", b".GIT", b"a\\b", b"ok")
    )
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        cwd=repository, input=raw, capture_output=True, check=True,
    )  # fmt: skip
    commit = git(repository, "commit-tree", made.stdout.decode().strip(), "-m", "x")
    git(repository, "update-ref", "refs/heads/evil", commit)
    tree = read_git(local(repository, "evil"))
    assert paths(tree) == ["ok"]
    assert len(tree.warnings) == 3


def test_a_repository_over_the_limits_is_refused(repository: Path) -> None:
    with pytest.raises(SourceError, match="more than 1 files"):
        read_git(local(repository), Limits(files=1))
    with pytest.raises(SourceError, match="larger than"):
        read_git(local(repository), Limits(bytes=10))


def test_a_server_that_never_answers_times_out(tmp_path: Path) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/x.git"
        with pytest.raises(SourceError, match=r"took longer than 0\.5 s"):
            read_git(GitSource(url), Limits(seconds=0.5))


def test_credentials_reach_the_server_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program called git imitates the askpass conversation, also as after an answer that led it
    to another host, and records its arguments and environment."""
    token = "s3cr3t-token-value"
    noted = tmp_path / "noted"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "git"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {noted}.argv; env >> {noted}.env\n'
        "for place in https://x@host https://host.evil https://evil@host.evil"
        ' "https://x@host\': @evil" https://evil; do\n'
        f'    "$GIT_ASKPASS" "Password for \'$place\': " >> {noted}.askpass\n'
        "done\n"
        'echo "fatal: https://x:s3cr3t-token-value@host/ said s3cr3t-token-value" >&2; exit 128\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STROEM__DB__URL", "postgresql://ours")
    with pytest.raises(SourceError) as refused:
        read_git(GitSource("https://host/x.git", "main", Credential(token=token)))
    assert Path(f"{noted}.askpass").read_text() == token
    seen = Path(f"{noted}.argv").read_text() + Path(f"{noted}.env").read_text() + str(refused.value)
    assert token not in seen
    assert "STROEM__DB__URL" not in seen
    assert "GIT_TERMINAL_PROMPT=0" in seen


def test_files_whose_names_differ_only_in_their_composition_are_told(folder: Path) -> None:
    for name in ("caf\xe9.sh", "cafe\N{COMBINING ACUTE ACCENT}.sh", "cafe.sh"):
        (folder / name).write_text("true")
    told = [one for one in read_folder(folder).warnings if one.code == "name-collision"]
    assert len(told) == 1 and "composed differently in Unicode" in told[0].message
    (folder / "caf\xe9.sh").unlink()
    assert not [one for one in read_folder(folder).warnings if one.code == "name-collision"]
