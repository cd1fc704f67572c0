# Finds an interpreter for a step's script and runs it. `script.py` puts the values of _s_language and the like,
# the function `dependencies` and the arguments before this.
_s_here=${0%/*}
if [ -d /.stroem-step ]; then export PATH="$PATH:/.stroem-step"; fi
fail() { printf 'Error: %s\n' "$*" >&2; exit 127; }
has() { command -v "$1" >/dev/null 2>&1; }
nothing_for() {
    [ -z "$_s_interpreter" ] ||
        fail "interpreter '$_s_interpreter' was not found in this image; install it there, or leave 'interpreter' out" \
            "to use $_s_advice"
    fail "no interpreter found for '$_s_language' in this image. Tried: $*; install $_s_advice in the image"
}
is_writable() { [ -d "$1" ] && [ -w "$1" ]; }

for _s_startup_file in "$_s_startup"/*.sh; do
    if [ -r "$_s_startup_file" ]; then . "$_s_startup_file"; fi
done

make_scratch() {
    _s_scratch=$(mktemp -d "${TMPDIR:-/tmp}/stroem.XXXXXX" 2>/dev/null) || {
        _s_scratch=${TMPDIR:-/tmp}/stroem.$$
        mkdir -m 700 "$_s_scratch" || fail "the image has no writable directory for temporary files"
    }
}

prepare_cache() {
    make_scratch
    _s_cache=$_s_cache_root
    is_writable "$_s_cache" || { _s_cache=$_s_scratch/cache; mkdir -p "$_s_cache"; }
    if [ -z "${HOME:-}" ] || ! is_writable "$HOME"; then export HOME="$_s_scratch"; fi
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$_s_cache/uv}" PIP_CACHE_DIR="${PIP_CACHE_DIR:-$_s_cache/pip}"
    export npm_config_cache="${npm_config_cache:-$_s_cache/npm}" npm_config_update_notifier=false
    export BUN_INSTALL_CACHE_DIR="${BUN_INSTALL_CACHE_DIR:-$_s_cache/bun}" DENO_DIR="${DENO_DIR:-$_s_cache/deno}"
    export GOCACHE="${GOCACHE:-$_s_cache/go-build}" GOMODCACHE="${GOMODCACHE:-$_s_cache/go-mod}"
    export GOFLAGS="${GOFLAGS:--mod=mod}"
}

# An environment is made once, under a lock that its holder's death releases; without flock it is made anew.
install_once() {
    if has flock && [ "$_s_cache" = "$_s_cache_root" ]; then
        _s_env_dir=$_s_cache/env/$_s_environment
        mkdir -p "$_s_cache/env"
        if [ ! -f "$_s_env_dir/.ready" ]; then
            (
                flock 9
                if [ ! -f "$_s_env_dir/.ready" ]; then
                    rm -rf "$_s_env_dir"
                    mkdir -p "$_s_env_dir"
                    "$1" && : >"$_s_env_dir/.ready"
                fi
            ) 9>"$_s_cache/env/$_s_environment.lock"
        fi
    else
        _s_env_dir=$_s_scratch/env
        mkdir -p "$_s_env_dir"
        "$1" && : >"$_s_env_dir/.ready"
    fi
    [ -f "$_s_env_dir/.ready" ] || { printf 'Error: the dependencies could not be installed\n' >&2; exit 1; }
}

install_python() {
    if has uv; then
        uv venv --quiet ${_s_interpreter:+--python "$_s_interpreter"} "$_s_env_dir/venv" >&2 &&
            dependencies uv pip install --quiet --python "$_s_env_dir/venv/bin/python" -- >&2
        return
    fi
    for _s_python in ${_s_interpreter:-python3 python}; do
        has "$_s_python" || continue
        "$_s_python" -m venv "$_s_env_dir/venv" >/dev/null 2>&1 ||
            "$_s_python" -m venv --clear --without-pip --system-site-packages "$_s_env_dir/venv" >&2 || return 1
        dependencies "$_s_env_dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check -- >&2
        return
    done
    nothing_for uv, python3, python
}

install_node() {
    cd "$_s_env_dir" || return 1
    printf '{"private": true, "type": "module"}\n' >package.json
    if has bun; then dependencies bun add --silent >&2
    elif has npm; then dependencies npm install --silent --no-audit --no-fund -- >&2
    else fail "dependencies for '$_s_language' need bun or npm; install one of them in the image"
    fi
}

# `#!` names the program that runs the script, unless its author chose an interpreter. With options, or when it is none
# of ours, it gets the file as it is; `env` only looks the program up.
honour_first_line() {
    IFS= read -r _s_first <"$_s_file" || [ -n "$_s_first" ] || return 0
    case $_s_first in '#!'*) ;; *) return 0 ;; esac
    _s_first=${_s_first%"$(printf '\r')"}
    [ -z "$_s_interpreter" ] || return 0
    set -f
    # shellcheck disable=SC2086  # the words of the line
    set -- ${_s_first#??}
    set +f
    case ${1##*/} in env)
        if [ "${2-}" = -S ]; then shift 2; set -- env "$@"; fi
        case ${2-} in '' | -* | *=*) ;; *) shift ;; esac ;;
    esac
    [ $# -gt 0 ] || return 0
    _s_known=$(languages_of "${1##*/}")
    case " $_s_known " in
        '  ' | *" $_s_language "*) ;;
        *) if [ "$_s_language" != shell ]; then
            printf "The script's first line names %s, but its language is %s, which runs it\n" "$1" "$_s_language" >&2
            return 0
        fi
        _s_language=${_s_known%% *} ;;
    esac
    case $1 in python | python3) [ $# -gt 1 ] || return 0 ;; esac
    has "$1" || fail "the script's first line names '$1', which was not found in this image;" \
        "install it there, or correct the line"
    if [ $# -eq 1 ] && [ -n "$_s_known" ]; then _s_interpreter=$1; return 0; fi
    [ -z "$_s_has_dependencies" ] ||
        fail "'dependencies' need a first line such as #!/usr/bin/env python3, without options"
    _s_program=$*
}

run_program() {
    if [ "$_s_language" != shell ]; then prepare_cache; export PYTHONUNBUFFERED=1; fi
    if [ -z "$_s_source" ] && [ "$_s_language" != shell ]; then place_inline "$_s_name"; fi
    set -f
    # shellcheck disable=SC2086  # a program and its options
    exec $_s_program "$_s_file" "$@"
}

run_shell() {
    if [ -n "$_s_source" ] && [ -x "$_s_source" ] && [ -z "$_s_interpreter" ]; then
        case $_s_first in ?ELF*) exec "$_s_file" "$@" ;; esac
    fi
    if [ -n "$_s_interpreter" ]; then
        has "$_s_interpreter" || nothing_for
        exec "$_s_interpreter" "$_s_file" "$@"
    fi
    [ -z "$_s_foreign" ] || fail "$_s_foreign"
    if has bash; then exec bash "$_s_file" "$@"; fi
    exec sh "$_s_file" "$@"
}

run_python() {
    prepare_cache
    if [ -n "$_s_has_dependencies" ]; then
        install_once install_python
        export VIRTUAL_ENV="$_s_env_dir/venv" PATH="$_s_env_dir/venv/bin:$PATH"
        exec "$_s_env_dir/venv/bin/python" "$_s_file" "$@"
    fi
    if [ -n "$_s_interpreter" ]; then
        has "$_s_interpreter" || nothing_for
        exec "$_s_interpreter" "$_s_file" "$@"
    fi
    if has uv; then exec uv run --quiet --no-project "$_s_file" "$@"; fi
    if has python3; then exec python3 "$_s_file" "$@"; fi
    if has python; then exec python "$_s_file" "$@"; fi
    nothing_for uv, python3, python
}

# Modules are looked for beside the script and in every directory above it, so / reaches sources of the workspace too.
link_modules() {
    [ -n "$_s_has_dependencies" ] || return 0
    install_once install_node_apart
    export NODE_PATH="$_s_env_dir/node_modules"
    if [ -n "$_s_source" ]; then ln -sfn "$_s_env_dir/node_modules" /node_modules 2>/dev/null
    else ln -s "$_s_env_dir/node_modules" "$_s_env_dir/package.json" "$_s_scratch"
    fi
}
install_node_apart() { ( install_node ); }

place_inline() {
    if [ -z "$_s_source" ]; then cp "$_s_here/$_s_name" "$_s_scratch/$1" && _s_file=$_s_scratch/$1; fi
}

run_javascript() {
    prepare_cache
    link_modules
    for _s_tool in ${_s_interpreter:-bun node}; do
        has "$_s_tool" || continue
        case ${_s_tool##*/} in
            bun*) place_inline script.js; exec "$_s_tool" run "$_s_file" "$@" ;;
            deno*) place_inline script.mjs; exec "$_s_tool" run --allow-all --no-prompt "$_s_file" "$@" ;;
            *) place_inline "script.$_s_node_extension"; exec "$_s_tool" "$_s_file" "$@" ;;
        esac
    done
    nothing_for bun, node
}

run_typescript() {
    prepare_cache
    link_modules
    place_inline script.ts
    for _s_tool in ${_s_interpreter:-bun deno}; do
        has "$_s_tool" || continue
        case ${_s_tool##*/} in
            bun*) exec "$_s_tool" run "$_s_file" "$@" ;;
            deno*) exec "$_s_tool" run --allow-all --no-prompt "$_s_file" "$@" ;;
            *) exec "$_s_tool" "$_s_file" "$@" ;;
        esac
    done
    nothing_for bun, deno
}

# `go run` hides the program's exit code, so it is built and then run.
run_go() {
    prepare_cache
    _s_go=${_s_interpreter:-go}
    has "$_s_go" || nothing_for go
    mkdir -p "$_s_scratch/main"
    if [ -n "$_s_has_dependencies" ] || [ -z "$_s_source" ]; then
        cp "$_s_file" "$_s_scratch/main/main.go"
        ( cd "$_s_scratch/main" && "$_s_go" mod init stroem.step >/dev/null 2>&1 &&
            { [ -z "$_s_has_dependencies" ] || dependencies "$_s_go" get >&2; } &&
            "$_s_go" build -o "$_s_scratch/step" . >&2 ) || exit 1
    else
        "$_s_go" build -o "$_s_scratch/step" "$_s_file" >&2 || exit 1
    fi
    exec "$_s_scratch/step" "$@"
}

_s_file=${_s_source:-$_s_here/$_s_name}
[ -f "$_s_file" ] || fail "source '$_s_source_name' is not a file of the workspace"
_s_program=
honour_first_line
if [ -e "$_s_here/converted" ]; then
    printf '%s has Windows line ends (CR LF); the step runs it with LF\n' "$_s_source_name" >&2
fi
if [ -n "$_s_program" ]; then run_program "$@"; fi
"run_$_s_language" "$@"
