"""A call of `stroem-step` where it cannot be is told before anything runs."""

from __future__ import annotations

import pytest

from tests.engine.spec.builders import only, sentences

CALL = "stroem-step state set a 1"


@pytest.mark.parametrize(
    ("action", "who"),
    [
        (f"{{type: docker, image: x, cmd: {CALL}}}", "images"),
        (f"{{type: pod, image: x, cmd: {CALL}}}", "images"),
    ],
)
def test_it_is_told_where_nothing_answers(action: str, who: str) -> None:
    problem = only(f"actions: {{a: {action}}}")
    assert problem.severity == "warning" and f"which {who} do not have" in problem.message


@pytest.mark.parametrize("runner", ["local", "docker", "pod"])
def test_scripts_elsewhere_call_it_without_a_word(runner: str) -> None:
    text = f"actions: {{a: {{type: script, runner: {runner}, script: {CALL}}}}}"
    assert sentences(text, "warning") == []
