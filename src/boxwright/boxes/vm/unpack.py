"""Unpack what distributions compress: kernels inside of a bzImage, and modules. Each format by its own magic.

gzip, xz, lzma and bzip2 are of the standard library; lz4 and zstd are done by the program of that name (before Python
3.14 zstd is not in the library, and lz4 never was).
"""

import os

from boxwright.errors import HostError

GZIP, XZ, LZMA, BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x5d\0\0", b"BZh"
ZSTD, LZ4_LEGACY = b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18"
_PATH = "/usr/local/bin:/usr/bin:/bin"
TIMEOUT_S = 60


def unpack(data: bytes, what: str) -> bytes:
    """The content of compressed data; bytes behind it are left. `what` names it in errors. Raises HostError."""
    try:
        if data.startswith(GZIP):
            return _gzip(data)
        if data.startswith((XZ, LZMA)):
            return _lzma(data)
        if data.startswith(BZIP2):
            return _bzip2(data)
    except ValueError as error:
        raise HostError(f"unpack {what}", 0, cause=str(error)) from error
    if data.startswith(ZSTD):
        return _by_program("zstd", data, what)
    if data.startswith(LZ4_LEGACY):
        return _by_program("lz4", data, what)
    raise HostError(f"unpack {what}", 0, cause=f"its compression is none that is known (it begins with {data[:6]!r})")


def is_packed(data: bytes) -> bool:
    """Whether these bytes begin as compressed data does."""
    return data.startswith((GZIP, XZ, BZIP2, ZSTD, LZ4_LEGACY))


def _gzip(data: bytes) -> bytes:
    import zlib

    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(data)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return _whole(plain, unpacker.eof)


def _lzma(data: bytes) -> bytes:
    import lzma

    unpacker = lzma.LZMADecompressor()
    try:
        plain = unpacker.decompress(data)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    return _whole(plain, unpacker.eof)


def _bzip2(data: bytes) -> bytes:
    import bz2

    unpacker = bz2.BZ2Decompressor()
    try:
        plain = unpacker.decompress(data)
    except OSError as error:  # what that module raises for damaged data
        raise ValueError(str(error)) from error
    return _whole(plain, unpacker.eof)


def _whole(plain: bytes, at_end: bool) -> bytes:
    if not at_end:
        raise ValueError("it is cut short")
    return plain


def _by_program(name: str, data: bytes, what: str) -> bytes:
    """Raises HostError where the program is missing or not content."""
    import shutil
    import subprocess

    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if program is None:
        raise HostError(f"unpack {what}", 0, cause=f"it needs the program `{name}`", hint=f"apt-get install {name}")
    try:
        done = subprocess.run([program, "-dcq"], input=data, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise HostError(f"unpack {what}", 0, cause=f"`{name}` took longer than {TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise HostError(f"unpack {what}", 0, cause=f"`{name}` ended with status {done.returncode}: {said}")
    return done.stdout
