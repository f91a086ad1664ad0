"""StoreReader: reading what was committed to a store, bytes verified. `SoftLabelStore` is one that can join."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.classes.class_list import Activation, ClassList
from softlabels.digests import is_sha256, parse_json, sha256_of, sha256_of_bytes
from softlabels.errors import ClassListError, StoreError
from softlabels.ragged import places_by_value
from softlabels.records.plan_file import PlannedClip, planned_clips
from softlabels.records.receipts import (
    Receipt,
    ReceiptHead,
    latest_receipt_keys,
    read_receipt,
    read_receipt_heads,
    success_bytes,
)
from softlabels.records.shard import ShardRows, check_times, decode_shard
from softlabels.records.spec import FORMAT_VERSION, LabelSpec, newer_format
from softlabels.storage.location import Location, location
from softlabels.storage.protocol import Storage
from softlabels.store.embeddings import require_embeddings
from softlabels.store.index import LABELLED, Census, StoreIndex, build_index, take_census, window_numbers
from softlabels.store.own_runs import OwnRun, own_run
from softlabels.store.plans import PlanFile, hold_plans, read_plans
from softlabels.store.pooled import pooled_clips
from softlabels.threads import in_threads

if TYPE_CHECKING:
    import pandas as pd

MOST_HEADER, MOST_CLASSES = 1 << 20, 32 << 20  # bytes of store.json and classes.txt


class StoreReader:
    """What a teacher answered about a corpus. `len(store)` is the number of labelled windows.

    A store is read as it was when opened; for shards committed later, open it again.

    Args:
      digest: what `digest` of the store has to be, now and whenever it is opened `again`; None is any.
    Raises: StoreError: no store, damaged, or another digest. ValueError: digest is none.
    """

    def __init__(self, storage: Storage, *, digest: str | None = None) -> None:
        self.storage, self._published = storage, digest
        if digest is not None and not is_sha256(digest):
            raise ValueError(f"digest: expected 64 hexadecimal digits, as `softlabels verify` prints, got {digest!r}")
        header = self._read_header()
        self.spec = LabelSpec.from_json(header["spec"])
        if self.spec.fingerprint() != header.get("fingerprint"):
            raise StoreError(
                f"store '{storage}': store.json was edited: its spec has fingerprint {self.spec.fingerprint()}, "
                f"recorded is {header.get('fingerprint')}; restore the file, or label into a new store"
            )
        self.classes = self._read_classes()
        if digest is not None and digest != self.digest:
            raise StoreError(
                f"store '{storage}': expected digest {digest}, got {self.digest}: this is not the store that was "
                "published under it, or not all of it; get it again from where it is published"
            )

    def again(self) -> Self:
        """The store as it is now: it grows. Raises: StoreError: not the one whose digest was asked for."""
        return type(self)(self.storage, digest=self._published)

    @cached_property
    def digest(self) -> str:
        """One sha256 of all that was labelled: spec, classes, plans and receipts, which have those of shards.

        The same wherever the store is copied to; hints of a machine, joins and cards have no part in it.
        """
        parts = {"spec": self.spec.fingerprint(), "classes": self.classes.digest, "plans": self.plan_digests}
        return sha256_of({**parts, "receipts": self._read_receipts[1]})

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.storage}', {len(self)} windows, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return sum(receipt.rows for receipt in self.receipts.values())

    @property
    def activation(self) -> Activation:
        return self.spec.activation

    @cached_property
    def plans(self) -> list[pa.Table]:
        """The plan files, oldest first."""
        return [file.table for file in self._plan_files]

    @property
    def plan_digests(self) -> list[str]:
        """sha256 of each plan file, oldest first."""
        return [file.digest for file in self._plan_files]

    def plan_digest(self, shard: int) -> str:
        """sha256 of the plan file that has a shard."""
        return next(file.digest for file in self._plan_files if shard in file.shards)

    def plan_shards(self, number: int) -> range:
        """The shards that a plan file has; the first file is number 1."""
        return self._plan_files[number - 1].shards

    @cached_property
    def _plan_files(self) -> list[PlanFile]:
        return read_plans(self.storage, self.spec)

    @property
    def receipts(self) -> dict[int, ReceiptHead]:
        """shard -> the head of its current receipt, for every committed shard."""
        return self._read_receipts[0]

    @cached_property
    def _read_receipts(self) -> tuple[dict[int, ReceiptHead], str]:
        """The receipts, and one sha256 of all of them."""
        keys = self.receipt_keys
        heads, digest = read_receipt_heads(self.storage, list(keys.values()))
        return dict(zip(keys, heads, strict=True)), digest

    def receipt(self, shard: int) -> Receipt:
        """The full receipt of a committed shard, read again. Raises: StoreError: damaged or gone."""
        try:
            return read_receipt(self.storage, self.receipt_keys[shard])
        except FileNotFoundError as e:
            raise StoreError(f"'{self.storage}': {self.receipt_keys[shard]} is gone; open the store again") from e

    @cached_property
    def receipt_keys(self) -> dict[int, str]:
        """shard -> the key of its current receipt."""
        return latest_receipt_keys(self.storage)

    @cached_property
    def census(self) -> Census:
        """How many windows are planned, labelled, quarantined and missing."""
        hold_plans(self.storage, self._plan_files, self.receipts, self.spec.fingerprint())
        return take_census(self.plans, self.receipts)

    @cached_property
    def index(self) -> StoreIndex:
        """Every planned window, and where its label is."""
        hold_plans(self.storage, self._plan_files, self.receipts, self.spec.fingerprint())
        return build_index(self.plans, self.receipts, self.spec.window)

    def state(self) -> str:
        """sha256 over the names and sizes of plans, receipts and shards: another once any of them comes or goes."""
        return sha256_of([self.storage.list(folder) for folder in ("plan", "receipts", "shards")])

    @property
    def planned_shards(self) -> int:
        return sum(len(file.shards) for file in self._plan_files)

    def is_closed(self) -> bool:
        """Whether every plan has its `_SUCCESS`."""
        return all(self.storage.exists(f"_SUCCESS-{number:04d}.json") for number in range(1, len(self.plans) + 1))

    def success_bytes(self, number: int, *, with_plan: bool = True) -> bytes:
        """What `_SUCCESS-NNNN.json` of a plan has to say, once none of its shards is missing.

        Args:
          with_plan: name the digest of the plan, as all stores do but those of before.
        """
        shards = self.plan_shards(number)
        contents = self.storage.get_many([self.receipt_keys[shard] for shard in shards])
        digest = self.plan_digests[number - 1] if with_plan else ""
        return success_bytes(number, [self.receipts[shard] for shard in shards], contents, digest)

    def missing_shards(self) -> list[int]:
        """Planned shards without a receipt, or whose file is not there in the size the receipt says."""
        sizes = self.storage.list("shards")
        planned = sorted({shard for plan in self.plans for shard in plan["shard"].unique().to_pylist()})
        receipts = self.receipts
        return [s for s in planned if s not in receipts or sizes.get(receipts[s].file) != receipts[s].size]

    def planned(self, shards: Iterable[int]) -> dict[int, list[PlannedClip]]:
        """shard -> its planned clips, for the shards asked for."""
        wanted = pa.array(sorted(shards), pa.int64())
        rows: dict[int, list[PlannedClip]] = {shard: [] for shard in wanted.to_pylist()}
        for plan in self.plans:
            for clip in planned_clips(plan.filter(pc.is_in(plan["shard"], wanted))):
                rows[clip.shard].append(clip)
        return rows

    def planned_by_clip(self) -> dict[str, PlannedClip]:
        """clip_id -> its first planned stretch, as last planned."""
        return {
            clip.clip_id: clip
            for plan in self.plans
            for clip in planned_clips(plan.filter(pc.equal(plan["first_window"], 0)))
        }

    def labelled_clips(self) -> set[str]:
        """The clips of which at least one window has a label."""
        positions = np.unique(self.index.stored_clip[self.index.state == LABELLED])
        return set(self.index.clips["clip_id"].take(positions).to_pylist())

    def hints(self) -> dict[str, Any]:
        """What run.json says of the machine that labelled, for people: anybody may have written it.

        {} where it is missing or damaged.
        """
        try:
            return parse_json(self.storage.get_small("run.json", MOST_HEADER))
        except (OSError, ValueError, StoreError):
            return {}

    def own_run(self) -> OwnRun | None:
        """What this user's own run on this store, at this place, said of audio and teacher; None if there was none."""
        return own_run(self.storage, self.spec.fingerprint())

    def audio_root(self) -> Location | None:
        """Where this user's own run found the recordings, if that is there; a bucket is not asked."""
        run = self.own_run()
        if run is None:
            return None
        root = location(run.audio_root)
        return root if isinstance(root, str) or root.is_dir() else None

    def read_shard(self, shard: int, *, cached: bool = True, pages: bool = False) -> ShardRows:
        """The rows of one committed shard; its digest and page checksums are verified.

        Args:
          cached: whether the copy of a bucket's shard in this user's cache will do.
          pages: hold its pages against its footer before they are decoded, as of a store by somebody else.
        Raises: StoreError: not committed, or damaged; the message says how to repair it.
        """
        data, here = self.shard_bytes(shard, cached=cached), self._planned(shard)
        keys = self.index.clips["clip_id"].take(self.index.stored_clip[here]), self.index.window_index[here]
        try:
            rows = decode_shard(data, self.spec, len(self.classes), keys=keys, pages=pages)
            check_times(rows, *self.index.times(here))
            return rows
        except StoreError as e:
            raise self._damaged(shard, e) from e

    def shard_bytes(self, shard: int, *, cached: bool = True) -> bytes:
        """The Parquet file of one committed shard, held against its digest; arguments and errors as in `read_shard`."""
        receipt = self.receipts.get(shard)
        if receipt is None:
            raise StoreError(f"shard {shard} of '{self.storage}' is not committed; `softlabels run` labels it")
        try:
            if cached:
                data = self.storage.get_content(receipt.file, receipt.digest, receipt.size)
            else:
                data = self.storage.get_small(receipt.file, receipt.size)
        except FileNotFoundError as e:
            raise self._damaged(shard, f"{receipt.file} is gone") from e
        except StoreError as e:
            raise self._damaged(shard, str(e).removeprefix(f"'{self.storage}': ")) from e
        digest = sha256_of_bytes(data)
        if digest != receipt.digest:
            found = f"digest mismatch: receipt says sha256:{receipt.digest}, file is sha256:{digest}"
            raise self._damaged(shard, found)
        return data

    def _damaged(self, shard: int, found: object) -> StoreError:
        """What was found, and how it is repaired."""
        repair = f"run `softlabels regenerate {self.storage} --shard {shard}`"
        return StoreError(f"shard {shard} of '{self.storage}': {found}; {repair}")

    def read(self) -> Iterator[ShardRows]:
        """All labelled windows, shard by shard, each as columns; see `ShardRows`.

        Example:
          >>> sum(len(rows) for rows in store.read()) == len(store)
          True
        """
        len(self.index)  # what every shard is held against: made once, before the threads need it
        yield from in_threads(self.read_shard, ((shard,) for shard in self.receipts))

    def take(self, keys: Sequence[tuple[str, int]]) -> np.ndarray:
        """The probabilities of some windows.

        Args:
          keys: (clip_id, window_index) pairs, in any order.
        Returns: (keys, classes) float32, in the order of the keys.
        Raises: ValueError: a window_index that is no integer. StoreError: a key that is not labelled.
        Example:
          >>> store.take([("c1", 0), ("c0", 0)]).shape  # (keys, classes)
          (2, 3)
        """
        return self._taken(keys, "probabilities", len(self.classes))

    def embeddings(self, keys: Sequence[tuple[str, int]] | None = None) -> np.ndarray:
        """The teacher's embeddings of some windows, as `take`; None is all, shard by shard, as `read` and `to_pandas`.

        Returns: (windows, width) float32; a row of NaN where the teacher's was not finite.
        Raises: StoreError: the store keeps none; and as `take`.
        Example:
          >>> store.embeddings([("c1", 0), ("c0", 0)]).shape  # (keys, width)
          (2, 5)
        """
        width = require_embeddings(self.spec, self.storage)
        if keys is not None:
            return self._taken(keys, "embedding", width)
        found = [rows.columns()["embedding"] for rows in self.read()]
        return np.concatenate([np.zeros((0, width), np.float32), *found])

    def _taken(self, keys: Sequence[tuple[str, int]], name: str, width: int) -> np.ndarray:
        """(keys, width) float32 of one column."""
        entries = self._entries(keys)
        taken = np.empty((len(keys), width), np.float32)
        for shard, here in zip(*places_by_value(self.index.shard[entries]), strict=True):
            taken[here] = self.read_shard(int(shard)).columns()[name][self.index.row[entries[here]]]
        return taken

    def to_pandas(self) -> "pd.DataFrame":
        """All labelled windows as a DataFrame; `probabilities`, and what vectors there are, are columns of arrays.

        It holds 4 bytes a window and class in memory: 26 MB per 1,000 windows of BirdNET.

        Example:
          >>> store.to_pandas().columns[:2].tolist()
          ['clip_id', 'window_index']
        """
        import pandas as pd

        vectors = self.spec.vectors
        frames = [
            pd.DataFrame({**rows.keys(), **{name: list(rows.columns()[name]) for name in ("probabilities", *vectors)}})
            for rows in self.read()
        ]
        columns = ["clip_id", "window_index", "start_s", "end_s", "pad_fraction", "probabilities"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def per_clip(self, pool: Literal["max", "mean"] = "max") -> "pd.DataFrame":
        """One row a clip: its windows' probabilities pooled; index clip_id, one column a class, float32.

        "max" answers whether the class was there at all, "mean" for how much of the clip. Clips without any
        labelled window are left out.

        Example:
          >>> store.per_clip("mean").shape  # (clips, classes)
          (6, 3)
        """
        return pooled_clips(self.read(), self.classes, pool)

    def _planned(self, shard: int) -> np.ndarray:
        """(n,) entries of the windows that plan and receipt say are in a shard, in order."""
        # int32 like the column, all of which would be converted otherwise
        first, end = np.searchsorted(self.index.shard, np.array([shard, shard + 1], np.int32))
        return first + np.flatnonzero(self.index.state[first:end] == LABELLED)

    def _entries(self, keys: Sequence[tuple[str, int]]) -> np.ndarray:
        """The index entries of labelled keys."""
        window_index = window_numbers([window_index for _, window_index in keys])
        first, stop = self.index.spans_of([clip_id for clip_id, _ in keys]).T
        entries = first + window_index
        unknown = (window_index < 0) | (entries >= stop)
        unknown[~unknown] = self.index.state[entries[~unknown]] != LABELLED
        if unknown.any():
            clip_id, window = keys[int(unknown.argmax())]
            raise StoreError(f"'{self.storage}' has no label for clip {clip_id!r}, window {window}")
        return entries

    def _read_header(self) -> dict[str, Any]:
        try:
            header = parse_json(self.storage.get_small("store.json", MOST_HEADER))
            if isinstance(header.get("format_version"), int) and header["format_version"] > FORMAT_VERSION:
                raise newer_format(header.get("format_version"))
            if not isinstance(header["spec"], dict):
                raise TypeError("spec is no object")
            return header
        except FileNotFoundError as e:
            raise StoreError(
                f"no store at '{self.storage}' (no store.json there); `softlabels run` makes one from a manifest"
            ) from e
        except (ValueError, KeyError, TypeError) as e:
            raise StoreError(f"store '{self.storage}': store.json is damaged: {e}; restore it from a copy") from e

    def _read_classes(self) -> ClassList:
        try:
            classes = ClassList.from_text(self.storage.get_small("classes.txt", MOST_CLASSES).decode())
        except (OSError, UnicodeDecodeError, ClassListError) as e:
            raise StoreError(f"store '{self.storage}': classes.txt cannot be read: {e}; restore it") from e
        if classes.digest != self.spec.class_digest:
            raise StoreError(
                f"store '{self.storage}': classes.txt was changed: expected sha256 {self.spec.class_digest}, "
                f"got {classes.digest}; restore it, for every class name would be wrong"
            )
        return classes
