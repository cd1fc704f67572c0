"""The settings file and the environment over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stroem_project.config import Config, ConfigError, GitAuth, load

TOKEN = "0123456789abcdef0123456789abcdef"


def write(folder: Path, text: str) -> dict[str, str]:
    file = folder / "server.yaml"
    file.write_text(text)
    return {"STROEM_CONFIG": str(file)}


def complaint(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return str(caught.value)


def test_nothing_set_gives_the_defaults(tmp_path: Path) -> None:
    config = load({"STROEM__DATA_DIR": str(tmp_path)})
    assert (config.listen_host, config.listen_port) == ("127.0.0.1", 8080)
    assert config.db.url is None and config.broker.url is None
    assert (config.recovery.heartbeat_timeout_s, config.recovery.sweep_interval_s) == (30, 5)
    assert (config.recovery.lost_retries, config.recovery.on_worker_lost) == (2, "fail")
    assert config.key_file == tmp_path / "secret.key"


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    environ = write(
        tmp_path,
        f"""
listen: "[::1]:9000"
data_dir: data
worker_token: {TOKEN}
db: {{url: "postgres://u:p@h/d"}}
broker: {{url: "amqp://h//"}}
git_auth:
  deploy: {{type: token, token: abc}}
workspaces:
  ours: {{type: folder, path: ../flows}}
  theirs: {{type: git, url: "git@host:x.git", ref: dev, poll_interval_secs: 5, auth: deploy}}
  third: {{type: git, url: "https://host/x", auth: {{type: ssh_key, key_path: id}}}}
auth:
  base_url: https://flows.example.org/
  initial_user: {{email: a@b.c, password: pw}}
recovery: {{heartbeat_timeout_secs: 60, on_worker_lost: retry}}
retention: {{job_days: 30}}
default_step_timeout: 1h30m
default_job_timeout: 90
secrets: {{env_allowed: [TOKEN_A, TOKEN_B]}}
unsafe_templates: refuse
""",
    )
    config = load(environ)
    assert (config.listen_host, config.listen_port) == ("::1", 9000)
    assert config.data_dir == tmp_path / "data"
    assert config.workspaces["ours"].path == tmp_path.parent / "flows"
    assert (
        config.workspaces["theirs"].auth == "deploy"
        and config.workspaces["theirs"].poll_interval_s == 5
    )
    assert config.workspaces["third"].auth == "workspaces.third.auth"
    assert config.git_auth["workspaces.third.auth"] == GitAuth("ssh_key", key_path=tmp_path / "id")
    assert config.auth.base_url == "https://flows.example.org"
    assert config.auth.initial_user is not None and config.auth.initial_user.email == "a@b.c"
    assert (config.recovery.heartbeat_timeout_s, config.recovery.on_worker_lost) == (60, "retry")
    assert (config.default_step_timeout_s, config.default_job_timeout_s) == (5400, 90)
    assert config.secrets.env_allowed == ("TOKEN_A", "TOKEN_B")
    assert config.unsafe_templates == "refuse" and config.retention.job_days == 30


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = write(tmp_path, "recovery: {lost_retries: 1, sweep_interval_secs: 10}\n")
    environ |= {
        "STROEM__RECOVERY__LOST_RETRIES": "4",
        "STROEM__DB__URL": "postgresql://h/d",
        "STROEM__WORKSPACES__EXTRA__TYPE": "folder",
        "STROEM__WORKSPACES__EXTRA__PATH": "/srv/flows",
        "STROEM__SECRETS__ENV_ALLOWED": "A, B",
    }
    config = load(environ)
    assert (config.recovery.lost_retries, config.recovery.sweep_interval_s) == (4, 10)
    assert config.db.url == "postgresql://h/d"
    assert config.workspaces["extra"].path == Path("/srv/flows")
    assert config.secrets.env_allowed == ("A", "B")


def test_the_worker_s_settings_are_left_to_the_worker() -> None:
    assert isinstance(
        load({"STROEM__WORKER__TAGS": "script,gpu", "STROEM__WORKER__ANYTHING": "1"}), Config
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("brokr: {url: redis://h}", "server.yaml:1:1: unknown key 'brokr'; did you mean 'broker'?"),
        ("db:\n  uri: x", "server.yaml:2:3: unknown key 'db.uri'; did you mean 'url'?"),
        (
            "libraries: {a: {type: folder, path: /x, ref: v2}}",
            "server.yaml:1:41: unknown key 'libraries.a.ref'; expected one of type, path, url, auth",
        ),
        ("worker_token: short", "worker_token must be at least 32 characters"),
        ("auth: {jwt_secret: short}", "jwt_secret must be at least 32 characters"),
        ("recovery: {heartbeat_timeout_secs: 9}", "heartbeat_timeout_secs must be at least 10"),
        ("recovery: {sweep_interval_secs: 4}", "sweep_interval_secs must be at least 5"),
        (
            "recovery: {unmatched_step_timeout_secs: 1}",
            "unmatched_step_timeout_secs must be at least 5",
        ),
        (
            "recovery: {lost_retries: 1.5}",
            "recovery.lost_retries must be a whole number, not '1.5'",
        ),
        (
            "recovery: {lost_retries: yes}",
            "recovery.lost_retries must be a whole number, not 'yes'",
        ),
        ("retention: {job_days: 0}", "retention.job_days must be at least 1"),
        ("recovery: {on_worker_lost: retyr}", "did you mean 'retry'?"),
        ("recovery: 5", "recovery must be a mapping"),
        ("listen: 8080", "listen must be host:port, for example 127.0.0.1:8080"),
        ("db: {url: 'mysql://h'}", "db.url must begin with postgres://"),
        (
            "default_step_timeout: 25h",
            "default_step_timeout 90000s exceeds maximum of 86400s (24h)",
        ),
        ("default_job_timeout: 169h", "exceeds maximum of 604800s (7d)"),
        ("default_job_timeout: 3x", "unknown duration unit 'x'"),
        ("listen: a:1\nlisten: b:1", "server.yaml:2:1: the key 'listen' appears twice"),
        ("workspaces: {a: {type: folder}}", "workspaces.a of type folder needs `path`"),
        ("workspaces: {a: {type: git, url: u, auth: x}}", "workspaces.a.auth names nothing"),
        ("workspaces: {'a b': {type: folder, path: x}}", "'a b' is not a name"),
        ("git_auth: {a: {type: token}}", "git_auth.a of type token needs `token`"),
        ("auth: {initial_user: {email: a@b}}", "auth.initial_user needs `email` and `password`"),
        ("- a", "server.yaml:1:1: the file must hold a mapping of settings."),
        ("a: [", "server.yaml:2:1: this is not YAML"),
        ("a: \x00", "server.yaml:1:4: a control character (U+0000) is not allowed in YAML"),
        ("workspaces: {a: {type: git, url: u, auth: {type: token}}}", "a.auth of type token needs"),
        (
            "workspaces: {a: {type: git, url: u, auth: b}}\ngit_auth: {bb: {type: token, token: x}}",
            "server.yaml:1:37: workspaces.a.auth must be one of bb, not 'b'; did you mean 'bb'?",
        ),
        ("mail: {host: x}", "mail needs `host`, and `sender`, the address that mail comes from"),
        ("mail: {host: x, sender: 5}", "server.yaml:1:17: mail.sender must be a text; put it in"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in complaint(write(tmp_path, text))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = complaint(
        write(tmp_path, "listen: x\nworker_token: short\n") | {"STROEM__RECOVRY__X": "1"}
    )
    assert len(text.splitlines()) == 3
    assert "STROEM__RECOVRY__X: unknown key 'recovry'; did you mean 'recovery'?" in text


def test_a_credential_that_is_wrong_is_no_missing_one_as_well(tmp_path: Path) -> None:
    said = complaint(
        write(
            tmp_path, "workspaces: {a: {type: git, url: u, auth: b}}\ngit_auth: {b: {token: x}}\n"
        )
    )
    assert said.endswith("server.yaml:2:12: git_auth.b.type is missing: one of ssh_key, token")
    assert "\n" not in said


def test_a_key_without_a_near_miss_is_told_which_there_are(tmp_path: Path) -> None:
    said = complaint(write(tmp_path, "db: {password: x}"))
    assert said.endswith("server.yaml:1:6: unknown key 'db.password'; expected one of url")


def test_a_file_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    assert complaint({"STROEM_CONFIG": str(tmp_path / "no.yaml")}).endswith(
        "no.yaml, which does not exist."
    )


def test_secrets_are_not_in_the_text_of_the_settings(tmp_path: Path) -> None:
    config = load(
        {"STROEM__DB__URL": "postgresql://u:canary@h/d", "STROEM__WORKER_TOKEN": TOKEN + "canary"}
        | {"STROEM__BROKER__URL": "redis://:canary@h"}
    )
    assert "canary" not in repr(config)
    assert "canary" not in complaint({"STROEM__DB__URL": "canary"})


def test_the_addresses_of_a_running_up_are_used_where_none_are_given(tmp_path: Path) -> None:
    (tmp_path / "pair.json").write_text(
        json.dumps(
            {"db_url": "postgresql://a/b", "broker_url": "redis://c", "served_at": "http://d:1"}
        )
    )
    environ = {"STROEM__DATA_DIR": str(tmp_path), "STROEM__BROKER__URL": "redis://mine"}
    config = load(environ)
    assert (config.db.url, config.broker.url) == ("postgresql://a/b", "redis://mine")
    assert config.served_at == "http://d:1"


PROVIDER = "issuer_url: https://id.example.org/, client_id: stroem"


def test_an_identity_provider_is_read(tmp_path: Path) -> None:
    text = "groups_claim: groups, groups: {a: b}, scopes: [openid, groups]"
    environ = write(tmp_path, f"auth: {{providers: {{company: {{{PROVIDER}, {text}}}}}}}")
    environ["STROEM__AUTH__PROVIDERS__COMPANY__CLIENT_SECRET"] = "a secret"
    found = load(environ).auth.providers["company"]
    assert (found.issuer_url, found.groups) == ("https://id.example.org", {"a": "b"})
    assert found.scopes == ("openid", "groups") and not found.allow_sign_up
    assert found.client_secret == "a secret" and "a secret" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{client_id: x}", "auth.providers.company needs `issuer_url` and `client_id`"),
        (f"{{{PROVIDER}, scopes: [email]}}", "needs `openid` among its `scopes`"),
        (f"{{{PROVIDER}, admin_groups: [x]}}", "needs `groups_claim`"),
        (f"{{{PROVIDER}, required_groups: [x]}}", "needs `groups_claim`"),
        (f"{{{PROVIDER}, allow_signup: true}}", "did you mean 'allow_sign_up'?"),
        (f"{{{PROVIDER}, provider_type: saml}}", "oidc"),
        (f"{{{PROVIDER}, provider_type: internal}}", "has only a `display_name`"),
        ("{issuer_url: id.example.org, client_id: x}", "must begin with http:// or https://"),
    ],
)
def test_an_identity_provider_that_cannot_be_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in complaint(write(tmp_path, f"auth: {{providers: {{company: {text}}}}}"))
