"""A bucket of S3 as storage. The only module that imports boto3; it is loaded where one is set."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from typing import IO, Any, BinaryIO, cast

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from apps.artifacts.stores import Source

PART_BYTES = 8 << 20  # there may be 10,000: files of up to 80 GB
_REFUSED = ("AccessDenied", "NotImplemented", "MethodNotAllowed")
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
        super().__init__(client_config=client, **options)
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
        self.append(name, Source(cast(BinaryIO, content)))
        return name

    def append(self, name: str, source: Source) -> None:
        """`ref` of the source: the id of the upload, and the parts that are there."""
        with self._uploads, _as_os_errors(source):
            if source.ref is None:
                head = source.read(PART_BYTES)
                if len(head) < PART_BYTES:
                    self._client.put_object(**self._at(name), Body=head)
                    source.settle()
                    return
                source.ref = (self._begin(name), [])
                self._put_part(name, source, head)
            while piece := source.read(PART_BYTES):
                self._put_part(name, source, piece)
            upload, parts = source.ref
            self._client.complete_multipart_upload(
                **self._at(name), UploadId=upload, MultipartUpload={"Parts": parts}
            )
            source.ref = None

    def _begin(self, name: str) -> str:
        told = self._at(name)
        if self._client.meta.config.request_checksum_calculation == "when_supported":
            told["ChecksumAlgorithm"] = "CRC32"  # the one that parts have then
        return str(self._client.create_multipart_upload(**told)["UploadId"])

    def _put_part(self, name: str, source: Source, piece: bytes) -> None:
        upload, parts = source.ref
        number = len(parts) + 1
        found = self._client.upload_part(
            **self._at(name), UploadId=upload, PartNumber=number, Body=piece
        )
        sums = {key: value for key, value in found.items() if key.startswith("ChecksumCRC")}
        parts.append({"PartNumber": number, "ETag": found["ETag"], **sums})
        source.settle()

    def abandon(self, name: str, source: Source | None) -> None:
        upload = None if source is None or source.ref is None else source.ref[0]
        with _as_os_errors():
            found = [upload] if upload is not None else self._find_uploads(name, source)
        for one in found:
            with suppress(FileNotFoundError), _as_os_errors():
                self._client.abort_multipart_upload(**self._at(name), UploadId=one)
        self.delete(name)

    def _find_uploads(self, name: str, source: Source | None) -> list[str]:
        """Of a process that was killed. An account that may not list them leaves them to a rule of
        the bucket."""
        if source is not None:
            return []
        at = self._at(name)
        try:
            found = self._client.list_multipart_uploads(Bucket=at["Bucket"], Prefix=at["Key"])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _REFUSED:
                return []
            raise
        return [upload["UploadId"] for upload in found.get("Uploads", ())]

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
def _as_os_errors(source: Source | None = None) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        if source is not None and told.get("Code") == "NoSuchUpload":
            source.forget()
        if told.get("Code") in ("NoSuchKey", "NoSuchUpload", "404"):
            raise FileNotFoundError(errno.ENOENT, "no such object") from error
        raise OSError(errno.EIO, f"{told.get('Code')}: {told.get('Message')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(errno.EIO, str(error)) from error
