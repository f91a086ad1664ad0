"""Moving files never invalidates a store; changing them is noticed. Where audio is found, and what is told of it."""

import dataclasses
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Corpus, label, shard_bytes

import pipeline
import softlabels
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.running.job_array import ArrayTask
from softlabels import AudioError, ManifestError, StoreError
from softlabels.audio.decode import AudioBudget, probe_audio
from softlabels.audio.lost import hint
from softlabels.batches.window_audio import WindowAudio
from softlabels.digests import canonical_json, sha256_of, sha256_of_file
from softlabels.storage.file_cache import user_folder

IDS = [f"c{i}" for i in range(6)]
TEACHER = "standin:teacher"


def options(**more: object) -> pipeline.RunOptions:
    return pipeline.RunOptions(backend="sequential", **more)


def run(manifest: Path, store: Path, **more: object) -> pipeline.RunSummary:
    return pipeline.run(manifest, store, teacher=TEACHER, **{"options": options(), **more})


def place(corpus: Corpus, moves: dict[str, str], *, listed: bool = True) -> None:
    """Move files of the corpus, all at once, and let the manifest follow."""
    for old in moves:
        (corpus.folder / old).rename(corpus.folder / f"{old}.on-its-way")
    for old, new in moves.items():
        (corpus.folder / new).parent.mkdir(parents=True, exist_ok=True)
        (corpus.folder / f"{old}.on-its-way").rename(corpus.folder / new)
    if listed:
        text = corpus.manifest.read_text()
        for clip_id in IDS:
            text = re.sub(
                f"(?m)^{clip_id},[^,]*,", lambda row, i=clip_id: f"{i},{moves.get(f'{i}.wav', f'{i}.wav')},", text
            )
        corpus.manifest.write_text(text, encoding="utf-8")


MOVES = {
    "c0.wav": "c1.wav",  # three names change in a ring
    "c1.wav": "c3.wav",
    "c3.wav": "c0.wav",
    "c2.wav": unicodedata.normalize("NFD", "Grünspecht/é.WAVE"),
    "c4.wav": "2024/site A/c4",
    "c5.wav": "a long name with (odd) 'letters'.wav",
}


def is_well(store: softlabels.SoftLabelStore, before: dict[str, bytes], **where: object) -> None:
    """Everything that reads audio finds it, and shards made again have the bytes of before."""
    report = verify(store, recompute=1.0, jobs=1, **where)
    assert report.good, report
    assert [check.likeness for check in report.shards] == ["identical"] * 4
    for path in (store.storage.root / "shards").iterdir():
        path.unlink()
    results = regenerate(store, range(4), jobs=1, **where)
    assert [(r.likeness, r.restored, r.problem) for r in results] == [("identical", True, "")] * 4
    assert shard_bytes(store.storage.root) == before


def test_moved_files_whose_manifest_follows_are_found_by_all(corpus: Corpus, store) -> None:
    before, root = shard_bytes(store.storage.root), store.storage.root
    place(corpus, MOVES)
    is_well(store, before)
    assert run(corpus.manifest, root).shards_done == 0
    labels = store.join(corpus.manifest)
    assert WindowAudio(labels).read(np.arange(len(labels))).shape == (14, 800)


def test_moved_files_that_no_manifest_names_are_found_by_their_digest(corpus: Corpus, store) -> None:
    before = shard_bytes(store.storage.root)
    place(corpus, MOVES, listed=False)
    corpus.manifest.unlink()
    is_well(store, before)


def test_a_corpus_that_moved_with_its_store_is_found_with_a_flag(corpus: Corpus, store, tmp_path: Path) -> None:
    before = shard_bytes(store.storage.root)
    place(corpus, MOVES)
    there = tmp_path / "other disk" / "corpus"
    shutil.move(corpus.folder, there)
    moved = softlabels.open(there / "store")
    with pytest.raises(
        StoreError, match="name it with --root, or .* --manifest .* name the teacher with --teacher.*run"
    ):
        regenerate(moved, [0], jobs=1)
    for where in ({"manifest": there / "data_manifest.csv"}, {"root": there}):
        is_well(moved, before, teacher=TEACHER, **where)
    assert run(there / "data_manifest.csv", there / "store").shards_done == 0
    is_well(moved, before)  # which that run remembered


def test_a_manifest_of_another_folder_goes_with_a_root(corpus: Corpus, store, tmp_path: Path) -> None:
    before, lists, audio = shard_bytes(store.storage.root), tmp_path / "lists", tmp_path / "audio"
    place(corpus, {f"{i}.wav": f"x/{i}.flac.wav" for i in IDS})
    lists.mkdir()
    corpus.manifest.rename(lists / "now.csv")
    assert verify(store, recompute=1.0, jobs=1, manifest=lists / "now.csv").good  # below the root of the own run
    shutil.move(corpus.folder / "x", audio / "x")
    assert verify(store, recompute=1.0, jobs=1, manifest=lists / "now.csv", root=audio).good
    assert run(lists / "now.csv", store.storage.root, root=audio).shards_done == 0
    is_well(store, before)


def test_clips_with_other_ids_are_found_by_the_column_of_digests(corpus: Corpus, store) -> None:
    before = shard_bytes(store.storage.root)
    place(corpus, {f"{i}.wav": f"{i[::-1]}.wav" for i in IDS}, listed=False)
    rows = [f"new {i},{i[::-1]}.wav,{sha256_of_file(corpus.folder / f'{i[::-1]}.wav')}" for i in IDS]
    corpus.write_manifest("\n".join(["clip_id,path,sha256", *rows]))
    is_well(store, before)


def test_what_is_left_to_label_is_read_where_the_manifest_has_it_now(corpus: Corpus, store) -> None:
    before, root = shard_bytes(store.storage.root), store.storage.root
    receipts = {path.name: path.read_bytes() for path in (root / "receipts").iterdir()}
    place(corpus, MOVES)
    for options_ in (options(), options(task=ArrayTask(index=0, count=1))):  # a task probes nothing that is planned
        for path in (*(root / "shards").iterdir(), *(root / "receipts").iterdir()):
            path.unlink()
        summary = run(corpus.manifest, root, options=options_)
        assert (summary.labelled, summary.quarantined, summary.shards_done) == (14, 0, 4)
        assert shard_bytes(root) == before
        assert {path.name: path.read_bytes() for path in (root / "receipts").iterdir()} == receipts


def test_a_clip_that_left_the_manifest_is_read_where_its_bytes_are(corpus: Corpus, store) -> None:
    before, root = shard_bytes(store.storage.root), store.storage.root
    for path in (*(root / "shards").iterdir(), *(root / "receipts").iterdir()):
        path.unlink()
    place(corpus, {"c3.wav": "d3.wav"}, listed=False)
    corpus.write_manifest(corpus.manifest.read_text().replace("c3,c3.wav", "d3,d3.wav"))
    run(corpus.manifest, root)
    assert {name: data for name, data in shard_bytes(root).items() if name in before} == before


def test_files_that_were_missing_when_they_were_to_be_read_are_labelled_where_they_turn_up(corpus: Corpus) -> None:
    (corpus.folder / "c5.wav").rename(corpus.folder / "later.wav")  # before it was planned
    late = pipeline.RunEvents(on_plan=lambda *_: (corpus.folder / "c3.wav").rename(corpus.folder / "late.wav"))
    root = corpus.folder / "store"
    assert run(corpus.manifest, root, events=late).quarantined == 5
    assert {e.reason for e in softlabels.open(root).census.quarantine} == {"missing"}
    text = corpus.manifest.read_text().replace("c3.wav", "late.wav").replace("c5.wav", "later.wav")
    corpus.write_manifest(text)
    assert run(corpus.manifest, root).quarantined == 0
    assert verify(softlabels.open(root), recompute=1.0, jobs=1).good


# --- files that changed


def swap(a: Path, b: Path) -> None:
    """Let two files change places and look as before: size and times are kept."""
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (a, b)]
    a.rename(a.with_suffix(".x"))
    b.rename(a)
    a.with_suffix(".x").rename(b)
    for path, ns in zip((a, b), times, strict=True):
        os.utime(path, ns=ns)


@pytest.fixture
def twins(corpus: Corpus) -> softlabels.SoftLabelStore:
    """Two files of one length and one time, as a recorder and an archive make them, in two shards."""
    for i, name in enumerate(("c0.wav", "c3.wav")):
        os.utime(corpus.write_audio(name, 0.4, seed=70 + i), ns=(10**18, 10**18))
    return label(corpus)


def test_two_files_of_one_size_that_changed_places_are_noticed_by_all(corpus: Corpus, twins) -> None:
    labels = twins.join(corpus.manifest)
    swap(corpus.folder / "c0.wav", corpus.folder / "c3.wav")
    report = verify(twins, recompute=1.0, jobs=1)
    problems = " ".join(check.problem for check in report.shards)
    assert "clip 'c0': 'c0.wav' is not the file that was labelled, which is now 'c3.wav'" in problems
    assert "clip 'c3': 'c3.wav' is not the file that was labelled, which is now 'c0.wav'" in problems
    (twins.storage.root / twins.receipts[0].file).unlink()
    (result,) = regenerate(twins, [0], jobs=1)
    assert "put the audio back that was labelled" in result.problem
    assert "delete receipts" not in result.problem
    assert "which is now 'c3.wav'" in result.problem
    with pytest.raises(AudioError, match="changed-since-probe: clip 'c0': .*`softlabels run --probe-again`"):
        WindowAudio(labels).read([0])
    with pytest.raises(StoreError, match=r"of 2 labelled clips has changed: 'c0' \('c0.wav' was sha256:.*'c3' \("):
        run(corpus.manifest, twins.storage.root)
    text = corpus.manifest.read_text().replace("c0,c0.wav", "c0,c3.wav,").replace("c3,c3.wav", "c3,c0.wav")
    corpus.write_manifest(text.replace("c3.wav,,", "c3.wav,"))
    assert verify(twins, recompute=1.0, jobs=1).shards[-1].problem == ""
    assert run(corpus.manifest, twins.storage.root).missing == 0


def test_a_file_that_looks_as_it_was_is_noticed_when_all_are_read_again(corpus: Corpus, store) -> None:
    path = corpus.folder / "c3.wav"
    state = path.stat()
    corpus.write_audio("c3.wav", 0.4, seed=99)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(corpus.manifest, store.storage.root).shards_done == 0  # nothing can tell them apart
    with pytest.raises(StoreError, match="of 1 labelled clips has changed: 'c3'"):
        run(corpus.manifest, store.storage.root, options=options(probe_again=True))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "recorded-again": (lambda path: Corpus(path.parent).write_audio(path.name, 0.2, seed=9), "digest-mismatch"),
    "a-tag-added": (lambda path: path.write_bytes(path.read_bytes() + b"LIST\4\0\0\0abcd"), "digest-mismatch"),
    "resampled": (lambda path: Corpus(path.parent).write_audio(path.name, rate_hz=16_000), "digest-mismatch"),
    "cut-short": (lambda path: path.write_bytes(path.read_bytes()[:-400]), "truncated"),
    "emptied": (lambda path: path.write_bytes(b""), "empty"),
    "an-error-page": (lambda path: path.write_text("<!DOCTYPE html>"), "unsupported-container"),
    "a-folder-now": (lambda path: (path.unlink(), path.mkdir()), "unreadable"),
    "a-pipe-now": (lambda path: (path.unlink(), os.mkfifo(path)), "unreadable"),
    "another-rate": (lambda path: soundfile.write(path, np.zeros(900), 4000), "bad-rate"),
}


@pytest.fixture
def changing(tmp_path: Path) -> Corpus:
    """A clip for each change, with the column of digests, and one that stays."""
    made = Corpus(tmp_path / "changing")
    for seed, name in enumerate((*CHANGES, "stays")):
        made.write_audio(f"{name}.wav", 0.2, seed=seed)
    rows = [f"{name},{name}.wav,,{sha256_of_file(made.folder / f'{name}.wav')}" for name in (*CHANGES, "stays")]
    made.write_manifest("\n".join(["clip_id,path,label,sha256", *rows]))
    return made


@pytest.mark.parametrize("column", [True, False])
def test_labelled_files_that_changed_are_refused_by_name(changing: Corpus, column: bool) -> None:
    if not column:
        changing.write_manifest(re.sub("(?m),[^,]*$", "", changing.manifest.read_text()))
    store, told = label(changing), []
    for name, (spoil, reason) in CHANGES.items():
        path = changing.folder / f"{name}.wav"
        before = sha256_of_file(path)
        spoil(path)
        now = f"is sha256:{sha256_of_file(path)}" if path.is_file() else "can be read no more"
        why = f", {reason}: " if column or reason != "digest-mismatch" else ")"
        told.append(f"'{name}' ('{name}.wav' was sha256:{before}, {now}{why}")
    for _ in range(2):
        with pytest.raises(StoreError, match="of 9 labelled clips has changed: .*take the rows out.*new clip_ids") as e:
            run(changing.manifest, store.storage.root)
        assert [text for text in told if text not in str(e.value)] == []
    changing.write_manifest("clip_id,path\nstays,stays.wav\n")
    assert run(changing.manifest, store.storage.root).left == len(CHANGES)  # one of the ways out


def test_files_that_changed_before_they_were_labelled_are_planned_again_once(changing: Corpus) -> None:
    store = label(changing)
    for path in (*(store.storage.root / "shards").iterdir(), *(store.storage.root / "receipts").iterdir()):
        path.unlink()
    for name, (spoil, _) in CHANGES.items():
        spoil(changing.folder / f"{name}.wav")
    for _ in range(3):
        summary = run(changing.manifest, store.storage.root)
        assert (summary.labelled, summary.quarantined) == (2, len(CHANGES))
    found = softlabels.open(store.storage.root)
    assert {e.clip_id: e.reason for e in found.census.quarantine} == {name: why for name, (_, why) in CHANGES.items()}
    assert len(found.plans) == 2


def test_a_manifest_that_says_another_file_is_refused_by_name(changing: Corpus) -> None:
    store, text = label(changing), changing.manifest.read_text()
    of_other = text.splitlines()[1].rpartition(",")[2]
    for new, told in (
        (f"stays.wav,,{'0' * 64}", r"digest-mismatch: the manifest says 0000"),
        (f"stays.wav,,{of_other}", r"digest-mismatch: the manifest says"),
        ("emptied.wav,,", r"'emptied.wav' was sha256:"),
        (f"emptied.wav,,{of_other}", r"'emptied.wav' was sha256:.*digest-mismatch: the manifest says"),
    ):
        changing.write_manifest(re.sub("(?m)^stays,.*$", f"stays,{new}", text))
        with pytest.raises(StoreError, match=rf"of 1 labelled clips has changed: 'stays' \({told}"):
            run(changing.manifest, store.storage.root)
    changing.write_manifest(re.sub(r"(?m),\w{64}$", ",", text))  # what is not given is not held against it
    assert run(changing.manifest, store.storage.root).shards_done == 0


def test_only_a_stretch_that_changed_is_refused_where_the_file_is_the_same_or_gone(corpus: Corpus, store) -> None:
    text = corpus.manifest.read_text()
    for stretch in ("0.1,0.3", "0.39,", "0.5,0.6", "0,9"):
        corpus.write_manifest(f"clip_id,path,start_s,end_s\nc3,c3.wav,{stretch}\nc0,c0.wav,,\n")
        with pytest.raises(StoreError, match=r"of 1 labelled clips has changed: 'c3' \((start_s or|outside-file: )"):
            run(corpus.manifest, store.storage.root)
    corpus.write_manifest(text)  # the same file of another budget, or that is gone, has not changed
    for budget in (AudioBudget(max_hours=0.3 / 3600), AudioBudget(min_rate_hz=16_000), AudioBudget(max_bytes=4000)):
        assert run(corpus.manifest, store.storage.root, options=options(budget=budget)).shards_done == 0
    (corpus.folder / "c3.wav").unlink()
    assert run(corpus.manifest, store.storage.root).shards_done == 0


def test_a_quarantined_file_that_is_bad_in_another_way_gets_that_reason(corpus: Corpus) -> None:
    (corpus.folder / "c3.wav").write_bytes(b"")
    store = label(corpus)
    for text, reason in (("<html>", "unsupported-container"), (None, "unsupported-container"), ("", "empty")):
        (corpus.folder / "c3.wav").unlink() if text is None else (corpus.folder / "c3.wav").write_text(text)
        run(corpus.manifest, store.storage.root)
        assert [e.reason for e in softlabels.open(store.storage.root).census.quarantine] == [reason]


# --- links


def link_to(target: Path, path: Path) -> None:
    """Let a data manager have a file, and a link be in its place."""
    shutil.move(path, target)
    path.symlink_to(target)


def test_links_into_a_cache_elsewhere_are_followed_where_that_is_allowed(
    corpus: Corpus, tmp_path: Path, monkeypatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    link_to(cache / "SHA256E-s1--0", corpus.folder / "c0.wav")
    link_to(cache / "one", corpus.folder / "c1.wav")
    (cache / "two").symlink_to("one")  # a link to a link, and a relative one
    (corpus.folder / "c1.wav").unlink()
    (corpus.folder / "c1.wav").symlink_to(os.path.relpath(cache / "two", corpus.folder))
    shutil.move(corpus.folder / "c3.wav", cache / "c3.wav")
    (corpus.folder / "cached").symlink_to(cache)  # a folder
    corpus.write_manifest(corpus.manifest.read_text().replace("c3,c3.wav", "c3,cached/c3.wav"))
    store = label(corpus)
    assert {(e.clip_id, e.reason) for e in store.census.quarantine} == {(i, "outside-root") for i in ("c0", "c1", "c3")}
    assert "--follow-links" in store.census.quarantine[0].detail
    flags = ["--teacher", TEACHER, "--backend", "sequential", "-o", str(store.storage)]
    assert main(["run", str(corpus.manifest), *flags]) == 1
    assert main(["run", str(corpus.manifest), *flags, "--follow-links"]) == 0
    store = softlabels.open(store.storage.root)
    assert verify(store, recompute=1.0, jobs=1).good
    assert {each.likeness for each in regenerate(store, range(4, store.planned_shards), jobs=1)} == {"identical"}
    labels = store.join(corpus.manifest)
    WindowAudio(labels).read(np.arange(14))
    budget = AudioBudget(follow_links=True)
    assert run(corpus.manifest, tmp_path / "new", options=options(budget=budget)).labelled == 14


def test_a_labelled_file_that_a_data_manager_turned_into_a_link_is_the_same_file(
    corpus: Corpus, store, tmp_path: Path
) -> None:
    before = shard_bytes(store.storage.root)
    for path in sorted(corpus.folder.glob("*.wav")):
        link_to(tmp_path / f"SHA256E-{path.stem}", path)
    for _ in range(2):
        assert run(corpus.manifest, store.storage.root).shards_done == 0
    is_well(store, before)


def test_a_link_to_what_was_not_fetched_is_told_as_that(corpus: Corpus, caplog) -> None:
    (corpus.folder / "c3.wav").unlink()
    (corpus.folder / "c3.wav").symlink_to(".git/annex/objects/xx/yy/SHA256E-s9--0.wav")
    assert label(corpus).census.quarantine[0].reason == "missing"
    assert "'c3.wav' (a link to a file that is not here: `git annex get`" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
        "/annex/objects/SHA256E-s9--4d7a.wav\n",
        "../.git/annex/objects/xx/yy/SHA256E-s9--4d7a.wav",  # a link, where the file system has none
        ".git/annex/objects/xx/yy/MD5E-s9--4d7a.wav",
    ],
)
def test_a_pointer_to_a_recording_is_no_recording(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.wav").write_text(text)
    with pytest.raises(AudioError, match="^missing: only a pointer of Git LFS or git-annex; .*`git annex get`"):
        probe_audio(tmp_path / "a.wav")


def test_recordings_that_a_data_manager_dropped_have_not_changed_and_are_told(corpus: Corpus, store, caplog) -> None:
    (corpus.folder / "c3.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    assert run(corpus.manifest, store.storage.root).shards_done == 0
    assert "such as 'c3.wav' (only a pointer to it is: `git lfs pull`" in caplog.text


# --- paths that lead nowhere

WRITTEN = {
    "backslashes": ("sub/Take1.wav", "sub\\Take1.wav", "but 'sub/Take1.wav' is, with '/' for '\\'"),
    "case": ("sub/Take1.wav", "Sub/take1.WAV", "but 'sub/Take1.wav' is, in other case"),
    "NFC": (unicodedata.normalize("NFD", "é/ü.wav"), unicodedata.normalize("NFC", "é/ü.wav"), "(NFC, NFD)"),
    "NFD": (unicodedata.normalize("NFC", "é/ü.wav"), unicodedata.normalize("NFD", "é/ü.wav"), "(NFC, NFD)"),
    "a disk of Windows": ("a/x.wav", "D:\\field\\a\\x.wav", "but 'a/x.wav' is, without 'D:\\field\\' and with '/'"),
    "folders too many": ("x.wav", "old/a/x.wav", "but 'x.wav' is, without 'old/a/'"),
    "all at once": ("a/X.wav", "old\\A\\x.wav", "without 'old\\' and with '/' for '\\' and in other case"),
    "a folder renamed": ("2026/a/x.wav", "2025/a/x.wav", "but '2026/a/x.wav' is"),
    "one folder too few": ("deep/x.wav", "x.wav", "it is below --root "),
    "not at all": ("x.wav", "y.wav", ""),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_there_instead_of_a_path_is_told(tmp_path: Path, kind: str) -> None:
    there, written, told = WRITTEN[kind]
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    found = hint(tmp_path, written)
    assert told in found
    assert bool(found) == bool(told)
    assert ("in other case" in found) == ("case" in told)
    assert ("NFC" in found) == ("NFC" in told)


def test_every_reader_tells_it(corpus: Corpus, store, tmp_path: Path, caplog) -> None:
    kinds = {"c0": WRITTEN["backslashes"], "c3": WRITTEN["NFC"], "c5": WRITTEN["case"]}
    for number, (clip_id, (there, written, _)) in enumerate(kinds.items()):
        (corpus.folder / f"{clip_id}.wav").unlink()
        corpus.write_audio(f"{number}/{there}", 0.3, seed=99)  # other audio: it is not found by its digest
        text = corpus.manifest.read_text().replace(f"{clip_id}.wav", f"{number}/{written}")
        corpus.write_manifest(text)
    problems = [check.problem for check in verify(store, recompute=1.0, jobs=1).shards]
    results = [result.problem for result in regenerate(store, range(4), jobs=1)]
    labels, errors = store.join(corpus.manifest), []
    for clip_id in kinds:
        with pytest.raises(AudioError, match="root=") as raised:
            WindowAudio(labels).read(labels.keys.index[labels.keys.clip_id == clip_id][:1])
        errors.append(str(raised.value))
    run(corpus.manifest, tmp_path / "new")
    for reader in (problems, results, errors, [caplog.text]):
        for number, (there, written, told) in enumerate(kinds.values()):
            text = next(text for text in reader if f"'{number}/{written}'" in text)
            assert told.replace(f"'{there}'", f"'{number}/{there}'") in text
    assert all("--manifest names the file" in problem for problem in (*problems, *results) if problem)


def test_a_root_below_which_nothing_is_is_refused_by_all(corpus: Corpus, store, tmp_path: Path) -> None:
    own, wrong = store.own_run(), (tmp_path / "empty", tmp_path / "other", corpus.folder / "down")
    for root in wrong:
        Corpus(root).write_audio("other.wav", seed=99)
    (tmp_path / "empty" / "other.wav").unlink()
    text = corpus.manifest.read_text()
    for root in wrong:
        with pytest.raises(StoreError, match=r"none of the 6 recordings .*such as clip 'c\d': .*is --root right\?"):
            verify(store, recompute=1.0, root=root, jobs=1)
        with pytest.raises(StoreError, match=r"none of the \d recordings .*such as clip 'c\d': .*is --root right\?"):
            regenerate(store, [0], root=root, jobs=1)
        assert run(corpus.manifest, store.storage.root, root=root).shards_done == 0  # all is labelled: a warning
        assert store.own_run() == own
        corpus.write_manifest(text + "new,c0.wav,,\n")
        with pytest.raises(ManifestError, match="none of the 6 files of the manifest is below .*is --root right"):
            run(corpus.manifest, store.storage.root, root=root)
        corpus.write_manifest(text)
    assert len(softlabels.open(store.storage.root).plans) == 1


def test_what_is_lost_of_a_few_clips_stops_only_their_shards(corpus: Corpus, store) -> None:
    (corpus.folder / "c3.wav").unlink()
    report = verify(store, recompute=1.0, jobs=1)
    assert [bool(check.problem) for check in report.shards].count(True) == 1
    results = regenerate(store, [3, 2, 1, 0, 2], jobs=1)
    assert [result.shard for result in results] == [3, 2, 1, 0, 2]
    assert sum("cannot be made again: clip 'c3': no file at 'c3.wav'" in r.problem for r in results) in (1, 2)


def test_hints_survive_any_path(tmp_path: Path) -> None:
    for path in ("x" * 5000, "a/" * 3000, "\\\\", ".", "", "a//b", "é\u0301" * 99, "a/../b"):
        hint(tmp_path, path)
    assert hint("s3://bucket/audio", "x.wav") == ""
    assert hint(tmp_path / "no folder", "x.wav") == ""


def test_memories_of_before_are_read_and_a_manifest_that_is_faulty_now_is_passed_over(
    corpus: Corpus, store, caplog
) -> None:
    own, place = store.own_run(), [str(store.storage.root), store.spec.fingerprint()]
    fields = {"store": place, "audio_root": own.audio_root, "teacher": own.teacher}
    path = user_folder() / "runs" / f"{sha256_of(place)}.json"
    path.write_bytes(canonical_json({"digest": sha256_of(fields), **fields}))
    assert store.own_run() == dataclasses.replace(own, manifest="")
    assert own.manifest == str(corpus.manifest)
    assert verify(store, recompute=1.0, jobs=1).good
    cache = store.storage.root / "probe_cache.jsonl"
    lines = [json.loads(line) for line in cache.read_text().splitlines() if line]
    cache.write_text("\n".join(json.dumps({k: v for k, v in line.items() if k != "inode"}) for line in lines) + "\n")
    assert run(corpus.manifest, store.storage.root).shards_done == 0
    corpus.write_manifest("clip_id\nc0\n")  # a manifest of the own run that is faulty now is told, and passed over
    assert verify(store, recompute=1.0, jobs=1).good
    assert "column 'path' is missing" in caplog.text
    with pytest.raises(ManifestError):
        verify(store, recompute=1.0, manifest=corpus.manifest, jobs=1)


# --- the last third of a newcomer's first day


def test_a_project_is_moved_verified_repaired_run_again_and_reported(
    corpus: Corpus, tmp_path: Path, capsys, monkeypatch
) -> None:
    work = ["--teacher", TEACHER, "--backend", "sequential"]
    monkeypatch.chdir(corpus.folder)
    assert main(["run", *work, "--shard-windows", "4"]) == 0
    before = shard_bytes(Path("soft_labels"))
    monkeypatch.chdir(tmp_path)
    shutil.move(corpus.folder, tmp_path / "archive" / "2026")
    monkeypatch.chdir(tmp_path / "archive" / "2026")
    assert main(["verify"]) == 0
    next(Path("soft_labels/shards").iterdir()).write_bytes(b"damaged")
    assert main(["verify", "--jobs", "1"]) == 1
    command = re.search(r"run `softlabels (regenerate soft_labels --shard \d)`", capsys.readouterr().out)[1].split()
    assert main([*command, "--jobs", "1"]) == 2
    told = capsys.readouterr().err
    assert "--root" in told
    assert "--teacher" in told
    assert main(["run", *work]) == 0  # as it says
    assert main([*command, "--jobs", "1"]) == 0
    assert shard_bytes(Path("soft_labels")) == before
    assert main(["verify", "--recompute", "1", "--jobs", "1"]) == 0
    assert main(["run", *work]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["report"]) == 0
    page = Path("report.html").read_text()
    assert "data:audio/flac" in page
    assert "no sound" not in page
