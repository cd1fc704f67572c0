"""Where Torc itself has a limit, and what is here instead. The names count the rows of the
comparison."""

from __future__ import annotations

import subprocess

import pytest

from tests.engine.spec.torc.builders import jobs, jobs_text, load, read, wrong

ACTION = (
    "name: x\njobs: [{name: a, command: b}]\nactions:\n- {%s, action_type: run_commands, commands:"
    " [c]}\n"
)


@pytest.mark.parametrize(
    ("file", "text", "line", "words"),
    [
        (
            "a.yaml",
            ACTION % "trigger_type: on_jobs_finished, jobs: [a]",
            4,
            "unknown trigger_type 'on_jobs_finished'",
        ),
        ("a.yaml", ACTION % "trigger_type: on_jobs_ready", 4, "selects no jobs"),
        ("a.yaml", ACTION % "trigger_type: on_jobs_ready, jobs: []", 4, "selects no jobs"),
        (
            "a.kdl",
            'name "x"\njob "a" {\n command "b"\n blocked_by "c"\n}',
            4,
            "unknown key 'blocked_by'",
        ),
        ("a.kdl", 'name "x"\njob "a" {\n command "b"\n}\nstage "c"', 5, "unknown key 'stage'"),
        (
            "a.kdl",
            'name "x"\njob "a" { command "b" }\naction {\n when_ready\n}',
            4,
            "unknown key 'when_ready'",
        ),
        (
            "a.json5",
            "{name: 'x', jobs: [{name: 'a',\ncommand: 'b', blocked_by: ['c']}]}",
            2,
            "unknown key 'blocked_by'",
        ),
    ],
)
def test_b19_what_is_wrong_is_said_with_its_line(file, text, line, words):
    found = wrong(text, file)
    assert any(sentence.startswith(f"{line}: ") and words in sentence for sentence in found), found


def test_b19_a_pattern_that_matches_nothing_is_a_warning():
    (problem,) = load(ACTION % "trigger_type: on_jobs_ready, job_name_regexes: [z]").problems
    assert (problem.severity, problem.place.line) == ("warning", 4)
    assert "did not match any jobs: it will never be set off" in problem.message


def test_b19_dependencies_of_kdl_files_do_not_vanish():
    text = (
        'name "x"\njob "a" { command "b" }\njob "c" { command "b" }\njob "d" {\n command "b"\n'
        " %s\n}\n"
    )
    for words in (
        'depends_on_job "a"; depends_on_job "c"',
        'depends_on "a" "c"',
        'depends_on "a"; depends_on "c"',
    ):
        assert read(text % words, "a.kdl").needs("d") == {"a", "c"}, words


def test_b21_every_placeholder_of_a_text_is_filled_in():
    found = jobs(
        '{name: "j_{i:03d}", command: "{i:03d} {i} {lr:.2f} {lr}", parameters: {i: "5", lr:'
        ' "0.125"}}'
    )
    assert found.script("j_005") == "005 5 0.12 0.125"


def test_b21_a_job_without_a_parameter_in_its_name_gathers_all_of_them():
    found = jobs("""
        {name: "part_{i}", command: x, parameters: {i: "1:4"}}
        {name: all, command: x, depends_on: ["part_{i}"], parameters: {i: "1:4"}}
        """)
    assert found.names.count("all") == 1 and len(found.needs("all")) == 4


def test_b21_one_file_always_gives_the_same_steps_in_the_same_order():
    text = jobs_text('{name: "{z}{a}{m}", command: x, parameters: {z: "1:2", a: "1:2", m: "1:2"}}')
    expected = ["111", "112", "121", "122", "211", "212", "221", "222"]
    assert all(read(text).names == expected for _ in range(3))


def test_b21_commas_in_quotes_do_not_split_a_value():
    found = jobs("""{name: "j{v}", command: "{v}", parameters: {v: "['a,b','c']"}}""")
    assert found.names == ["ja,b", "jc"]


def test_b21_lists_and_names_in_commands_both_count():
    found = jobs(
        """
        {name: one, command: "x > ${files.output.a}"}
        {name: two, command: x, output_files: [b]}
        {name: both, command: "cat ${files.input.a}", input_files: [b]}
        """,
        files="[{name: a, path: a}, {name: b, path: b}]",
    )
    assert found.needs("both") == {"one", "two"}


def test_b21_the_invocation_script_is_run(tmp_path):
    (tmp_path / "with.sh").write_text('#!/bin/bash\necho "before $*"\n"$@"\n')
    found = jobs('{name: j, command: "echo work", invocation_script: "bash with.sh"}')
    ended = subprocess.run(
        ["bash", "-c", found.script("j")], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.stdout == "before echo work\nwork\n"


def test_b21_tasks_per_node_reach_the_scheduler():
    found = jobs(
        "{name: j, command: x}", slurm_schedulers="[{name: s, account: a, ntasks_per_node: 4}]"
    )
    assert found.task.slurm_schedulers["s"]["ntasks_per_node"] == 4
