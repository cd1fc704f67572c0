"""Secrets: their sources, how they are stored, and that nobody else sees them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from apps.workspaces import revisions, sealing, secrets, services
from apps.workspaces.errors import SealError, SecretError
from apps.workspaces.models import Secret, Workspace
from engine.errors import InputError, NotFound
from stroem_project.config import Reference

pytestmark = pytest.mark.django_db


def imported(folder: Path, text: str, name: str = "shop") -> Workspace:
    folder.mkdir(exist_ok=True)
    (folder / "flow.yaml").write_text(text)
    workspace = services.import_folder(name, folder)
    assert workspace.current is not None, workspace.problems
    return workspace


def of(workspace: Workspace) -> dict[str, Any]:
    return revisions.secrets_of(workspace.current_id)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH, for replacements of vals and sops."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture(autouse=True)
def rules(settings: Any) -> None:
    """Every workspace may read everything of two stores; tests/security/test_references.py is about
    rules."""
    everything = {scheme: Reference(("*",), scheme, ("*",)) for scheme in ("vault", "awsssm")}
    settings.STROEM = dataclasses.replace(
        settings.STROEM, secrets=dataclasses.replace(settings.STROEM.secrets, references=everything)
    )


VALS = """#!/usr/bin/env python3
import json, os, sys
open(os.path.join(os.path.dirname(sys.argv[0]), "calls"), "a").write(json.dumps([sys.argv, dict(os.environ)]) + "\\n")
asked = json.load(sys.stdin)
print(json.dumps({key: "value of " + ref.rsplit("/", 1)[-1] for key, ref in asked.items()}))
"""


def test_literals_stay_as_they_are_with_their_nesting(tmp_path: Path) -> None:
    workspace = imported(
        tmp_path / "ws", "secrets: {pw: abc, nested: {deep: [one, {two: 2}]}, n: 7}"
    )
    assert of(workspace) == {"pw": "abc", "nested": {"deep": ["one", {"two": 2}]}, "n": 7}


def test_references_go_to_vals_by_its_standard_input_in_one_call_for_each_kind_of_credential(
    tmp_path: Path, programs: Path, monkeypatch: Any
) -> None:
    program(programs, "vals", VALS)
    monkeypatch.setenv("STROEM__DB__URL", "postgresql://ours")
    monkeypatch.setenv("VAULT_ADDR", "https://vault")
    monkeypatch.setenv("AWS_REGION", "eu")
    workspace = imported(
        tmp_path / "ws",
        "secrets:\n  plain: ref+vault://secret/a\n  filtered: \"{{ 'ref+awsssm://b' | vals }}\"\n "
        " within: \"user:{{ 'ref+vault://secret/c' | vals }}@host\"\n  untouched: \"{{ 'text' |"
        ' vals }}"\n',
    )
    (programs / "calls").unlink()
    revisions.forget_secrets(workspace.pk)
    assert of(workspace) == {
        "plain": "value of a",
        "filtered": "value of b",
        "within": "user:value of c@host",
        "untouched": "text",
    }
    calls = [json.loads(line) for line in (programs / "calls").read_text().splitlines()]
    assert [words[1:] for words, _ in calls] == 2 * [["eval", "-f", "-", "-o", "json"]]
    seen = [environment for _, environment in calls]
    assert [(one.get("VAULT_ADDR"), one.get("AWS_REGION")) for one in seen] == [
        ("https://vault", None),
        (None, "eu"),
    ]
    for one in seen:
        assert not [name for name in one if name.startswith(("STROEM", "DJANGO"))]


def test_without_vals_the_import_warns_and_the_job_fails_with_a_sentence(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {pw: 'ref+vault://a/b#c'}")
    assert [problem["severity"] for problem in workspace.problems] == ["warning"]
    with pytest.raises(
        SecretError, match=r"secret 'pw': vals CLI not found\. Install vals to use ref\+ secrets"
    ):
        of(workspace)


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\necho 'no such key' >&2; exit 3\n", "#!/bin/sh\necho '{}'\n"]
)
def test_a_failure_of_vals_names_the_secret(tmp_path: Path, programs: Path, script: str) -> None:
    program(programs, "vals", script)
    workspace = imported(tmp_path / "ws", "secrets: {pw: 'ref+vault://a/b'}")
    sentences = r"eval failed \(exit 3\): no such key|did not answer with the expected JSON"
    with pytest.raises(SecretError, match=rf"secret 'pw': vals ({sentences})"):
        of(workspace)


@pytest.mark.parametrize(
    "reference",
    [
        "ref+file:///etc/passwd",
        "ref+envsubst://$STROEM__DB__URL",
        "ref+exec://id",
        "ref+sops://x",
        "ref+k8s://x",
        "ref+",
    ],
)
def test_references_to_the_servers_own_files_and_programs_are_refused(
    tmp_path: Path, programs: Path, reference: str
) -> None:
    program(programs, "vals", VALS)
    workspace = imported(
        tmp_path / "ws", f"secrets: {{pw: '{reference}', pw2: 'ref+vault://a+ and {reference}'}}"
    )
    if reference == "ref+":
        assert not workspace.has_failed
        return
    with pytest.raises(SecretError, match="not allowed"):
        of(workspace)
    assert not (programs / "calls").exists()


def allow(settings: Any, *names: str) -> None:
    config = settings.STROEM
    settings.STROEM = dataclasses.replace(
        config, secrets=dataclasses.replace(config.secrets, env_allowed=names)
    )


def test_the_environment_answers_for_names_that_the_operator_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "from-environment")
    monkeypatch.setenv("OTHER", "not-for-you")
    allow(settings, "SHOP_TOKEN", "UNSET")
    assert of(imported(tmp_path / "a", "secrets: {t: 'ref+env://SHOP_TOKEN'}", "a")) == {
        "t": "from-environment"
    }
    for name, sentence in (("OTHER", "does not list"), ("UNSET", "is not set")):
        workspace = imported(tmp_path / name, f"secrets: {{t: 'ref+env://{name}'}}", name)
        with pytest.raises(SecretError, match=f"secret 't'.*'{name}'.*{sentence}") as refused:
            of(workspace)
        assert "not-for-you" not in str(refused.value)


def test_templates_of_secrets_see_nothing_but_vals(tmp_path: Path, programs: Path) -> None:
    program(programs, "vals", VALS)
    workspace = imported(
        tmp_path / "ws", "secrets: {pw: \"{{ 'ref+vault://' ~ 'a' | vals | upper }}\"}"
    )
    assert of(workspace) == {"pw": "VALUE OF A"}
    for text in ("{{ secret.pw }}", "{{ input.x }}"):
        (tmp_path / "ws" / "flow.yaml").write_text(f'secrets: {{pw: "{text}"}}')
        refused = services.import_folder("shop", tmp_path / "ws")
        assert "secrets are read before anything else" in str(refused.problems)
        assert of(refused) == {"pw": "VALUE OF A"}


def test_a_stored_secret_overrides_that_of_the_files_which_is_not_fetched(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {pw: 'ref+vault://a/b', other: kept}")
    secrets.store_secret(workspace, "pw", "stored", by="a@b.c")
    assert of(workspace) == {"pw": "stored", "other": "kept"}


def test_a_stored_secret_is_encrypted_and_opens_again(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {}")
    secrets.store_secret(workspace, "pw", "canary-stored-1", by="a@b.c")
    row = Secret.objects.get()
    assert b"canary" not in bytes(row.sealed)
    assert "canary" not in repr(row) + str(row)
    assert sealing.unseal(row.sealed) == "canary-stored-1"


def test_a_changed_or_removed_secret_is_known_at_once_here(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {pw: from-file}")
    secrets.store_secret(workspace, "pw", "first", by="x")
    assert of(workspace)["pw"] == "first"
    secrets.store_secret(workspace, "pw", "second", by="x")
    assert of(workspace)["pw"] == "second"
    secrets.remove_secret(workspace, "pw")
    assert of(workspace)["pw"] == "from-file"
    with pytest.raises(NotFound):
        secrets.remove_secret(workspace, "pw")


def test_a_change_made_elsewhere_is_known_when_the_time_to_look_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {pw: from-file}")
    assert of(workspace)["pw"] == "from-file"
    Secret.objects.create(workspace=workspace, name="pw", sealed=sealing.seal("elsewhere"))
    assert of(workspace)["pw"] == "from-file"
    monkeypatch.setattr(revisions, "LOOK_AGAIN_S", 0.0)
    assert of(workspace)["pw"] == "elsewhere"


def test_asking_again_at_once_costs_no_query(
    tmp_path: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {pw: x}")
    of(workspace)
    with django_assert_num_queries(0):
        of(workspace)
        revisions.connections_of(workspace.current_id)


def test_a_store_that_is_down_for_a_moment_does_not_fail_steps(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "vals", VALS)
    workspace = imported(tmp_path / "ws", "secrets: {pw: 'ref+vault://a'}")
    assert of(workspace)["pw"] == "value of a"
    program(programs, "vals", "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(revisions, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(revisions, "FETCH_AGAIN_S", -1.0)
    assert of(workspace)["pw"] == "value of a"
    monkeypatch.setattr(revisions, "KEEP_S", -1.0)
    with pytest.raises(SecretError):
        of(workspace)


@pytest.mark.parametrize("value", ["", "abc", "    ", 7, None, True, [], {}, "x" * 100_001])
def test_values_that_cannot_be_masked_or_kept_are_refused(tmp_path: Path, value: Any) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {}")
    with pytest.raises(InputError) as refused:
        secrets.store_secret(workspace, "pw", value, by="x")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", ["", "a-b", "a.b", "a b", "ä", "x" * 201])
def test_names_that_no_template_can_say_are_refused(tmp_path: Path, name: str) -> None:
    workspace = imported(tmp_path / "ws", "secrets: {}")
    with pytest.raises(InputError):
        secrets.store_secret(workspace, name, "long enough", by="x")


CONNECTIONS = """
secrets: {db_pw: "p4ss{{word"}
connection_types:
  pg: {host: {type: string}, port: {type: integer, default: 5432}, password: {type: string, secret: true}}
connections:
  db: {type: pg, host: db.internal, password: "{{ secret.db_pw }}"}
  loose: {url: https://x, api_key: k3y-value, options: {a: "{{ secrets.db_pw }}!"}}
"""


def test_connections_are_rendered_with_secrets_and_defaults(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", CONNECTIONS.replace("p4ss{{word", "p4ssword"))
    assert revisions.connections_of(workspace.current_id) == {
        "db": {"type": "pg", "host": "db.internal", "port": 5432, "password": "p4ssword"},
        "loose": {"url": "https://x", "api_key": "k3y-value", "options": {"a": "p4ssword!"}},
    }


def test_what_is_secret_in_connections_is_masked_and_the_rest_is_not(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", CONNECTIONS.replace("p4ss{{word", "p4ssword"))
    values = revisions.secret_values(revisions.sensitive_of(workspace.current_id))
    assert {"p4ssword", "k3y-value"} <= set(values)
    assert not {"db.internal", "https://x", "pg"} & set(values)


def test_a_connection_that_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    workspace = imported(tmp_path / "ws", "connections: {db: {password: '{{ secret.missing }}'}}")
    assert any("connection 'db'" in problem["message"] for problem in workspace.problems)
    with pytest.raises(SecretError, match="connection 'db'"):
        revisions.connections_of(workspace.current_id)


SOPS = """#!/bin/sh
echo "$@" >> "$0.argv"
sed -e 's/ENC\\[x\\]/canary-sops-1/' -e '/^sops:/d' "$5"
"""


def encrypted(folder: Path) -> None:
    (folder / "secrets.sops.yaml").write_text("secrets: {pw: 'ENC[x]'}\nsops: {version: 3}\n")


def test_files_of_sops_are_opened_in_memory(tmp_path: Path, programs: Path) -> None:
    program(programs, "sops", SOPS.replace('"$5"', "/dev/stdin"))
    (tmp_path / "ws").mkdir()
    encrypted(tmp_path / "ws")
    workspace = imported(tmp_path / "ws", "tasks: {}")
    assert of(workspace) == {"pw": "canary-sops-1"}
    assert "canary" not in (programs / "sops.argv").read_text()
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(to_jsonb(r)::text, ' ') FROM workspaces_revision r")
        assert "canary-sops" not in cursor.fetchone()[0]


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho 'no key' >&2; exit 128\n"])
def test_a_file_of_sops_that_cannot_be_opened_is_one_problem(
    tmp_path: Path, programs: Path, script: str | None
) -> None:
    if script:
        program(programs, "sops", script)
    (tmp_path / "ws").mkdir()
    encrypted(tmp_path / "ws")
    (tmp_path / "ws" / "flow.yaml").write_text("tasks: {}")
    workspace = services.import_folder("shop", tmp_path / "ws")
    assert workspace.current is None
    assert [problem["file"] for problem in workspace.problems] == ["secrets.sops.yaml"]
    assert "sops" in workspace.problems[0]["message"]


# sealing

KEY_A, KEY_B = "a" * 43 + "=", "b" * 43 + "="


def test_a_sealed_value_shows_nothing_and_differs_each_time(settings: Any) -> None:
    settings.STROEM_KEYS = [KEY_A]
    one, two = sealing.seal({"x": "canary"}), sealing.seal({"x": "canary"})
    assert one != two
    assert b"canary" not in one
    assert sealing.unseal(memoryview(one)) == {"x": "canary"}


def test_keys_rotate(settings: Any) -> None:
    settings.STROEM_KEYS = [KEY_A]
    old = sealing.seal("x")
    settings.STROEM_KEYS = [KEY_B, KEY_A]
    assert sealing.unseal(old) == "x"
    new = sealing.seal("y")
    settings.STROEM_KEYS = [KEY_B]
    assert sealing.unseal(new) == "y"
    with pytest.raises(SealError, match="not among STROEM_KEYS"):
        sealing.unseal(old)


@pytest.mark.parametrize("place", [0, 3, 10, 20, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(sealing.seal("secret"))
    data[place] ^= 1
    with pytest.raises(SealError):
        sealing.unseal(bytes(data))


def test_clear_text_in_a_sealed_column_is_refused() -> None:
    with pytest.raises(SealError, match="not sealed"):
        sealing.unseal(b'"clear"')


@pytest.mark.parametrize("keys", [[], ["short"]])
def test_weak_keys_stop_the_start(settings: Any, keys: list[str]) -> None:
    settings.STROEM_KEYS = keys
    with pytest.raises(SealError):
        sealing.check()


def test_the_self_test_passes_with_real_keys() -> None:
    sealing.check()


def test_a_process_with_a_weak_key_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={**os.environ, "STROEM_KEYS": "short"}, cwd=Path(__file__).parents[3], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "STROEM_KEYS must hold keys of at least 32 characters" in done.stderr


@pytest.mark.django_db
def test_a_task_offered_to_agents_that_nobody_lets_in_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        "tasks: { t: { mcp: true, flow: { s: { type: script, script: 'true' } } } }"
    )
    (problem,) = services.import_folder("offers", tmp_path).problems
    assert "Task 't' 'mcp: true' has no effect" in problem["text"]
