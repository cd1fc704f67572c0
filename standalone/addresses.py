"""Points the current process at a database and a broker that it has just started."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.utils.module_loading import import_string


def use(db_url: str, broker_url: str, data_dir: Path | None = None) -> None:
    """Use them here and in the environment of child processes. Call this before anything is stored
    or published."""
    known = settings.STROEM
    os.environ["STROEM__DB__URL"] = db_url
    os.environ["STROEM__BROKER__URL"] = broker_url
    if data_dir is not None:
        os.environ["STROEM__DATA_DIR"] = str(data_dir)
        _keep_files_in(data_dir / "storage")
    settings.STROEM = replace(
        known,
        db=replace(known.db, url=db_url),
        broker=replace(known.broker, url=broker_url),
        data_dir=data_dir or known.data_dir,
    )
    settings.BROKER_URL = broker_url
    hang_up()
    settings.DATABASES["default"].update(settings.DATABASE_AT(db_url))
    if settings.CELERY_APP.rpartition(".")[0] in sys.modules:  # else it will read BROKER_URL
        names = ("broker_url", "broker_read_url", "broker_write_url")
        import_string(settings.CELERY_APP).conf.update(dict.fromkeys(names, broker_url))


def _keep_files_in(folder: Path) -> None:
    """Whatever storage the settings name is not that of this database."""
    for name in [name for name in os.environ if name.startswith("STROEM__STORAGE__")]:
        del os.environ[name]
    os.environ["STROEM__STORAGE"] = json.dumps({"path": str(folder)})
    place = {"BACKEND": "apps.artifacts.stores.Directory", "OPTIONS": {"location": folder}}
    backends: Any = storages.backends
    settings.STORAGES["blobs"] = backends["blobs"] = place


def hang_up() -> None:
    """Close all connections to the database; the next use reconnects."""
    connections.close_all()
    database = connections["default"]
    assert isinstance(database, DatabaseWrapper)
    database.close_pool()
