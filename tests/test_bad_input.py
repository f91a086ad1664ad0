"""The catalogue of bad input: every kind ends as labelled, quarantined with a reason, put off, or one clear error.

The kinds of audio stand in `bad_audio.KINDS`, those of manifests, stores and teachers in the tables below; teachers
that raise, hang or are killed on one clip in `test_rounds.py`.
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import bad_audio
import numpy as np
import pytest
import soundfile
import standin
from bad_audio import GOOD, KINDS, clip_id
from conftest import REPOSITORY, Corpus, label, shard_bytes

import pipeline
import softlabels
from pipeline import RunOptions
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from softlabels import StoreError
from softlabels.audio.decode import read_audio
from softlabels.windows import rescale_samples

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY)])}
HERE = ["--backend", "sequential", "--shard-windows", "4"]


# ---------------------------------------------------------------------------------------------------- audio


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Every kind of bad audio labelled in one run, in a process of its own; and the good clips without them."""
    bad, calm, moved = (tmp_path_factory.mktemp(name) for name in ("bad", "calm", "moved"))
    bad_audio.build(bad)
    shutil.copytree(bad, moved, symlinks=True, dirs_exist_ok=True)
    command = [sys.executable, "-m", "bad_audio", bad]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    labelled, quarantined, missing, megabytes = map(int, done.stdout.split())
    bad_audio.label(calm, bad_audio.build(calm, only_good=True))
    return SimpleNamespace(
        folder=bad,
        moved=moved,
        store=softlabels.open(bad / "store"),
        calm=softlabels.open(calm / "store"),
        labelled=labelled,
        quarantined=quarantined,
        missing=missing,
        megabytes=megabytes,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_bad_audio_ends_as_the_catalogue_says(collection, kind: str) -> None:
    bad, index = KINDS[kind], collection.store.index
    first, end = index.spans_of([clip_id(kind)])[0]
    entries = [entry for entry in collection.store.census.quarantine if entry.clip_id == clip_id(kind)]
    out = {entry.first_window + i: entry.reason for entry in entries for i in range(entry.windows)}
    if bad.ends == "labelled":
        assert out == {}, entries[0].detail
    else:
        assert set(out) == set(range(end - first) if bad.windows is None else bad.windows)
        assert {reason in bad.ends.split("|") for reason in out.values()} == {True}, out
    rest = [(clip_id(kind), i) for i in range(end - first) if i not in out]
    assert np.isfinite(collection.store.take(rest)).all()


def test_good_clips_do_not_notice_their_bad_neighbours(collection) -> None:
    good = [clip for clip in collection.store.census.clips["clip_id"].to_pylist() if "-good" in clip]
    keys = [(clip, window) for clip in good for window in range(4)]
    assert len(keys) == GOOD * 4
    np.testing.assert_array_equal(collection.store.take(keys), collection.calm.take(keys))
    shards = [{clip.clip_id for clip in clips} for clips in collection.store.planned(range(40)).values()]
    assert sum(any("-good" in clip for clip in shard) and len(shard) > 1 for shard in shards) >= GOOD - 1


def test_every_planned_window_of_the_bad_collection_is_accounted_for(collection) -> None:
    rows = sum(receipt.rows for receipt in collection.store.receipts.values())
    out = sum(entry.windows for receipt in collection.store.receipts.values() for entry in receipt.quarantined)
    assert (rows, out, 0) == (collection.labelled, collection.quarantined, collection.missing)
    assert rows + out == len(collection.store.index)
    success = json.loads(collection.store.storage.get("_SUCCESS-0001.json"))
    assert (success["rows"], success["quarantined"]) == (rows, out)
    report = verify(collection.store, jobs=1)
    assert report.good, report


def test_the_bad_collection_is_labelled_in_little_memory(collection) -> None:
    assert collection.megabytes < 600


def test_what_is_said_of_bad_audio_does_not_depend_on_where_it_lies(collection) -> None:
    bad_audio.label(collection.moved, collection.moved / "audio" / "data_manifest.csv")
    for folder in ("shards", "plan", "receipts"):
        here, there = (
            {key: storage.get(key) for key in storage.list(folder)}
            for storage in (collection.store.storage, softlabels.open(collection.moved / "store").storage)
        )
        assert here == there, folder
    assert str(collection.folder) not in (collection.folder / "store" / "quarantine.csv").read_text()


def test_a_link_to_itself_is_quarantined_and_stops_nobody(corpus: Corpus) -> None:
    (corpus.folder / "c1.wav").unlink()
    (corpus.folder / "c1.wav").symlink_to("c1.wav")
    quarantine = label(corpus).census.quarantine
    assert [(entry.clip_id, entry.reason) for entry in quarantine] == [("c1", "unreadable")]


def test_a_pipe_is_quarantined_and_nobody_waits_for_it(corpus: Corpus) -> None:
    (corpus.folder / "c1.wav").unlink()
    os.mkfifo(corpus.folder / "c1.wav")
    code = "import sys; from softlabels.audio.decode import probe_audio; probe_audio(sys.argv[1])"
    command = [sys.executable, "-c", code, corpus.folder / "c1.wav"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=5, check=False)
    assert "AudioError: unreadable" in done.stderr


@pytest.mark.parametrize(("from_hz", "to_hz", "samples"), [(12_000, 22_050, 1000), (48_000, 22_050, 800)])
def test_a_length_that_rounds_at_a_half_is_not_taken_for_truncation(
    tmp_path, from_hz: int, to_hz: int, samples: int
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(samples), from_hz)
    heard = read_audio(tmp_path / "a.wav", rate_hz=to_hz)
    assert len(heard) == rescale_samples(samples, from_hz=from_hz, to_hz=to_hz)


# ---------------------------------------------------------------------------------------- environment, not data


def refuse(number: int, name: str, open: Callable = open) -> Callable:
    """An `open` that fails on one file."""

    def opened(path, *arguments: object, **options: object):
        if Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        return open(path, *arguments, **options)

    return opened


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_may_not_be_opened_is_put_off_at_planning(corpus: Corpus, monkeypatch, number: int) -> None:
    monkeypatch.setattr(os, "open", refuse(number, "c1.wav", os.open))
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "--teacher", "standin:teacher", *HERE]) == 1
    store = softlabels.open("soft_labels")
    assert (store.census.quarantine, len(store)) == ((), 13)
    monkeypatch.undo()
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "--teacher", "standin:teacher", *HERE]) == 0
    assert len(softlabels.open("soft_labels")) == 14


def test_a_file_that_may_not_be_opened_any_more_puts_its_shard_off(corpus: Corpus, monkeypatch) -> None:
    def forbid(*_plan: object) -> None:
        monkeypatch.setattr("softlabels.digests.open", refuse(errno.EACCES, "c1.wav"), raising=False)

    here = RunOptions(backend="sequential")
    arguments = (corpus.manifest, corpus.folder / "store")
    summary = pipeline.run(
        *arguments, teacher="standin:teacher", options=here, events=pipeline.RunEvents(on_plan=forbid)
    )
    assert (summary.quarantined, summary.missing) == (0, 14)
    assert "Permission denied" in summary.deferred[0]
    monkeypatch.undo()
    assert pipeline.run(*arguments, teacher="standin:teacher", options=here).labelled == 14


@pytest.mark.parametrize("step", ["__init__", "read"])
def test_an_io_error_inside_the_decoder_is_not_blamed_on_the_file(corpus: Corpus, monkeypatch, step: str) -> None:
    real = getattr(soundfile.SoundFile, step)

    def failing(self, *arguments: object, **options: object):
        source = arguments[0] if step == "__init__" else self.name
        if Path(source.raw.path).name == "c1.wav":
            raise soundfile.LibsndfileError(2)  # SF_ERR_SYSTEM: the operating system refused
        return real(self, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, step, failing)
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "--teacher", "standin:teacher", *HERE]) == 1
    assert softlabels.open("soft_labels").census.quarantine == ()
    monkeypatch.setattr(soundfile.SoundFile, step, real)
    assert main(["run", "--teacher", "standin:teacher", *HERE]) == 0


def test_a_missing_file_does_not_have_its_neighbours_scored_again(corpus: Corpus, monkeypatch) -> None:
    (corpus.folder / "c1.wav").unlink()
    before = label(corpus)
    scored = []
    real = standin.StandIn.score
    monkeypatch.setattr(standin.StandIn, "score", lambda self, windows: scored.append(1) or real(self, windows))
    after = label(corpus)
    assert scored == []
    assert after.receipts == before.receipts


def test_a_clip_that_came_back_leaves_nothing_to_do_behind(corpus: Corpus, monkeypatch) -> None:
    (corpus.folder / "c1.wav").rename(corpus.folder / "away.wav")
    label(corpus)
    (corpus.folder / "away.wav").rename(corpus.folder / "c1.wav")
    assert len(label(corpus)) == 14
    monkeypatch.setattr(
        pipeline.running.rounds, "label_if_missing", lambda task: pytest.fail(f"shard {task.shard} again")
    )
    label(corpus)


def test_a_file_that_changed_under_its_old_time_is_heard_by_the_next_run(corpus: Corpus) -> None:
    path = corpus.folder / "c1.wav"

    def change(*_plan: object) -> None:
        before = path.stat()
        corpus.write_audio("c1.wav", 0.1, seed=9)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    arguments = {"teacher": "standin:teacher", "options": RunOptions(backend="sequential")}
    store = corpus.folder / "store"
    first = pipeline.run(corpus.manifest, store, **arguments, events=pipeline.RunEvents(on_plan=change))
    assert (first.quarantined, first.labelled) == (1, 13)
    again = pipeline.run(corpus.manifest, store, **arguments)
    assert (again.quarantined, again.labelled) == (0, 14)


# -------------------------------------------------------------------------------------------------- manifest


MANIFESTS = {  # kind -> its bytes, and what the one error says ("" is no error)
    "byte-order mark": (b"\xef\xbb\xbfclip_id,path\na,c0.wav\n", ""),
    "CRLF": (b"clip_id,path\r\na,c0.wav\r\nb,c1.wav\r\n", ""),
    "007 and 7": (b"clip_id,path\n007,c0.wav\n7,c1.wav\n", ""),
    "quotes and commas": (b'clip_id,path\n"a ""b"", c",c0.wav\n', ""),
    "an id of 5,000 characters": (b"clip_id,path\n" + b"i" * 5000 + b",c0.wav\n", ""),
    "two clips of one file": (b"clip_id,path,start_s,end_s\na,c0.wav,,0.2\nb,c0.wav,0.15,0.3\n", ""),
    "duplicate ids": (b"clip_id,path\na,c0.wav\na,c1.wav\n", "line 3: clip_id 'a': same clip_id as line 2"),
    "ids in two Unicode forms": (
        "clip_id,path\n\u00e9,c0.wav\ne\u0301,c1.wav\n".encode(),
        "line 3: clip_id 'é': same clip_id as line 2",
    ),
    "empty id": (b"clip_id,path\n ,c0.wav\n", "line 2: clip_id ' ': expected text"),
    "newline in a path": (b'clip_id,path\na,"c0\n.wav"\n', "expected a path without control characters"),
    ".. in a path": (b"clip_id,path\na,x/../../c0.wav\n", "leaves the manifest's folder"),
    "absolute path": (b"clip_id,path\na,/etc/passwd\n", "leaves the manifest's folder"),
    "start after end": (b"clip_id,path,start_s,end_s\na,c0.wav,2,1\n", "expected start_s before end_s, got 2 and 1"),
    "stretch of no length": (b"clip_id,path,start_s,end_s\na,c0.wav,1,1\n", "expected start_s before end_s"),
    "infinite end": (b"clip_id,path,end_s\na,c0.wav,inf\n", "expected seconds from 0 up as end_s, got 'inf'"),
    "0 rows": (b"clip_id,path\n", "expected at least one row"),
    "empty": (b"", "column 'clip_id' is missing"),
    "binary": (bytes(range(256)) * 20, "manifest 'data_manifest.csv': "),
    "UTF-16": ("clip_id,path\na,c0.wav\n".encode("utf-16"), "expected a UTF-8 CSV file"),
    "semicolons": (b"clip_id;path\na;c0.wav\n", "column 'clip_id' is missing"),
    "a quote left open": (b'clip_id,path\n"a,c0.wav\n', "expected a UTF-8 CSV file"),
    "a field of a megabyte": (b"clip_id,path\n" + b"i" * 10**6 + b",c0.wav\n", "expected a UTF-8 CSV file"),
    "a row too short": (b"clip_id,path,label\na,c0.wav\n", "line 2: expected 3 fields, got 2"),
    "a misspelt column": (b"clip_id,path,labels\na,c0.wav,x\n", "unknown column 'labels'"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_bad_manifest_exits_2_with_one_clear_error_and_writes_nothing(
    corpus: Corpus, monkeypatch, capsys, kind: str
) -> None:
    content, complaint = MANIFESTS[kind]
    corpus.manifest.write_bytes(content)
    monkeypatch.chdir(corpus.folder)
    code = main(["run", "--teacher", "standin:teacher", *HERE])
    printed = capsys.readouterr().err
    assert code == (2 if complaint else 0), printed
    assert complaint in printed
    assert Path("soft_labels").exists() == (not complaint)
    if not complaint:
        ids = [clip.clip_id for clip in softlabels.read_manifest("data_manifest.csv")]
        assert sorted(softlabels.open("soft_labels").census.clips["clip_id"].to_pylist()) == sorted(ids)


def test_an_unknown_class_is_named_at_the_join(corpus: Corpus) -> None:
    store = label(corpus)
    corpus.write_manifest(corpus.manifest.read_text().replace("Aus aus_Alpha", "Aus auss_Alfa"))
    with pytest.raises(softlabels.JoinError, match="1 labels are not in the class list of 3: 'Aus auss_Alfa'"):
        store.join(corpus.manifest)


@pytest.mark.parametrize(
    ("overlap", "complaint"), [("0.1", "overlap"), ("-0.1", "overlap"), ("nan", "overlap"), ("inf", "overlap")]
)
def test_an_impossible_overlap_is_a_clear_error(corpus, monkeypatch, capsys, overlap: str, complaint: str) -> None:
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "--teacher", "standin:teacher", *HERE, f"--overlap={overlap}"]) == 2
    assert complaint in capsys.readouterr().err


def test_the_densest_overlap_has_a_window_at_every_sample(corpus: Corpus) -> None:
    corpus.write_manifest("clip_id,path\na,c0.wav\n")
    store = label(corpus, overlap_s=0.1 - 1 / 8000, shard_windows=1024)
    assert len(store) == 2400 - 800 + 1
    np.testing.assert_array_equal(np.diff(store.index.start), np.ones(1600))


# ----------------------------------------------------------------------------------------------------- store


def edit(name: str, **changes: object) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        content = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps({**content, **changes}))

    return damage


def edit_spec(**changes: object) -> Callable[[Path], object]:
    return lambda root: edit("store.json", spec={**json.loads((root / "store.json").read_text())["spec"], **changes})(
        root
    )


def content(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(data)


def shard(number: int, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        (path,) = (root / "shards").glob(f"{number:05d}-*")
        path.write_bytes(change(path.read_bytes()))

    return damage


def swap(pattern: str) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        first, second = (next(iter(root.glob(pattern.format(n)))) for n in (0, 2))
        a, b = first.read_bytes(), second.read_bytes()
        first.write_bytes(b)
        second.write_bytes(a)

    return damage


def remove(pattern: str) -> Callable[[Path], object]:
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def drop_in(name: str) -> Callable[[Path], object]:
    return lambda root: shutil.copy(next(iter((root / "shards").iterdir())), root / name)


RECEIPT = "receipts/00000.g0.json"
OUT = [{"clip_id": "c0", "first_window": 0, "windows": 1, "reason": "empty", "detail": ""}]
DAMAGES = {  # kind -> how it is done, and what reading says ("" is: nothing, and the labels are right)
    "shard missing": (remove("shards/00001-*"), "shard 1 of .* is gone; run `softlabels regenerate .* --shard 1`"),
    "shard truncated": (shard(1, lambda data: data[:-20]), "shard 1 of .*digest mismatch"),
    "shard empty": (shard(1, lambda data: b""), "shard 1 of .*digest mismatch"),
    "one bit flipped": (shard(1, lambda d: d[:99] + bytes([d[99] ^ 4]) + d[100:]), "shard 1 of .*digest mismatch"),
    "shards swapped": (swap("shards/{:05d}-*"), "shard 0 of .*digest mismatch"),
    "receipt missing": (remove("receipts/00001.*"), "has no label|not committed"),
    "receipt empty": (content(RECEIPT, b""), "receipts/00000.g0.json is damaged"),
    "receipt null": (content(RECEIPT, b"null"), "receipts/00000.g0.json is damaged"),
    "receipt without fields": (content(RECEIPT, b"{}"), "receipts/00000.g0.json is damaged"),
    "receipts swapped": (swap("receipts/{:05d}.g0.json"), "shard 0|receipts/00000"),
    "receipt with rows in words": (edit(RECEIPT, rows="four"), "shard 0|receipts/00000"),
    "receipt with a quarantine more": (edit(RECEIPT, quarantined=OUT), "shard 0|has no label"),
    "foreign Parquet among the shards": (drop_in("shards/00009-0123456789ab.parquet"), ""),
    "foreign Parquet among the plans": (drop_in("plan/notes.parquet"), ""),
    "finder's file among the plans": (content("plan/.DS_Store", b"\0\0\0\1Bud1"), ""),
    "finder's file among the receipts": (content("receipts/.DS_Store", b"\0\0\0\1Bud1"), ""),
    "plan truncated": (lambda root: content("plan/0001.parquet", b"PAR1")(root), "plan/0001.parquet"),
    "plan missing": (remove("plan/*"), "has no label|plan"),
    "spec edited": (edit_spec(batch_size=7), "store.json was edited"),
    "newer format": (edit_spec(format_version=2), "version 2: this softlabels reads version 1; `pip install --upgrade"),
    "newer format of another shape": (
        content("store.json", b'{"format_version": 2, "fingerprint": "f", "settings": {}}'),
        "version 2.*pip install --upgrade",
    ),
    "store.json cut short": (content("store.json", b'{"format_version": 1, "sp'), "store.json is damaged"),
    "store.json of another kind": (content("store.json", b'{"format_version": 1, "spec": [1, 2]}'), "store.json"),
    "classes reordered": (
        lambda root: content("classes.txt", b"\n".join((root / "classes.txt").read_bytes().split()[::-1]))(root),
        "classes.txt was changed",
    ),
}
UNSEEN_BY_READING = {  # what only `verify` can tell, for the labels are right
    "receipt with other rows": edit(RECEIPT, rows=3),
    "receipt of another fingerprint": edit(RECEIPT, fingerprint="f"),
    "receipt with another audio digest": edit(RECEIPT, audio={"c0": {"file": "0" * 64, "pcm": "0" * 64}}),
    "_SUCCESS edited": edit("_SUCCESS-0001.json", rows=13),
    "_SUCCESS missing": remove("_SUCCESS*"),
}


KEYS = [(f"c{clip}", i) for clip, count in enumerate([3, 1, 3, 4, 1, 2]) for i in range(count)]


def read_everything(root: Path) -> np.ndarray:
    """Every label of a store of 14 windows, read in three ways that have to agree."""
    opened = softlabels.open(root)
    rows = np.concatenate([shard.probabilities for shard in opened.read()])
    taken = opened.take(KEYS)
    joined = opened.join(root.parent / "data_manifest.csv", missing="error").soft()
    np.testing.assert_array_equal(taken, rows)
    np.testing.assert_array_equal(taken, joined)
    return taken


def read_what_can_be_read(root: Path) -> list[tuple[int, np.ndarray]]:
    """Each label of the store that is still given out, by its number."""
    found = []
    try:
        opened = softlabels.open(root)
        for number, key in enumerate(KEYS):
            with contextlib.suppress(StoreError):
                found.append((number, opened.take([key])[0]))
    except StoreError:
        return found
    return found


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_to_a_store_is_a_named_error_and_never_a_wrong_label(corpus: Corpus, kind: str) -> None:
    root = label(corpus).storage.root
    before = read_everything(root)
    shutil.rmtree(root / "joins")
    damage, complaint = DAMAGES[kind]
    damage(root)
    if not complaint:
        np.testing.assert_array_equal(read_everything(root), before)
    else:
        with pytest.raises(StoreError, match=complaint):
            read_everything(root)
    for number, given in read_what_can_be_read(root):
        np.testing.assert_array_equal(given, before[number])


@pytest.mark.parametrize("kind", [*DAMAGES, *UNSEEN_BY_READING])
def test_verify_says_so_of_every_damage(corpus: Corpus, capsys, kind: str) -> None:
    root = label(corpus).storage.root
    damage, complaint = DAMAGES[kind] if kind in DAMAGES else (UNSEEN_BY_READING[kind], "verify")
    damage(root)
    code = main(["verify", str(root), "--jobs", "1"])
    assert (code == 0) == (complaint == ""), capsys.readouterr()


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_full_at_any_step_exits_3_and_the_same_command_goes_on(
    corpus: Corpus, monkeypatch, capsys, call: str, number: int
) -> None:
    calm = shard_bytes(label(corpus).storage.root)
    monkeypatch.chdir(corpus.folder)
    arguments = ["run", "--teacher", "standin:teacher", *HERE]
    real = getattr(os, call)
    for room in (0, 2, 5):
        left = [None] * room

        def full(*paths: object, left: list = left, **options: object) -> None:
            if not left:
                raise OSError(number, os.strerror(number))
            left.pop()
            real(*paths, **options)

        monkeypatch.setattr(f"softlabels.storage.unfinished.os.{call}", full)
        assert main(arguments) == 3, capsys.readouterr()
        monkeypatch.setattr(f"softlabels.storage.unfinished.os.{call}", real)
        assert os.strerror(number) in capsys.readouterr().err
        if room < 5:
            shutil.rmtree("soft_labels", ignore_errors=True)
    assert main(arguments) == 0
    assert shard_bytes(Path("soft_labels")) == calm


def test_a_disk_full_while_the_probes_are_kept_exits_3(corpus: Corpus, monkeypatch, capsys) -> None:
    monkeypatch.chdir(corpus.folder)
    monkeypatch.setattr("pipeline.planning.probe_files.open", refuse(errno.ENOSPC, "probe_cache.jsonl"), raising=False)
    assert main(["run", "--teacher", "standin:teacher", *HERE]) == 3
    assert "No space left on device" in capsys.readouterr().err


def test_a_read_only_store_can_be_read_and_says_so_when_it_is_written(corpus: Corpus, monkeypatch, capsys) -> None:
    root = label(corpus).storage.root
    before = read_everything(root)
    (root / "receipts" / "00001.g0.json").rename(root.parent / "kept.json")

    def read_only(path, mode: str = "r", *arguments: object, **options: object):
        if Path(path).resolve().is_relative_to(root) and mode[0] in "wax":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open(path, mode, *arguments, **options)

    monkeypatch.setattr("softlabels.storage.unfinished.open", read_only, raising=False)
    monkeypatch.chdir(corpus.folder)
    assert main(["run", "-o", "store", "--teacher", "standin:teacher", *HERE]) == 2
    printed = capsys.readouterr().err
    assert "Read-only file system" in printed
    assert "store" in printed
    (root.parent / "kept.json").rename(root / "receipts" / "00001.g0.json")
    monkeypatch.setenv("XDG_CACHE_HOME", str(corpus.folder / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    shutil.rmtree(root / "joins")
    np.testing.assert_array_equal(read_everything(root), before)
    assert not (root / "joins").exists()
    assert verify(softlabels.open(root), jobs=1).good


# --------------------------------------------------------------------------------------------------- teacher


class Bad(standin.StandIn):
    """Answers what it is told to."""

    def __init__(self, answer: Callable[[np.ndarray], object], outputs: str = "logits") -> None:
        self.answer, self.outputs = answer, outputs

    def score(self, windows: np.ndarray):
        return self.answer(super().score(windows))


def always_raises(_scores: np.ndarray) -> None:
    raise RuntimeError("no such layer")


TEACHERS = {  # kind -> the teacher, the exit code, and what is printed
    "too few classes": (lambda: Bad(lambda scores: scores[:, :2]), 2, "'stand-in': expected (4, 3) float32 scores"),
    "too few windows": (lambda: Bad(lambda scores: scores[:3]), 2, "'stand-in': expected (4, 3) float32 scores"),
    "one window a time": (lambda: Bad(lambda scores: scores[0]), 2, "'stand-in': expected (4, 3) float32 scores"),
    "float64": (lambda: Bad(lambda scores: scores.astype(np.float64)), 2, "expected (4, 3) float32 scores"),
    "a list": (lambda: Bad(lambda scores: scores.tolist()), 2, "expected (4, 3) float32 scores"),
    "None": (lambda: Bad(lambda scores: None), 2, "expected (4, 3) float32 scores"),
    "always raises": (lambda: Bad(always_raises), 2, "no such layer"),
    "raises while it is loaded": (lambda: always_raises(np.zeros(0)), 2, "no such layer"),
    "always NaN": (lambda: Bad(lambda scores: scores * np.nan), 1, ""),
    "always infinite": (lambda: Bad(lambda scores: scores + np.inf), 1, ""),
    "logits called probabilities": (lambda: Bad(lambda scores: scores, "probabilities"), 2, "from 0 to 1"),
}


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_bad_teacher_is_named_and_none_of_its_answers_is_kept(corpus, monkeypatch, capsys, kind: str) -> None:
    make, code, complaint = TEACHERS[kind]
    monkeypatch.setattr(standin, "teacher", make)
    monkeypatch.chdir(corpus.folder)
    pipeline.labelling.worker._warm_teacher.cache_clear()
    try:
        assert main(["run", "--teacher", "standin:teacher", *HERE]) == code
    finally:
        pipeline.labelling.worker._warm_teacher.cache_clear()
    assert complaint in capsys.readouterr().err
    if not Path("soft_labels/store.json").exists():
        return
    store = softlabels.open("soft_labels")
    assert len(store) == 0
    assert {entry.reason for entry in store.census.quarantine} <= ({"not-finite-teacher"} if code == 1 else set())
