"""sha256 of files and of values: the one way a file is digested, and the one way a value is written to be digested."""

import errno
import functools
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

_SHA256 = re.compile("[0-9a-f]{64}")


def sha256_of_file(path: str | Path) -> str:
    """sha256 of a file's bytes, in hexadecimal digits. Raises: OSError: also of a pipe or device, which may not end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "expected a file, found a pipe, socket or device", str(path))
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    with open(path, "rb", buffering=0) as file:
        while got := file.readinto(buffer):
            digest.update(buffer[:got])
    if got is None:  # hashlib.file_digest would take what was in its buffer for the file's
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
    return digest.hexdigest()


def sha256_if_there(path: str | Path) -> str:
    """The same; "" where it cannot be read, which its reader will say better."""
    try:
        return sha256_of_file(path)
    except OSError:
        return ""


def known_sha256(path: str | Path) -> str:
    """The same, read once for as long as the file is not written to. Raises: OSError."""
    found = os.stat(path)
    return _sha256_of_state(str(path), found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256_of_state(path: str, _inode: int, _size: int, _mtime_ns: int) -> str:
    return sha256_of_file(path)


def forget_known() -> None:
    """Let every file be read again."""
    _sha256_of_state.cache_clear()


def is_sha256(text: object) -> bool:
    """Whether this is a text of 64 hexadecimal digits in lower case."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def sha256_of_bytes(data: bytes) -> str:
    """sha256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one way a value is written: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_json(data: bytes) -> dict[str, Any]:
    """The object in a JSON file. Raises: ValueError: no UTF-8, no JSON, no object, or nested beyond all measure."""
    try:
        value = json.loads(data.decode())
    except RecursionError as e:
        raise ValueError("expected JSON, got brackets in brackets without end") from e
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def sha256_of(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return sha256_of_bytes(canonical_json(value))
