"""What the author types and what a step prints reaches the next step exactly, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.shared_house import Runs, _django_db_helper, shared_db, shared_runs  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
SHOW = """
actions:
  show:
    type: script
    language: python
    input: {value: {type: string, required: true}}
    script: |
      import json, os
      print("OUTPUT: " + json.dumps(os.environ["STROEM_INPUT_VALUE"]))
  pass: {type: task, task: child}
tasks:
  child:
    input: {value: {type: string}}
    flow: {show: {action: show}}
"""


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Any:
    def act(text: str, task: str = "t", *inputs: str) -> tuple[dict[str, Any], str]:
        (tmp_path / "flow.yaml").write_text(text, encoding="utf-8")
        return runs.run(tmp_path, task, inputs)

    return act


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: step["output"] for name, step in answer["steps"].items() if "[" not in name}


@pytest.mark.sample(6)
@pytest.mark.parametrize("typed", ["3.10", "12e4567", "12:30", "0755", "2026-01-31", "no"])
def test_text_that_yaml_reads_as_something_else_arrives_as_typed(run: Any, typed: str) -> None:
    answer, shown = run(
        SHOW
        + f"""
  t:
    input:
      default: {{type: string, default: {typed}}}
      chosen: {{type: string, options: [other, {typed}], default: {typed}}}
      many: {{type: string, multiple: true, options: [other, {typed}], default: [{typed}]}}
      given: {{type: string}}
    flow:
      literal: {{action: show, input: {{value: {typed}}}}}
      default: {{action: show, input: {{value: "{{{{ input.default }}}}"}}}}
      chosen: {{action: show, input: {{value: "{{{{ input.chosen }}}}"}}}}
      many: {{action: show, input: {{value: "{{{{ input.many | first }}}}"}}}}
      given: {{action: show, input: {{value: "{{{{ input.given }}}}"}}}}
      called: {{action: pass, input: {{value: {typed}}}}}
      loop: {{action: show, for_each: [{typed}], input: {{value: "{{{{ each.item }}}}"}}}}
""",
        "t",
        f"given={typed}",
    )
    assert answer["status"] == "completed", shown
    assert outputs(answer) == {
        **dict.fromkeys(("literal", "default", "chosen", "many", "given"), typed),
        "called": {"show": typed},
        "loop": [typed],
    }


VALUES = """
tasks:
  t:
    flow:
      make:
        type: script
        language: python
        script: |
          import json
          print("OUTPUT: " + json.dumps(%s))
      read:
        type: script
        language: python
        depends_on: [make]
        input: { value: "{{ make.output }}" }
        script: |
          import json, os
          value = json.load(open(os.environ["STROEM_INPUT_FILE"]))["value"]
          print("OUTPUT: " + json.dumps(value))
"""


@pytest.mark.parametrize(
    "code",
    [
        "[2**63 - 1, -(2**63) + 1, 2**53 + 1]",
        "[0.1, 1e22, 5e-324, -0.5, 1e19]",
        "['', ' x ', 'a\\nb\\r\\n', '\\'\\\"$`\\\\', '☃', '{' + '{ x }' + '}']",
        "'é' * 150_000",
        "{'a': [[[{'b': None}]]], '': True, 'x y': False}",
    ],
    ids=["whole numbers", "numbers", "texts", "long", "nested"],
)
def test_an_output_reaches_the_next_step_exactly(run: Any, code: str) -> None:
    answer, shown = run(VALUES % code)
    assert answer["status"] == "completed", shown
    expected = eval(code)  # of the lines above
    assert answer["steps"]["read"]["output"] == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2**63", "whole number above 9223372036854775807"),
        ("float('nan')", "NaN is not a JSON value"),
        ("'x' * 2_000_000", "longer than the 1000000 bytes"),
    ],
)
def test_an_output_that_would_not_arrive_fails_its_step(run: Any, value: str, reason: str) -> None:
    answer, _shown = run(VALUES % value)
    assert answer["status"] == "failed"
    assert reason in answer["steps"]["make"]["error"]


def test_an_output_that_the_database_cannot_hold_arrives_marked(run: Any) -> None:
    answer, shown = run(VALUES % "'a' + chr(0)")
    assert answer["steps"]["read"]["output"] == "a\ufffd"
    assert "the next step gets U+FFFD" in shown


def test_a_large_input_is_in_the_file_and_its_variable_says_so(run: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    large.write_text("é" * 150_000, encoding="utf-8")
    answer, shown = run(
        """
tasks:
  t:
    input: { text: { type: text } }
    flow:
      own:
        type: script
        input: { text: "{{ input.text }}" }
        script: |
          echo "$STROEM_INPUT_TEXT"
      of-the-job:
        type: script
        language: python
        script: |
          import json, os
          text = json.load(open(os.environ["STROEM_INPUT_FILE"]))["text"]
          print("OUTPUT: " + json.dumps([len(text), os.environ["STROEM_INPUT_TEXT"][:40]]))
""",
        "t",
        f"text={large.read_text(encoding='utf-8')}",
    )
    assert answer["status"] == "completed", shown
    said = "input 'text' (300,000 bytes) does not fit into STROEM_INPUT_TEXT"
    assert f"Warning: {said}" in shown  # the step's own input: the log says so
    assert answer["steps"]["of-the-job"]["output"] == [150_000, said[:40]]


def test_an_inline_step_finds_the_input_of_its_job(run: Any) -> None:
    answer, shown = run(
        """
tasks:
  t:
    input: { version: { type: string, default: 3.10 }, mode: { type: string, default: job } }
    flow:
      it:
        type: script
        input: { mode: own }
        script: |
          echo "OUTPUT: \\"$STROEM_INPUT_VERSION $STROEM_INPUT_MODE\\""
"""
    )
    assert answer["status"] == "completed", shown
    assert answer["steps"]["it"]["output"] == "3.10 own"


def test_an_input_named_file_arrives_beside_the_file_of_all_inputs(run: Any) -> None:
    answer, shown = run(
        """
actions:
  read:
    type: script
    language: python
    input: {file: {type: string}}
    script: |
      import json, os
      everything = json.load(open(os.environ["STROEM_INPUTS_FILE"]))
      print("OUTPUT: " + json.dumps([os.environ["STROEM_INPUT_FILE"], everything]))
tasks:
  t:
    flow:
      a: {action: read, input: {file: /etc/hostname}}
"""
    )
    assert answer["status"] == "completed", shown
    assert outputs(answer) == {"a": ["/etc/hostname", {"file": "/etc/hostname"}]}
