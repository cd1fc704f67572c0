"""Each test fails on the behaviour that Strøm has and we must not have."""

from __future__ import annotations

import os

import pytest

from engine import templating
from engine.errors import TemplateError

DATA = {
    "input": {"name": "{{ secret.key }}", "stray": "a {{ b", "items": ["a", {"b": 1}]},
    "secret": {"key": "canary-4711"},
    "skipped": {"output": None},
    "failed": {"output": None, "error": "exit code 2"},
    "list": {"output": {"items": ["a b", {"c": 1}]}},
    "state": {"last": "2024-01-01"},
}


def test_input_that_looks_like_a_template_is_never_rendered():
    first = templating.render_value({"who": "{{ input.name }}", "stray": "{{ input.stray }}"}, DATA)
    assert first == {"who": "{{ secret.key }}", "stray": "a {{ b"}
    assert templating.render(
        "echo {{ input.name }}", {"input": {"name": first["who"]}, "secret": DATA["secret"]}
    ) == ("echo {{ secret.key }}")
    assert templating.items(
        "{{ input.items }}", {"input": {"items": ["{{ secret.key }}"]}, "secret": DATA["secret"]}
    ) == ["{{ secret.key }}"]


def test_for_each_takes_the_array_itself():
    assert templating.items("{{ list.output.items }}", DATA) == ["a b", {"c": 1}]


def test_when_and_for_each_read_state_like_any_other_name():
    assert templating.is_true("{{ state.last == '2024-01-01' }}", DATA)
    assert templating.items("{{ [state.last] }}", DATA) == ["2024-01-01"]


def test_the_output_of_a_skipped_or_failed_step_is_null_and_not_an_error():
    assert templating.evaluate("{{ skipped.output }}", DATA) is None
    assert templating.render("[{{ skipped.output }}]", DATA) == "[]"
    assert templating.render("{{ skipped.output.version | default(value='none') }}", DATA) == "none"
    assert (
        templating.render("{% if failed.error %}{{ failed.error }}{% endif %}", DATA)
        == "exit code 2"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{ get_env(name='PATH') }}",
        "{{ get_env(name='NOPE', default='x') }}",
        "{% set a = get_env(name='PATH') %}{{ a }}",
    ],
)
def test_templates_cannot_read_the_environment(text: str):
    with pytest.raises(TemplateError, match=r"get_env\(\) is switched off") as caught:
        templating.render(text, DATA)
    assert os.environ["PATH"] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ __tera_context }}",
        "{{ __tera_context | json_encode }}",
        "{% if __tera_context %}{% endif %}",
    ],
)
def test_templates_cannot_print_the_whole_context(text: str):
    with pytest.raises(TemplateError, match="__tera_context is switched off"):
        templating.render(text, DATA)
