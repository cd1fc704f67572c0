"""The server's ASGI application."""

import os

from django.core.asgi import get_asgi_application

from stroem_project.bodies import Bodies
from stroem_project.web import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
limit_statements()  # each of several server processes begins here
inside = get_asgi_application()
from apps.api.sockets import LogSockets  # noqa: E402  (needs the apps)

application = Bodies(LogSockets(inside))
