"""Points a process that has begun already at a database and a broker which it has just started."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.db import connections

from stroem_project.config import Broker, Database
from stroem_project.settings import database_settings


def use(db_url: str, broker_url: str, data_dir: Path | None = None) -> None:
    """For this process and for its children's environment. To be called before anything was stored
    or published."""
    os.environ["STROEM__DB__URL"] = db_url
    os.environ["STROEM__BROKER__URL"] = broker_url
    settings.STROEM = replace(settings.STROEM, db=Database(db_url), broker=Broker(broker_url))
    if data_dir is not None:
        os.environ["STROEM__DATA_DIR"] = str(data_dir)
        settings.STROEM = replace(settings.STROEM, data_dir=data_dir)
    settings.BROKER_URL = broker_url
    connections["default"].close()
    connections["default"].close_pool()
    settings.DATABASES["default"].update(database_settings(db_url))
    _repoint_celery(broker_url)


def _repoint_celery(broker_url: str) -> None:
    from celery import current_app

    current_app.conf.broker_url = broker_url
    current_app.conf.broker_read_url = broker_url
    current_app.conf.broker_write_url = broker_url


def unset() -> str:
    """One sentence for commands that need a database when none is known."""
    return (
        "No database is known: start `manage.py up` first, or set STROEM__DB__URL and"
        " STROEM__BROKER__URL to servers of yours."
    )
