"""The server's ASGI application."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from stroem_project.bodies import Bodies
from stroem_project.proxies import Proxies
from stroem_project.web import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
limit_statements()  # each of several server processes begins here
application = Proxies(Bodies(get_asgi_application()), settings.STROEM.trusted_proxies)
