"""The create request: what a container may have is decided in one place. No engine is needed
here."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import AuthorError
from engine.orders import ContainerWishes, ImageWork, Resources, ScriptWork, StepOrder
from runners.docker.config import BASE_CAPABILITIES, DockerConfig, NamedVolume
from runners.docker.request import Sources, build_request

CONFIG = DockerConfig(owner="worker-1")
IMAGE = "company/tool:v2"


def build_order(work: Any = None, **changes: Any) -> StepOrder:
    fields: dict[str, Any] = {
        "attempt": "a1b2c3",
        "job_id": "00000000-0000-4000-8000-000000000001",
        "task_name": "deploy",
        "step_name": "build[1]",
        "workspace": "default",
        "number": 1,
        "work": work or ScriptWork(code="true"),
        "scratch_dir": Path("/nowhere"),
    }
    return StepOrder(**{**fields, **changes})


def request(work: Any = None, sources: Sources = Sources(), **changes: Any) -> dict[str, Any]:
    return build_request(build_order(work, **changes), CONFIG, "sha256:1", sources)


COMMANDS = [
    (ImageWork(IMAGE), None, None),
    (ImageWork(IMAGE, cmd="deploy --env production"), ["sh", "-c"], ["deploy --env production"]),
    (ImageWork(IMAGE, cmd="--a 'b c'", entrypoint=("/run",)), ["/run"], ["--a", "b c"]),
    (ImageWork(IMAGE, entrypoint=("/run", "x")), ["/run", "x"], None),
    (ImageWork(IMAGE, command=("a", "b c")), None, ["a", "b c"]),
    (ImageWork(IMAGE, cmd="ignored", command=("a",)), None, ["a"]),
    (ImageWork(IMAGE, cmd="ignored", entrypoint=("/run",), command=("a",)), ["/run"], ["a"]),
]


@pytest.mark.parametrize(("work", "entrypoint", "cmd"), COMMANDS)
def test_cmd_entrypoint_and_command_replace_the_images_own(work: Any, entrypoint: Any, cmd: Any):
    body = request(work)
    assert (body.get("Entrypoint"), body.get("Cmd")) == (entrypoint, cmd)


def test_a_script_never_depends_on_the_images_entrypoint():
    body = request(ScriptWork(code="echo sesame"))
    assert body["Entrypoint"] == ["sh", "/.stroem/run.sh"]
    assert body["Cmd"] == []
    assert "sesame" not in json.dumps(body)


def test_no_path_of_the_workers_host_is_in_the_environment():
    work = ScriptWork(code="true", workspace_dir=Path("/cache/r1"))
    body = request(
        work, env={"STATE_DIR": "/cache/r1/state", "ROOT": "/cache/r1", "OTHER": "/cache/r12"}
    )
    assert body["Env"] == ["STATE_DIR=/workspace/state", "ROOT=/workspace", "OTHER=/cache/r12"]


def test_labels_tell_whose_container_it_is():
    body = request()
    assert body["Labels"]["stroem.io/owner"] == "worker-1"
    assert body["Labels"]["stroem.io/attempt"] == "a1b2c3"
    assert body["Labels"]["stroem.io/step"] == "build[1]"


def test_resources_become_limits():
    host = request(resources=Resources(cpu="500m", memory="512Mi", num_gpus=2))["HostConfig"]
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == host["MemorySwap"] == 512 * 1024 * 1024
    assert host["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]


def test_a_step_gets_the_cards_that_are_its_own():
    """By number alone, an engine gives every step its first cards."""
    own = Resources(num_gpus=1, gpus=("1",))
    host = request(resources=own, env={"CUDA_VISIBLE_DEVICES": "0"})["HostConfig"]
    assert host["DeviceRequests"] == [{"DeviceIDs": ["1"], "Capabilities": [["gpu"]]}]


VOLUMES = {
    "sets": NamedVolume(path="/srv/sets", read_only=True),
    "scratch": NamedVolume(volume="big"),
}


def test_what_an_author_asks_of_a_container_is_in_the_request():
    wishes = ContainerWishes(
        shm_bytes=1 << 30, user="7:8", volumes={"sets": "/sets", "scratch": "/scratch:ro"}
    )
    config = replace(CONFIG, volumes=VOLUMES)
    body = build_request(build_order(container=wishes), config, "sha256:1", Sources())
    assert (body["User"], body["HostConfig"]["ShmSize"]) == ("7:8", 1 << 30)
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/srv/sets", "Target": "/sets", "ReadOnly": True},
        {"Type": "volume", "Source": "big", "Target": "/scratch", "ReadOnly": True},
    ]


@pytest.mark.parametrize("name", ["other", "/srv/sets", "../sets"])
def test_only_volumes_that_the_operator_has_named_are_mounted(name: str):
    config = replace(CONFIG, volumes=VOLUMES)
    order = build_order(container=ContainerWishes(volumes={name: "/data"}))
    with pytest.raises(AuthorError, match=r"known: scratch, sets"):
        build_request(order, config, "sha256:1", Sources())


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1000", 1000), ("64m", 64 << 20), ("64M", 64_000_000), ("1.5Gi", 3 << 29), ("2g", 2 << 30)],
)
def test_memory_is_read_as_docker_and_as_kubernetes_write_it(text: str, amount: int):
    assert request(resources=Resources(memory=text))["HostConfig"]["Memory"] == amount


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "nul\0"}])
def test_an_impossible_variable_is_refused(env: dict[str, str]):
    with pytest.raises(AuthorError, match="environment variable"):
        request(env=env)


# 500 orders: nothing but what is written here can be in a request

TOP = {
    "Image", "Env", "Labels", "AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce", "Tty", "HostConfig",
    "Entrypoint", "Cmd", "WorkingDir",
}  # fmt: skip
HOST = {
    "Init", "CapDrop", "CapAdd", "SecurityOpt", "PidsLimit", "NetworkMode", "LogConfig", "RestartPolicy", "Mounts",
    "ExtraHosts", "NanoCpus", "Memory", "MemorySwap", "DeviceRequests",
}  # fmt: skip
NASTY = [
    "--privileged", "/var/run/docker.sock:/var/run/docker.sock", "host", "container:other", "../../etc", "/", "0",
    "unconfined", '{"HostConfig": {"Privileged": true}}', "$(id)", "a b", "\n", "é☃",
]  # fmt: skip


def _make_order(rng: random.Random) -> StepOrder:
    def word() -> str:
        return rng.choice(NASTY)

    def words() -> tuple[str, ...]:
        return tuple(word() for _ in range(rng.randrange(4)))

    if rng.random() < 0.5:
        work: Any = ImageWork(
            word(), rng.choice([None, "a", "--x 'y z'"]), rng.choice([None, words()]), words()
        )
    else:
        work = ScriptWork(
            code=word(), args=words(), interpreter=word(), dependencies=(), runner_image=word()
        )
    return build_order(
        work,
        step_name=word(),
        task_name=word(),
        workspace=word(),
        workdir=rng.choice([None, word()]),
        env={"A": word(), "PATH": word()},
        manifest={"spec": {"hostNetwork": True}},
        resources=Resources(
            num_cpus=rng.choice([None, 1.0]), memory_bytes=rng.choice([None, 1000])
        ),
        run_as=rng.choice([None, "root"]),
    )


def test_nothing_in_500_orders_reaches_a_dangerous_field():
    rng = random.Random(7)
    for _ in range(500):
        order = _make_order(rng)
        sources = (
            Sources(workspace_bind="/cache/r1")
            if rng.random() < 0.5
            else Sources(workspace_volume="v")
        )
        body = build_request(order, CONFIG, "sha256:1", sources)
        host = body["HostConfig"]
        assert set(body) <= TOP
        assert set(host) <= HOST
        assert host["CapDrop"] == ["ALL"]
        assert host["CapAdd"] == list(BASE_CAPABILITIES)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["NetworkMode"] == "default"
        assert host["RestartPolicy"] == {"Name": "no"}
        assert [mount["Source"] for mount in host["Mounts"]] == [
            "/cache/r1" if sources.workspace_bind else "v"
        ]
        assert all(mount["ReadOnly"] for mount in host["Mounts"])
        assert "docker.sock" not in json.dumps(host)


def test_no_dangerous_capability_is_among_those_that_are_kept():
    assert not {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "NET_RAW", "MKNOD", "SYS_MODULE"} & set(
        BASE_CAPABILITIES
    )


# settings


def test_the_section_of_the_worker_is_read(tmp_path: Path):
    (tmp_path / "password").write_text("s3cret\n")
    section = {
        "host": "unix:///run/d.sock",
        "pull": "always",
        "registries": {"ghcr.io": {"username": "me", "password_file": str(tmp_path / "password")}},
    }
    config = DockerConfig.from_section(section, owner="w", runner_image="ghcr.io/me/runner:1")
    assert (config.host, config.pull, config.runner_image) == (
        "unix:///run/d.sock",
        "always",
        "ghcr.io/me/runner:1",
    )
    assert config.registries["ghcr.io"].read_password() == "s3cret"
    assert "s3cret" not in repr(config)
    (tmp_path / "password").write_text("renewed\n")
    assert config.registries["ghcr.io"].read_password() == "renewed"


def test_an_empty_section_is_enough():
    assert (
        DockerConfig.from_section({}, owner="w").runner_image
        == "ghcr.io/fremvaerk/stroem-runner:latest"
    )
    assert DockerConfig.from_section(None, owner="w").host is None


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"hosts": "x"}, "hosts"),
        ({"pull": "sometimes"}, "pull"),
        ({"network": "host"}, "network"),
        ({"network": "container:db"}, "network"),
        ({"registries": {"ghcr.io": {"username": "me"}}}, "ghcr.io"),
        (
            {"registries": {"ghcr.io": {"username": "me", "password_file": "/nowhere"}}},
            "docker.registries.ghcr.io names /nowhere, which cannot be read",
        ),
        ({"host": "ssh://me@there"}, "docker.host cannot be an ssh:// address; forward its socket"),
        ({"host": "there"}, "docker.host must begin with unix:// or tcp://, not 'there'"),
        ({"volumes": {"a": {}}}, "docker.volumes.a needs volume or path, not both"),
        ({"volumes": {"a": {"path": "x"}}}, "docker.volumes.a.path must be an absolute path"),
        ({"pids_limit": "many"}, "docker.pids_limit must be a whole number, not 'many'"),
        ({"capabilities": 5}, "docker.capabilities must be a list of texts"),
        ({"owner": "somebody else"}, "unknown key 'docker.owner'"),
    ],
)
def test_a_wrong_section_is_refused_with_a_sentence(section: dict[str, Any], named: str):
    with pytest.raises(AuthorError, match=named):
        DockerConfig.from_section(section, owner="w")
