"""The fuse box: settings, urls, asgi, celery, and the commands that join both sides. Nothing
imports it.
"""
