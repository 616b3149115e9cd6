"""Unpacking of archives that we do not trust: nothing leaves the folder, and nothing grows beyond its bounds.

Rules, which hold whatever the archive's headers claim: 1. A member is a file, a directory or a link; never a
device. Its path is relative, without `..`, not too deep. 2. Nothing is written through a link: the parents of
a member are real directories. 3. A symbolic link goes up only at its beginning, and not above the folder; a
hard link names a file unpacked before. 4. Bytes are counted as they are written, members as they come;
headers are read within a budget. 5. Of a mode only the permission bits for files remain: no setuid, and
always writable by the owner.

What kind of archive it is, its content tells, not its name. Everything here blocks, and is called in a
thread.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, Protocol, cast

from runrig_agent.fetch_decompression import READ_MAX, Decompressed, TooMuch
from runrig_agent.sandbox_paths import Owner, directory_inside

COPY_BYTES = 256 * 1024
DEPTH_MAX = 64
NAME_BYTES_MAX = 2048
HEADER_BYTES_MAX = 2 * READ_MAX
"""Of one member of a tar, extensions included: far above any path and its attributes."""
ZIP_DIRECTORY_BYTES_PER_FILE = 256
"""Of a zip's table of contents, which is read as a whole."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""Not LZMA, whose memory a file of 100 bytes can make 4 GiB."""


class ArchiveRefused(Exception):
    """The archive breaks a rule or a bound, is broken, or is none; the message says what and where."""


class NotWanted(Exception):
    """Unpacking was given up because nobody waits for it any more."""


@dataclass(slots=True)
class Bounds:
    """How large what is unpacked may become; `is_wanted` is asked often, and ends the work when false."""

    bytes_max: int
    files_max: int
    is_wanted: Callable[[], bool] = lambda: True
    _bytes: int = field(default=0, init=False)
    _directories: set[tuple[str, ...]] = field(default_factory=set, init=False)
    _files: int = field(default=0, init=False)

    def check_wanted(self) -> None:
        """Raise NotWanted when nobody waits any more."""
        if not self.is_wanted():
            raise NotWanted

    def count_member(self, parents: tuple[str, ...]) -> None:
        """Count a member, and its parents when they are new."""
        self.check_wanted()
        while parents and parents not in self._directories:
            self._directories.add(parents)
            parents = parents[:-1]
        self._files += 1
        if self._files + len(self._directories) > self.files_max:
            raise ArchiveRefused(f"it holds more than {self.files_max} files and directories")

    def count_bytes(self, count: int) -> None:
        """Count what is about to be written."""
        self.check_wanted()
        self._bytes += count
        if self._bytes > self.bytes_max:
            raise ArchiveRefused(f"it is larger than {self.bytes_max} bytes unpacked")


class Kind(Enum):
    """What a member becomes."""

    FILE = auto()
    DIRECTORY = auto()
    SYMBOLIC_LINK = auto()
    HARD_LINK = auto()


class Readable(Protocol):
    """Where a member's content is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """One thing in an archive, as the archive claims; `target` is a link's."""

    name: str
    kind: Kind
    mode: int = 0o644
    target: str = ""
    content: Readable = field(default_factory=io.BytesIO)


def unpack(archive: Path, folder: Path, bounds: Bounds, owner: Owner) -> None:
    """Unpack `archive` into the existing, empty `folder`.

    Raises ArchiveRefused, NotWanted, and OSError for what is wrong with the disk; then part of it may be
    there.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with archive.open("rb") as file:
            for member in _members(file, bounds):
                _unpack_member(root, member, bounds, owner)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, TooMuch) as error:
        raise ArchiveRefused(f"it is broken, or no archive: {error}") from error
    except (
        ValueError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
    ) as error:  # of odd headers; encrypted
        raise ArchiveRefused(f"it cannot be read: {error}") from error
    except OSError as error:
        if error.errno is None:  # how bz2 says that its data is broken
            raise ArchiveRefused(f"it is broken: {error}") from error
        raise
    finally:
        os.close(root)


def _members(file: IO[bytes], bounds: Bounds) -> Iterator[Member]:
    beginning = file.read(4)
    file.seek(0)
    if beginning[:2] == b"PK":
        return _zip_members(file, bounds)
    return _tar_members(file, bounds)


def _tar_members(file: IO[bytes], bounds: Bounds) -> Iterator[Member]:
    total_max = bounds.bytes_max + 4096 * bounds.files_max  # headers and padding
    content = Decompressed(file, total_max, bounds.check_wanted)
    content.begin_header(HEADER_BYTES_MAX)
    with tarfile.TarFile(fileobj=cast(Any, content), errorlevel=2) as archive:
        while (info := archive.next()) is not None:
            content.end_header()
            yield _tar_member(archive, info)
            cast(Any, archive).members = []  # or it would remember every one
            content.begin_header(HEADER_BYTES_MAX)


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.isfile():
        content = archive.extractfile(info)
        assert content is not None
        return Member(info.name, Kind.FILE, info.mode, content=content)
    if info.isdir():
        return Member(info.name, Kind.DIRECTORY)
    if info.issym():
        return Member(info.name, Kind.SYMBOLIC_LINK, target=info.linkname)
    if info.islnk():
        return Member(info.name, Kind.HARD_LINK, target=info.linkname)
    raise ArchiveRefused(f"{_shown(info.name)} is neither file, directory nor link")


class _SmallReads:
    """A file for zipfile, which reads a table of contents whole, however long it claims to be."""

    def __init__(self, file: IO[bytes], read_max: int) -> None:
        self._file = file
        self._read_max = read_max
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read to the end only what is shorter than the bound."""
        if size > self._read_max:
            raise TooMuch(f"its table of contents is longer than {self._read_max} bytes")
        return self._file.read(size if size >= 0 else self._read_max)


def _zip_members(file: IO[bytes], bounds: Bounds) -> Iterator[Member]:
    read_max = max(READ_MAX, ZIP_DIRECTORY_BYTES_PER_FILE * bounds.files_max)
    with zipfile.ZipFile(cast(Any, _SmallReads(file, read_max))) as archive:
        for info in archive.infolist():
            if info.compress_type not in ZIP_METHODS:
                raise ArchiveRefused(
                    f"{_shown(info.filename)} is packed with a method that is not unpacked here: use deflate"
                )
            mode = info.external_attr >> 16
            if info.is_dir():
                yield Member(info.filename, Kind.DIRECTORY)
                continue
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    target = content.read(NAME_BYTES_MAX + 1)
                    yield Member(info.filename, Kind.SYMBOLIC_LINK, target=os.fsdecode(target))
                else:
                    yield Member(info.filename, Kind.FILE, mode or 0o644, content=content)


def _unpack_member(root: int, member: Member, bounds: Bounds, owner: Owner) -> None:
    parts = _checked_parts(member.name)
    if not parts:
        return  # `./`, the folder itself
    *parents, name = parts
    bounds.count_member(tuple(parents))
    try:
        with directory_inside(root, parents, owner) as parent:
            match member.kind:
                case Kind.DIRECTORY:
                    with directory_inside(parent, [name], owner):
                        pass
                case Kind.FILE:
                    _write(parent, name, member, bounds, owner)
                case Kind.SYMBOLIC_LINK:
                    _link(parent, name, _checked_target(member, len(parents)), owner)
                case Kind.HARD_LINK:
                    _link_hard(root, parent, name, member, owner)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise ArchiveRefused(f"{_shown(member.name)}: another member is in its way") from error


def _checked_parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ArchiveRefused(f"{_shown(name)} leads out of the folder")
    if len(parts) > DEPTH_MAX or len(os.fsencode(name)) > NAME_BYTES_MAX:
        raise ArchiveRefused(f"{_shown(name)} is too deep or too long")
    return parts


def _checked_target(member: Member, depth: int) -> str:
    """Return where a symbolic link leads: up at its beginning only, and not above the folder (rule 3)."""
    target = member.target
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    leads_out = target.startswith("/") or ups > depth or ".." in parts[ups:]
    if leads_out or not target or "\0" in target or len(os.fsencode(target)) > NAME_BYTES_MAX:
        raise ArchiveRefused(f"{_shown(member.name)} leads out of the folder, to {_shown(target)}")
    return target


def _write(parent: int, name: str, member: Member, bounds: Bounds, owner: Owner) -> None:
    _make_room(parent, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        while data := member.content.read(COPY_BYTES):
            bounds.count_bytes(len(data))
            file.write(data)
        os.fchmod(file.fileno(), (member.mode & 0o777) | stat.S_IRUSR | stat.S_IWUSR)
        owner.give(file.fileno())


def _link(parent: int, name: str, target: str, owner: Owner) -> None:
    _make_room(parent, name)
    os.symlink(target, name, dir_fd=parent)
    if os.geteuid() == 0:
        os.chown(name, owner.uid, owner.gid, dir_fd=parent, follow_symlinks=False)


def _link_hard(root: int, parent: int, name: str, member: Member, owner: Owner) -> None:
    parts = _checked_parts(member.target)
    if not parts or parts == _checked_parts(member.name):
        raise ArchiveRefused(f"{_shown(member.name)} is a link to itself")
    with directory_inside(root, parts[:-1], owner) as folder:
        try:
            is_file = stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            is_file = False
        if not is_file:
            raise ArchiveRefused(f"{_shown(member.name)} links to no file before it: {_shown(member.target)}")
        _make_room(parent, name)
        os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)


def _make_room(parent: int, name: str) -> None:
    """Remove what an earlier member of the same name has left, as tar does."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")
