"""Components of a store that keeps only some classes: what they say, that their bits stay, and who may share them."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, Corpus, shard_bytes
from standin import SPEC, Wide

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.planning.components import draw_windows
from pipeline.planning.principal import fit_components
from softlabels import ClassList, StoreError
from softlabels.digests import sha256_of_bytes
from softlabels.records.plan_file import PlannedClip
from softlabels.records.receipts import commit_generation
from softlabels.records.shard import decode_shard, encode_shard, round_probabilities, round_values
from softlabels.storage.local import LocalStorage
from softlabels.store import components as components_module
from softlabels.store.components import Components, components_key, grid_log_odds, read_components
from softlabels.store.equivalence import compare_rows

WIDE, NAMES = "standin:wide", Wide.classes


@pytest.fixture(autouse=True)
def few(corpus: Corpus, tmp_path: Path) -> Path:
    """A list of three classes to keep."""
    path = tmp_path / "few.txt"
    path.write_text("".join(f"{NAMES[i]}\n" for i in (30, 2, 11)))
    return path


def run(corpus: Corpus, store: str = "kept", *, keep: Path | None = None, teacher: str = WIDE, **settings):
    """Label with `keep` beside the corpus as the classes to keep; options of the job go by their names."""
    options = {"backend": "sequential"} | {name: settings.pop(name) for name in ("backend", "task") if name in settings}
    labelling = LabelOptions(**{"shard_windows": 4, "keep_classes": keep, **settings})
    jobs = 2 if options["backend"] == "loky" else 1
    pipeline.run(
        corpus.manifest,
        corpus.folder / store,
        teacher=teacher,
        jobs=jobs,
        labelling=labelling,
        options=RunOptions(**options),
    )
    return softlabels.open(corpus.folder / store)


def all_components(store) -> np.ndarray:
    return np.concatenate([rows.components for rows in store.read()])


def all_probabilities(store) -> np.ndarray:
    return np.concatenate([rows.probabilities for rows in store.read()])


# What they say


@pytest.mark.parametrize("layout", [{}, {"layout": "sparse", "min_probability": 0.05}, {"jitters": 3}])
def test_components_of_a_kept_store_are_the_projection_of_a_full_stores_log_odds(corpus, few, layout: dict) -> None:
    everything = run(corpus, "everything", **{k: v for k, v in layout.items() if k == "jitters"})
    kept = run(corpus, keep=few, **layout)
    assert kept.spec.components == all_components(kept).shape[1] == 13, "of 14 windows"
    found = read_components(kept.storage, kept.spec)
    p = all_probabilities(everything).astype(np.float64)
    expected = (np.log(p) - np.log1p(-p) - found.mean) @ found.basis  # log-odds as they are, not in steps
    np.testing.assert_allclose(all_components(kept), expected, rtol=2**-9, atol=2**-9 * np.sqrt(40))
    exactly = round_values(found.project(all_probabilities(everything)))
    np.testing.assert_array_equal(all_components(kept), exactly)
    if not layout:  # fitted on these very windows: their log-odds can be had back
        back = all_components(kept).astype(np.float64) @ found.basis.T + found.mean
        np.testing.assert_allclose(back, np.log(p) - np.log1p(-p), atol=0.1)


def test_the_axes_are_orthogonal_and_the_first_ones_have_most_of_the_variance() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 8)) * np.arange(8, 0, -1) @ rng.normal(size=(8, 40)) - 3
    fitted = fit_components((1 / (1 + np.exp(-logits))).astype(np.float32), NAMES, most=6)
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(6), atol=1e-3)
    spread = fitted.project((1 / (1 + np.exp(-logits))).astype(np.float32)).std(axis=0)
    assert (np.diff(spread) < 0).all()
    expected = np.linalg.svd(grid_log_odds((1 / (1 + np.exp(-logits))).astype(np.float32)) - fitted.mean)[1][:6]
    np.testing.assert_allclose(spread * np.sqrt(200), expected, rtol=1e-3)


def test_windows_that_cannot_be_read_or_scored_are_left_out_of_the_fit(corpus, few) -> None:
    corpus.write_samples("c3.wav", np.full(3200, np.nan, np.float32), subtype="FLOAT")
    (corpus.folder / "c0.wav").unlink()
    (corpus.folder / "c2.wav").write_bytes(b"no audio")
    kept = run(corpus, keep=few)
    assert (len(kept), kept.spec.components) == (4, 3)
    assert read_components(kept.storage, kept.spec).asked == 37, "40 classes less the three that are kept"


@pytest.mark.storms
def test_a_clip_that_kills_its_worker_is_left_out_of_the_fit(corpus, few) -> None:
    samples = np.zeros(800, np.float32)
    samples[0] = 0.75
    corpus.write_samples("c1.wav", samples, subtype="FLOAT")
    kept = run(corpus, keep=few, teacher="standin:poisoned_wide", backend="loky")
    assert (len(kept), kept.spec.components) == (13, 12)
    assert [entry.reason for entry in kept.census.quarantine] == ["crashed"]


@pytest.mark.parametrize(("asked", "found"), [(5, 5), ("5", 5), (500, 13), (0, 0), ("0", 0)])
def test_as_many_as_are_asked_for_or_as_there_can_be(corpus, few, asked, found: int) -> None:
    kept = run(corpus, keep=few, components=asked)
    assert kept.spec.components == found
    assert kept.read_shard(0).components is None if not found else kept.read_shard(0).components.shape == (4, found)
    again = run(corpus, keep=few, components=asked)
    assert again.spec == kept.spec, "the same command goes on"


def test_none_where_all_classes_are_kept_or_nothing_varies(corpus, few) -> None:
    every = corpus.folder / "every.txt"
    every.write_text("".join(f"{name}\n" for name in reversed(NAMES.names)))
    assert run(corpus, "every", keep=every).spec.components == 0
    assert run(corpus, "all").spec.components == 0
    corpus.write_manifest("clip_id,path\nc1,c1.wav\n")
    kept = run(corpus, keep=few)
    assert (kept.spec.components, kept.spec.component_digest, kept.read_shard(0).components) == (0, "", None)


# Their bits


def test_no_stored_probability_is_so_near_the_middle_of_two_steps_that_a_logarithm_could_decide() -> None:
    """All that there are: with 8 bits up to one half, every float32 above it."""
    small = np.arange(0, np.float32(0.5).view(np.uint32) + 1, 1 << 15, dtype=np.uint32).view(np.float32)
    large = np.arange(np.float32(0.5).view(np.uint32), np.float32(1).view(np.uint32) + 1, dtype=np.uint32)
    np.testing.assert_array_equal(round_probabilities(small), small)
    for values in (small, *np.split(large.view(np.float32), 16 * np.arange(1, 17) * (len(large) // 256))):
        p = np.clip(values.astype(np.float64), components_module.LEAST, components_module.MOST)
        steps = (np.log(p) - np.log1p(-p)) * 256
        assert (np.abs(steps - np.floor(steps) - 0.5) > 1e-9).all()
        np.testing.assert_array_equal(np.rint(steps) / 256, grid_log_odds(values))


def test_a_projection_has_the_same_bits_in_any_order_of_adding() -> None:
    rng = np.random.default_rng(1)
    names = ClassList(tuple(f"class {i}" for i in range(15_000)))
    basis = np.rint(rng.uniform(-1, 1, (15_000, 3)) * 2**20) / 2**20
    mean = np.rint(rng.uniform(-40, 40, 15_000) * 256) / 256
    found = Components(classes=names, mean=mean, basis=basis, asked=3)
    p = rng.choice(np.array([0, 1e-30, 1e-9, 0.3, 0.99, 1], np.float32), (5, 15_000))
    order = rng.permutation(15_000)
    shuffled = Components(classes=names, mean=mean[order], basis=basis[order], asked=3)
    np.testing.assert_array_equal(found.project(p), shuffled.project(p[:, order]))
    exact = [
        [sum(int(a) * int(b) for a, b in zip(row, axis, strict=True)) / 2**28 for axis in (basis.T * 2**20)]
        for row in (grid_log_odds(p) - mean) * 256
    ]
    np.testing.assert_array_equal(found.project(p), np.array(exact).astype(np.float32))


@pytest.mark.parametrize("machine", [{"OPENBLAS_CORETYPE": "Nehalem"}, {"OPENBLAS_NUM_THREADS": "1"}])
def test_the_basis_is_the_same_on_another_machine(machine: dict) -> None:
    code = (
        "import numpy as np; from pipeline.planning.principal import fit_components; from standin import Wide; "
        "rng = np.random.default_rng(3); logits = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 40)) * 2 - 4; "
        "logits += rng.normal(size=(300, 40)) * 0.1; "
        "p = (1 / (1 + np.exp(-logits))).astype(np.float32); "
        "print(hash(fit_components(p, Wide.classes, most=30).basis.tobytes()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    said = {
        subprocess.run([sys.executable, "-c", code], env=environment | more, capture_output=True, check=True).stdout
        for more in ({}, machine)
    }
    assert len(said) == 1


def test_the_basis_does_not_depend_on_the_last_bits_or_signs_of_eigenvectors(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(100, 40)) @ rng.normal(size=(40, 2000)) - 4
    p, names = (1 / (1 + np.exp(-logits))).astype(np.float32), ClassList(tuple(f"class {i}" for i in range(2000)))
    expected = fit_components(p, names, most=30)
    eigh = np.linalg.eigh

    def elsewhere(matrix: np.ndarray):
        values, vectors = eigh(matrix)
        return values, (vectors + rng.normal(size=vectors.shape) * 5e-10) * rng.choice([-1, 1], len(values))

    monkeypatch.setattr(np.linalg, "eigh", elsewhere)
    np.testing.assert_array_equal(fit_components(p, names, most=30).basis, expected.basis)


def test_shards_are_the_same_for_any_worker_count_interrupted_or_made_again(corpus, few) -> None:
    once = run(corpus, "once", keep=few)
    expected = shard_bytes(once.storage.root)
    assert shard_bytes(run(corpus, "two", keep=few, backend="loky").storage.root) == expected
    resumed = run(corpus, "resumed", keep=few)
    root = resumed.storage.root
    for path in (*root.glob("receipts/00001*"), *root.glob("shards/00002*"), *root.glob("_SUCCESS*")):
        path.unlink()
    assert shard_bytes(run(corpus, "resumed").storage.root) == expected
    next(root.glob("shards/00003*")).write_bytes(b"damaged")
    (done,) = regenerate(softlabels.open(root), [3], jobs=1)
    assert (done.likeness, done.restored) == ("identical", True)
    assert shard_bytes(root) == expected
    assert verify(softlabels.open(root), recompute=1.0, jobs=1).good


def test_a_job_that_dies_before_its_store_is_made_leaves_nothing_in_the_way(corpus, few, monkeypatch) -> None:
    expected = run(corpus, "once", keep=few)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    put = LocalStorage.put_if_absent

    def killed_over_the_classes(storage: LocalStorage, key: str, data: bytes) -> bool:
        return killed() if key == "classes.txt" else put(storage, key, data)

    for where, name, how in (  # before they are put, and after, when it is to be decided whose store it is
        (pipeline.running.fitting, "fit_components", killed),
        (LocalStorage, "put_if_absent", killed_over_the_classes),
    ):
        monkeypatch.setattr(where, name, how)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, keep=few)
        monkeypatch.undo()
        assert not (corpus.folder / "kept" / "store.json").exists()
    assert list((corpus.folder / "kept" / "components").iterdir())
    again = run(corpus, keep=few)
    assert again.spec == expected.spec
    assert shard_bytes(again.storage.root) == shard_bytes(expected.storage.root)


def test_who_comes_second_takes_the_components_that_are_there(corpus, few, monkeypatch) -> None:
    """Two that make one store at the same time on machines that fitted other axes."""
    write_plan = pipeline.running.run.write_plan

    def late(path, prepared):
        monkeypatch.setattr(pipeline.running.run, "write_plan", write_plan)
        rounded = pytest.MonkeyPatch()
        rounded.setattr("pipeline.planning.principal._VECTOR_STEP", 2.0**-5)
        run(corpus, keep=few)
        rounded.undo()
        return write_plan(path, prepared)

    monkeypatch.setattr(pipeline.running.run, "write_plan", late)
    store = run(corpus, keep=few)
    assert verify(store, recompute=1.0, jobs=1).good
    files = list((store.storage.root / "components").iterdir())
    assert len(files) == 2
    for path in files:
        os.utime(path, (0, 0))
    (store.storage.root / "_SUCCESS-0001.json").unlink()
    run(corpus, keep=few)  # sweeps what nobody names once it is a day old
    assert [path.name for path in (store.storage.root / "components").iterdir()] == [
        Path(components_key(store.spec.component_digest)).name
    ]


def test_the_tasks_of_an_array_fit_once(corpus, few, monkeypatch) -> None:
    alone = run(corpus, "alone", keep=few, shard_windows=1)
    fits: list[int] = []
    fit = pipeline.running.fitting.fit_components
    monkeypatch.setattr(
        pipeline.running.fitting, "fit_components", lambda *args, **how: fits.append(1) or fit(*args, **how)
    )
    for i in range(2):
        shared = run(corpus, "shared", keep=few, shard_windows=1, task=pipeline.ArrayTask(i, 2))
    assert len(fits) == 1
    assert shard_bytes(shared.storage.root) == shard_bytes(alone.storage.root)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -1.0, 3.14159, -3.14159, 1e-30, -65504.7, 1e-40, -255.75, -513 / 2048, 515 / 2048]
)
def test_values_of_any_sign_are_rounded_to_nine_bits(value: float) -> None:
    rounded = float(round_values(np.array([value], np.float32))[0])
    mantissa, exponent = np.frexp(np.float64(np.float32(value)))
    if abs(value) > 1e-37:
        assert rounded == float(np.ldexp(np.rint(np.ldexp(mantissa, 9)), exponent - 9))
    assert round_values(np.array([rounded], np.float32))[0] == rounded
    assert not (rounded == 0 and np.signbit(rounded))


@pytest.mark.parametrize(
    ("change", "likeness"),
    [
        (lambda c: c, "identical"),
        (lambda c: c * np.float32(1 + 2**-8), "equivalent"),
        (lambda c: c + np.float32(0.06), "equivalent"),
        (lambda c: -c, "different"),
        (lambda c: c + np.float32(0.5), "different"),
        (lambda c: c[:, ::-1], "different"),
        (lambda c: c * np.nan, "different"),
        (lambda c: None, "different"),
    ],
)
def test_d0_is_a_rounding_step_and_near_zero_a_sixteenth(corpus, few, change, likeness: str) -> None:
    rows = run(corpus, keep=few).read_shard(0)
    other = dataclasses.replace(rows, components=change(rows.components))
    assert compare_rows(rows, other) == likeness


def test_verify_and_recompute_notice_other_components(corpus, few) -> None:
    store = run(corpus, keep=few)
    for wrong, complaint in ((-1.0, "says something else"), (np.nan, "expected finite components")):
        rows = store.read_shard(1)
        forged = dataclasses.replace(rows, components=rows.components * np.float32(wrong))
        data = encode_shard(forged, store.spec, shard=1)
        receipt = dataclasses.replace(store.receipt(1), digest=sha256_of_bytes(data), size=len(data))
        commit_generation(store.storage, data, receipt)
        report = verify(softlabels.open(store.storage.root), shards=[1], recompute=1.0, jobs=1)
        assert complaint in report.shards[0].problem


# Who may share them


def test_stores_share_a_file(corpus, few, tmp_path) -> None:
    first = run(corpus, "first", keep=few)
    file = first.storage.root / components_key(first.spec.component_digest)
    corpus.write_manifest("clip_id,path\nother,c3.wav\n")
    (tmp_path / "two.txt").write_text(f"{NAMES[0]}\n{NAMES[11]}\n")
    second = run(corpus, "second", keep=tmp_path / "two.txt", components=file)
    assert second.spec.component_digest == first.spec.component_digest
    place = list(first.index.clips["clip_id"].to_pylist()).index("c3")
    same = all_components(first)[first.index.stored_clip == place]
    np.testing.assert_array_equal(all_components(second), same)
    assert run(corpus, "second", components=str(file)).spec == second.spec


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda file: file.unlink(), "is gone; restore it from a copy"),
        (lambda file: file.write_bytes(b"PAR1"), "expected sha256 .*restore it from a copy"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "expected sha256 "),
    ],
)
def test_a_damaged_basis_is_one_clear_error_and_labels_stay_readable(corpus, few, capsys, damage, complaint) -> None:
    store = run(corpus, keep=few)
    damage(store.storage.root / components_key(store.spec.component_digest))
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    with pytest.raises(StoreError, match=complaint):
        run(corpus, teacher=WIDE)
    assert len(all_components(softlabels.open(store.storage.root))) == 14
    report = verify(store, jobs=1)
    assert not report.good
    assert [check.problem for check in report.shards] == [""] * 4
    assert "components/" in report.problems[0]
    pipeline.labelling.worker._warm_components.cache_clear()  # this process has read it already
    (again,) = regenerate(store, [0], jobs=1)
    assert "cannot be made again" in again.problem
    assert main(["run", str(corpus.manifest), "-o", str(store.storage), "--teacher", WIDE]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def changed(components: Components, **changes) -> bytes:
    return dataclasses.replace(components, **changes).to_bytes()


@pytest.mark.parametrize(
    ("forge", "complaint"),
    [
        (lambda c: b"", "expected a file components/"),
        (lambda c: b"PAR1 but nothing more PAR1", "expected a file components/"),
        (lambda c: c.to_bytes()[:-100], "expected a file components/"),
        (lambda c: bytes(b ^ (i == 300) for i, b in enumerate(c.to_bytes())), "expected a file components/"),
        (
            lambda c: changed(c, classes=ClassList(NAMES.names[::-1])),
            "'Genus39 species39_Name 39' first; expected the 40",
        ),
        (
            lambda c: changed(c, classes=ClassList(NAMES.names[:39]), mean=c.mean[:39], basis=c.basis[:39]),
            "of a teacher with 39 classes",
        ),
    ],
)
def test_a_file_that_is_none_or_of_another_teacher_is_refused_before_any_audio_is_read(
    corpus, few, forge, complaint: str
) -> None:
    store = run(corpus, "first", keep=few)
    file = corpus.folder / "forged.parquet"
    file.write_bytes(forge(read_components(store.storage, store.spec)))
    shutil.rmtree(corpus.folder / "kept", ignore_errors=True)
    with pytest.raises(StoreError, match=f"--components '.*forged.parquet': .*{complaint}"):
        run(corpus, keep=few, components=file)
    assert not (corpus.folder / "kept").exists()


@pytest.mark.parametrize(
    "change", [{"mean": 0.001}, {"mean": 41.0}, {"basis": 2.0**-21}, {"basis": 1.5}, {"basis": np.nan}]
)
def test_values_that_would_be_rounded_are_refused(change: dict) -> None:
    values = {"mean": np.zeros(40), "basis": np.zeros((40, 2))}
    for name, value in change.items():
        values[name].flat[3] = value
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected multiples of"):
        Components(classes=NAMES, asked=2, **values)


@pytest.mark.parametrize("width", [(39, 2), (40, 0)])
def test_a_basis_of_another_width_is_refused(width: tuple) -> None:
    with pytest.raises(ValueError, match="expected 40 means"):
        Components(classes=NAMES, mean=np.zeros(40), basis=np.zeros(width), asked=2)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"components": 7}, "other settings: --components 7 here, 13 in the store; leave out --components"),
        ({"components": "0"}, "other settings: --components 0 here, 13 in the store"),
        ({"components": -1}, "--components: expected how many, or a .*, got -1"),
        ({"components": "nowhere.parquet"}, "--components 'nowhere.parquet': .*No such file"),
    ],
)
def test_a_store_refuses_other_components_by_name(corpus, few, settings: dict, complaint: str) -> None:
    run(corpus, keep=few)
    with pytest.raises((StoreError, ValueError), match=complaint):
        run(corpus, **settings)


def test_a_store_of_all_classes_refuses_components(corpus) -> None:
    with pytest.raises(ValueError, match="--components 8: goes with --keep-classes"):
        run(corpus, components=8)
    assert run(corpus, components=0).spec.components == 0


def test_a_store_without_the_column_opens_and_grows_without_it(corpus, few) -> None:
    """As older versions made it: to the byte what `--components 0` makes."""
    older = run(corpus, keep=few, components=0)
    assert "component" not in (older.storage.root / "store.json").read_text()
    assert "components" not in pq.read_schema(next((older.storage.root / "shards").iterdir())).names
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    grown = run(corpus, keep=few)
    assert (len(grown), grown.spec, grown.read_shard(4).components) == (16, older.spec, None)
    with pytest.raises(StoreError, match="--components 64 here, none in the store; leave out --components, or"):
        run(corpus, components=64)


def test_a_store_grows_with_the_components_it_has(corpus, few) -> None:
    before = run(corpus, keep=few)
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    grown = run(corpus)
    assert (len(grown), grown.spec) == (16, before.spec)
    assert grown.read_shard(4).components.shape == (2, 13)


# Where they are drawn from


def planned(windows: list[int], hours: float = 0.001, reason: str = "") -> list[PlannedClip]:
    return [
        PlannedClip(
            shard=0,
            clip_id=f"c{i:04d}",
            first_window=0,
            windows=n,
            path=f"{i:04d}.wav",
            end=round(hours * 3600 * 8000),
            rate_hz=8000,
            reason=reason,
        )
        for i, n in enumerate(windows)
    ]


def test_windows_are_drawn_evenly_over_clips_and_the_same_every_time() -> None:
    plan = planned([10] * 300)
    drawn = draw_windows(plan, most=300)
    assert drawn == draw_windows(plan[::-1], most=300)
    assert {clip.windows for clip in drawn} == {1}
    assert len({clip.clip_id for clip in drawn}) == 300
    assert len({clip.first_window for clip in drawn}) == 10, "not the same place in each"


def test_all_windows_are_drawn_where_they_are_few_and_none_where_there_are_none() -> None:
    drawn = draw_windows(planned([3, 1, 2]))
    assert [(clip.clip_id, clip.first_window) for clip in drawn] == [
        *[("c0000", i) for i in range(3)],
        ("c0001", 0),
        *[("c0002", i) for i in range(2)],
    ]
    assert draw_windows([]) == []
    assert draw_windows(planned([3, 1], reason="missing")) == []


def test_a_long_clip_in_several_shards_is_drawn_from_in_all_of_them() -> None:
    (clip,) = planned([100])
    parts = [dataclasses.replace(clip, shard=i, first_window=10 * i, windows=10) for i in range(10)]
    assert [part.first_window // 10 for part in draw_windows(parts, most=10)] == list(range(10))


def test_a_few_of_many_long_files_are_enough() -> None:
    drawn = draw_windows(planned([1200] * 1000, hours=1.0))
    assert (len(drawn), len({clip.path for clip in drawn})) == (512, 8)
    assert len({clip.path for clip in draw_windows(planned([28_800], hours=24.0))}) == 1


# At the command line


def test_run_says_so_dry_run_does_not_fit_and_inspect_names_them(corpus, few, capsys, monkeypatch) -> None:
    monkeypatch.chdir(corpus.folder)
    command = ["run", "--teacher", WIDE, "--keep-classes", str(few), "--backend", "sequential"]
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.running.run.fit_if_new", lambda *args, **how: pytest.fail("fitted"))
        assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "components:" not in said.err
    assert "bytes_dense" in said.out
    assert main(command) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "components: scoring, once for this store, 14 windows"
    assert said[1] == "components: 13 fitted on 14 windows"
    assert main(command) == 0
    assert "components" not in capsys.readouterr().err
    assert main(["inspect", "soft_labels"]) == 0
    digest = softlabels.open("soft_labels").spec.component_digest
    assert re.search(rf"components +13\ncomponent_digest +{digest}\n", capsys.readouterr().out)
    assert "| components | 13 numbers a window" in Path("soft_labels/README.md").read_text()


def test_they_are_exported_with_the_store_and_are_a_column_of_a_frame(corpus, few) -> None:
    from pipeline.exports.export import export

    store = run(corpus, keep=few)
    frame = store.to_pandas()
    np.testing.assert_array_equal(np.stack(frame.components), all_components(store))
    export(store, "hf", corpus.folder / "hf")
    copy = softlabels.open(corpus.folder / "hf")
    assert len(read_components(copy.storage, copy.spec)) == 13
    np.testing.assert_array_equal(all_components(copy), all_components(store))


def test_the_spec_says_how_many_and_which() -> None:
    kept = dataclasses.replace(SPEC, teacher_class_digest="x", components=2, component_digest="y")
    assert kept.vectors == {"components": 2}
    for change in ({"components": 0}, {"component_digest": ""}, {"components": -1}, {"teacher_class_digest": ""}):
        with pytest.raises(ValueError, match="component"):
            dataclasses.replace(kept, **change)


def test_a_shard_without_rows_has_the_column(corpus, few) -> None:
    store = run(corpus, keep=few)
    empty = store.read_shard(0).take(slice(0))
    data = encode_shard(empty, store.spec, shard=0)
    assert decode_shard(data, store.spec, 3).components.shape == (0, 13)
