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


def run_again(work: ScriptWork, path: Path) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(path.parent / "files")
    return run(work, path)


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


def place_source(bare: Path, name: str, text: bytes) -> ScriptWork:
    """A script of the workspace, whose path in these tests is absolute."""
    (bare.parent / name).write_bytes(text)
    return ScriptWork(source=str(bare.parent / name))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("#!/usr/bin/env other\nx", "other [] script"),
        ("#!/usr/bin/env -S other --flag  -x\nx", "other [--flag -x] script"),
        ("#!/usr/bin/env other\r\nx", "other [] script"),
        ("#!/usr/bin/env python3\nx", "python3 [] script"),
        ("#!/usr/bin/env python3.9\nx", "python3.9 [] script"),
        ("#!/usr/bin/env -S python3 -O\nx", "python3 [-O] script"),
        ("#!/usr/bin/env -S FLAG=1 other\nx", "other [] script"),
        ("#!/usr/bin/env dash\nx", "dash [] script"),
    ],
)
@pytest.mark.parametrize("is_inline", [True, False])
def test_the_program_of_the_first_line_runs_the_script(
    bare: Path, code: str, said: str, is_inline: bool
):
    for name in ("other", "python3", "python3.9", "dash"):
        program = bare / name
        program.write_text(
            f'#!{shutil.which("bash")}\nfor file; do :; done\nset -- "${{@:1:$#-1}}"\n'
            f'file=${{file##*/}}\necho "{name} [$*] ${{file%%.*}}"\n'
        )
        program.chmod(0o755)
    (bare / "env").symlink_to(str(shutil.which("env")))
    work = ScriptWork(code=code) if is_inline else place_source(bare, "script", code.encode())
    ended = run(work, bare)
    assert (ended.stdout, ended.stderr, ended.returncode) == (f"{said}\n", "", 0)


def test_a_first_line_that_names_what_the_image_lacks_is_told(bare: Path):
    ended = run(ScriptWork(code="#!/usr/bin/env perl9\nx"), bare)
    assert ended.returncode == 127
    assert ended.stderr == (
        "Error: the script's first line names 'perl9', which was not found in this image; install"
        " it there, or correct the line\n"
    )


def test_an_interpreter_wins_over_the_first_line_and_so_does_another_language(bare: Path):
    (bare / "bash").symlink_to(str(shutil.which("bash")))
    ended = run(ScriptWork(code="#!/usr/bin/env perl\necho bash", interpreter="bash"), bare)
    assert (ended.stdout, ended.stderr) == ("bash\n", "")
    ended = run_again(ScriptWork(code="#!/bin/sh\nx", language="python"), bare)
    assert ended.stderr.startswith(
        "The script's first line names /bin/sh, but its language is python, which runs it\n"
    )


def test_a_source_of_a_language_that_is_not_ours_is_not_run_by_the_shell(bare: Path):
    ended = run(place_source(bare, "work.rb", b"echo it ran"), bare)
    assert (ended.returncode, ended.stdout) == (127, "")
    assert "set 'interpreter: ruby'" in ended.stderr


def test_a_first_line_tells_that_a_source_is_a_shell_script_whatever_its_extension(bare: Path):
    ended = run(place_source(bare, "work.pl", b"#!/bin/sh\necho it ran"), bare)
    assert (ended.returncode, ended.stdout) == (0, "it ran\n")


def test_options_of_the_first_line_hold(bare: Path):
    bash = shutil.which("bash")
    ended = run(ScriptWork(code=f"#!{bash} -eu\nfalse\necho went on"), bare)
    assert (ended.returncode, ended.stdout) == (1, "")
