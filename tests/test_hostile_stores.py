"""A stranger's store: a few seeded mutants of every kind of file, read in this process, and the judge itself.

Two thousand, read in every public way by processes with limits: tests/benchmarks/hostile_stores.py.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY

import softlabels

sys.path.insert(0, str(REPOSITORY / "tests" / "benchmarks"))
import hostile_changes as changes
import hostile_digests as digests
import hostile_places as places
import hostile_readings as readings
from hostile_stores import BAD, Watch, copy_tree, restore, surroundings, verdict_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="FIFOs, devices and /proc")
ALONE = ("device", "huge", "bomb", "nested", "flip", "many")  # may hang, die or fill memory: not in this process
QUICK = (readings.read_rows, readings.read_join, readings.cli_verify)


class Intact:
    """A world, a copy of it as it was, and what can be changed there."""

    def __init__(self, folder: Path) -> None:
        self.root, self.kept = folder / "world", folder / "intact"
        self.truth = readings.make_world(self.root, "sparse")
        self.kept.mkdir()
        for name in ("store", "saved"):
            copy_tree(self.root / name, self.kept / name)
        self.places = places.places(self.kept)

    def restored(self) -> readings.World:
        """As it was."""
        world = readings.World(self.root, "sparse", self.truth)
        restore(self.kept, world)
        (self.root / "canary" / "keep.txt").write_text("keep me")
        return world

    def mutant(self, text: str, number: int) -> tuple[places.Change, readings.World]:
        """The intact store with one change, of a place with this text."""
        self.restored()
        chosen = [place for place in self.places if text in str(place)]
        change = places.draw(number, "tests", chosen, self.kept)
        columns = changes.apply(change, self.root).columns if change.how not in ALONE else frozenset()
        return change, readings.World(self.root, "sparse", self.truth, columns)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Intact:
    return Intact(tmp_path_factory.mktemp("hostile"))


def bad_readings(world: readings.World, *chosen: Callable[[readings.World], str]) -> list[str]:
    before = surroundings(world)
    found = [(reading.__name__, *verdict_of(reading, world)) for reading in chosen]
    bad = [f"{name}: {verdict}: {detail}" for name, verdict, detail in found if verdict in BAD]
    marks = [path.unlink() or f"code left {path.name}" for path in (world.root / "marks").iterdir()]
    return bad + marks + [f"touched {path}" for path in before.keys() ^ surroundings(world).keys()]


KINDS = ["store/store.json", "store/classes.txt", "store/plan/", "store/shards/", "store/receipts/", "_SUCCESS"]
KINDS += ["store/run", "store/components/", "join-*/join.json", "join-*/hard", "join-*/clips.arrow", "soft-*", "saved/"]
KINDS += ["embedding-*"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_store_gives_the_true_labels_or_an_error_with_a_name(intact: Intact, kind: str) -> None:
    change, world = intact.mutant(kind, 0)
    assert bad_readings(world, *((readings.read_saved,) if kind == "saved/" else QUICK)) == [], change


# Each of these was read without a word, or ended without a name
BROKE = [
    ("store/shards/*.parquet", "start_s", "range", "1", readings.read_rows),
    ("store/shards/*.parquet", "pad_fraction", "range", "1", readings.read_rows),
    ("store/plan/*.parquet", "path", "path", "1", readings.cli_export_detections),
    ("store/store.json", "(text)", "nested", "1", readings.read_open),
    ("store/run.json", "(text)", "nested", "2", readings.read_join),
    ("store/run.json", "(attack)", "code", "1", readings.cli_recompute),
    ("store/run.json", "(attack)", "delete", "1", readings.cli_recompute),
    ("store/joins/join-*/join.json", "report.rows", "missing", "1", readings.read_join),
    ("store/joins/join-*/join.json", "window.hop_samples", "type", "1", readings.read_join),
    ("store/joins/join-*/hard_offsets.npy", "(values)", "length", "2", readings.read_join),
    ("saved/join.json", "report.notes", "missing", "1", readings.read_saved),
    ("saved/join.json", "calibration", "missing", "1", readings.read_saved),
    ("store/joins/join-*/join.json", "class_trust", "missing", "1", readings.cli_verify),
    ("saved/clips.arrow", "path", "type", "1", readings.read_saved),
    ("saved/window_index.npy", "(header)", "type", "1", readings.read_saved),
]


@pytest.mark.parametrize(("kind", "field", "how", "seed", "reading"), BROKE)
def test_what_once_broke(intact: Intact, kind: str, field: str, how: str, seed: str, reading) -> None:
    intact.restored()
    place = next(place for place in intact.places if (place.kind_of_file, place.field) == (kind, field))
    key = places.files_of(intact.kept)[kind][0]
    applied = changes.apply(places.Change(place=place, how=how, file=key, seed=seed, carried=True), intact.root)
    world = readings.World(intact.root, "sparse", intact.truth, applied.columns)
    assert bad_readings(world, reading) == [], applied.value


def test_the_intact_store_is_read_as_it_is(intact: Intact) -> None:
    world, chosen = intact.restored(), (*QUICK, readings.read_saved)
    assert [verdict_of(reading, world) for reading in chosen] == [("good", "")] * len(chosen)


def test_every_field_of_every_file_is_a_place(intact: Intact) -> None:
    fields = {(place.kind_of_file, place.field) for place in intact.places}
    expected = {("store/receipts/*.json", "audio.c0.file"), ("store/plan/*.parquet", "rate_hz"),
                ("store/shards/*.parquet", "tail_sum"), ("store/store.json", "spec.window.hop_samples"),
                ("store/joins/join-*/hard_value.npy", "(values)"), ("saved/clips.arrow", "sha256"),
                ("store/claims/", "(folder)"), ("store/_SUCCESS-*.json", "receipts")}  # fmt: skip
    assert expected <= fields


def test_a_change_carried_through_passes_the_outer_checks_and_is_vouched_for(intact: Intact) -> None:
    intact.restored()
    before = {path: path.read_bytes() for path in digests.regular_files(intact.root)}
    path = min((intact.root / "store" / "shards").iterdir())
    table = pq.read_table(path)
    column = table.column_names.index("dropped_sum")
    values = np.full(len(table), 0.25, np.float32)
    schema = table.schema
    pq.write_table(table.set_column(column, schema.field(column), [values]).cast(schema), path)
    with pytest.raises(softlabels.StoreError, match="digest mismatch|shard 0"):
        softlabels.open(intact.root / "store").read_shard(0)
    assert digests.carry(intact.root, before)
    store = softlabels.open(intact.root / "store")
    assert store.read_shard(0).dropped_sum.tolist() == values.tolist()
    assert store.storage.get("_SUCCESS-0001.json") == store.success_bytes(1)


def test_the_judge_sees_other_labels_other_files_and_errors_without_a_name(intact: Intact, monkeypatch) -> None:
    intact.restored()
    key = min(intact.truth["rows"])
    rows = {**intact.truth["rows"], key: {**intact.truth["rows"][key], "times": (0.0, 7.0, 0.0)}}
    lying = readings.World(intact.root, "sparse", {**intact.truth, "rows": rows})
    assert verdict_of(readings.read_rows, lying)[0] == "silent"
    forgiven = readings.World(intact.root, "sparse", lying.truth, frozenset({"times"}))
    assert verdict_of(readings.read_rows, forgiven) == ("good", "")

    def raises(error: Exception) -> str:
        def reading(world: readings.World) -> str:
            raise error

        return verdict_of(reading, lying)[0]

    assert [raises(e) for e in (softlabels.StoreError("x"), KeyError("x"), ValueError("x"), MemoryError())] == [
        "good", "unnamed", "weak", "memory",
    ]  # fmt: skip
    before = surroundings(lying)
    (intact.root / "canary" / "new").touch()
    assert before.keys() ^ surroundings(lying).keys() == {f"{intact.root}/canary/new"}
    (intact.root / "canary" / "new").unlink()


def test_what_is_outside_the_world_is_noted_and_not_deleted(intact: Intact, tmp_path: Path) -> None:
    notes: list[tuple[str, str]] = []
    watch = Watch(intact.restored(), lambda *note: notes.append(note))
    outside = tmp_path / "outside"
    for event, arguments in [("os.remove", (str(outside), -1)), ("open", (str(outside), "w", os.O_WRONLY)),
                             ("os.rename", (str(intact.root / "store" / "x"), str(outside), -1, -1))]:  # fmt: skip
        with pytest.raises(PermissionError, match="outside the world"):
            watch(event, arguments)
    watch("os.remove", (str(intact.root / "canary" / "keep.txt"), -1))  # a canary may die of it
    watch("os.remove", (str(intact.root / "store" / "x"), -1))
    watch("open", (str(outside), "r", os.O_RDONLY))
    assert [kind for kind, _ in notes] == ["touched"] * 4
