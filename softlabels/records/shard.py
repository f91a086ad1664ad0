"""The shard file: what the Parquet looks like, and the way from rows to bytes and back.

    clip_id          string                 with window_index the key; rows are sorted by it
    window_index     int32
    start_s, end_s   float64                the window in its file; the end of a padded window lies beyond the clip
    pad_fraction     float32                how much of the window is padding
    probabilities    float32[C]             dense: in class-list order
    class_index      list<uint16>           sparse: the classes above the threshold,
    probability      list<float32>            their probabilities,
    tail_sum         float32                  and the sum over all others (each reads back as its share)
    dropped_sum      float32                where only some of the teacher's classes are kept: the sum over the rest,
    components       float32[k]               and all of the teacher's log-odds, on a few axes (`components`)
    embedding        float32[n]             what the teacher's last layer makes its scores of; NaN where not finite

Nothing here is ever null. Same rows and same pyarrow give the same bytes.
"""

import io
import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from softlabels.errors import StoreError
from softlabels.ragged import owners
from softlabels.records.parquet import read_parquet
from softlabels.records.spec import LabelSpec

_ONE = np.float32(1).view(np.uint32)  # of all bits the largest that a value from 0 to 1 has, but for minus zero
KEPT_BITS = 8  # stored significand bits of probabilities up to 0.5 and of vectors: relative errors of at most 2^-9
_KEYS = {"clip_id": pa.string(), "window_index": pa.int32()}
_KEYS |= {"start_s": pa.float64(), "end_s": pa.float64(), "pad_fraction": pa.float32()}
_TEXT_BEYOND = 1 << 20  # bytes that Parquet may add to the texts of clip_id; they share what they begin with
_FLOAT, _CLASS = (pa.field("element", type_, nullable=False) for type_ in (pa.float32(), pa.uint16()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRows:
    """The rows of one shard, column by column.

    clip_id: (rows,) str objects; window_index: (rows,) int32; start_s, end_s: (rows,) float64 seconds;
    pad_fraction: (rows,) float32; probabilities: (rows, classes) float32. dropped_sum: (rows,) float32, what the
    teacher gave the classes that the store does not keep; None where it keeps all. components: (rows, k) float32, see
    `softlabels.store.components`; embedding: (rows, n) float32, rows without a NaN or of NaN alone. Both are None where
    the store has none.
    """

    clip_id: np.ndarray
    window_index: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    pad_fraction: np.ndarray
    probabilities: np.ndarray
    dropped_sum: np.ndarray | None = None
    components: np.ndarray | None = None
    embedding: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clip_id)

    def columns(self) -> dict[str, np.ndarray]:
        """All columns that there are."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values for name, values in columns.items() if values is not None}

    def keys(self) -> dict[str, np.ndarray]:
        """All columns that have one value a row."""
        return {name: values for name, values in self.columns().items() if values.ndim == 1}

    def take(self, rows: np.ndarray | slice) -> "ShardRows":
        """Some of the rows, by position."""
        return ShardRows(**{name: values[rows] for name, values in self.columns().items()})


def round_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Round float32 values up to 0.5 to 8 stored significand bits, ties to even; larger ones stay exact.

    Near 1 the distance to 1 is what counts, and float32 has no bits to spare there.
    """
    return np.where(probabilities <= 0.5, round_values(probabilities), probabilities)


def round_values(values: np.ndarray) -> np.ndarray:
    """Round float32 values of any sign and size to 8 stored significand bits, ties to even."""
    bits = np.ascontiguousarray(values + np.float32(0.0)).view(np.uint32)  # + 0: no negative zero
    one, dropped = np.uint32(1), np.uint32(23 - KEPT_BITS)
    half = (one << (dropped - one)) - one + ((bits >> dropped) & one)  # a carry goes on into the exponent
    return ((bits + half) >> dropped << dropped).view(np.float32)


def round_embeddings(values: np.ndarray) -> np.ndarray:
    """(rows, n) float32 as they are stored: rounded, and NaN in the entire row where one value is not finite then."""
    with np.errstate(invalid="ignore"):  # of signalling NaN
        rounded = round_values(values)  # of NaN bits it may make a number, of the largest numbers infinity
    rounded[~(np.isfinite(values) & np.isfinite(rounded)).all(axis=1)] = np.nan
    return rounded


ROUNDED = {"components": round_values, "embedding": round_embeddings}  # how the vectors of a spec are stored


def encode_shard(rows: ShardRows, spec: LabelSpec, *, shard: int) -> bytes:
    """The Parquet file of one shard. Probabilities and vectors are rounded on the way."""
    probabilities = round_probabilities(rows.probabilities)
    columns = [pa.array(rows.keys()[name], type_) for name, type_ in _KEYS.items()]
    columns += [_vectors(probabilities)] if spec.layout == "dense" else _sparse_columns(probabilities, spec)
    columns += [pa.array(rows.dropped_sum, pa.float32())] if spec.keeps_some else []
    columns += [_vectors(ROUNDED[name](rows.columns()[name])) for name in spec.vectors]
    metadata = {
        "softlabels.format_version": str(spec.format_version),
        "softlabels.fingerprint": spec.fingerprint(),
        "softlabels.class_digest": spec.class_digest,
        "softlabels.shard": str(shard),
    }
    schema = _schema(spec, probabilities.shape[1]).with_metadata(metadata)
    return _parquet_bytes(pa.Table.from_arrays(columns, schema=schema), spec.zstd_level)


def decode_shard(
    data: bytes,
    spec: LabelSpec,
    classes: int,
    *,
    keys: tuple[pa.ChunkedArray, np.ndarray] | None = None,
    pages: bool = False,
) -> ShardRows:
    """The rows in a shard file, page checksums verified; sparse rows come back dense.

    Args:
      keys: the clip_id and window_index, (rows,) each, that its rows have to have, in order; None does not ask.
      pages: hold its pages against its footer, too.
    Raises: StoreError: not a shard of this spec, damaged, or other rows.
    """

    def check(schema: pa.Schema) -> None:
        fingerprint = (schema.metadata or {}).get(b"softlabels.fingerprint", b"").decode(errors="replace")
        if fingerprint != spec.fingerprint():
            raise StoreError(f"made with fingerprint {fingerprint[:64] or None!r}, expected {spec.fingerprint()!r}")
        if not schema.equals(_schema(spec, classes)):
            raise StoreError(f"expected the columns {_schema(spec, classes)}, got {schema}")

    rows = None if keys is None else len(keys[1])
    text = None if keys is None else keys[0].nbytes + _TEXT_BEYOND
    what = "windows as planned, in order"
    table = read_parquet(data, check, rows=rows, rows_are=what, most_text=text, pages=pages)
    if keys is not None and not _has_keys(table, *keys):
        raise StoreError(
            f"expected {len(keys[1])} windows as planned, in order, got {len(table)}; plan or receipt was edited"
        )
    columns = {name: table[name].to_numpy() for name in _KEYS}
    columns |= {"dropped_sum": table["dropped_sum"].to_numpy()} if spec.keeps_some else {}
    columns |= {name: _read_vectors(table, name, length) for name, length in spec.vectors.items()}
    _check_finite(columns)
    if spec.layout == "dense":
        probabilities = _read_vectors(table, "probabilities", classes)
        _check_shares(probabilities)
    else:
        probabilities = _read_sparse(table, classes)
    return ShardRows(**columns, probabilities=probabilities)


def check_times(rows: ShardRows, *times: np.ndarray) -> None:
    """Hold the columns that plan and spec give against a shard's.

    Args:
      times: (rows,) start_s, end_s and pad_fraction as they have to be.
    Raises: StoreError: another time, and of which window.
    """
    for name, expected in zip(("start_s", "end_s", "pad_fraction"), times, strict=True):
        found = getattr(rows, name)
        if not np.array_equal(found, expected):
            row = int(np.argmax(found != expected))
            key = (rows.clip_id[row], int(rows.window_index[row]))
            raise StoreError(f"{name} of {key}: expected {expected[row]!r} by plan and spec, got {found[row]!r}")


def _has_keys(table: pa.Table, clip_id: pa.ChunkedArray, window_index: np.ndarray) -> bool:
    """Compared as Arrow: as Python texts it takes longer than the decoding."""
    return table["clip_id"].equals(clip_id) and np.array_equal(table["window_index"].to_numpy(), window_index)


@lru_cache(maxsize=16)  # asked for twice a shard
def _schema(spec: LabelSpec, classes: int) -> pa.Schema:
    dense = {"probabilities": pa.list_(_FLOAT, classes)}
    sparse = {"class_index": pa.list_(_CLASS), "probability": pa.list_(_FLOAT), "tail_sum": pa.float32()}
    types = {**_KEYS, **(dense if spec.layout == "dense" else sparse)}
    types |= {"dropped_sum": pa.float32()} if spec.keeps_some else {}
    types |= {name: pa.list_(_FLOAT, length) for name, length in spec.vectors.items()}
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


def _vectors(values: np.ndarray) -> pa.Array:
    """(rows, length) float32 -> one list a row."""
    flat = pa.array(values.reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(_FLOAT, values.shape[1]))


def _sparse_columns(probabilities: np.ndarray, spec: LabelSpec) -> list[pa.Array]:
    """class_index, probability and tail_sum of (rows, classes) rounded probabilities."""
    kept = probabilities > np.float32(spec.min_probability)
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32))
    index = pa.array(np.nonzero(kept)[1].astype(np.uint16))
    values = pa.array(probabilities[kept])
    tails = [math.fsum(row[~keep]) for row, keep in zip(probabilities.astype(np.float64), kept, strict=True)]
    return [
        pa.ListArray.from_arrays(offsets, index, type=pa.list_(_CLASS)),
        pa.ListArray.from_arrays(offsets, values, type=pa.list_(_FLOAT)),
        pa.array(np.array(tails, np.float32)),
    ]


def _parquet_bytes(table: pa.Table, zstd_level: int) -> bytes:
    """One row group; every setting that changes bytes is named."""
    lists = {field.name: field.type.value_type for field in table.schema if pa.types.is_nested(field.type)}
    how = {pa.float32(): "BYTE_STREAM_SPLIT", pa.uint16(): "PLAIN"}
    encodings = {f"{name}.list.element": how[type_] for name, type_ in lists.items()}
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=max(1, len(table)),
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=zstd_level,
        data_page_size=1 << 20,
        use_dictionary=False,
        column_encoding={"clip_id": "DELTA_BYTE_ARRAY", "window_index": "DELTA_BINARY_PACKED", **encodings},
        write_statistics=["clip_id", "window_index"],
        write_page_checksum=True,
        store_schema=True,
    )
    return sink.getvalue()


def _read_vectors(table: pa.Table, name: str, length: int) -> np.ndarray:
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy() if len(column) else np.zeros(0, np.float32)
    if len(flat) != len(table) * length:
        raise StoreError(f"expected {len(table)} x {length} {name}, got {len(flat)}")
    return flat.reshape(len(table), length)


def _read_sparse(table: pa.Table, classes: int) -> np.ndarray:
    """Absent classes share the tail sum equally."""
    index, values = table["class_index"].combine_chunks(), table["probability"].combine_chunks()
    counts = np.diff(index.offsets.to_numpy())
    if not np.array_equal(index.offsets.to_numpy(), values.offsets.to_numpy()):
        raise StoreError("expected as many class indices as probabilities in every row")
    if len(index.flatten()) and int(pc.max(index.flatten()).as_py()) >= classes:
        raise StoreError(f"expected class indices below {classes}, got {pc.max(index.flatten())}")
    share = (table["tail_sum"].to_numpy() / np.maximum(1, classes - counts)).astype(np.float32)
    kept = values.flatten().to_numpy()
    _check_shares(share)
    _check_shares(kept)
    probabilities = np.repeat(share[:, None], classes, axis=1)
    probabilities[owners(counts), index.flatten().to_numpy()] = kept
    return probabilities


def _check_finite(columns: dict[str, np.ndarray]) -> None:
    """Raises: StoreError: a number that no shard has in one of its columns."""
    for name, least in (("dropped_sum", 0.0), ("components", -np.inf), ("embedding", -np.inf)):
        values = columns.get(name, np.zeros(0))
        fits = np.isfinite(values) & (values >= least)
        if name == "embedding":
            fits |= np.isnan(values).all(axis=-1, keepdims=True)
        if not fits.all():
            also = {"dropped_sum": " of 0 or more", "embedding": ", or NaN in an entire row"}
            raise StoreError(f"expected finite {name}{also.get(name, '')}")


def _check_shares(values: np.ndarray) -> None:
    """Hold float32 values against 0 and 1; by their bits that is one pass, and a shard may have a hundred megabytes.

    Raises: StoreError: a value beyond, or NaN.
    """
    if values.size and values.view(np.uint32).max() > _ONE and not ((values >= 0) & (values <= 1)).all():
        raise StoreError(f"expected probabilities from 0 to 1, got {values.min()} to {values.max()}")
