"""The fuse box: settings, urls, asgi, celery, and the commands that join both sides. Nobody imports
it.

It imports the Celery app so that a process that only publishes uses our broker and not Celery's
default address.
"""

from stroem_project.celery import app as celery_app

__all__ = ["celery_app"]
