"""What a plan says of each step before the job runs."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InputError
from engine.forecast import Outlook, StepForecast, forecast, whence
from engine.masking import MASK
from tests.engine.spec.builders import workspace

HEAD = """
secrets: {pw: canary-4711}
actions:
  say: {type: script, script: "true", input: {text: {type: string}, pin: {type: string, secret: true}}}
tasks:
  main:
    input:
      fast: {type: boolean, default: false}
      code: {type: string, secret: true}
      places: {type: string, default: "[]"}
      token: {type: string, default: "{{ secret.pw }}"}
    flow:
"""


def plan(flow: str, **given: Any) -> dict[str, StepForecast]:
    lines = "".join(f"      {line}\n" for line in flow.strip().splitlines())
    return {step.name: step for step in forecast(workspace(HEAD + lines), "main", given)}


def outlooks(flow: str, **given: Any) -> dict[str, str]:
    return {name: str(step.outlook) for name, step in plan(flow, **given).items()}


BRANCHES = """
a: {action: say}
quick: {action: say, depends_on: [a], when: "{{ input.fast }}"}
slow: {action: say, depends_on: [a], when: "{{ not input.fast }}"}
after_quick: {action: say, depends_on: [quick]}
join: {action: say, depends_on: [quick, slow]}
"""


@pytest.mark.parametrize("fast", [True, False])
def test_conditions_on_the_input_are_decided_and_carried_on(fast: bool) -> None:
    #   a --> quick --> after_quick
    #    \--> slow     quick, slow --> join
    taken, left = ("runs", "skipped") if fast else ("skipped", "runs")
    assert outlooks(BRANCHES, fast=fast) == {
        "a": "runs", "quick": taken, "slow": left, "after_quick": taken, "join": "runs",
    }  # fmt: skip


def test_what_reads_a_step_stays_open_and_says_of_which() -> None:
    found = plan("""
a: {action: say}
b: {action: say, depends_on: [a], when: "{{ a.output.ok }}", input: {text: "{{ a.output.x }}"}}
c: {action: say, depends_on: [b]}
d: {action: say, depends_on: [b], continue_on_failure: true}
""")
    assert found["b"].outlook is Outlook.OPEN
    assert found["b"].because == "when: known when 'a' has run"
    assert {name: whence(needed) for name, needed in found["b"].unknown.items()} == {
        "text": "known when 'a' has run"
    }
    assert (found["c"].outlook, found["c"].because) == (Outlook.OPEN, "only if 'b' runs")
    assert found["d"].outlook is Outlook.RUNS


def test_a_skipped_steps_output_is_known_to_be_null() -> None:
    found = plan("""
a: {action: say, when: "{{ input.fast }}"}
b: {action: say, depends_on: [a], continue_on_failure: true, input: {text: "{{ a.output.x | default(value='none') }}"}}
""")
    assert found["b"].input["text"] == "none"


def test_loops_count_their_items_where_they_are_known() -> None:
    found = plan(
        """
a: {action: say}
given: {action: say, for_each: "{{ input.places }}", input: {text: "{{ each.item }}"}}
none: {action: say, for_each: []}
computed: {action: say, depends_on: [a], for_each: "{{ a.output }}"}
after: {action: say, depends_on: [computed]}
""",
        places='["x", "y"]',
    )
    assert found["given"].items == 2
    assert whence(found["given"].unknown["text"]) == "differs with each item"
    assert found["none"].outlook is Outlook.SKIPPED
    assert (found["computed"].outlook, found["computed"].items) == (Outlook.OPEN, None)
    assert found["computed"].because == "for_each: known when 'a' has run"
    assert found["after"].outlook is Outlook.OPEN


def test_no_secret_is_shown() -> None:
    found = plan(
        """
a: {action: say, input: {text: "{{ secret.pw }} {{ input.code }} {{ input.token }}", pin: "{{ input.places }}"}}
b: {action: say, when: "{{ secret.pw == 'x' }}"}
c: {action: say, input: {text: "{{ input.code }}"}}
""",
        code="canary-4712",
        places="canary-4713",
    )
    assert found["a"].input == {"text": MASK, "pin": MASK}
    assert (found["b"].outlook, found["b"].because) == (Outlook.OPEN, "when: reads a secret")
    assert found["c"].input["text"] == MASK
    assert "canary" not in repr(found)


def test_a_secret_input_decides_nothing_beforehand() -> None:
    found = plan(
        """
a: {action: say, when: "{{ input.code == 'canary-4712' }}"}
b: {action: say, when: "{{ input['token'] != '' }}"}
c: {action: say, when: "{{ input.fast }}"}
""",
        code="canary-4712",
    )
    assert [found[name].outlook for name in "abc"] == [Outlook.OPEN, Outlook.OPEN, Outlook.SKIPPED]
    assert found["a"].because == "when: reads a secret"


def test_what_cannot_be_rendered_would_fail_and_so_would_what_depends_on_it() -> None:
    found = plan("""
a: {action: say, input: {text: "{{ input.fast | nth(n='x') }}"}}
b: {action: say, depends_on: [a]}
""")
    assert found["a"].outlook is Outlook.FAILS and "nth" in found["a"].because
    assert (found["b"].outlook, found["b"].because) == (Outlook.SKIPPED, "'a' would fail")


def test_input_that_the_task_refuses_is_refused() -> None:
    with pytest.raises(InputError, match="must be true or false"):
        plan("a: {action: say}", fast="perhaps")


def test_a_chain_of_ten_thousand_steps_is_planned() -> None:
    links = "\n".join(
        f"s{n}: {{action: say{f', depends_on: [s{n - 1}]' if n else ''}}}" for n in range(10_000)
    )
    assert set(outlooks(links).values()) == {"runs"}


def test_what_reads_a_state_stays_open_but_not_a_step_of_that_name() -> None:
    found = plan("""
a: {action: say, when: "{{ state.n > 5 }}", input: {text: "{{ global_state.x }}"}}
""")
    assert found["a"].outlook is Outlook.OPEN
    assert found["a"].because == "when: reads the state of that moment"
    assert found["a"].unknown == {"text": ("the state",)}
    named = plan("""
state: {action: say}
b: {action: say, depends_on: [state], input: {text: "{{ state.output.x }}"}}
""")
    assert named["b"].unknown == {"text": ("state",)}
