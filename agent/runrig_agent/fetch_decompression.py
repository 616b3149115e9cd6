"""Reading of a compressed file forwards, within bounds: what `tarfile` reads instead of a file.

tarfile reads headers whole, however long they claim to be, and xz takes as much memory as its file asks for.
So every read is small, the reads of one header have a budget, and xz has a limit.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Protocol

READ_MAX = 1024 * 1024
RAW_BYTES = 64 * 1024
XZ_MEMORY_BYTES = 256 * 1024 * 1024
"""`xz -9` needs 65 MiB; the format allows 4 GiB."""


class TooMuch(Exception):
    """A bound was reached; the message says which."""


class Decompressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib with the interface of the two others: it keeps the input that it has not read."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_KINDS: tuple[tuple[bytes, Callable[[], Decompressor]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)),
)


def decompressor_for(beginning: bytes) -> Callable[[], Decompressor] | None:
    """Return what unpacks a file that begins so; None: it is not compressed, as far as known."""
    return next((make for magic, make in _KINDS if beginning.startswith(magic)), None)


class Decompressed:
    """The content of `file`, from its place on; total and header reads are bounded.

    Raises TooMuch, EOFError for a file that was cut, and what the decompressors raise for a broken one.
    """

    def __init__(self, file: IO[bytes], total_max: int, still_wanted: Callable[[], None]) -> None:
        self._file = file
        self._total_max = total_max
        self._still_wanted = still_wanted
        beginning = file.read(8)
        file.seek(-len(beginning), io.SEEK_CUR)
        self._make = decompressor_for(beginning)
        self._inner = self._make() if self._make else None
        self._position = 0
        self._header_left: int | None = None

    def begin_header(self, budget: int) -> None:
        """Allow that many bytes until `end_header`."""
        self._header_left = budget

    def end_header(self) -> None:
        """Allow any number of bytes again, within the total."""
        self._header_left = None

    def tell(self) -> int:
        """Return how much was read."""
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Skip forwards."""
        if whence != io.SEEK_SET or position < self._position:
            raise TooMuch("it can only be read forwards")
        header_left, self._header_left = self._header_left, None
        while self._position < position and self.read(min(READ_MAX, position - self._position)):
            pass
        self._header_left = header_left
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        if not 0 <= size <= READ_MAX:
            raise TooMuch(f"a header is longer than {READ_MAX} bytes")
        if self._header_left is not None:
            self._header_left -= size
            if self._header_left < 0:
                raise TooMuch("the headers of a member are too long")
        self._still_wanted()
        chunks, missing = [], size
        while missing and (chunk := self._chunk(missing)):
            chunks.append(chunk)
            missing -= len(chunk)
        self._position += size - missing
        if self._position > self._total_max:
            raise TooMuch(f"it is larger than {self._total_max} bytes unpacked")
        return b"".join(chunks)

    def _chunk(self, size: int) -> bytes:
        """Return 1 to `size` bytes, none at the end."""
        if self._inner is None:
            return self._file.read(size)
        while not self._inner.eof or self._begin_next(self._inner.unused_data):
            if data := self._inner.decompress(b"", size):
                return data
            if not self._inner.eof:
                raw = self._file.read(RAW_BYTES)
                if not raw:
                    raise EOFError("it ends too early: it was cut")
                if data := self._inner.decompress(raw, size):
                    return data
        return b""

    def _begin_next(self, unused: bytes) -> bool:
        """Go on with the next stream of a file that was made of several; say whether there is one."""
        assert self._make is not None
        self._still_wanted()
        raw = (unused + self._file.read(RAW_BYTES)).lstrip(b"\x00")
        if decompressor_for(raw) is not self._make:
            return False
        self._inner = self._make()
        self._file.seek(-len(raw), io.SEEK_CUR)
        return True
