"""The parts of a pod that carry files: what its step takes is fetched before it starts, and a
container beside it sends what it has left once it has ended.

That container also answers `stroem-step`, by asking the server.

A script says itself that it has ended. An image, which runs as it is, cannot: its worker sees it
and tells the server, which the container beside it asks.
"""

from __future__ import annotations

from typing import Any

from engine.orders import HELPER, ImageWork, Shelves, StepOrder
from runners.containers.script import FILES, HELPER_FOLDER, LEFT, TAKEN
from runners.pod.config import PodConfig
from runners.pod.policy import FILES_CONTAINER, build_restricted
from runners.pod.record import ENDED, MESSAGE_FILE
from runners.pod.states import build_leaving, build_mark, find_mounts

TOKEN = "STROEM_WORKSPACE_TOKEN"  # noqa: S105 - the name of a variable, not what it holds
URL = "STROEM_ARTIFACTS_URL"
STATE_LINES = "stroem-state lines="  # in the termination message: how many lines hold state
# for clusters whose quotas demand them; curl and tar need little
REQUESTS = {"cpu": "50m", "memory": "64Mi"}
LIMITS = {"cpu": "1", "memory": "256Mi"}
SEND_S = 900  # how long files are sent again while the server or its storage is away
ANSWER_S = 600  # for whoever asked to read its answer
LOOK_S = 15
SLOTS = "1 2 3 4"
MOST_BYTES = 2_000_000  # of a question: the server refuses more
_LEFT_VOLUME, _TAKEN_VOLUME, _HELPER_VOLUME = "stroem-left", "stroem-taken", "stroem-step"

FETCH = rf"""printf 'header = "Authorization: Bearer %s"\nurl = "%s"\n' "${TOKEN}" "${URL}" |
    curl --silent --show-error --fail --retry 5 --retry-connrefused --retry-delay 1 \
        --max-time 3600 --output /tmp/taken.tar --config -
tar -xf /tmp/taken.tar -C {TAKEN}
rm -f /tmp/taken.tar
"""

# Each slot has a process that takes a question, asks the server, and gives the answer. A turn has
# pipes under a name of its own: no answer reaches another. A turn that somebody has taken and asks
# nothing, at two looks, is lost: its caller was killed. What else is in `free` is thrown away.
_SERVE = rf"""
printf 'header = "Authorization: Bearer %s"\nurl = "%s/ask"\n' "${TOKEN}" "${URL}" >/tmp/asking
exec 9<>FOLDER/free
_s_ask() {{
    _s_until=$(($(date +%s) + {SEND_S}))
    while :; do
        _s_answer=$(curl --silent --max-time 3600 --config /tmp/asking --header 'Expect:' \
            --data-binary @"/tmp/asked.$1" --output "/tmp/answer.$1" --write-out '%{{http_code}}')
        case $_s_answer in 200) return ;; 4*) break ;; esac
        [ "$(date +%s)" -lt "$_s_until" ] || break
        sleep 1
    done
    _s_text="stroem-step: the server does not answer ($_s_answer)"
    printf '69 %d\n%s\n' "$((${{#_s_text}} + 1))" "$_s_text" >"/tmp/answer.$1"
}}
_s_serve() {{
    _s_number=0
    while :; do
        _s_turn=$(printf '%s%07d' "$1" "$_s_number")
        _s_number=$(((_s_number + 1) % 10000000))
        _s_pipes="FOLDER/$_s_turn.in FOLDER/$_s_turn.out"
        mkfifo $_s_pipes && chmod 666 $_s_pipes || {{ sleep 1; continue; }}
        exec 8<>"FOLDER/$_s_turn.out"
        head -c {MOST_BYTES + 1} "FOLDER/$_s_turn.in" >"/tmp/asked.$1" &
        _s_reader=$!
        echo "$_s_turn $_s_reader" >"/tmp/turn.$1"
        printf %s "$_s_turn" >&9
        wait "$_s_reader" 2>/dev/null  # which says that it was ended
        _s_code=$?
        : >"/tmp/turn.$1"
        if [ "$_s_code" -eq 0 ]; then
            _s_ask "$1"
            exec 7>"FOLDER/$_s_turn.out" 8<&-
            timeout {ANSWER_S} cat "/tmp/answer.$1" >&7
            exec 7>&-
        else
            exec 8<&-
        fi
        rm -f $_s_pipes "/tmp/answer.$1"
    done
}}
_s_watch() {{
    _s_before=
    while sleep {LOOK_S}; do
        _s_there=$(timeout 1 dd bs=65536 count=1 <&9)
        _s_taken=
        for _s_slot in {SLOTS}; do
            read -r _s_turn _s_reader <"/tmp/turn.$_s_slot" || continue
            case $_s_there in *"$_s_turn"*) printf %s "$_s_turn" >&9; continue ;; esac
            _s_taken="$_s_taken $_s_turn"
            case $_s_before in *"$_s_turn"*) kill "$_s_reader" ;; esac
        done
        _s_before=$_s_taken
    done 2>/dev/null
}}
for _s_slot in {SLOTS}; do
    _s_serve "$_s_slot" &
done
_s_watch &
""".replace("FOLDER", HELPER_FOLDER)

_AWAIT_SCRIPT = f"""
until [ -e {ENDED} ]; do sleep 0.2; done
_s_ended=$(cat {ENDED})
"""

# Asks more rarely the longer the image runs: it is late by a sixtieth of its time at most.
_AWAIT_IMAGE = rf"""
printf 'header = "Authorization: Bearer %s"\nurl = "%s/end"\n' "${TOKEN}" "${URL}" >/tmp/waiting
_s_began=$(date +%s)
while :; do
    _s_answer=$(curl --silent --max-time 30 --config /tmp/waiting --output /tmp/ended \
        --write-out '%{{http_code}}')
    case $_s_answer in
    200) break ;;
    401 | 404 | 410)
        printf 'the server no longer knows this step (%s)' "$_s_answer" >{MESSAGE_FILE}
        exit 1 ;;
    esac
    _s_pause=$((($(date +%s) - _s_began) / 60))
    if [ "$_s_pause" -eq 0 ]; then _s_pause=0.5
    elif [ "$_s_pause" -gt 10 ]; then _s_pause=10
    fi
    sleep "$_s_pause"
done
_s_ended=$(cat /tmp/ended)
"""

# An image runs as a user of its own, who may have closed files to all others.
_REFUSE_CLOSED = rf"""
_s_closed=$({{
    find FOLDERS >/dev/null 2>&1 || echo 'A directory'
    find FOLDERS \( -type f -o -type d \) -exec sh -c \
        'for one; do [ -r "$one" ] || {{ echo "$one"; break; }}; done' _ {{}} + 2>/dev/null
}} | head -n 1)
if [ -n "$_s_closed" ]; then
    printf '%s cannot be read by the container that sends it (user %s): let the image make it%s' \
        "$(printf %s "$_s_closed" | tr '\001-\037' '?')" "$(id -u)" \
        ' readable for all (umask 022), or set its user in the action' >{MESSAGE_FILE}
    exit 1
fi
"""

_LEAVE_STATE = f"""
if [ "$_s_ended" = 0 ]; then
    _s_code=0
    _s_leave >/tmp/state
    if [ "$_s_code" -ne 0 ]; then
        echo 'Error: it could not be packed' >>/tmp/state
        grep -m 1 '^Error: ' /tmp/state >{MESSAGE_FILE}
        exit 1
    fi
    grep '^MARK' /tmp/state
    printf '{STATE_LINES}%d\\n' "$(grep -c '^MARK' /tmp/state)" >{MESSAGE_FILE}
fi
"""

# Ends with 0 when nothing is wanted or all is stored; else the termination message says why not.
# The number of files tells the server whether all of the archive has come.
_SEND = rf"""
cd {LEFT}
[ -n "$(ls -A)" ] || exit 0
_s_files=$(find . -type f | wc -l)
_s_until=$(($(date +%s) + {SEND_S}))
_s_told=
printf 'header = "Authorization: Bearer %s"\nurl = "%s"\n' "${TOKEN}" "${URL}" >/tmp/config
while :; do
    : >/tmp/answer
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
    if [ -z "$_s_told" ]; then
        _s_told=yes
        printf 'Waiting to send the artifacts: %s\n' "$(cat /tmp/answer /tmp/error)"
    fi
    sleep 2
done
"""
_WANTED = '[ "$_s_ended" = 0 ] || [ -n "$_STROEM_ON_FAILURE" ] || exit 0\n'


def variables(shelves: Shelves | None) -> dict[str, str]:
    """What the containers of the platform need to know; empty if no files travel."""
    if shelves is None or shelves.parcel is None:
        return {}
    return {TOKEN: shelves.parcel.token, URL: shelves.parcel.url}


def volumes(order: StepOrder) -> list[dict[str, Any]]:
    shelves = order.shelves
    if shelves is None or shelves.parcel is None:
        return []
    names = [_LEFT_VOLUME, *([_TAKEN_VOLUME] if shelves.takes else [])]
    names += [_HELPER_VOLUME] if order.helper is not None else []
    return [{"name": name, "emptyDir": {}} for name in names]


def mounts(order: StepOrder) -> list[dict[str, Any]]:
    """Of the step. Pipes can be written to all the same."""
    shelves = order.shelves
    if shelves is None or shelves.parcel is None:
        return []
    found: list[dict[str, Any]] = [{"name": _LEFT_VOLUME, "mountPath": LEFT}]
    if shelves.takes:
        found.append({"name": _TAKEN_VOLUME, "mountPath": TAKEN, "readOnly": True})
    if order.helper is not None:
        found.append({"name": _HELPER_VOLUME, "mountPath": HELPER_FOLDER, "readOnly": True})
    return found


def mount_for_fetching() -> dict[str, Any]:
    return {"name": _TAKEN_VOLUME, "mountPath": TAKEN}


def build_pipes() -> str:
    """The part of the init container's program that readies `stroem-step`: its callers wait in
    `free` until the container beside them serves."""
    return f"""umask 022
chmod 755 {HELPER_FOLDER}/{HELPER}
mkfifo {HELPER_FOLDER}/free
chmod 666 {HELPER_FOLDER}/free
"""


def mount_for_pipes() -> dict[str, Any]:
    return {"name": _HELPER_VOLUME, "mountPath": HELPER_FOLDER}


def build_sender(order: StepOrder, shelves: Shelves, config: PodConfig) -> dict[str, Any]:
    """The container that sends what the step has left."""
    wants = {"name": "_STROEM_ON_FAILURE", "value": "yes" if shelves.on_failure else ""}
    own = variables(shelves)
    found: list[dict[str, Any]] = [{"name": _LEFT_VOLUME, "mountPath": LEFT, "readOnly": True}]
    if order.helper is not None:
        found.append({"name": _HELPER_VOLUME, "mountPath": HELPER_FOLDER})
    context = build_restricted()
    if isinstance(order.work, ImageWork):
        text = _send_of_image(order)
        found += [{**mount, "readOnly": True} for mount in find_mounts(order, are_out=True)]
        user = (order.container.user or "").partition(":")[0]
        if user.isdecimal() and int(user):  # the one who may read all that the image leaves
            context |= {"runAsUser": int(user), "runAsGroup": int(user)}
    else:
        text = f"{_SERVE if order.helper is not None else ''}{_AWAIT_SCRIPT}{_WANTED}{_SEND}"
        found.append({"name": "stroem-files", "mountPath": FILES, "readOnly": True})
    return {
        "name": FILES_CONTAINER,
        "image": config.init_image,
        "command": ["sh", "-c", f"set -u\n{text}".replace("$", "$$")],  # Kubernetes reads $$ as $
        "env": [wants, *({"name": key, "value": value} for key, value in own.items())],
        "securityContext": context,
        "resources": {"requests": dict(REQUESTS), "limits": dict(LIMITS)},
        "volumeMounts": found,
    }


def _send_of_image(order: StepOrder) -> str:
    folders = [LEFT, *(str(mount["mountPath"]) for mount in find_mounts(order, are_out=True))]
    text = _AWAIT_IMAGE + _WANTED + _REFUSE_CLOSED.replace("FOLDERS", " ".join(folders))
    if order.state is not None:
        leave = _LEAVE_STATE.replace("MARK", build_mark(order.attempt))
        text += build_leaving(order.attempt, "/tmp") + leave  # noqa: S108 - of the container
    return text + _SEND
