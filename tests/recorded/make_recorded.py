"""Makes what `test_recorded.py` holds the code against: `python tests/recorded/make_recorded.py FOLDER`, for scratch.

Labels are digested by what they say, which no package version changes: with `--portable` the real BirdNET gives equal
bits on any x86-64 CPU.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import soundfile

import pipeline
import softlabels

HERE = Path(__file__).parent
SETTINGS = {
    "dense": {},
    "sparse": {"layout": "sparse"},
    "jittered": {"jitters": 3},
    "kept classes": {"keep_classes": "tests/corpus/classes.txt", "components": 0},
}


def label(name: str, store: Path, repository: Path) -> softlabels.SoftLabelStore:
    """The first twelve clips of the corpus, labelled by the real BirdNET with settings of this name."""
    settings = dict(SETTINGS[name])
    if "keep_classes" in settings:
        settings["keep_classes"] = repository / settings["keep_classes"]
    clips = sorted(softlabels.read_manifest(repository / "data_manifest.csv"), key=lambda clip: clip.clip_id)[:12]
    with patch("pipeline.planning.prepare.ZSTD_LEVEL", 6):  # of that time, like the folding
        pipeline.run(
            clips,
            store,
            root=repository,
            teacher=pipeline.TeacherChoice(kind="birdnet", portable=True, folding="1"),
            labelling=pipeline.LabelOptions(shard_windows=5, **settings),
            options=pipeline.RunOptions(backend="sequential"),
        )
    return softlabels.open(store)


def content_digest(store: softlabels.SoftLabelStore) -> str:
    """sha256 over every column of every shard."""
    total = hashlib.sha256(store.spec.fingerprint().encode())
    for rows in store.read():
        total.update("\0".join(rows.clip_id).encode())
        for name in ("window_index", "start_s", "end_s", "pad_fraction", "probabilities", "dropped_sum"):
            values = getattr(rows, name)
            total.update(b"" if values is None else np.ascontiguousarray(values))
    return total.hexdigest()


def file_digests(store: softlabels.SoftLabelStore) -> dict[str, str]:
    """shard -> sha256 of its file."""
    return {str(shard): receipt.digest for shard, receipt in store.receipts.items()}


def rows_digest(labels: softlabels.JoinedLabels) -> str:
    """sha256 over keys and labels of all rows."""
    total = hashlib.sha256(np.ascontiguousarray(labels.y_true()))
    total.update(labels.keys.to_csv(index=False).encode())
    return total.hexdigest()


def make_store() -> None:
    """A store of the stand-in teacher, and a calibrated join of it, saved: some kilobytes."""
    sys.path.insert(0, str(HERE.parent))
    for name in ("store", "labels"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    lines = ["clip_id,path,label,split,start_s,end_s"]
    for i, seconds in enumerate([0.3, 0.1, 0.25, 0.4, 0.05, 0.2]):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, round(seconds * 8000)).astype(np.float32)
        soundfile.write(HERE / f"c{i}.flac", samples, 8000)
        label = ["Aus aus_Alpha", "Bus bus_Beta;?Cus cus_Gamma", "noise", "", "", "Cus cus_Gamma"][i]
        times = ",0.05," if i == 3 else ",,"
        lines.append(f"c{i},c{i}.flac,{label},{'train' if i < 4 else 'test'}{times}")
    (HERE / "data_manifest.csv").write_text("\n".join(lines) + "\n")
    pipeline.run(
        HERE / "data_manifest.csv",
        HERE / "store",
        teacher="standin:teacher",
        labelling=pipeline.LabelOptions(shard_windows=4, overlap_s=0.05),
        options=pipeline.RunOptions(backend="sequential"),
    )
    for name in ("probe_cache.jsonl", "run.json"):  # of this machine
        (HERE / "store" / name).unlink()


def main() -> None:
    make_store()
    store = softlabels.open(HERE / "store")
    labels = store.join(HERE / "data_manifest.csv", missing="hard", root=".", cache_dir=Path(sys.argv[1]))
    saved = labels.exclusive(rest=True)
    saved.save(HERE / "labels")
    content, files = {}, {}
    for name in SETTINGS:
        made = label(name, Path(sys.argv[1]) / name.replace(" ", "_"), HERE.parent.parent)
        content[name], files[name] = content_digest(made), file_digests(made)
    said = {
        "pyarrow": pa.__version__,
        "content": content,
        "files": files,
        "rows": rows_digest(labels),
        "saved_rows": rows_digest(saved),
        "crops": saved.y_true_at(["c3", "c0"], [0.05, 0.125]).tolist(),
    }
    (HERE / "digests.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
