"""`stroem`: the client for laptops and CI. The commands of `manage.py` that look at jobs or decide
about them, over the HTTP API; the standard library only, and what reads workflow files.

Belongs here: profiles, HTTP, the port of `console` on top of it. Does not belong here: Django, and
what a command says: `console` holds that, once for both programs.
"""

import sys
from pathlib import Path

# An installed client carries the packages that it shares with the server in a folder of its own.
_shared = Path(__file__).parent / "_shared"
if _shared.is_dir():
    sys.path.insert(0, str(_shared))
