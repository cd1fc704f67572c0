"""The pod and the secret of one attempt. Pure: an order and a configuration in, plain values
out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import AuthorError
from engine.manifest import drop_nulls, merge
from engine.orders import HELPER, INPUT_FILE, INPUTS_FILE, ImageWork, ScriptWork, StepOrder
from runners.containers.script import (
    FILES,
    HELPER_FOLDER,
    INPUT,
    STARTUP,
    WORKSPACE,
    build_env,
    build_script_files,
    place_workdir,
    read_input,
    split_cmd,
)
from runners.pod import parcels
from runners.pod.config import PodConfig
from runners.pod.policy import (
    FILES_CONTAINER,
    INIT_CONTAINER,
    OUR_LABELS,
    STEP_CONTAINER,
    add_defaults,
    build_restricted,
    build_security,
    find_violations,
    harden,
    keep_protections,
)
from runners.pod.record import NOTHING_LEFT, build_end_mark, build_program
from runners.pod.states import (
    build_leaving,
    build_unpacking,
    build_volumes,
    find_mounts,
    read_state,
)
from runners.pod.status import KEEP_ANNOTATION
from runners.pod.wishes import find_step, grant_wishes

_CHUNK_BYTES = 100_000  # Linux limits an environment variable to 128 KiB
_TOKEN = parcels.TOKEN
_URL = "STROEM_WORKSPACE_URL"
_TEMPORARY = "/tmp"  # noqa: S108 - of a container, which nobody shares
_INPUT_VOLUME = "stroem-input"

_DOWNLOAD = rf"""printf 'header = "Authorization: Bearer %s"\nurl = "%s"\n' "${_TOKEN}" "${_URL}" |
    curl --silent --show-error --fail --retry 5 --retry-connrefused --retry-delay 1 --max-time 900 \
        --output /tmp/workspace.tar.gz --config -
tar -xzf /tmp/workspace.tar.gz -C {WORKSPACE}
rm -f /tmp/workspace.tar.gz
"""


# A shell takes the carriage return of Windows as a part of each line's last word.
_PLAIN_LINE_ENDS = """_s_cr=$(printf '\\r') _s_bom=$(printf '\\357\\273\\277')
is_windows() { ! head -c 4 "$1" | grep -q ELF && grep -q "$_s_cr\\$\\|^$_s_bom" "$1"; }
if [ -f "$_s_file" ] && is_windows "$_s_file"; then
    sed "s/$_s_cr\\$//; 1s/^$_s_bom//" "$_s_file" >/tmp/plain
    cat /tmp/plain >"$_s_file"
    : >{files}/converted
fi
"""


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What to create. `secret` is None when there is nothing to hide; `open_pod` needs no
    secret."""

    name: str
    pod: dict[str, Any]
    secret: dict[str, Any] | None
    open_pod: dict[str, Any]
    end_mark: str  # the last line of a script's log


def name_pod(attempt: str) -> str:
    return f"stroem-{attempt}-step"


def build_plan(order: StepOrder, config: PodConfig) -> PodPlan:
    """The merged, hardened and checked pod; raises AuthorError with everything that the policy
    refuses."""
    hidden: dict[str, dict[str, str]] = {}
    generated = _add_defaults(_build_pod(order, config, hidden), config.manifest)
    grant_wishes(generated["spec"], find_step(generated), order, config)
    generated = add_defaults(generated)
    merged = drop_nulls(merge(generated, keep_protections(order.manifest or {})))
    pod = harden(merged, generated, config.policy)
    violations = find_violations(pod, generated, config.policy)
    if violations:
        raise AuthorError(f"Pod manifest override rejected: {'; '.join(violations)}")
    name = name_pod(order.attempt)
    data = {
        f"{container}-{index}": value
        for container, env in hidden.items()
        for index, value in enumerate(env.values())
    }
    with_secret, without = _give_env(pod, hidden, name), _give_env(pod, hidden, secret_name=None)
    if isinstance(order.work, ImageWork) and (given := read_input(order)):
        data |= given
        _mount_input(with_secret, name)
        _forget_input(without)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": config.namespace,
            "labels": generated["metadata"]["labels"],
        },
        "type": "Opaque",
        "immutable": True,
        "stringData": data,
    }
    return PodPlan(
        name, with_secret, secret if data else None, without, build_end_mark(order.attempt)
    )


def _add_defaults(pod: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`pod` with the operator's `manifest`, which may speak of a container that this pod lacks."""
    merged: dict[str, Any] = drop_nulls(merge(pod, manifest))
    if "initContainers" not in pod["spec"] and "initContainers" in merged["spec"]:
        inits = [one for one in merged["spec"]["initContainers"] if one["name"] != INIT_CONTAINER]
        merged["spec"]["initContainers"] = inits
    return merged


def build_labels(order: StepOrder, config: PodConfig) -> dict[str, str]:
    raw = {
        "owner": config.owner,
        "attempt": order.attempt,
        "job": order.job_id,
        "task": order.task_name,
        "step": order.step_name,
    }
    return {
        "app": "stroem-step",
        **{f"{OUR_LABELS}{key}": sanitise_label(value) for key, value in raw.items()},
    }


def sanitise_label(text: str) -> str:
    """`text` as a label value: at most 63 of [A-Za-z0-9._-], letters or digits at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("._-")


def _build_pod(
    order: StepOrder, config: PodConfig, hidden: dict[str, dict[str, str]]
) -> dict[str, Any]:
    annotations = {
        f"{OUR_LABELS}job-id": order.job_id,
        f"{OUR_LABELS}task-name": order.task_name,
        f"{OUR_LABELS}step-name": order.step_name,
        f"{OUR_LABELS}number": str(order.number),
    }
    if config.keep_failed_s:
        annotations[KEEP_ANNOTATION] = f"{config.keep_failed_s:.0f}"
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_build_step(order, config, hidden)],
    }
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    volumes = [*parcels.volumes(order), *build_volumes(order)[0]]
    if isinstance(order.work, ScriptWork):
        volumes = [*_build_volumes(config), *volumes]
    if volumes:
        spec["volumes"] = volumes
    if (init := _build_init(order, config, hidden.setdefault(INIT_CONTAINER, {}))) is not None:
        spec["initContainers"] = [init]
    if order.shelves is not None and (own := parcels.variables(order.shelves)):
        hidden[FILES_CONTAINER] = own
        spec["containers"].append(parcels.build_sender(order, order.shelves, config))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_pod(order.attempt),
            "namespace": config.namespace,
            "labels": build_labels(order, config),
            "annotations": annotations,
        },
        "spec": spec,
    }


def _build_volumes(config: PodConfig) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "workspace", "emptyDir": {}},
        {"name": "stroem-files", "emptyDir": {}},
    ]
    if config.runner_startup_configmap:
        source = {"name": config.runner_startup_configmap, "defaultMode": 0o755}
        volumes.append({"name": "stroem-startup", "configMap": source})
    return volumes


def _build_init(order: StepOrder, config: PodConfig, env: dict[str, str]) -> dict[str, Any] | None:
    """The container that brings what the step needs, with its variables in `env`; None if it needs
    nothing."""
    text, mounts = "", list[dict[str, Any]]()
    if isinstance(order.work, ScriptWork) and order.pinned is not None:
        env |= {_TOKEN: order.pinned.token, _URL: order.pinned.url}
        text, mounts = _bring_workspace(order.work)
    if order.shelves is not None and order.shelves.takes:
        env |= parcels.variables(order.shelves)
        text += parcels.FETCH
        mounts.append(parcels.mount_for_fetching())
    if order.helper is not None:
        program = (order.helper.path / HELPER).read_text(encoding="utf-8")
        text += f"{_add_files({HELPER: program}, env, HELPER_FOLDER)}\n{parcels.build_pipes()}"
        mounts.append(parcels.mount_for_pipes())
    if isinstance(order.work, ImageWork) and (files := read_state(order)):
        text += f"{_add_files(files, env, _TEMPORARY)}\numask 022\n"
        text += build_unpacking(files, _TEMPORARY)
        mounts += find_mounts(order, are_out=False)
    if not text:
        return None
    text = f"set -eu\numask 022\n{text}"
    return {
        "name": INIT_CONTAINER,
        "image": config.init_image,
        "command": ["sh", "-c", _escape(text)],
        "securityContext": build_restricted(),
        "resources": {"requests": dict(parcels.REQUESTS), "limits": dict(parcels.LIMITS)},
        "volumeMounts": mounts,
    }


def _bring_workspace(work: ScriptWork) -> tuple[str, list[dict[str, Any]]]:
    mode = "a+rwX" if work.workspace_mode == "copy" else "a+rX"
    text = f"{_DOWNLOAD}chmod -R {mode} {WORKSPACE} 2>/dev/null || true\n"
    mounts: list[dict[str, Any]] = [{"name": "workspace", "mountPath": WORKSPACE}]
    if work.source is not None and work.language == "shell":
        file = shlex.quote(f"{WORKSPACE}/{work.source}")
        text += f"_s_file={file}\n{_PLAIN_LINE_ENDS.replace('{files}', FILES)}"
        mounts.append({"name": "stroem-files", "mountPath": FILES})
    return text, mounts


def _build_step(
    order: StepOrder, config: PodConfig, hidden: dict[str, dict[str, str]]
) -> dict[str, Any]:
    work = order.work
    env = build_env(order)
    container: dict[str, Any] = {"name": STEP_CONTAINER, "securityContext": build_security()}
    if isinstance(work, ScriptWork):
        container["securityContext"] = build_restricted()
        container["image"] = work.runner_image or config.runner_image
        container["workingDir"] = place_workdir(order.workdir)
        container["command"] = [
            "sh",
            "-c",
            _escape(_write_program(order, work, container["image"], env)),
        ]
        container["volumeMounts"] = [
            *_build_mounts(work, config),
            *parcels.mounts(order),
            *build_volumes(order)[1],
        ]
    else:
        container["image"] = work.image
        if mounts := [*parcels.mounts(order), *build_volumes(order)[1]]:
            container["volumeMounts"] = mounts
        container |= _build_command(work)
        if order.workdir:
            container["workingDir"] = order.workdir
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
        hidden[STEP_CONTAINER] = env
    return container


def _write_program(order: StepOrder, work: ScriptWork, image: str, env: dict[str, str]) -> str:
    state = read_state(order)
    files = build_script_files(work, image) | read_input(order) | state
    leaving = build_leaving(order.attempt) if order.state is not None else NOTHING_LEFT
    program = build_program(order.attempt, leaving)
    return f"{_add_files(files, env)}\n{build_unpacking(state)}{program}"


def _build_mounts(work: ScriptWork, config: PodConfig) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {
            "name": "workspace",
            "mountPath": WORKSPACE,
            "readOnly": work.workspace_mode == "readonly",
        },
        {"name": "stroem-files", "mountPath": FILES},
    ]
    if config.runner_startup_configmap:
        mounts.append({"name": "stroem-startup", "mountPath": STARTUP, "readOnly": True})
    return mounts


def _build_command(work: ImageWork) -> dict[str, Any]:
    command: dict[str, Any] = {}
    if work.entrypoint:
        command["command"] = [_escape(part) for part in work.entrypoint]
    if work.command:
        command["args"] = [_escape(part) for part in work.command]
    elif work.cmd is not None and work.entrypoint:
        command["args"] = [_escape(part) for part in split_cmd(work.cmd)]
    elif work.cmd is not None:
        command["command"] = ["sh", "-c", _escape(work.cmd)]
    return command


def _add_files(files: Mapping[str, str], env: dict[str, str], folder: str = FILES) -> str:
    """Put the texts of `files` into `env`, in pieces; returns the program that writes them."""
    lines, names = ["umask 077"], []
    for number, (name, text) in enumerate(files.items()):
        pieces = []
        for index, piece in enumerate(_split(text)):
            variable = f"_STROEM_{number}_{index}"
            env[variable] = piece
            names.append(variable)
            pieces.append(f'"${variable}"')
        lines.append(f"printf %s {''.join(pieces) or repr('')} >{folder}/{name} || exit 127")
    lines.append(f"unset {' '.join(names)}")
    return "\n".join(lines)


def _split(text: str) -> list[str]:
    size = _CHUNK_BYTES // 4  # a character takes at most four bytes
    return [text[start : start + size] for start in range(0, len(text), size)]


def _escape(text: str) -> str:
    """Escape `text`, because Kubernetes expands $(NAME) in commands and values, and reads $$ as
    $."""
    return text.replace("$", "$$")


def _give_env(
    pod: Mapping[str, Any], hidden: Mapping[str, Mapping[str, str]], secret_name: str | None
) -> dict[str, Any]:
    """`pod` with the platform's variables: from the secret, or as plain values without one.

    Variables of the author's manifest take precedence.
    """
    given: dict[str, Any] = merge(pod, {})
    for group in ("initContainers", "containers"):
        for container in given["spec"].get(group, []):
            own = hidden.get(container["name"])
            if own is not None:
                container["env"] = _build_entries(container, own, secret_name)
    return given


def _mount_input(pod: dict[str, Any], secret_name: str) -> None:
    """Mount the input file into an image that runs unchanged. Added after the policy check."""
    volume = {
        "secretName": secret_name,
        "items": [{"key": INPUT, "path": INPUT}],
        "defaultMode": 0o444,
    }
    mount = {"name": _INPUT_VOLUME, "mountPath": FILES, "readOnly": True}
    spec, step = pod["spec"], find_step(pod)
    spec["volumes"] = [*spec.get("volumes", []), {"name": _INPUT_VOLUME, "secret": volume}]
    step["volumeMounts"] = [*step.get("volumeMounts", []), mount]


def _forget_input(pod: dict[str, Any]) -> None:
    """Without a secret the file has no place; the variables of the inputs hold the same values."""
    step = find_step(pod)
    path = next(entry["value"] for entry in step["env"] if entry.get("name") == INPUTS_FILE)
    step["env"] = [
        entry
        for entry in step["env"]
        if entry.get("name") not in (INPUT_FILE, INPUTS_FILE) or entry.get("value") != path
    ]


def _build_entries(
    container: Mapping[str, Any], own: Mapping[str, str], secret_name: str | None
) -> list[dict[str, Any]]:
    keys = {name: f"{container['name']}-{index}" for index, name in enumerate(own)}
    entries = list(container.get("env", []))
    if container["name"] == INIT_CONTAINER:
        entries = [{"name": name, "value": value} for name, value in own.items()]
    given = []
    for entry in entries:
        name = entry.get("name")
        if name in own and entry == {"name": name, "value": own[name]}:
            if secret_name is None:
                entry = {"name": name, "value": _escape(own[name])}
            else:
                entry = {
                    "name": name,
                    "valueFrom": {"secretKeyRef": {"name": secret_name, "key": keys[name]}},
                }
        given.append(entry)
    return given
