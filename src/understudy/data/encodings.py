"""Bytes of any packing and encoding → UTF-8: gzip and zstd, and text that is no UTF-8.

A byte order mark says the encoding (Unicode 16, section 23.8); zeros in every second byte say
UTF-16 without one; other bytes that no UTF-8 has are guessed by charset-normalizer, which the
log tells. Lines that end in CR alone, as old spreadsheets write them, get the usual end.
"""

import codecs
import gzip
import io
import logging
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)
_PEEK = 1 << 20  # bytes
_PIECE = 1 << 18
_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    **{codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"},
    **{codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"},
}
_LIKELY = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
]


class NotWhole(Exception):
    """Why a zstd file cannot be unpacked."""


class _Unpacked(io.RawIOBase):
    """The contents of a zstd file; pyarrow, which reads parquet, has the library."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow

        self._file = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            content: bytes = self._file.read(len(view))
        except OSError as error:
            raise NotWhole(str(error).splitlines()[0]) from None
        view[: len(content)] = content
        return len(content)


class _Recoded(io.RawIOBase):
    """Text of another encoding, or with other line ends, as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str, has_cr: bool) -> None:
        self._file, self._has_cr = file, has_cr
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        while not self._ready:
            piece = self._file.read(_PIECE)
            text = self._decode(piece, final=not piece)
            self._ready = (text.replace("\r", "\n") if self._has_cr else text).encode()
            if not piece:
                break
        count = min(len(view), len(self._ready))
        view[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def opened(path: str, raw: Any) -> io.BufferedReader:
    """The contents of an open file, unpacked and in UTF-8, with a look ahead of a megabyte."""
    file = io.BufferedReader(raw, _PEEK)
    magic = file.peek(8)[:8]
    if magic.startswith(b"\x1f\x8b"):
        file = _buffered(gzip.GzipFile(fileobj=file))
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        file = _buffered(_Unpacked(file))
    head = file.peek(_PEEK)
    if head.startswith(b"PAR1"):
        return file
    encoding = _encoding(head)
    text = head[:_PIECE].decode(encoding, errors="ignore")
    has_cr = "\r" in text and "\n" not in text
    if encoding == "utf-8" and not has_cr:
        return file
    if encoding != "utf-8":
        _log.warning("%s is read as %s", path, encoding.upper())
    return _buffered(_Recoded(file, encoding, has_cr))


def _buffered(file: Any) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", file), _PEEK)


def _encoding(head: bytes) -> str:
    """The encoding of a text that begins so."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    if head[1::2].count(0) > len(head) / 4:
        return "utf-16-le"
    if head[::2].count(0) > len(head) / 4:
        return "utf-16-be"
    lines = [line for line in head.split(b"\n")[: None if len(head) < _PEEK else -1]]
    odd = [line for line in lines if not line.isascii()]
    # One line with good UTF-8 beyond ASCII says that the others are broken.
    if not odd or any(_is_utf8(line) for line in odd):
        return "utf-8"
    return _guessed(b"\n".join(odd))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guessed(sample: bytes) -> str:
    """What a sample without UTF-8 is written in; Western European wherever that reads as well."""
    from charset_normalizer import from_bytes

    found = from_bytes(sample[:_PIECE], cp_isolation=_LIKELY)
    best = found.best()
    if best is None:
        return "utf-8"  # no text; its lines are named as broken
    as_good = [
        match for match in found if (match.chaos, match.coherence) == (best.chaos, best.coherence)
    ]
    is_western = any("cp1252" in match.could_be_from_charset for match in as_good)
    return "cp1252" if is_western else best.encoding
