from __future__ import annotations

import pytest

from engine.spec.model import Action, Step
from engine.spec.tags import required_tags, tag_set_key


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action("script"), ("script",)),
        (Action("script", runner="docker"), ("docker",)),
        (Action("script", runner="pod"), ("kubernetes",)),
        (Action("docker"), ("docker",)),
        (Action("pod"), ("kubernetes",)),
        (Action("task", tags=("gpu",)), ()),
        (Action("agent"), ("@agents",)),
        (Action("approval"), ()),
    ],
)
def test_the_tags_of_a_type_and_its_runner(action, expected):
    assert required_tags(action) == expected


def test_tags_of_action_step_and_scheduler_are_added_once_each_in_order():
    action = Action("script", runner="docker", tags=("gpu", "eu"))
    step = Step("a", tags=("gpu", "big"), scheduler="cluster")
    assert required_tags(action, step) == ("big", "docker", "eu", "gpu", "slurm:cluster")


def test_a_tag_set_has_one_name():
    assert tag_set_key(("gpu", "docker")) == tag_set_key(["docker", "gpu", "gpu"]) == "docker+gpu"
    assert tag_set_key(()) == ""
