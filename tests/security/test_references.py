"""References to secrets: what the author of a workspace writes makes the server show its credentials
to nobody, read nothing of its own, and fetch nothing that the operator did not name for it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone

from apps.hooks.models import HookRun
from apps.workspaces import fetches, programs, references
from apps.workspaces.errors import SecretError, SecretsPending, SlowSecretError, SourceError
from apps.workspaces.sops import decrypt
from stroem_project import config
from stroem_project.config import Reference
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.house import House

RULES = {
    "team-a": Reference(("team-a",), "vault", ("secret/data/team-a",)),
    "infra": Reference(("infra-*",), "vault", ("/secret/data/infra/",), ("mode",)),
    "ssm": Reference(("team-a",), "awsssm", ("team-a",)),
    "variables": Reference(("team-a",), "env", ("TEAM_A_TOKEN",)),
}
MINE = "ref+vault://secret/data/team-a"
NOTE = """#!/bin/sh
cat > "$0.given.$$"
env > "$0.env"
"""
ANSWER = NOTE + """printf '{"_0": "value"}'\n"""


@pytest.fixture(autouse=True)
def rules(settings: Any) -> None:
    give(settings, references=RULES)


def give(settings: Any, **given: Any) -> None:
    changed = dataclasses.replace(settings.STROEM.secrets, **given)
    settings.STROEM = dataclasses.replace(settings.STROEM, secrets=changed)


class Programs:
    """Replacements of vals and sops at the front of PATH, which note what they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, script: str) -> None:
        (self.folder / name).write_text(script)
        (self.folder / name).chmod(0o755)

    def was_asked(self) -> bool:
        return any(self.folder.glob("*.given.*"))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs(tmp_path / "bin")
    found.folder.mkdir()
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    found.put("vals", ANSWER)
    found.put("sops", NOTE + "echo 'secrets: {pw: opened}'\n")
    return found


def resolve(reference: str, workspace: str = "team-a") -> Any:
    return references.resolve({"pw": reference}, workspace)["pw"]


@pytest.mark.parametrize(
    "reference",
    [
        f"{MINE}/x?address=http://attacker.example",
        f"{MINE}/x?address=http://attacker.example&password_file=/proc/1/environ",
        f"{MINE}/x?version=1&token_file=/etc/shadow",
        f"{MINE}/x?%61ddress=http://attacker.example",
        f"{MINE}/x?auth_method=approle&role_id=r&secret_id=s",
        f"{MINE}/x?namespace=other",
        f"{MINE}/x?proto=http",
        f"{MINE}/x?mode=singleparam",
        f"{MINE}/x?=",
        f"{MINE}/../team-b/x",
        f"{MINE}/%2e%2e/team-b/x",
        f"{MINE}/%252e%252e/team-b/x",
        f"{MINE}/./x",
        f"{MINE}//x",
        f"{MINE}\\..\\team-b",
        f"{MINE}/x\n",
        f"{MINE}/x%00",
        f"{MINE}/x%3Faddress=http://attacker.example",
        "ref+vault://user@secret/data/team-a/x",
        "ref+vault://secret/data/team-ab/x",
        "ref+vault://secret/data/team-b/x",
        "ref+vault://secret/data",
        "ref+vault://",
        "ref+vault:secret/data/team-a/x",
        "ref+VAULT://secret/data/team-a/x",
        f"{MINE}/x#k+{MINE}/y",
        f"{MINE}/x#k+ and ref+vault://secret/data/team-b/x",
        f"{MINE}/x#k+ and secretref+vault://secret/data/team-b/x",
        "ref+awssecrets://team-a/x",
        "ref+awsssm://team-a/x?region=eu&role_arn=arn:aws:iam::1:role/admin",
        "ref+gitlab://attacker.example/1/x",
        "ref+azurekeyvault://attacker/x",
        "ref+file:///proc/self/environ",
        "ref+envsubst://$STROEM_KEYS",
        "ref+echo://x",
        "ref+k8s://v1/Secret/stroem/keys/x",
        "ref+tfstate://x",
        "ref+sops://x",
        "ref+http://attacker.example/",
    ],
)
def test_a_hostile_reference_never_reaches_the_program(fakes: Programs, reference: str) -> None:
    for text in (reference, f"{{{{ {json.dumps(reference)} | vals }}}}"):
        with pytest.raises(SecretError, match=r"^secret 'pw'"):
            resolve(text)
    assert not fakes.was_asked()


def test_the_refusal_names_the_cure(fakes: Programs) -> None:
    with pytest.raises(SecretError) as refused:
        resolve("ref+vault://secret/data/team-b/x#pw")
    assert str(refused.value) == (
        "secret 'pw' refers to 'ref+vault://secret/data/team-b/x', and no rule of"
        " `secrets.references` with `scheme: vault` lets workspace 'team-a' read that; an operator"
        " can add one to the server's settings"
    )


@pytest.mark.parametrize(
    ("reference", "workspace"),
    [
        (MINE, "team-a"),
        (f"{MINE}/x", "team-a"),
        (f"{MINE}/x/y#/key/inner", "team-a"),
        (f"{MINE}/x?version=3#key", "team-a"),
        (f"{MINE}/x#key+", "team-a"),
        ("ref+awsssm:///team-a/x?version=2", "team-a"),
        ("ref+vault://secret/data/infra/a b?mode=x", "infra-eu"),
    ],
)
def test_what_a_rule_names_is_fetched(fakes: Programs, reference: str, workspace: str) -> None:
    assert resolve(reference, workspace) == "value"
    with pytest.raises(SecretError, match="no rule"):
        resolve(reference, "team-b")


def test_variables_can_be_given_to_one_workspace(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_A_TOKEN", "of-team-a")
    assert resolve("ref+env://TEAM_A_TOKEN") == "of-team-a"
    with pytest.raises(SecretError, match="nor a rule for workspace 'team-b'"):
        resolve("ref+env://TEAM_A_TOKEN", "team-b")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"scheme": "file", "paths": ["*"]}, "has no scheme that may be allowed"),
        ({"scheme": "valut", "paths": ["*"]}, "did you mean 'vault'?"),
        ({"scheme": "vault", "paths": []}, "must list at least one"),
        ({"scheme": "vault"}, "needs `workspaces`, `scheme` and `paths`"),
        *(
            (
                {"scheme": "vault", "paths": ["a"], "parameters": [name]},
                "cannot allow the parameter",
            )
            for name in "address token_env token_file role_id secret_id password_file".split()
        ),
    ],
)
def test_a_rule_that_would_give_the_servers_credentials_away_is_no_setting(
    rule: dict[str, Any], sentence: str
) -> None:
    given = json.dumps({"r": {"workspaces": ["*"], **rule}})
    with pytest.raises(config.ConfigError) as refused:
        config.given({"STROEM__SECRETS__REFERENCES": given})
    assert sentence in str(refused.value)


# what the programs see


def test_a_program_sees_the_credentials_of_its_store_alone(
    fakes: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "VAULT_TOKEN AWS_SECRET_ACCESS_KEY SOPS_AGE_KEY STROEM_KEYS DOCKER_HOST".split()
    for name in names:
        monkeypatch.setenv(name, f"canary-{name}-of-the-server-which-is-long")
    resolve(f"{MINE}/x")
    seen = (fakes.folder / "vals.env").read_text()
    assert [name for name in names if name in seen] == ["VAULT_TOKEN"]


def test_a_program_sees_no_other_process(fakes: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "unshare --user --map-current-user --mount --pid --fork --mount-proc true".split()
    if subprocess.run(own, capture_output=True).returncode and os.geteuid() != 0:
        pytest.skip("this host allows no process namespaces")
    fakes.put("vals", NOTE + 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline > "$0.seen"\n' + ANSWER)
    resolve(f"{MINE}/x")
    seen = (fakes.folder / "vals.seen").read_bytes()
    assert b"vals" in seen
    assert b"STROEM" not in seen and b"pytest\x00" not in seen


def test_a_program_has_a_limit_of_memory(fakes: Programs) -> None:
    fakes.put("vals", "#!/bin/sh\nprintf '{\"_0\": \"'; ulimit -d; printf '\"}'\n")
    with pytest.raises(SecretError):
        resolve(f"{MINE}/x")  # a line end within the text
    fakes.put("vals", '#!/bin/sh\nprintf \'{"_0": "%s"}\' "$(ulimit -d)"\n')
    fetches.forget()
    assert int(resolve(f"{MINE}/x")) * 1024 <= programs.MEMORY_BYTES


def test_a_program_that_never_answers_is_ended_with_what_it_started(
    fakes: Programs, settings: Any
) -> None:
    fakes.put("vals", "#!/bin/sh\nsleep 4711 &\nsleep 4712\n")
    give(settings, timeout_s=0.5)
    with pytest.raises(SlowSecretError, match=r"did not answer within 0\.5 s"):
        resolve(f"{MINE}/x")
    until(lambda: not sleepers())


def sleepers() -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] in (["sleep", "4711"], ["sleep", "4712"]):
            found.append(process.pid)
    return found


def test_who_must_not_wait_comes_back_for_the_answer(fakes: Programs) -> None:
    fakes.put("vals", NOTE + 'while [ ! -e "$0.go" ]; do sleep 0.05; done\n' + ANSWER)
    told: list[Any] = []

    def sweep() -> None:
        fetches.never_wait()
        for _ in range(2):
            try:
                told.append(resolve(f"{MINE}/x"))
            except SecretsPending as error:
                told.append(error)
        (fakes.folder / "vals.go").touch()
        while not isinstance(told[-1], str):
            try:
                told.append(resolve(f"{MINE}/x"))
            except SecretsPending:
                continue

    thread = threading.Thread(target=sweep)
    thread.start()
    thread.join()
    assert [type(one) for one in told] == [SecretsPending, SecretsPending, str]
    assert len(list(fakes.folder.glob("vals.given.*"))) == 1


def test_a_store_that_fails_is_not_asked_again_at_once(fakes: Programs) -> None:
    fakes.put("vals", NOTE + "exit 1\n")
    for _ in range(5):
        with pytest.raises(SecretError, match="eval failed"):
            resolve(f"{MINE}/x")
    assert len(list(fakes.folder.glob("vals.given.*"))) == 1


HOOKED = """
secrets: {pw: 'ref+vault://secret/data/team-a/x'}
actions: {tell: {type: script, script: 'true'}}
tasks:
  main:
    timeout: 1s
    on_error: [{action: tell}]
    flow: {one: {type: script, script: 'true'}}
"""


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_sweeps_go_on_while_the_store_of_one_workspace_is_silent(
    tmp_path: Path, process_env: dict[str, str], fakes: Programs, settings: Any
) -> None:
    """The end of its job needs a secret, which is fetched meanwhile; nothing else waits, and the
    hook is not lost."""
    slow = workspace(tmp_path, HOOKED, "team-a")
    good = workspace(tmp_path, HOOKED.replace("secrets:", "#"), "good")
    silent = Programs(tmp_path / "silent")
    silent.folder.mkdir()
    silent.put("vals", 'while [ ! -e "$0.go" ]; do sleep 0.05; done\n' + ANSWER)
    rule = {"workspaces": ["*"], "scheme": "vault", "paths": ["*"]}
    env = {
        **process_env,
        "PATH": f"{silent.folder}:{process_env['PATH']}",
        "STROEM__SECRETS__TIMEOUT_SECS": "60",
        "STROEM__SECRETS__REFERENCES": json.dumps({"all": rule}),
    }
    first = start(slow)
    house = House(tmp_path, env)
    try:
        house.scheduler()
        until(lambda: fresh(first).deadline_at < timezone.now(), 30)
        second = start(good)
        until(lambda: fresh(second).status == "failed", 30)
        assert fresh(first).status != "failed"  # its secrets are still being fetched
        (silent.folder / "vals.go").touch()
        until(lambda: fresh(first).status == "failed", 30)
        assert HookRun.objects.get(job_id=first.pk).hook_job_id is not None
    finally:
        (silent.folder / "vals.go").touch()
        house.close()


# SOPS

AGE = {"age": [{"recipient": "age1mine", "enc": "x"}]}
VAULT_KEY = {"vault_address": "https://vault.corp", "engine_path": "sops", "key_name": "team-a"}
ARN = "arn:aws:kms:eu:1:key/a"
SOPS_RULES = {
    "v": Reference(("team-a",), "sops", ("hc_vault:https://vault.corp/sops/team-a",)),
    "k": Reference(("team-a",), "sops", (f"kms:{ARN}", "age:age1mine")),
}


def encrypted(**metadata: Any) -> bytes:
    return json.dumps({"secrets": {"pw": "ENC[x]"}, "sops": {"version": "3", **metadata}}).encode()


@pytest.mark.parametrize(
    "metadata",
    [
        {"hc_vault": [{**VAULT_KEY, "vault_address": "http://attacker.example"}]},
        {"hc_vault": [{**VAULT_KEY, "vault_address": "https://vault.corp@attacker.example"}]},
        {"hc_vault": [{**VAULT_KEY, "vault_address": "https://vault.corp.attacker.example"}]},
        {"hc_vault": [{**VAULT_KEY, "key_name": "team-a/../team-b"}]},
        {"hc_vault": [{**VAULT_KEY, "key_name": "team-b"}]},
        {"hc_vault": [VAULT_KEY, {**VAULT_KEY, "vault_address": "http://attacker.example"}]},
        {"hc_vault": {"vault_address": "http://attacker.example"}},
        {"hc_vault": ["http://attacker.example"]},
        {**AGE, "key_groups": [{"hc_vault": [{"vault_address": "http://attacker.example"}]}]},
        {"key_groups": [{"kms": [{"arn": ARN, "role": "arn:aws:iam::1:role/admin"}]}]},
        {"kms": [{"arn": ARN, "aws_profile": "admin"}]},
        {"kms": [{"arn": "arn:aws:kms:eu:2:key/b"}]},
        {"azure_kv": [{"vault_url": "https://attacker.example", "name": "k"}]},
        {"gcp_kms": [{"resource_id": "projects/other/k"}]},
        {"hckms": [{"key_id": "x"}]},
        {"age": [{"recipient": "age1other"}]},
        {"pgp": [{"fp": "ABC"}]},
    ],
)
def test_a_hostile_file_never_reaches_sops(
    fakes: Programs, settings: Any, metadata: dict[str, Any]
) -> None:
    give(settings, references=SOPS_RULES)
    with pytest.raises(SourceError):
        decrypt(encrypted(**metadata), "team-a")
    assert not fakes.was_asked()


@pytest.mark.parametrize(
    "content",
    [
        encrypted(**AGE).replace(b"}}", b'}, "sops": {"hc_vault": []}}'),
        b"sops: {version: 3}\n---\nsops: {version: 3}\n",
        b"a: !!binary eA==\nsops: {version: 3}\n",
        b"sops: [\n",
        b"",
        b"secrets: {pw: x}\n",
        b"sops: text\n",
    ],
)
def test_a_file_that_two_readers_could_read_in_two_ways_is_refused(
    fakes: Programs, content: bytes
) -> None:
    with pytest.raises(SourceError):
        decrypt(content, "team-a")
    assert not fakes.was_asked()


def test_keys_that_a_rule_names_open_a_file(fakes: Programs, settings: Any) -> None:
    give(settings, references=SOPS_RULES)
    for metadata in ({"hc_vault": [VAULT_KEY], **AGE}, {"kms": [{"arn": ARN}], "pgp": []}):
        assert b"opened" in decrypt(encrypted(**metadata), "team-a")
        with pytest.raises(SourceError, match=r"no rule of `secrets\.references`"):
            decrypt(encrypted(**metadata), "team-b")


def test_without_rules_only_the_servers_own_keys_open_files(
    fakes: Programs, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(settings, references={})
    monkeypatch.setenv("SOPS_AGE_KEY", "k")
    monkeypatch.setenv("VAULT_TOKEN", "k")
    assert b"opened" in decrypt(encrypted(**AGE), "any")
    seen = (fakes.folder / "sops.env").read_text()
    assert "SOPS_AGE_KEY" in seen and "VAULT_TOKEN" not in seen
    with pytest.raises(SourceError, match="no rule"):
        decrypt(encrypted(hc_vault=[VAULT_KEY]), "any")
