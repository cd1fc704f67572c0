"""The program that finds an interpreter in a container: what it says where an image has none. Runs
on this host, with a PATH that holds the everyday tools and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.orders import ScriptWork
from runners.containers.script import MAIN, build_script_files

TOOLS = ("sh", "mktemp", "mkdir", "cp", "ln", "rm", "printf", "cat")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory for PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def run(work: ScriptWork, path: Path) -> subprocess.CompletedProcess[str]:
    place = path.parent / "files"
    place.mkdir()
    for name, text in build_script_files(work, "image").items():
        (place / name).write_text(text)
    env = {"PATH": str(path), "HOME": str(path.parent), "TMPDIR": str(path.parent)}
    command = [os.path.realpath(path / "sh"), str(place / MAIN)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("language", "tried", "advice"),
    [
        ("python", "uv, python3, python", "uv or Python 3"),
        ("javascript", "bun, node", "bun or Node.js"),
        ("typescript", "bun, deno", "bun or deno"),
        ("go", "go", "Go"),
    ],
)
def test_an_image_without_the_toolchain_is_told_in_one_sentence_what_to_install(
    bare: Path, language: str, tried: str, advice: str
):
    ended = run(ScriptWork(code="x", language=language), bare)
    assert (ended.returncode, ended.stdout) == (127, "")
    assert (
        ended.stderr
        == f"Error: no interpreter found for '{language}' in this image. Tried: {tried}; install"
        f" {advice} in the image\n"
    )


@pytest.mark.parametrize("language", ["shell", "python", "javascript", "typescript", "go"])
def test_an_image_without_the_interpreter_that_was_named_is_told_what_to_do(
    bare: Path, language: str
):
    ended = run(ScriptWork(code="x", language=language, interpreter="strange9"), bare)
    assert ended.returncode == 127
    assert ended.stderr.startswith(
        "Error: interpreter 'strange9' was not found in this image; install it there, or "
    )
    assert ended.stderr.count("\n") == 1


def test_an_image_with_nothing_but_sh_runs_shell(bare: Path):
    ended = run(ScriptWork(code='echo "it runs: $1"', args=("a b",)), bare)
    assert (ended.returncode, ended.stdout) == (0, "it runs: a b\n")


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_an_image_without_an_installer_is_told_what_to_install(bare: Path, language: str):
    ended = run(ScriptWork(code="x", language=language, dependencies=("zod",)), bare)
    assert ended.returncode == 1
    assert (
        f"dependencies for '{language}' need bun or npm; install one of them in the image"
        in ended.stderr
    )
