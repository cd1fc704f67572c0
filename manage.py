#!/usr/bin/env python
"""The one entry point: every operation is a management command."""

import base64
import os
import sys

KEEP_NOTHING = (["run"], ["validate"])

if __name__ == "__main__":
    # so they seal with a key that nobody keeps, and need no place to write
    if sys.argv[1:2] in KEEP_NOTHING:
        os.environ.setdefault("STROEM_KEYS", base64.urlsafe_b64encode(os.urandom(32)).decode())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
