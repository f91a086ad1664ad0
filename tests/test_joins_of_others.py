"""What lies in the `joins/` of a store is believed once this user has built the same, and nothing there leads away."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus

import softlabels
from softlabels.digests import canonical_json, sha256_of
from softlabels.kept.kept_file import described
from softlabels.kept.soft_file import open_soft, write_soft
from softlabels.labels.joined_labels import JoinedLabels


def carry(folder: Path, **changed: object) -> None:
    """Change what join.json says, and recompute every digest of it."""
    header = {**json.loads((folder / "join.json").read_text()), **changed}
    header["files"] = {name: described(folder / name) for name in header["files"]}
    body = {name: value for name, value in header.items() if name not in ("version", "digest")}
    data = canonical_json({"version": header["version"], "digest": sha256_of(body), **body})
    (folder / "join.json").write_bytes(data + b"\n")


def other_values(folder: Path) -> None:
    path = folder / "hard_value.npy"
    np.save(path, 1 - np.load(path))
    carry(folder)


def other_classes_annotated(folder: Path) -> None:
    path = folder / "hard_index.npy"
    np.save(path, 2 - np.load(path))
    carry(folder)


def other_starts(folder: Path) -> None:
    path = folder / "start_s.npy"
    np.save(path, np.load(path)[::-1])
    carry(folder)


def other_names(folder: Path) -> None:
    carry(folder, classes=["x", "y", "z"])


def other_soft(folder: Path) -> None:
    path = next(folder.parent.glob("soft-*"))
    shape = JoinedLabels.open(folder).y_true().shape
    write_forged(path, (shape[0], shape[1] // 2))
    carry(folder, soft_digest=open_soft(path, (shape[0], shape[1] // 2)).digest)


def write_forged(path: Path, shape: tuple[int, int]) -> None:
    path.unlink()
    write_soft(path, shape, [np.full(shape, 0.5, np.float32)])


FORGED = [other_values, other_classes_annotated, other_starts, other_names, other_soft]


def seen(labels: softlabels.JoinedLabels) -> tuple:
    return tuple(labels.classes), labels.keys["start_s"].tolist(), labels.y_true().tobytes()


def test_a_forged_join_in_a_store_is_replaced(corpus: Corpus, store, caplog, monkeypatch, tmp_path: Path) -> None:
    labels = store.join(corpus.manifest)
    true, path = seen(labels), labels.path
    for stranger in (False, True):  # this user built the true one, or nothing
        for forge in FORGED:
            forge(path)
            assert seen(JoinedLabels.open(path)) != true, forge
            if stranger:
                monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / forge.__name__))
            caplog.clear()
            found = store.join(corpus.manifest)
            assert (seen(found), found.path) == (true, path), forge
            assert "was not what these inputs give: replaced" in caplog.text


def test_a_forged_array_is_not_taken_into_a_new_join(corpus: Corpus, store, caplog) -> None:
    labels = store.join(corpus.manifest)
    true, shape = seen(labels), (len(labels), len(labels.classes))
    shutil.rmtree(labels.path)
    write_forged(next(labels.path.parent.glob("soft-*")), shape)
    assert seen(store.join(corpus.manifest)) == true
    assert "replaced" in caplog.text


def test_an_own_join_under_the_name_of_another_is_not_believed(corpus: Corpus, store) -> None:
    train, test = store.join(corpus.manifest, split="train"), store.join(corpus.manifest, split="test")
    true = seen(test)
    shutil.rmtree(test.path)
    shutil.copytree(train.path, test.path)
    assert seen(store.join(corpus.manifest, split="test")) == true


def test_what_another_user_built_stays_and_is_believed_once_this_one_built_it(
    corpus: Corpus, store, monkeypatch, tmp_path: Path, caplog
) -> None:
    labels = store.join(corpus.manifest)
    files = {path: path.stat().st_ino for path in labels.path.parent.rglob("*")}
    built = []
    monkeypatch.setattr("softlabels.joins.build.find_rows", counted("softlabels.joins.build", "find_rows", built))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with caplog.at_level(logging.INFO, "softlabels"):
        assert seen(store.join(corpus.manifest)) == seen(labels)
    assert "was not built by you: building it to compare" in caplog.text
    assert "replaced" not in caplog.text
    assert len(built) == 1
    store.join(corpus.manifest)
    assert len(built) == 1
    assert {path: path.stat().st_ino for path in labels.path.parent.rglob("*")} == files


def counted(module: str, name: str, calls: list) -> Callable:
    original = getattr(__import__(module, fromlist=[name]), name)

    def call(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        return original(*arguments, **named)

    return call


def test_a_folder_that_the_user_named_is_believed(corpus: Corpus, store, monkeypatch, tmp_path: Path) -> None:
    labels = store.join(corpus.manifest, cache_dir=tmp_path / "ours")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr("softlabels.joins.build.find_rows", lambda *_: pytest.fail("built again"))
    assert seen(store.join(corpus.manifest, cache_dir=tmp_path / "ours")) == seen(labels)


@pytest.mark.parametrize("home", ["a file", "none", "read-only"])
def test_a_join_is_built_where_what_was_built_cannot_be_remembered(
    corpus: Corpus, store, monkeypatch, tmp_path: Path, caplog, home: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if home == "a file" else "/proc/softlabels")
    if home == "none":  # a user whom nobody knows, as in some containers
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    true = seen(store.join(corpus.manifest))
    assert "will be built again the next time; name a cache_dir=" in caplog.text
    assert seen(store.join(corpus.manifest)) == true


def test_joins_are_not_written_through_links(corpus: Corpus, store, tmp_path: Path) -> None:
    labels = store.join(corpus.manifest)
    joins, true, lock = labels.path.parent, seen(labels), f".tmp-{labels.path.name}.lock"
    (tmp_path / "profile").write_text("mine")
    shutil.rmtree(labels.path)
    (joins / lock).symlink_to(tmp_path / "profile")  # it would be made empty
    with pytest.raises(softlabels.JoinError, match="joins cannot be kept in .*; name another cache_dir="):
        store.join(corpus.manifest)
    assert (tmp_path / "profile").read_text() == "mine"
    shutil.rmtree(joins)
    (tmp_path / "elsewhere").mkdir()
    joins.symlink_to(tmp_path / "elsewhere")
    found = store.join(corpus.manifest)
    assert (seen(found), os.listdir(tmp_path / "elsewhere")) == (true, [])
    assert found.path.is_relative_to(os.environ["XDG_CACHE_HOME"])


def test_a_store_by_another_name_and_audio_elsewhere_are_the_same_join(
    corpus: Corpus, store, monkeypatch, tmp_path: Path, caplog
) -> None:
    labels = store.join(corpus.manifest)
    written = (labels.path / "join.json").read_bytes()
    shutil.copytree(corpus.folder, tmp_path / "mine", ignore=shutil.ignore_patterns("store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.chdir(corpus.folder.parent)
    for where in (f"{corpus.folder.name}/store", f"./{corpus.folder.name}/../{corpus.folder.name}/store"):
        found = softlabels.open(where).join(corpus.manifest, root=tmp_path / "mine")
        assert found.root == tmp_path / "mine"
        assert seen(found) == seen(labels)
    assert (labels.path / "join.json").read_bytes() == written
    assert "replaced" not in caplog.text
