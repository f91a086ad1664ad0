"""What is odd about a recording, but harmless: a note per clip, counted by the run, listed by `inspect --notes`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bad_audio import noise, wav

import pipeline
import softlabels
from pipeline.cli.commands import main
from softlabels.records.receipts import Receipt

RATE_HZ = 8000
X = noise(3200)
CANCELS = "its channels cancel each other: one reaches 0.4, their mean only "
BEYOND = "its samples reach "


def written(folder: Path, clips: dict[str, tuple[np.ndarray, dict]]) -> Path:
    for name, (samples, how) in clips.items():
        how = {"samplerate": RATE_HZ, "format": "WAV", "subtype": "FLOAT", **how}
        soundfile.write(folder / f"{name}.wav", samples, **how)
    manifest = folder / "data_manifest.csv"
    manifest.write_text("clip_id,path\n" + "".join(f"{name},{name}.wav\n" for name in clips))
    return manifest


def run(folder: Path, manifest: Path, **labelling: object) -> pipeline.RunSummary:
    return pipeline.run(
        manifest,
        folder / "store",
        teacher="standin:teacher",
        labelling=pipeline.LabelOptions(**labelling),
        options=pipeline.RunOptions(backend="sequential"),
    )


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1).astype(np.float32)


GOOD = {
    "mono": (X, {}),
    "silent": (stereo(X * 0, X * 0), {}),
    "one-dead-channel": (stereo(X, X * 0), {}),
    "quiet": (stereo(X * 1e-4, X * 9e-5), {}),
    "half-inverted": (stereo(X, -X / 2), {}),
    "full-scale": (np.sign(X), {"subtype": "PCM_16"}),
    "full-scale-44k": (np.sign(np.sin(np.arange(9600) / 9)), {"samplerate": 24_000}),  # the resampler overshoots
    "loud-vorbis": (np.sign(X), {"format": "OGG", "subtype": "VORBIS"}),
}
ODD = {
    "inverted": (stereo(X, -X), {}, CANCELS + "0 of"),
    "inverted-16-bit": (stereo(X, -X), {"subtype": "PCM_16"}, CANCELS),
    "inverted-nearly": (stereo(X, -X + 1e-5), {}, CANCELS),
    "inverted-flac-22k": (stereo(X, -X), {"samplerate": 22_050, "format": "FLAC", "subtype": "PCM_16"}, CANCELS),
    "inverted-aiff": (stereo(X, -X), {"format": "AIFF", "subtype": "PCM_24"}, CANCELS),
    "inverted-mp3": (stereo(X, -X), {"format": "MP3", "subtype": "MPEG_LAYER_III"}, "its channels cancel each other"),
    "three-cancel": (np.stack([X, -X / 2, -X / 2], axis=1), {}, CANCELS),
    "integers-as-floats": ((X * 32768).astype(np.float32), {}, BEYOND),
    "a-little-beyond": (X * 2.6, {"subtype": "DOUBLE"}, BEYOND + "1.04, expected -1 to 1"),
    "beyond-in-a-caf": (X * 3, {"format": "CAF"}, BEYOND + "1.2"),
}


def test_odd_samples_are_noted_and_ordinary_ones_are_not(tmp_path: Path, capsys) -> None:
    clips = GOOD | {name: (samples, how) for name, (samples, how, _) in ODD.items()}
    summary = run(tmp_path, written(tmp_path, clips))
    assert (summary.quarantined, summary.missing) == (0, 0)
    assert summary.notes.keys() == ODD.keys()
    for name, (_, _, note) in ODD.items():
        assert summary.notes[name].startswith(note), summary.notes[name]
    assert main(["inspect", str(tmp_path / "store"), "--notes"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "clip_id\tnote"
    assert dict(line.split("\t") for line in lines) == summary.notes
    assert run(tmp_path, tmp_path / "data_manifest.csv").notes == {}, "nothing was labelled"


def test_what_a_header_says_wrongly_is_noted_beside_what_is_odd_about_the_samples(tmp_path: Path, capsys) -> None:
    data = (noise(3200) * 32767).astype("<i2").tobytes()
    (tmp_path / "a.wav").write_bytes(wav(rate_hz=RATE_HZ, data=data, promised=0x7FFFF000))
    both = np.stack([noise(1600), -noise(1600)], axis=1)
    pairs = (both * 32767).astype("<i2").tobytes()
    (tmp_path / "b.wav").write_bytes(wav(rate_hz=RATE_HZ, channels=2, data=pairs, promised=len(pairs) + 44))
    manifest = tmp_path / "data_manifest.csv"
    manifest.write_text("clip_id,path\na,a.wav\nb,b.wav\n")
    arguments = ["run", str(manifest), "-o", str(tmp_path / "store"), "--teacher", "standin:teacher"]
    assert main([*arguments, "--backend", "sequential"]) == 0
    out, told = capsys.readouterr()
    assert "noted             2" in out
    assert (
        "noted: a: its header promises 2147479552 bytes, as writers of streams do, 6400 are there (2 in all: " in told
    )
    notes = softlabels.open(tmp_path / "store").receipt(0).notes
    assert "which counts the header, 6400 are there; its channels cancel each other: one reaches 0.4" in notes["b"]


def test_a_note_is_of_the_stretch_that_a_clip_is(tmp_path: Path) -> None:
    odd = np.concatenate([stereo(X, X), stereo(X, -X), stereo(X, X)])
    soundfile.write(tmp_path / "a.wav", odd, RATE_HZ)
    manifest = tmp_path / "data_manifest.csv"
    manifest.write_text("clip_id,path,start_s,end_s\na,a.wav,0,0.4\nb,a.wav,0.4,0.8\nc,a.wav,0.8,1.2\nd,a.wav,,\n")
    assert run(tmp_path, manifest, shard_windows=4).notes.keys() == {"b", "d"}  # one shard of d has that stretch only


def test_a_note_in_a_strangers_probe_cache_spoils_no_receipt(tmp_path: Path) -> None:
    manifest = written(tmp_path, {"a": (X, {})})
    run(tmp_path, manifest)
    cache = tmp_path / "store/probe_cache.jsonl"
    (line,) = filter(None, cache.read_text().splitlines())
    shutil.rmtree(tmp_path / "store")
    cache.parent.mkdir()
    cache.write_text(json.dumps(json.loads(line) | {"note": "\ud800\n\x1b[31m" + "x" * 30_000}) + "\n")
    run(tmp_path, manifest)
    (note,) = softlabels.open(tmp_path / "store").receipt(0).notes.values()
    assert (len(note), note[:2]) == (1000, "?\n")


def test_a_note_of_a_stranger_is_a_short_text(tmp_path: Path) -> None:
    run(tmp_path, written(tmp_path, {"a": (stereo(X, -X), {})}))
    content = json.loads((tmp_path / "store/receipts/00000.g0.json").read_text())
    assert Receipt.from_bytes(json.dumps(content).encode()).notes.keys() == {"a"}
    for note in (3, None, ["x"], "x" * 1001):
        content["audio"]["a"]["note"] = note
        with pytest.raises(ValueError, match="note on 'a': expected a text of 1000 characters at most"):
            Receipt.from_bytes(json.dumps(content).encode())
