"""Read hostile stores in every public way, and count what should not come of it.

    python tests/benchmarks/hostile_stores.py [--stores 2000] [--seed 0] [--only N ...] [--patience 25] [--keep FOLDER]
                                              [--match TEXT] [--readings TEXT]

Each mutant is an intact store of the stand-in teacher (dense, or sparse with components; embeddings, two plans, a
quarantined window, a kept join and a saved one) with one change: a field of a file, the file, or a folder; its type,
range, length, path, a link, a device, missing or copied; with the digests of everything that names it recomputed, or
not. It is read by a child process with limits, once in a home with the cache of the run and once in an empty one: open,
read, take, to_pandas, per_clip, joins kept and new, saved joins, recommended, and every command.

good    the true labels, or an error that says what is wrong: one of softlabels' own, or exit code 1, 2 or 3
weak    exit code 2 or a ValueError with a text from a library: refused, but nobody is told which file to mend
bad     code that the store named was run; a file outside store, cache and output was touched; the network was asked;
        a signal, a hang, more than 1 GB; an unnamed exception; other labels than the true ones without a word. Labels
        may be others only where the digest of what was changed is recorded in another file and was recomputed there,
        and nothing else bears witness (probabilities for a shard, the sound for a plan, names for `classes.txt`).

No change names a path outside the temporary folder, and Python's writes and deletions outside it are refused: a child
that is talked into deleting does it to canaries. Run it as a user that may not do much all the same.

`--only N` shows all readings of one mutant; `--keep FOLDER` leaves its store there. The last line of stdout is one
JSON object; exits 1 if anything was bad. Linux only.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import pickle
import platform
import re
import resource
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PREPARED = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
if __name__ == "__main__" and any(os.environ.get(name) != value for name, value in PREPARED.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **PREPARED})  # known to libraries at start

import hostile_changes as changes  # noqa: E402
import hostile_places as places  # noqa: E402
import hostile_readings as readings  # noqa: E402
import pyarrow as pa  # noqa: E402
from hostile_readings import World  # noqa: E402

GB = 1 << 30
DOOR = socket.create_server(("127.0.0.1", 0))  # the bucket that a store may name: who knocks has asked the network
DOOR.setblocking(False)
MOST_MEMORY = 1 * GB
BAD = ("foreign code", "touched", "network", "signal", "hang", "memory", "unnamed", "silent")
NEVER_LOADED = ("tensorflow", "keras", "jax", "torch", "obstore")  # they start threads, which no fork survives


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one reading of one mutant."""

    reading: str
    verdict: str  # "good", "weak" or one of BAD
    detail: str = ""


# The child


class Watch:
    """What a child does besides reading: an audit hook's notes. Nothing outside the world is written or deleted."""

    def __init__(self, world: World, note: Callable[[str, str], None]) -> None:
        self.note, self.root = note, world.root
        inside = ("store", "home", "tmp", "out", "marks")
        self.inside = (*(f"{world.root / name}/" for name in inside), "/dev/null", "/dev/shm/", "/proc/self/")
        self.busy = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            self._look(event, arguments)
        finally:
            self.busy = False

    def _look(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                self._written(event, path, -1)
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.truncate", "os.utime"):
            self._written(event, arguments[0], arguments[-1] if isinstance(arguments[-1], int) else -1)
        elif event in ("os.rename", "os.link"):
            self._written(event, arguments[0], arguments[2])
            self._written(event, arguments[1], arguments[3])
        elif event == "os.symlink":
            self._written(event, arguments[1], arguments[2])
        elif event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"):
            program = str(arguments[0])
            if program not in (sys.executable, "None", "fc-list"):  # which Matplotlib asks for its fonts
                self.note("foreign code", f"{event} {str(arguments)[:120]}")
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            self.note("network", f"{event} {str(arguments[-2:])[:120]}")

    def _written(self, event: str, path: Any, folder: int) -> None:
        """A path is about to be written; by its folder, for the last part may be a link that is replaced."""
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if folder >= 0 and not os.path.isabs(name):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        head, tail = os.path.split(os.path.abspath(name))
        real = os.path.realpath(name) if event == "open" else os.path.join(os.path.realpath(head), tail)
        if not f"{real}/".startswith(self.inside) and not real.startswith(
            ("/dev/pts", "/dev/tty", "/dev/zero", "/dev/full")
        ):
            self.note("touched", f"{event} {real}")
            if not real.startswith(f"{self.root}/"):  # a canary may die of it, this machine may not
                raise PermissionError(f"outside the world of the attack: {real}")


def knocked() -> bool:
    """Whether somebody has asked the bucket since the last time."""
    found = False
    with contextlib.suppress(BlockingIOError):
        while True:
            DOOR.accept()[0].close()
            found = True
    return found


def surroundings(world: World) -> dict[str, tuple]:
    """What must stay as it is: state of every file in canary, corpus and the other store."""
    found = {}
    for top in ("canary", "corpus", "grown"):
        for folder, folders, files in os.walk(world.root / top):
            for name in [*folders, *files]:
                state = os.lstat(f"{folder}/{name}")
                seen = (state.st_ino, state.st_mode, state.st_nlink, state.st_size, state.st_mtime_ns)
                found[f"{folder}/{name}"] = seen[:2] if stat.S_ISDIR(state.st_mode) else seen
    return found


def child(world: World, names: list[str], mutant: Path, stranger: bool, send: Callable[[dict[str, Any]], None]) -> None:
    """Do some readings, one after the other, and tell what comes of each."""
    _confine(world)
    before, notes = surroundings(world), []
    watch = Watch(world, lambda *note: notes.append(note))
    watch.busy = True
    sys.addaudithook(watch)
    writers = {reading.__name__ for reading in readings.WRITERS}
    for name in names:
        send({"at": name})
        if name in writers:
            restore(mutant, world)
        factories = (
            _marking_factories(world) if stranger and name in readings.BY_STRANGERS else contextlib.nullcontext()
        )
        notes.clear()
        with factories:
            verdict, detail, used = _judged(getattr(readings, name), world, watch)
        after = surroundings(world)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        if marks := os.listdir(world.root / "marks"):
            notes.insert(0, ("foreign code", f"left {marks}"))
            shutil.rmtree(world.root / "marks")
            (world.root / "marks").mkdir()
        if changed:
            notes.append(("touched", changed[0]))
            before = after
        if knocked():
            notes.append(("network", "asked a bucket that only the store has named"))
        if used > MOST_MEMORY:
            notes.append(("memory", f"{used / GB:.1f} GB"))
        if notes and verdict in ("good", "weak"):
            verdict, detail = min(notes, key=lambda note: BAD.index(note[0]))
        send({"done": name, "verdict": verdict, "detail": detail[:600]})


def _confine(world: World) -> None:
    os.setsid()
    os.chdir(world.root / "work")
    os.environ |= {"HOME": str(world.root / "home"), "XDG_CACHE_HOME": str(world.root / "home" / ".cache")}
    os.environ |= {
        "TMPDIR": str(world.root / "tmp"),
        "MPLCONFIGDIR": str(world.root / "home"),
        "JOBLIB_MULTIPROCESSING": "0",
    }
    endpoint = f"http://127.0.0.1:{DOOR.getsockname()[1]}"
    os.environ |= {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "1", "AWS_REGION": "x"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    tempfile.tempdir = None
    null, log = (
        os.open(os.devnull, os.O_RDWR),
        os.open(world.root / "out" / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    )
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    address_space = pages * resource.getpagesize() + 2 * GB
    limits = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, address_space), (resource.RLIMIT_FSIZE, 4 * GB))
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))


@contextlib.contextmanager
def _marking_factories(world: World) -> Iterator[None]:
    """The teachers' factories leave a mark: nobody but the store has named them."""
    factories = {name: getattr(readings.standin, name) for name in ("teacher", "wide")}

    def marking(factory: Callable[[], Any]) -> Any:
        (world.root / "marks" / "factory").touch()
        return factory()

    for name, factory in factories.items():
        setattr(readings.standin, name, partial(marking, factory))
    try:
        yield
    finally:
        for name, factory in factories.items():
            setattr(readings.standin, name, factory)


def _judged(reading: Callable[[World], str], world: World, watch: Watch) -> tuple[str, str, int]:
    """verdict, detail, bytes of memory at most."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    base = _status("VmRSS")
    watch.busy = False
    verdict, detail = verdict_of(reading, world)
    watch.busy = True
    return verdict, detail, _status("VmHWM") - base


def verdict_of(reading: Callable[[World], str], world: World) -> tuple[str, str]:
    """What a reading gives, or how it ends."""
    try:
        wrong = reading(world)
    except readings.Weak as e:
        return "weak", str(e)
    except readings.Unnamed as e:
        return "unnamed", str(e)
    except MemoryError as e:
        return "memory", f"MemoryError {e} {_where(e)}"
    except BaseException as e:
        if readings.named(e):
            return "good", f"{type(e).__name__}: {e}"
        verdict = "weak" if isinstance(e, ValueError) else "unnamed"
        return verdict, f"{type(e).__name__}: {str(e)[:200]} {_where(e)}"
    return ("silent", wrong) if wrong else ("good", "")


def _status(name: str) -> int:
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def _where(error: BaseException) -> str:
    """The last line of ours that an exception came through."""
    last, at = error.__traceback__, ""
    while last is not None:
        path = last.tb_frame.f_code.co_filename
        if path.startswith(readings.OURS):
            at = f"({path.removeprefix(f'{readings.REPOSITORY}/')}:{last.tb_lineno})"
        last = last.tb_next
    return at


# The parent


def in_child(work: Callable[[Callable[[dict[str, Any]], None]], None], patience_s: float) -> Iterator[dict[str, Any]]:
    """What a forked child tells, then how it ended; it is killed if it tells nothing for so long."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(here)
        code = 1
        try:
            work(lambda message: _write(there, json.dumps(message).encode() + b"\n"))
            code = 0
        finally:
            os._exit(code)
    os.close(there)
    rest = b""
    try:
        while select.select([here], [], [], patience_s)[0] and (data := os.read(here, 1 << 16)):
            *lines, rest = (rest + data).split(b"\n")
            yield from map(json.loads, lines)
        ended, status = os.waitpid(pid, os.WNOHANG)
        deadline = time.monotonic() + 2
        while not ended and time.monotonic() < deadline and not select.select([here], [], [], 0.01)[0]:
            ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended and select.select([here], [], [], 0)[0]:  # end of file: it is about to end
            ended, status = os.waitpid(pid, 0)
        yield {
            "end": "hang" if not ended else f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else status >> 8
        }
    finally:
        os.close(here)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def copy_tree(source: Path, target: Path) -> None:
    """Everything as it is, links and FIFOs too, with its times."""
    state = os.lstat(source)
    if stat.S_ISLNK(state.st_mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(state.st_mode):
        target.mkdir(exist_ok=True)
        for entry in os.scandir(source):
            copy_tree(Path(entry.path), target / entry.name)
    elif stat.S_ISFIFO(state.st_mode):
        os.mkfifo(target)
    elif stat.S_ISREG(state.st_mode):
        if state.st_blocks * 512 < state.st_size // 2:  # sparse
            with target.open("wb") as file:
                file.write(source.read_bytes() if state.st_size < GB else b"PAR1")
                file.truncate(state.st_size)
        else:
            shutil.copyfile(source, target)
    os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))


def clear(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def restore(source: Path, world: World) -> None:
    """Store and saved join of a world as they are in `source`."""
    for name in ("store", "saved"):
        clear(world.root / name)
        if os.path.lexists(source / name):
            copy_tree(source / name, world.root / name)


class Attack:
    """The worlds, and mutants made in them one at a time."""

    def __init__(self, folder: Path, patience_s: float, seed: int) -> None:
        self.folder, self.patience_s, self.seed = folder, patience_s, seed
        self.worlds: dict[str, World] = {}
        self.names = [reading.__name__ for reading in readings.READINGS]
        for layout in readings.LAYOUTS:
            self._make(layout)
        self.places = {layout: places.places(folder / f"intact-{layout}") for layout in self.worlds}

    def _make(self, layout: str) -> None:
        root, kept = self.folder / layout, self.folder / f"intact-{layout}"
        truth_file = self.folder / f"{layout}.truth"

        def make(send: Callable[[dict[str, Any]], None]) -> None:
            os.environ["XDG_CACHE_HOME"] = str(root / "home" / ".cache")
            try:
                truth_file.write_bytes(pickle.dumps(readings.make_world(root, layout)))
            except BaseException as e:
                send({"failed": f"{type(e).__name__}: {e}"})
                raise

        told = list(in_child(make, 120))
        if told != [{"end": 0}]:
            raise SystemExit(f"the intact store cannot be made: {told}")
        kept.mkdir()
        for name in ("store", "saved", "canary", "home"):
            copy_tree(root / name, kept / name)
        self.worlds[layout] = World(root, layout, pickle.loads(truth_file.read_bytes()))

    def warm_up(self) -> None:
        """Read the intact stores, which has to be good, and import what that took, so that children need not."""
        modules: set[str] = set()
        for layout, world in self.worlds.items():
            self._reset(world)
            found = self._readings(world, self.names, self.folder / f"intact-{layout}", False, modules)
            for outcome in found:
                if outcome.verdict != "good" or outcome.detail:
                    if "unrecognized arguments" in outcome.detail or outcome.reading not in self.names:
                        continue
                    print(f"intact {layout} store: {outcome.reading}: {outcome.verdict} {outcome.detail}", flush=True)
        for name in sorted(modules):
            if name.split(".")[0] not in NEVER_LOADED and name not in sys.modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        gc.collect()
        gc.freeze()  # what is here already is not looked at again by every child, which would copy it

    def drop_unknown(self) -> None:
        """Leave out the readings whose flags this version does not have."""
        helps = {name: self._help(name) for name in ("verify", "regenerate")}
        flags = {
            "cli_verify_untrusted": ("verify", "--untrusted"),
            "cli_recompute_with_teacher": ("verify", "--teacher"),
            "cli_regenerate_with_teacher": ("regenerate", "--teacher"),
        }
        for name, (command, flag) in flags.items():
            if flag not in helps[command]:
                self.names.remove(name)

    def _help(self, command: str) -> str:
        def show(send: Callable[[dict[str, Any]], None]) -> None:
            with contextlib.redirect_stdout(readings.Heard()) as out, contextlib.suppress(SystemExit):
                readings.main([command, "--help"])
            send({"help": out.getvalue()})

        return next((told["help"] for told in in_child(show, 60) if "help" in told), "")

    def mutant(self, number: int, match: str = "") -> tuple[places.Change, changes.Applied, World]:
        """Make mutant `number`."""
        layout = list(self.worlds)[number % len(self.worlds)]
        world, chosen = self.worlds[layout], self.places[layout]
        chosen = [place for place in chosen if match in str(place)] or chosen
        self._reset(world)
        at = number // len(self.worlds)
        change = places.draw(at, f"{self.seed} {layout}", chosen, self.folder / f"intact-{layout}")
        applied = changes.apply(change, world.root)
        return change, applied, World(world.root, layout, world.truth, applied.columns)

    def _reset(self, world: World) -> None:
        kept = self.folder / f"intact-{world.layout}"
        restore(kept, world)
        for name in ("canary", "home", "out", "tmp", "work", "marks"):
            clear(world.root / name)
            copy_tree(kept / name, world.root / name) if (kept / name).exists() else (world.root / name).mkdir()
        payload = f"from pathlib import Path\nPath({str(world.root / 'marks' / 'payload')!r}).touch()\n"
        (world.root / "work" / "hostile_payload.py").write_text(payload)

    def read(self, world: World, number: int, wanted: str = "") -> list[Outcome]:
        """All readings of the mutant that was made last."""
        stranger = number // len(self.worlds) % 2 == 0
        if stranger:
            clear(world.root / "home")
            (world.root / "home").mkdir()
        mutant = self.folder / "mutant"
        clear(mutant)
        mutant.mkdir()
        for name in ("store", "saved"):
            if os.path.lexists(world.root / name):
                copy_tree(world.root / name, mutant / name)
        names = [name for name in self.names if wanted in name]
        names = [name for name in names if wanted or number // 2 % readings.SELDOM.get(name, 1) == 0]
        return self._readings(world, names, mutant, stranger, set())

    def _readings(
        self, world: World, names: list[str], mutant: Path, stranger: bool, modules: set[str]
    ) -> list[Outcome]:
        found: list[Outcome] = []
        while names := names[len(found) :] if not found else names[names.index(found[-1].reading) + 1 :]:

            def work(send: Callable[[dict[str, Any]], None], names: list[str] = names) -> None:
                child(world, names, mutant, stranger, send)
                send({"modules": list(sys.modules)})

            at, before = names[0], surroundings(world)
            knocked()
            for told in in_child(work, self.patience_s):
                at = told.get("at", at)
                modules.update(told.get("modules", ()))
                if "done" in told:
                    found.append(Outcome(reading=told["done"], verdict=told["verdict"], detail=told["detail"]))
                elif told.get("end"):
                    verdict = str(told["end"]).split()[0] if isinstance(told["end"], str) else "unnamed"
                    after = surroundings(world)
                    touched = sorted(
                        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
                    )
                    if touched:  # before it came to its end
                        found.append(Outcome(reading=at, verdict="touched", detail=f"{touched[0]}, then {told['end']}"))
                    elif knocked():
                        found.append(Outcome(reading=at, verdict="network", detail=f"a bucket, then {told['end']}"))
                    else:
                        found.append(Outcome(reading=at, verdict=verdict, detail=f"ended with {told['end']}"))
        return found


# The figures


class Tally:
    """Counts by kind of change, and every distinct bad case once."""

    def __init__(self) -> None:
        self.by_how: dict[str, Counter[str]] = defaultdict(Counter)
        self.cases: dict[tuple[str, ...], list[tuple[int, str, str, places.Change, changes.Applied]]] = defaultdict(
            list
        )
        self.total, self.bad_mutants, self.mutants = Counter(), 0, 0

    def add(self, number: int, change: places.Change, applied: changes.Applied, found: list[Outcome]) -> None:
        self.mutants += 1
        self.bad_mutants += any(outcome.verdict in BAD for outcome in found)
        for outcome in found:
            self.by_how[change.how][outcome.verdict] += 1
            self.total[outcome.verdict] += 1
            if outcome.verdict in BAD or outcome.verdict == "weak":
                message = re.sub(r"[\d.]+|'[^']*'", "#", outcome.detail)[:50]
                place = (
                    ("any file", "") if "factory" in outcome.detail else (change.place.kind_of_file, change.place.field)
                )
                key = (outcome.verdict, *place, message)
                self.cases[key].append((number, outcome.reading, outcome.detail, change, applied))

    def print(self, seed: int, match: str, *, weak: bool) -> None:
        verdicts = ("good", "weak", *BAD)
        print(f"\n{'change':<10}" + "".join(f"{verdict:>13}" for verdict in verdicts))
        for how, counts in sorted(self.by_how.items()):
            print(f"{how:<10}" + "".join(f"{counts[verdict]:>13,}" for verdict in verdicts))
        print(f"{'all':<10}" + "".join(f"{self.total[verdict]:>13,}" for verdict in verdicts))
        order = ("weak", *BAD)
        for key in sorted(self.cases, key=lambda key: (order.index(key[0]), key)):
            if key[0] == "weak" and not weak:
                continue
            found = self.cases[key]
            number, reading, detail, change, applied = found[0]
            ways = ", ".join(sorted({one[1] for one in found}))
            how = f"{change.how}{', digests carried' if change.carried else ''}: {applied.value[:70]}"
            print(f"\n{key[0]}: {key[1]} {key[2]} ({how})\n  {detail[:300]}\n  {len(found)} readings: {ways}")
            only = f"--seed {seed} --only {number}{f' --match {match!r}' if match else ''} --readings {reading}"
            print(f"  hostile_stores.py {only}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="these mutants, with all that came of them")
    parser.add_argument("--match", default="", help="only places with this text, such as 'receipts' or 'link'")
    parser.add_argument("--readings", default="", help="only readings with this text in their name")
    parser.add_argument("--patience", type=float, default=25, help="seconds until a reading hangs")
    parser.add_argument("--weak", action="store_true", help="print the weak cases too")
    parser.add_argument("--keep", type=Path, help="a folder for the worlds, which stay")
    args = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        attack, tally = Attack(folder, args.patience, args.seed), Tally()
        attack.drop_unknown()
        attack.warm_up()
        print(f"places: {', '.join(f'{len(all_)} {layout}' for layout, all_ in attack.places.items())}", flush=True)
        began = time.monotonic()
        for number in args.only or range(args.first, args.first + args.stores):
            change, applied, world = attack.mutant(number, args.match)
            found = attack.read(world, number, args.readings)
            tally.add(number, change, applied, found)
            if args.only:
                print(f"{number}: {json.dumps(changes.described(change, applied))}")
                for outcome in found:
                    print(f"  {outcome.reading:<28}{outcome.verdict:<14}{outcome.detail}")
            elif tally.mutants % 100 == 0:
                print(f"{tally.mutants} mutants, {time.monotonic() - began:,.0f} s, {dict(tally.total)}", flush=True)
        if not args.only:
            tally.print(args.seed, args.match, weak=args.weak)
    bad = {verdict: tally.total[verdict] for verdict in BAD}
    total = sum(tally.total.values())
    print(f"\nbad: {tally.bad_mutants} of {tally.mutants} mutants, {sum(bad.values())} of {total} readings")
    print(json.dumps({"stores": tally.mutants, "readings": total, "weak": tally.total["weak"], **bad}))
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
