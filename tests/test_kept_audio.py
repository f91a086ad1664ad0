"""Audio for training is made once: the samples that streaming gives, or near them; never damaged, cut or outdated."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, Corpus, label, make_corpus
from test_writers import files_of_at_most, names_in

import softlabels
import softlabels.kept.in_parts as in_parts
import softlabels.sound.decoding as decoding
import softlabels.sound.kept_audio as kept_audio
from pipeline.checking.kept_joins import joins_problems
from softlabels import AudioError, JoinedLabels, JoinError
from softlabels.batches.window_audio import WindowAudio
from softlabels.errors import EnvironmentTrouble, StorageFullError
from softlabels.kept.soft_file import write_soft
from softlabels.sound.kept_audio import KeptAudio
from softlabels.sound.samples import BLOCK, from_int16, to_int16

RATES = (8000, 4000, 11025)


def make_sounds(folder: Path) -> Corpus:
    """Clips of every kind: several of one file, one of them far away, a copy, MP3, stereo, quiet, beyond full scale."""
    made = Corpus(folder / "corpus")
    generator = np.random.default_rng(5)
    made.write_audio("long.flac", 4.03, seed=1)
    made.write_audio("tone.mp3", 1.2, rate_hz=44_100, seed=2)
    made.write_samples("wide.wav", generator.uniform(-0.2, 0.2, (30_001, 2)), rate_hz=48_000, subtype="PCM_24")
    made.write_samples("quiet.wav", generator.normal(0, 1e-5, 9000).astype(np.float32), subtype="FLOAT")
    made.write_samples("loud.wav", generator.normal(0, 3, 9000).astype(np.float32), subtype="FLOAT")
    (made.folder / "copy.flac").write_bytes((made.folder / "long.flac").read_bytes())
    clips = ["early,long.flac,0.013,0.66", "next,long.flac,0.61,0.95", "late,long.flac,3.7,", "copied,copy.flac,0,0.2"]
    clips += [f"inner,wide.wav,{4814 / 48_000!r},0.5"]  # whose first window, in whole samples, begins before it
    clips += [f"{name.partition('.')[0]},{name},,," for name in ("tone.mp3", "wide.wav", "quiet.wav", "loud.wav")]
    lines = [clip.rstrip(",") + "," * (3 - clip.rstrip(",").count(",")) for clip in clips]
    made.write_manifest("\n".join(["clip_id,path,start_s,end_s", *lines]) + "\n")
    return made


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> JoinedLabels:
    made = make_sounds(tmp_path_factory.mktemp("sounds"))
    return label(made).join(made.manifest)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, softlabels.SoftLabelStore]:
    made = make_corpus(tmp_path_factory.mktemp("labelled"))
    return made, label(made)


@pytest.fixture
def labels(labelled, tmp_path: Path) -> JoinedLabels:
    """Six small files of one clip each, of which nothing is kept yet."""
    corpus, store = labelled
    return store.join(corpus.manifest, cache_dir=tmp_path / "kept")


@pytest.fixture
def own_labels(corpus: Corpus, store) -> JoinedLabels:
    """The same of a corpus that may be changed, kept in its store."""
    return store.join(corpus.manifest)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The paths of files that are decoded, as they are."""
    paths, real = [], decoding.stream_audio

    def stream(path, **how):
        paths.append(Path(path).name)
        return real(path, **how)

    monkeypatch.setattr(decoding, "stream_audio", stream)
    monkeypatch.setattr(kept_audio, "PART_S", 0)  # every file is a part
    monkeypatch.setattr(in_parts, "THREADS", 1)  # one after the other
    return paths


def kept_file(labels: JoinedLabels, kind: str = "audio") -> Path:
    (path,) = labels.path.parent.glob(f"{kind}-*.npy")
    return path


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


# --- the samples


def crops_of(labels: JoinedLabels, rate_hz: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and starts at or after the start of their clips, some beyond their ends."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(labels), 60)
    first = np.array([labels.sound_of(row).start for row in range(len(labels))])
    clip = labels.keys["clip_id"].to_numpy()
    own = np.array([first[clip == clip[row]].min() for row in rows])
    return rows, np.ceil(own * rate_hz / 8000).astype(np.int64) + generator.integers(0, rate_hz, 60)


@pytest.mark.parametrize("rate_hz", RATES)
def test_kept_audio_is_what_streaming_gives_to_the_byte(sounds: JoinedLabels, rate_hz: int) -> None:
    every = np.arange(len(sounds))
    for samples in (None, 3001, 1):
        streamed = WindowAudio(sounds, rate_hz=rate_hz, window_samples=samples)
        kept = KeptAudio(sounds, rate_hz=rate_hz, window_samples=samples, form="float32")
        assert (kept.rate_hz, kept.window_samples) == (streamed.rate_hz, streamed.window_samples)
        assert kept.read(every).tobytes() == streamed.read(every).tobytes()
        rows, starts = crops_of(sounds, rate_hz, seed=rate_hz)
        assert kept.read(rows, starts).tobytes() == streamed.read(rows, starts).tobytes()


@pytest.mark.parametrize("rate_hz", RATES)
def test_whole_numbers_are_within_half_a_step_of_it(sounds: JoinedLabels, rate_hz: int) -> None:
    every, clip = np.arange(len(sounds)), sounds.keys["clip_id"].to_numpy()
    exact = KeptAudio(sounds, rate_hz=rate_hz, form="float32").read(every)
    kept = KeptAudio(sounds, rate_hz=rate_hz)
    for name in np.unique(clip):
        ours, theirs = kept.read(every[clip == name]), exact[clip == name]
        assert np.abs(ours - theirs).max() <= 2.0**-14 * np.abs(theirs).max(), name  # a louder sample may lie beside
        assert rate_hz == 8000 or (ours != theirs).any()
    rows, starts = crops_of(sounds, rate_hz, seed=rate_hz)
    near = np.abs(kept.read(rows, starts) - KeptAudio(sounds, rate_hz=rate_hz, form="float32").read(rows, starts))
    assert near.max() <= 2.0**-15 * np.abs(exact).max()


def test_what_a_file_of_16_bits_holds_comes_back_to_the_bit(labels: JoinedLabels) -> None:
    every = np.arange(len(labels))
    assert KeptAudio(labels).read(every).tobytes() == WindowAudio(labels).read(every).tobytes()


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e-3, 1.0, 5.0, 1e30])
def test_no_scale_is_clipped_or_lost(scale: float) -> None:
    blocks = (np.random.default_rng(0).normal(0, scale, (3, BLOCK))).astype(np.float32)
    numbers, exponents = to_int16(blocks)
    back = np.empty(3 * BLOCK, np.float32)
    from_int16(numbers.reshape(-1), exponents, 0, back)
    step = np.ldexp(1.0, exponents)[:, None]
    assert (np.abs(back.reshape(3, BLOCK) - blocks) <= step / 2).all()
    assert (step[:, 0] <= np.abs(blocks).max(axis=1) / 2**14).all()  # no bit is given away


@pytest.mark.parametrize("peak", [-1.0, 32767 / 32768, -0.5, 0.25, 1 / 32768, 0.0, -4.0])
def test_numbers_of_16_bits_are_exact_at_any_peak(peak: float) -> None:
    blocks = np.random.default_rng(1).integers(-9, 9, (1, BLOCK)).astype(np.float32) / 32768 * bool(peak)
    blocks[0, 77] = peak
    numbers, exponents = to_int16(blocks)
    back = np.empty(BLOCK, np.float32)
    from_int16(numbers[0], exponents, 0, back)
    assert (back[77], np.abs(back - blocks).max() <= max(0, abs(peak) - 1) / 32768) == (peak, True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_spoils_none_beside_it(bad: float) -> None:
    blocks = np.random.default_rng(2).uniform(-1, 1, (4, BLOCK)).astype(np.float32)
    blocks[0, 5] = blocks[1, 8] = -1
    blocks[1, [0, 77, BLOCK - 1]] = bad
    numbers, exponents = to_int16(blocks)
    flat, truth = numbers.reshape(-1), blocks.reshape(-1)
    for first, end in ((0, 4 * BLOCK), (3, 3 * BLOCK), (BLOCK, BLOCK + 1), (BLOCK - 1, 2 * BLOCK), (5, 6)):
        back = np.empty(end - first, np.float32)
        from_int16(flat[first:end], exponents[first // BLOCK : -(-end // BLOCK)], first % BLOCK, back)
        finite = np.isfinite(truth[first:end])
        assert np.isnan(back[~finite]).all()
        np.testing.assert_allclose(back[finite], truth[first:end][finite], rtol=0, atol=2.0**-15)


# --- what is kept


def test_each_file_is_decoded_once_and_only_what_clips_with_rows_need(tmp_path: Path, decoded: list[str]) -> None:
    made = make_sounds(tmp_path)
    labels = label(made).join(made.manifest)
    KeptAudio(labels)
    assert sorted(decoded) == ["long.flac", "loud.wav", "quiet.wav", "tone.mp3", "wide.wav"]  # copy.flac is one
    size = kept_file(labels).stat().st_size
    blocks = 2 + 1 + 3 + 2 + 3 + 3 + 1  # long, its late part, tone, wide, quiet, loud; and the exponents
    assert abs(size / (2 * BLOCK) - blocks) < 1.5
    KeptAudio(labels)
    pickle.loads(pickle.dumps(KeptAudio(labels))).read([0])
    assert len(decoded) == 5


def test_labels_that_were_saved_keep_audio_with_the_user(labels: JoinedLabels, tmp_path: Path) -> None:
    saved = softlabels.load_labels(labels.save(tmp_path / "mine" / "saved"))
    every = np.arange(len(saved))
    assert KeptAudio(saved, rate_hz=4000).read(every).shape == (14, 400)
    assert names_in(tmp_path / "mine") == {"saved"}
    assert not [name for name in names_in(labels.path.parent) if name.startswith("audio")]


def test_starts_before_a_clip_and_clips_never_heard_are_refused(sounds: JoinedLabels, corpus: Corpus, store) -> None:
    with pytest.raises(ValueError, match=r"clip 'late', from 29600 on, got 5"):
        KeptAudio(sounds).read(sounds.keys.query("clip_id == 'late'").index[:1], np.array([5]))
    corpus.write_audio("new.wav", 0.3)
    corpus.manifest.write_text(corpus.manifest.read_text() + "new,new.wav,Aus aus_Alpha,train\n")
    grown = store.join(corpus.manifest, missing="hard")
    kept = KeptAudio(grown)
    with pytest.raises(AudioError, match="missing: clip 'new' was never heard by the teacher"):
        kept.read(grown.keys.query("clip_id == 'new'").index)
    assert kept.read([0]).shape == (1, 800)


# --- killed, twice at once, without room


def test_a_build_that_failed_goes_on_where_it_was(labels: JoinedLabels, decoded: list[str], monkeypatch) -> None:
    real = decoding.check_content

    def stop(path: str, sha256: str) -> None:
        if len(decoded) == 4:
            raise KeyboardInterrupt
        real(path, sha256)

    monkeypatch.setattr(decoding, "check_content", stop)
    with pytest.raises(KeyboardInterrupt):
        KeptAudio(labels)
    monkeypatch.setattr(decoding, "check_content", real)
    truth = WindowAudio(labels).read(np.arange(14))
    assert KeptAudio(labels).read(np.arange(14)).tobytes() == truth.tobytes()
    assert (len(decoded), len(set(decoded))) == (6, 6)
    assert not [name for name in names_in(labels.path.parent) if name.startswith(".tmp")]


@pytest.mark.parametrize("damage", ["bytes", "short", "link", "other", "notes"])
def test_what_a_build_left_is_believed_only_if_it_is_what_was_made(
    labels: JoinedLabels, decoded: list[str], monkeypatch, tmp_path: Path, damage: str
) -> None:
    real = decoding.check_content

    def stop(path: str, sha256: str) -> None:
        if len(decoded) == 4:
            raise MemoryError
        real(path, sha256)

    monkeypatch.setattr(decoding, "check_content", stop)
    with pytest.raises(MemoryError):
        KeptAudio(labels)
    monkeypatch.setattr(decoding, "check_content", real)
    (partial,) = labels.path.parent.glob(".tmp-audio*")
    precious = tmp_path / "precious"
    precious.write_bytes(partial.read_bytes())
    if damage == "bytes":
        flip(partial, 128 + 5)  # of the first file
    elif damage == "short":
        os.truncate(partial, 400)
    elif damage == "link":
        partial.unlink()
        partial.symlink_to(precious)
    elif damage == "other":
        np.save(tmp_path / "other.npy", np.zeros((3, 3)))
        os.replace(tmp_path / "other.npy", partial)
    else:
        for path in (Path(os.environ["XDG_CACHE_HOME"]) / "softlabels" / "building").iterdir():
            path.write_bytes(b"0 1\nx\n99999999999999999999 5\n-1 3\n1 2 3\n2")
    before = precious.read_bytes()
    assert KeptAudio(labels).read(np.arange(14)).tobytes() == WindowAudio(labels).read(np.arange(14)).tobytes()
    assert len(decoded) == (4 + 3 if damage == "bytes" else 4 + 6)
    assert precious.read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
import softlabels.kept.in_parts as in_parts
import softlabels.sound.decoding as decoding, softlabels.sound.kept_audio as kept_audio
from softlabels.labels.joined_labels import JoinedLabels
kept_audio.PART_S, in_parts.THREADS = 0, 1
real, seen = decoding.check_content, []
def check(path, sha256):
    seen.append(path)
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, sha256)
decoding.check_content = check
kept_audio.KeptAudio(JoinedLabels.open(Path(sys.argv[1]), root=Path(sys.argv[2])))
"""


def test_a_build_that_was_killed_goes_on_where_it_was(labels: JoinedLabels, decoded: list[str]) -> None:
    command = [sys.executable, "-c", KILLED, str(labels.path), str(labels.root.absolute())]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert KeptAudio(labels).read(np.arange(14)).tobytes() == WindowAudio(labels).read(np.arange(14)).tobytes()
    assert len(decoded) in (3, 4)  # the fourth was never begun; that the third was done may not be noted yet


def test_two_that_start_together_decode_once(labels: JoinedLabels, decoded: list[str]) -> None:
    together = threading.Barrier(2)

    def build(_: int) -> bytes:
        together.wait()
        return KeptAudio(labels, rate_hz=4000).read(np.arange(14)).tobytes()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build, range(2))
    assert (first == second, len(decoded)) == (True, 6)


def test_processes_build_what_one_builds_and_pass_on_what_is_wrong(corpus: Corpus, own_labels, monkeypatch) -> None:
    monkeypatch.setattr(kept_audio, "PART_S", 0)
    monkeypatch.setattr(kept_audio, "PROCESS_S", 0.1)
    path = corpus.folder / "c3.wav"
    good, state = path.read_bytes(), path.stat()
    corpus.write_audio("c3.wav", 0.4, seed=77)
    with pytest.raises(AudioError, match="changed-since-probe: clip 'c3': .*--probe-again"):
        KeptAudio(own_labels)
    path.write_bytes(good)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert KeptAudio(own_labels).read(np.arange(14)).tobytes() == WindowAudio(own_labels).read(np.arange(14)).tobytes()


def test_a_full_disk_and_one_without_room_are_one_error_and_leave_nothing(labels: JoinedLabels, monkeypatch) -> None:
    before = names_in(labels.path.parent)
    for size in (0, 300, 20_000):
        with files_of_at_most(size), pytest.raises(StorageFullError, match="make room"):
            KeptAudio(labels)
        assert names_in(labels.path.parent) == before
    usage = in_parts.shutil.disk_usage(labels.path)
    monkeypatch.setattr(in_parts.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(StorageFullError, match=r"takes 0\.00 GB, and 0\.00 GB are free; make room, name another place"):
        KeptAudio(labels)
    assert names_in(labels.path.parent) == before


# --- damaged, or no longer what the files are


def test_a_damaged_page_is_an_error_and_never_sound(sounds: JoinedLabels) -> None:
    kept = KeptAudio(sounds, rate_hz=44_100, form="float32")
    path = max(sounds.path.parent.glob("audio-f4-*"), key=lambda p: p.stat().st_size)
    truth = kept.read(np.arange(len(sounds)))
    flip(path, 128 + 70_000)
    fresh, wrong = KeptAudio(sounds, rate_hz=44_100, form="float32"), []
    for row in range(len(sounds)):
        try:
            assert fresh.read([row]).tobytes() == truth[row : row + 1].tobytes()
        except JoinError as e:
            wrong.append(str(e))
    assert 0 < len(wrong) < len(sounds)
    assert all("is damaged" in each for each in wrong)
    os.truncate(path, 1000)
    assert KeptAudio(sounds, rate_hz=44_100, form="float32").read([0]).tobytes() == truth[:1].tobytes()  # made again


def test_verify_looks_at_kept_audio_too(own_labels: JoinedLabels, store) -> None:
    KeptAudio(own_labels)
    assert list(joins_problems(store.storage)) == []
    flip(kept_file(own_labels), 300)
    (problem,) = joins_problems(store.storage)
    assert "is damaged" in problem


def test_a_strangers_audio_in_a_store_is_made_again(own_labels: JoinedLabels, monkeypatch, tmp_path: Path) -> None:
    truth, path = KeptAudio(own_labels).read(np.arange(14)), kept_file(own_labels)
    values = np.load(path)
    path.unlink()
    write_soft(path, values.shape, [values[::-1]], dtype=values.dtype)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))
    assert KeptAudio(own_labels).read(np.arange(14)).tobytes() == truth.tobytes()


def test_a_file_that_changed_is_noticed_once_when_the_audio_is_opened(corpus: Corpus, own_labels, monkeypatch) -> None:
    KeptAudio(own_labels)
    digested, real = [], decoding.audio_sha256

    def digest(path, **how):
        digested.append(Path(path).name)
        return real(path, **how)

    monkeypatch.setattr(decoding, "audio_sha256", digest)
    KeptAudio(own_labels).read(np.arange(14))
    assert digested == []
    os.utime(corpus.folder / "c2.wav", (1, 1))
    for _ in range(2):
        KeptAudio(own_labels)
    assert digested == ["c2.wav"]  # the second time it is known
    corpus.write_audio("c4.wav", 0.05, seed=99)
    for _ in range(2):
        with pytest.raises(AudioError, match=r"changed-since-probe: clip 'c4': the file is sha256:.*--probe-again"):
            KeptAudio(own_labels)
    (corpus.folder / "c4.wav").unlink()
    with pytest.raises(AudioError, match=r"missing: clip 'c4': .* at 'c4.wav'; `softlabels run` checks the corpus"):
        KeptAudio(own_labels)


def test_a_file_that_changed_while_a_build_was_stopped_is_noticed(
    corpus: Corpus, own_labels, decoded, monkeypatch
) -> None:
    real = decoding.check_content

    def stop(path: str, sha256: str) -> None:
        if len(decoded) == 5:
            raise EnvironmentTrouble("no")
        real(path, sha256)

    monkeypatch.setattr(decoding, "check_content", stop)
    with pytest.raises(EnvironmentTrouble):
        KeptAudio(own_labels)
    monkeypatch.setattr(decoding, "check_content", real)
    samples, hz = soundfile.read(corpus.folder / decoded[0])
    soundfile.write(corpus.folder / decoded[0], samples[::-1], hz)
    with contextlib.suppress(AudioError):
        KeptAudio(own_labels)
    with pytest.raises(AudioError, match="changed-since-probe"):
        KeptAudio(own_labels)


def test_kept_audio_of_many_small_files_names_the_first_that_is_gone(tmp_path: Path) -> None:
    made = make_corpus(tmp_path)
    labels = label(made).join(made.manifest)
    for name in ("c1.wav", "c5.wav"):
        (made.folder / name).unlink()
    with pytest.raises(AudioError, match="missing: clip 'c1'"):  # before anything is decoded
        KeptAudio(labels)
    assert not list(labels.path.parent.glob("*audio*"))


BUILDING = """
import sys, time
from pathlib import Path
import softlabels.kept.in_parts as in_parts, softlabels.sound.kept_audio as kept_audio
from softlabels.labels.joined_labels import JoinedLabels
kept_audio.PART_S, kept_audio.PROCESS_S, real = 0, 0.1, in_parts._Notes.add
def add(self, number, checksum):
    real(self, number, checksum)
    print("a part", flush=True)
    time.sleep(60)
in_parts._Notes.add = add
kept_audio.KeptAudio(JoinedLabels.open(Path(sys.argv[1]), root=Path(sys.argv[2])))
"""


@pytest.mark.storms
def test_processes_of_a_build_that_was_killed_are_gone(labels: JoinedLabels) -> None:
    command = [sys.executable, "-c", BUILDING, str(labels.path), str(labels.root.absolute())]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout.readline() == "a part\n"
        children = Path(f"/proc/{building.pid}/task/{building.pid}/children").read_text().split()
        building.kill()
    assert len(children) >= 2
    for _ in range(100):
        left = [child for child in children if is_running(child)]
        if not left:
            break
        time.sleep(0.1)
    assert left == []
    assert KeptAudio(labels).read(np.arange(14)).tobytes() == WindowAudio(labels).read(np.arange(14)).tobytes()


def is_running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
