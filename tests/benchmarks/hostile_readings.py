"""The public ways to read a store, each held against the true labels; see `hostile_stores.py`.

A reading returns "" or says which label was another one than the true one. Errors are judged by `named`: a
SoftLabelsError, a ValueError of ours, or an exit code with a message.
"""

import contextlib
import io
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline.cli.commands import main
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import standin  # noqa: E402

REPOSITORY = HERE.parent.parent
OURS = (f"{REPOSITORY}/softlabels/", f"{REPOSITORY}/pipeline/")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
CLIPS = {"c0": 0.3, "c1": 0.1, "c2": 0.25, "c3": 0.4, "c4": 0.05, "c5": 0.2, "c6": 0.15}  # seconds; c6 comes later
SPLIT_AT = 4  # clips of the first plan
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("standin:embedded", {"shard_windows": 4}),
    "sparse": (
        "standin:embedded_wide",
        {"shard_windows": 4, "layout": "sparse", "min_probability": 0.05, "components": 5},
    ),
}
_SHARES = ("probabilities", "soft", "hard")  # from 0 to 1; in a join NaN where nobody has an opinion
Row = dict[str, Any]


@dataclass
class World:
    """A folder with everything: store, saved join, corpus, and around them what nobody may touch."""

    root: Path
    layout: str
    truth: dict[str, Any]
    columns: frozenset[str] = frozenset()  # that a vouched change may alter

    @property
    def store(self) -> Path:
        return self.root / "store"

    def manifest(self, which: str = "data_manifest.csv") -> Path:
        return self.root / "corpus" / which


# The intact world


def make_world(root: Path, layout: str) -> dict[str, Any]:
    """Audio, manifests, a store of two plans, a kept join and a saved one. Returns: the truth about all of them."""
    corpus = root / "corpus"
    corpus.mkdir(parents=True)
    for name in ("canary", "marks", "home", "tmp", "out", "work"):
        (root / name).mkdir()
    (root / "canary" / "keep.txt").write_text("keep me")
    for device in ("zero", "stdin"):
        (root / "canary" / device).symlink_to(f"/dev/{device}")
    (root / "canary" / "00000-000000000000.parquet").write_text("keep me too")
    _write_audio(corpus)
    teacher, labelling = LAYOUTS[layout]
    if layout == "sparse":
        (corpus / "few.txt").write_text("".join(f"{standin.Wide.classes[i]}\n" for i in (30, 2, 11)))
        labelling = {**labelling, "keep_classes": corpus / "few.txt"}
    for clips in (SPLIT_AT, len(CLIPS) - 1):
        (corpus / "part.csv").write_text(_manifest(clips, layout))
        label(corpus / "part.csv", root / "store", teacher, labelling)
    (corpus / "data_manifest.csv").write_text(_manifest(len(CLIPS) - 1, layout))
    (corpus / "grown.csv").write_text(_manifest(len(CLIPS), layout))
    store = softlabels.open(root / "store")
    labels = store.join(corpus / "data_manifest.csv")
    labels.exclusive().save(root / "saved", embedding=True)
    truth = {
        "rows": rows_of(store),
        "join": _join_truth(labels),
        "saved": _join_truth(softlabels.load_labels(root / "saved")),
    }
    truth["classes"] = list(store.classes)
    shutil.copytree(root / "store", root / "grown", ignore=shutil.ignore_patterns("joins"))
    label(corpus / "grown.csv", root / "grown", teacher, labelling)
    truth["grown"] = rows_of(softlabels.open(root / "grown"))
    _export_detections(root / "store", root / "out" / "d.csv")
    truth["detections"] = (root / "out" / "d.csv").read_text().splitlines()
    (root / "out" / "d.csv").unlink()
    return truth


def _export_detections(store: Path, output: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        main(["export", str(store), "--to", "detections", "--threshold", "0.3", "-o", str(output)])


def _write_audio(corpus: Path) -> None:
    for i, (clip, seconds) in enumerate(CLIPS.items()):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, round(seconds * 8000)).astype(np.float32)
        if clip == "c5":
            samples[3] = np.nan  # a window that is quarantined
        soundfile.write(corpus / f"{clip}.wav", samples, 8000, subtype="FLOAT")


def _manifest(clips: int, layout: str) -> str:
    a, b = (
        (standin.Wide.classes[30], standin.Wide.classes[2]) if layout == "sparse" else standin.StandIn.classes.names[:2]
    )
    labels = [a, b, "noise", "", "", "", a]
    lines = [f"{clip},{clip}.wav,{label},train" for clip, label in zip(CLIPS, labels, strict=True)]
    return "\n".join(["clip_id,path,label,split", *lines[:clips]]) + "\n"


def label(manifest: Path, store: Path, teacher: str, labelling: dict[str, Any]) -> None:
    options = pipeline.RunOptions(backend="sequential")
    how = {"labelling": pipeline.LabelOptions(**labelling), "options": options, "jobs": 1}
    pipeline.run(manifest, store, teacher=pipeline.TeacherChoice(kind=teacher, embedding=True), **how)


def rows_of(store: softlabels.SoftLabelStore) -> dict[tuple[str, int], Row]:
    """(clip_id, window_index) -> what a store says of the window."""
    return {key: row for rows in store.read() for key, row in _split(rows)}


def _split(rows: Any) -> Iterable[tuple[tuple[str, int], Row]]:
    for i, (clip, window) in enumerate(zip(rows.clip_id, rows.window_index, strict=True)):
        times = (float(rows.start_s[i]), float(rows.end_s[i]), float(rows.pad_fraction[i]))
        row = {"probabilities": rows.probabilities[i], "times": times}
        row |= {} if rows.components is None else {"components": rows.components[i]}
        row |= {} if rows.embedding is None else {"embedding": rows.embedding[i]}
        row |= {} if rows.dropped_sum is None else {"dropped": rows.dropped_sum[i]}
        yield (str(clip), int(window)), row


def _join_truth(labels: softlabels.JoinedLabels) -> dict[tuple[str, int], Row]:
    """(clip_id, window_index) -> hard and soft labels, embedding, start and sound."""
    keys, y_true, classes, embedding = labels.keys, labels.y_true(), len(labels.classes), labels.embedding()
    batches = Batches(labels, BatchOptions(batch_size=8))
    sound = np.concatenate([batches.load(n)[0] for n in range(len(batches))])
    found = {}
    for i, (clip, window, start) in enumerate(zip(keys["clip_id"], keys["window_index"], keys["start_s"], strict=True)):
        row = {"hard": y_true[i, :classes], "soft": y_true[i, classes:], "times": float(start), "audio": sound[i]}
        row |= {"embedding": embedding[i]}
        found[str(clip), int(window)] = row
    return found


# Holding against the truth


def other_labels(found: dict[tuple[str, int], Row], truth: dict[tuple[str, int], Row], world: World) -> str:
    """Which label is not the true one; "" where all that was found is true, although some may be missing."""
    for key, row in found.items():
        if key not in truth:
            return f"{key} is no window of the corpus"
        for name, value in row.items():
            if (
                name in _SHARES
                and not (np.isnan(value) * (name != "probabilities") | (value >= 0) & (value <= 1)).all()
            ):
                return f"impossible {name} of {key}: {_short(value)}"
            if name not in world.columns and name in truth[key] and not _same(value, truth[key][name]):
                return f"{name} of {key}: {_short(value)}, true is {_short(truth[key][name])}"
    return ""


def _same(a: Any, b: Any) -> bool:
    """Of the same kind and value, not a number included."""
    first, second = np.asarray(a), np.asarray(b)
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def _short(value: Any) -> str:
    return str(np.asarray(value).ravel()[:4]).replace("\n", " ")


def other_classes(classes: Iterable[str], world: World) -> str:
    return (
        "" if "classes" in world.columns or list(classes) == world.truth["classes"] else f"classes {list(classes)[:4]}"
    )


# Readings in Python


def read_open(world: World) -> str:
    store = softlabels.open(world.store)
    repr(store), store.is_closed(), store.missing_shards()
    census = store.census
    if (
        census.labelled < 0
        or census.missing < 0
        or census.windows != census.labelled + census.quarantined + census.missing
    ):
        return (
            f"a census that does not add up: {census.windows} {census.labelled} {census.quarantined} {census.missing}"
        )
    return other_classes(store.classes, world)


def read_rows(world: World) -> str:
    store = softlabels.open(world.store)
    found = rows_of(store)
    if len(store) != len(found):
        return f"len() is {len(store)}, {len(found)} windows were read"
    return other_labels(found, world.truth["rows"], world)


def read_take(world: World) -> str:
    store, keys = softlabels.open(world.store), sorted(world.truth["rows"], reverse=True)
    taken = store.take(keys)
    return other_labels(
        {key: {"probabilities": row} for key, row in zip(keys, taken, strict=True)}, world.truth["rows"], world
    )


def read_pandas(world: World) -> str:
    table = softlabels.open(world.store).to_pandas()
    found = {}
    for row in table.to_dict("records"):
        times = (row["start_s"], row["end_s"], float(row["pad_fraction"]))
        found[row["clip_id"], row["window_index"]] = {"probabilities": row["probabilities"], "times": times}
    return other_labels(found, world.truth["rows"], world)


def read_clips(world: World) -> str:
    pooled = softlabels.open(world.store).per_clip()
    if world.columns:
        return ""
    truth = world.truth["rows"]
    for clip, row in zip(pooled.index, pooled.to_numpy(), strict=True):
        mine = np.array([value["probabilities"] for (name, _), value in truth.items() if name == clip])
        if not len(mine) or not all(value in mine[:, c] for c, value in enumerate(row)):
            return f"per_clip of {clip}: {_short(row)}"
    return ""


def _other_join(labels: softlabels.JoinedLabels, truth: str, world: World) -> str:
    wrong = "" if truth == "saved" else other_classes(labels.classes, world)
    if "classes" in world.columns:  # other columns: what is left to compare are the rows
        return ""
    aliases = {"soft"} if "probabilities" in world.columns else set()
    forgiving = World(world.root, world.layout, world.truth, world.columns | aliases)
    return wrong or other_labels(_join_truth(labels), world.truth[truth], forgiving)


def read_join(world: World) -> str:
    """As a user joins: what is kept in the store is found again."""
    return _other_join(softlabels.open(world.store).join(world.manifest()), "join", world)


def read_new_join(world: World) -> str:
    labels = softlabels.open(world.store).join(world.manifest(), missing="drop", cache_dir=world.root / "home" / "kept")
    return _other_join(labels, "join", world)


def read_recommended(world: World) -> str:
    labels = softlabels.open(world.store).join(world.manifest()).recommended()
    return _other_join(labels, "join", world)


def read_saved(world: World) -> str:
    return _other_join(softlabels.load_labels(world.root / "saved"), "saved", world)


def read_saved_quickly(world: World) -> str:
    labels = softlabels.load_labels(world.root / "saved", verify=False)
    pickle.loads(pickle.dumps(labels))
    return _other_join(labels, "saved", world)


# Readings by command


class Heard(io.StringIO):
    """A stream that remembers which exception was being handled when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.handled: BaseException | None = None

    def write(self, text: str) -> int:
        self.handled = sys.exception() or self.handled
        return super().write(text)


class Unnamed(Exception):
    """A command ended in a way that names nothing."""


def command(world: World, *arguments: object) -> int:
    """`softlabels ...` in this process. Returns: the exit code. Raises: Unnamed, and whatever the command lets out."""
    out, err = Heard(), Heard()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 2
    text = out.getvalue() + err.getvalue()
    if code not in (0, 1, 2, 3):
        raise Unnamed(f"exit code {code}")
    if code >= 2 and not err.getvalue().strip():
        raise Unnamed(f"exit code {code} without a message")
    if found := CONTROL.search(text.replace("\r", "")):
        raise Unnamed(
            f"prints the control character {found[0]!r}: {text[max(0, found.start() - 60) : found.end() + 20]!r}"
        )
    if "Traceback" in text:
        raise Unnamed("prints a traceback")
    if code >= 2 and err.handled is not None and not named(err.handled):
        raise Weak(f"exit code {code}: {type(err.handled).__name__}: {str(err.handled)[:150]}")
    return code


class Weak(Exception):
    """An exit code with a message that a library wrote: it names no file of the store, and no next step."""


def named(error: BaseException) -> bool:
    """Whether an error says who, expected, got: one of ours, or a ValueError that our code raised."""
    if isinstance(error, softlabels.SoftLabelsError):
        return True
    if not isinstance(error, ValueError):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename.startswith(OURS) and type(error) is ValueError


def then_read(world: World, code: int, truth: str = "rows") -> str:
    """After a command that says that all is well: is it?"""
    if code:
        return ""
    found = rows_of(softlabels.open(world.store))
    missing = sorted(world.truth[truth].keys() - found.keys())
    if missing:
        return f"exit code 0, and {len(missing)} windows have no label: {missing[0]}"
    return other_labels(found, world.truth[truth], world)


def cli_inspect(world: World) -> str:
    command(world, "inspect", world.store)
    return ""


def cli_inspect_quarantine(world: World) -> str:
    command(world, "inspect", world.store, "--quarantine")
    return ""


def cli_inspect_json(world: World) -> str:
    command(world, "inspect", world.store, "--json")
    return ""


def cli_verify(world: World) -> str:
    return then_read(world, command(world, "verify", world.store, "--jobs", 1))


def cli_verify_untrusted(world: World) -> str:
    return then_read(world, command(world, "verify", world.store, "--untrusted", "--jobs", 1))


def cli_recompute(world: World) -> str:
    return then_read(world, command(world, "verify", world.store, "--recompute", 0.1, "--jobs", 1))


def cli_recompute_with_teacher(world: World) -> str:
    teacher = ("--teacher", LAYOUTS[world.layout][0], "--root", world.root / "corpus")
    return then_read(world, command(world, "verify", world.store, "--recompute", 0.1, "--jobs", 1, *teacher))


def cli_regenerate(world: World) -> str:
    code = command(world, "regenerate", world.store, "--shard", 0, "--jobs", 1)
    return "" if code else other_labels(_shard_rows(world), world.truth["rows"], world)


def cli_regenerate_with_teacher(world: World) -> str:
    teacher = ("--teacher", LAYOUTS[world.layout][0], "--root", world.root / "corpus")
    code = command(world, "regenerate", world.store, "--shard", 0, "--jobs", 1, *teacher)
    return "" if code else other_labels(_shard_rows(world), world.truth["rows"], world)


def _shard_rows(world: World) -> dict[tuple[str, int], Row]:
    return dict(_split(softlabels.open(world.store).read_shard(0)))


def _run(world: World, manifest: str) -> int:
    teacher, labelling = LAYOUTS[world.layout]
    flags = ["--teacher", teacher, "--backend", "sequential", "--jobs", "1", "--allow-quarantined", "1"]
    for name, value in labelling.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    if world.layout == "sparse":
        flags += ["--keep-classes", str(world.manifest("few.txt"))]
    return command(world, "run", world.manifest(manifest), "-o", world.store, *flags)


def cli_run(world: World) -> str:
    return then_read(world, _run(world, "grown.csv"), "grown")


def cli_finish(world: World) -> str:
    code = command(world, "run", world.manifest(), "-o", world.store, "--finish", "--allow-quarantined", "1")
    return then_read(world, code)


def cli_report(world: World) -> str:
    output = world.root / "out" / "report.html"
    command(world, "report", world.store, "--manifest", world.manifest(), "-o", output)
    return ""


def cli_compare(world: World) -> str:
    command(world, "compare", world.root / "grown", world.store)
    return ""


def cli_export_detections(world: World) -> str:
    output = world.root / "out" / "d.csv"
    output.unlink(missing_ok=True)
    code = command(world, "export", world.store, "--to", "detections", "--threshold", 0.3, "-o", output)
    if code or world.columns:
        return ""
    strange = set(output.read_text().splitlines()) - set(world.truth["detections"])
    return f"detections: {min(strange)[:150]!r}" if strange else ""


def cli_export_hf(world: World) -> str:
    output = world.root / "out" / f"hf{os.getpid()}"
    code = command(world, "export", world.store, "--to", "hf", "-o", output)
    return "" if code else other_labels(rows_of(softlabels.open(output)), world.truth["rows"], world)


def cli_export_stm32(world: World) -> str:
    command(world, "export", world.store, "--to", "birdnet-stm32", "-o", world.root / "out" / f"stm{os.getpid()}")
    return ""


READINGS: tuple[Callable[[World], str], ...] = (
    read_open, read_rows, read_take, read_pandas, read_clips, read_saved, read_saved_quickly, read_new_join,
    cli_inspect, cli_inspect_quarantine, cli_inspect_json, cli_verify, cli_verify_untrusted, cli_compare,
    cli_export_detections, cli_export_hf, cli_export_stm32, cli_report,
    read_join, read_recommended, cli_recompute, cli_recompute_with_teacher, cli_regenerate,
    cli_regenerate_with_teacher, cli_run, cli_finish,
)  # fmt: skip
WRITERS = READINGS[READINGS.index(read_join) :]  # each gets the hostile store as it was
SELDOM = {"read_recommended": 5, "cli_report": 3, "cli_export_stm32": 2, "cli_inspect_json": 3}  # every n-th mutant
BY_STRANGERS = ("cli_recompute", "cli_regenerate")  # what the store says of its teacher is all there is
