"""The pod that is made of an order: names, labels, commands, secrets; valid by the official
schema."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from engine.errors import AuthorError
from engine.orders import ImageWork, Resources, ScriptWork
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan, sanitise_label
from tests.runners.pod.fake_checks import check_object
from tests.runners.pod.orders import CONFIG, build_pod_order
from tests.runners.pod.test_policy import EVERYDAY, NAMED, SEED_MANIFESTS

IMAGE = "company/tool:v2"


def container(work: Any = None, name: str = "step", **changes: Any) -> dict[str, Any]:
    spec = build_plan(build_pod_order(work, **changes), CONFIG).pod["spec"]
    return next(
        item
        for item in (*spec["containers"], *spec.get("initContainers", []))
        if item["name"] == name
    )


WORKS = [
    ImageWork(IMAGE),
    ImageWork(
        "pytorch/pytorch:2.1.0-cuda12.1-cudnn8-runtime", cmd="python /app/train.py --epochs 10"
    ),
    ImageWork(IMAGE, entrypoint=("/app/run",), cmd="--verbose --env staging"),
    ScriptWork(code="python /workspace/test_gpu.py"),
    ScriptWork(code="print(1)", language="python", dependencies=("pandas",), args=("a b", "$(X)")),
    ScriptWork(source="actions/deploy.sh", workspace_mode="copy"),
]


@pytest.mark.sample(9)
@pytest.mark.parametrize("manifest", [None, *SEED_MANIFESTS, *EVERYDAY])
@pytest.mark.parametrize("work", WORKS, ids=range(len(WORKS)))
def test_pods_and_secrets_are_valid_by_the_official_schema(work: Any, manifest: Any):
    if manifest and any("extra" in json.dumps(part) for part in manifest.values()):
        manifest = {"spec": {"volumes": [{"name": "extra", "emptyDir": {}}], **manifest["spec"]}}
    order = build_pod_order(
        work, manifest=manifest, resources=Resources(cpu="500m", memory="512Mi", num_gpus=1)
    )
    config = PodConfig(
        "stroem-jobs",
        "w",
        image_pull_secrets=("registry",),
        runner_startup_configmap="startup",
        policy=NAMED,
    )
    plan = build_plan(order, config)
    for pod in (plan.pod, plan.open_pod):
        check_object("pods", "stroem-jobs", pod)
    assert plan.secret is not None
    check_object("secrets", "stroem-jobs", plan.secret)


@pytest.mark.parametrize("version", ["1.28", "1.33"])
def test_older_and_newer_schemas_know_every_field_too(version: str):
    for work in (WORKS[1], WORKS[4]):
        plan = build_plan(build_pod_order(work, resources=Resources(cpu="1", num_gpus=1)), CONFIG)
        kubernetes_validate.validate(plan.pod, version, strict=True)


# cmd, entrypoint, command: the same in Docker and pods

COMMANDS = [
    (ImageWork(IMAGE), None, None),
    (
        ImageWork(IMAGE, cmd="deploy --env production"),
        ["sh", "-c", "deploy --env production"],
        None,
    ),
    (ImageWork(IMAGE, cmd="--a 'b c'", entrypoint=("/run",)), ["/run"], ["--a", "b c"]),
    (ImageWork(IMAGE, entrypoint=("/run", "x")), ["/run", "x"], None),
    (ImageWork(IMAGE, command=("a", "b c")), None, ["a", "b c"]),
    (ImageWork(IMAGE, cmd="ignored", command=("a",)), None, ["a"]),
    (ImageWork(IMAGE, cmd="ignored", entrypoint=("/run",), command=("a",)), ["/run"], ["a"]),
]


@pytest.mark.parametrize(("work", "command", "args"), COMMANDS)
def test_cmd_entrypoint_and_command_fill_the_containers_fields(work: Any, command: Any, args: Any):
    step = container(work)
    assert (step.get("command"), step.get("args")) == (command, args)


def test_a_cmd_that_is_no_shell_line_is_refused_with_a_sentence():
    with pytest.raises(AuthorError, match="cannot be split"):
        container(ImageWork(IMAGE, cmd="--a 'b", entrypoint=("/run",)))


def test_dollars_reach_the_program_as_they_were_written():
    assert (
        container(ImageWork(IMAGE, cmd="echo $HOME $(date) $$"))["command"][2]
        == "echo $$HOME $$(date) $$$$"
    )


def test_the_step_container_is_called_step_and_nothing_else_runs():
    spec = build_plan(build_pod_order(ImageWork(IMAGE)), CONFIG).pod["spec"]
    assert [item["name"] for item in spec["containers"]] == ["step"]
    assert "initContainers" not in spec
    assert "volumes" not in spec


# the workspace (download pinned to the job's revision)


def test_the_init_container_downloads_the_pinned_revision_with_a_token_that_is_in_no_argument():
    plan = build_plan(build_pod_order(), CONFIG)
    init = plan.pod["spec"]["initContainers"][0]
    assert init["image"] == "curlimages/curl:latest"
    assert "t0ken" not in json.dumps(plan.pod)
    assert "http://stroem/pinned/r1.tar.gz" in plan.secret["stringData"].values()
    assert "t0ken" in plan.secret["stringData"].values()
    entries = {entry["name"]: entry for entry in init["env"]}
    assert entries["STROEM_WORKSPACE_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == plan.name


@pytest.mark.parametrize(("mode", "is_read_only"), [("readonly", True), ("copy", False)])
def test_the_workspace_is_read_only_unless_the_action_asks_for_a_copy(
    mode: Any, is_read_only: bool
):
    mounts = {
        item["mountPath"]: item
        for item in container(ScriptWork(code="true", workspace_mode=mode))["volumeMounts"]
    }
    assert mounts["/workspace"]["readOnly"] is is_read_only


def test_no_path_of_the_workers_host_is_in_the_pod():

    work = ScriptWork(code="true", workspace_dir=Path("/var/lib/stroem/cache/r1"))
    env = {
        "STATE_DIR": "/var/lib/stroem/cache/r1/state",
        "HERE": "/var/lib/stroem/cache/r1",
        "LIKE": "/var/lib/stroem/cache/r12",
    }
    plan = build_plan(build_pod_order(work, env=env), CONFIG)
    values = set(plan.secret["stringData"].values())
    assert {"/workspace/state", "/workspace", "/var/lib/stroem/cache/r12"} <= values
    assert "/var/lib/stroem/cache/r1/" not in json.dumps([plan.pod, plan.open_pod])


# names and labels


def test_attempts_of_look_alike_steps_never_share_a_name():
    names = {
        build_plan(build_pod_order(step_name=step, attempt=attempt), CONFIG).name
        for step, attempt in [
            ("x[1]", "a1"),
            ("x-1", "a2"),
            ("x[1]", "a3"),
            ("X.1", "a4"),
            ("x", "a-"),
            ("x", "a"),
        ]
    }
    assert len(names) == 6


@pytest.mark.parametrize(
    "text", ["loop[3]", "[", "é", "x" * 100, "-a-", "a b/c", "..", "", "Ünï code[1]"]
)
def test_any_text_becomes_a_legal_label(text: str):
    order = build_pod_order(step_name=text, task_name=text, attempt="a" * 40)
    pod = build_plan(order, CONFIG).pod
    check_object("pods", "stroem-jobs", pod)
    assert pod["metadata"]["annotations"]["stroem.io/step-name"] == text
    assert len(sanitise_label(text)) <= 63


# secrets


def test_the_environment_stands_in_a_secret_and_not_in_the_pod():
    plan = build_plan(
        build_pod_order(ImageWork(IMAGE), env={"API_KEY": "s3cret", "A": "1"}), CONFIG
    )
    assert "s3cret" not in json.dumps(plan.pod)
    assert "s3cret" in plan.secret["stringData"].values()
    assert "s3cret" in json.dumps(plan.open_pod)


def test_an_authors_own_value_for_a_variable_stands():
    manifest = {
        "spec": {"containers": [{"name": "step", "env": [{"name": "A", "value": "theirs"}]}]}
    }
    plan = build_plan(
        build_pod_order(ImageWork(IMAGE), env={"A": "ours", "B": "2"}, manifest=manifest), CONFIG
    )
    env = plan.pod["spec"]["containers"][0]["env"]
    assert env[0] == {"name": "A", "value": "theirs"}
    assert "valueFrom" in env[1]


def test_a_script_of_any_size_and_kind_is_put_together_again():
    code = "".join(f"echo '{number} é $HOME `x`'\n" for number in range(9000)) + "echo end"
    plan = build_plan(build_pod_order(ScriptWork(code=code)), CONFIG)
    values = list(plan.secret["stringData"].values())
    assert max(len(value.encode()) for value in values) < 128 * 1024
    assert code in "".join(values)
    assert "echo" not in "".join(container(ScriptWork(code="echo sesame"))["command"])


# resources and settings


def test_resources_become_requests_and_limits():
    order = {"resources": Resources(num_cpus=1.5, memory_bytes=1000)}
    assert container(ImageWork(IMAGE), **order)["resources"] == {
        "requests": {"cpu": "1500m", "memory": "1000"},
        "limits": {"cpu": "1500m", "memory": "1000"},
    }


@pytest.mark.parametrize(
    "resources", [Resources(cpu="many"), Resources(memory="12 apples"), Resources(cpu="0")]
)
def test_amounts_that_are_none_are_refused(resources: Resources):
    with pytest.raises(AuthorError, match=r"resources\."):
        container(ImageWork(IMAGE), resources=resources)


def test_the_section_of_the_worker_is_read():
    section = {
        "namespace": "stroem-jobs",
        "init_image": "local/curl:1",
        "allow": {"host_namespaces": True, "service_accounts": ["my-sa"]},
    }
    config = PodConfig.from_section(section, owner="w", runner_image="ghcr.io/me/runner:1")
    assert (config.init_image, config.runner_image, config.pending_timeout_s) == (
        "local/curl:1",
        "ghcr.io/me/runner:1",
        600,
    )
    assert config.policy.host_namespaces
    assert config.policy.service_accounts == frozenset({"my-sa"})


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({}, "namespace"),
        ({"namespace": "a", "namespaces": "b"}, "namespaces"),
        ({"namespace": "a", "allow": {"everything": True}}, "everything"),
        ({"namespace": "a", "allow": {"privileged": ["yes"]}}, "privileged"),
        ({"namespace": "a", "allow": {"secrets": True}}, "secrets"),
        ({"namespace": "a", "poll_s": "often"}, "kubernetes.poll_s must be a number, not 'often'"),
        ({"namespace": "a", "policy": {}}, "unknown key 'kubernetes.policy'"),
    ],
)
def test_a_wrong_section_is_refused_with_a_sentence(section: dict[str, Any], named: str):
    with pytest.raises(AuthorError, match=named):
        PodConfig.from_section(section, owner="w")


def test_the_clients_are_imported_only_by_who_uses_them():
    code = (
        "import sys, runners.catalog, runners.pod.policy, runners.containers.script;"
        "assert not {'docker', 'kubernetes'} & set(sys.modules);"
        "import runners.pod.runner; assert 'docker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
@pytest.mark.parametrize(
    ("before", "after", "is_converted"),
    [
        (b"set -e\r\nfalse\r\n", b"set -e\nfalse\n", True),
        (b"\xef\xbb\xbf#!/bin/sh\r\necho a\rb\r\n", b"#!/bin/sh\necho a\rb\n", True),
        (b"set -e\nprintf 'a\rb'\n", b"set -e\nprintf 'a\rb'\n", False),
        (b"\x7fELF\x00\r\n", b"\x7fELF\x00\r\n", False),
    ],
)
def test_a_shell_source_saved_on_windows_gets_plain_line_ends_when_it_is_fetched(
    tmp_path: Path, shell: str, before: bytes, after: bytes, is_converted: bool
):
    program = shell.split()
    if shutil.which(program[0]) is None:
        pytest.skip(f"no {program[0]} here")
    order = build_pod_order(ScriptWork(source="it's here.sh"))
    init = build_plan(order, CONFIG).pod["spec"]["initContainers"][0]
    text = init["command"][2].replace("$$", "$")
    assert {item["mountPath"] for item in init["volumeMounts"]} == {"/workspace", "/.stroem"}
    text = text[text.index("_s_file=") :].replace("/workspace", str(tmp_path))
    text = text.replace("/.stroem", str(tmp_path)).replace("/tmp/plain", str(tmp_path / "plain"))
    file = tmp_path / "it's here.sh"
    file.write_bytes(before)
    subprocess.run([*program, "-euc", text], check=True)
    assert file.read_bytes() == after
    assert (tmp_path / "converted").exists() is is_converted


def test_a_source_in_another_language_stays_as_it_is():
    init = build_plan(build_pod_order(ScriptWork(source="a.py", language="python")), CONFIG)
    assert "converted" not in init.pod["spec"]["initContainers"][0]["command"][2]
