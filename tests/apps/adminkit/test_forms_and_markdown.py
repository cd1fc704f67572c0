"""Forms turn text into values for the engine; untrusted Markdown becomes harmless HTML; badges."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import QueryDict

from apps.adminkit.badges import LOOKS
from apps.adminkit.charts import Bars, Series
from apps.adminkit.markdown import first_line, rendered
from apps.adminkit.typed_forms import TypedForm
from apps.approvals.models import Outcome
from apps.fleet.vitals import WorkerState
from apps.triggers.models import Delivery
from apps.workflow_actions.snapshots import RUN_STATUSES
from engine.errors import InputError
from engine.lifecycle import (
    ActionStatus,
    AllocationStatus,
    AttemptStatus,
    DeliveryStatus,
    FiringStatus,
    JobStatus,
    RequestStatus,
    StepStatus,
)
from engine.masking import MASK
from engine.spec.model import InputField
from tests.browser.vectors import vectors

FIELDS = {
    "name": InputField("string", required=True, name="Your name"),
    "note": InputField("text", default="hello", has_default=True),
    "count": InputField("integer", default=3, has_default=True),
    "flag": InputField("boolean"),
    "when": InputField("datetime"),
    "pw": InputField("string", secret=True),
    "many": InputField("string", multiple=True, options=("a", "b")),
    "free": InputField("string", multiple=True),
    "db": InputField("postgres"),
    "made": InputField("string", default="{{ secret.x }}", has_default=True),
}


def posted(**values: Any) -> QueryDict:
    data = QueryDict(mutable=True)
    for key, value in values.items():
        data.setlist(f"input-{key}", value if isinstance(value, list) else [value])
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, {"flag": False, "note": "", "many": [], "free": [], "made": ""}),
        ({"flag": "on", "name": "x"}, {"flag": True, "name": "x"}),
        ({"when": "2026-01-31T09:30"}, {"when": "2026-01-31T09:30:00Z"}),
        ({"when": "2026-01-31T09:30:15"}, {"when": "2026-01-31T09:30:15Z"}),
        ({"many": ["a", "b"]}, {"many": ["a", "b"]}),
        ({"free": "one\r\n two \r\n\r\n"}, {"free": ["one", "two"]}),
        ({"db": '{"host": "h"}'}, {"db": {"host": "h"}}),
        ({"db": "main"}, {"db": "main"}),
        ({"note": "a\r\nb"}, {"note": "a\nb"}),
        ({"count": ""}, {}),
    ],
)
def test_submitted_text_becomes_typed_values(data: dict[str, Any], said: dict[str, Any]) -> None:
    given = TypedForm(FIELDS, posted(**data)).given()
    assert {key: given.get(key) for key in said} == said
    assert "pw" not in given
    if not data.get("count"):
        assert "count" not in given


def test_a_secret_that_is_left_empty_stays_as_it_was() -> None:
    form = TypedForm(FIELDS, posted(), before={"pw": MASK, "name": "x"})
    assert form.given()["pw"] == MASK
    assert MASK not in str(form)


def test_defaults_are_filled_in_but_templates_are_not() -> None:
    form = TypedForm(FIELDS)
    assert form["note"].value() == "hello"
    assert form["made"].value() is None
    assert "{{ secret.x }}" in form.fields["made"].help_text


def test_each_error_stands_at_its_field_and_the_rest_at_the_top() -> None:
    form = TypedForm(FIELDS, posted())
    form.refuse(InputError({"name": "input 'name' is required", "other": "what?"}))
    assert form["name"].errors == ["input 'name' is required"]
    assert form.non_field_errors() == ["what?"]


def test_markdown_keeps_its_shape() -> None:
    html = rendered(
        "# Go?\n\n**60** rows [notes](https://example.com)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    assert "<h2>Go?</h2>" in html
    assert "<strong>60</strong>" in html
    assert 'href="https://example.com"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert "<td>1</td>" in html


@pytest.mark.parametrize("vector", vectors())
def test_markdown_lets_no_vector_through(vector: str) -> None:
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in {
                "script",
                "img",
                "svg",
                "iframe",
                "style",
                "form",
                "object",
                "base",
                "meta",
                "math",
            }
            for name, value in attrs:
                assert name in {"href", "title", "rel"}, (name, value)
                assert name != "href" or (value or "").startswith(("http:", "https:", "mailto:")), (
                    value
                )

    Reader().feed(rendered(vector))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n# Publish **1204** rows?\n\nSee [there](https://x.org).", "Publish 1204 rows?"),
        ("a < b & `c`", "a < b & c"),
        # text, which the caller escapes
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("***", ""),
        ("", ""),
    ],
)
def test_the_first_line_of_markdown_is_shown_without_its_marks(text: str, said: str) -> None:
    assert first_line(text) == said


def test_bars_fit_under_their_scale() -> None:
    chart = Bars("x", ["1", "2"], [Series("a", "ok", [3, 0]), Series("b", "bad", [4, 0])])
    assert chart.top == 10
    assert [bar.tone for bar in chart.bars] == ["ok", "bad"]
    assert chart.bars[1].y + chart.bars[1].height == chart.bars[0].y
    assert [label for label, _ in chart.rows] == ["1"]
    assert Bars("x", ["1"], [Series("a", "ok", [0])]).is_empty


def test_every_status_has_a_badge_and_every_badge_a_status() -> None:
    enums = (StepStatus, JobStatus, RequestStatus, AllocationStatus, Outcome, WorkerState)
    statuses = {str(status) for enum in enums for status in enum}
    statuses |= {
        *AttemptStatus,
        *ActionStatus,
        *FiringStatus,
        *DeliveryStatus,
        *Delivery.Outcome,
        *RUN_STATUSES,
    }
    of_workspaces = {"loaded", "warnings", "broken"}
    of_triggers = {"failing", "paused", "off", "gone", "resting", "restarting", "stopping"}
    assert {str(status) for status in LOOKS} == statuses | of_workspaces | of_triggers
