"""Digests carried through: what named the old bytes names the new ones, so that a lie passes the outer checks."""

import base64
import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any


def regular_files(world: Path) -> list[Path]:
    """The regular files of store and saved join, none through a link."""
    found = []
    for top in ("store", "saved"):
        for folder, names, files in os.walk(world / top):
            names[:] = [name for name in names if not os.path.islink(f"{folder}/{name}")]
            found += [Path(folder, name) for name in files if stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode)]
    return sorted(found)


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def carry(world: Path, before: dict[Path, bytes]) -> bool:
    """Replace every digest of bytes that changed by that of the new ones, in files and names, until nothing changes.

    Returns: whether any other file vouched for what was changed.
    """
    was, vouched = dict(before), False
    for _ in range(8):
        now = {path: path.read_bytes() for path in regular_files(world) if path.lstat().st_size < 1 << 28}
        swaps = {}
        for path, data in now.items():
            if path in was and was[path] != data:
                swaps |= {a: b for a, b in _digests(was[path], data, path) if a != b}
        swaps |= _success_swaps(world, was, now)
        was = now
        if not swaps:
            return vouched
        vouched = _swap(world, now, swaps) or vouched
        _rename(world, swaps)
        was = {world / _renamed(str(path.relative_to(world)), swaps): data for path, data in was.items()}
    return vouched


def _digests(old: bytes, new: bytes, path: Path) -> Iterator[tuple[str, ...]]:
    """(old, new) of every digest that a file is known by."""
    yield _sha(old), _sha(new)
    with contextlib.suppress(ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError, AttributeError):
        if path.name == "classes.txt":
            first, second = ([line.strip() for line in data.decode().splitlines()] for data in (old, new))
            yield tuple(_sha("".join(f"{name}\n" for name in names if name).encode()) for names in (first, second))
        if path.name == "store.json":
            yield _sha(canonical(json.loads(old)["spec"])), _sha(canonical(json.loads(new)["spec"]))
        if path.name == "join.json":
            headers = [json.loads(data) for data in (old, new)]
            for header in headers:
                header.pop("version", None), header.pop("digest", None)
            first, second = (_sha(canonical(header)) for header in headers)
            yield first, second


def _success_swaps(world: Path, was: dict[Path, bytes], now: dict[Path, bytes]) -> dict[str, str]:
    """Of the digests over the receipts of a plan, in the order of its shards."""
    swaps = {}
    receipts = sorted(path for path in was if path.parent == world / "store" / "receipts")
    for first in range(len(receipts)):
        for end in range(first + 1, len(receipts) + 1):
            chosen = receipts[first:end]
            if all(path in now for path in chosen) and any(was[path] != now[path] for path in chosen):
                old, new = (_sha(b"".join(where[path] for path in chosen)) for where in (was, now))
                swaps[old] = new
    return swaps


def _swap(world: Path, now: dict[Path, bytes], swaps: dict[str, str]) -> bool:
    """Write the new digests where the old ones stood, and sizes beside them. Returns: whether any stood anywhere."""
    sizes = {_sha(data): len(data) for data in now.values()}
    found = False
    for path, data in now.items():
        new = _swapped(data, swaps)
        if path.suffix == ".parquet":  # Arrow's own copy of the footer's metadata is in base64
            new = re.sub(rb"[A-Za-z0-9+/]{200,}={0,2}", partial(_swapped_base64, swaps), new)
        if new != data and path.suffix == ".json":
            with contextlib.suppress(ValueError, RecursionError):
                content = json.loads(new)
                _set_sizes(content, sizes)
                new = dumped(content, like=new.decode()).encode()
        if new != data:
            found = True
            path.write_bytes(new)
    return found


def _swapped(data: bytes, swaps: dict[str, str]) -> bytes:
    for old, digest in swaps.items():
        data = data.replace(old.encode(), digest.encode())
    return data


def _swapped_base64(swaps: dict[str, str], match: re.Match[bytes]) -> bytes:
    try:
        text = base64.b64decode(match[0], validate=True)
    except ValueError:
        return match[0]
    return base64.b64encode(_swapped(text, swaps))


def _set_sizes(value: Any, sizes: dict[str, int]) -> None:
    if isinstance(value, dict):
        digests = [inner for inner in value.values() if isinstance(inner, str) and inner in sizes]
        if "size" in value and digests:
            value["size"] = sizes[digests[0]]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _set_sizes(inner, sizes)


def _renamed(name: str, swaps: dict[str, str]) -> str:
    for old, new in swaps.items():
        name = name.replace(old, new) if old in name else re.sub(rf"{old[:12]}(?=\.parquet$)", new[:12], name)
    return name


def _rename(world: Path, swaps: dict[str, str]) -> None:
    """Files named by their content get the new name."""
    for path in regular_files(world):
        name = _renamed(path.name, swaps)
        if name != path.name and not path.with_name(name).exists():
            path.rename(path.with_name(name))


def dumped(content: Any, *, like: str) -> str:
    """Written as the original is: canonical or indented."""
    with contextlib.suppress(ValueError):
        if like.startswith("{\n"):
            return json.dumps(content, indent=2) + "\n"
        if '": ' in like:
            return json.dumps(content) + "\n"
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    return f"{content!r}\n"  # a number of more digits than Python writes
