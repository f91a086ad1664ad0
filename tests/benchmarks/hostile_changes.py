"""Changes that make a store hostile: type, range, length, path and link of every field of every file.

`apply` makes the change that `hostile_places.draw` has drawn, and carries the digests through where it says so
(`hostile_digests`). Nothing here knows which fields a store has.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_digests import carry, dumped, regular_files
from hostile_places import Change, objects_of, paths_in, read_table

DAY_S = 86_400
FOLDER_FILES = 3_000  # in a folder that is made to hold many
BOMB_ROWS = 30_000_000  # of one value: a file of some kB


@dataclass(slots=True, kw_only=True)
class Applied:
    """What a change did. value: what was put there, for people; vouched: whether another file's digest vouches for it;
    columns: what of the labels may differ then."""

    value: str = ""
    vouched: bool = False
    columns: frozenset[str] = frozenset()


# Values


class Values:
    """Draws hostile values; `world` is the folder that holds store, canary and marks."""

    def __init__(self, rng: random.Random, world: Path) -> None:
        self.rng, self.world = rng, world

    def number(self, old: Any) -> Any:
        old = old if isinstance(old, int | float) and not isinstance(old, bool) else 1
        edges = [-1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 65_536, 100_000_000]
        floats = [float("nan"), float("inf"), -float("inf"), 1e308, -0.0, 0.5, 1e-320]
        return self.rng.choice([*edges, *floats, old + 1, old - 1, old * 2, old / 2, -old])

    def text(self, old: Any = "") -> str:
        old = old if isinstance(old, str) else "x"
        marks, canary = self.world / "marks", self.world / "canary"
        # All of them stay inside the world: what is broken enough to delete or write there must not hurt this machine
        paths = [
            "../../canary/keep.txt", f"{canary}/keep.txt", str(canary), f"{canary}/zero", f"{canary}/stdin",
            "../" * 12 + f"{canary}/keep.txt"[1:], "..", str(self.world), f"../{old}", f"{old}/..",
            f"file://{canary}/keep.txt", f"{marks}/path", "~/keep.txt", "CON", "a\x00b", f"{canary}/link.wav",
            "http://127.0.0.1:9/x",
        ]  # fmt: skip
        codes = [
            "os:system", "subprocess:getoutput", "shutil:rmtree", "builtins:exec", "hostile_payload:teacher",
            "pathlib:Path", "posix:system", "__import__('os')", f"id > {marks}/code", f"touch {marks}/code",
        ]  # fmt: skip
        names = [
            "\x1b[2J\x1b[31mred", "two\nlines", "tab\there", "\u202egpj.wav", "=cmd|'/C calc'!A0", "+1+1", "@SUM(1)",
            "\r", "\x07", "\u2028", "\ufeff", "<script>alert(1)</script>", "{{7*7}}", "%s%n", "\x9b31m",
        ]  # fmt: skip
        digests = ["0" * 64, "0" * 63, "G" * 64, old.upper(), old[:-1], old + "0", old[::-1], "../" + "0" * 61]
        return self.rng.choice([*paths, *codes, *names, *digests])

    def path(self, old: Any = "") -> str:
        return self.text(old)

    def length(self, old: Any) -> Any:
        """Empty, one more, one fewer, very long; of text, lists, objects; a number becomes one with many digits."""
        how = self.rng.choice(["empty", "more", "fewer", "long", "longer"])
        if isinstance(old, str):
            fewer = {"empty": "", "more": f"{old}x", "fewer": old[:-1]}
            return fewer.get(how) if how in fewer else (old or "x") * (100_000 if how == "long" else 5_000_000)
        if isinstance(old, list):
            one = old[-1:] or [0]
            return {"empty": [], "more": old + one, "fewer": old[:-1]}.get(how, one * 300_000)
        if isinstance(old, dict):
            last = list(old)[-1:]
            many = {f"x{i}": 0 for i in range(100_000)}
            fewer = {name: value for name, value in old.items() if name not in last}
            return {"empty": {}, "more": {**old, "extra": 1}, "fewer": fewer}.get(how, {**old, **many})
        return int("9" * 4000) if how == "long" else old

    def other_type(self, old: Any) -> Any:
        nested: Any = {"a": [{"b": None}]}
        pool = [None, True, False, 7, -1.5, "7", "", [], {}, [1, "a"], nested, [[["x"]]], {"": 0}, [None], ["x"]]
        return self.rng.choice([value for value in pool if type(value) is not type(old)])


# Applying


def apply(change: Change, world: Path) -> Applied:
    """Make a world's intact store hostile. Returns: what was done."""
    rng = random.Random(change.seed)
    before = {path: path.read_bytes() for path in regular_files(world)}
    path, values = world / change.file, Values(rng, world)
    how, field = change.how, change.place.field
    if field in ("(file)", "(folder)"):
        value = _AROUND[how](path, rng, world)
    elif field == "(bytes)":
        value = _change_bytes(path, how, rng, before)
    elif path.suffix in (".json", ".jsonl"):
        value = _change_json(path, field, how, values)
    elif path.suffix in (".parquet", ".arrow"):
        value = _change_table(path, field, how, values)
    elif path.suffix == ".npy":
        value = _change_array(path, field, how, values)
    else:
        value = _change_lines(path, how, values)
    done = Applied(value=value[:200])
    if change.carried:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            done.vouched = carry(world, before)
    done.columns = _may_differ(change.place.kind_of_file) if done.vouched else frozenset()
    return done


def _may_differ(kind: str) -> frozenset[str]:
    """What of the labels only a vouched file says, so that nobody can know better. Everything else has a witness."""
    if kind.startswith("store/shards/"):
        return frozenset({"probabilities", "components", "dropped", "embedding"})
    if kind.startswith("store/plan/"):
        return frozenset({"times", "audio"})
    if kind == "store/classes.txt":
        return frozenset({"classes"})
    if kind == "store/store.json":
        return frozenset({"classes", "times", "audio", "probabilities", "components", "dropped", "embedding"})
    if "embedding" in kind and kind.endswith(".npy"):
        return frozenset({"embedding"})
    if "soft" in kind and kind.endswith(".npy"):
        return frozenset({"soft"})
    if kind.startswith("saved/hard_"):  # of a join that is kept in a store the manifest is the witness
        return frozenset({"hard"})
    return frozenset()


def _change_bytes(path: Path, how: str, rng: random.Random, before: dict[Path, bytes]) -> str:
    data = before[path]
    if how == "flip":
        bit = rng.randrange(8 * max(1, len(data)))
        changed = bytearray(data or b"\0")
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        return f"bit {bit}"
    if how == "huge":  # sparse: it takes no room
        with path.open("r+b") as file:
            file.truncate(3 << 30)
        return "a sparse file of 3 GB"
    like = [each for each in before if each.suffix == path.suffix and each != path] or list(before)
    cut = rng.randrange(len(data)) if data else 0
    new = {
        "cut": data[:cut], "empty": b"", "longer": data + rng.randbytes(rng.choice([1, 5000])),
        "zeros": bytes(len(data)) if rng.random() < 0.5 else data[:cut] + bytes(len(data) - cut),
    }  # fmt: skip
    if how == "other":
        other = rng.choice(like)
        path.write_bytes(before[other])
        return f"the bytes of {other.name}"
    path.write_bytes(new[how])
    return f"{how}: {len(new[how])} of {len(data)} bytes"


def _change_json(path: Path, field: str, how: str, values: Values) -> str:
    text = path.read_text()
    if field == "(text)":
        new = _other_text(text, how, values.rng)
        path.write_bytes(new)
        return f"{new[:60]!r}"
    if field == "(attack)":
        return _attack(path, how, values)
    lines = objects_of(path)
    content = json.loads(lines[0])
    where = _where(content, field)
    holder = content
    for name in where[:-1]:
        holder = holder[name]
    name, old = where[-1], holder[where[-1]]
    copy = ""
    if how == "missing":
        del holder[name]
        value: Any = "(gone)"
    elif how == "copied":  # the same name twice; the later one counts for Python
        value = values.other_type(old) if values.rng.random() < 0.5 else values.text(old)
        copy = json.dumps(value)
    else:
        draw = {"type": values.other_type, "range": values.number, "length": values.length, "path": values.path}
        value = holder[name] = draw[how](old)
    new_text = dumped(content, like=text)
    if copy and isinstance(holder, dict):
        new_text = new_text.replace(f"{json.dumps(name)}:", f"{json.dumps(name)}:{copy},{json.dumps(name)}:", 1)
    lines[0] = new_text.rstrip("\n")
    path.write_text("\n".join(lines) + "\n", errors="surrogatepass")
    return f"{str(value)[:60]!r}"


def _attack(path: Path, how: str, values: Values) -> str:
    """Two lies that go together: code and its argument; a bucket and a digest that is a path below its cache."""
    content, world, rng = json.loads(path.read_text()), values.world, values.rng
    marks, canary = world / "marks", world / "canary"
    if how == "bucket":
        digest = rng.choice(
            [str(canary / "keep.txt"), "../" * 12 + f"{canary}/keep.txt"[1:], "../../../../canary/keep.txt"]
        )
        content["audio_root" if path.name == "run.json" else "root"] = "s3://bucket/audio"
        tables = (
            sorted((world / "store" / "plan").iterdir()) if path.name == "run.json" else [path.with_name("clips.arrow")]
        )
        for file in tables:
            table = read_table(file)
            column = pa.array([digest] * len(table))
            write_table(file, _replaced(table, table.column_names.index("sha256"), "sha256", column), {})
        value = f"s3://bucket/audio and {digest.replace(str(world), 'WORLD')}"
    else:
        teacher = content["teacher"]
        kinds = {
            "code": [("os:system", f"touch {marks}/code"), ("subprocess:getoutput", f"touch {marks}/code"),
                     ("builtins:exec", f"open({str(marks / 'code')!r}, 'w')"), ("posix:system", f"touch {marks}/code")],
            "delete": [("shutil:rmtree", str(canary)), ("os:unlink", str(canary / "keep.txt"))],
            "import": [("hostile_payload:teacher", None), ("hostile_payload:x.y", "m")],
            "model": [("keras", str(canary)), ("onnx", str(canary / "keep.txt")), ("litert", str(canary / "zero"))],
        }  # fmt: skip
        teacher["kind"], teacher["model"] = rng.choice(kinds[how])
        value = f"{teacher['kind']} {teacher['model']}".replace(str(world), "WORLD")
    path.write_text(dumped(content, like=path.read_text()))
    return value


def _where(content: Any, field: str) -> tuple:
    """The way to a field; a name may hold dots."""
    return next(where for where in paths_in(content) if ".".join(map(str, where)) == field)


def _other_text(text: str, how: str, rng: random.Random) -> bytes:
    if how == "type":
        return rng.choice([b"[]", b"null", b"7", b'"x"', b"true", b"[[]]", b"{}", b"not json", b"\n\n", b"NaN"])
    if how == "length":
        return rng.choice([text.encode() * 2, b" " * 5_000_000 + text.encode(), text.encode() + b"{}"])
    if how == "nested":
        deep = rng.choice([1_000, 100_000, 3_000_000])
        return rng.choice([b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep])
    if how == "numbers":
        new = rng.choice(["9" * 5000, "1e999", "-1e999", "NaN", "Infinity", "0.1e-999", "1" + "0" * 400])
        numbers = list(re.finditer(r"(?<=[:\[ ])\d+", text)) or list(re.finditer(r"$", text))
        at = rng.choice(numbers)
        return (text[: at.start()] + new + text[at.end() :]).encode()
    return rng.choice(
        [text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode().replace(b'": "', b'": "\xff', 1),
         text.encode().replace(b'":"', b'":"\\ud800', 1), text.encode().replace(b'":', b'\\u0000":', 1)]
    )  # fmt: skip


def _change_table(path: Path, field: str, how: str, values: Values) -> str:
    rng, table = values.rng, read_table(path)
    if field == "(footer)" and how == "flip":
        data = bytearray(path.read_bytes())
        first = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if path.suffix == ".parquet" else len(data) - 400
        bit = rng.randrange(8 * max(0, first), 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        return f"bit {bit}"
    settings: dict[str, Any] = {}
    if field == "(footer)":
        table, value = _other_metadata(table, values)
    elif field == "(rows)":
        table, value = _other_rows(table, how, rng)
    elif field == "(pages)":
        table, value, settings = _other_pages(table, how, rng)
    else:
        table, value = _other_column(table, field, how, values)
    write_table(path, table, settings)
    return value


def write_table(path: Path, table: pa.Table, settings: dict[str, Any]) -> None:
    sink = io.BytesIO()
    if path.suffix == ".arrow":
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, sink, **{"compression": "zstd", "write_page_checksum": True, **settings})
    path.write_bytes(sink.getvalue())


def _other_metadata(table: pa.Table, values: Values) -> tuple[pa.Table, str]:
    metadata = dict(table.schema.metadata or {b"x": b"y"})
    name = values.rng.choice(sorted(metadata))
    new = values.rng.choice([str(values.number(1)), values.text(metadata[name].decode(errors="replace")), None])
    metadata.pop(name) if new is None else metadata.update({name: new.encode(errors="replace")})
    return table.replace_schema_metadata(metadata), f"{name.decode()} = {new!r}"


def _other_rows(table: pa.Table, how: str, rng: random.Random) -> tuple[pa.Table, str]:
    rows = list(range(len(table)))
    chosen = {
        "more": [*rows, rng.choice(rows or [0])], "fewer": rows[: rng.choice([1, max(0, len(rows) - 1)])], "none": [],
        "twice": rows * rng.choice([2, 50]), "order": rows[::-1] if rng.random() < 0.5 else rng.sample(rows, len(rows)),
    }[how]  # fmt: skip
    return table.take(pa.array(chosen, pa.int64())), f"rows {chosen[:8]} of {len(rows)}"


def _other_pages(table: pa.Table, how: str, rng: random.Random) -> tuple[pa.Table, str, dict[str, Any]]:
    if how == "groups":
        return table, "a row a group", {"row_group_size": 1}
    if how == "encoding":
        settings = rng.choice(
            [{"compression": "none"}, {"compression": "gzip"}, {"use_dictionary": True}, {"data_page_version": "2.0"},
             {"data_page_size": 1}, {"write_page_checksum": False}, {"store_schema": False}]
        )  # fmt: skip
        return table, str(settings), settings
    rows = rng.choice([1_000_000, BOMB_ROWS])  # which compress to some kB
    first = table.slice(0, 1) if len(table) else table
    nested = any(pa.types.is_nested(field.type) for field in table.schema)
    rows = min(rows, 300_000) if nested else rows
    return first.take(pa.array(np.zeros(rows, np.int64))), f"{rows:,} rows of one value", {"use_dictionary": True}


def _other_column(table: pa.Table, name: str, how: str, values: Values) -> tuple[pa.Table, str]:
    rng, at = values.rng, table.column_names.index(name)
    column, kind = table[name].combine_chunks(), table.schema.field(name).type
    metadata = table.schema.metadata
    if how == "missing":
        new, value = (table.drop_columns([name]), "no such column") if rng.random() < 0.5 else (None, "nulls")
        if new is not None:
            return new, value
        return _replaced(table, at, name, pa.nulls(len(table), kind)), value
    if how == "copied":
        other = rng.choice(table.column_names)
        return table.append_column(name, table[other]).replace_schema_metadata(metadata), f"twice, as {other} too"
    if how == "type":
        new_kind = rng.choice([pa.int8(), pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.null(), pa.bool_(),
                               pa.list_(pa.int64()), pa.large_string(), pa.struct([("a", pa.int64())])])  # fmt: skip
        with contextlib.suppress(pa.ArrowException):
            return _replaced(table, at, name, column.cast(new_kind)), f"cast to {new_kind}"
        return _replaced(table, at, name, pa.nulls(len(table), new_kind)), f"nulls of {new_kind}"
    items, value = _other_values(column.to_pylist(), kind, how, values)
    try:
        return _replaced(table, at, name, pa.array(items, kind)), value
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            return _replaced(table, at, name, pa.array(items)), value
        return _replaced(table, at, name, pa.array([str(item)[:1000] for item in items])), value


def _replaced(table: pa.Table, at: int, name: str, column: pa.Array) -> pa.Table:
    """With another column in the same place, declared without nulls where it has none, as the original is."""
    field = pa.field(name, column.type, nullable=column.null_count > 0)
    return table.set_column(at, field, column)


def _other_values(items: list[Any], kind: pa.DataType, how: str, values: Values) -> tuple[list[Any], str]:
    """With one or all of the items replaced."""
    rng = values.rng
    chosen = range(len(items)) if rng.random() < 0.3 else [rng.randrange(len(items))] if items else []
    if pa.types.is_nested(kind):
        new: Any = None
        for i in chosen:
            inner = list(items[i] or [0])
            if how == "length":
                new = rng.choice([[], inner[:-1], [*inner, inner[0]] if inner else [0], inner * 1000])
            else:
                new = list(inner)
                if new:
                    new[rng.randrange(len(new))] = _fitting(values.number(new[0]), kind.value_type)
            items[i] = new
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        new = _fitting(values.number(items[0] if items else 1), kind)
        items = [new if i in chosen else item for i, item in enumerate(items)]
    else:
        new = values.length(items[0]) if how == "length" and items else values.text(items[0] if items else "")
        if isinstance(new, str) and len(new) > 100_000:
            chosen = list(chosen)[:1]
        new = new.encode(errors="replace").decode() if isinstance(new, str) else new
        items = [new if i in chosen else item for i, item in enumerate(items)]
    return items, f"{str(new)[:60]!r} in {len(list(chosen))} rows"


def _fitting(number: Any, kind: pa.DataType) -> Any:
    """The number, held in the range of the column's own type."""
    if pa.types.is_floating(kind):
        return float(number)
    number = 0 if number != number else number
    bits = kind.bit_width - (0 if pa.types.is_unsigned_integer(kind) else 1)
    least = 0 if pa.types.is_unsigned_integer(kind) else -(2**bits)
    return int(min(max(number, least), 2**bits - 1))


def _change_array(path: Path, field: str, how: str, values: Values) -> str:
    rng, data = values.rng, path.read_bytes()
    array = np.load(io.BytesIO(data))
    tail = data[-32:] if "soft" in path.name or "embedding" in path.name else b""
    if field == "(header)":
        new, value = _other_header(data, array, how, rng)
    else:
        array, value = _other_array(array, how, values)
        sink = io.BytesIO()
        np.save(sink, array, allow_pickle=array.dtype == object)
        new = sink.getvalue() + (hashlib.sha256(hashlib.sha256(sink.getvalue()).digest()).digest() if tail else b"")
    path.write_bytes(new)
    return value


def _other_header(data: bytes, array: np.ndarray, how: str, rng: random.Random) -> tuple[bytes, str]:
    """The header's text replaced, in its own length where it fits."""
    length = int.from_bytes(data[8:10], "little")
    text, body = data[10 : 10 + length].decode(), data[10 + length :]
    if how == "shape":
        shapes = [(2**40,), (-1,), (2**63, 2), (1, 2, 3), (), (len(array) + 1,), (max(0, len(array) - 1),), (True,)]
        new = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(shapes)!r}", text)
    elif how == "type":
        kinds = ["|O", "<f8", "<i1", "<U9", "|V4", "<M8[s]", ">f4", "|b1", "<c16"]
        new = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(kinds)}'", text)
    else:
        new = rng.choice(["{}", "[", "__import__('os').system('true')", "(" * 9000, "\x00", "{'descr': []}"])
    new = new.rstrip().ljust(length - 1) + "\n"
    size = len(new).to_bytes(2, "little") if len(new) < 65536 else b"\xff\xff"
    changed = data[:8] + size + new.encode() + body
    tail = hashlib.sha256(hashlib.sha256(changed[:-32]).digest()).digest()
    return (changed[:-32] + tail if array.ndim == 2 else changed), new.strip()[:80]


def _other_array(array: np.ndarray, how: str, values: Values) -> tuple[np.ndarray, str]:
    rng = values.rng
    if how == "type":
        kind = rng.choice(["<f8", "<i1", "<i8", "<u8", "<U4", "|O", "<c16", "<f2", ">i4"])
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            return array.astype(kind), f"as {kind}"
        return np.zeros(array.shape, kind), f"zeros of {kind}"
    if how == "order":
        return (array[::-1], "reversed") if rng.random() < 0.5 else (np.asfortranarray(array), "in Fortran order")
    if how == "length":
        longer = np.concatenate([array, array[:1]]) if len(array) else np.zeros(1, array.dtype)
        new = rng.choice([0, 1, 2, 3])
        return [array[:-1], longer, array[:0], np.repeat(array, 100_000, axis=0)][new], f"length {new}"
    array = array.copy()
    if array.size:
        with np.errstate(all="ignore"):
            number = values.number(array.flat[0].item())
            if array.dtype.kind in "iu":
                info = np.iinfo(array.dtype)
                number = min(max(0 if number != number else number, info.min), info.max)
            array.flat[rng.randrange(array.size)] = number
        return array, f"one is {number}"
    return np.zeros(3, array.dtype), "three zeros"


def _change_lines(path: Path, how: str, values: Values) -> str:
    rng, lines = values.rng, path.read_text().splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    lines = lines or ["x"]
    if how == "encoding":
        text = "\n".join(lines)
        new = rng.choice([text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode() + b"\xff\n",
                          text.replace("\n", "\r\n").encode(), b"\0" + text.encode()])  # fmt: skip
        path.write_bytes(new)
        return f"{new[:40]!r}"
    if how == "path":
        lines[at] = values.text(lines[at])
    elif how == "length":
        lines[at] = str(values.length(lines[at]))
    elif how == "missing":
        del lines[at]
    elif how == "copied":
        lines.insert(at, lines[at]) if rng.random() < 0.7 else lines.extend(lines * 20_000)
    else:
        lines = lines[::-1]
    path.write_bytes(("\n".join(lines) + "\n").encode(errors="surrogatepass"))
    return f"line {at}: {lines[min(at, len(lines) - 1)][:60]!r}" if lines else "no lines"


# Around a file or a folder


def _link(path: Path, rng: random.Random, world: Path) -> str:
    """A link in its place: to the same content outside, to the canary, to a device, to nothing, to itself."""
    aside = world / "canary" / f"moved-{path.name}"
    _old(path)
    if path.is_dir() or not path.exists():  # only of folders there are places that an intact store does not have
        if path.exists():
            shutil.move(path, aside) if rng.random() < 0.5 else shutil.rmtree(path)
        targets = [aside if aside.exists() else world / "canary", world / "canary", path, world / "corpus", "gone"]
    else:
        if path.exists():
            shutil.move(path, aside) if rng.random() < 0.5 else path.unlink()
        targets = [aside if aside.exists() else world / "canary" / "keep.txt", "/dev/zero", path, world / "canary",
                   world / "canary" / "keep.txt", "/dev/stdin", world / "corpus" / "c0.wav", "gone"]  # fmt: skip
    target = targets[0] if rng.random() < 0.4 else rng.choice(targets)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return f"-> {str(target).replace(str(world), 'WORLD')}"


def _old(path: Path) -> None:
    """Two days old, so that whoever sweeps would sweep it."""
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if each.exists():
            then = each.stat().st_mtime - 2 * DAY_S
            os.utime(each, (then, then))


def _device(path: Path, rng: random.Random, world: Path) -> str:
    """A FIFO, a device or a socket in its place; a file for a folder and a folder for a file."""
    was_folder = path.is_dir() or not path.exists()
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    what = rng.choice(["fifo", "device", "other"])
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/random", "/dev/tty"]))
    elif was_folder:
        path.write_text("a file")
    else:
        path.mkdir()
        (path / "x").write_text("a folder")
    return what


def _missing(path: Path, rng: random.Random, world: Path) -> str:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return "gone"


def _copied(path: Path, rng: random.Random, world: Path) -> str:
    """The file again under another name of its kind."""
    number = rng.choice(["00000", "00001", "00007", "99999", "9" * 30, "-0001", "0001", "0002", "0003", "0009"])
    name = re.sub(r"\d{4,5}(?=[-.])", number, path.name, count=1)
    if path.suffix == ".json" and rng.random() < 0.5:
        name = re.sub(r"\.g\d+", f".g{rng.choice([1, 2, 7, 10**6, 10**25])}", path.name)
    name = rng.choice(["copy.", ".", "\x1b[31m", "a\nb"]) + path.name if name == path.name else name
    if path.with_name(name).exists():
        name = f"0{name}"
    shutil.copyfile(path, path.with_name(name))
    return f"as {name!r}"


def _many(path: Path, rng: random.Random, world: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    names = rng.choice(["x{}", "{:05d}.g0.json", ".tmp-{}", "{:04d}.parquet"])
    for i in range(FOLDER_FILES if rng.random() < 0.3 else 100):
        (path / names.format(i + 50)).touch()
    return f"many {names}"


_AROUND: dict[str, Callable[[Path, random.Random, Path], str]] = {
    "link": _link, "device": _device, "missing": _missing, "copied": _copied, "many": _many,
}  # fmt: skip


def described(change: Change, applied: Applied) -> dict[str, Any]:
    found = {"file": change.file, "field": change.place.field, "how": change.how, "carried": change.carried}
    return {**found, "vouched": applied.vouched, "value": applied.value}
