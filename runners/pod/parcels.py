"""The parts of a pod that carry files: what its step takes is fetched before it starts, and a
container beside it sends what it has left once it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.orders import Shelves
from runners.containers.script import FILES, LEFT, TAKEN
from runners.pod.config import PodConfig
from runners.pod.policy import FILES_CONTAINER, build_restricted
from runners.pod.record import ENDED, MESSAGE_FILE

TOKEN = "STROEM_WORKSPACE_TOKEN"  # noqa: S105 - the name of a variable, not what it holds
URL = "STROEM_ARTIFACTS_URL"
# for clusters whose quotas demand them; curl and tar need little
REQUESTS = {"cpu": "50m", "memory": "64Mi"}
LIMITS = {"cpu": "1", "memory": "256Mi"}
SEND_S = 900  # how long files are sent again while the server or its storage is away
_LEFT_VOLUME, _TAKEN_VOLUME = "stroem-left", "stroem-taken"

FETCH = rf"""printf 'header = "Authorization: Bearer %s"\nurl = "%s"\n' "${TOKEN}" "${URL}" |
    curl --silent --show-error --fail --retry 5 --retry-connrefused --retry-delay 1 \
        --max-time 3600 --output /tmp/taken.tar --config -
tar -xf /tmp/taken.tar -C {TAKEN}
rm -f /tmp/taken.tar
"""

# Ends with 0 when nothing is wanted or all is stored; else the termination message says why not.
# The number of files tells the server whether all of the archive has come.
_SEND = rf"""set -u
until [ -e {ENDED} ]; do sleep 0.2; done
_s_ended=$(cat {ENDED})
[ "$_s_ended" = 0 ] || [ -n "$_STROEM_ON_FAILURE" ] || exit 0
cd {LEFT}
[ -n "$(ls -A)" ] || exit 0
_s_files=$(find . -type f | wc -l)
_s_until=$(($(date +%s) + {SEND_S}))
printf 'header = "Authorization: Bearer %s"\nurl = "%s"\n' "${TOKEN}" "${URL}" >/tmp/config
while :; do
    _s_code=$(tar -cf - . | curl --silent --show-error --upload-file - --config /tmp/config \
        --header "X-Stroem-Files: $((_s_files))" --header "X-Stroem-Code: $_s_ended" \
        --header 'Expect:' --output /tmp/answer \
        --write-out '%{{http_code}}' 2>/tmp/error)
    case $_s_code in
    200) cat /tmp/answer; exit 0 ;;
    4*) cat /tmp/answer >{MESSAGE_FILE}; exit 1 ;;
    esac
    if [ "$(date +%s)" -ge "$_s_until" ]; then
        cat /tmp/answer /tmp/error >{MESSAGE_FILE} 2>/dev/null
        exit 1
    fi
    sleep 2
done
"""


def variables(shelves: Shelves | None) -> dict[str, str]:
    """What the containers of the platform need to know; empty if no files travel."""
    if shelves is None or shelves.parcel is None:
        return {}
    return {TOKEN: shelves.parcel.token, URL: shelves.parcel.url}


def volumes(shelves: Shelves | None) -> list[dict[str, Any]]:
    if shelves is None or shelves.parcel is None:
        return []
    names = [_LEFT_VOLUME, *([_TAKEN_VOLUME] if shelves.takes else [])]
    return [{"name": name, "emptyDir": {}} for name in names]


def mounts(shelves: Shelves | None) -> list[dict[str, Any]]:
    """Of the step."""
    if shelves is None or shelves.parcel is None:
        return []
    taken = {"name": _TAKEN_VOLUME, "mountPath": TAKEN, "readOnly": True}
    return [{"name": _LEFT_VOLUME, "mountPath": LEFT}, *([taken] if shelves.takes else [])]


def mount_for_fetching() -> dict[str, Any]:
    return {"name": _TAKEN_VOLUME, "mountPath": TAKEN}


def build_sender(shelves: Shelves, own: Mapping[str, str], config: PodConfig) -> dict[str, Any]:
    """The container that sends what the step has left."""
    wants = {"name": "_STROEM_ON_FAILURE", "value": "yes" if shelves.on_failure else ""}
    return {
        "name": FILES_CONTAINER,
        "image": config.init_image,
        "command": ["sh", "-c", _SEND.replace("$", "$$")],  # Kubernetes reads $$ as $
        "env": [wants, *({"name": key, "value": value} for key, value in own.items())],
        "securityContext": build_restricted(),
        "resources": {"requests": dict(REQUESTS), "limits": dict(LIMITS)},
        "volumeMounts": [
            {"name": _LEFT_VOLUME, "mountPath": LEFT, "readOnly": True},
            {"name": "stroem-files", "mountPath": FILES, "readOnly": True},
        ],
    }
