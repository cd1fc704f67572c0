"""The server's ASGI application."""

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

from stroem_project.bodies import Bodies
from stroem_project.proxies import Proxies
from stroem_project.web import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
limit_statements()  # each of several server processes begins here
served: Any = get_asgi_application()
from apps.api.sockets import LogSockets  # noqa: E402  (needs the apps)

if settings.STROEM.mcp.enabled:
    from apps.api.mcp.door import Mcp

    served = Mcp(served)
application = Proxies(Bodies(LogSockets(served)), settings.STROEM.trusted_proxies)
