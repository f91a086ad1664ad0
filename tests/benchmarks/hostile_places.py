"""Where a store can be changed: every field of every file of an intact one; see `hostile_stores.py`."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TOP = ("store/", "saved/")  # a user may name a link to a store, or a store that is not there yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is changed: a file or folder by its kind (`receipts/*.json`), a field of it; and the ways to change it."""

    kind_of_file: str
    field: str
    hows: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind_of_file} {self.field}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: which place in which file, how, the seed of its value, whether digests are carried through."""

    place: Place
    how: str
    file: str
    seed: str
    carried: bool


def kind_of(key: str) -> str:
    """`receipts/00003.g0.json` -> `receipts/*.json`: files of one kind have the same fields."""
    key = re.sub(r"(join|soft|embedding)-[0-9a-f]{64}", r"\1-*", key)
    return re.sub(r"/\d{4,}[-.\w]*?(\.\w+)$|/[0-9a-f]{12}(\.\w+)$|-\d{4}(\.\w+)$", _starred, key)


def _starred(match: re.Match[str]) -> str:
    end = next(group for group in match.groups() if group)
    return f"-*{end}" if match[0].startswith("-") else f"/*{end}"


def _below(root: Path) -> list[Path]:
    """Everything of store and saved join, themselves included."""
    return sorted(path for top in ("store", "saved") for path in [root / top, *(root / top).rglob("*")])


def files_of(root: Path) -> dict[str, list[str]]:
    """kind -> keys of the regular files below a folder."""
    found: dict[str, list[str]] = {}
    for path in _below(root):
        if path.is_file() and not path.name.startswith(".tmp-"):
            key = path.relative_to(root).as_posix()
            found.setdefault(kind_of(key), []).append(key)
    return found


def folders_of(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in _below(root):
        if path.is_dir():
            key = path.relative_to(root).as_posix()
            found.setdefault(kind_of(key) + "/", []).append(key)
    return found


def places(root: Path) -> list[Place]:
    """All places of the store and the saved join below `root`."""
    found = []
    for kind, keys in files_of(root).items():
        fields = {field: hows for key in keys for field, hows in fields_of(root / key).items()}
        found += [Place(kind_of_file=kind, field=field, hows=hows) for field, hows in fields.items()]
        found.append(Place(kind_of_file=kind, field="(file)", hows=("link", "device", "missing", "copied")))
    for kind in [*folders_of(root), "store/claims/"]:
        hows = ("device", "many") if kind in TOP else ("link", "device", "missing", "many")
        found.append(Place(kind_of_file=kind, field="(folder)", hows=hows))
    return found


def fields_of(path: Path) -> dict[str, tuple[str, ...]]:
    """field -> the ways it can be changed."""
    fields: dict[str, tuple[str, ...]] = {"(bytes)": ("flip", "cut", "empty", "longer", "zeros", "other", "huge")}
    if path.suffix in (".json", ".jsonl"):
        fields |= json_fields(path)
        fields["(text)"] = ("type", "length", "nested", "numbers", "encoding")
        attacks = {"run.json": ("code", "delete", "import", "model", "bucket"), "join.json": ("bucket",)}
        fields |= {"(attack)": attacks[path.name]} if path.name in attacks else {}
    elif path.suffix in (".parquet", ".arrow"):
        table = read_table(path)
        for name in table.column_names:
            fields[name] = ("type", "range", "length", "path", "missing", "copied")
        fields["(rows)"] = ("more", "fewer", "none", "twice", "order")
        fields["(footer)"] = ("metadata", "flip")
        fields["(pages)"] = ("groups", "encoding", "bomb")
    elif path.suffix == ".npy":
        fields["(values)"] = ("type", "range", "length", "order")
        fields["(header)"] = ("shape", "text", "type")
    else:
        fields["(lines)"] = ("length", "path", "missing", "copied", "order", "encoding")
    return fields


def json_fields(path: Path) -> dict[str, tuple[str, ...]]:
    content = json.loads(objects_of(path)[0])
    return {
        ".".join(map(str, where)): ("type", "range", "length", "path", "missing", "copied")
        for where in paths_in(content)
    }


def objects_of(path: Path) -> list[str]:
    """The text of every JSON value in a file."""
    text = path.read_text()
    return [line for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else [text]


def paths_in(value: Any, where: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside a JSON value; of long lists only to the first two."""
    if where:
        yield where
    items: Any = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths_in(inner, (*where, name))


def read_table(path: Path) -> pa.Table:
    if path.suffix == ".arrow":
        return pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
    return pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)


def draw(number: int, seed: str, all_places: list[Place], root: Path) -> Change:
    """Mutant `number`: all places come by turns, in an order drawn once; the file and the value are drawn."""
    rng = random.Random(f"{seed} {number}")
    turn, at = divmod(number, len(all_places))
    order = list(range(len(all_places)))
    random.Random(f"order {seed} {turn}").shuffle(order)
    place = all_places[order[at]]
    keys = {**files_of(root), **folders_of(root)}.get(place.kind_of_file) or [place.kind_of_file.rstrip("/")]
    if not place.field.startswith("("):
        keys = [key for key in keys if place.field in fields_of(root / key)]
    how = rng.choice(place.hows)
    return Change(
        place=place, how=how, file=rng.choice(keys), seed=f"{seed} {number} value", carried=rng.random() < 0.6
    )
