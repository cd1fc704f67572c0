"""The fuse box: settings, urls, asgi, celery, and the commands that join both sides. Nothing
imports it.

It imports the Celery app so that processes that only publish use our broker, not Celery's default.
"""

from stroem_project.celery import app as celery_app

__all__ = ["celery_app"]
