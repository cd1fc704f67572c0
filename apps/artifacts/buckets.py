"""A bucket of S3 as storage. The only module that imports boto3; it is loaded where one is set."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import IO, Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

PART_BYTES = 8 << 20  # there may be 10,000: files of up to 80 GB
UPLOADS = 2  # at once: each holds a part, and a copy of it, in memory


class Bucket(S3Storage):  # type: ignore[misc]
    """Uploads in parts, one after the other, so that an upload takes the memory of one part. Its
    one client serves all threads."""

    def __init__(self, addressing: str, **options: Any) -> None:
        client = Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 3},
            s3={"addressing_style": addressing},
        )
        transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )
        super().__init__(client_config=client, transfer_config=transfer, **options)
        self._making = threading.Lock()
        self._uploads = threading.BoundedSemaphore(UPLOADS)

    @cached_property
    def _client(self) -> Any:
        with self._making:
            return self.connection.meta.client

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket_name, "Key": self._normalize_name(name)}

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # of our making, never taken

    def _save(self, name: str, content: File[Any]) -> str:
        with self._uploads, _as_os_errors():  # boto3 would close the file itself
            self._client.upload_fileobj(
                _Reader(content), **self._at(name), Config=self.transfer_config
            )
        return name

    def open_at(self, name: str, offset: int, length: int) -> IO[bytes]:
        """A stream of these bytes, without a file of its own."""
        if length == 0:  # S3 has no empty range
            return io.BytesIO()
        wanted = f"bytes={offset}-{offset + length - 1}"
        with _as_os_errors():
            found = self._client.get_object(**self._at(name), Range=wanted)
        return io.BufferedReader(_Body(found["Body"]), 1 << 18)

    def delete(self, name: str) -> None:
        with _as_os_errors():
            self._client.delete_object(**self._at(name))

    def exists(self, name: str) -> bool:
        try:
            with _as_os_errors():
                self._client.head_object(**self._at(name))
        except FileNotFoundError:
            return False
        return True

    def prepare(self) -> None:
        """A bucket is made by whoever runs the storage."""

    def where(self) -> str:
        return f"the bucket {self.bucket_name}"


class _Reader:
    """A file that nobody closes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class _Body(io.RawIOBase):
    """The body of an answer; the connection goes back when it is closed."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _as_os_errors():
            found = self._body.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            with closing(self._body):
                super().close()


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        if told.get("Code") in ("NoSuchKey", "404"):
            raise FileNotFoundError(errno.ENOENT, "no such object") from error
        raise OSError(errno.EIO, f"{told.get('Code')}: {told.get('Message')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(errno.EIO, str(error)) from error
