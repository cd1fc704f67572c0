"""Fifty canaries through every kind of step, hook and error; then every place where somebody could
look is searched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from django.test import Client

from apps.accounts.models import User
from apps.conductor import partitions
from apps.hooks.models import HookRun
from apps.jobs.models import Job, LogChunk, Step
from apps.workspaces.secrets import store_secret
from apps.workspaces.services import import_folder
from tests.acceptance.canaries import Canaries, CommandLines, environments, tables
from tests.acceptance.serving import Served
from tests.apps.jobs.builders import until
from tests.house import House

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

# No program gets the value as an argument: that would be a canary on a command line, of the
# stand-in's own making.
SOPS = """#!/bin/sh
while IFS= read -r line; do
  case $line in
    sops:*) ;;
    *"ENC[x]"*) printf '%s\\n' "${line%%"ENC[x]"*}$SOPS_AGE_TEST_VALUE${line#*"ENC[x]"}" ;;
    *) printf '%s\\n' "$line" ;;
  esac
done
"""
# a step that got a mask in place of it fails
CHECK = 'test "$(printf %s "$GOT" | sha256sum | cut -c1-64)" = "$WANT"'
PRINTED = (*range(7, 12), *range(20, 28))
PRINT = """
echo "raw $IT"
echo "base64 $(printf %s "$IT" | base64 -w0)"
echo "hex $(printf %s "$IT" | od -An -tx1 | tr -d ' \\n')"
printf 'split %s' "$(printf %s "$IT" | cut -c1-9)"; sleep 0.3; printf '%s\\n' "$(printf %s "$IT" | cut -c10-)"
echo "error $IT" >&2
"""


def printing(value: str) -> dict[str, Any]:
    return {"type": "script", "script": PRINT, "env": {"IT": value}}


def checking(canary: Canaries, name: str, value: str) -> dict[str, Any]:
    return {"type": "script", "script": CHECK, "env": {"GOT": value, "WANT": canary.digest(name)}}


def secrets_of(canary: Canaries) -> dict[str, Any]:
    many = {f"s{number}": canary[f"literal {number}"] for number in range(28)}
    return many | {
        "tree": {"inner": {"leaf": canary["nested"]}},
        "items": [canary["item 0"], canary["item 1"], canary["item 2"]],
        "lines": "\n".join([canary["line 0"], canary["line 1"], canary["line 2"]]),
        "env": "ref+env://CANARY_OF_ENV",
        "replaced": "not the one",
    }


def actions_of(canary: Canaries) -> dict[str, Any]:
    show = {
        "type": "script",
        "script": PRINT,
        "env": {"IT": "{{ input.it }}"},
        "input": {"it": {"type": "string"}},
    }
    return {
        "show": show,
        "show-secret": show | {"input": {"it": {"type": "string", "secret": True}}},
        "default": (
            show
            | {
                "input": {
                    "it": {"type": "string", "secret": True, "default": canary["action default"]}
                }
            }
        ),
        "spliced": {
            "type": "script",
            "script": (
                "printf '%s' {{ secret.s1 | sh }}; echo {{ secret.s1 | sh }} >&2; sleep 0.2; exit 4"
            ),
        },
        "python": {
            "type": "script",
            "language": "python",
            "script": "import os\nprint(os.environ['IT'])\nraise ValueError(os.environ['IT'])",
            "env": {"IT": "{{ secret.s2 }}"},
        },
        "connect": {
            "type": "script",
            "script": 'echo "$STROEM_INPUT_DB"; cat "$STROEM_INPUT_FILE"; env | grep -v PATH',
            "input": {"db": {"type": "db"}},
        },
        "give": {
            "type": "script",
            "script": 'printf \'OUTPUT: {"token": "%s", "plain": 1}\\n\' "$IT"',
            "env": {"IT": "{{ secret.s3 }}"},
        },
        "give-input": {
            "type": "script",
            "script": 'printf \'OUTPUT: {"token": "%s"}\\n\' "$STROEM_INPUT_IT"',
            "input": {"it": {"type": "string"}},
        },
        "number": {"type": "script", "script": "true", "input": {"n": {"type": "integer"}}},
        "slow": {
            "type": "script",
            "script": 'echo "$IT"; sleep 30',
            "env": {"IT": "{{ secret.s4 }}"},
            "timeout": "1s",
        },
        "tries": {
            "type": "script",
            "script": 'echo "$IT" >&2; exit 1',
            "env": {"IT": "{{ secret.s5 }}"},
            "retry": {"max_attempts": 2, "delay": "1s"},
        },
        "child": {"type": "task", "task": "child"},
        "wrong-child": {"type": "task", "task": "wrong-child"},
        "ask": {"type": "approval", "message": "Use {{ secret.s6 }} or {{ input.pw }}?"},
        "bad-hook": {"type": "task", "task": "wrong-child"},
        "check-token": checking(canary, "literal 3", "{{ give.output.token }}"),
        "check-child": checking(canary, "task input", "{{ child.output.deep.token }}"),
        "check-loop": checking(canary, "item 1", "{{ loop.output | nth(n=1) | get(key='token') }}"),
        "check-stored": checking(canary, "stored 0", "{{ secret.replaced }}"),
        "check-sops": checking(canary, "sops", "{{ secret.opened }}"),
        "check-default": (
            checking(canary, "task default", "{{ input.it }}")
            | {"input": {"it": {"type": "string"}}}
        ),
    } | {f"print-{number}": printing(f"{{{{ secret.s{number} }}}}") for number in PRINTED}


def tolerated(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "continue_on_failure": True, **more}


def flow_of() -> dict[str, Any]:
    checks = {
        "check-token": {"action": "check-token", "depends_on": ["give"]},
        "check-child": {"action": "check-child", "depends_on": ["child"]},
        "check-loop": {"action": "check-loop", "depends_on": ["loop"]},
        "check-stored": {"action": "check-stored"},
        "check-sops": {"action": "check-sops"},
        "check-default": {"action": "check-default", "input": {"it": "{{ input.pd }}"}},
    }
    shown = {
        "nested": "secret.tree.inner.leaf", "lines": "secret.lines", "env": "secret.env", "stored": "secret.kept",
        "given": "input.pw", "first": "secrets.s0",
    }  # fmt: skip
    return (
        checks
        | {f"print-{number}": {"action": f"print-{number}"} for number in PRINTED}
        | {f"show-{name}": {"action": "show", "input": {"it": f"{{{{ {path} }}}}"}} for name, path in shown.items()}
        | {
            "hidden": {"action": "show-secret", "input": {"it": "{{ give.output.plain }}abc"}, "depends_on": ["give"]},
            "default": {"action": "default"},
            "spliced": tolerated("spliced"),
            "python": tolerated("python"),
            "typed": {"action": "connect", "input": {"db": "typed"}},
            "untyped": {"action": "show", "input": {"it": "{{ secret.s12 }}"}},
            "give": {"action": "give"},
            "again": {"action": "show", "input": {"it": "{{ give.output.token }}"}, "depends_on": ["give"]},
            "child": {"action": "child", "input": {"it": "{{ input.pw }}"}},
            "loop": {"action": "give-input", "for_each": "{{ secret.items }}", "input": {"it": "{{ each.item }}"}},
            "loop-of-children": {
                "action": "child", "for_each": "{{ secret.items }}", "input": {"it": "{{ each.item }}"},
            },
            "wrong-type": tolerated("number", input={"n": "{{ secret.s13 }}"}),
            "wrong-child": tolerated("wrong-child", input={"n": "{{ secret.s14 }}"}),
            "wrong-when": tolerated("show", when="{{ secret.s15 * 2 }}", input={"it": "x"}),
            "wrong-loop": tolerated("show", for_each="{{ secret.s16 }}", input={"it": "x"}),
            "wrong-template": tolerated("show", input={"it": "{{ secret.s17 | int }}{{ secret.s17.nothing }}"}),
            "slow": tolerated("slow"),
            "tries": tolerated("tries"),
            "ask": {"action": "ask"},
            "last": {"action": "number", "input": {"n": "{{ secret.s18 }}"}, "depends_on": ["ask"]},
        }
    )  # fmt: skip


def files_of(canary: Canaries) -> dict[str, str]:
    document = {
        "secrets": secrets_of(canary),
        "connection_types": {
            "db": {
                "host": {"type": "string"},
                "password": {"type": "string", "secret": True},
                "pin": {"type": "string", "secret": True, "default": canary["type default"]},
            }
        },
        "connections": {
            "typed": {
                "type": "db",
                "host": "db.example.org",
                "password": canary["typed connection"],
            },
            "untyped": {
                "host": "x",
                "password": canary["untyped connection"],
                "api_key": "{{ secret.s19 }}",
            },
        },
        "actions": actions_of(canary),
        "triggers": {
            "hook": {
                "type": "webhook",
                "name": "canary",
                "task": "child",
                "secret": canary["webhook"],
            }
        },
        "mcp_servers": {
            "far": {
                "transport": "sse",
                "url": "https://mcp.example.org",
                "auth_token": canary["mcp token"],
            },
            "near": {"transport": "stdio", "command": "tool", "env": {"KEY": canary["mcp env"]}},
        },
        "tasks": {
            "child": {
                "input": {"it": {"type": "string"}},
                "flow": {"deep": {"action": "give-input", "input": {"it": "{{ input.it }}"}}},
            },
            "wrong-child": {
                "input": {"n": {"type": "integer", "required": True}},
                "flow": {"never": {"action": "number"}},
            },
            "main": {
                "input": {
                    "pw": {"type": "string", "secret": True, "required": True},
                    "pd": {"type": "string", "secret": True, "default": canary["task default"]},
                    "pin": {"type": "integer", "secret": True},
                    "short": {"type": "string", "secret": True},
                },
                "flow": flow_of(),
                "on_error": [
                    {"action": "show", "input": {"it": "{{ secret.s0 }} {{ hook.error_message }}"}},
                    {"action": "bad-hook", "input": {"n": "{{ secret.s1 }}"}},
                    {"action": "show", "input": {"it": "{{ secret.s2.nothing }}"}},
                ],
            },
        },
    }
    return {
        "flow.yaml": yaml.safe_dump(document, sort_keys=False),
        "more.sops.yaml": "secrets: {opened: 'ENC[x]'}\nsops: {version: 3, age: [{recipient: age1x}]}\n",
    }


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Canaries:
    found = Canaries()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sops").write_text(SOPS)
    (programs / "sops").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SOPS_AGE_TEST_VALUE", found["sops"].replace("'", "''"))
    monkeypatch.setenv("CANARY_OF_ENV", found["environment"])
    allowed = replace(settings.STROEM.secrets, env_allowed=("CANARY_OF_ENV",))
    settings.STROEM = replace(settings.STROEM, secrets=allowed)
    return found


@pytest.fixture
def house(tmp_path: Path, canary: Canaries, process_env: dict[str, str]) -> Iterator[House]:
    found = House(
        tmp_path, {**os.environ, **process_env, "STROEM__SECRETS__ENV_ALLOWED": "CANARY_OF_ENV"}
    )
    yield found
    found.close()


def test_no_canary_is_seen_anywhere(
    house: House, tmp_path: Path, canary: Canaries, broker_client: redis.Redis
) -> None:
    partitions.prepare()
    watcher = CommandLines()
    watcher.start()
    folder = tmp_path / "ws"
    folder.mkdir()
    for name, text in files_of(canary).items():
        (folder / name).write_text(text)
    found = import_folder("birds", folder)
    assert not found.has_failed, found.problems
    for number, name in enumerate(("replaced", "kept")):
        store_secret(found, name, canary[f"stored {number}"], by="me@example.org")
    house.scheduler()
    worker = house.worker("cage", slots=8)
    served = Served(house)
    answers = list(refusals(served, canary))
    job = through_everything(served, canary)
    queued = "".join(
        str(broker_client.lrange(key, 0, -1))
        for key in broker_client.scan_iter()
        if is_list(broker_client, key)
    )
    assert len(canary) >= 50

    seen = {name: canary.seen_in(text) for name, text in tables()}
    seen["answers"] = canary.seen_in("\n".join([*answers, *crawl_api(served, job)]))
    seen["pages"] = canary.seen_in("\n".join(crawl_admin()))
    seen["command lines"] = canary.seen_in(watcher.close())
    seen["broker"] = canary.seen_in(queued)
    logs = "\n".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
    seen["logs of processes"] = canary.seen_in(logs)
    around = environments([worker.pid, served.process.pid])
    # where their owner has put them
    seen["environment"] = canary.seen_in(around) - {"environment", "sops"}
    assert {place: names for place, names in seen.items() if names} == {}
    assert_it_was_all_there(job, canary)


def is_list(client: redis.Redis, key: bytes) -> bool:
    return client.type(key) == b"list"


def refusals(served: Served, canary: Canaries) -> Iterator[str]:
    """What a caller is told whose secret input is wrong."""
    path = "/api/workspaces/birds/tasks/main/execute"
    for given in (
        {"pw": canary["refused 0"], "pin": canary["refused 1"]},
        {"pw": [canary["refused 2"]]},
    ):
        status, text = served.fetch(path, {"input": given})
        assert status == 400, text
        yield text


def through_everything(served: Served, canary: Canaries) -> str:
    job_id = served.execute("birds", "main", pw=canary["task input"], pin=81928374, short="abc")
    steps = Step.objects.filter(job_id=job_id, loop_id=None)
    is_busy = steps.exclude(name__in=["ask", "last"]).exclude(
        status__in=["completed", "failed", "skipped", "cancelled"]
    )
    until(lambda: not is_busy.exists(), within_s=120, every_s=0.1)
    status, told = served.ask(f"/api/jobs/{job_id}/steps/ask/approve", {"approved": True})
    assert status == 200, told
    until(lambda: Job.objects.get(id=job_id).completed_at, within_s=30)
    until(lambda: HookRun.objects.filter(job_id=job_id).count() == 3, within_s=10)
    until(
        lambda: not Job.objects.filter(status__in=["pending", "running"]).exists(),
        within_s=60,
        every_s=0.1,
    )
    return job_id


def assert_it_was_all_there(job_id: str, canary: Canaries) -> None:
    """The scan would be worth nothing if the steps had not had the values."""
    found = {step.name: step for step in Step.objects.filter(job_id=job_id)}
    for name, step in found.items():
        if name.startswith("check-"):
            assert step.status == "completed", f"{name}: {step.error}"
    failing = {
        "spliced",
        "python",
        "wrong-type",
        "wrong-child",
        "wrong-when",
        "wrong-loop",
        "wrong-template",
    }
    failing |= {"slow", "tries", "last"}
    assert {name for name, step in found.items() if step.status == "failed"} == failing
    lines = "".join(LogChunk.objects.filter(job_id=job_id).values_list("lines", flat=True))
    assert lines.count("raw ••••••") >= 12 and "base64 ••••••" in lines and "split ••••••" in lines
    assert "81928374" not in lines
    job = Job.objects.get(id=job_id)
    assert job.input == {"pw": "••••••", "pd": "••••••", "pin": "••••••", "short": "••••••"}
    assert "••••••" in job.error or "must be a whole number" in job.error
    assert found["give"].output == {"token": "••••••", "plain": 1}


def crawl_api(served: Served, job_id: str) -> Iterator[str]:
    jobs = [str(found) for found in Job.objects.values_list("id", flat=True)]
    paths = [
        "/api/workspaces",
        "/api/tasks",
        "/api/jobs",
        "/api/workers",
        "/api/stats",
        "/api/approvals",
        "/api/schema",
    ]
    paths += [
        "/api/config",
        "/api/auth/me",
        "/api/workspaces/birds/tasks",
        "/api/workspaces/birds/secrets",
    ]
    paths += [f"/api/workspaces/birds/tasks/{task}" for task in ("main", "child", "wrong-child")]
    for one in jobs:
        paths += [f"/api/jobs/{one}", f"/api/jobs/{one}/logs"]
    paths += [
        f"/api/jobs/{job_id}/steps/{name}/logs" for name in ("show-given", "spliced", "_server")
    ]
    for path in paths:
        status, text = served.fetch(path)
        assert status == 200, (path, text)
        yield text


def crawl_admin() -> Iterator[str]:
    """Every page that can be reached from the front page by links, as a superuser."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.get(email="root@example.org"))
    waiting, known = ["/admin/"], {"/admin/"}
    while waiting and len(known) < 500:
        path = waiting.pop(0)
        answer = client.get(path)
        if answer.streaming or answer.status_code >= 400:
            continue
        text = answer.content.decode(errors="replace")
        yield text
        for link in re.findall(r'href="(/admin/[^"#]*)"', text):
            link = link.replace("&amp;", "&")
            if "logout" not in link and "o=" not in link and link not in known:
                known.add(link)
                waiting.append(link)
    assert len(known) > 20, known
