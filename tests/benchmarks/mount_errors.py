"""Let a mount fail at every kind of call, and look whether the work is put off: nothing blamed, nothing dead, no hang.

    python tests/benchmarks/mount_errors.py [--injections 1200] [--seed 0] [--show]

`mount_errors.c` is compiled and preloaded, so that calls of Python, libsndfile and FFmpeg fail alike: open, read at
several offsets, seek, stat and listing, once or from then on, with each errno that a machine or a mount gives, on one
of three recordings in five formats while it is probed, while it is labelled, and on the folder of the store. All runs
are in one process (backend "sequential"). Good ends are "put off" (a later run does it) and "unhurt" (the error was
overcome, and every label is right). The last line of stdout is one JSON object; exits 1 on any other end; says so and
exits 0 where there is no C compiler.
"""

import argparse
import contextlib
import ctypes
import errno
import itertools
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).resolve()
LIBRARY = "SOFTLABELS_MOUNT_ERRORS"
KINDS = ("open", "read", "seek", "stat", "listing")
NAMES = (
    "EIO ESTALE ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETUNREACH ENETDOWN EREMOTEIO ENXIO ENODEV ENOMEM EMFILE "
)
NAMES += (
    "ENFILE EAGAIN EBUSY EDEADLK ENOLCK EPROTO ECONNREFUSED ECONNRESET ECONNABORTED EKEYEXPIRED EACCES EPERM EUCLEAN"
)
STORE_NAMES = set(NAMES.split()) - {"EACCES", "EPERM"}  # of a store these two are a setting that somebody has to change
FORMATS = ("wav", "flac", "ogg", "mp3", "m4a")
RATES = {"wav": 8000, "flac": 8000, "ogg": 16_000, "mp3": 16_000, "m4a": 16_000}  # the first two are entered anywhere
SECONDS, HANG_S = 12, 25


@dataclass(frozen=True, slots=True)
class Fault:
    """One error: errno `name` at the `nth` call of a kind, once or from then on."""

    format: str
    moment: str
    kind: int
    nth: int
    name: str
    once: bool

    def __str__(self) -> str:
        how = "once" if self.once else "from then on"
        return f"{self.format}, {self.moment}, {KINDS[self.kind]} {self.nth}, {self.name} {how}"


def build_corpus(folder: Path, container: str) -> Path:
    """Three recordings of one format, of which the second is the one that fails; returns the manifest."""
    folder.mkdir(parents=True)
    for i in range(3):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, SECONDS * RATES[container]).astype(np.float32)
        path = folder / f"c{i}.{container}"
        if container == "m4a":
            write_m4a(path, samples, RATES[container])
        else:
            soundfile.write(path, samples, RATES[container], format=container.upper())
    lines = [f"c{i},c{i}.{container},0.5,11.5" for i in range(3)]
    (folder / "data_manifest.csv").write_text("\n".join(["clip_id,path,start_s,end_s", *lines, ""]))
    return folder / "data_manifest.csv"


def write_m4a(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


class Bench:
    """Runs of one process, any of whose calls may be let fail."""

    def __init__(self, folder: Path) -> None:
        import pipeline
        import softlabels
        from softlabels.digests import forget_known

        with contextlib.suppress(ImportError):  # an older softlabels waits for nothing
            from pipeline import processes

            processes.PATIENCE_S = 0.0
        self.pipeline, self.softlabels, self.forget = pipeline, softlabels, forget_known
        self.folder, self.faults = folder, ctypes.CDLL(os.environ[LIBRARY])
        self.faults.fault_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self.faults.fault_count.restype = self.faults.fault_fired.restype = ctypes.c_long
        self.manifests = {container: build_corpus(folder / container, container) for container in FORMATS}
        self.calm: dict[str, dict[str, bytes]] = {}

    def run(self, container: str, moment: str, arm: Callable[[], None]) -> object:
        """One run; calls fail from `arm` on, in one moment of it. Returns its summary. Raises: whatever it raises."""
        store = self.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        target = store if moment == "store" else self.folder / container / f"c1.{container}"
        self.faults.fault_watch(os.fsencode(target))
        self.forget()

        def on_plan(*_plan: object) -> None:
            self.faults.fault_disarm()
            if moment in ("labelling", "store"):
                arm()

        if moment == "probing":
            arm()
        try:
            return self.pipeline.run(
                self.manifests[container],
                store,
                teacher="standin:teacher",
                labelling=self.pipeline.LabelOptions(shard_windows=64),
                options=self.pipeline.RunOptions(backend="sequential", jobs=1),
                jobs=1,
                events=self.pipeline.RunEvents(on_plan=on_plan),
            )
        finally:
            self.faults.fault_disarm()

    def count(self, container: str, moment: str) -> list[int]:
        """How often each kind of call is made without a fault; and the labels as they ought to be."""
        self.run(container, moment, lambda: self.faults.fault_arm(-1, 0, 0, 0))
        self.calm[container] = self.shards()
        return [self.faults.fault_count(kind) for kind in range(len(KINDS))]

    def shards(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "store" / "shards").iterdir()}

    def end(self, fault: Fault) -> tuple[str, str]:
        """What came of one fault: the end, and a detail."""
        number = getattr(errno, fault.name)
        signal.alarm(HANG_S)
        try:
            summary = self.run(
                fault.format,
                fault.moment,
                lambda: self.faults.fault_arm(fault.kind, fault.nth, number, fault.once),
            )
        except (self.softlabels.errors.EnvironmentTrouble, self.softlabels.errors.StorageFullError) as e:
            return "put off", str(e)
        except Exception as e:
            return "dead run", f"{type(e).__name__}: {e}"
        finally:
            signal.alarm(0)
        if not self.faults.fault_fired():
            return "not injected", ""
        return self.judge(summary)

    def judge(self, summary: object) -> tuple[str, str]:
        entries = self.softlabels.open(self.folder / "store").census.quarantine
        if entries:
            kind = "transient" if all(entry.is_transient for entry in entries) else "permanent"
            return f"{kind} quarantine", f"{entries[0].reason}: {entries[0].detail}"
        if summary.deferred or summary.stopped:
            return "put off", (*summary.deferred, summary.stopped)[0]
        right = self.shards() == next(iter(self.calm_of(self.shards())), None)
        return ("unhurt", "") if right else ("wrong labels", "")

    def calm_of(self, found: dict[str, bytes]) -> list[dict[str, bytes]]:
        return [calm for calm in self.calm.values() if calm.keys() == found.keys()]


def all_faults(bench: Bench) -> list[Fault]:
    """Every errno at the first, the last and three calls between, of every kind that is made at all."""
    faults = []
    moments = [(c, m) for c in FORMATS for m in ("probing", "labelling")] + [("wav", "store")]
    for container, moment in moments:
        names = sorted(STORE_NAMES) if moment == "store" else NAMES.split()
        for kind, count in enumerate(bench.count(container, moment)):
            numbers = sorted({max(1, round(count * share)) for share in (0, 0.25, 0.5, 0.75, 1)}) if count else []
            for nth, name, once in itertools.product(numbers, names, (True, False)):
                faults.append(Fault(container, moment, kind, nth, name, once))
    return faults


def preloaded(folder: Path) -> dict[str, str]:
    """The environment of a process with the C library in front of everything; empty where there is no compiler."""
    library = folder / "mount_errors.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE.with_suffix(".c")), "-ldl"]
    if not shutil.which("cc") or subprocess.run(command, check=False).returncode:
        return {}
    paths = [os.environ.get("PYTHONPATH", str(HERE.parents[2])), str(HERE.parents[1])]
    environment = {**os.environ, "LD_PRELOAD": str(library), LIBRARY: str(library), "XDG_CACHE_HOME": str(folder / "c")}
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def drive(folder: Path, args: argparse.Namespace) -> None:
    """Try the faults from --first on, one line each; a hang ends this process, for it may be one in a decoder."""
    log = open(args.log, "a", buffering=1)  # noqa: SIM115 (as long as the process)
    bench = Bench(folder)
    faults = all_faults(bench)
    drawn = random.Random(args.seed).sample(faults, min(args.injections, len(faults)))
    for fault in drawn[args.first :]:

        def on_alarm(*_signal: object, fault: Fault = fault) -> None:
            log.write(json.dumps([fault.moment, fault.format, str(fault), "hang", ""]) + "\n")
            os._exit(9)

        signal.signal(signal.SIGALRM, on_alarm)
        log.write(json.dumps([fault.moment, fault.format, str(fault), *bench.end(fault)]) + "\n")


def drive_all(folder: Path, arguments: list[str], environment: dict[str, str]) -> list[list[str]]:
    """The ends of all faults: moment, format, fault, end, detail; a new process goes on after a hang or a crash."""
    log, found = folder / "log", []
    log.touch()
    while True:
        command = [sys.executable, str(HERE), *arguments, "--log", str(log), "--first", str(len(found))]
        done = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
        found = [json.loads(line) for line in log.read_text().splitlines()]
        if done.returncode == 0:
            return found
        if done.returncode != 9:
            log.write_text(log.read_text() + json.dumps(["", "", "", "dead process", f"exit {done.returncode}"]) + "\n")
            found.append(["", "", "", "dead process", f"exit {done.returncode}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--injections", type=int, default=1200, help="how many of all faults, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every bad end")
    parser.add_argument("--log", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.log:
            drive(Path(folder), args)
            return 0
        if not (environment := preloaded(Path(folder))):
            print("skipped: there is no C compiler")
            print(json.dumps({"skipped": True}))
            return 0
        print(f"{platform.machine()}, Linux {platform.release()}; Python {platform.python_version()}")
        began = time.monotonic()
        results = drive_all(Path(folder), sys.argv[1:], environment)
    ends: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for moment, container, fault, end, detail in results:
        total[end] += 1
        ends.setdefault(f"{moment} {container}", Counter())[end] += 1
        if args.show and end not in ("put off", "unhurt"):
            print(f"{end}: {fault}: {detail}")
    for where, found in sorted(ends.items()):
        print(f"{where:<18} {dict(found.most_common())}")
    bad = sum(count for end, count in total.items() if end not in ("put off", "unhurt"))
    figures = {"injections": len(results), "bad": bad, "seconds": round(time.monotonic() - began)}
    print(json.dumps({**figures, "ends": dict(total.most_common())}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
