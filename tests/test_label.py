"""One planned shard -> its rows, without a store around it."""

import dataclasses

import numpy as np
import pytest
from conftest import Corpus
from standin import StandIn

from pipeline.labelling.label import jitter_shifts, keep_classes, label_shard
from pipeline.planning.plan import lay_out_clip
from pipeline.planning.probe import probe_file
from softlabels import Clip
from softlabels.audio.decode import read_audio
from softlabels.records.plan_file import PlannedClip
from softlabels.windows import WindowSpec

WINDOW = WindowSpec(rate_hz=8000, window_samples=800, hop_samples=800)


class Recording(StandIn):
    """Keeps what it was asked, and always answers from the same buffer."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self._buffer = np.zeros((4, 3), np.float32)

    def score(self, windows: np.ndarray) -> np.ndarray:
        self.batches.append(windows.copy())
        self._buffer[:] = super().score(windows)
        return self._buffer


def planned(corpus: Corpus, *names: str) -> list[PlannedClip]:
    clips = [Clip(clip_id=name, path=f"{name}.wav") for name in names]
    return [lay_out_clip(clip, probe_file(corpus.folder, clip.path), WINDOW) for clip in clips]


def test_the_last_batch_is_padded_with_silence(corpus: Corpus) -> None:
    teacher = Recording()
    rows, _ = label_shard(planned(corpus, "c0", "c2"), teacher, WINDOW, corpus.folder)
    assert len(rows) == 6
    assert [batch.shape for batch in teacher.batches] == [(4, 800), (4, 800)]
    assert teacher.batches[1][:2].any(axis=1).all()
    assert not teacher.batches[1][2:].any()


def test_a_teacher_may_reuse_its_buffer(corpus: Corpus) -> None:
    clips = planned(corpus, "c0", "c2", "c3")
    reusing, _ = label_shard(clips, Recording(), WINDOW, corpus.folder)
    fresh, _ = label_shard(clips, StandIn(), WINDOW, corpus.folder)
    np.testing.assert_array_equal(reusing.probabilities, fresh.probabilities)


def test_a_file_that_changed_after_planning_is_quarantined_though_its_length_is_the_same(corpus: Corpus) -> None:
    clips = planned(corpus, "c0", "c1")
    corpus.write_audio("c0.wav", 0.3, seed=77)
    rows, findings = label_shard(clips, StandIn(), WINDOW, corpus.folder)
    assert [(q.clip_id, q.windows, q.reason) for q in findings.quarantined] == [("c0", 3, "changed-since-probe")]
    assert set(rows.clip_id) == {"c1"}
    assert set(findings.audio) == {"c1"}


def test_the_digest_of_the_samples_does_not_depend_on_the_container(corpus: Corpus) -> None:
    for name in ("c1.flac", "c1.wav"):
        corpus.write_samples(name, np.arange(-400, 400, dtype=np.int16), subtype="PCM_16")
    flac = lay_out_clip(Clip(clip_id="f", path="c1.flac"), probe_file(corpus.folder, "c1.flac"), WINDOW)
    _, findings = label_shard([flac, *planned(corpus, "c1")], StandIn(), WINDOW, corpus.folder)
    assert findings.audio["f"]["pcm"] == findings.audio["c1"]["pcm"]
    assert findings.audio["f"]["file"] != findings.audio["c1"]["file"]


def test_a_long_clip_split_over_shards_gives_the_windows_it_gives_whole(corpus: Corpus) -> None:

    corpus.write_audio("long.wav", 2.05, rate_hz=11_025, seed=5)
    (whole,) = planned(corpus, "long")
    parts = [dataclasses.replace(whole, first_window=k, windows=min(8, whole.windows - k)) for k in range(0, 21, 8)]
    expected, _ = label_shard([whole], StandIn(), WINDOW, corpus.folder)
    pieces = [label_shard([part], StandIn(), WINDOW, corpus.folder)[0] for part in parts]
    assert len(expected) == 21
    for name in ("window_index", "start_s", "pad_fraction", "probabilities"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in pieces]), getattr(expected, name))


@pytest.mark.parametrize("reason", ["missing", "outside-file"])
def test_a_clip_planned_as_unusable_is_quarantined_unopened(corpus: Corpus, reason: str) -> None:
    clip = PlannedClip(shard=0, clip_id="x", first_window=0, windows=1, path="nowhere.wav", reason=reason, detail="d")
    rows, findings = label_shard([clip], StandIn(), WINDOW, corpus.folder)
    assert len(rows) == 0
    assert (findings.quarantined[0].reason, findings.quarantined[0].detail) == (reason, "d")


def test_shifts_are_the_middles_of_equal_parts_of_a_tenth_of_a_second() -> None:
    assert jitter_shifts(1, 48_000) == [0]
    assert jitter_shifts(2, 48_000) == [-1200, 1200]
    assert jitter_shifts(4, 8000) == [-300, -100, 100, 300]
    assert jitter_shifts(3, 8000) == [-267, 0, 267]


@pytest.mark.parametrize("jitters", [2, 3, 5])
def test_a_jittered_window_has_the_mean_probability_of_its_shifts(corpus: Corpus, jitters: int) -> None:
    clips = planned(corpus, "c0", "c1", "c2", "c3", "c4")
    rows, _ = label_shard(clips, StandIn(), WINDOW, corpus.folder, jitters=jitters)
    plain, _ = label_shard(clips, StandIn(), WINDOW, corpus.folder)
    assert rows.keys().keys() == plain.keys().keys()
    np.testing.assert_array_equal(rows.window_index, plain.window_index)
    for i, (clip_id, index) in enumerate(zip(rows.clip_id, rows.window_index, strict=True)):
        clip = np.pad(read_audio(corpus.folder / f"{clip_id}.wav", rate_hz=8000), 1600)  # silence around the clip
        shifted = [clip[1600 + index * 800 + shift :][:800] for shift in jitter_shifts(jitters, 8000)]
        logits = np.concatenate([StandIn().score(window[None]) for window in shifted]).astype(np.float64)
        expected = (1 / (1 + np.exp(-logits))).mean(axis=0)
        np.testing.assert_allclose(rows.probabilities[i], expected, rtol=1e-6)


def test_a_clip_in_the_middle_of_a_file_hears_nothing_of_what_is_around_it(corpus: Corpus) -> None:
    whole = read_audio(corpus.folder / "c3.wav", rate_hz=8000)
    corpus.write_samples("alone.wav", whole[800:2400], subtype="FLOAT")
    corpus.write_samples("whole.wav", whole, subtype="FLOAT")
    clips = [Clip(clip_id="a", path="alone.wav"), Clip(clip_id="b", path="whole.wav", start_s=0.1, end_s=0.3)]
    laid_out = [lay_out_clip(clip, probe_file(corpus.folder, clip.path), WINDOW) for clip in clips]
    rows, _ = label_shard(laid_out, StandIn(), WINDOW, corpus.folder, jitters=4)
    np.testing.assert_array_equal(rows.probabilities[:2], rows.probabilities[2:])


def test_a_clip_split_over_shards_is_jittered_as_it_is_whole(corpus: Corpus) -> None:
    (whole,) = planned(corpus, "c3")
    parts = [dataclasses.replace(whole, first_window=k, windows=2) for k in (0, 2)]
    expected, _ = label_shard([whole], StandIn(), WINDOW, corpus.folder, jitters=4)
    pieces = [label_shard([part], StandIn(), WINDOW, corpus.folder, jitters=4)[0].probabilities for part in parts]
    np.testing.assert_array_equal(np.concatenate(pieces), expected.probabilities)


def test_kept_classes_stand_beside_the_sum_of_the_others(corpus: Corpus) -> None:
    rows, _ = label_shard(planned(corpus, "c0", "c2"), StandIn(), WINDOW, corpus.folder)
    kept = keep_classes(rows, np.array([2, 0]))
    np.testing.assert_array_equal(kept.probabilities, rows.probabilities[:, [2, 0]])
    np.testing.assert_array_equal(kept.dropped_sum, rows.probabilities[:, 1])
