#!/bin/bash
# Sources the start-up scripts, then runs its arguments. Steps of `type: script` do not come this way (their own
# program sources the same scripts); it serves whoever runs the image by hand or with `type: docker`.
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
