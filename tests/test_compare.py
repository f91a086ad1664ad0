"""Two stores held against each other, by figures worked out in float64 window by window."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from standin import StandIn

import pipeline
import pipeline.checking.compare
import softlabels
from pipeline.checking.compare import Comparison, compare
from pipeline.cli.commands import main
from softlabels import ClassList, SoftLabelStore, StoreError


class Other(StandIn):
    """Another order, a class of its own, one name without its common half, and one class that it never changes."""

    classes = ClassList(("Dus dus_Delta", "Cus cus", "Bus bus_Beta", "Aus aus_Alpha"))
    digest = "2" * 64

    def score(self, windows: np.ndarray) -> np.ndarray:
        level, first, changes = super().score(windows).T
        return np.stack([first, level + changes, np.full_like(level, -1), first - level], axis=1).astype(np.float32)


def other() -> Other:
    return Other()


class Stranger(StandIn):
    classes = ClassList(("Xus xus_Xi", "Yus yus_Ypsilon", "Zus zus_Zeta"))
    digest = "3" * 64


def stranger() -> Stranger:
    return Stranger()


class Twice(StandIn):
    """Has one class under two names."""

    classes = ClassList(("Alpha", "Aus aus_Alpha", "Cus cus_Gamma"))
    digest = "4" * 64


def twice() -> Twice:
    return Twice()


def labelled(corpus: Corpus, name: str, teacher: str = "standin:teacher", **labelling: object) -> SoftLabelStore:
    pipeline.run(
        corpus.manifest,
        corpus.folder / name,
        teacher=teacher,
        labelling=pipeline.LabelOptions(**{"shard_windows": 4, **labelling}),
        options=pipeline.RunOptions(backend="sequential"),
    )
    return softlabels.open(corpus.folder / name)


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def probabilities_of(store: SoftLabelStore, names: list[str], clip_ids: set[str]) -> np.ndarray:
    """(windows, names) float64, by clip and window."""
    frame = store.to_pandas().sort_values(["clip_id", "window_index"])
    frame = frame[frame.clip_id.isin(clip_ids)]
    columns = [list(store.classes).index(name) for name in names]
    return np.stack(frame.probabilities)[:, columns].astype(np.float64)


def same(found: Comparison) -> bool:
    """Whether two stores say the same wherever they meet."""
    return (found.same_top_class, found.kl, found.heard_by_a_only, found.heard_by_b_only) == (1, 0, 0, 0)


def test_a_store_agrees_with_itself(store) -> None:
    found = compare(store, softlabels.open(store.storage.root))
    assert same(found)
    assert (found.clips, found.windows, found.unmatched_windows, found.clips_only_a) == (6, 14, 0, 0)
    assert [each.correlation for each in found.classes] == [pytest.approx(1)] * 3
    assert found.classes_only_a == found.classes_only_b == ()
    assert {window.kl for window in found.most_different} == {0}


def test_two_teachers_are_compared_by_figures_worked_out_one_by_one(corpus, store) -> None:
    b = labelled(corpus, "b", "test_compare:other", shard_windows=5)
    names_a, names_b = ["Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma"], ["Aus aus_Alpha", "Bus bus_Beta", "Cus cus"]
    everything = {f"c{i}" for i in range(6)}
    p, q = probabilities_of(store, names_a, everything), probabilities_of(b, names_b, everything)
    kl = bernoulli_kl(p, q)
    found = compare(store, b)
    assert (found.windows, found.classes_only_a, found.classes_only_b) == (14, (), ("Dus dus_Delta",))
    assert found.same_top_class == np.mean(p.argmax(axis=1) == q.argmax(axis=1))
    assert 0 < found.same_top_class < 1
    assert found.heard_by_both == np.sum((p >= 0.5) & (q >= 0.5))
    assert found.heard_by_a_only == np.sum((p >= 0.5) & (q < 0.5)) > 0
    assert found.heard_by_b_only == np.sum((p < 0.5) & (q >= 0.5))
    assert found.kl == pytest.approx(kl.sum(axis=1).mean())
    assert [each.kl for each in found.classes] == sorted((each.kl for each in found.classes), reverse=True)
    by_name = {each.name: each for each in found.classes}
    for c, name in enumerate(names_a):
        each = by_name[name]
        assert each.name_b == names_b[c]
        assert each.kl == pytest.approx(kl[:, c].mean())
        assert (each.mean_a, each.mean_b) == pytest.approx((p[:, c].mean(), q[:, c].mean()))
        if name == "Bus bus_Beta":
            assert each.correlation is None
        else:
            x, y = (np.log(v[:, c] / (1 - v[:, c])) for v in (p, q))
            assert each.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_the_windows_that_differ_most_come_with_both_opinions(corpus, store) -> None:
    b = labelled(corpus, "b", "test_compare:other")
    found = compare(store, b).most_different
    assert len(found) == 10
    assert [each.kl for each in found] == sorted((each.kl for each in found), reverse=True)
    times = {(row.clip_id, row.start_s): row.window_index for row in store.to_pandas().itertuples()}
    for each in found:
        assert each.start_a_s == each.start_b_s
        key = (each.clip_id, times[each.clip_id, each.start_a_s])
        p, q = store.take([key])[0].astype(np.float64), b.take([key])[0][[3, 2, 1]].astype(np.float64)
        assert each.kl == pytest.approx(bernoulli_kl(p, q).sum())
        assert (each.class_a, each.probability_a) == (store.classes[p.argmax()], pytest.approx(p.max()))
        assert each.class_b == ["Aus aus_Alpha", "Bus bus_Beta", "Cus cus"][q.argmax()]
        assert each.probability_b == pytest.approx(q.max())


def test_small_blocks_and_few_shards_held_change_nothing(corpus, store, monkeypatch) -> None:
    b = labelled(corpus, "b", "test_compare:other", overlap_s=0.05, shard_windows=3)
    found = compare(store, b)
    monkeypatch.setattr(pipeline.checking.compare, "BLOCK", 2)
    monkeypatch.setattr(pipeline.checking.compare, "SHARDS_HELD", 1)
    told: list[int] = []
    again = compare(store, b, on_windows=told.append)
    assert (again.windows, again.heard_by_both, again.most_different) == (
        found.windows,
        found.heard_by_both,
        found.most_different,
    )
    assert again.kl == pytest.approx(found.kl)
    assert (max(told), sum(told)) == (2, found.windows)


def test_windows_of_two_grids_meet_by_time(corpus, store) -> None:
    lines = corpus.manifest.read_text().splitlines(keepends=True)
    corpus.write_manifest("".join(lines[:3] + lines[4:]))  # of c2 the finer grid needs no padded window at 0.2 s
    finer = labelled(corpus, "b", overlap_s=0.05)
    found = compare(store, finer)
    assert same(found)
    assert (found.clips_only_a, found.windows, found.unmatched_windows) == (1, 11, 0)
    back = compare(finer, store)
    assert back.windows == len(finer)  # those between two windows meet one of them, half a window away
    assert not same(back)


def test_stretches_of_a_file_meet_by_the_time_in_the_file(corpus) -> None:
    corpus.write_manifest("clip_id,path,start_s,end_s\nx,c3.wav,0.1,0.4\n")
    a = labelled(corpus, "a")
    corpus.write_manifest("clip_id,path,start_s,end_s\nx,c3.wav,0.2,0.4\n")
    found = compare(a, labelled(corpus, "b"))
    assert same(found)
    assert (found.windows, found.unmatched_windows) == (2, 1)


def test_a_window_without_a_label_meets_nobody(corpus) -> None:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[800] = 0.5  # the second window begins with it, and the teacher says NaN
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    a, b = labelled(corpus, "a"), labelled(corpus, "b", "standin:not_finite")
    assert (len(a), len(b)) == (14, 13)
    found, back = compare(a, b), compare(b, a)
    assert same(found)
    assert (found.windows, found.unmatched_windows) == (13, 1)
    assert same(back)
    assert (back.windows, back.unmatched_windows) == (13, 0)


def test_only_clips_of_both_with_the_same_audio_count(corpus, store) -> None:
    lines = corpus.manifest.read_text().splitlines(keepends=True)
    corpus.write_manifest("".join([lines[0], *reversed(lines[2:]), "new,c0.wav,,train\n"]))
    corpus.write_audio("c3.wav", 0.4, seed=99)
    found = compare(store, labelled(corpus, "b"))
    assert (found.clips, found.clips_only_a, found.clips_only_b, found.clips_other_audio) == (4, 1, 1, 1)
    assert found.windows == 1 + 3 + 1 + 2  # c1, c2, c4, c5
    assert same(found)


def test_a_sparse_store_is_compared_as_it_reads_back(corpus, store) -> None:
    sparse = labelled(corpus, "b", layout="sparse", min_probability=0.2)
    found = compare(store, sparse)
    p, q = (probabilities_of(s, list(store.classes), {f"c{i}" for i in range(6)}) for s in (store, sparse))
    assert found.kl == pytest.approx(bernoulli_kl(p, q).sum(axis=1).mean(), abs=1e-12)
    assert found.heard_by_a_only == found.heard_by_b_only == 0


def test_of_two_names_of_one_class_the_exact_one_is_compared(corpus, store) -> None:
    found = compare(labelled(corpus, "b", "test_compare:twice"), store)
    assert sorted(each.name for each in found.classes) == ["Aus aus_Alpha", "Cus cus_Gamma"]
    assert (found.classes_only_a, found.classes_only_b) == (("Alpha",), ("Bus bus_Beta",))


def test_stores_that_have_nothing_in_common_are_told_what_is_missing(corpus, store, tmp_path) -> None:
    with pytest.raises(StoreError, match="no class in common.* got 'Aus aus_Alpha' and 2 more against 'Xus xus_Xi'"):
        compare(store, labelled(corpus, "strange", "test_compare:stranger"))
    corpus.write_manifest("clip_id,path\nelse,c0.wav\n")
    with pytest.raises(StoreError, match="got 0 with the same clip_id"):
        compare(store, labelled(corpus, "else"))
    corpus.write_manifest("clip_id,path\nc0,c1.wav\n")
    with pytest.raises(StoreError, match="got 1 with the same clip_id, 1 of them with other audio"):
        compare(store, labelled(corpus, "changed"))


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_store_without_labels_is_named(corpus, which: str) -> None:
    stores = {name: labelled(corpus, name) for name in "ab"}
    for receipt in (corpus.folder / which / "receipts").iterdir():
        receipt.unlink()
    stores[which] = softlabels.open(corpus.folder / which)
    with pytest.raises(StoreError, match=f"corpus/{which}': no clip that both stores have is labelled in it"):
        compare(stores["a"], stores["b"])


def test_stretches_that_lie_apart_are_an_error(corpus) -> None:
    corpus.write_manifest("clip_id,path,start_s,end_s\nx,c3.wav,0,0.1\n")
    a = labelled(corpus, "a")
    corpus.write_manifest("clip_id,path,start_s,end_s\nx,c3.wav,0.3,0.4\n")
    with pytest.raises(StoreError, match=r"no two windows share half of 0\.1 s of the same clip"):
        compare(a, labelled(corpus, "b"))


def test_compare_from_the_command_line_as_a_table_and_as_json(corpus, store, capsys) -> None:
    labelled(corpus, "b", "test_compare:other")
    a, b = str(store.storage.root), str(corpus.folder / "b")
    assert main(["compare", a, b]) == 0
    printed = capsys.readouterr()
    figures, classes, windows = printed.out.split("\n\n")
    assert printed.err == f"only '{b}' has 'Dus dus_Delta'\n"
    assert "\nwindows            14\n" in figures
    assert "\nclasses_only_b     1\n" in figures
    assert classes.splitlines()[0] == "class\tkl\tcorrelation\tmean_a\tmean_b"
    assert len(classes.splitlines()) == 4
    assert len(windows.splitlines()) == 11
    assert main(["compare", a, b, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read == json.loads(json.dumps(compare(store, softlabels.open(Path(b))).to_json()))
    assert (read["windows"], len(read["classes"]), len(read["most_different"])) == (14, 3, 10)
    assert main(["compare", a, "nowhere"]) == 2
    assert "no store at 'nowhere'" in capsys.readouterr().err
