"""Components: a teacher's log-odds of all its classes, on a few axes, beside the classes that a store keeps.

component = (log-odds of the teacher's full row - mean) @ basis

The row is what a dense store of all classes would hold, its probabilities held in [LEAST, MOST]. Log-odds and mean are
multiples of 2^-8, the basis of 2^-20, so that every product and every sum is a whole number of 2^-28 and exact in
float64, in whatever order it is added: the only matrix product on the way to a label gives equal bits on any machine.

The file `components/<digest12>.parquet`, one row a class of the teacher's, in its order:

    class    string
    mean     float32
    basis    float32[k]       columns of length 1, as rounding leaves them
"""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from softlabels.classes.class_list import ClassList
from softlabels.digests import sha256_of_bytes
from softlabels.errors import ClassListError, StoreError
from softlabels.records.parquet import read_parquet
from softlabels.records.shard import round_probabilities
from softlabels.records.spec import LIMITS, LabelSpec
from softlabels.storage.protocol import Storage

LEAST, MOST = 2.0**-57, 1 - 2.0**-24  # log-odds of -39.5, below all of BirdNET's, and of float32's last below 1, 16.6
ODDS_STEP, BASIS_STEP = 2.0**-8, 2.0**-20
MOST_CLASSES = 1 << 18  # sums of (40 + 40) * 2^28 for each are below 2^53
_BLOCK = 16  # rows at a time: what the processor keeps at hand


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """A linear map from a teacher's log-odds to k components; `len()` is k.

    classes: all of the teacher's; mean: (classes,) float64 log-odds; basis: (classes, k) float64.
    asked: how many components were wanted of the windows at hand, which may have given fewer.
    Raises: ValueError: shapes that do not fit, values off their grid, or so large that sums would be rounded.
    """

    classes: ClassList
    mean: np.ndarray
    basis: np.ndarray
    asked: int

    def __post_init__(self) -> None:
        n, k = len(self.classes), self.basis.shape[-1]
        if self.mean.shape != (n,) or self.basis.shape != (n, k) or not 0 < n <= MOST_CLASSES or not k:
            raise ValueError(f"expected {n} means and ({n}, 1 or more) of a basis, got {self.basis.shape}")
        for name, values, step, most in (("mean", self.mean, ODDS_STEP, 40), ("basis", self.basis, BASIS_STEP, 1)):
            if not (np.abs(values) <= most).all() or not np.array_equal(values, on_grid(values, step)):
                raise ValueError(f"{name}: expected multiples of {step:g} from {-most} to {most}")

    def __len__(self) -> int:
        return self.basis.shape[1]

    def project(self, probabilities: np.ndarray) -> np.ndarray:
        """(rows, classes) float32 probabilities, rounded as stored or not yet -> (rows, k) float32 components."""
        blocks = np.split(probabilities, range(_BLOCK, len(probabilities), _BLOCK))
        odds = map(grid_log_odds, blocks)
        return np.concatenate([np.subtract(x, self.mean, out=x) @ self.basis for x in odds]).astype(np.float32)

    def to_bytes(self) -> bytes:
        """The file."""
        k = len(self)
        flat = pa.array(self.basis.reshape(-1), pa.float32())
        columns = [pa.array(self.classes.names), pa.array(self.mean, pa.float32())]
        columns += [pa.FixedSizeListArray.from_arrays(flat, type=_schema(k).field("basis").type)]
        schema, sink = _schema(k).with_metadata({"softlabels.asked": str(self.asked)}), io.BytesIO()
        pq.write_table(
            pa.Table.from_arrays(columns, schema=schema),
            sink,
            compression="zstd",
            use_dictionary=False,
            column_encoding={"basis.list.element": "BYTE_STREAM_SPLIT"},
            write_statistics=False,
            write_page_checksum=True,
        )
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Components":
        """Read the file. Raises: StoreError: it is none, or damaged."""
        try:
            table = read_parquet(data, _check_schema)
            names, asked = table["class"].to_pylist(), int((table.schema.metadata or {})[b"softlabels.asked"])
            k = table.schema.field("basis").type.list_size
            basis = table["basis"].combine_chunks().flatten().to_numpy().reshape(len(names), k)
            mean, basis = table["mean"].to_numpy().astype(np.float64), basis.astype(np.float64)
            return cls(classes=ClassList(tuple(names)), mean=mean, basis=basis, asked=asked)
        except (StoreError, ValueError, KeyError, ClassListError) as e:
            raise StoreError(f"expected a file components/*.parquet of a store, got: {e}") from e


def components_key(digest: str) -> str:
    """Where a store has its components, named by content: the sha256 of the file."""
    return f"components/{digest[:12]}.parquet"


def read_components(storage: Storage, spec: LabelSpec) -> Components:
    """The components of a store that has some. Raises: StoreError: gone, changed, or of another teacher's classes."""
    key = components_key(spec.component_digest)
    repair = "restore it from a copy: labels can be read without it, but no more of them made"
    try:
        data = storage.get(key)
    except FileNotFoundError as e:
        raise StoreError(f"store '{storage}': {key} is gone; {repair}") from e
    digest = sha256_of_bytes(data)
    if digest != spec.component_digest:
        raise StoreError(f"store '{storage}': {key}: expected sha256 {spec.component_digest}, got {digest}; {repair}")
    return Components.from_bytes(data)


def grid_log_odds(probabilities: np.ndarray) -> np.ndarray:
    """(rows, classes) float64 log-odds in steps of 2^-8.

    No stored probability lies so near the middle of two steps that another machine's logarithm could round the other
    way: `tests/test_components.py` tries them all.
    """
    p = np.clip(round_probabilities(probabilities).astype(np.float64), LEAST, MOST)
    odds = np.log(p)
    odds -= np.log1p(np.negative(p, out=p), out=p)  # in place: new memory costs more than the arithmetic
    return on_grid(odds, ODDS_STEP)


def on_grid(values: np.ndarray, step: float) -> np.ndarray:
    """The nearest multiples of a step, ties to even."""
    steps = values / step
    np.rint(steps, out=steps)
    return np.multiply(steps, step, out=steps)


def _schema(k: int) -> pa.Schema:
    basis = pa.list_(pa.field("element", pa.float32(), nullable=False), k)
    types = {"class": pa.string(), "mean": pa.float32(), "basis": basis}
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


def _check_schema(schema: pa.Schema) -> None:
    basis = schema.field("basis").type
    k = basis.list_size if pa.types.is_fixed_size_list(basis) else 0
    if not 0 < k <= LIMITS["components"] or not schema.equals(_schema(k)):
        raise StoreError(f"expected the columns {_schema(k or 1)}, got {schema.remove_metadata()}")
