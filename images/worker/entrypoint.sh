#!/bin/bash
# Sources the start-up scripts (credential helpers, certificates), then becomes `manage.py`, which as the
# first process hands its environment over and becomes tini.
set -e
for startup_file in /etc/stroem/startup.d/*.sh; do
    if [ -r "$startup_file" ]; then
        # shellcheck disable=SC1090
        . "$startup_file"
    fi
done
exec python manage.py "$@"
