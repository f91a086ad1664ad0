"""What a store of a million shards costs whoever plans, lists, resumes and closes it, without teacher and audio.

    python tests/benchmarks/simulate_scale.py [--shards 1000 10000 100000 1000000] [--work DIR]

The work itself is simulated: a clip of 64 windows a shard, probes made up, and receipts written as a cluster would
have left them (shard files are empty). What is measured is the package's own code: planning, reading the plan and
all receipts back with one shard in a thousand missing, and closing the store, each in a process of its own. Needs
4 KB of disk a shard, and a minute a million to write the receipts.
"""

import argparse
import hashlib
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas  # noqa: F401  # else pyarrow imports it inside the first step
from synthetic_store import RATE_HZ, WINDOW

from pipeline.planning.plan import lay_out_clip, pack_shards
from pipeline.planning.probe import FileProbe
from pipeline.running.closing import write_success
from softlabels.classes.class_list import ClassList
from softlabels.corpus.manifest import Clip
from softlabels.records.plan_file import encode_plan, plan_table
from softlabels.records.receipts import Receipt
from softlabels.records.spec import LabelSpec
from softlabels.soft_label_store import SoftLabelStore
from softlabels.storage.local import LocalStorage

SHARD_WINDOWS = 64
CLASSES = ClassList(("A a_x", "B b_y"))
TARGET_S, TARGET_MB, TARGET_GROWTH = 60.0, 2000.0, 1.2


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spec() -> LabelSpec:
    return LabelSpec(
        teacher="synthetic",
        teacher_digest=sha256("synthetic"),
        class_digest=CLASSES.digest,
        activation="sigmoid",
        window=WINDOW,
        shard_windows=SHARD_WINDOWS,
    )


def probed(shards: int) -> Iterator[tuple[Clip, FileProbe]]:
    frames = SHARD_WINDOWS * WINDOW.window_samples
    for number in range(shards):
        clip = Clip(clip_id=f"clip{number:08d}", path=f"audio/{number:08d}.wav")
        probe = FileProbe(
            path=clip.path,
            size=44 + 2 * frames,
            mtime_ns=number,
            container="wav",
            frames=frames,
            rate_hz=RATE_HZ,
            channels=1,
            sha256=sha256(clip.path),
        )
        yield clip, probe


def plan(storage: LocalStorage, shards: int) -> None:
    """From clips and probes to the plan file, as `softlabels run` does it."""
    laid_out = [lay_out_clip(clip, probe, WINDOW) for clip, probe in probed(shards)]
    storage.put("plan/0001.parquet", encode_plan(plan_table(pack_shards(laid_out, shard_windows=64, first_shard=0))))


def resume(storage: LocalStorage, shards: int) -> None:
    """What a run does before it hands out the first shard, with one in a thousand missing."""
    store = SoftLabelStore(storage)
    missing = store.missing_shards()
    tasks = store.planned(missing)
    if len(tasks) != len(range(0, shards, 1000)):
        raise SystemExit(f"expected {len(range(0, shards, 1000))} missing shards, got {len(tasks)}")


def close(storage: LocalStorage, shards: int) -> None:
    """What a run does behind the last shard: see that nothing is missing, write `_SUCCESS`, and sum up."""
    store = SoftLabelStore(storage)
    if store.missing_shards():
        raise SystemExit("shards are missing")
    write_success(store)
    if store.census.labelled != shards * SHARD_WINDOWS:
        raise SystemExit("windows are missing")


STEPS: dict[str, Callable[[LocalStorage, int], None]] = {"plan": plan, "resume": resume, "close": close}


def write_store(storage: LocalStorage) -> LabelSpec:
    made = spec()
    header = {"format_version": made.format_version, "fingerprint": made.fingerprint(), "spec": made.to_json()}
    storage.put("classes.txt", CLASSES.to_text().encode())
    storage.put("store.json", json.dumps(header).encode())
    return made


def write_receipts(storage: LocalStorage, fingerprint: str, shards: range) -> None:
    """As workers would have left them, but without waiting for the disk."""
    for folder in ("receipts", "shards"):
        storage.path(folder).mkdir(exist_ok=True)
    environment = dict.fromkeys(("python", "numpy", "pyarrow", "soundfile", "soxr", "ai-edge-litert"), "1.2.3")
    for shard in shards:
        clip_id = f"clip{shard:08d}"
        receipt = Receipt(
            shard=shard,
            fingerprint=fingerprint,
            digest=sha256(clip_id),
            size=0,
            rows=SHARD_WINDOWS,
            quarantined=(),
            audio={clip_id: {"file": sha256(f"audio/{shard:08d}.wav"), "pcm": sha256(clip_id)}},
            environment=environment,
            numerics_class=sha256("no teacher"),
        )
        storage.path(f"receipts/{shard:05d}.g0.json").write_bytes(receipt.to_bytes())
        storage.path(receipt.file).touch()


def measure(step: str, root: Path, shards: int) -> dict[str, float]:
    """Seconds and peak MB of one step in a process of its own; imports are not counted."""
    command = [sys.executable, __file__, "--step", step, "--work", str(root), "--shards", str(shards)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def simulate(work: Path, shards: int) -> dict[str, dict[str, float]]:
    root = Path(tempfile.mkdtemp(dir=work))
    storage = LocalStorage(root)
    try:
        fingerprint = write_store(storage).fingerprint()
        found = {"plan": measure("plan", root, shards)}
        write_receipts(storage, fingerprint, range(shards))
        for shard in range(0, shards, 1000):
            storage.path(f"receipts/{shard:05d}.g0.json").unlink()
        found["resume"] = measure("resume", root, shards)
        write_receipts(storage, fingerprint, range(0, shards, 1000))
        return found | {"close": measure("close", root, shards)}
    finally:
        shutil.rmtree(root)


def one_step(step: str, root: Path, shards: int) -> None:
    began = time.perf_counter()
    STEPS[step](LocalStorage(root), shards)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--work", type=Path, default=None, help="where the stores are made and deleted again")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        one_step(args.step, args.work, args.shards[0])
        return
    print(f"{platform.machine()}; Python {platform.python_version()}; {SHARD_WINDOWS} windows a shard")
    print(f"{'shards':>10}" + "".join(f"{step + ' s':>10}{'us/shard':>10}{'peak MB':>9}" for step in STEPS))
    found = {}
    for shards in args.shards:
        steps = found[shards] = simulate(args.work, shards)
        cells = (f"{s['seconds']:10.2f}{s['seconds'] / shards * 1e6:10.1f}{s['mb']:9.0f}" for s in steps.values())
        print(f"{shards:>10,}" + "".join(cells), flush=True)
    report(found)


def report(found: dict[int, dict[str, dict[str, float]]]) -> None:
    """Targets, and the JSON line."""
    largest, smallest = max(found), min(found)
    seconds = found[largest]["plan"]["seconds"] + found[largest]["resume"]["seconds"]
    peak = max(step["mb"] for step in found[largest].values())
    growth = {
        step: found[largest][step]["seconds"] / largest / (found[smallest][step]["seconds"] / smallest)
        for step in STEPS
    }
    met = {
        "seconds": seconds <= TARGET_S,
        "mb": peak <= TARGET_MB,
        "growth": max(growth.values()) <= TARGET_GROWTH,
    }
    print(f"\n{largest:,} shards planned and listed in {seconds:.1f} s (target {TARGET_S:g} s), {peak:,.0f} MB")
    print(f"cost a shard against {smallest:,} shards: {', '.join(f'{step} {x:.2f}' for step, x in growth.items())}")
    print(json.dumps({"good": all(met.values()), "met": met, "growth": growth, "steps": found}))


if __name__ == "__main__":
    main()
