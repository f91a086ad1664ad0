"""The committed corpus: it is what its script makes, and it holds what tests and README rely on."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "corpus"
RATE_HZ = 24_000


def read_manifest(root):
    with (root / "data_manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_samples(path):
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ
    return samples


def make_corpus(*arguments, cwd=None):
    command = [sys.executable, str(CORPUS / "make_corpus.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def rows():
    return read_manifest(ROOT)


@pytest.fixture(scope="module")
def classes():
    return (CORPUS / "classes.txt").read_text(encoding="utf-8").splitlines()


def test_script_regenerates_manifest_classes_and_every_sample(tmp_path, rows):
    done = make_corpus("-o", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("data_manifest.csv", "tests/corpus/classes.txt"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name
    for row in rows:
        made, committed = read_samples(tmp_path / row["path"]), read_samples(ROOT / row["path"])
        np.testing.assert_array_equal(made, committed, err_msg=row["clip_id"])


def test_same_libsndfile_regenerates_every_byte(tmp_path, rows):
    if "1.2.2" not in soundfile.__libsndfile_version__:
        pytest.skip(f"committed with libsndfile 1.2.2, here is {soundfile.__libsndfile_version__}")
    assert make_corpus("-o", tmp_path).returncode == 0
    paths = [row["path"] for row in rows]
    assert [path for path in paths if (tmp_path / path).read_bytes() != (ROOT / path).read_bytes()] == []


def test_manifest_lists_exactly_the_files_in_the_folder(rows):
    assert list(rows[0]) == ["clip_id", "path", "label", "split", "fold"]
    assert {row["path"] for row in rows} == {f"tests/corpus/{path.name}" for path in CORPUS.glob("*.flac")}
    assert len({row["clip_id"] for row in rows}) == len(rows)


def test_clips_are_short_16_bit_mono_at_24_khz(rows):
    infos = [soundfile.info(ROOT / row["path"]) for row in rows]
    assert {(info.samplerate, info.channels, info.subtype) for info in infos} == {(RATE_HZ, 1, "PCM_16")}
    seconds = [info.frames / RATE_HZ for info in infos]
    assert seconds.count(3.0) == len(rows) - 2
    assert sum(length >= 8 for length in seconds) == 2


def test_no_clip_is_silent_or_reaches_full_scale(rows):
    peaks = {row["clip_id"]: np.abs(read_samples(ROOT / row["path"]).astype(int)).max() for row in rows}
    assert [clip for clip, peak in peaks.items() if not 20 < peak < 32_000] == []


def test_corpus_stays_under_six_megabytes():
    assert sum(path.stat().st_size for path in CORPUS.glob("*.flac")) < 6_000_000


def test_counts_of_species_noise_two_species_and_unannotated(rows, classes):
    counts = Counter(row["label"] for row in rows)
    assert len(classes) >= 8
    assert all(counts[name] >= 5 for name in [*classes, "noise"])
    assert sum(n for label, n in counts.items() if ";" in label) == 1
    assert counts[""] == 2


def test_labels_are_in_the_sorted_class_list(rows, classes):
    assert classes == sorted(set(classes))
    names = {name for row in rows for name in row["label"].split(";") if name}
    assert names - {"noise"} == set(classes)
    assert all(name.count("_") == 1 for name in classes)


def test_every_class_is_in_both_splits_and_every_fold(rows, classes):
    for name in [*classes, "noise"]:
        own = [row for row in rows if row["label"] == name]
        assert 0.25 <= sum(row["split"] == "test" for row in own) / len(own) <= 0.45, name
        assert {row["fold"] for row in own} == set("01234"), name
    assert {row["split"] for row in rows} == {"train", "test"}


def test_larger_corpus_depends_on_its_seed_alone(tmp_path):
    for folder, seed in (("one", 3), ("again", 3), ("other", 4)):
        assert make_corpus("--clips", 13, "--seed", seed, "-o", tmp_path / folder).returncode == 0
    one, again, other = (
        [read_samples(tmp_path / folder / row["path"]) for row in read_manifest(tmp_path / folder)]
        for folder in ("one", "again", "other")
    )
    assert len(one) == len(again) == len(other) == 13
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def loud_tenths(samples):
    """Which tenths of a second are louder than a tenth of the peak. Returns: (tenths,) bool."""
    tenths = np.abs(samples.astype(int))[: len(samples) // 2400 * 2400].reshape(-1, 2400)
    return tenths.max(axis=1) > 0.1 * tenths.max()


def test_long_clips_hold_one_short_song_somewhere(tmp_path, classes):
    assert make_corpus("--clips", 2 * len(classes), "--long", 12, "-o", tmp_path).returncode == 0
    rows = [row for row in read_manifest(tmp_path) if row["label"] != "noise"]
    clips = [read_samples(tmp_path / row["path"]) for row in rows]
    assert {len(samples) for samples in clips} == {12 * RATE_HZ}
    firsts, lasts = zip(*(np.flatnonzero(loud_tenths(samples))[[0, -1]] for samples in clips), strict=True)
    assert max(np.subtract(lasts, firsts)) < 40  # a song lasts less than 4 s of the 12
    assert min(firsts) < 30 < 60 < max(firsts)  # some start in the first 3 s, some after 6 s


def test_hard_clips_are_noisier_and_quieter(tmp_path, classes):
    count = 3 * (len(classes) + 1)
    for folder, options in (("easy", []), ("hard", ["--hard"])):
        assert make_corpus("--clips", count, *options, "-o", tmp_path / folder).returncode == 0
    easy, hard = (
        {row["clip_id"]: read_samples(tmp_path / f / row["path"]) for row in read_manifest(tmp_path / f)}
        for f in ("easy", "hard")
    )
    noise = [clip for clip in easy if clip.startswith("noise")]
    songs = [clip for clip in easy if clip not in noise]
    assert np.mean([hard[c].std() for c in noise]) > 3 * np.mean([easy[c].std() for c in noise])
    assert np.mean([hard[c].max() for c in songs]) < np.mean([easy[c].max() for c in songs])


@pytest.mark.parametrize("arguments", [["--hard"], ["--clips", 5], ["--clips", 0, "-o", "x"], ["--flac"]])
def test_a_wrong_command_line_writes_nothing(arguments, tmp_path):
    done = make_corpus(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert list(tmp_path.iterdir()) == []
