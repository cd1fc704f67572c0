"""The keys of a Slurm scheduler that say what comes before the worker, and what steps see."""

from __future__ import annotations

import pytest

from engine import spec
from tests.engine.spec.builders import load

HEAD = "slurm_schedulers:\n  gpu: {account: lab, MORE}\n"
KDL = """
name "x"
job "a" { command "b" }
slurm_scheduler "gpu" {
    account "lab"
    setup "module load gcc" "ulimit -s unlimited"
    pass_env "OMP_*" "LD_LIBRARY_PATH"
}
"""


def scheduler(more: str) -> dict:
    loaded = load(HEAD.replace("MORE", more))
    assert loaded.workspace is not None and not loaded.problems, spec.report(loaded)
    return dict(loaded.workspace.slurm_schedulers["gpu"])


def test_the_lines_of_a_site_are_a_text_or_a_list() -> None:
    assert scheduler('setup: "a\\nb\\n"')["setup"] == "a\nb\n"
    assert scheduler("setup: [a, b]")["setup"] == "a\nb"


def test_variables_are_named_or_all() -> None:
    assert scheduler("pass_env: all")["pass_env"] == ["*"]
    assert scheduler("pass_env: MYVAR")["pass_env"] == ["MYVAR"]
    assert scheduler('pass_env: ["OMP_*", LD_LIBRARY_PATH]')["pass_env"] == [
        "OMP_*",
        "LD_LIBRARY_PATH",
    ]


def test_torc_files_have_both() -> None:
    loaded = spec.load({"x.kdl": KDL})
    assert loaded.workspace is not None, spec.report(loaded)
    found = loaded.workspace.tasks["x"].slurm_schedulers["gpu"]
    assert found["setup"] == "module load gcc\nulimit -s unlimited"
    assert found["pass_env"] == ["OMP_*", "LD_LIBRARY_PATH"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('setup: ""', "'setup' is empty"),
        ('setup: "a\\u0007"', "'setup' must be lines of text"),
        ("pass_env: [A B]", "'pass_env' must be all, or a list of names or patterns"),
        ("pass_env: [STROEM_CONFIG]", "Stroem's own settings never reach steps"),
        ('extra: "--export=ALL,A=1"', "steps do not see what '--export' sets"),
    ],
)
def test_what_is_wrong_or_has_no_effect_is_said(more: str, words: str) -> None:
    (problem,) = load(HEAD.replace("MORE", more)).problems
    assert words in problem.message, problem.message
    assert problem.place.line == 2


def test_an_export_that_steps_see_is_no_mistake() -> None:
    assert "extra" in scheduler('extra: "--export=ALL,A=1", pass_env: [A]')


@pytest.mark.parametrize(
    ("extra", "option"),
    [
        ("--array=0-3", "array"),
        ("-a 0-3", "array"),
        ("--exclusive -Ja", "job-name"),
        ("--job-name x", "job-name"),
        ("--wait", "wait"),
        ("-HW", "wait"),
    ],
)
def test_options_that_make_an_allocation_another_one_are_refused(extra: str, option: str) -> None:
    loaded = load(HEAD.replace("MORE", f'extra: "{extra}"'))
    (problem,) = loaded.problems
    assert problem.severity == "error"
    assert f"must not hold sbatch's '--{option}'" in problem.message
    default = f"slurm_defaults: {{{option}: x}}\nname: x\njobs: [{{name: a, command: b}}]\n"
    found = spec.load({"x.yaml": default}).problems
    assert [one.severity for one in found] == ["error"], found


@pytest.mark.parametrize(
    "extra",
    [
        "--exclusive --wait-all-nodes=1 -c 16 -d afterok:1",
        "--comment='run -a lot' -A other --acctg-freq=1 -w n1",
        "-t 10 --hold",
        "--comment='",
    ],
)
def test_other_options_pass(extra: str) -> None:
    assert scheduler(f'extra: "{extra}"')["extra"] == extra


TIMES = """
slurm_schedulers:
  short: {account: lab, walltime: "SHORT", EXTRA}
  long: {account: lab, walltime: 2-0}
actions:
  work: {type: script, script: "true", resources: {runtime: 90m}}
tasks:
  main:
    flow:
      a: {action: work}
      b: {action: work, scheduler: short}
      c: {action: work, scheduler: long}
    workflow_actions:
      - {trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: short,
         scheduler_type: slurm}
      - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: long,
         scheduler_type: slurm}
"""


@pytest.mark.parametrize(
    ("walltime", "extra", "is_short"),
    [
        ("01:00:00", "nodes: 1", True),
        ("89", "nodes: 1", True),
        ("89:59", "nodes: 1", False),  # Slurm counts whole minutes
        ("0-1:29", "nodes: 1", True),
        ("01:30:00", "nodes: 1", False),
        ("90", "nodes: 1", False),
        ("0-2", "nodes: 1", False),
        ("0", "nodes: 1", False),  # no limit
        ("01:00:00", "extra: -t 120", False),
    ],
)
def test_steps_that_need_longer_than_their_nodes_last_are_named(
    walltime: str, extra: str, is_short: bool
) -> None:
    loaded = load(TIMES.replace("SHORT", walltime).replace("EXTRA", extra))
    assert loaded.workspace is not None
    said = [problem.message for problem in loaded.problems]
    assert said == (
        [
            "no nodes of 'short' last as long as the 'runtime' of 'a', 'b', which can never run"
            " there: raise the scheduler's 'walltime' or lower the 'runtime'"
        ]
        if is_short
        else []
    )


def test_steps_whose_nodes_nobody_requests_are_named() -> None:
    ours = HEAD.replace("MORE", "nodes: 1") + (
        "tasks: {t: {flow: {a: {type: script, script: date, scheduler: gpu}, b: {type: script,"
        " script: date}}}}\n"
    )
    torc = (
        "name: t\nslurm_schedulers: [{name: gpu, account: a}]\n"
        "jobs: [{name: a, command: b, scheduler: gpu}, {name: b, command: b}]\n"
    )
    for text in (ours, torc):
        (problem,) = spec.load({"x.yaml": text}).problems
        assert problem.severity == "warning"
        assert "no workflow action requests nodes of 'gpu', which alone may run 'a':" in (
            problem.message
        )


def test_steps_of_torc_files_that_may_use_any_nodes_count_by_the_longest() -> None:
    text = """
name: x
resource_requirements: [{name: big, num_cpus: 1, memory: 1g, runtime: PT2H}]
slurm_schedulers: [{name: s, account: a, walltime: "01:00:00"}, {name: t, account: a, walltime: "TIME"}]
jobs: [{name: j, command: b, resource_requirements: big}]
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, scheduler_type: slurm}
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: t, scheduler_type: slurm}
"""
    for time, words in (("01:30:00", "no nodes of any Slurm scheduler last"), ("02:00:00", "")):
        said = [one.message for one in spec.load({"x.yaml": text.replace("TIME", time)}).problems]
        assert len(said) == bool(words) and all(words in one for one in said), said
