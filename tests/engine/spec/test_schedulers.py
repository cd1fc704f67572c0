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
