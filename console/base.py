"""What commands are made of. Under `manage.py` that is Django's command class. The client `stroem`
runs the same commands where there is no Django, on a small class of ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "django" in sys.modules:  # `manage.py` has imported it
    from console.managed import PROGRAM, CommandError, OurCommand, PlatformCommand, add_actor
else:
    from console.unmanaged import PROGRAM, CommandError, OurCommand, PlatformCommand, add_actor

__all__ = ["PROGRAM", "CommandError", "OurCommand", "PlatformCommand", "add_actor"]
