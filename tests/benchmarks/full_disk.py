"""A disk that is full at every phase: nothing dies, one sentence says what to do, and what was there stays.

Each phase is tried with 0, 1, 2, 3, 4, 6, 8, 12, ... free pages of 4 kB on a small tmpfs until it succeeds. Bad are: a
signal, another exit code than 3, more or less than one line that says to make room, an older file that changed, an
unfinished file that stays, and a second try with room that does not exit 0 (or 1, where the first one does so).

Linux, as root or as anybody (`unshare -rm` gives a mount of one's own):

    python tests/benchmarks/full_disk.py [PHASE ...]
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
import softlabels  # noqa: E402
from pipeline.cli.commands import main  # noqa: E402
from softlabels.errors import SoftLabelsError  # noqa: E402

PAGE, MEGABYTES = 4096, 24
STAND_IN = ["--teacher", "standin:teacher", "--backend", "sequential", "--shard-windows", "16"]
Command = list[str] | Callable[[], object]


def join() -> None:
    softlabels.open("store").join("data_manifest.csv")


def save() -> None:
    softlabels.open("store").join("data_manifest.csv", cache_dir="kept").save("saved")


PHASES: dict[str, Command] = {
    "manifest": ["manifest", "recordings", "-o", "m.csv"],
    "run": ["run", "-o", "new", *STAND_IN],
    "run, a store that grows": ["run", "-o", "store", "longer.csv", *STAND_IN],
    "run --finish": ["run", "-o", "open", "--finish"],
    "join": join,
    "save": save,
    "report": ["report", "store", "--suspects", "suspects.csv"],
    "classes": ["classes", "mine.txt", "--against", "store", "-o", "mapping.csv"],
    "export birdnet-stm32": ["export", "store", "--to", "birdnet-stm32", "-o", "cache"],
    "export detections, CSV": ["export", "store", "--to", "detections", "-o", "detections.csv"],
    "export detections, Parquet": ["export", "store", "--to", "detections", "-o", "detections.parquet"],
    "export hf": ["export", "store", "--to", "hf", "-o", "dataset"],
}
FINE = {"classes": (0, 1)}  # exit codes of success, else 0
MOST_PAGES = 2000  # of 4 kB; a phase that has more room than this and fails has another fault


def build(folder: Path) -> None:
    """What every phase starts from: recordings, manifests, a store, an open store, older outputs."""
    random = np.random.default_rng(0)
    (folder / "recordings").mkdir(parents=True)
    lines = ["clip_id,path,label"]
    for i in range(120):
        name = f"recordings/{i:03}_{'long' * 20}.wav"
        soundfile.write(folder / name, random.uniform(-0.4, 0.4, 1600), 8000)
        lines.append(f"{i:03},{name},{('Aus aus_Alpha', 'Bus bus_Beta', '')[i % 3]}")
    (folder / "longer.csv").write_text("\n".join(lines) + "\n")
    (folder / "data_manifest.csv").write_text("\n".join(lines[:81]) + "\n")
    (folder / "mine.txt").write_text("".join(f"Xus xus_{i}\n" for i in range(300)) + "Aus aus_Alpha\n")
    (folder / "report.html").write_text("older page")
    (folder / "suspects.csv").write_text("older table")
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for store in ("store", "open"):
        if main(["run", "-o", store, *STAND_IN]):
            sys.exit(f"'{store}' could not be made")
    (folder / "open" / "_SUCCESS-0001.json").unlink()
    (folder / "open" / "quarantine.csv").unlink()


def in_a_child(folder: Path, command: Command, log: Path) -> int:
    """The wait status of a command in a process of its own, in a folder; what it prints is in `log`."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.chdir(folder)
    with log.open("w") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        code = main(command) if isinstance(command, list) else (command() or 0)
    except SoftLabelsError as e:
        print(f"python: {e}", file=sys.stderr)
        code = 3
    sys.stderr.flush()
    os._exit(code)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "recordings" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def fill(disk: Path, pages: int) -> None:
    """Leave so many free pages."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    os.truncate(disk / "ballast", max(0, (disk / "ballast").stat().st_size - pages * PAGE))


def wrong_with(status: int, log: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    told = [line for line in log.replace("\r", "\n").splitlines() if "make room" in line]
    kept = {name: digest for name, digest in before.items() if not name.endswith(("run.json", ".jsonl"))}
    wrong = []
    if os.WIFSIGNALED(status):
        wrong.append(f"signal {os.WTERMSIG(status)}")
    elif os.WEXITSTATUS(status) != 3:
        wrong.append(f"exit code {os.WEXITSTATUS(status)}")
    if len(told) != 1:
        wrong.append(f"{len(told)} sentences: {log[-300:]!r}")
    if any(after.get(name) != digest for name, digest in kept.items()):
        wrong.append(f"changed: {[name for name in kept if after.get(name) != kept[name]]}")
    if any(".tmp-" in name for name in after):
        wrong.append("unfinished files stay")
    return wrong


def try_phase(name: str, template: Path, disk: Path, log: Path) -> tuple[int, int]:
    """How often a phase met a full disk, and how often that was bad."""
    tried, bad, pages = 0, 0, 0
    fine = FINE.get(name, (0,))
    while True:
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        folder = disk / "work"
        shutil.copytree(template, folder)
        before = digests(folder)
        fill(disk, pages)
        status = in_a_child(folder, PHASES[name], log)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) in fine:
            return tried, bad
        if pages > MOST_PAGES:
            print(f"  BAD  {name} never succeeds: {log.read_text()[-300:]!r}", flush=True)
            return tried, bad + 1
        wrong = wrong_with(status, log.read_text(), before, digests(folder))
        (disk / "ballast").unlink()
        again = in_a_child(folder, PHASES[name], log)
        if not (os.WIFEXITED(again) and os.WEXITSTATUS(again) in fine):
            wrong.append(f"the second try: {again}: {log.read_text()[-300:]!r}")
        if wrong:
            print(f"  BAD  {name}, {pages} pages free: {'; '.join(wrong)}", flush=True)
        tried, bad = tried + 1, bad + bool(wrong)
        pages += max(1, pages // 3)


def try_all() -> int:
    with tempfile.TemporaryDirectory() as made:
        template, disk, log = Path(made, "template"), Path(made, "disk"), Path(made, "log")
        os.environ["XDG_CACHE_HOME"] = str(Path(made, "cache"))
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", disk], check=True)
        try:
            child = os.fork()
            if not child:
                build(template)
                os._exit(0)
            os.waitpid(child, 0)
            found = {}
            for name in sys.argv[2:] or PHASES:
                found[name] = try_phase(name, template, disk, log)
                print(f"{name:<28}{found[name][0]:>4} full disks{found[name][1]:>4} bad", flush=True)
        finally:
            os.chdir("/")
            subprocess.run(["umount", disk], check=False)
    tried, bad = (sum(counts) for counts in zip(*found.values(), strict=True))
    print(f"{len(found)} phases, {tried} full disks, {bad} bad")
    return int(bool(bad))


if __name__ == "__main__":
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "-rm", sys.executable, __file__, "--inside", *sys.argv[1:]])
    sys.exit(try_all())
