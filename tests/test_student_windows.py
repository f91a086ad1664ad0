"""Student windows that are not the teacher's: shorter, longer, at random; held against plain float64 references.

The stand-in's windows are 800 samples at 8 kHz. All audio is noise, so that a crop is found again in its file.
"""

import itertools
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soxr
from conftest import EMBEDDED, Corpus, label, make_corpus
from test_batch_stream import digest, passes

import softlabels
from softlabels.audio.decode import read_audio
from softlabels.batches.crops import Cropping
from softlabels.batches.frameworks.grain_dataset import BatchSource
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches

RATE, WINDOW = 8000, 800


@dataclass
class Clip:
    """A clip as it is in its file, in samples at the teacher's rate."""

    path: Path
    start: int
    end: int

    def heard(self, rate_hz: int) -> np.ndarray:
        """Its file at a rate, zeros after the clip."""
        own_hz = 11_025 if self.path.stem == "odd" else RATE
        audio = read_audio(self.path, rate_hz=own_hz)
        if own_hz != rate_hz:
            audio = soxr.resample(audio, own_hz, rate_hz, quality="HQ")
        return np.concatenate([audio[: round(self.end * rate_hz / RATE)], np.zeros(3 * rate_hz, np.float32)])


@dataclass
class Truth:
    """Labels, and what is known of their rows without them."""

    labels: softlabels.JoinedLabels
    clips: dict[str, Clip]
    clip_id: list[str]
    window: np.ndarray  # (rows,) first sample in the file

    def reference(self, clip_id: str, start: int, length: int, *, linear: bool = False) -> np.ndarray:
        """`[hard | soft | embedding]` of one crop, window by window, in float64."""
        weights = {}
        for row in np.flatnonzero(np.array(self.clip_id) == clip_id):
            window = self.window[row]
            shared = min(window + WINDOW, start + length) - max(window, start)
            weight = 1 - abs(window - start) / self.labels.window.hop_samples if linear else shared
            if weight > 0:
                weights[row] = weight
        rows, share = list(weights), np.array(list(weights.values()), np.float64)[:, None] / sum(weights.values())
        hard, soft = np.split(self.labels.y_true(rows).astype(np.float64), 2, axis=1)
        vector = (share * self.labels.embedding(rows)).sum(axis=0)
        agree = ((hard == hard[0]) | np.isnan(hard) & np.isnan(hard[0])).all(axis=0)
        return np.concatenate([np.where(agree, hard[0], np.nan), (share * soft).sum(axis=0), vector])

    def batches(self, **options) -> Batches:
        return Batches(self.labels, BatchOptions(**options))

    def examples(self, epochs: int, **options) -> Iterator[tuple]:
        """(row, x, y_true, perhaps embedding) of each example, in order."""
        batches = self.batches(**options)
        for number in range(epochs * len(batches)):
            yield from zip(batches.rows(number), *batches.arrays(number), strict=True)

    def rows_of(self, clip_id: str) -> np.ndarray:
        return np.flatnonzero(np.array(self.clip_id) == clip_id)


@pytest.fixture(scope="module", params=[0.0, 0.07], ids=["hop 0.1", "hop 0.03"])
def any_hop(request, tmp_path_factory) -> Truth:
    return labelled(tmp_path_factory.mktemp("windows"), request.param)


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Truth:
    return labelled(tmp_path_factory.mktemp("half"), 0.05)


def labelled(folder: Path, overlap_s: float) -> Truth:
    """The six clips, one that is longer, one at 11,025 Hz, one that begins within its file, and one with a hole."""
    corpus = make_corpus(folder)
    corpus.write_audio("long.wav", 0.8, seed=10)
    corpus.write_audio("odd.wav", 0.23, seed=11, rate_hz=11_025)
    corpus.write_audio("inner.wav", 0.5, seed=12)
    hole = np.random.default_rng(13).uniform(-0.4, 0.4, 4800).astype(np.float32)
    hole[2000:2010] = np.nan
    corpus.write_samples("hole.wav", hole, subtype="FLOAT")
    lines = corpus.manifest.read_text().splitlines()
    rows = [f"{line},," for line in lines[1:]]
    rows += ["long,long.wav,Aus aus_Alpha,train,,", "odd,odd.wav,,train,,", "hole,hole.wav,Bus bus_Beta,train,,"]
    rows += ["inner,inner.wav,Cus cus_Gamma,train,0.111,0.437"]
    corpus.write_manifest("\n".join(["clip_id,path,label,split,start_s,end_s", *rows]) + "\n")
    (folder / "boxes.csv").write_text("clip_id,start_s,end_s,label\nc3,0.0,0.08,Aus aus_Alpha\n")
    boxes = {"annotations": folder / "boxes.csv", "annotated_extents": "clips"}
    labels = label(corpus, teacher=EMBEDDED, overlap_s=overlap_s, shard_windows=200).join(corpus.manifest, **boxes)
    seconds = dict(zip([f"c{i}" for i in range(6)], [0.3, 0.1, 0.25, 0.4, 0.05, 0.2], strict=True))
    seconds |= {"long": 0.8, "odd": 2536 / 11_025, "hole": 0.6, "inner": 0.437}
    clips = {
        name: Clip(corpus.folder / f"{name}.wav", 888 if name == "inner" else 0, round(end_s * RATE))
        for name, end_s in seconds.items()
    }
    keys = labels.keys
    return Truth(labels, clips, list(keys.clip_id), np.rint(keys.start_s.to_numpy() * RATE).astype(int))


def found_at(x: np.ndarray, audio: np.ndarray) -> int:
    """Where in a file a crop begins, by its first samples."""
    places = np.flatnonzero(audio[: len(audio) - 2] == x[0])
    (start,) = [place for place in places if (audio[place : place + 3] == x[:3]).all()]
    return int(start)


# Shorter and longer, in the order of the rows


@pytest.mark.parametrize("rate_hz", [8000, 6300])
def test_a_shorter_window_is_the_first_part_of_the_teachers_and_has_its_label(truth, rate_hz: int) -> None:
    x, y_true = truth.batches(batch_size=200, rate_hz=rate_hz, window_s=0.0621).arrays(0)
    whole, expected = truth.batches(batch_size=200, rate_hz=rate_hz).arrays(0)
    np.testing.assert_array_equal(x, whole[:, : round(0.0621 * rate_hz)])
    np.testing.assert_array_equal(y_true, expected)


@pytest.mark.parametrize("window_s", [0.1001, 0.25, 0.7])
def test_a_longer_window_goes_on_to_the_end_of_its_clip_with_the_label_of_all_it_overlaps(any_hop, window_s) -> None:
    length = round(window_s * RATE)
    heard = {name: clip.heard(RATE) for name, clip in any_hop.clips.items()}
    for row, x, y_true, vector in any_hop.examples(1, window_s=window_s, embedding=True):
        name, window = any_hop.clip_id[row], any_hop.window[row]
        if name == "hole":
            continue
        np.testing.assert_array_equal(x, heard[name][window:][:length])
        expected = any_hop.reference(name, window, min(length, any_hop.clips[name].end - window))
        np.testing.assert_allclose(y_true, expected[:6], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(vector, expected[6:], rtol=2e-3)


def test_a_window_as_long_as_the_teachers_changes_nothing(truth) -> None:
    plain, named = truth.batches(), truth.batches(window_s=0.1)
    assert digest([plain.load(0)]) == digest([named.load(0)])


# At random


@pytest.mark.parametrize("window_s", [None, 0.0621, 0.16])
def test_a_random_crop_has_the_label_of_its_time(any_hop, window_s: float | None) -> None:
    length, hop, moved = round((window_s or 0.1) * RATE), any_hop.labels.window.hop_samples, set()
    heard = {name: clip.heard(RATE) for name, clip in any_hop.clips.items()}
    options = {"batch_size": 7, "shuffle": True, "seed": 2, "embedding": True, "crops": "random", "window_s": window_s}
    for row, x, y_true, vector in any_hop.examples(1, **options):
        name, window = any_hop.clip_id[row], any_hop.window[row]
        if name == "hole":
            continue
        start, clip = found_at(x, heard[name]), any_hop.clips[name]
        np.testing.assert_array_equal(x, heard[name][start:][:length])
        last = max(clip.start, clip.end - length)
        assert clip.start <= start <= last
        near = max(hop / 2, WINDOW - length) if window == any_hop.window[any_hop.rows_of(name)[-1]] else hop / 2
        assert abs(start - min(window, last)) <= near + 1
        of = length if window_s is None else min(length, clip.end - start)
        expected = any_hop.reference(name, start, of, linear=window_s is None)
        np.testing.assert_allclose(y_true, expected[:6], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(vector, expected[6:], rtol=2e-3)
        moved.add((name, start - window))
    assert len(moved) > 15


@pytest.mark.parametrize("rate_hz", [4000, 11_025])
def test_sound_and_label_are_of_one_time_to_a_sample_at_any_rate(truth, rate_hz: int) -> None:
    heard = {name: truth.clips[name].heard(rate_hz) for name in ("long", "odd", "inner")}
    for row, x, y_true in truth.examples(1, rate_hz=rate_hz, crops="random", seed=3):
        name = truth.clip_id[row]
        if name in heard:
            at, clip = found_at(x, heard[name]) / rate_hz * RATE, truth.clips[name]
            around = range(round(at - RATE / rate_hz), round(at + RATE / rate_hz) + 1)
            starts = [s for s in around if clip.start <= s <= clip.end - WINDOW]
            possible = [truth.reference(name, s, WINDOW, linear=True) for s in starts]
            assert min(np.abs(each[3:6] - y_true[3:]).max() for each in possible) < 1e-6


def test_a_crop_that_is_its_window_has_its_label_bit_for_bit(any_hop) -> None:
    labels = any_hop.labels
    rows, length = np.arange(len(labels)), np.full(len(labels), WINDOW)
    y_true, vectors = labels.cropped(rows, any_hop.window, length, "linear", embedding=True)
    np.testing.assert_array_equal(y_true, labels.y_true())
    np.testing.assert_array_equal(vectors, labels.embedding())
    fixed = np.concatenate([any_hop.rows_of("c1"), any_hop.rows_of("c4")])  # of one window, which cannot move
    random, plain = (any_hop.batches(batch_size=200, crops=crops).arrays(0) for crops in ("random", None))
    for one, other in zip(random, plain, strict=True):
        np.testing.assert_array_equal(one[fixed], other[fixed])


@pytest.mark.parametrize("window_s", [None, 0.0621, 0.16])
def test_crops_of_exclusive_labels_are_distributions(any_hop, window_s: float | None) -> None:
    batches = Batches(any_hop.labels.exclusive(), BatchOptions(crops="random", window_s=window_s, batch_size=200))
    y_true = batches.arrays(0)[1]
    assert y_true.shape == (len(any_hop.labels), 8)
    np.testing.assert_allclose(y_true[:, 4:].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("length", [500, 800, 1600])
def test_starts_are_uniform_around_their_windows_and_reach_every_part_evenly(any_hop, length: int) -> None:
    cropping, hop = Cropping(any_hop.labels, length, RATE), any_hop.labels.window.hop_samples
    rows, last = any_hop.rows_of("long"), 6400 - length
    draws = np.random.default_rng(4).random((1500, len(rows)))
    starts = np.stack([cropping.around(rows, uniform).start for uniform in draws])  # (epochs, rows)
    assert (starts.min(), starts.max()) == (0, last)
    lowest, highest = (cropping.around(rows, np.full(len(rows), u)).start for u in (0.0, 1 - 1e-9))
    fits = np.arange(len(rows)) * hop <= last  # others are moved into the clip, and share its last samples
    assert (lowest[1:] == highest[:-1] + 1)[fits[1:]].all(), "no gap, and no start that two rows have"
    assert len(set(lowest[~fits])) <= 1
    inner = [i for i in range(1, len(rows) - 1) if (i + 1) * hop <= last]
    for i in inner:
        offset = starts[:, i] - i * hop + hop // 2
        assert (offset.min() >= 0, offset.max() < hop) == (True, True)
        assert chi_square(np.bincount(offset * 8 // hop, minlength=8)) < 29.9  # 99.99 % of 7 degrees of freedom
    between = starts[(starts >= hop / 2) & (starts < (len(inner) + 0.5) * hop)] - hop // 2
    assert chi_square(np.bincount(between * 8 // (len(inner) * hop), minlength=8)) < 29.9


def chi_square(counts: np.ndarray) -> float:
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


@pytest.mark.parametrize("options", [{"crops": "random"}, {"window_s": 0.25}, {"window_s": 0.15, "crops": "random"}])
def test_what_the_teacher_did_not_score_is_never_heard(truth, options: dict) -> None:
    rows, seen = truth.rows_of("hole"), set()
    batches = truth.batches(**options)
    for number in range(5):
        crops = batches._crops(number, rows) or batches._cropping.at(rows)
        x = crops.silenced(batches.audio.read(rows, crops.sound_start))
        y_true = truth.labels.cropped(rows, crops.start, crops.length, crops.how)[0]
        assert np.isfinite(x).all()
        assert np.isfinite(y_true).all()
        assert ((crops.start + crops.length <= 2000) | (crops.start >= 2010)).all()
        seen |= set(crops.start.tolist())
    assert len(seen) >= (len(rows) if options == {"window_s": 0.25} else 3 * len(rows))
    whole = np.concatenate([batches.arrays(n)[0] for n in range(len(batches))])
    assert np.isfinite(whole).all()


# One stream, in every form


ALL = {"batch_size": 5, "shuffle": True, "seed": 6, "crops": "random", "window_s": 0.0621, "rate_hz": 4000}


def test_every_form_gives_the_same_bytes(truth) -> None:
    options, labels = ALL | {"batch_size": 20, "upsample": 0.5}, truth.labels
    batches = truth.batches(**options)
    expected = digest([batches.load(n) for n in range(2 * len(batches))])
    for workers in (0, 3):
        assert digest(passes(softlabels.make_dataset(labels, **options, workers=workers))) == expected
    dataset, taken = labels.as_pydataset(**options), []
    for _ in range(2):
        taken += [dataset[i] for i in range(len(dataset))]
        dataset.on_epoch_end()
    assert digest(taken) == expected
    source = pickle.loads(pickle.dumps(BatchSource(batches, 2)))
    assert digest([source[i] for i in reversed(range(len(source)))][::-1]) == expected


def test_a_state_resumes_and_one_of_other_windows_is_refused(truth) -> None:
    def dataset(**change):
        return softlabels.make_dataset(truth.labels, **{**ALL, "embedding": True, **change}, workers=1)

    first, second, third = dataset(), dataset(), dataset()
    whole = [*first, *itertools.islice(first, 3)]
    list(itertools.islice(second, 3))
    state = json.loads(json.dumps(second.get_state()))
    third.set_state(state)
    for (x, y), (expected_x, expected_y) in zip(third, whole[3:], strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y["labels"], expected_y["labels"])
        np.testing.assert_array_equal(y["embedding"], expected_y["embedding"])
    for change in ({"crops": None}, {"window_s": None}, {"window_s": 0.08}, {"upsample": 0.5}):
        with pytest.raises(ValueError, match="set_state: expected"):
            dataset(**change).set_state(state)


def test_a_state_from_before_there_were_crops_still_resumes(truth) -> None:
    dataset = truth.labels.as_pydataset(4, shuffle=True)
    state = {
        name: value for name, value in dataset.get_state().items() if name not in ("window_s", "crops", "upsample")
    }
    dataset.set_state({**state, "position": 2})
    assert dataset.get_state()["position"] == 2


def test_numpys_numbers_are_as_good_as_pythons(truth) -> None:
    numbers = {"seed": np.int64(3), "window_s": np.float32(0.05), "upsample": np.float32(0.5), "batch_size": np.int8(4)}
    numbers["rate_hz"] = np.int16(4000)
    one = truth.batches(**numbers, shuffle=True, crops="random")
    other = truth.batches(**{name: number.item() for name, number in numbers.items()}, shuffle=True, crops="random")
    assert one.position_of(json.loads(json.dumps(other.state(3)))) == 3
    assert json.dumps(one.state(3)) == json.dumps(other.state(3))
    for number in (0, 40, 700):  # beyond 8 bits
        assert digest([one.load(number)]) == digest([other.load(number)])


def test_crops_differ_by_epoch_and_seed_and_between_two_draws_of_a_row(truth) -> None:
    def starts(seed: int, epoch: int, **options) -> np.ndarray:
        batches = truth.batches(seed=seed, crops="random", **options)
        numbers = range(epoch * len(batches), (epoch + 1) * len(batches))
        return np.concatenate([batches._crops(n, batches.rows(n)).start for n in numbers])

    assert (starts(1, 0) == starts(1, 0, batch_size=9)).all(), "and do not depend on the batch size"
    for other in (starts(1, 1), starts(2, 0)):
        assert (starts(1, 0) != other).mean() > 0.8
    only = np.zeros(len(truth.labels))
    only[truth.rows_of("long")[2]] = 1
    assert len(set(starts(1, 0, sampling_weights=only))) > len(only) / 2


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_s": 0.0}, "window_s: expected a number of seconds above 0, or None, got 0.0"),
        ({"window_s": -2.5}, "window_s: expected a number of seconds above 0"),
        ({"window_s": np.nan}, "window_s: expected a number of seconds above 0"),
        ({"window_s": np.inf}, "window_s: expected a number of seconds above 0"),
        ({"window_s": "2.5"}, "window_s: expected a number of seconds above 0, or None, got '2.5'"),
        ({"window_s": True}, "window_s: expected a number of seconds above 0"),
        ({"window_s": 1e-5}, r"window_s: expected a sample of 0.000125 s or more, got 1e-05 s"),
        ({"window_s": 1e-3, "rate_hz": 100}, r"window_s: expected a sample of 0.01 s or more, got 0.001 s"),
        (
            {"window_s": 0.81},
            "window_s: expected at most 0.8 s, the longest stretch that the teacher scored, got 0.81 s",
        ),
        ({"window_s": 2.5, "crops": "random"}, "window_s: expected at most 0.8 s"),
        ({"crops": "centre"}, "crops: expected 'random' or None, got 'centre'"),
        ({"crops": True}, "crops: expected 'random' or None, got True"),
        ({"batch_size": 0}, "batch_size: expected a whole number, 1 or more, got 0"),
        ({"batch_size": 16.0}, "batch_size: expected a whole number, 1 or more, got 16.0"),
        ({"crops": "random", "seed": -1}, "seed: expected a whole number from 0 up, got -1"),
        ({"crops": "random", "seed": 0.5}, "seed: expected a whole number from 0 up, got 0.5"),
        ({"window_s": 0.05, "rate_hz": 0}, "rate_hz: expected a whole number from 1 to 10000000, or None, got 0"),
        (
            {"window_s": 0.05, "rate_hz": 24e3},
            "rate_hz: expected a whole number from 1 to 10000000, or None, got 24000.0",
        ),
        ({"window_s": 0.05, "rate_hz": -8000}, "rate_hz: expected a whole number"),
        ({"upsample": -0.1}, "upsample: expected a number from 0"),
        ({"upsample": 2}, "upsample: expected a number from 0 .rows as they are. to 1 .classes equally., got 2"),
        ({"upsample": np.nan}, "upsample: expected a number from 0"),
        ({"upsample": "0.5"}, "upsample: expected a number from 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_audio_is_read(truth, options: dict, message: str) -> None:
    def never(audio: np.ndarray) -> np.ndarray:
        raise AssertionError

    make_dataset = partial(softlabels.make_dataset, truth.labels)
    for door in (truth.labels.as_pydataset, make_dataset):
        with pytest.raises(ValueError, match=message):
            door(**options, features=never)


def test_pooled_windows_have_no_crops_even_where_each_clip_has_one(corpus: Corpus) -> None:
    corpus.write_manifest("clip_id,path\nc1,c1.wav\nc4,c4.wav\n")
    pooled = label(corpus).join(corpus.manifest, windows="max")
    for options in ({"crops": "random"}, {"window_s": 0.12}, {"crops": "random", "window_s": 0.05}):
        name = "crops" if "crops" in options else "window_s"
        with pytest.raises(ValueError, match=f"{name}: expected labels of windows.*got windows='max'; join with windo"):
            softlabels.make_dataset(pooled, **options)
    assert softlabels.make_dataset(pooled, window_s=0.05).element_spec[0].shape.as_list() == [None, 400]
