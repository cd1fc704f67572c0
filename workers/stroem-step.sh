#!/bin/sh
# stroem-step: what a step asks of its worker, through the pipes beside this program. Needs a POSIX shell, cat,
# chmod, dd, cp, mkdir, mv, rm, sleep and wc.
set -u
here=${0%/*}
fail() { code=$1; shift; printf 'stroem-step: %s\n' "$*" >&2; exit "$code"; }

usage() {
    cat <<'TEXT'
usage: stroem-step state get [KEY] [--global] [--default TEXT]
       stroem-step state set KEY VALUE [--global] [--json] [--if-version N]
       stroem-step state version [--global]
       stroem-step artifact put FILE [NAME]
       stroem-step artifact get STEP NAME [FILE]
       stroem-step output set KEY VALUE [--json]
VALUE may be - to read it from standard input. Exit codes: 0 done, 3 not there, 4 written by another job
meanwhile, 64 wrong use, 65 a value that cannot be kept, 69 the worker cannot answer.
TEXT
}

# take: a turn whose pipes are there, in the variable `turn`. What a step has broken or a caller has lost is made anew
# within seconds.
take() {
    turn= tries=10
    until [ -p "$here/$turn.in" ] && [ -p "$here/$turn.out" ]; do
        [ "$tries" -gt 0 ] || fail 69 "the worker does not answer"
        [ "$tries" -eq 10 ] || sleep 1
        tries=$((tries - 1))
        { turn=$(dd bs=8 count=1 <"$here/free"); } 2>/dev/null
        case $turn in *[!0-9]*) turn= ;; esac
    done
}

# ask VERB ARGUMENTS...: the answer on standard output.
ask() {
    take
    opened=
    # Each turn has pipes of its own: nobody else's answer can come from them.
    {
        opened=yes code= size= mode=
        trap '' PIPE  # the answer says why a question was not read to its end
        printf '%s\0' "$#" "$@" 2>/dev/null >>"$here/$turn.in"
        trap - PIPE
        read -r code size mode || fail 69 "the worker did not answer; its log says why"
        if [ "$code" != 0 ]; then cat >&2; exit "$code"; fi
        if [ -n "${target:-}" ]; then
            cat >"$target.part" || exit 73
            [ "$(($(wc -c <"$target.part")))" = "$size" ] || { rm -f "$target.part"; fail 69 "the file did not come whole"; }
            [ -z "$mode" ] || chmod +x "$target.part" || exit 73
            mv "$target.part" "$target"
        else
            text=$(cat; printf x)
            text=${text%x}
            [ "$(($(printf %s "$text" | wc -c)))" = "$size" ] || fail 69 "the answer did not come whole"
            printf %s "$text"
        fi
    } <"$here/$turn.out"
    status=$?
    [ -n "$opened" ] || fail 69 "the worker does not answer"
    return "$status"
}

put() {
    [ $# -ge 1 ] && [ $# -le 2 ] || { usage >&2; exit 64; }
    [ -n "${ARTIFACTS_DIR:-}" ] || fail 69 "this step has no ARTIFACTS_DIR"
    [ -f "$1" ] || fail 3 "there is no file $1"
    name=${2:-${1##*/}}
    case /$name/ in //* | */../* | */./* | *//) fail 64 "'$name' is no name of an artifact" ;; esac
    case $name in */*) mkdir -p "$ARTIFACTS_DIR/${name%/*}" || exit 73 ;; esac
    cp "$1" "$ARTIFACTS_DIR/$name" || exit 73
}

case ${1:-} in
-h | --help | help) usage; exit 0 ;;
esac
[ $# -ge 2 ] || { usage >&2; exit 64; }
what="$1 $2"; shift 2
case $what in
"artifact put") put "$@" ;;
"artifact get")
    [ $# -ge 2 ] && [ $# -le 3 ] || { usage >&2; exit 64; }
    target=${3:-${2##*/}}
    [ -n "$target" ] || fail 64 "'$2' is no name of an artifact"
    ask "$what" "$1" "$2" ;;
"state get" | "state version") ask "$what" "$@" ;;
"state set" | "output set")
    [ $# -ge 2 ] || { usage >&2; exit 64; }
    key=$1 value=$2; shift 2
    if [ "$value" = - ]; then value=$(cat; printf x) && value=${value%x}; fi
    ask "$what" "$key" "$value" "$@" ;;
*) usage >&2; exit 64 ;;
esac
