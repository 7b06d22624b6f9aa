"""Bytes of any packing and encoding → UTF-8: gzip, zstd, bzip2, xz, and text that is no UTF-8.

A byte order mark says the encoding (Unicode 16, section 23.8); zeros in every second byte say
UTF-16 without one; other bytes that no UTF-8 has are guessed by charset-normalizer, which the
log tells. Lines that end in CR alone, as old spreadsheets write them, get the usual end.
"""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from understudy.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)
_PEEK = 1 << 20  # bytes
_PIECE = 1 << 18
_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    **{codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"},
    **{codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"},
}
_FOREIGN = {  # how files begin that hold no rows -> what they are, and what to do
    b"PK\x03\x04": "a zip archive, as .xlsx is too; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a file of an old Excel or Word; save the sheet as CSV",
    b"%PDF": "a PDF; give the rows as JSON lines, JSON, CSV or parquet",
    b"SQLite format 3\0": "a database of SQLite; write the table as CSV",
    b"\x80\x04\x95": "a pickle of Python; write the rows as JSON lines",
    b"version https://git-lfs": "the pointer of Git LFS to a file; fetch it with git lfs pull",
    b"<!doctype html": "a web page; give the file itself, which may need a login",
    b"<html": "a web page; give the file itself, which may need a login",
}
_LIKELY = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
]


class NotWhole(Exception):
    """Why a packed file cannot be unpacked."""


class _Unpacked(io.RawIOBase):
    """The contents of a packed file."""

    def __init__(self, file: Any, packing: str) -> None:
        self._file, self._packing = file, packing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            content: bytes = self._file.read(len(view))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            why = str(error).splitlines()[0]
            raise NotWhole(f"is no whole {self._packing} file: {why}") from None
        view[: len(content)] = content
        return len(content)


def _zstd(file: IO[bytes]) -> Any:
    """What is in a zstd file; pyarrow, which reads parquet, has the library."""
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


_PACKINGS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ": ("xz", lzma.LZMAFile),
}


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
    for sign, (packing, unpacked) in _PACKINGS.items():
        if magic.startswith(sign):
            file = _buffered(_Unpacked(unpacked(file), packing))
            break
    head = file.peek(_PEEK)
    if head.startswith(b"PAR1"):
        return file
    begin = head[:64].lstrip().lower()
    for sign, what in _FOREIGN.items():
        if begin.startswith(sign.lower()):
            raise BadInput(f"{path} is {what}")
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
        head = head.removeprefix(codecs.BOM_UTF8)
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
    # ASCII in UTF-16 has its zeros all on one side, and other text has none.
    first, second = head[::2].count(0), head[1::2].count(0)
    if max(first, second) > len(head) / 100 and max(first, second) > 8 * min(first, second):
        return "utf-16-le" if second > first else "utf-16-be"
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
