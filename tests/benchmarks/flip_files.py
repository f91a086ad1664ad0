"""Flip one random bit in any file of a store, of the join kept in it and of a saved join; read; look what is noticed.

    python tests/benchmarks/flip_files.py [--flips 5000] [--seed 0]

Half of the flips hit each file equally often, half each byte. What is read: all rows and a new join from a store's
files; the kept join, as training opens it, with its sound; a saved join, with and without `verify`. Good are the true
labels and an error of softlabels' own. Bad are other labels without a word, errors without a name, signals and hangs.
The last line of stdout is one JSON object; exits 1 if anything was bad. (`bit_flips.py` measures Parquet's page
checksums and shard digests on 6,522 classes.)
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_readings as readings
from hostile_digests import regular_files
from hostile_places import kind_of
from hostile_stores import BAD, Attack, in_child, restore, verdict_of

ALWAYS = ("store.json", "classes.txt", "plan", "shards", "receipts")  # files that say something about labels
A_CHILD = 200  # flips


def read_all(world: readings.World, key: str, number: int) -> dict[str, tuple[str, str]]:
    """reading -> what came of it."""
    chosen: list[Callable[[readings.World], str]] = [readings.read_rows, readings.cli_verify]
    if key.startswith("saved/"):
        chosen = [readings.read_saved, readings.read_saved_quickly]
    elif key.startswith("store/joins/"):
        chosen = [readings.read_join]
    elif number % 4 == 0:
        shutil.rmtree(world.root / "home" / "kept", ignore_errors=True)
        chosen.append(readings.read_new_join)
    return {reading.__name__: verdict_of(reading, world) for reading in chosen}


def draw(files: list[Path], rng: random.Random) -> tuple[Path, int]:
    """A file and one of its bits."""
    sizes = [path.stat().st_size for path in files]
    (path,) = rng.choices(files, sizes) if rng.random() < 0.5 else (rng.choice(files),)
    return path, rng.randrange(8 * path.stat().st_size)


def flip_in_child(attack: Attack, layout: str, numbers: range, seed: int) -> list[dict[str, Any]]:
    """Some flips, one after the other. What ends the child is the last one's fault; the others follow in another."""
    world, intact = attack.worlds[layout], attack.folder / f"intact-{layout}"
    files = [path for path in regular_files(world.root) if path.stat().st_size]

    def work(send: Callable[[dict[str, Any]], None]) -> None:
        os.setsid()
        os.environ |= {"HOME": str(world.root / "home"), "XDG_CACHE_HOME": str(world.root / "home" / ".cache")}
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        for number in numbers:
            path, bit = draw(files, random.Random(f"{seed} {layout} {number}"))
            data, key = path.read_bytes(), path.relative_to(world.root).as_posix()
            send({"at": number, "file": key, "bit": bit})
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            send({"number": number, "file": key, "bit": bit, "found": read_all(world, key, number)})
            path.write_bytes(data) if not key.startswith("store/joins/") else restore(intact, world)

    restore(intact, world)
    found, at = [], {}
    for told in in_child(work, attack.patience_s):
        at = told if "at" in told else at
        if "found" in told:
            found.append(told)
        elif told.get("end"):
            verdict = "hang" if told["end"] == "hang" else "signal"
            found.append({**at, "number": at["at"], "found": {"": (verdict, str(told["end"]))}})
    rest = range(found[-1]["number"] + 1, numbers.stop) if found else range(0)
    return found + (flip_in_child(attack, layout, rest, seed) if rest else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    bad, noticed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder).resolve(), 25, args.seed)
        attack.warm_up()
        for turn, first in enumerate(range(0, args.flips, A_CHILD)):
            layout = list(attack.worlds)[turn % len(attack.worlds)]
            for told in flip_in_child(attack, layout, range(first, min(first + A_CHILD, args.flips)), args.seed):
                verdicts = [(name, *outcome) for name, outcome in told["found"].items()]
                worst = next((each for each in verdicts if each[1] in BAD), None)
                by_kind[kind_of(told["file"])][
                    "bad" if worst else "error" if any(v[2] for v in verdicts) else "true"
                ] += 1
                noticed += any(outcome[2] for outcome in verdicts)
                if worst:
                    bad.append((layout, told["number"], told["file"], told["bit"], *worst))
    print(f"\n{'file':<36}{'true labels':>14}{'an error':>12}{'bad':>8}")
    for kind, counts in sorted(by_kind.items()):
        print(f"{kind:<36}{counts['true']:>14,}{counts['error']:>12,}{counts['bad']:>8,}")
    seen: set[tuple] = set()
    for layout, number, file, bit, reading, verdict, detail in bad:
        if (case := (kind_of(file), reading, verdict)) not in seen:
            seen.add(case)
            print(f"{verdict}: {layout} {number}: bit {bit} of {file}, {reading}: {detail[:200]}")
    counts = Counter(each[5] for each in bad)
    print(f"bad: {len(bad)} of {args.flips} flips")
    print(json.dumps({"flips": args.flips, "noticed": noticed, "bad": len(bad), **counts}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
