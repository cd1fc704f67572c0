#!/usr/bin/env python
"""The one entry point: every operation is a management command."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
