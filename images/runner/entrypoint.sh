#!/bin/bash
# Sources the start-up scripts, then runs its arguments. For running the image by hand or with `type: docker`; steps of
# `type: script` use their own program, which sources the same scripts.
set -e
for startup_file in /etc/stroem/startup.d/*.sh; do
    if [ -r "$startup_file" ]; then
        # shellcheck disable=SC1090
        . "$startup_file"
    fi
done
if [ "$#" -eq 0 ]; then
    set -- bash
fi
exec "$@"
