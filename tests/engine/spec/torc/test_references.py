"""Files and user data as dependencies, patterns, and what commands become. Scripts are run by a
real shell."""

from __future__ import annotations

import subprocess

import pytest

from engine import templating
from tests.engine.spec.torc.builders import Spec, jobs, jobs_text, wrong


def run(found: Spec, name: str, folder) -> subprocess.CompletedProcess[str]:
    """The step's script as a worker runs it: rendered, by bash, in `folder`."""
    script = templating.render(found.script(name), {})
    return subprocess.run(
        ["bash", "-c", str(script)], cwd=folder, capture_output=True, text=True, timeout=20
    )


def test_who_reads_a_file_or_user_data_waits_for_whoever_makes_it():
    found = jobs(
        """
        {name: late, command: "use ${files.input.f} ${user_data.input.u}"}
        {name: listed, command: x, input_files: [f], input_user_data: [u]}
        {name: maker, command: "make ${files.output.f}"}
        {name: teller, command: x, output_user_data: [u]}
        {name: both, command: x, input_files: [f], output_files: [f]}
        """,
        files="[{name: f, path: d/f.txt}]",
        user_data='[{name: u, data: {a: "ä"}}]',
    )
    assert found.needs("late") == found.needs("listed") == {"maker", "teller", "both"}
    assert found.needs("maker") == found.needs("teller") == set()
    assert found.needs("both") == {"maker"}, "nobody waits for himself"
    assert found.script("late") == 'use d/f.txt {"a":"ä"}'
    assert found.task.torc["required_files"] == []


def test_names_in_commands_add_to_those_in_lists():
    found = jobs(
        """
        {name: a, command: x, output_files: [one]}
        {name: b, command: x, output_files: [two]}
        {name: c, command: "cat ${files.input.one}", input_files: [two, raw], invocation_script: "s ${files.input.cfg}"}
        """,
        files="[{name: one, path: 1}, {name: two, path: 2}, {name: raw, path: r}, {name: cfg, path: c}]".replace(
            "path: 1", "path: '1'"
        ).replace("path: 2", "path: '2'"),
    )
    assert found.needs("c") == {"a", "b"}
    assert found.script("c") == "s c cat 1"
    assert found.task.torc["required_files"] == ["r", "c"]


def test_patterns_are_searched_for_within_names():
    found = jobs("""
        {name: stage1_a, command: x}
        {name: stage1_b, command: x}
        {name: other_stage1, command: x}
        {name: anchored, command: x, depends_on_regexes: ["^stage1_"]}
        {name: loose, command: x, depends_on_regexes: ["stage1"]}
        {name: exact, command: x, depends_on_regexes: ["^stage1_a$"]}
        {name: itself, command: x, depends_on_regexes: ["stage1_a|itself"]}
        """)
    assert found.needs("anchored") == {"stage1_a", "stage1_b"}
    assert found.needs("loose") == {"stage1_a", "stage1_b", "other_stage1"}
    assert found.needs("exact") == {"stage1_a"} and found.needs("itself") == {"stage1_a"}


def test_a_cycle_through_files_is_seen():
    text = jobs_text(
        """
        {name: a, command: x, input_files: [f], output_files: [g]}
        {name: b, command: x, input_files: [g], output_files: [f]}
        """,
        files="[{name: f, path: f}, {name: g, path: g}]",
    )
    (sentence,) = wrong(text)
    assert (
        "Circular dependency detected involving jobs:" in sentence
        and "a" in sentence
        and "b" in sentence
    )


def test_an_invocation_script_stands_before_its_command(tmp_path):
    (tmp_path / "env.sh").write_text('export MODEL=big; exec "$@"\n')
    found = jobs("{name: a, command: \"bash -c 'echo $MODEL'\", invocation_script: bash env.sh}")
    assert run(found, "a", tmp_path).stdout == "big\n"


@pytest.mark.parametrize("makes", [True, False])
def test_files_that_a_job_promises_must_be_there_when_it_has_ended(tmp_path, makes):
    command = "touch 'a b' c" if makes else "touch c"
    found = jobs(
        f'{{name: j, command: "{command}", output_files: [one, two]}}',
        files='[{name: one, path: "a b"}, {name: two, path: c}]',
    )
    ended = run(found, "j", tmp_path)
    assert ended.returncode == (0 if makes else 1)
    said = (
        "" if makes else "Job j completed successfully but expected output files are missing: a b\n"
    )
    assert ended.stderr == said


def test_a_command_that_fails_keeps_its_exit_code(tmp_path):
    found = jobs(
        '{name: j, command: "exit 7", output_files: [one]}', files="[{name: one, path: o}]"
    )
    assert run(found, "j", tmp_path).returncode == 7


@pytest.mark.parametrize(
    "command",
    [
        "echo '{{ input.x }}'",
        "echo '{% if %}'",
        "echo '{# note #}'",
        "echo '{% endraw %}{{ 1 }}'",
        "echo '${#a[@]}'",
    ],
)
def test_commands_are_no_templates_of_ours(tmp_path, command):
    found = jobs(f'{{name: j, command: "{command}"}}')
    ended = run(found, "j", tmp_path)
    assert ended.stdout == command.removeprefix("echo '").removesuffix("'") + "\n"


def test_user_data_without_a_value_stays_as_it_is_written():
    found = jobs('{name: j, command: "echo ${user_data.input.u}"}', user_data="[{name: u}]")
    assert found.script("j") == "echo ${user_data.input.u}"
