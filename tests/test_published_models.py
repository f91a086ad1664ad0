"""Models as they are published, from the registry: Nighthawk 0.3.1 (CC BY-NC 4.0) and basic-pitch 0.4.0 (Apache-2.0).

`pytest -m published` downloads both wheels, 82 MB, and unpacks them beside the tests' own files, never in the project;
SOFTLABELS_PUBLISHED names a folder that keeps them. The packages are read, not installed and not imported.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import REPOSITORY, Corpus, shard_bytes

import pipeline
import softlabels
from pipeline import RunOptions, TeacherChoice
from pipeline.checking.regenerate import regenerate
from pipeline.cli.commands import main
from softlabels.classes.matching import match_classes

pytestmark = pytest.mark.published
HERE = RunOptions(backend="sequential")
RATE_HZ = 22_050
WHEELS = {
    "nighthawk==0.3.1": "ce088c7d3428c45831bb28818d0a0256d4022325ecb46ad77558316c4237f1d5",
    "basic-pitch==0.4.0": "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
}
SONGS = ("white-throated-01", "white-throated-02", "wood-pewee-01")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the unpacked wheels; their metadata wants older versions of Python, which reading does not."""
    folder = Path(os.environ.get("SOFTLABELS_PUBLISHED") or tmp_path_factory.mktemp("published"))
    for requirement, digest in WHEELS.items():
        found = list(folder.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl"))
        if not found:
            wanted = ["--no-deps", "--python-version", "3.10", "--only-binary=:all:", "--dest", str(folder)]
            command = [sys.executable, "-m", "pip", "download", "--quiet", *wanted, requirement]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{requirement} cannot be downloaded: {done.stderr.strip()[-300:]}")
            found = list(folder.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl"))
        assert hashlib.sha256(found[0].read_bytes()).hexdigest() == digest
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(folder)
    return folder


@pytest.fixture
def songs(tmp_path: Path) -> Corpus:
    """Three synthesised songs at Nighthawk's rate, so that a window is a slice of the file."""
    made = Corpus(tmp_path / "songs")
    rows = {line.split(",")[0]: line for line in (REPOSITORY / "data_manifest.csv").read_text().splitlines()}
    lines = ["clip_id,path,label"]
    for name in SONGS:
        audio, rate_hz = soundfile.read(REPOSITORY / "tests" / "corpus" / f"{name}.flac", dtype="float32")
        made.write_samples(f"{name}.wav", soxr.resample(audio, rate_hz, RATE_HZ), rate_hz=RATE_HZ, subtype="FLOAT")
        lines.append(f"{name},{name}.wav,{rows[name].split(',')[2]}")
    made.write_manifest("\n".join(lines))
    return made


def stored_and_windows(store, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(rows, classes) probabilities as stored, and the (rows, samples) windows they were scored from."""
    table, samples = store.to_pandas(), store.spec.window.window_samples
    windows = np.zeros((len(table), samples), np.float32)
    for window, row in zip(windows, table.itertuples(), strict=True):
        audio, _ = soundfile.read(folder / f"{row.clip_id}.wav", dtype="float32")
        piece = audio[row.window_index * samples :][:samples]
        window[: len(piece)] = piece
    return np.stack(table.probabilities), windows


def check_verified_and_made_again(store, folder: Path) -> None:
    assert main(["verify", str(folder), "--recompute", "1", "--jobs", "1"]) == 0
    before = shard_bytes(folder)
    for path in (folder / "shards").iterdir():
        path.unlink()
    results = regenerate(store, range(store.planned_shards), jobs=1)
    assert {(result.problem, result.likeness, result.restored) for result in results} == {("", "identical", True)}
    assert shard_bytes(folder) == before


def test_nighthawk_labels_a_store_and_is_averaged_with_birdnet(
    songs: Corpus, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(published)  # where the package is found, and not imported
    night = songs.folder / "night"
    summary = pipeline.run(songs.manifest, night, teacher="nighthawk", options=HERE)
    assert (summary.missing, summary.quarantined) == (0, 0)
    assert "nighthawk" not in sys.modules
    store = softlabels.open(night)
    assert (store.spec.teacher, store.spec.window.window_s, store.spec.batch_size) == ("nighthawk", 1, 1)
    assert (store.spec.scores_output, len(store.classes)) == ("output_4", 130)
    stored, windows = stored_and_windows(store, songs.folder)

    import tensorflow as tf

    model = tf.saved_model.load(str(published / "nighthawk" / "saved_model_with_preprocessing"))
    logits = np.concatenate([np.asarray(model(window)[3]) for window in windows])
    np.testing.assert_allclose(stored, 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=2**-8)
    check_verified_and_made_again(store, night)
    check_its_own_calibration(store, songs, published / "nighthawk")

    birdnet = songs.folder / "birdnet"
    pipeline.run(songs.manifest, birdnet, options=HERE)
    day = softlabels.open(birdnet)
    match = match_classes(store.classes, day.classes, min_coverage=0)
    pairs = [(day.classes[j], store.classes[i]) for i, j in enumerate(match.teacher_classes) if j >= 0]
    assert len(pairs) > 100
    mapping = songs.folder / "shared.csv"
    mapping.write_text("\n".join(["student_class,teacher_class", *(",".join(pair) for pair in pairs)]))
    classes = [student for student, _ in pairs]
    both = softlabels.join(
        [day, store], songs.manifest, classes=classes, mapping=[None, mapping], calibrate="none", other_labels="absent"
    )
    alone = [
        day.join(songs.manifest, classes=classes, other_labels="absent"),
        store.join(songs.manifest, classes=classes, mapping=mapping, other_labels="absent"),
    ]
    assert len(both) == len(alone[0]) == 3
    for row, name in enumerate(songs_of(both)):
        middle = [i for i, each in enumerate(songs_of(alone[1])) if each == name][1]  # of three windows of a second
        mean = (alone[0].soft()[row].astype(np.float64) + alone[1].soft()[middle]) / 2
        np.testing.assert_allclose(both.soft()[row], mean, rtol=1e-3)


def check_its_own_calibration(store, songs: Corpus, package: Path) -> None:
    """Its table has eBird codes, in the order of which its classes are named."""
    codes = (package / "taxonomy" / "species.txt").read_text().split()
    mapping = songs.folder / "codes.csv"
    rows = [",".join(pair) for pair in zip(store.classes, codes, strict=True)]
    mapping.write_text("\n".join(["student_class,teacher_class", *rows]))
    table = package / "test_config" / "probability_calibrations.csv"
    labels = store.join(songs.manifest, other_labels="absent")
    fitted = labels.calibrate(parameters=table, mapping=mapping)
    a_and_b = {line.split(",")[0]: line.split(",")[1:] for line in table.read_text().splitlines()[1:]}
    a, b = np.array([a_and_b[code] for code in codes], np.float64).T
    np.testing.assert_allclose(fitted.soft(), 1 / (1 + np.exp(a * labels.soft().astype(float) + b)), rtol=1e-4)


def songs_of(labels) -> list[str]:
    """The clip of each row."""
    return labels.keys.clip_id.tolist()


TONES_HZ = {"a4": 440.0, "e5": 659.26, "c4": 261.63}
KEYS = {"c4": 39, "a4": 48, "e5": 55}  # of a piano's 88


@pytest.fixture
def tones(tmp_path: Path) -> Corpus:
    """Three notes with overtones, four seconds each."""
    made = Corpus(tmp_path / "tones")
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    for name, hertz in TONES_HZ.items():
        tone = sum(np.sin(2 * np.pi * hertz * k * time_s) * 0.5**k for k in (1, 2, 3, 4)) * np.exp(-time_s / 3) * 0.5
        made.write_samples(f"{name}.wav", tone.astype(np.float32), rate_hz=RATE_HZ, subtype="FLOAT")
    (made.folder / "keys.txt").write_text("".join(f"Key {i + 1}\n" for i in range(88)))
    (made.folder / "bins.txt").write_text("".join(f"Third of a key {i + 1}\n" for i in range(264)))
    rows = [f"{name},{name}.wav,Key {KEYS[name] + 1}" for name in TONES_HZ]
    made.write_manifest("\n".join(["clip_id,path,label", *rows]))
    return made


@pytest.mark.parametrize(
    ("kind", "labels", "output", "pool"),
    [
        ("onnx", "keys.txt", "StatefulPartitionedCall:1", "max"),
        ("litert", "keys.txt", "note", "mean"),
        ("litert", "bins.txt", "", "max"),
    ],
)
def test_basic_pitchs_frames_become_labels(tones: Corpus, published: Path, kind, labels, output, pool) -> None:
    suffix = {"onnx": "nmp.onnx", "litert": "nmp.tflite"}[kind]
    path = published / "basic_pitch" / "saved_models" / "icassp_2022" / suffix
    described = {"rate_hz": RATE_HZ, "activation": "sigmoid", "outputs": "probabilities", "pool": pool}
    described["batch_size"] = 4 if kind == "onnx" else None
    teacher = TeacherChoice(kind=kind, model=str(path), labels=str(tones.folder / labels), **described)
    if output:
        with pytest.raises(
            softlabels.TeacherError, match=r"2 of its outputs could be the scores: .*--output scores=NAME"
        ):
            pipeline.run(tones.manifest, tones.folder / "undecided", teacher=teacher, options=HERE)
        assert not (tones.folder / "undecided" / "store.json").exists()
        teacher = dataclasses.replace(teacher, output=(f"scores={output}",))
    pipeline.run(tones.manifest, tones.folder / "store", teacher=teacher, options=HERE)
    store = softlabels.open(tones.folder / "store")
    assert (store.spec.pool, store.spec.scores_output) == (pool, output or "contour")
    stored, windows = stored_and_windows(store, tones.folder)
    frames = np.concatenate([direct_call(path, output or "contour", window) for window in windows])
    np.testing.assert_allclose(stored, getattr(frames, pool)(axis=1), rtol=2**-8, atol=1e-6)
    check_verified_and_made_again(store, tones.folder / "store")
    if labels == "keys.txt":
        joined = store.join(tones.manifest)
        first = joined.keys.window_index.to_numpy() == 0
        best = dict(zip(joined.keys.clip_id[first], joined.soft()[first].argmax(axis=1).tolist(), strict=True))
        assert best == KEYS


def direct_call(path: Path, output: str, window: np.ndarray) -> np.ndarray:
    """(1, frames, classes): what the model's own runtime gives for one window."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run([output], {session.get_inputs()[0].name: window[None, :, None]})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return runner(input_2=window[None, :, None])[output]
