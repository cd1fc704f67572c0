"""What the client does alone: validating, the schema, completion, and being installed."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jinja2
import pytest

from stroem import profiles
from stroem.errors import BadProfile
from stroem.program import COMMANDS
from tests.client.laptop import Laptop
from tests.house import ROOT

HEAVY = ("django", "yaml", "jinja2", "celery", "psycopg", "requests", "http.client", "ssl")
PROGRAM = """
import sys
from stroem.program import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), sep="\\n")
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


@pytest.mark.parametrize(
    "words", [["help"], ["jobs", "--help"], ["jobs"], ["run", "a", "b"]], ids=str
)
def test_a_command_imports_no_more_than_it_needs(laptop: Laptop, words: list[str]) -> None:
    """Most of a short command is its start."""
    laptop.program = (sys.executable, "-c", PROGRAM)
    modules = set(laptop.run(*words).stdout.splitlines())
    assert "engine" in modules
    known = () if words == ["help"] or "--help" in words else ("http.client", "ssl")
    assert sorted(modules.intersection(HEAVY) - set(known)) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--email", "a@example.org", "--scope", "jobs:run"], "--scope is for signing in with a code: give --device"),
        (["--key", "--scope", "jobs:run"], "--scope is for signing in with a code: give --device"),
        (["--scope", "jobs:run"], "--scope is for signing in with a code: give --device"),
        (["--device", "--days", "3"], "--days is for signing in with --email"),
        (["--key", "--days", "3"], "--days is for signing in with --email"),
        (["--email", "a@example.org", "--days", "0"], "argument --days: must be a whole number between 1 and 36500"),
        (["--email", "a@example.org", "--device"], "argument --device: not allowed with argument --email"),
        (["--key", "--device"], "argument --device: not allowed with argument --key"),
        (["--ca-file", "a", "--ca-file", "b"], "argument --ca-file: is given twice: keep one"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_of_login_that_would_have_no_effect_is_refused(
    laptop: Laptop, words: list[str], sentence: str
) -> None:
    """A key with all rights is not what somebody wants who names scopes."""
    said = laptop.complaint("login", "http://127.0.0.1:9", *words, given="secret\n")
    assert sentence in said


def test_validate_says_what_manage_py_says(laptop: Laptop, tmp_path: Path) -> None:
    assert laptop.lines("validate", str(ROOT / "examples/hello")) == ["Valid: 2 actions, 1 task."]
    (tmp_path / "w.yaml").write_text("tasks: {t: {flow: {s: {action: missing}}}}\n")
    broken = laptop.lines("validate", str(tmp_path / "w.yaml"), code=1)
    assert broken[0].startswith("w.yaml:1:")
    assert broken[-1].startswith("Not valid: 1 error")
    laptop.env["STROEM_URL"], laptop.env["STROEM_TOKEN"] = "http://127.0.0.1:9", "strm_x"
    said = laptop.complaint("validate", str(tmp_path / "w.yaml"), "--workspace", "w")
    assert "use `manage.py validate` on the server" in said
    assert "There is nothing at" in laptop.complaint("validate", str(tmp_path / "none"))


def test_the_schema_is_the_servers(laptop: Laptop) -> None:
    from engine.spec import json_schema

    assert json.loads("\n".join(laptop.lines("schema"))) == json_schema.build()


def test_the_list_of_commands_names_each(laptop: Laptop) -> None:
    shown = "\n".join(laptop.lines("help"))
    for name, (_, about) in COMMANDS.items():
        assert f"  {name:<17} {about}" in shown
    assert laptop.lines("--version")[0].startswith("Stroem ")
    assert laptop.run().returncode == 2


@pytest.mark.sample(3)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_options(laptop: Laptop, shell: str) -> None:
    script = "\n".join(laptop.lines("completion", shell))
    assert " ".join(COMMANDS) in script
    assert "--follow" in script or "-l follow" in script


def test_bash_completes_commands_and_options(laptop: Laptop, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text("\n".join(laptop.lines("completion", "bash")))
    asked = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _stroem; printf '%s\\n' "${COMPREPLY[@]}"
    """
    for words, wanted in (
        (["stroem", "re"], {"reject", "remove_workspace", "restart"}),
        (["stroem", "logs", "x", "--f"], {"--follow", "--force-color"}),
    ):
        done = subprocess.run(
            ["bash", "-c", asked, "bash", str(script), *words], capture_output=True, text=True
        )
        assert set(done.stdout.split()) == wanted, done


def test_colours_are_for_terminals_only(laptop: Laptop) -> None:
    assert "\x1b" not in "".join(laptop.lines("validate", str(ROOT / "examples/hello")))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("stroem.example.org", "https://stroem.example.org"),
        ("https://Stroem.example.org:8443/", "https://stroem.example.org:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_an_address_is_completed(given: str, url: str) -> None:
    assert profiles.checked_url(given) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "https://x/y", "https://u:p@x", "x y", "https://"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadProfile):
        profiles.checked_url(given)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"profiles": {"a": {}}}', '{"profiles": 1, "current": "a"}']
)
def test_a_broken_file_of_profiles_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "client.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(BadProfile, match="remove it and sign in again"):
        profiles.load(file)


@pytest.mark.long
def test_the_wheel_holds_the_client_and_nothing_of_the_server(tmp_path: Path) -> None:
    """Built as `pip install` of the repository does, and run where nothing else is installed."""
    wheel = build(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stroem"}
    assert not any("django" in name or "apps/jobs" in name for name in names)
    home = tmp_path / "alone"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    needed = Path(jinja2.__file__).parents[1]
    for name in ("yaml", "jinja2", "markupsafe", "cronsim", "text_unidecode", "re2"):
        (site / name).symlink_to(needed / name)
    run = [str(home / "bin" / "python"), "-I", "-c", "from stroem.program import main; main()"]
    for example, words in (("hello", "2 actions, 1 task"), ("libraries", "2 actions, 2 tasks")):
        done = subprocess.run(
            [*run, "validate", str(ROOT / "examples" / example)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout == f"Valid: {words}.\n", done


def build(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(folder / "dist"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done
    return next((folder / "dist").glob("stroem-*.whl"))
