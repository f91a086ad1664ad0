"""A store from a stranger: what it says of a machine is never run, never followed, and confirms nothing."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, Corpus, label

import softlabels
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from pipeline.labelling import worker
from pipeline.report import listening
from softlabels import AudioError, JoinError, StoreError
from softlabels.batches.window_audio import WindowAudio
from softlabels.digests import canonical_json, sha256_of
from softlabels.labels.saved import write_join
from softlabels.storage.file_cache import user_folder
from softlabels.storage.unfinished import remove
from softlabels.store.own_runs import OwnRun, remember_run

TOUCH = "import pathlib; pathlib.Path('ran').touch()"
ATTACKS: dict[str, object] = {
    "a shell": {"kind": "os:system", "model": "touch ran"},
    "another shell": {"kind": "subprocess:getoutput", "model": "touch ran"},
    "python itself": {"kind": "builtins:exec", "model": TOUCH},
    "a module beside": {"kind": "beside:teacher"},
    "a teacher that was there before": {"kind": "standin:teacher"},
    "its own confirmation": {"kind": "keras", "model": "m.keras", "labels": "l", "model_sha256": "0" * 64},
    "its own model": {"kind": "birdnet", "model": "m.tflite", "labels": "l.txt"},
    "an onnx file": {"kind": "onnx", "model": "/etc/passwd", "labels": "/etc/hostname", "device": "gpu"},
    "a file that never ends": {"kind": "litert", "model": "/dev/zero", "labels": "/dev/zero"},
    "no text": {"kind": ["os:system"], "model": {"a": 1}},
    "other letters": {"kind": "\uff4f\uff53:system", "model": "touch\u2003ran\u202e"},
    "other fields": {"kind": "birdnet", "__class__": "x", "score": 1},
    "a number": 7,
    "nothing": None,
    "a list": [{"kind": "os:system"}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of two clips with the store that this user made of it, in two shards."""
    corpus = Corpus(tmp_path_factory.mktemp("made"))
    corpus.write_audio("a.wav", 0.4)
    corpus.write_audio("b.wav", 0.2)
    corpus.write_manifest("clip_id,path,label\na,a.wav,Aus aus_Alpha\nb,b.wav,\n")
    label(corpus)
    return corpus


@pytest.fixture
def own(made: Corpus) -> Iterator[softlabels.SoftLabelStore]:
    """That store; what is remembered of its run is as it was in the end."""
    store = softlabels.open(made.folder / "store")
    path, content = own_run(store), own_run(store).read_bytes()
    yield store
    remove(path)
    path.touch(mode=0o600)
    path.write_bytes(content)


@pytest.fixture
def foreign(made: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store as it comes from somebody else, in the folder where its reader is; beside it lies a module."""
    shutil.copytree(made.folder / "store", tmp_path / "store")
    (tmp_path / "beside.py").write_text(f"{TOUCH}\ndef teacher():\n    {TOUCH}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def own_run(store: softlabels.SoftLabelStore) -> Path:
    """The file that remembers this user's run on a store, or would."""
    place = [str(store.storage.root.resolve()), store.spec.fingerprint()]
    return user_folder() / "runs" / f"{sha256_of(place)}.json"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The teachers that are loaded."""
    choices: list[object] = []
    load = worker.load_teacher

    def recorded(choice):
        choices.append(choice)
        return load(choice)

    monkeypatch.setattr(worker, "load_teacher", recorded)
    worker._warm_teacher.cache_clear()
    return choices


def write_hints(store: Path, **hints: object) -> None:
    (store / "run.json").write_text(json.dumps(hints))


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_store_does_not_say_which_teacher_is_loaded(
    foreign: Path, made: Corpus, loaded: list, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hints(foreign, audio_root=str(made.folder), teacher=ATTACKS[attack])
    opened, root = softlabels.open(foreign), made.folder
    with pytest.raises(StoreError, match="--teacher"):
        verify(opened, recompute=1.0, root=root, jobs=1)
    with pytest.raises(StoreError, match="--teacher"):
        regenerate(opened, [0], root=root, jobs=1)
    for command in (["verify", "--recompute", "1"], ["regenerate", "--shard", "0"]):
        assert main([command[0], str(foreign), *command[1:], "--root", str(root), "--jobs", "1"]) == 2
        assert "--teacher, and with --model, --labels, --outputs and --model-sha256" in capsys.readouterr().err
    assert loaded == []
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "root", ["s3://stranger/audio", "/", "/dev", "~", 7, ["/"], {"a": "/"}, "", None, "x\u202e\x1b[2J"]
)
def test_a_store_does_not_say_where_audio_is_read(foreign: Path, made: Corpus, root: object, capsys) -> None:
    write_hints(foreign, audio_root=root, teacher={"kind": "birdnet"})
    opened = softlabels.open(foreign)
    assert opened.audio_root() is None
    for command in (["verify", "--recompute", "1"], ["regenerate", "--shard", "0"]):
        assert main([command[0], str(foreign), *command[1:], "--teacher", "standin:teacher"]) == 2
        printed = capsys.readouterr().err
        assert "name it with --root" in printed
        assert "\x1b" not in printed
    assert opened.join(made.manifest).root == made.folder


def test_where_the_audio_is_not_found_the_error_says_what_to_name(foreign: Path, made: Corpus) -> None:
    write_hints(foreign, audio_root=str(made.folder), teacher=None)
    shutil.copy(made.manifest, foreign.parent)
    labels = softlabels.open(foreign).join(foreign.parent / made.manifest.name)
    with pytest.raises(AudioError, match=f"below '{foreign.parent}', or name its folder with root="):
        WindowAudio(labels, rate_hz=8000).read([0])


def test_a_report_listens_to_no_bucket_that_a_store_names(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hints(foreign, audio_root="s3://stranger/audio", teacher=None)
    roots: list[object] = []
    real = listening.Listening
    monkeypatch.setattr(
        listening, "Listening", lambda store, root, paths: roots.append(root) or real(store, root, paths)
    )
    assert main(["report", str(foreign), "-o", "report.html"]) == 0
    assert roots == [Path()]


def test_hints_that_no_parser_survives_are_no_hints(foreign: Path) -> None:
    for text in (b"[" * 200_000, b"\xff\xfe", b"", b'"os:system"', b"{" + b'"a":{' * 50_000):
        (foreign / "run.json").write_bytes(text)
        assert softlabels.open(foreign).hints() == {}


def test_whoever_made_a_store_scores_it_again_without_a_word_and_where_it_was_moved_with_flags(
    own: softlabels.SoftLabelStore, foreign: Path, made: Corpus, capsys
) -> None:
    here = str(own.storage.root)
    (own.storage.root / "run.json").unlink(missing_ok=True)
    assert main(["verify", here, "--recompute", "1", "--jobs", "1"]) == 0
    assert main(["regenerate", here, "--shard", "1", "--jobs", "1"]) == 0
    assert own.audio_root() == made.folder

    there = ["--root", str(made.folder), "--jobs", "1"]
    assert main(["verify", str(foreign), "--recompute", "1", *there]) == 2
    assert "no run of yours" in capsys.readouterr().err
    there += ["--teacher", "standin:teacher"]
    assert main(["verify", str(foreign), "--recompute", "1", *there]) == 0
    assert main(["regenerate", str(foreign), "--shard", "1", *there]) == 0
    opened = softlabels.open(foreign)
    assert verify(opened, recompute=1.0, root=made.folder, teacher="standin:teacher", jobs=1).good
    assert main(["verify", str(foreign), "--recompute", "1", *there[:-1], "standin:not_finite"]) == 1
    assert "is not the one that labelled the store: its model is another one" in capsys.readouterr().out


def test_saved_labels_do_not_say_which_bucket_is_read(
    own: softlabels.SoftLabelStore, made: Corpus, tmp_path: Path
) -> None:
    labels = own.join(made.manifest)
    dataclasses.replace(labels, root="s3://stranger/audio").save(tmp_path / "saved")
    with pytest.raises(JoinError, match="'s3://stranger/audio', which no run of yours has read: .* name it with root="):
        softlabels.load_labels(tmp_path / "saved")
    assert softlabels.load_labels(tmp_path / "saved", root="s3://stranger/audio").root == "s3://stranger/audio"
    remember_run(own.storage, "another fingerprint", OwnRun(audio_root="s3://stranger/audio", teacher={}))
    assert softlabels.load_labels(tmp_path / "saved").root == "s3://stranger/audio"
    labels.save(tmp_path / "local")
    assert softlabels.load_labels(tmp_path / "local").root == made.folder


@pytest.mark.parametrize("store", ["s3://stranger/store", "gs://stranger", "az://stranger/a/b"])
def test_saved_labels_do_not_say_which_bucket_teaches(
    own: softlabels.SoftLabelStore, made: Corpus, tmp_path: Path, store: str, monkeypatch, caplog
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "softlabels.labels.reading.origin.open_storage", lambda where: asked.append(where) or own.storage
    )
    labels = own.join(made.manifest)
    saved = dataclasses.replace(labels._saved, header={**labels._saved.header, "store": store})
    write_join(tmp_path / "saved", saved.arrays, saved.header, soft=None)
    labels = softlabels.load_labels(tmp_path / "saved")
    for given in (labels, pickle.loads(pickle.dumps(labels))):
        with pytest.raises(JoinError, match=f"'{store}', which no run of yours made: .* give it as store="):
            given.adapt()
    assert labels.recommended().calibration.asked == "platt, per class"
    assert "calibrated only" in caplog.text
    assert asked == []
    assert labels.adapt(store=store).calibration.asked == "adapted"
    user_runs = user_folder() / "runs"
    user_runs.mkdir(exist_ok=True)
    fields = {"store": [store, "a fingerprint"], "audio_root": "x", "teacher": {}}
    (user_runs / f"{'0' * 64}.json").write_bytes(canonical_json({"digest": sha256_of(fields), **fields}))
    assert labels.adapt().calibration.asked == "adapted"
    assert asked == [store, store]


def test_a_join_of_a_cache_is_no_saved_labels(own: softlabels.SoftLabelStore, made: Corpus) -> None:
    with pytest.raises(JoinError, match=r"is a join in a cache, not saved labels; `labels.save\(path\)` writes them"):
        softlabels.load_labels(own.join(made.manifest).path)


DAMAGE = {
    "another's": lambda path: os.chmod(path, 0o666),
    "a bit flipped": lambda path: path.write_bytes(path.read_bytes().replace(b"standin", b"stanein")),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no JSON": lambda path: path.write_bytes(b"\xff"),
    "deep": lambda path: path.write_bytes(b"[" * 200_000),
    "a link": lambda path: (path.rename(path.with_suffix(".moved")), path.symlink_to(path.with_suffix(".moved"))),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_memory_that_is_damaged_or_another_users_is_ignored(
    own: softlabels.SoftLabelStore, made: Corpus, damage: str
) -> None:
    path = own_run(own)
    assert path.stat().st_mode & 0o777 == 0o600
    DAMAGE[damage](path)
    assert own.audio_root() is None
    with pytest.raises(StoreError, match="no run of yours"):
        regenerate(own, [0], root=made.folder, jobs=1)


def test_a_memory_of_a_newer_softlabels_is_asked_for_again(own: softlabels.SoftLabelStore, made: Corpus) -> None:
    run = own.own_run()
    remember_run(own.storage, own.spec.fingerprint(), dataclasses.replace(run, teacher={"kind": "x", "new": 1}))
    assert own.audio_root() == made.folder
    with pytest.raises(StoreError, match="no run of yours"):
        regenerate(own, [0], jobs=1)


def test_the_memory_of_one_store_does_not_speak_for_another(
    own: softlabels.SoftLabelStore, foreign: Path, made: Corpus
) -> None:
    opened = softlabels.open(foreign)
    shutil.copy(own_run(own), own_run(opened))
    assert opened.audio_root() is None
    assert own.audio_root() == made.folder


def test_what_a_command_starts_does_not_look_into_the_current_folder(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts_something(storage: object) -> list[str]:
        subprocess.run([sys.executable, "-m", "tqdm", "--version"], capture_output=True, check=True)
        return []

    monkeypatch.setattr("pipeline.checking.verify.joins_problems", starts_something)
    (foreign.parent / "tqdm.py").write_text(TOUCH)
    for before in (None, "", "1"):
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        assert main(["verify", str(foreign), "--jobs", "1"]) == 0
        assert not Path("ran").exists()
        assert os.environ.get("PYTHONSAFEPATH") == before


@pytest.mark.engines
def test_modules_beside_a_store_are_not_imported_by_workers(foreign: Path, made: Corpus) -> None:
    """A worker is started with `python -m`, which would look into the current folder first."""
    for name in ("numpy", "joblib", "json", "soundfile"):
        (foreign.parent / f"{name}.py").write_text(f"{TOUCH}\nraise SystemExit(9)\n")
    script = foreign.parent / "bin" / "softlabels"  # as a console script is, in a folder of its own
    script.parent.mkdir()
    places = [str(REPOSITORY), str(REPOSITORY / "tests")]
    script.write_text(f"import sys; sys.path[:0] = {places}\nimport pipeline.cli as c; sys.exit(c.main())")
    command = [sys.executable, str(script), "regenerate", "store", "--shard", "0", "--shard", "1", "--jobs", "2"]
    command += ["--root", str(made.folder), "--teacher", "standin:teacher"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=foreign.parent, env=environment, capture_output=True, text=True, check=False)
    assert not (foreign.parent / "ran").exists(), done.stderr
    assert done.returncode == 0, done.stderr
