"""The language of a script: by its key, its first line or its extension."""

from __future__ import annotations

import pytest

from engine import spec


def load(fields: str):
    text = f"secrets: {{ name: x }}\nactions:\n  a: {{ type: script, {fields} }}\n"
    loaded = spec.load({"x.yaml": text})
    assert loaded.workspace is not None, loaded.problems
    return loaded.workspace.actions["a"], [problem.message for problem in loaded.problems]


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ("source: work.py", "python"),
        ("source: 'my scripts/Work.PY'", "python"),
        ("source: work.mjs", "javascript"),
        ("source: work.cts", "typescript"),
        ("source: work.go", "go"),
        ("source: work.sh", "shell"),
        ("source: work", "shell"),
        ("source: work.pl", "shell"),
        ("source: work.py, language: shell", "shell"),
        ("source: work.sh, language: js", "javascript"),
        ("source: '{{ secret.name }}.py'", "python"),
        ("source: '{{ secret.name }}'", None),
        ("source: '{{ secret.name }}', language: shell", "shell"),
        ('script: "#!/usr/bin/env python3\\nx"', "python"),
        ('script: "\\n #!/usr/bin/python3.11 -O\\nx"', "python"),
        ('script: "#!/usr/bin/env -S uv run --script\\nx"', "python"),
        ('script: "#!/usr/bin/env node\\nx"', "javascript"),
        ('script: "#!/usr/bin/env -S deno run\\nx"', "typescript"),
        ('script: "#!/bin/bash -eu\\nx"', "shell"),
        ('script: "#!/usr/bin/perl\\nx"', "shell"),
        ('script: "echo #!python"', "shell"),
    ],
)
def test_the_language_of_a_script(fields: str, language: str | None) -> None:
    action, problems = load(fields)
    assert (action.language, problems) == (language, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            'script: "#!/bin/bash\\nx", language: python',
            "Action 'a' script begins with '#!' and bash, but its language is python; which counts:"
            " remove one of the two",
        ),
        (
            'script: "#!/usr/bin/python3\\nx", language: shell',
            "Action 'a' script begins with '#!' and python3, but its language is shell; 'python3'"
            " runs it: remove one of the two",
        ),
        (
            'script: "#!/usr/bin/python3\\nx", language: python, interpreter: pypy3',
            "Action 'a' script begins with '#!' and python3, but 'interpreter' is 'pypy3', which"
            " runs it",
        ),
        (
            'script: "set -e\\r\\nfalse\\r\\n"',
            "Action 'a' script has Windows line ends (CR LF); LF is used instead",
        ),
    ],
)
def test_what_contradicts_the_first_line_and_windows_line_ends_are_told(
    fields: str, message: str
) -> None:
    assert load(fields)[1] == [message]


def test_a_script_begins_with_its_first_line_and_has_plain_line_ends() -> None:
    action, _ = load('script: "\\uFEFF\\n#!/bin/bash -eu\\r\\nfalse\\r\\n"')
    assert action.script == "#!/bin/bash -eu\nfalse\n"


def test_packages_are_no_surprise_where_the_first_line_or_extension_names_their_language() -> None:
    assert load("source: work.py, dependencies: [six]")[1] == []
    assert load('script: "#!/usr/bin/env python3\\nx", dependencies: [six]')[1] == []
    assert "no 'language' set" in load("script: x, dependencies: [six]")[1][0]


@pytest.mark.parametrize(
    ("typed", "umask"),
    [("0027", 0o027), ('"027"', 0o027), ("22", 0o022), ("0o002", 0o002), ("0", 0), ("777", 0o777)],
)
def test_a_umask_is_octal_however_it_is_typed(typed: str, umask: int) -> None:
    action, problems = load(f"script: x, umask: {typed}")
    assert (action.umask, problems) == (umask, [])


@pytest.mark.parametrize(
    "typed", ["0800", "8", "x", "1777", "u=rwx", "-22", "0x12", "22.0", "true"]
)
def test_what_is_no_umask_is_refused(typed: str) -> None:
    loaded = spec.load({"x.yaml": f"actions: {{a: {{type: script, script: x, umask: {typed}}}}}"})
    assert [problem.message for problem in loaded.problems] == [
        f"Action 'a' 'umask' must be octal digits such as 0027, not '{typed}'"
    ]


def test_only_steps_that_run_scripts_have_a_umask() -> None:
    text = "tasks: {t: {flow: {s: {type: docker, image: a, umask: 022}}}}"
    loaded = spec.load({"x.yaml": text})
    assert [problem.message for problem in loaded.problems] == [
        "Task 't' step 's' has 'umask' but its action is type 'docker' (only script actions have"
        " one)"
    ]
