"""Scripts in five languages, with real toolchains: what they are given, what is installed first,
and what is said when a toolchain is missing.

bun, deno and Go are no part of the development environment. They are found on PATH; a machine that
claims to be CI has them, any other may lack them.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.orders import ScriptWork, StepOutcome, Verdict
from runners.host.languages import Toolbox
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import HOSTILE, Log, Stop, build_order

GREET_GO = (
    'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("OUTPUT: {\\"result\\": 42}") }\n'
)
ARGUMENTS = {
    "python": "import json, sys; print('OUTPUT: ' + json.dumps(sys.argv[1:]))",
    "javascript": "console.log('OUTPUT: ' + JSON.stringify(process.argv.slice(2)))",
    "typescript": (
        "const a: string[] = process.argv.slice(2); console.log('OUTPUT: ' + JSON.stringify(a));"
    ),
    "go": (
        'package main\nimport ("encoding/json"; "fmt"; "os")\n'
        'func main() { b, _ := json.Marshal(os.Args[1:]); fmt.Println("OUTPUT: " + string(b)) }\n'
    ),
}
ENVIRONMENT = {
    "python": "import json, os; print('OUTPUT: ' + json.dumps(os.environ['VALUE']))",
    "javascript": "console.log('OUTPUT: ' + JSON.stringify(process.env.VALUE))",
    "typescript": (
        "const v: string = process.env.VALUE!; console.log('OUTPUT: ' + JSON.stringify(v));"
    ),
    "go": (
        'package main\nimport ("encoding/json"; "fmt"; "os")\nfunc main() { b, _ :='
        ' json.Marshal(os.Getenv("VALUE")); fmt.Println("OUTPUT: " + string(b)) }\n'
    ),
}
EXIT = {
    "python": "import sys; sys.stderr.write('boom\\n'); sys.exit(3)",
    "javascript": "console.error('boom'); process.exit(3)",
    "typescript": "console.error('boom' as string); process.exit(3)",
    "go": (
        'package main\nimport "os"\nfunc main() { os.Stderr.WriteString("boom\\n"); os.Exit(3) }\n'
    ),
}
EXTENSIONS = {"python": ".py", "javascript": ".js", "typescript": ".ts", "go": ".go"}
LANGUAGES = ("python", "javascript", "typescript", "go")
TOOLS = {
    "python": ("python3",),
    "javascript": ("bun", "node"),
    "typescript": ("bun", "deno"),
    "go": ("go",),
}

# `.ci/run` leaves them out, and says so, on a machine that cannot have the programs.
pytestmark = pytest.mark.toolchains


def require(*names: str) -> None:
    """Go on if one of these programs is here; CI must have it, elsewhere the test is left out."""
    if any(Toolbox().find(name) for name in names):
        return
    sentence = f"none of {', '.join(names)} is on PATH"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def go_cache() -> Path:
    """Go compiles its standard library once a cache, which takes half a minute: one for all tests
    and all times."""
    home = (
        os.environ.get("STROEM_CI_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stroem-ci"
    )
    cache = Path(home) / "go-build"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@pytest.fixture
def runner(tmp_path, go_cache) -> LocalRunner:
    cache = tmp_path / "cache"
    (cache / "tools").mkdir(parents=True)
    (cache / "tools" / "go-build").symlink_to(go_cache)
    return LocalRunner(LocalConfig(cache_dir=cache))


@pytest.fixture
def finish(runner, tmp_path):
    def run(code: str | None = None, **fields) -> tuple[StepOutcome, Log]:
        log = Log()
        return runner.run(build_order(tmp_path, code, **fields), log, Stop()), log

    return run


@pytest.mark.parametrize("language", LANGUAGES)
def test_inline_code_gets_its_arguments_byte_for_byte(finish, language):
    require(*TOOLS[language])
    outcome, _ = finish(ARGUMENTS[language], language=language, args=(*HOSTILE, "last.go", "x.js"))
    assert outcome.error is None
    assert outcome.output == [*HOSTILE, "last.go", "x.js"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_source_gets_its_arguments_and_begins_in_the_workspaces_root(finish, tmp_path, language):
    require(*TOOLS[language])
    tree = tmp_path / "tree"
    (tree / "actions").mkdir(parents=True)
    name = f"actions/show{EXTENSIONS[language]}"
    (tree / name).write_text(ARGUMENTS[language])
    outcome, _ = finish(
        source=name, language=language, args=("first.go", "--flag", "a b"), workspace_dir=tree
    )
    assert outcome.error is None
    assert outcome.output == ["first.go", "--flag", "a b"]
    assert sorted(path.name for path in tree.rglob("*")) == ["actions", Path(name).name]


@pytest.mark.parametrize("language", LANGUAGES)
def test_environment_values_arrive_byte_for_byte(finish, language):
    require(*TOOLS[language])
    for value in HOSTILE if language != "go" else HOSTILE[:3]:
        assert (
            finish(ENVIRONMENT[language], language=language, env={"VALUE": value})[0].output
            == value
        )


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_scripts_own_exit_code_and_stderr_are_told(finish, language):
    require(*TOOLS[language])
    outcome, _ = finish(EXIT[language], language=language)
    assert (outcome.exit_code, outcome.error) == (3, "Exit code: 3\nStderr: boom")


def test_the_seeds_go_example_runs(finish):
    require("go")
    assert finish(GREET_GO, language="go")[0].output == {"result": 42}


def test_a_go_program_that_does_not_compile_fails_with_the_compilers_words(finish):
    require("go")
    outcome, _ = finish("package main\nfunc main() { undefined_thing() }\n", language="go")
    assert outcome.verdict is Verdict.FAILED
    assert "undefined_thing" in outcome.error


@pytest.mark.parametrize("interpreter", ["bun", "node"])
@pytest.mark.parametrize(
    "code",
    [
        "const value = await Promise.resolve(5); console.log(`OUTPUT: ${value}`);",
        (
            "import { constants } from 'node:os'; console.log(`OUTPUT: ${constants.signals.SIGKILL"
            " - 4}`);"
        ),
        "const os = require('os'); console.log(`OUTPUT: ${os.constants.signals.SIGKILL - 4}`);",
    ],
)
def test_javascript_of_either_kind_runs(finish, interpreter, code):
    require(interpreter)
    assert finish(code, language="javascript", interpreter=interpreter)[0].output == 5


@pytest.mark.parametrize("interpreter", ["bun", "deno"])
def test_typescript_runs_with_bun_and_with_deno(finish, interpreter):
    require(interpreter)
    code = "interface A { n: number }; const a: A = { n: 5 }; console.log(`OUTPUT: ${a.n}`);"
    assert finish(code, language="typescript", interpreter=interpreter)[0].output == 5


def test_python_code_may_import_modules_of_the_workspace(finish, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "greeting.py").write_text("TEXT = 'hello'\n")
    outcome, _ = finish(
        "import greeting; print(f'OUTPUT: \"{greeting.TEXT}\"')",
        language="python",
        workspace_dir=tree,
    )
    assert outcome.output == "hello"


def test_pythons_lines_are_told_as_they_are_printed(runner, tmp_path):
    log, stop = Log(), Stop()
    order = build_order(tmp_path, "import time; print('early'); time.sleep(300)", language="python")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, order, log, stop)
        log.wait_for("early")
        stop.set()
        assert future.result().verdict is Verdict.CANCELLED


def test_python_steps_do_not_see_the_workers_own_packages(finish):
    outcome, _ = finish("import django", language="python")
    assert outcome.verdict is Verdict.FAILED
    assert "django" in outcome.error


def test_the_workers_own_environment_is_not_on_a_steps_path(finish):
    import sys

    _, log = finish("command -v python3; echo $PATH")
    if sys.prefix != sys.base_prefix:
        assert os.path.join(sys.prefix, "bin") not in "".join(log.texts())


def test_an_interpreter_of_the_authors_choice_is_used(finish, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    chosen = tree / "chosen.sh"
    chosen.write_text('#!/bin/sh\necho "chosen $1"; shift; exec python3 "$@"\n')
    chosen.chmod(0o755)
    code = "print('ran')"
    _, log = finish(code, language="python", interpreter="./chosen.sh --mark", workspace_dir=tree)
    assert log.texts() == ["chosen --mark", "ran"]


def test_an_interpreter_applies_to_shell_too(finish):
    assert finish('echo "$0 ${BASH_VERSION:-none}"', interpreter="sh")[1].texts()[0].endswith(
        "none"
    ) or os.path.realpath(shutil.which("sh") or "").endswith("bash")


def test_a_missing_interpreter_is_one_sentence(finish):
    outcome, _ = finish("x", language="python", interpreter="python9.99")
    assert outcome.verdict is Verdict.FAILED
    assert "python9.99" in outcome.error
    assert "install" in outcome.error
    assert "\n" not in outcome.error


@pytest.mark.parametrize(
    ("language", "tried", "advice"),
    [
        ("shell", "bash, sh", "bash"),
        ("python", "uv, python3, python", "uv or Python 3"),
        ("javascript", "bun, node", "bun or Node.js"),
        ("typescript", "bun, deno", "bun or deno"),
        ("go", "go", "Go"),
    ],
)
def test_a_missing_toolchain_is_one_sentence_that_says_what_to_install(
    runner, finish, language, tried, advice
):
    # uv may lie beside this very interpreter, whatever PATH is
    runner._toolbox.find = lambda name: None
    outcome, log = finish("x", language=language)
    assert outcome.verdict is Verdict.FAILED
    assert (
        outcome.error
        == f"No interpreter found for language '{language}'. Tried: {tried}; install {advice} on"
        " the worker"
    )
    assert log.lines == []


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_a_missing_installer_is_one_sentence_that_says_what_to_install(runner, finish, language):
    runner._toolbox.find = lambda name: "/usr/bin/env" if name == "chosen" else None
    outcome, _ = finish("x", language=language, interpreter="chosen", dependencies=("zod",))
    assert (
        outcome.error
        == "'dependencies' need npm or bun, and this worker has neither; install one of them on the"
        " worker"
    )


@pytest.mark.parametrize(
    ("language", "dependency"),
    [
        ("python", "--index-url=http://evil.example"),
        ("python", "-rrequirements.txt"),
        ("python", "./local"),
        ("python", "/etc"),
        ("python", ""),
        ("javascript", "--global"),
        ("javascript", "file:../x"),
        ("go", "-x"),
        ("go", "fmt"),
    ],
)
def test_a_dependency_that_is_no_package_name_is_refused(finish, language, dependency):
    outcome, log = finish("x", language=language, dependencies=(dependency,))
    assert outcome.verdict is Verdict.FAILED
    assert repr(dependency) in outcome.error
    assert log.lines == []


# Packages from indexes of the test's own: a folder of wheels, an HTTP registry, a module proxy on
# disk.


VERSION_OF_GREET = "import stroem_greet; print(f'OUTPUT: \"{stroem_greet.VERSION}\"')"


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_python_dependencies_are_installed_once_and_used_again(runner, tmp_path, wheels, installer):
    if installer == "pip":
        find = runner._toolbox.find
        runner._toolbox.find = lambda name: None if name == "uv" else find(name)
    for expected_installs in (1, 0):
        log = Log()
        order = build_order(
            tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
        )
        outcome = runner.run(order, log, Stop())
        assert outcome.error is None
        assert outcome.output == "1.0"
        assert (
            len([line for line in log.lines if line.text.startswith("Installing")])
            == expected_installs
        )


def test_a_python_source_has_its_dependencies_too(finish, tmp_path, wheels):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "show.py").write_text(VERSION_OF_GREET)
    outcome, _ = finish(
        source="show.py", language="python", dependencies=("stroem-greet",), workspace_dir=tree
    )
    assert outcome.output == "2.0"


def test_different_dependencies_live_side_by_side_and_their_order_does_not_matter(
    runner, tmp_path, wheels
):
    def run(*dependencies: str) -> object:
        order = build_order(
            tmp_path, VERSION_OF_GREET, language="python", dependencies=dependencies
        )
        return runner.run(order, Log(), Stop()).output

    assert [run("stroem-greet==1.0"), run("stroem-greet==2.0"), run("stroem-greet==1.0")] == [
        "1.0",
        "2.0",
        "1.0",
    ]
    assert (
        run("stroem-greet>0", "stroem-greet<2") == run("stroem-greet<2", "stroem-greet>0") == "1.0"
    )
    assert len(list((tmp_path / "cache" / "environments").iterdir())) == 3


def test_twenty_first_runs_at_once_install_once(runner, tmp_path, wheels):
    logs = [Log() for _ in range(20)]
    orders = [
        build_order(
            tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
        )
        for _ in logs
    ]
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(
            pool.map(
                lambda pair: runner.run(pair[0], pair[1], Stop()), zip(orders, logs, strict=True)
            )
        )
    assert [outcome.output for outcome in outcomes] == ["1.0"] * 20
    told = [line.text for log in logs for line in log.lines]
    assert len([text for text in told if text.startswith("Installing")]) == 1


def test_dependencies_that_cannot_be_installed_fail_the_step_and_leave_nothing(
    finish, tmp_path, wheels
):
    outcome, _ = finish("x", language="python", dependencies=("stroem-greet==9.9",))
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error.startswith("Dependency installation failed (exit code ")
    assert "9.9" in outcome.error
    assert list((tmp_path / "cache" / "environments").iterdir()) == []


def test_a_half_made_environment_is_made_anew(runner, tmp_path, wheels):
    order = build_order(
        tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
    )
    runner.run(order, Log(), Stop())
    (made,) = (tmp_path / "cache" / "environments").iterdir()
    (made / ".ready").unlink()
    shutil.rmtree(made / "venv" / "lib")
    order = build_order(
        tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
    )
    assert runner.run(order, Log(), Stop()).output == "1.0"


def test_what_nobody_used_for_long_is_pruned_and_what_is_in_use_is_not(runner, tmp_path, wheels):
    order = build_order(
        tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
    )
    runner.run(order, Log(), Stop())
    (made,) = (tmp_path / "cache" / "environments").iterdir()
    runner.sweep(frozenset())
    assert made.exists()
    long_ago = 1_000_000_000
    os.utime(made / ".ready", (long_ago, long_ago))
    log, stop = Log(), Stop()
    code = "print('ready'); import time; time.sleep(300)"
    holding = build_order(tmp_path, code, language="python", dependencies=("stroem-greet==1.0",))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, holding, log, stop)
        log.wait_for("ready")
        os.utime(made / ".ready", (long_ago, long_ago))
        runner.sweep(frozenset({holding.attempt}))
        assert made.exists()
        stop.set()
        future.result()
    runner.sweep(frozenset())
    assert not made.exists()


def test_a_stop_while_dependencies_install_ends_the_installer(runner, tmp_path, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        monkeypatch.setenv("UV_INDEX_URL", f"http://127.0.0.1:{index.server_port}/simple")
        log, stop = Log(), Stop()
        order = build_order(tmp_path, "x", language="python", dependencies=("anything",))
        other_log, other_stop = Log(), Stop()
        other = build_order(
            tmp_path, "x", language="python", dependencies=("anything",), timeout_s=2
        )
        with ThreadPoolExecutor(2) as pool:
            future = pool.submit(runner.run, order, log, stop)
            log.wait_for("Installing")
            assert (
                pool.submit(runner.run, other, other_log, other_stop).result(30).verdict
                is Verdict.TIMED_OUT
            )
            other_log.wait_for("Waiting")
            _Silent.asked.wait(30)
            stop.set("cancel")
            assert future.result(10).verdict is Verdict.CANCELLED
        _Silent.release.set()
        index.shutdown()
    assert list((tmp_path / "cache" / "environments").iterdir()) == []


class _Silent(http.server.BaseHTTPRequestHandler):
    """An index that never answers."""

    asked = threading.Event()
    release = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.release.wait(60)

    def log_message(self, *args: object) -> None:
        pass


class _Registry(http.server.BaseHTTPRequestHandler):
    """An npm registry with the one package `stroem-greet`."""

    tarball = b""

    def do_GET(self) -> None:
        base = f"http://127.0.0.1:{self.server.server_port}"
        if self.path.endswith(".tgz"):
            self._answer(self.tarball, "application/octet-stream")
            return
        if not self.path.startswith("/stroem-greet"):
            self.send_error(404)
            return
        version = {
            "name": "stroem-greet",
            "version": "1.0.0",
            "dist": {"tarball": f"{base}/stroem-greet-1.0.0.tgz"},
        }
        document = {
            "name": "stroem-greet",
            "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": version},
        }
        self._answer(json.dumps(document).encode(), "application/json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path, monkeypatch):
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in {
            "package/package.json": (
                '{"name": "stroem-greet", "version": "1.0.0", "main": "index.js"}'
            ),
            "package/index.js": "module.exports = { version: '1.0.0' };\n",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    _Registry.tarball = buffer.getvalue()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setenv("npm_config_registry", address)
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        monkeypatch.setenv("BUN_CONFIG_REGISTRY", address)
        yield address
        server.shutdown()


@pytest.mark.parametrize(
    ("language", "interpreter"),
    [("javascript", "bun"), ("javascript", "node"), ("typescript", "bun"), ("typescript", "deno")],
)
@pytest.mark.parametrize("is_source", [False, True])
def test_javascript_dependencies_are_installed_once(
    runner, tmp_path, registry, language, interpreter, is_source
):
    require(interpreter)
    if interpreter == "node":
        require("npm")
    code = (
        "import greet from 'stroem-greet'; console.log(`OUTPUT:"
        " ${JSON.stringify(greet.version)}`);\n"
    )
    tree = tmp_path / "tree"
    tree.mkdir()
    name = f"show{'.mjs' if interpreter == 'node' else EXTENSIONS[language]}"
    (tree / name).write_text(code)
    script = {"source": name} if is_source else {"code": code}
    for expected_installs in (1, 0):
        log = Log()
        work = ScriptWork(
            language=language,
            interpreter=interpreter,
            dependencies=("stroem-greet@1.0.0",),
            workspace_dir=tree,
            **script,
        )
        outcome = runner.run(build_order(tmp_path, work=work), log, Stop())
        assert outcome.error is None
        assert outcome.output == "1.0.0"
        assert (
            len([line for line in log.lines if line.text.startswith("Installing")])
            == expected_installs
        )
    assert [path.name for path in tree.iterdir()] == [name]


@pytest.fixture
def module_proxy(tmp_path, monkeypatch) -> Path:
    """A module proxy on disk with `stroem.test/greet` v1.2.0, which needs `stroem.test/words`
    v0.1.0."""
    root = tmp_path / "proxy"
    for module, version, needs, code in (
        ("stroem.test/words", "v0.1.0", "", 'package words\n\nconst Hello = "hello"\n'),
        (
            "stroem.test/greet",
            "v1.2.0",
            "require stroem.test/words v0.1.0\n",
            (
                'package greet\n\nimport "stroem.test/words"\n\nfunc Greet() string { return'
                " words.Hello }\n"
            ),
        ),
    ):
        folder = root / module / "@v"
        folder.mkdir(parents=True)
        definition = f"module {module}\n\ngo 1.21\n\n{needs}"
        (folder / "list").write_text(f"{version}\n")
        (folder / f"{version}.info").write_text(
            json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"})
        )
        (folder / f"{version}.mod").write_text(definition)
        with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
            archive.writestr(f"{module}@{version}/go.mod", definition)
            archive.writestr(f"{module}@{version}/code.go", code)
    monkeypatch.setenv("GOPROXY", f"file://{root}")
    monkeypatch.setenv("GOSUMDB", "off")
    return root


USE_GREET = """package main

import (
\t"fmt"
\t"stroem.test/greet"
)

func main() { fmt.Printf("OUTPUT: %q\\n", greet.Greet()) }
"""


@pytest.mark.parametrize("dependencies", [("stroem.test/greet@v1.2.0",), ()])
def test_go_modules_come_from_the_workers_proxy_once(runner, tmp_path, module_proxy, dependencies):
    require("go")
    for expected_installs in (1, 0):
        log = Log()
        order = build_order(tmp_path, USE_GREET, language="go", dependencies=dependencies)
        outcome = runner.run(order, log, Stop())
        assert outcome.error is None
        assert outcome.output == "hello"
        assert (
            len([line for line in log.lines if line.text.startswith("Installing")])
            == expected_installs
        )
        if expected_installs:
            shutil.rmtree(module_proxy)


def test_a_go_source_has_its_dependencies_too(finish, tmp_path, module_proxy):
    require("go")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "main.go").write_text(USE_GREET)
    outcome, _ = finish(
        source="main.go",
        language="go",
        dependencies=("stroem.test/greet@v1.2.0",),
        workspace_dir=tree,
    )
    assert outcome.output == "hello"
    assert [path.name for path in tree.iterdir()] == ["main.go"]
    (tree / "go.mod").write_text("module mine\n\ngo 1.21\n")
    outcome, _ = finish(
        source="main.go",
        language="go",
        dependencies=("stroem.test/greet@v1.2.0",),
        workspace_dir=tree,
    )
    assert "go.mod" in outcome.error


def test_where_packages_come_from_is_told_to_installers_only(finish, wheels):
    _, log = finish("env")
    assert str(wheels) not in "\n".join(log.texts())


def test_an_environment_is_nobody_elses_to_write(runner, tmp_path, wheels):
    order = build_order(
        tmp_path, VERSION_OF_GREET, language="python", dependencies=("stroem-greet==1.0",)
    )
    runner.run(order, Log(), Stop())
    (made,) = (tmp_path / "cache" / "environments").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
