"""Cut the power at any moment of a run, a join or a repair, let the job go on, and look what is there in the end.

    python tests/benchmarks/power_cuts.py [--cuts 50] [--seed 0] [--only N] [--keep FOLDER]

No root, no loop device: each job runs once under strace, which records what it writes, and a model of a file system
tells what a power cut after any of these calls may leave. `--cuts` for each job and each of two models:

ordered  as ext4: names change in the order they were changed, up to some commit of the journal, and every fsync is
         one; a file that was not synced may be empty, cut short, of zeros, or intact
strict   what POSIX promises: a file is what it was at its last fsync, or any mixture of that and what came later; each
         name that was made, moved or deleted since its folder's last fsync may or may not have been

What is left is read first: the true labels, or an error. Then the job is done again, and has to end with the files,
receipts and labels of an undisturbed one. The last line of stdout is one JSON object; exits 1 on a bad end; says so
and exits 0 where strace is absent or may not trace.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pickle
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hostile_readings as readings
import numpy as np
from hostile_stores import copy_tree, in_child
from syscall_faults import WRITES, may_trace

import softlabels

TRACED = (*WRITES, "openat", "open", "creat", "writev", "sendfile", "copy_file_range", "ftruncate", "truncate", "rmdir",
          "fallocate", "lseek", "msync", "mmap", "close")  # fmt: skip
MODELS = ("ordered", "strict")
PATIENCE_S = 60


# What was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that changed something below the root. path, other: relative to it."""

    name: str  # "make", "write", "copy", "size", "sync", "mkdir", "move", "link", "unlink" or "mapped"
    path: str
    other: str = ""
    offset: int = 0  # -1 is the end; of "size", what room was made up to, or -1 - the exact size
    data: bytes = b""


def record(root: Path, arguments: list[str]) -> list[Call]:
    """Run this script's job under strace. Returns: its calls below `root`, in order."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["strace", "-ff", "-ttt", "-y", "-xx", "-s", str(1 << 26), "-qq", "-e", f"trace={','.join(TRACED)}"]
        command += ["-o", f"{folder}/t", sys.executable, "-B", __file__, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{arguments}: the job failed without a cut: {done.stderr[-2000:]}")
        lines = [line for path in Path(folder).iterdir() for line in path.read_text().splitlines()]
    return Parser(root).calls(sorted(lines))


class Parser:
    """strace's lines to calls; follows where each descriptor stands."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.at: dict[str, int] = {}  # descriptor with its path -> offset
        self.append: set[str] = set()

    def calls(self, lines: list[str]) -> list[Call]:
        found = []
        for line in lines:
            match = re.match(r"[\d.]+ (\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)", line)
            if match and not match[3].startswith("-"):
                found += self._call(match[1], match[2], line, match[3])
        return found

    def _call(self, name: str, text: str, line: str, result: str) -> list[Call]:
        texts = [_unhex(each) for each in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', text)]
        files = re.findall(r"(\d+|AT_FDCWD)<([^>]*)>", text)
        handle = self._below(os.fsdecode(_unhex(files[0][1]))) if files else None
        key = "<".join(files[0]) if files else ""
        if name in ("open", "openat", "creat"):
            return self._opened(line, text)
        if name == "lseek":
            self.at[key] = int(result)
        elif name in ("write", "writev") and handle is not None:
            at = -1 if key in self.append else self.at.get(key, 0)
            self.at[key] = self.at.get(key, 0) + int(result)
            return [Call(name="write", path=handle, offset=at, data=b"".join(texts)[: int(result)])]
        elif name == "pwrite64" and handle is not None:
            return [Call(name="write", path=handle, offset=int(text.rsplit(",", 1)[1]), data=texts[0][: int(result)])]
        elif name in ("sendfile", "copy_file_range") and files:
            return self._copied(name, files, int(result))
        elif name in ("ftruncate", "fallocate") and handle is not None:
            numbers = [int(each) for each in re.findall(r", (\d+)", text)]
            return [
                Call(name="size", path=handle, offset=sum(numbers[-2:]) if name == "fallocate" else -1 - numbers[-1])
            ]
        elif name in ("fsync", "fdatasync") and handle is not None:
            return [Call(name="sync", path=handle)]
        elif name == "mmap" and handle is not None and "MAP_SHARED" in text and "PROT_WRITE" in text:
            return [Call(name="mapped", path=handle)]
        return self._named(name, files, texts)

    def _below(self, path: str) -> str | None:
        if path + "/" == self.root:
            return ""
        path = path.removesuffix(" (deleted)")
        return path.removeprefix(self.root) if path.startswith(self.root) else None

    def _opened(self, line: str, text: str) -> list[Call]:
        match = re.search(r"= (\d+)<([^>]*)>$", line)
        if not match:
            return []
        key, path = f"{match[1]}<{match[2]}", self._below(os.fsdecode(_unhex(match[2])))
        self.at[key] = 0
        self.append.discard(key)
        if "O_APPEND" in text:
            self.append.add(key)
        if path is None or not ("O_CREAT" in text or "O_TRUNC" in text):
            return []
        made = [Call(name="make", path=path)] if "O_CREAT" in text else []
        return [*made, *([Call(name="size", path=path, offset=-1)] if "O_TRUNC" in text else [])]

    def _copied(self, name: str, files: list[tuple[str, str]], length: int) -> list[Call]:
        """Of `sendfile(out, in)` and `copy_file_range(in, out)`: the other file's bytes."""
        first, second = files[:2] if name == "sendfile" else files[1::-1]
        target, source = (self._below(os.fsdecode(_unhex(each[1]))) for each in (first, second))
        at = self.at.get("<".join(first), 0)
        self.at["<".join(first)] = at + length
        if target is None or not length:
            return []
        return [Call(name="copy", path=target, other=source or os.fsdecode(_unhex(second[1])), offset=at)]

    def _named(self, name: str, files: list[tuple[str, str]], texts: list[bytes]) -> list[Call]:
        """Calls that change names; `...at` calls have a folder before each."""
        folders = [os.fsdecode(_unhex(path)) for _, path in files]
        paths = []
        for i, text in enumerate(texts):
            folder = folders[i] if i < len(folders) else os.getcwd()
            paths.append(self._below(os.path.normpath(os.path.join(folder, os.fsdecode(text)))))
        if not paths or None in paths:
            return []
        kind = name.removesuffix("2").removesuffix("at")
        if kind in ("rename", "link"):
            return [Call(name="move" if kind == "rename" else "link", path=str(paths[0]), other=str(paths[1]))]
        if kind in ("mkdir", "unlink", "rmdir"):
            return [Call(name="mkdir" if kind == "mkdir" else "unlink", path=str(paths[0]))]
        if name == "truncate":
            return []  # nobody calls it by name
        return []


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") or not text else text.encode()


# The model


@dataclass(slots=True)
class File:
    """What a file holds now, and what of it was synced; a folder has neither."""

    folder: bool = False
    now: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None
    mapped: bool = False


class Disk:
    """Names and files as a running system sees them, and what has reached the disk."""

    def __init__(self, root: Path, done: Path) -> None:
        self.done = done  # what the job leaves, for what is written through a mapping
        self.names: dict[str, File] = {"": File(folder=True)}
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            data = b"" if path.is_dir() else path.read_bytes()
            self.names[name] = File(folder=path.is_dir(), now=bytearray(data), synced=data)
        self.pending: list[tuple[Call, File]] = []  # changes of names that no fsync has made sure of
        self.durable = dict(self.names)

    def apply(self, call: Call) -> None:
        getattr(self, f"_{call.name}")(call)

    def _make(self, call: Call) -> None:
        if call.path not in self.names:
            self._change(call, File())

    def _mkdir(self, call: Call) -> None:
        if call.path not in self.names:
            self._change(call, File(folder=True))

    def _move(self, call: Call) -> None:
        if call.path in self.names:
            self._change(call, self.names[call.path])

    _link = _move

    def _unlink(self, call: Call) -> None:
        if call.path in self.names:
            self._change(call, self.names[call.path])

    def _change(self, call: Call, file: File) -> None:
        rename(self.names, call, file)
        self.pending.append((call, file))

    def _write(self, call: Call) -> None:
        file = self.names.get(call.path)
        if file is None:
            return
        at = len(file.now) if call.offset < 0 else call.offset
        file.now.extend(bytes(max(0, at + len(call.data) - len(file.now))))
        file.now[at : at + len(call.data)] = call.data

    def _copy(self, call: Call) -> None:
        source = self.names.get(call.other)
        data = bytes(source.now) if source else Path(call.other).read_bytes() if os.path.isfile(call.other) else b""
        self._write(dataclasses.replace(call, name="write", data=data))

    def _size(self, call: Call) -> None:
        file = self.names.get(call.path)
        if file is None:
            return
        if call.offset < 0:  # exactly so long
            length = -1 - call.offset
            del file.now[length:]
            file.now.extend(bytes(length - len(file.now)))
        else:
            file.now.extend(bytes(max(0, call.offset - len(file.now))))

    def _mapped(self, call: Call) -> None:
        if file := self.names.get(call.path):
            file.mapped = True

    def _sync(self, call: Call) -> None:
        """Strictly: a file's bytes, or the names in a folder. Ordered: the journal too; see `cut`."""
        file = self.names.get(call.path)
        if file is None:
            return
        if file.folder:
            rest = []
            for change, changed in self.pending:
                if call.path in {parent(change.path), parent(change.other or change.path)}:
                    rename(self.durable, change, changed)
                else:
                    rest.append((change, changed))
            self.pending = rest
        else:
            if file.mapped:
                file.now = self._through_mapping(file.now)
            file.synced = bytes(file.now)

    def _through_mapping(self, now: bytearray) -> bytearray:
        """What was written through a mapping, which no call tells: as it is when the job is done."""
        for path in self.done.rglob("*.npy"):
            if path.stat().st_size == len(now) and path.read_bytes()[:64] == now[:64]:
                return bytearray(path.read_bytes())
        return now

    def cut(self, model: str, rng: random.Random, committed: int) -> dict[str, bytes | None]:
        """What may be left: name -> bytes, None for a folder. committed: changes of names that the journal has."""
        names = dict(self.durable)
        if model == "strict":
            share = rng.choice([0.5, 0.9, 1.0])
            kept = [change for change in self.pending if rng.random() < share]
        else:
            last = len(self.pending)  # the journal is written every five seconds, data may take half a minute
            kept = self.pending[: last if rng.random() < 0.5 else rng.randint(committed, last)]
        for change, file in kept:
            rename(names, change, file)
        flushed = rng.choice([0.0, 0.5, 0.8, 0.9, 1.0])  # share of the unsynced files that the system had time to write
        left: dict[str, bytes | None] = {}
        contents: dict[int, bytes] = {}  # a file with two names has the same bytes under both
        for name in sorted(names):
            if name and (parent(name) in left or not parent(name)):
                file = names[name]
                if not file.folder and id(file) not in contents:
                    contents[id(file)] = bytes(file.now) if rng.random() < flushed else left_of(file, model, rng)
                left[name] = None if file.folder else contents[id(file)]
        return left


def rename(names: dict[str, File], call: Call, file: File) -> None:
    """Change names as a call does, as far as what it needs is there."""
    if call.name in ("make", "mkdir"):
        names.setdefault(call.path, file)
    elif call.name == "unlink":
        if names.get(call.path) is file:
            for name in [call.path, *(each for each in names if each.startswith(f"{call.path}/"))]:
                names.pop(name, None)
    elif call.name == "link":
        names.setdefault(call.other, file)
    elif names.get(call.path) is file:
        for name in [each for each in names if each == call.path or each.startswith(f"{call.path}/")]:
            names[call.other + name.removeprefix(call.path)] = names.pop(name)
    elif not file.folder:
        names[call.other] = file  # its first name was never on the disk


def parent(path: str) -> str:
    return os.path.dirname(path)


def left_of(file: File, model: str, rng: random.Random) -> bytes:
    """What a power cut may leave of a file's bytes."""
    now, synced = bytes(file.now), file.synced
    if synced == now:
        return now
    old = synced or b""
    zeros = old[: len(now)] + bytes(max(0, len(now) - len(old)))
    cut = rng.randint(0, len(now))
    options = [old, now, zeros, now[:cut], now[:cut] + zeros[cut:], b"" if synced is None else old]
    if model == "strict":  # pages may be written in any order
        page = rng.randint(0, max(0, len(now) - 1)) // 512 * 512
        options.append(zeros[:page] + now[page : page + 512] + zeros[page + 512 :])
    return rng.choice(options)


def lay_out(left: dict[str, bytes | None], root: Path) -> None:
    for name, data in left.items():
        path = root / name
        path.mkdir() if data is None else path.write_bytes(data)


# The jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is disturbed. prepare: the state before; act: the job itself, which may be done again.

    large: arrays of any size count as large ones, which are not held against their digest whenever they are opened.
    """

    name: str
    layout: str
    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    large: bool = False


def _run(which: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        layout = (root / "layout").read_text()
        teacher, labelling = readings.LAYOUTS[layout]
        if layout == "sparse":
            labelling = {**labelling, "keep_classes": root / "corpus" / "few.txt"}
        readings.label(root / "corpus" / which, root / "disk" / "store", teacher, labelling)

    return act


def _join(root: Path) -> None:
    logging.disable(logging.WARNING)  # a damaged join is built again, and says so
    softlabels.open(root / "disk" / "store").join(root / "corpus" / "data_manifest.csv")


def _save(root: Path) -> None:
    """A user who finds a folder that is no join deletes it, and saves again."""
    saved = root / "disk" / "saved"
    with contextlib.suppress(softlabels.JoinError):
        if len(softlabels.load_labels(saved)):
            return
    if saved.exists():
        shutil.rmtree(saved)
    softlabels.open(root / "disk" / "store").join(root / "corpus" / "data_manifest.csv").exclusive().save(saved)


def _regenerate(root: Path) -> None:
    with contextlib.redirect_stdout(readings.Heard()):
        teacher, _ = readings.LAYOUTS[(root / "layout").read_text()]
        flags = ["--root", str(root / "corpus"), "--teacher", teacher, "--jobs", "1"]  # the run may have been another's
        readings.main(["regenerate", str(root / "disk" / "store"), "--shard", "0", *flags])


def _damage(root: Path) -> None:
    path = min((root / "disk" / "store" / "shards").iterdir())
    path.write_bytes(path.read_bytes()[:-1])


def _unjoined(root: Path) -> None:
    shutil.rmtree(root / "disk" / "store" / "joins", ignore_errors=True)
    shutil.rmtree(root / "disk" / "saved", ignore_errors=True)


def _nothing(root: Path) -> None:
    shutil.rmtree(root / "disk" / "store")
    shutil.rmtree(root / "disk" / "saved")


def _one_missing(root: Path) -> None:
    """A store without the windows of a clip that is back now: its shard gets a second generation."""
    _nothing(root)
    clip = root / "corpus" / "c1.wav"
    clip.rename(root / "c1.wav")
    _run("data_manifest.csv")(root)
    (root / "c1.wav").rename(clip)


def _count_as_large() -> None:
    from softlabels.labels import saved

    if hasattr(saved, "SMALL"):
        saved.SMALL = 0


JOBS = (
    Job(name="run", layout="dense", prepare=_nothing, act=_run("data_manifest.csv")),
    Job(name="run with components", layout="sparse", prepare=_nothing, act=_run("data_manifest.csv")),
    Job(name="run that extends", layout="sparse", prepare=_unjoined, act=_run("grown.csv")),
    Job(name="run that mends", layout="dense", prepare=_one_missing, act=_run("data_manifest.csv")),
    Job(name="join", layout="dense", prepare=_unjoined, act=_join),
    Job(name="join of large arrays", layout="sparse", prepare=_unjoined, act=_join, large=True),
    Job(name="save", layout="sparse", prepare=lambda root: shutil.rmtree(root / "disk" / "saved"), act=_save),
    Job(name="regenerate", layout="dense", prepare=_damage, act=_regenerate),
)


def make(root: Path, layout: str) -> None:
    """The world of the hostile stores, its store and saved join on the disk that loses power."""
    readings.make_world(root, layout)
    (root / "layout").write_text(layout)
    (root / "disk").mkdir()
    for name in ("store", "saved"):
        (root / name).rename(root / "disk" / name)


def labels_of(root: Path) -> dict[str, Any]:
    """Everything that can be read: the files that count, byte by byte, and the labels of the joins there are."""
    store = root / "disk" / "store"
    found: dict[str, Any] = {}
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if path.name.startswith(".tmp-"):  # what a cut left behind is swept a day later
            continue
        if path.is_file() and name.split("/")[0] in (
            "plan",
            "shards",
            "receipts",
            "components",
            "classes.txt",
            "store.json",
        ):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif name.startswith("_SUCCESS"):
            found[name] = path.read_bytes()
    if (store / "joins").is_dir() and list((store / "joins").glob("join-*")):
        labels = softlabels.open(store).join(root / "corpus" / "data_manifest.csv")
        found["join"] = _digest_of(labels)
    if (root / "disk" / "saved").exists():
        found["saved"] = _digest_of(softlabels.load_labels(root / "disk" / "saved"))
    return found


def _digest_of(labels: softlabels.JoinedLabels) -> str:
    keys = labels.keys.to_csv().encode()
    return hashlib.sha256(keys + labels.y_true().tobytes()).hexdigest()


def truth_of(root: Path) -> dict[str, Any]:
    """What there is to read: the rows of the store, and of the saved join."""
    found = {"rows": readings.rows_of(softlabels.open(root / "disk" / "store"))}
    return found | ({"saved": saved_of(root)} if (root / "disk" / "saved").exists() else {})


def read_now(root: Path, truth: dict[str, Any]) -> str:
    """What a reader sees right after the power is back: the true labels, or an error."""
    world = readings.World(root / "disk", "", truth)
    for what, read in (
        ("rows", lambda: readings.rows_of(softlabels.open(world.store))),
        ("saved", lambda: saved_of(root)),
    ):
        try:
            found = read()
        except Exception as e:
            if not readings.named(e):
                return f"unnamed {type(e).__name__}: {e}"
            continue
        if wrong := readings.other_labels(found, truth[what], world):
            return wrong
    return ""


def saved_of(root: Path) -> dict[tuple[str, int], readings.Row]:
    labels = softlabels.load_labels(root / "disk" / "saved")
    keys, y_true, n = labels.keys, labels.y_true(), len(labels.classes)
    names = zip(keys["clip_id"], keys["window_index"], strict=True)
    return {(str(c), int(w)): {"hard": y[:n], "soft": y[n:]} for (c, w), y in zip(names, y_true, strict=True)}


class Storm:
    """One job, recorded once and cut many times."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.root, self.before = job, folder / "world", folder / "before"
        self._in_child(lambda: make(self.root, job.layout))
        self._in_child(lambda: job.prepare(self.root))
        copy_tree(self.root / "disk", self.before)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        self.calls = record(self.root / "disk", ["--drive", job.name, str(self.root)])
        self.done = folder / "done"
        copy_tree(self.root / "disk", self.done)
        self.truth = self._in_child(lambda: truth_of(self.root))
        self.expected = self._in_child(lambda: labels_of(self.root))

    def _in_child(self, work: Callable[[], Any]) -> Any:
        """What some work gives, in a process of its own: this one stays without threads, so that it can fork."""
        result = self.root.with_name("result")

        def run(send: Callable[[dict[str, Any]], None]) -> None:
            os.setsid()
            if self.job.large:
                _count_as_large()
            try:
                result.write_bytes(pickle.dumps(work()))
            except BaseException as e:
                send({"failed": f"{type(e).__name__}: {str(e)[:300]}"})
                raise

        told = list(in_child(run, PATIENCE_S))
        if told != [{"end": 0}]:
            raise RuntimeError("; ".join(str(value) for each in told for value in each.values()))
        return pickle.loads(result.read_bytes())

    def cut(self, number: int, model: str, seed: int) -> str:
        """One power cut, and the job again. Returns: what is bad, or ""."""
        rng = random.Random(f"{seed} {self.job.name} {model} {number}")
        disk, last = Disk(self.before, self.done), len(self.calls)
        at = (
            last if rng.random() < 0.3 else rng.randint(0, last)
        )  # what is not synced stays in memory for half a minute
        committed = 0
        for call in self.calls[:at]:
            disk.apply(call)
            committed = len(disk.pending) if call.name == "sync" else min(committed, len(disk.pending))
        left = disk.cut(model, rng, committed)
        shutil.rmtree(self.root / "disk")
        (self.root / "disk").mkdir()
        lay_out(left, self.root / "disk")
        where = f"after call {at} of {len(self.calls)}"
        try:
            if wrong := self._in_child(lambda: read_now(self.root, self.truth)):
                return f"{where}: read before the repair: {wrong}"
            self._in_child(lambda: self.job.act(self.root))
            found = self._in_child(lambda: labels_of(self.root))
        except RuntimeError as e:
            return f"{where}: {e}"
        other = sorted(
            name for name in found.keys() | self.expected.keys() if found.get(name) != self.expected.get(name)
        )
        return f"{where}: {other[:4]} are not those of an undisturbed job" if other else ""


def drive(name: str, root: Path) -> None:
    job = next(job for job in JOBS if job.name == name)
    if job.large:
        _count_as_large()
    job.act(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=50, help="for each job and model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this cut of each job and model")
    parser.add_argument("--jobs", default="", help="only jobs with this text in their name")
    parser.add_argument("--keep", type=Path, help="a folder for the last state, which stays")
    parser.add_argument("--drive", nargs=2, metavar=("JOB", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        drive(args.drive[0], Path(args.drive[1]))
        return 0
    if not may_trace():
        print("skipped: strace is absent or may not trace here")
        print(json.dumps({"skipped": True}))
        return 0
    print(
        f"{platform.machine()}, Linux {platform.release()}; Python {platform.python_version()}; numpy {np.__version__}"
    )
    figures: dict[str, Any] = {}
    for job in JOBS:
        if args.jobs not in job.name:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = (args.keep or Path(temporary)).resolve() / job.name.replace(" ", "-")
            folder.mkdir(parents=True)
            storm = Storm(job, folder)
            for model in MODELS:
                numbers = [args.only] if args.only is not None else range(args.cuts)
                bad = [(n, wrong) for n in numbers if (wrong := storm.cut(n, model, args.seed))]
                figures[f"{job.name}, {model}"] = {"cuts": len(list(numbers)), "bad": len(bad)}
                syncs = Counter(call.name for call in storm.calls)
                print(
                    f"{job.name:<22}{model:<10}{len(list(numbers)):>5} cuts, bad {len(bad)}  {dict(syncs)}", flush=True
                )
                for number, wrong in bad[:10]:
                    print(f"  --jobs '{job.name}' --only {number}: {wrong}")
    print(json.dumps(figures))
    return 1 if any(one["bad"] for one in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
