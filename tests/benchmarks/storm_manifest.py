"""Corpora that grow while people correct their manifests, by seeds: what `softlabels manifest DIR --update` changes.

Each corpus is a folder with odd names; its manifest is rewritten by hand (quotes, line ends, order, columns of one's
own, blank lines, a byte-order mark, labels, ids); then files come, go and move; then it is brought up to date. Counted:
rows of files that are there whose bytes changed, files without a row, rows without a file, clips whose split changed,
groups in two splits, and updates that were refused. All are to be 0.

    python tests/benchmarks/storm_manifest.py [--corpora 500] [--seed 0]
"""

import argparse
import contextlib
import csv
import io
import os
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from pipeline.cli.commands import main
from pipeline.drafts.manifest_text import ManifestText
from softlabels import read_manifest

PARTS = [
    "007",
    "1e3",
    "NA",
    "=1+1",
    "-x",
    "'q'",
    '"',
    ",",
    ";",
    "|",
    " ",
    "\u00a0",
    "e\u0301",
    "[a b]",
    "c(a)",
]
PARTS += [
    "\u65e5",
    "\\",
    "%20",
    "#",
    "\U0001f426",
    "..",
    "a",
    "b",
    "noise",
    "\u202e",
    "''=",
    "@",
    "TRUE",
    "()",
    "{",
    "$",
]
COUNTED = ("rows changed", "files without a row", "rows without a file", "splits changed", "groups divided", "refused")


def name(rng: random.Random) -> str:
    text = "".join(rng.choices(PARTS, k=rng.randint(1, 3)))
    return text if text.strip() and not text.startswith(".") else f"x{text}"


def new_file(folder: Path, rng: random.Random) -> None:
    levels = [
        f"S{rng.randint(1, 9)}",
        *(name(rng).replace(";", "").strip().lstrip("-? .") or "x" for _ in range(rng.randint(0, 1))),
    ]
    path = folder.joinpath(*levels, f"{name(rng)}.wav")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(12))


def rewritten(manifest: Path, rng: random.Random) -> None:
    """The manifest as a person leaves it: other text, the same files."""
    clips = read_manifest(manifest)
    with manifest.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    own = rng.sample(["site", "n,otes", "Ort", "=x"], rng.randint(0, 2))
    for column in own:
        header.append(column)
        for row in rows:
            row.append(rng.choice(["", "x", 'a "b"', "one\ntwo", "1,5", " y "]))
    at = header.index("label")
    for row, clip in zip(rows, clips, strict=True):
        if rng.random() < 0.3:
            row[at] = rng.choice(["A;B", " A ", "noise", "", "['A' 'B']", "A;?C", "-A"])
        if "start_s" not in header and rng.random() < 0.1:
            row[header.index("clip_id")] = f"{clip.clip_id} (1)"
    order = list(range(len(rows)))
    if rng.random() < 0.5:
        rng.shuffle(order)
    end, out = rng.choice(["\n", "\r\n", "\r"]), io.StringIO(newline="")
    minimal = end == "\r\n" and rng.random() < 0.5  # else Python leaves some line ends without quotes
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_MINIMAL if minimal else csv.QUOTE_ALL)
    writer.writerow(header)
    for i in order:
        writer.writerow(rows[i])
        if rng.random() < 0.05:
            out.write(rng.choice([end, "," * (len(header) - 1) + end]))
    text = rng.choice(["", "\ufeff"]) + out.getvalue()
    manifest.write_bytes((text.rstrip("\r\n") if rng.random() < 0.2 else text).encode())


def changed(folder: Path, rng: random.Random) -> None:
    """Files come, go and move."""
    files = sorted(folder.rglob("*.wav"))
    for path in rng.sample(files, len(files) // 4):
        path.unlink()
    if rng.random() < 0.5:
        files = sorted(folder.rglob("*.wav"))
        for i, path in enumerate(rng.sample(files, len(files) // 4)):
            (folder / "S1").mkdir(exist_ok=True)
            shutil.move(path, folder / "S1" / f"moved {i}.wav")
    for _ in range(rng.randint(0, 8)):
        new_file(folder, rng)


def by_path(text: ManifestText) -> dict[str, list[str]]:
    rows = defaultdict(list)
    for row, clip in zip(text.rows, text.clips, strict=True):
        rows[clip.path].append(row.rstrip("\r\n"))
    return rows


def trial(seed: int, counts: Counter[str]) -> None:
    rng = random.Random(seed)
    folder = Path(rng.choice(["rec", ".", "my recordings/2024", "../outside"]))
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(rng.randint(4, 14)):
        new_file(folder, rng)
    flags = rng.choice(
        [[], ["--sha256"], ["--split", "train=0.7,test=0.3"], ["--group", "1", "--split", "a=0.5,b=0.5"]]
    )
    assert main(["manifest", str(folder), *flags]) == 0, seed
    rewritten(Path("data_manifest.csv"), rng)
    before = ManifestText.read("data_manifest.csv")
    changed(folder, rng)
    if main(["manifest", str(folder), "--update"]) != 0:
        counts["refused"] += 1
        return
    after = ManifestText.read("data_manifest.csv")
    root = folder if folder.parts[:1] == ("..",) else Path()
    there = {os.path.normpath(path.relative_to(root)) for path in folder.rglob("*.wav") if path.is_file()}
    old, new = by_path(before), by_path(after)
    stay = [path for path in old if path in there]
    counts["rows"] += len(before.rows)
    counts["rows changed"] += sum(
        [x + "," * (y.count(",") - x.count(",")) for x, y in zip(old[p], new[p], strict=False)] != new[p] for p in stay
    )
    counts["files without a row"] += len(there - new.keys())
    counts["rows without a file"] += len(new.keys() - there)
    splits = {clip.clip_id: clip.split for clip in after.clips}
    counts["splits changed"] += sum(splits.get(clip.clip_id, clip.split) != clip.split for clip in before.clips)
    if "--group" in flags:
        groups: dict[str, set[str]] = defaultdict(set)
        for clip in after.clips:
            groups[dict(clip.extra)["group"] or clip.path].add(clip.split)
        counts["groups divided"] += sum(len(found) > 1 for found in groups.values())


def run(corpora: int, seed: int) -> None:
    counts: Counter[str] = Counter()
    for number in range(seed, seed + corpora):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder, "work")
            work.mkdir()
            with (
                contextlib.chdir(work),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                trial(number, counts)
    print(f"{corpora:,} corpora, {counts['rows']:,} rows: " + ", ".join(f"{counts[what]:,} {what}" for what in COUNTED))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run(arguments.corpora, arguments.seed)
