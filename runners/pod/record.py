"""What a script's container tells about itself when it ends, beside its log.

The program that runs a script counts its lines, keeps its last OUTPUT line, and writes both into
the container's termination message. So neither the end of a log nor an OUTPUT depends on whether a
node still has what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.output import GLOBAL_STATE, PREFIX, STATE
from runners.containers.script import FILES, LEFT, MAIN

MESSAGE_FILE = "/dev/termination-log"  # Kubernetes' default; it keeps 4096 bytes
ENDED = f"{FILES}/ended"  # holds the exit code, once what the step left may be read
MARK_LINES = 2  # the end mark, and the end of the line before it
NOTHING_LEFT = "_s_leave() { :; }\n"
_MOST_OUTPUT_BYTES = 2000
_HEAD = re.compile(r"stroem-log lines=(\d+) output=(none|here|long|unknown)(?: states=(\d+))?\n?")

# Process 1 ignores signals by default: this shell is process 1 and passes TERM on to the script. It
# may have reaped a quick script before it waits: `wait` knows its code, `kill -0` finds nobody. A
# wait that a signal ended says more than 128; the next one knows the code, or 127 if it was known.
_WAIT = """
_s_child=$!
trap 'kill -TERM "$_s_child" 2>/dev/null' TERM INT
wait "$_s_child"
_s_code=$?
while kill -0 "$_s_child" 2>/dev/null; do
    wait "$_s_child"
    _s_code=$?
done
if [ "$_s_code" -gt 128 ]; then
    wait "$_s_child"
    _s_again=$?
    [ "$_s_again" -eq 127 ] || _s_code=$_s_again
fi
"""

# The script writes into a pipe that tee copies to the log, to a counter and to a filter. Processes
# that it leaves behind may keep the pipe open: so its end is a line, and not the end of the pipe.
# The helpers ignore TERM, which a script may send to its whole group.
_RECORDED = f"""
[ -w "${{HOME:-/}}" ] || export HOME="${{TMPDIR:-/tmp}}"
_s_dir={FILES}/record
_s_end() {{  # what it left can be read, and whoever waits for it learns that it is there
    [ -d LEFT ] || return 0
    chmod -R a+rX LEFT 2>/dev/null
    (umask 022; printf '%s' "$1" >ENDED.new; mv ENDED.new ENDED)
}}
_s_run() {{
    sh {FILES}/{MAIN} &
    exec 2>/dev/null  # this shell would tell the log how its child died
    {_WAIT}
    [ "$_s_code" -ne 0 ] || _s_leave
    _s_end "$_s_code"
    exit "$_s_code"
}}
for _s_tool in mkfifo tee wc sed; do
    command -v "$_s_tool" >/dev/null 2>&1 || _s_run
done
[ -w {MESSAGE_FILE} ] || _s_run
mkdir "$_s_dir" && mkfifo "$_s_dir/lines" "$_s_dir/count" "$_s_dir/outputs" || _s_run
exec 4>&2 2>/dev/null
( trap '' PIPE TERM INT HUP; exec tee "$_s_dir/count" "$_s_dir/outputs" <"$_s_dir/lines" 4>&- ) &
_s_tee=$!
( trap '' TERM INT HUP; exec wc -l <"$_s_dir/count" >"$_s_dir/total" 4>&- ) &
_s_wc=$!
( trap '' TERM INT HUP; ulimit -v 65536; LC_ALL=C exec sed -n -e '/^{PREFIX}/h' \
    -e '/^{STATE}/w {FILES}/record/states' -e '/^{GLOBAL_STATE}/w {FILES}/record/states' \
    -e '/^END_MARK$/{{' -e g -e p -e q -e '}}' <"$_s_dir/outputs" >"$_s_dir/last" 4>&- ) &
_s_sed=$!
exec 3>"$_s_dir/lines"
sh {FILES}/{MAIN} >&3 2>&1 3>&- 4>&- &
{_WAIT}
[ "$_s_code" -ne 0 ] || _s_leave >&3
printf '\\nEND_MARK\\n' >&3
exec 3>&-
wait "$_s_sed"
_s_size=$(wc -c <"$_s_dir/last")
if [ "$_s_size" -eq 0 ]; then  # a line was too long for the filter, which has not seen the end
    _s_round=0
    while kill -0 "$_s_tee" && [ "$_s_round" -lt 50 ]; do
        sleep 0.1
        _s_round=$((_s_round + 1))
    done
fi
kill -KILL "$_s_tee"
wait "$_s_tee"
wait "$_s_wc"
if [ "$_s_size" -eq 0 ]; then _s_output=unknown
elif [ "$_s_size" -eq 1 ]; then _s_output=none
elif [ "$_s_size" -le {_MOST_OUTPUT_BYTES} ]; then _s_output=here
else _s_output=long
fi
{{
    printf 'stroem-log lines=%d output=%s states=%d\\n' "$(cat "$_s_dir/total")" "$_s_output" \
        "$(wc -l <"$_s_dir/states")"
    if [ "$_s_output" = here ]; then cat "$_s_dir/last"; fi
}} >{MESSAGE_FILE}
_s_end "$_s_code"
exit "$_s_code"
"""


@dataclass(frozen=True, slots=True)
class Record:
    """`lines`: how many the step wrote, `states`: how many of them about state. `output`: its last
    OUTPUT line."""

    lines: int
    knows: Literal["none", "here", "long", "unknown"]
    output: str = ""
    states: int = 0


def build_program(attempt: str, leaving: str = NOTHING_LEFT) -> str:
    """The end of the program of a script's container: runs the script and leaves a record.
    `leaving` defines what it calls after a success."""
    text = _RECORDED.replace("END_MARK", build_end_mark(attempt))
    return leaving + text.replace("LEFT", LEFT).replace("ENDED", ENDED)


def build_end_mark(attempt: str) -> str:
    """The last line of the log of a script, which is not shown."""
    return f"stroem: end of {attempt}"


def read_record(ended: Mapping[str, Any]) -> Record | None:
    """The record in the state of a terminated container, if there is one."""
    message = str(ended.get("message") or "")
    found = _HEAD.match(message)
    if found is None:
        return None
    knows: Any = found[2]
    output = message[found.end() :].strip("\n")
    return Record(int(found[1]) - MARK_LINES, knows, output, int(found[3] or 0))


def read_outputs(ended: Mapping[str, Any]) -> list[str]:
    """The OUTPUT lines that the step itself wrote into its termination message."""
    message = str(ended.get("message") or "")
    return [line for line in message.splitlines() if line.startswith(PREFIX)]


def without_record(ended: Mapping[str, Any]) -> str:
    """The termination message as far as it explains something."""
    message = str(ended.get("message") or "")
    if _HEAD.match(message):
        return ""
    lines = (line for line in message.splitlines() if not line.startswith(PREFIX))
    return "\n".join(lines).strip()
