"""Both storages: a directory, and a bucket of a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.core.files.storage import storages
from moto.server import ThreadedMotoServer

from apps.artifacts import blobs
from tests import caches


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url: str) -> Iterator[Any]:
    """An empty bucket."""
    maker = boto3.resource("s3", endpoint_url=s3_url, region_name="us-east-1", **KEYS)
    made = maker.create_bucket(Bucket="files")
    yield made
    made.objects.all().delete()
    made.delete()


KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


def use(settings: Any, backend: str, **options: Any) -> None:
    """Make this the storage of blobs."""
    settings.STORAGES = {
        **settings.STORAGES,
        "blobs": {"BACKEND": f"apps.artifacts.{backend}", "OPTIONS": options},
    }
    storages._storages.pop("blobs", None)
    caches.forget()


@pytest.fixture
def directory(settings: Any, tmp_path: Path, db: None) -> Path:
    use(settings, "stores.Directory", location=tmp_path / "storage")
    blobs.establish()
    return tmp_path / "storage"


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.long)])
def storage(request: pytest.FixtureRequest, settings: Any, db: None) -> Any:
    if request.param == "directory":
        return request.getfixturevalue("directory")
    made = request.getfixturevalue("bucket")
    use(
        settings, "buckets.Bucket", bucket_name="files", region_name="us-east-1", addressing="path",
        endpoint_url=request.getfixturevalue("s3_url"), access_key="test", secret_key="test",
        location="under/here",
    )  # fmt: skip
    blobs.establish()
    return made
