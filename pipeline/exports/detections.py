"""birdnet's long table: one row a window and class above a threshold, as its `to_csv` and `to_parquet` write it.

input         path of the recording, relative to the audio root
start_time    in the file; CSV "00:00:03.00", Parquet seconds
end_time      never after the end of the clip
species_name  as in the class list
confidence    the stored probability; CSV with six decimals

The rows of a window follow each other, most confident first.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exports.written import Exported, labelled_shards
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.store.reader import StoreReader

_TEXT = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = {"input": _TEXT, "start_time": pa.float64(), "end_time": pa.float64()}
_COLUMNS |= {"species_name": _TEXT, "confidence": pa.float32()}


def write_detections(
    store: StoreReader,
    file: Path,
    classes: ClassList,
    match: ClassMatch,
    threshold: float,
    on_windows: Callable[[int], None],
) -> Exported:
    """Write the table as CSV or Parquet, by the file's ending."""
    tables = _tables(store, classes, match, threshold, on_windows)
    rows = _write_csv(tables, file) if file.suffix == ".csv" else _write_parquet(tables, file, _schema(store, classes))
    return Exported(rows=rows, notes=match.notes)


def _tables(
    store: StoreReader,
    classes: ClassList,
    match: ClassMatch,
    threshold: float,
    on_windows: Callable[[int], None],
) -> Iterator[pa.Table]:
    """One table a shard."""
    index, names, schema = store.index, pa.array(list(classes)), _schema(store, classes)
    paths = index.clips["path"].combine_chunks().dictionary_encode()
    ends = index.clips["end"].to_numpy() / np.maximum(index.clips["rate_hz"].to_numpy(), 1)  # (clips,) seconds
    for entries, rows in labelled_shards(store):
        pooled = match.pool(rows.probabilities, store.activation)  # (windows, classes)
        window, species = np.nonzero(pooled >= threshold)  # a class the teacher lacks is NaN, and no detection
        confidence = pooled[window, species]
        order = np.lexsort((-confidence, window))
        window, species = window[order], species[order]
        clip = index.stored_clip[entries][window]
        columns = [
            pa.DictionaryArray.from_arrays(paths.indices.take(pa.array(clip)), paths.dictionary),
            pa.array(rows.start_s[window]),
            pa.array(np.minimum(rows.end_s[window], ends[clip])),
            pa.DictionaryArray.from_arrays(pa.array(species.astype(np.int32)), names),
            pa.array(confidence[order]),
        ]
        yield pa.Table.from_arrays(columns, schema=schema)
        on_windows(len(entries))


def _schema(store: StoreReader, classes: ClassList) -> pa.Schema:
    window = store.spec.window
    overlap_s = (window.window_samples - window.hop_samples) / window.rate_hz
    settings = {"segment_duration_s": window.window_s, "overlap_duration_s": overlap_s, "n_species": len(classes)}
    fields = [pa.field(name, kind, nullable=False) for name, kind in _COLUMNS.items()]
    return pa.schema(fields, {name: str(value) for name, value in settings.items()})


def _write_parquet(tables: Iterable[pa.Table], file: Path, schema: pa.Schema) -> int:
    written = 0
    with open(file, "xb") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            written += len(table)
    return written


def _write_csv(tables: Iterable[pa.Table], file: Path) -> int:
    written = 0
    with open(file, "w", encoding="utf-8", newline="") as out:
        out.write(",".join(_COLUMNS) + "\n")
        for table in tables:
            for source, start_s, end_s, species, confidence in zip(*(c.to_pylist() for c in table), strict=True):
                texts = (source, _clock(start_s), _clock(end_s), species)
                out.write(",".join(f'"{text}"' for text in (t.replace('"', '""') for t in texts)))
                out.write(f",{confidence:.6f}\n")
            written += len(table)
    return written


def _clock(seconds: float) -> str:
    """Hours, minutes and hundredths of seconds. Rounded before they are taken apart, or 59.999 s reads 00:00:60.00."""
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{hundredths / 100:05.2f}"
