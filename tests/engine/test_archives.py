"""Archives from strangers: nothing leads out of the directory, nothing grows without limits."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc

import pytest

from engine.archives import BadArchive, Limits, read_tar

LIMITS = Limits(files=10, size_bytes=1 << 20)
FILE = tarfile.REGTYPE


def packed(*members: tuple[str, bytes | int], mode: int = 0o644) -> bytes:
    """(name, contents) of files; a number is the type of another kind of entry."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, what in members:
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if isinstance(what, bytes):
                entry.size = len(what)
                tar.addfile(entry, io.BytesIO(what))
            else:
                entry.type, entry.linkname = bytes([what]), "/etc/passwd"
                tar.addfile(entry)
    return made.getvalue()


def read(archive: bytes, limits: Limits = LIMITS) -> list[tuple[str, bytes]]:
    entries = read_tar(io.BytesIO(archive), limits, is_gzip=True)
    return [(entry.path, entry.data.read()) for entry in entries]


def test_files_come_with_their_paths_contents_and_mode():
    folder = tarfile.DIRTYPE[0]
    archive = packed(("./", folder), ("./a/", folder), ("./a/b", b"hi"), ("c", b""))
    assert read(archive) == [("a/b", b"hi"), ("c", b"")]
    (entry,) = read_tar(io.BytesIO(packed(("x", b""), mode=0o755)), LIMITS, is_gzip=True)
    assert entry.is_program


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "..", "a\\..\\x", "a\nb", "a\x1bb", "x" * 2000]
)
def test_a_name_that_leads_elsewhere_or_is_none_is_refused(name: str):
    with pytest.raises(BadArchive):
        read(packed((name, b"x")))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.CHRTYPE, "a device"),
    ],
)
def test_what_is_no_plain_file_is_refused(kind: bytes, said: str):
    with pytest.raises(BadArchive, match=said):
        read(packed(("x", kind[0])))


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("./a", "a")])
def test_a_path_is_one_thing_once(names: tuple[str, str]):
    with pytest.raises(BadArchive, match="more than once"):
        read(packed(*((name, b"x") for name in names)))


@pytest.mark.parametrize(
    "archive",
    [
        packed(("x", b"\0" * (LIMITS.size_bytes + 1))),
        packed(*((f"x{number}", b"") for number in range(11))),
        gzip.compress(packed(("x", b""))[:100] * 100),
    ],
    ids=["contents", "files", "junk"],
)
def test_an_archive_beyond_the_limits_is_refused(archive: bytes):
    with pytest.raises(BadArchive):
        read(archive)


def test_a_bomb_takes_no_memory():
    """A name of 200 MB, as the extended headers of tar allow it."""
    made = io.BytesIO()
    with gzip.open(made, "wb") as out:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 200 << 20
        out.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            out.write(b"a" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive, match="more than"):
            read(made.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [0, 1, 20, 60])
def test_an_archive_without_its_end_is_refused(keep: int):
    whole = packed(("x", bytes(range(256)) * 20))
    with pytest.raises(BadArchive):
        read(whole[:keep])


def test_the_end_may_be_missing_within_a_file():
    plain = gzip.decompress(packed(("x", b"y" * 5000)))
    with pytest.raises(BadArchive):
        read(gzip.compress(plain[:2000]))
