"""Hold a store of a real recording against a bare LiteRT interpreter and against other Parquet engines.

    python tests/benchmarks/check_recording.py RECORDING

Labels the recording with the real BirdNET through `softlabels run`, then compares every stored probability
with a direct call of the interpreter on the same window, opens the shards with pandas, DuckDB and Polars, and
prints the bytes a window. Exits 1 if anything is off.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import soundfile
import soxr
from ai_edge_litert.interpreter import Interpreter

import pipeline
import softlabels
from pipeline.teachers.birdnet import find_birdnet

WINDOW, RATE_HZ, CLASSES = 144_000, 48_000, 6522
MAX_RELATIVE_ERROR, MAX_BYTES = 0.0021, 10_800


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path)
    recording = parser.parse_args().recording.resolve()
    with tempfile.TemporaryDirectory() as folder:
        clips = [softlabels.Clip(clip_id=recording.name, path=recording.name)]
        summary = pipeline.run(clips, Path(folder) / "store", root=recording.parent)
        store = softlabels.open(Path(folder) / "store")
        expected = direct_probabilities(recording)
        stored = store.take([(recording.name, k) for k in range(len(expected))])
        figures = {
            "windows": len(stored),
            "max_relative_error": float(np.max(np.abs(stored / expected - 1))),
            "bytes_per_window": summary.shard_bytes / summary.labelled,
            "rows_by_engine": rows_by_engine(sorted((Path(folder) / "store" / "shards").iterdir())),
        }
    versions = {name: importlib.metadata.version(name) for name in ("pyarrow", "pandas", "duckdb", "polars")}
    print(f"machine: {platform.machine()}, Python {platform.python_version()}, {versions}")
    for name, value in figures.items():
        print(f"{name:<20}{value}")
    good = (
        figures["max_relative_error"] <= MAX_RELATIVE_ERROR
        and figures["bytes_per_window"] <= MAX_BYTES
        and all(rows == [len(stored), CLASSES] for rows in figures["rows_by_engine"].values())
    )
    print(json.dumps({"good": good, **figures}))
    return 0 if good else 1


def direct_probabilities(recording: Path) -> np.ndarray:
    """(windows, classes) float64: the sigmoid of the interpreter's logits, by nothing of ours."""
    samples, rate_hz = soundfile.read(recording, dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ, quality="HQ")
    samples = np.pad(samples, (0, -len(samples) % WINDOW)).reshape(-1, WINDOW)
    interpreter = Interpreter(model_path=str(find_birdnet()[0]), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for window in samples:
        interpreter.set_tensor(inputs["index"], window[None])
        interpreter.invoke()
        rows.append(1 / (1 + np.exp(-interpreter.get_tensor(outputs["index"])[0].astype(np.float64))))
    return np.stack(rows)


def rows_by_engine(shards: list[Path]) -> dict[str, list[int]]:
    """engine -> [rows, length of every list]."""
    lists = {
        "pandas": [len(row) for shard in shards for row in pd.read_parquet(shard).probabilities],
        "duckdb": [
            len(row[0])
            for row in duckdb.sql(f"select probabilities from read_parquet({[str(s) for s in shards]})").fetchall()
        ],
        "polars": [len(row) for shard in shards for row in polars.read_parquet(shard)["probabilities"]],
    }
    return {engine: [len(rows), *sorted(set(rows))] for engine, rows in lists.items()}


if __name__ == "__main__":
    sys.exit(main())
