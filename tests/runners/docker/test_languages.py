"""Scripts in containers in other languages than shell, with and without dependencies."""

from __future__ import annotations

import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.orders import ScriptWork, Verdict
from runners.docker.runner import DockerRunner
from tests.runners.docker.conftest import Finish

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

# languages

PYTHON = "import json, sys\nprint('OUTPUT: ' + json.dumps(sys.argv[1:]))"
JAVASCRIPT = (
    "const data = await Promise.resolve(process.argv.slice(2));\nconsole.log(`OUTPUT:"
    " ${JSON.stringify(data)}`);"
)
TYPESCRIPT = (
    "const data: string[] = process.argv.slice(2);\nconsole.log(`OUTPUT: ${JSON.stringify(data)}`);"
)


@pytest.mark.parametrize(
    ("language", "code"),
    [("python", PYTHON), ("javascript", JAVASCRIPT), ("typescript", TYPESCRIPT)],
)
def test_a_script_in_another_language_gets_its_arguments(
    finish: Finish, tools: Any, language: str, code: str
):
    outcome, _ = finish(code, language=language, args=("a b", "$X"), runner=tools)
    assert outcome.output == ["a b", "$X"], outcome.error


def test_python_is_found_without_uv(finish: Finish):
    assert finish(PYTHON, language="python", args=("x",))[0].output == ["x"]


def test_an_interpreter_can_be_named(finish: Finish, tools: DockerRunner):
    code = "import sys; print('OUTPUT: ' + str(sys.version_info[1]))"
    assert finish(code, language="python", interpreter="python3.11", runner=tools)[0].output == 11


@pytest.mark.parametrize("language", ["javascript", "typescript", "go"])
def test_a_language_that_the_image_lacks_is_one_sentence(finish: Finish, language: str):
    outcome, _ = finish("1", language=language)
    assert outcome.exit_code == 127
    assert f"no interpreter found for '{language}' in this image. Tried: " in outcome.error


def test_a_source_in_another_language_runs_from_the_workspace(
    finish: Finish, tools: DockerRunner, tree: Path
):
    (tree / "count.py").write_text(
        "import csv\nprint(f'OUTPUT: {len(list(csv.DictReader(open(\"data.csv\"))))}')\n"
    )
    outcome, _ = finish(source="count.py", language="python", workspace_dir=tree, runner=tools)
    assert outcome.output == 2


# dependencies: installed once into a volume of the workspace

DEPENDENCIES = [
    ("python", "six", "import six\nprint('OUTPUT: \"' + six.__name__ + '\"')", "six"),
    (
        "javascript",
        "is-odd@3",
        "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);",
        True,
    ),
    (
        "typescript",
        "zod",
        (
            'import { z } from "zod";\nconst Schema = z.object({ name: z.string() });\n'
            'console.log(`OUTPUT: ${JSON.stringify(Schema.parse({ name: "test" }).name)}`);'
        ),
        "test",
    ),
]


@pytest.mark.parametrize(("language", "dependency", "code", "expected"), DEPENDENCIES)
def test_dependencies_are_installed_and_kept(
    finish: Finish, tools: DockerRunner, language: str, dependency: str, code: str, expected: Any
):
    first, _ = finish(code, language=language, dependencies=(dependency,), runner=tools)
    assert first.output == expected, first.error
    offline = DockerRunner(replace(tools.config, network="none"))
    second, _ = finish(code, language=language, dependencies=(dependency,), runner=offline)
    assert second.output == expected, second.error


def test_dependencies_reach_a_source_of_the_workspace(
    finish: Finish, tools: DockerRunner, tree: Path
):
    (tree / "odd.mjs").write_text(
        "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(2)}`);\n"
    )
    fields = {
        "source": "odd.mjs",
        "language": "javascript",
        "dependencies": ("is-odd@3",),
        "workspace_dir": tree,
    }
    outcome, _ = finish(runner=tools, **fields)
    assert outcome.output is False, outcome.error


def test_parallel_first_runs_install_once(finish: Finish, tools: DockerRunner, docker_engine: Any):
    code = "import six, os\nprint('OUTPUT: ' + str(os.stat(six.__file__).st_ino))"
    fields = {"language": "python", "dependencies": ("six",), "runner": tools}
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: finish(code, **fields)[0], range(6)))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert len({outcome.output for outcome in outcomes}) == 1


def test_a_dependency_that_does_not_exist_fails_with_the_tools_words(
    finish: Finish, tools: DockerRunner
):
    name = "stroem-no-such-package-93847"
    outcome, _ = finish("1", language="python", dependencies=(name,), runner=tools)
    assert outcome.verdict is Verdict.FAILED
    assert name in outcome.error
    assert "could not be installed" in outcome.error


@pytest.mark.parametrize("dependency", ["--index-url=http://evil", "-r/etc/passwd", " "])
def test_an_option_is_no_dependency(finish: Finish, dependency: str):
    outcome, _ = finish("1", language="python", dependencies=(dependency,))
    assert outcome.verdict is Verdict.FAILED
    assert "not the name of a package" in outcome.error


# node and npm, for whoever brings a runner image of their own


def test_the_example_that_installs_with_npm_needs_a_copy(
    finish: Finish, node_image: str, tree: Path
):
    (tree / "package.json").write_text(
        '{"dependencies": {"is-odd": "3"}, "scripts": {"test": "node test.js"}}'
    )
    (tree / "test.js").write_text("console.log(`OUTPUT: ${require('is-odd')(3)}`);\n")
    subprocess.run(
        ["npm", "install", "--silent", "--package-lock-only", "--prefix", str(tree)], check=True
    )
    work = ScriptWork(
        code="cd /workspace && npm ci && npm test", workspace_dir=tree, runner_image=node_image
    )
    unedited, log = finish(work=work)
    assert unedited.verdict is Verdict.FAILED
    assert "/workspace/node_modules" in unedited.error
    assert "workspace: copy" in log.lines[-1].text
    edited, _ = finish(work=replace(work, workspace_mode="copy"))
    assert edited.output is True, edited.error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (JAVASCRIPT, ["a"]),
        ("const os = require('os');\nconsole.log('OUTPUT: ' + os.EOL.length);", 1),
    ],
)
def test_node_runs_both_kinds_of_modules(finish: Finish, node_image: str, code: str, expected: Any):
    work = ScriptWork(code=code, language="javascript", args=("a",), runner_image=node_image)
    assert finish(work=work)[0].output == expected


def test_dependencies_are_installed_with_npm_where_there_is_no_bun(finish: Finish, node_image: str):
    code = "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);"
    work = ScriptWork(
        code=code, language="javascript", dependencies=("is-odd@3",), runner_image=node_image
    )
    outcome, _ = finish(work=work)
    assert outcome.output is True, outcome.error


# go: a quarter of a minute for the first compilation

GO = (
    'package main\n\nimport ("fmt"; "os")\n\nfunc main() { fmt.Println("OUTPUT: {\\"result\\":'
    ' 42}"); if len(os.Args) > 1 { os.Exit(len(os.Args)) } }\n'
)
GO_WITH_MODULE = (
    'package main\n\nimport ("fmt"; "example.com/greet")\n\nfunc main() { fmt.Printf("OUTPUT:'
    ' %q\\n", greet.Hi()) }\n'
)


def test_go_runs_with_modules_from_a_proxy_and_keeps_its_exit_code(
    finish: Finish, go_image: str, tree: Path
):
    module = tree / "proxy" / "example.com" / "greet" / "@v"
    module.mkdir(parents=True)
    (module / "list").write_text("v1.0.0\n")
    (module / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (module / "v1.0.0.mod").write_text("module example.com/greet\n")
    with zipfile.ZipFile(module / "v1.0.0.zip", "w") as archive:
        archive.writestr("example.com/greet@v1.0.0/go.mod", "module example.com/greet\n")
        archive.writestr(
            "example.com/greet@v1.0.0/greet.go",
            'package greet\n\nfunc Hi() string { return "hi" }\n',
        )
    (tree / "compute.go").write_text(GO)
    go = {"language": "go", "runner_image": go_image, "workspace_dir": tree}

    assert finish(work=ScriptWork(code=GO, **go))[0].output == {"result": 42}
    assert finish(work=ScriptWork(code=GO, args=("a", "b"), **go))[0].exit_code == 3
    assert finish(work=ScriptWork(source="compute.go", **go))[0].output == {"result": 42}
    work = ScriptWork(code=GO_WITH_MODULE, dependencies=("example.com/greet@v1.0.0",), **go)
    outcome, _ = finish(work=work, env={"GOPROXY": "file:///workspace/proxy", "GOSUMDB": "off"})
    assert outcome.output == "hi", outcome.error
