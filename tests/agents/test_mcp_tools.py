"""Tools of MCP servers: real servers of the official library, over their input and output and over
HTTP."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import User
from apps.agents.models import Call, Conversation
from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.jobs.flow import finishing
from apps.jobs.models import Job
from apps.workspaces.services import import_folder
from engine.agents.servers import McpRules
from engine.errors import AuthorError
from runners.mcp.servers import Servers
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.mcp_service import HTTP_RULES, SERVER, http_server
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import fresh, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "hunter2-hunter2"
RULES = McpRules(commands=(f"{sys.executable} *", "nothing-like-this"), private_networks=HTTP_RULES)


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings, RULES)
    with service() as made:
        yield made
    Conversation.objects.all().delete()
    ApprovalRequest.objects.all().delete()


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs have their folders."""
    folder = tmp_path / "homes"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(folder))
    return folder


@pytest.fixture(scope="module", name="url")
def running_server() -> Iterator[str]:
    with http_server() as url:
        yield url


def program(*argv: str, more: str = "") -> str:
    """A server that is a program."""
    args = json.dumps(list(argv) or [os.fspath(SERVER)])
    return f"{{ transport: stdio, command: {json.dumps(sys.executable)}, args: {args}, {more} }}"


def ask(tmp_path: Path, server: str, tools: str = "[{ mcp: shop }]", more: str = "") -> Job:
    text = f"""
    secrets: {{ token: {SECRET} }}
    mcp_servers:
      shop: {server}
    tasks:
      main:
        flow:
          ask:
            type: agent
            provider: openai
            prompt: "What does a lamp cost?"
            tools: {tools}
            {more}
    """
    return start(workspace(tmp_path, text))


def at(url: str, more: str = "") -> str:
    return f"{{ transport: http, url: {json.dumps(url)}, {more} }}"


def bench_of(service: Service, rules: McpRules = RULES) -> Bench:
    return Bench(service.settings(max_retries=0), mcp=rules)


def test_a_program_gives_its_tools_to_the_model(
    tmp_path: Path, service: Service, homes: Path
) -> None:
    service.answers(
        {"calls": [("mcp_shop_find_price", {"article": "lamp", "pieces": 2}),
                   ("mcp_shop_show_environment", {}), ("mcp_shop_fail", {})]},
        say("10 euros"),
    )  # fmt: skip
    os.environ["OUR_PROVIDER_KEY"] = "sk-our-provider-key"
    try:
        server = program(more='env: { SHOP_TOKEN: "{{ secret.token }}", REGION: north }')
        job = ask(tmp_path, server)
        bench_of(service).work()
    finally:
        del os.environ["OUR_PROVIDER_KEY"]

    step = step_of(job)
    assert step.output["text"] == "10 euros" and step.output["_meta"]["tool_calls"] == 3
    assert "mcp_shop_find_price" in service.seen[0].tools
    assert "Finds the price of an article" in service.seen[0].text
    price, environment, failed = Call.objects.order_by("index")
    assert (price.status, price.result) == ("done", "lamp: 10 euros")
    assert failed.status == "failed" and "the shop is closed" in failed.result
    seen = environment.result
    assert "north" in seen and "OUR_PROVIDER_KEY" not in seen and "STROEM" not in seen
    assert SECRET not in seen and "SHOP_TOKEN" in seen
    assert all(SECRET not in one.text for one in service.seen)
    assert not list(homes.iterdir())


@pytest.mark.long
def test_an_address_gives_its_tools_with_headers_of_ours(
    tmp_path: Path, service: Service, url: str
) -> None:
    service.answers(call("mcp_shop_find_price", {"article": "lamp"}), say("5 euros"))
    server = at(url, 'auth_token: "{{ secret.token }}", headers: { X-Shop: "{{ secret.token }}" }')
    job = ask(tmp_path, server)

    bench_of(service).work()

    assert step_of(job).output["text"] == "5 euros" and "lamp: 5 euros" in service.seen[1].text


def test_only_what_is_chosen_is_offered(tmp_path: Path, service: Service, url: str) -> None:
    service.answers(call("mcp_shop_note", {}), say("no"))
    job = ask(tmp_path, at(url), "[{ mcp: shop, only: [find_price] }]")

    bench_of(service).work()

    assert service.seen[0].tools == ["mcp_shop_find_price"]
    assert Call.objects.get().status == "refused" and fresh(job).status == "completed"


def test_a_result_is_data_and_cut(tmp_path: Path, service: Service, url: str) -> None:
    service.answers(
        {"calls": [("mcp_shop_say_much", {"letters": 300_000}),
                   ("mcp_shop_find_price", {"article": "{{ secret.token }}"})]},
        say("much"),
    )  # fmt: skip
    ask(tmp_path, at(url))

    bench_of(service).work()

    much, price = Call.objects.order_by("index")
    assert len(much.result) < 51_000 and "[cut: 300,000 letters in all]" in much.result
    assert price.result == "{{ secret.token }}: 5 euros"


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("argv", "timeout_s", "told"),
    [
        (("-c", "import sys; sys.exit('no module shop')"), 20, "saying: no module shop"),
        (("-c", "print('y' * 99, flush=True)\nwhile True: print('y')"), 20, "is no message of MCP"),
        (("-c", "import time; time.sleep(60)"), 1, "did not answer within 1 s"),
        (
            ("-c", "print('{' * 11_000_000, flush=True); input(); input()"),
            20,
            "a line of more than",
        ),
    ],
)
def test_a_server_that_is_none_is_an_error_of_the_step(
    tmp_path: Path, service: Service, homes: Path, argv: tuple[str, ...], timeout_s: int, told: str
) -> None:
    job = ask(tmp_path, program(*argv, more=f"timeout_secs: {timeout_s}"))

    bench_of(service).work()

    error = step_of(job).error
    assert fresh(job).status == "failed" and told in error and "MCP server 'shop'" in error
    assert service.seen == [] and not list(homes.iterdir())


def test_a_missing_tool_and_a_missing_command_are_told(
    tmp_path: Path, service: Service, url: str
) -> None:
    job = ask(tmp_path, at(url), "[{ mcp: shop, only: [find_prize] }]")
    other = ask(tmp_path, "{ transport: stdio, command: nothing-like-this }")

    bench_of(service).work()

    assert "has no tool 'find_prize'" in step_of(job).error
    assert "(did you mean 'find_price'?)" in step_of(job).error
    assert "'nothing-like-this' is not installed" in step_of(other).error


@pytest.mark.long
def test_a_server_that_falls_is_told_and_started_again(tmp_path: Path, service: Service) -> None:
    service.answers(
        {"calls": [("mcp_shop_die", {}), ("mcp_shop_find_price", {"article": "lamp"})]}, say("so")
    )
    job = ask(tmp_path, program())

    bench_of(service).work()

    died, price = Call.objects.order_by("index")
    assert died.status == "failed" and "exit code 3, saying: I fall" in died.result[-200:]
    assert "Whether the call had its effect is not known" in died.result
    assert (price.status, fresh(job).status) == ("done", "completed")


def test_all_processes_of_a_server_end_with_its_turn(tmp_path: Path, service: Service) -> None:
    file = tmp_path / "lingers"
    service.answers(call("mcp_shop_linger", {"file": os.fspath(file)}), say("so"))
    ask(tmp_path, program())

    bench_of(service).work()

    pids = [int(file.read_text()), int(Call.objects.get().result)]
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_an_approved_call_is_made_as_approved(tmp_path: Path, service: Service, url: str) -> None:
    file = tmp_path / "notes"
    given = {"file": os.fspath(file), "line": "from the model"}
    service.answers(call("mcp_shop_note", given), say("noted"))
    tools = "[{ mcp: shop, only: [note], approval: always }]"
    job, bench = ask(tmp_path, at(url), tools), bench_of(service)
    bench.work()
    request = ApprovalRequest.objects.get()

    assert step_of(job).status == "suspended" and not file.exists()
    assert "from the model" in request.message and set(request.fields) == {"file", "line"}
    decide(request, True, line="from a person")
    bench.work()

    assert file.read_text() == "from a person\n" and fresh(job).status == "completed"


def decide(request: ApprovalRequest, approved: bool, reason: str = "", **given: Any) -> None:
    ann, _ = User.objects.get_or_create(
        email="ann@example.com", defaults={"is_superuser": True, "is_active": True}
    )
    approvals.decide(request.pk, Caller(ann, "api"), approved=approved, given=given, reason=reason)


def lose_in_a_call(
    tmp_path: Path, service: Service, url: str, monkeypatch: pytest.MonkeyPatch, tools: str
) -> tuple[Job, Bench, Path]:
    """The process dies after the call had its effect, and before the result is stored."""
    file = tmp_path / "notes"
    service.answers(call("mcp_shop_note", {"file": os.fspath(file), "line": "x"}), say("noted"))
    job, bench = ask(tmp_path, at(url), tools, "retry: { max_attempts: 3, delay: 1s }"), None
    bench = bench_of(service)
    claim = bench.claim()
    assert claim is not None
    real = Servers.call

    def die(*args: Any) -> Any:
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as death, pytest.raises(KeyboardInterrupt):
        death.setattr(Servers, "call", die)
        bench.perform(claim)
    assert file.read_text() == "x\n" and Call.objects.get().status == "begun"
    finishing.lose(claim.attempt_id)
    bench.work()
    return job, bench, file


def test_a_lost_call_is_made_again_if_that_does_no_harm(
    tmp_path: Path, service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = "[{ mcp: shop, idempotent: true }]"
    job, _, file = lose_in_a_call(tmp_path, service, url, monkeypatch, tools)

    assert file.read_text() == "x\nx\n" and fresh(job).status == "completed"


def test_a_lost_call_fails_the_step_where_nobody_may_be_asked(
    tmp_path: Path, service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, file = lose_in_a_call(tmp_path, service, url, monkeypatch, "[{ mcp: shop }]")

    assert file.read_text() == "x\n" and fresh(job).status == "failed"
    assert "whether the call had its effect is not known" in step_of(job).error


@pytest.mark.parametrize("approved", [True, False])
def test_people_decide_about_a_lost_call(
    tmp_path: Path, service: Service, url: str, monkeypatch: pytest.MonkeyPatch, approved: bool
) -> None:
    tools = "[{ mcp: shop, approval: { when: '{{ call.arguments.line == \"never\" }}' } }]"
    job, bench, file = lose_in_a_call(tmp_path, service, url, monkeypatch, tools)
    request = ApprovalRequest.objects.get()
    assert "may have had its effect" in request.message and step_of(job).status == "suspended"

    decide(request, approved, reason="" if approved else "it is noted")
    bench.work()

    assert file.read_text() == ("x\nx\n" if approved else "x\n")
    assert fresh(job).status == "completed"
    told = "noted" if approved else "A person refused: it is noted. Its result was lost"
    assert told in service.seen[1].text


def test_what_the_operator_does_not_allow_is_refused(
    tmp_path: Path, service: Service, url: str, settings: Any
) -> None:
    known_providers(settings)
    with pytest.raises(AuthorError, match=r"would start the command .*agents\.mcp\.commands"):
        ask(tmp_path, program())
    with pytest.raises(AuthorError, match=r"would start the image 'shop:1', which .*mcp\.images"):
        ask(tmp_path, "{ transport: stdio, image: 'shop:1' }")
    job = ask(tmp_path, at(url))

    bench_of(service, McpRules()).work()

    assert "127.0.0.1, which is not of the public internet" in step_of(job).error
    assert service.seen == []


def test_a_process_with_narrower_settings_starts_nothing(tmp_path: Path, service: Service) -> None:
    job = ask(tmp_path, program())

    bench_of(service, McpRules()).work()

    assert "would start the command" in step_of(job).error and service.seen == []


def test_a_warning_says_what_the_settings_refuse(tmp_path: Path, service: Service) -> None:
    (tmp_path / "flow.yaml").write_text(
        "mcp_servers: { shop: { transport: stdio, command: rm, args: [-rf] } }\n"
        "actions: { a: { type: agent, provider: openai, prompt: x, tools: [{ mcp: shop }] } }\n"
    )

    (problem,) = import_folder("refused", tmp_path).problems

    assert (problem["severity"], problem["file"], problem["line"]) == ("warning", "flow.yaml", 2)
    told = "would start the command 'rm -rf', which `agents.mcp.commands`"
    assert told in problem["message"]
