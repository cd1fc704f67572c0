"""Agent steps before a real local service, through the real client libraries."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from apps.agents.models import Call, Conversation, Turn
from engine.agents.limits import Limits
from tests.agents.bench import Bench, known_providers, providers, step_of
from tests.agents.provider import Seen, Service, answer, call, cut_off, refuse, say, service
from tests.apps.jobs.builders import Hand, fresh, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic"])


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()


def ask(tmp_path: Path, kind: str = "openai", more: str = "", **given: Any) -> Any:
    text = f"""
    secrets: {{ token: hunter2-hunter2 }}
    tasks:
      main:
        input: {{ name: {{ type: string, default: World }} }}
        flow:
          ask:
            type: agent
            provider: {kind}
            prompt: "Greet {{{{ input.name }}}}"
            {more}
          after:
            type: script
            script: "echo {{{{ ask.output.text }}}}"
            depends_on: [ask]
    """
    return start(workspace(tmp_path, text), **given)


@KINDS
def test_an_answer_is_the_output_of_the_step(tmp_path: Path, service: Service, kind: str) -> None:
    service.answers(say("Hello!"))
    job = ask(tmp_path, kind, "system_prompt: Be brief", name="Ann")
    bench = Bench(service.settings())

    assert bench.work() == 1

    step = step_of(job)
    assert step.status == "completed", step.error
    assert step.output["text"] == "Hello!"
    meta = step.output["_meta"]
    assert (meta["provider"], meta["turns"], meta["tokens_in"], meta["tokens_out"]) == (
        kind,
        1,
        100,
        10,
    )
    assert meta["cost"] == pytest.approx(0.00012)
    (seen,) = service.seen
    assert "Greet Ann" in seen.text and "Be brief" in seen.text
    assert Hand().work() == 1 and fresh(job).status == "completed"
    assert Turn.objects.get().finish == "stop"


@KINDS
def test_a_structured_answer_is_checked_and_completed(
    tmp_path: Path, service: Service, kind: str
) -> None:
    service.answers(answer(queue="billing", score=3))
    output = "{ queue: { type: string, required: true, options: [billing, '{{ input.name }}'] }, score: { type: integer }, note: { type: string, default: none } }"
    job = ask(tmp_path, kind, f"output: {output}")

    Bench(service.settings()).work()

    step = step_of(job)
    assert step.status == "completed", step.error
    assert {key: step.output[key] for key in ("queue", "score", "note")} == {
        "queue": "billing", "score": 3, "note": "none",
    }  # fmt: skip
    assert "World" in service.seen[0].text  # the schema is rendered


@KINDS
def test_an_answer_that_does_not_fit_gets_one_round_of_repair(
    tmp_path: Path, service: Service, kind: str
) -> None:
    service.in_order(answer(queue=7), answer(queue="billing"))
    job = ask(tmp_path, kind, "output: { queue: { type: string, required: true } }")

    Bench(service.settings()).work()

    assert step_of(job).output["queue"] == "billing"
    assert "'queue' must be of type string, not the number 7" in service.seen[1].text


def test_a_second_misfit_fails_with_what_is_wrong(tmp_path: Path, service: Service) -> None:
    service.answers(answer(queue=7))
    job = ask(tmp_path, more="output: { queue: { type: string, required: true } }")

    Bench(service.settings()).work()

    step = step_of(job)
    assert step.status == "failed" and len(service.seen) == 2
    assert "does not fit: 'queue' must be of type string, not the number 7" in step.error


@KINDS
def test_a_cut_answer_is_a_failure(tmp_path: Path, service: Service, kind: str) -> None:
    service.answers(say("Hel", finish="length"))
    job = ask(tmp_path, kind)

    Bench(service.settings()).work()

    step = step_of(job)
    assert step.status == "failed" and "cut off at its greatest length" in step.error


@KINDS
@pytest.mark.parametrize(
    ("status", "told"), [(400, "HTTP 400: no"), (401, "HTTP 401: no"), (404, "HTTP 404: no")]
)
def test_a_refusal_fails_at_once_and_names_the_provider(
    tmp_path: Path, service: Service, kind: str, status: int, told: str
) -> None:
    service.script = lambda seen: refuse(status)
    job = ask(tmp_path, kind)

    Bench(service.settings()).work()

    step = step_of(job)
    assert step.status == "failed" and len(service.seen) == 1
    assert f"provider '{kind}': {told}" in step.error


@pytest.mark.sample(4)
@KINDS
@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_busy_service_is_asked_again_when_it_says(
    tmp_path: Path, service: Service, kind: str, status: int
) -> None:
    service.in_order(refuse(status, Retry_After="0"), say("Hello!"))
    job = ask(tmp_path, kind)

    Bench(service.settings()).work()

    assert step_of(job).status == "completed", step_of(job).error
    assert len({seen.key for seen in service.seen}) == 1 and len(service.seen) == 2


def test_an_answer_without_a_choice_cannot_be_read(tmp_path: Path, service: Service) -> None:
    empty = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    service.script = lambda seen: Response(json.dumps(empty), content_type="application/json")
    job = ask(tmp_path, "openai")

    Bench(service.settings()).work()

    assert "provider 'openai': the answer cannot be read" in step_of(job).error


def test_tries_end(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: refuse(429, "slow down", Retry_After="0")
    job = ask(tmp_path)

    Bench(service.settings(max_retries=2)).work()

    assert len(service.seen) == 3
    assert "HTTP 429: slow down (3 tries)" in step_of(job).error


def test_a_wait_beyond_the_time_out_is_not_begun(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: refuse(429, Retry_After="3600")
    job = ask(tmp_path, more="timeout: 30s")

    Bench(service.settings()).work()

    assert len(service.seen) == 1
    assert "another try in 3600 s would be after the step's time-out" in step_of(job).error


@pytest.mark.parametrize("body", ["{", '{"choices": []}', "[]", "null", ""])
def test_nonsense_is_a_failure_with_words(tmp_path: Path, service: Service, body: str) -> None:
    service.script = lambda seen: Response(body, content_type="application/json")
    job = ask(tmp_path)

    Bench(service.settings(max_retries=0)).work()

    step = step_of(job)
    assert step.status == "failed" and "provider 'openai'" in step.error
    assert "its log says more" not in step.error


@pytest.mark.sample(8)
@KINDS
@pytest.mark.parametrize("letters", [0, 20, 300, 400])
def test_an_answer_cut_in_the_middle_is_asked_for_again(
    tmp_path: Path, service: Service, kind: str, letters: int
) -> None:
    service.script = lambda seen: (
        cut_off(seen, letters) if len(service.seen) == 1 else say("Hello!")
    )
    job = ask(tmp_path, kind)

    Bench(service.settings()).work()

    assert step_of(job).status == "completed", step_of(job).error
    assert len({seen.key for seen in service.seen}) == 1 and len(service.seen) == 2


@pytest.mark.sample(2)
@KINDS
def test_a_slow_service_is_left_and_asked_again(
    tmp_path: Path, service: Service, kind: str
) -> None:
    over = threading.Event()

    def late(seen: Seen) -> Any:
        if len(service.seen) == 1:
            over.wait(60)
        return say("Hello!")

    service.script = late
    job = ask(tmp_path, kind)
    try:
        Bench(service.settings(request_timeout_s=1.0)).work()
    finally:
        over.set()

    assert step_of(job).status == "completed", step_of(job).error
    assert len({seen.key for seen in service.seen}) == 1 and len(service.seen) == 2


@pytest.mark.long
@KINDS
def test_a_service_that_stays_slow_or_cut_off_fails_the_step(
    tmp_path: Path, service: Service, kind: str
) -> None:
    over = threading.Event()

    def script(seen: Seen) -> Any:
        if len(service.seen) == 1:
            return cut_off(seen, 300)
        over.wait(60)
        return say("")

    service.script = script
    cut, slow = ask(tmp_path, kind), ask(tmp_path, kind)
    try:
        Bench(service.settings(max_retries=0, request_timeout_s=1.0)).work()
    finally:
        over.set()

    assert f"provider '{kind}': no answer" in step_of(cut).error
    assert f"provider '{kind}'" in step_of(slow).error
    assert re.search("did not answer within 1 s|timed out", step_of(slow).error)
    assert len(service.seen) == 2


def test_a_key_never_shows(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: refuse(401, "Incorrect API key provided: sk-the-key")
    job = ask(tmp_path)

    Bench(service.settings()).work()

    assert "sk-the-key" not in step_of(job).error and "***" in step_of(job).error


def test_an_unknown_provider_fails_with_the_known_ones(tmp_path: Path, service: Service) -> None:
    job = ask(tmp_path, "opnai")

    Bench(service.settings()).work()

    told = "There is no provider 'opnai' in `agents.providers` (did you mean 'openai'?); there are:"
    assert told in step_of(job).error


def test_a_secret_reaches_only_a_prompt_that_names_it(tmp_path: Path, service: Service) -> None:
    service.answers(say("I read hunter2-hunter2"))
    job = ask(tmp_path, more='system_prompt: "Use {{ secret.token }}"')

    Bench(service.settings()).work()

    assert "hunter2-hunter2" in service.seen[0].text
    assert "hunter2" not in str(step_of(job).output)
    row = Conversation.objects.get(job_id=job.id)
    assert "hunter2" not in str(row.opening)
    assert "hunter2" not in str(Turn.objects.get(conversation=row).answer)


def test_the_turns_of_a_conversation_are_limited(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: call("strom_task_nothing")
    job = ask(tmp_path, more="limits: { turns: 3 }")

    Bench(service.settings()).work()

    step = step_of(job)
    assert step.status == "failed" and "3 of 3 turns are used" in step.error
    assert len(service.seen) == 3
    assert set(Call.objects.values_list("status", flat=True)) == {"refused"}
    assert "There are no tools" in service.seen[1].text


@pytest.mark.parametrize(
    ("limits", "told"),
    [("tokens: 150", "220 of 150 tokens"), ("cost: 0.0002", "$0.0002 of $0.0002")],
)
def test_what_a_conversation_spends_is_limited(
    tmp_path: Path, service: Service, limits: str, told: str
) -> None:
    service.script = lambda seen: call("nothing")
    job = ask(tmp_path, more=f"limits: {{ {limits} }}")

    Bench(service.settings()).work()

    assert step_of(job).status == "failed" and told in step_of(job).error


def test_at_its_limit_a_model_may_have_the_last_word(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: (
        say("That is all") if "final answer now" in seen.text else call("x")
    )
    job = ask(tmp_path, more="limits: { turns: 2, at_limit: finish }")

    Bench(service.settings()).work()

    assert step_of(job).output["text"] == "That is all"
    assert len(service.seen) == 3


def test_the_installation_limits_a_day(tmp_path: Path, service: Service) -> None:
    service.answers(say("Hello!"))
    bench = Bench(service.settings(), daily=Limits(tokens=100))
    first, second = ask(tmp_path), ask(tmp_path)

    bench.work()

    assert {step_of(first).status, step_of(second).status} == {"completed", "failed"}
    assert len(service.seen) == 1


def test_doctor_asks_each_provider(service: Service, settings: Any) -> None:
    from dataclasses import replace

    from console.health import ask_providers

    service.script = lambda seen: refuse(401) if seen.kind == "openai" else say("OK")
    here = replace(settings.STROEM.agents, providers=providers(service.settings()))
    settings.STROEM = replace(settings.STROEM, agents=here)

    found = {finding.about: (finding.level, finding.sentence) for finding in ask_providers()}

    assert found["provider anthropic"][0] == "ok"
    assert found["provider openai"] == ("problem", "provider 'openai': HTTP 401: no")
