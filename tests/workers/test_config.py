"""What an operator may write into worker-config.yaml, and what a worker says about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.config import WorkerConfigError, load

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def config(tmp_path):
    """Loads a worker-config.yaml of the given text."""

    def read(text: str, **environ: str):
        file = tmp_path / "worker-config.yaml"
        file.write_text(text)
        return load(file, environ, data_dir=tmp_path / "var")

    return read


def complaints(config, text: str, **environ: str) -> str:
    with pytest.raises(WorkerConfigError) as refused:
        config(text, **environ)
    return str(refused.value)


def test_every_key_has_a_default(tmp_path):
    config = load(None, {}, data_dir=tmp_path)
    assert config.tags == ("script",)
    assert (config.max_concurrent, config.drain_secs, config.stop_grace_secs) == (4, 30, 5)
    assert config.worker_name and config.workspace_cache_dir == tmp_path / "worker"
    assert config.offers == {}


def test_the_keys_of_a_full_file_are_read_and_paths_are_relative_to_it(config, tmp_path):
    read = config(
        f"""
server_url: http://localhost:8080/
worker_token: {TOKEN}
worker_name: worker-1
max_concurrent: 8
poll_interval_secs: 2
workspace_cache_dir: cache
tags: [script, gpu]
capabilities: [docker]
runner_image: registry.local/runner:1
docker: {{host: unix:///run/docker.sock}}
num_cpus: 3.5
memory: 16Gi
num_gpus: 2
"""
    )
    assert read.tags == ("docker", "gpu", "script")
    assert read.workspace_cache_dir == tmp_path / "cache"
    assert read.server_url == "http://localhost:8080"
    assert read.docker == {"host": "unix:///run/docker.sock"}
    assert read.offers == {"num_cpus": 3.5, "memory_bytes": 16 * 1024**3, "num_gpus": 2}
    assert TOKEN not in repr(read)


def test_the_environment_wins_over_the_file(config):
    read = config(
        "max_concurrent: 2\ntags: [script]\n",
        STROEM__WORKER__MAX_CONCURRENT="6",
        STROEM__WORKER__TAGS="script, docker",
        STROEM__WORKER__DOCKER__HOST="tcp://engine:2375",
        STROEM__WORKER__DRAIN_SECS="5",
    )
    assert (read.max_concurrent, read.tags, read.docker, read.drain_secs) == (
        6,
        ("docker", "script"),
        {"host": "tcp://engine:2375"},
        5,
    )


def test_without_a_file_docker_is_offered_when_an_engine_answers(tmp_path):
    with_engine = load(None, {}, data_dir=tmp_path, has_docker=lambda: True)
    assert (with_engine.tags, with_engine.docker) == (("docker", "script"), {})
    chosen = load(
        None, {"STROEM__WORKER__TAGS": "script"}, data_dir=tmp_path, has_docker=lambda: True
    )
    assert (chosen.tags, chosen.docker) == (("script",), None)


def test_an_unknown_key_is_refused_with_its_place_and_the_likely_word(config):
    assert (
        "worker-config.yaml:2:1: unknown key 'max_concurent'; did you mean 'max_concurrent'?"
        in complaints(config, "worker_name: a\nmax_concurent: 3\n")
    )
    assert "STROEM__WORKER__TAG: unknown key 'tag'" in complaints(
        config, "", STROEM__WORKER__TAG="x"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tags: [script, docker]", "the tag 'docker' needs a section `docker:`"),
        ("tags: [script]\ndocker: {}", "the section `docker:` needs the tag 'docker'"),
        ("umask: 0888", "umask must be octal digits such as 0027, not '0888'"),
        ("umask: group", "umask must be octal digits such as 0027, not 'group'"),
        ("tags: [kubernetes]", "the tag 'kubernetes' needs a section `kubernetes:`"),
        ("kubernetes: {namespace: x}", "the section `kubernetes:` needs the tag 'kubernetes'"),
        (
            "capabilities: [scirpt]",
            "must be one of script, docker, kubernetes, agent, not 'scirpt' (did you mean",
        ),
        ("tags: []", "tags must name at least one thing"),
        ("workspaces: []", "workspaces must name at least one workspace; without the key"),
        ("workspaces: team-a", "workspaces must be a list of names of workspaces"),
        ('workspaces: ["team.*"]', "workspaces must be a list of names of workspaces"),
        ("pass_env: [A B]", "pass_env must be a list of names or patterns of variables"),
        ("max_concurrent: 0", "max_concurrent must lie between 1 and 1000, not 0"),
        ("max_concurrent: many", "max_concurrent must be a whole number, not 'many'"),
        ("worker_token: short", "worker_token must be at least 32 characters"),
        ("server_url: localhost", "server_url must begin with http:// or https://"),
        ("memory: lots", "memory must be a size such as 16Gi"),
        ("docker: yes please", "docker must be a mapping"),
        ("tags: script", "tags must be a list of names"),
        ("worker: 5", "worker must be a mapping of settings"),
        ("tags: [docker]\ndocker:", "the tag 'docker' needs a section `docker:`"),
        ("- a", "the file must hold a mapping of settings"),
        ("a: [", "this is not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(config, text, sentence):
    said = complaints(config, text)
    assert sentence in said
    assert "\n" not in said


def test_all_that_is_wrong_is_said_at_once(config):
    assert (
        len(complaints(config, "max_concurrent: 0\ndrain_secs: -1\nnonsense: 1\n").splitlines())
        == 3
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        WorkerConfigError, match=r"missing\.yaml: the worker's settings cannot be read"
    ):
        load(Path(tmp_path / "missing.yaml"), {}, data_dir=tmp_path)


def test_the_environment_reaches_into_a_section_and_wins_over_an_older_name(config, tmp_path):
    read = config(
        "workspace_cache_dir: a\ntags: [docker]\ndocker: {host: a, pids_limit: 5}\n",
        STROEM__WORKER__WORKSPACE_DIR="b",
        STROEM__WORKER__DOCKER__HOST="c",
    )
    assert read.workspace_cache_dir == tmp_path / "b"
    both = config(
        "workspace_cache_dir: a\nworkspace_dir: b\n", STROEM__WORKER__WORKSPACE_CACHE_DIR="c"
    )
    assert both.workspace_cache_dir == tmp_path / "c"
    assert read.docker == {"host": "c", "pids_limit": 5}


def test_a_wrong_token_is_never_printed(config):
    assert "s3cret" not in complaints(config, "worker_token: s3cret")


@pytest.mark.parametrize("typed", ["0027", '"027"', "27"])
def test_a_umask_is_octal_in_the_file_and_in_the_environment(config, tmp_path, typed):
    file = tmp_path / "umask.yaml"
    file.write_text(f"umask: {typed}\n")
    assert load(file, {}, data_dir=tmp_path).umask == 0o027
    environ = {"STROEM__WORKER__UMASK": typed.strip('"')}
    assert load(None, environ, data_dir=tmp_path).umask == 0o027
    assert load(None, {}, data_dir=tmp_path).umask is None


def test_steps_run_as_one_user_or_as_one_for_each_slot(config):
    assert config("run_as: step").run_as == ("step",)
    assert config("run_as: step").max_concurrent == 4
    several = config("{run_as: [step1, step2], run_actions_as: hooks}")
    assert (several.run_as, several.max_concurrent) == (("step1", "step2"), 2)
    from_environment = config(
        "max_concurrent: 2",
        STROEM__WORKER__RUN_AS="step1,step2,step3",
        STROEM__WORKER__RUN_ACTIONS_AS="hooks",
    )
    assert (len(from_environment.run_as), from_environment.max_concurrent) == (3, 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run_as: [step1, step2]", "yaml:1:1: run_as names a user for each slot; the commands of"),
        ("{run_as: [a, b], run_actions_as: a}", "name it in `run_actions_as`"),
        ("{run_as: [a, b], run_actions_as: c, max_concurrent: 3}", "2 users, one for each slot"),
        ("run_as: [a, a]", "a list of different ones"),
        ("run_as: []", "a list of different ones"),
        ("run_as: ['a b', c]", "a list of different ones"),
        ("run_as: {a: b}", "must be a list of names"),
        ("run_as: [a, 1]", "must be a list of names"),
    ],
)
def test_what_cannot_be_users_of_steps_is_one_sentence(config, text, sentence):
    assert sentence in complaints(config, text)
