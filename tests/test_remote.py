"""The whole job on buckets: audio and store on a loopback S3, labelled, verified, mended, joined, trained from."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bucket import ENVIRONMENT, SECRET, Server, serve, use_buckets
from conftest import REPOSITORY, Corpus, label, shard_bytes

import pipeline
import softlabels
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from softlabels.audio.decode import AudioBudget
from softlabels.errors import EnvironmentTrouble, ManifestError, SoftLabelsError, StoreError
from softlabels.storage.file_cache import user_folder
from softlabels.storage.opening import open_storage


@dataclass
class Remote:
    """A corpus whose audio is in a bucket, and where its store goes."""

    server: Server
    corpus: Corpus
    root: str
    store: str

    def run(self, **options: object) -> pipeline.RunSummary:
        return pipeline.run(
            self.corpus.manifest,
            self.store,
            root=self.root,
            teacher="standin:teacher",
            labelling=pipeline.LabelOptions(shard_windows=4),
            options=pipeline.RunOptions(backend="sequential", **options),
        )

    def run_cli(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": "tests"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def upload(self, name: str) -> None:
        self.server.put(f"{self.root.removeprefix('s3://')}/{name}", (self.corpus.folder / name).read_bytes())

    def shards(self) -> dict[str, bytes]:
        storage = open_storage(self.store)
        return {key.removeprefix("shards/"): storage.get(key) for key in storage.list("shards")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def remote(server: Server, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Remote]:
    use_buckets(monkeypatch, server, patience_s=0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bucket = server.make_bucket()
    made = Remote(server, corpus, f"s3://{bucket}/audio", f"s3://{bucket}/store")
    for path in corpus.folder.glob("*.wav"):
        made.upload(path.name)
    yield made
    server.proxy.spoil("")


def test_a_store_in_a_bucket_is_the_store_in_a_folder(remote: Remote) -> None:
    summary = remote.run()
    assert (summary.labelled, summary.quarantined, summary.missing) == (14, 0, 0)
    assert remote.shards() == shard_bytes(label(remote.corpus).storage.root)
    assert verify(softlabels.open(remote.store), jobs=1).good
    remote.server.proxy.requests.clear()
    assert remote.run().shards_done == 0
    assert not [r for r in remote.server.proxy.requests if ".wav" in r], "an unchanged file is not asked for"


@pytest.mark.engines
def test_labels_in_a_bucket_are_joined_and_trained_from(remote: Remote) -> None:
    import keras

    remote.run()
    store = softlabels.open(remote.store)
    labels = store.join(remote.corpus.manifest, canary=False)
    assert labels.root == remote.root
    local = label(remote.corpus).join(remote.corpus.manifest, canary=False)
    np.testing.assert_array_equal(labels.y_true(), local.y_true())
    batches, scored = (softlabels.make_dataset(each, batch_size=4) for each in (labels, local))
    kept = softlabels.make_dataset(labels, batch_size=4, audio="cache")  # of 16 bits, at their own rate: exact
    for (x, _), (y, _), (expected, _) in zip(batches, kept, scored, strict=True):
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(y, expected)
    student = keras.Sequential([keras.layers.Dense(3, activation="sigmoid")])
    student.compile("sgd", softlabels.DistillationLoss.for_labels(labels))
    history = student.fit(batches.take(2), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    saved = labels.save(remote.corpus.folder / "saved")
    assert softlabels.load_labels(saved).root == remote.root


@pytest.mark.engines
def test_tasks_of_a_job_array_share_a_bucket(remote: Remote) -> None:
    flags = ("--root", remote.root, "-o", remote.store, "--teacher", "standin:teacher", "--shard-windows", "4")
    runs = [
        remote.run_cli("run", str(remote.corpus.manifest), *flags, "--backend", "sequential", "--task", f"{i}/3")
        for i in range(3)
    ]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert remote.shards() == shard_bytes(label(remote.corpus).storage.root)
    store = softlabels.open(remote.store)
    assert store.is_closed()
    assert {key for key in store.storage.list("claims") if "beat" not in key} == set()


@pytest.mark.engines
def test_recordings_that_moved_in_a_bucket_are_read_where_the_manifest_has_them(remote: Remote) -> None:
    remote.run()
    store, before = softlabels.open(remote.store), remote.shards()
    text = remote.corpus.manifest.read_text()
    for i in range(6):
        (remote.corpus.folder / "x").mkdir(exist_ok=True)
        (remote.corpus.folder / f"c{i}.wav").rename(remote.corpus.folder / "x" / f"{i}.wav")
        text = text.replace(f",c{i}.wav,", f",x/{i}.wav,")
    remote.root = remote.root.replace("/audio", "/moved")  # where nothing is at a path of the plan
    for i in range(6):
        remote.upload(f"x/{i}.wav")
    remote.corpus.write_manifest(text)
    shutil.rmtree(user_folder() / "files")
    where = {"root": remote.root, "jobs": 1}
    assert not verify(store, recompute=1.0, **where, manifest=remote.corpus.write_manifest("clip_id,path\na,b\n")).good
    remote.corpus.write_manifest(text)
    assert verify(store, recompute=1.0, **where).good  # by the manifest of the own run
    (server_shard,) = [key for key in store.storage.list("shards") if key.startswith("shards/00002")]
    store.storage.put(server_shard, b"damaged")
    assert [r.likeness for r in regenerate(store, [2], **where)] == ["identical"]
    assert remote.shards() == before
    assert remote.run().shards_done == 0
    assert store.audio_root() == remote.root


@pytest.mark.engines
def test_what_was_fetched_once_is_not_fetched_again(remote: Remote) -> None:
    remote.run()
    store = softlabels.open(remote.store)
    list(store.read())
    remote.server.proxy.requests.clear()
    list(store.read())
    softlabels.open(remote.store).take([("c0", 0)])
    asked = [r for r in remote.server.proxy.requests if "/shards/" in r or ".wav" in r]
    assert asked == []
    verify(store, jobs=1)
    assert len([r for r in remote.server.proxy.requests if "/shards/" in r]) == 4, "verify reads the bucket"


def test_a_damaged_shard_is_found_and_made_again(remote: Remote) -> None:
    import obstore

    remote.run()
    before = remote.shards()
    store = softlabels.open(remote.store)
    changed = {"sha256": "0" * 64}  # not what the bytes are
    obstore.put(store.storage._client, store.receipts[1].file, b"something else", attributes=changed)
    problems = [check.problem for check in verify(store, jobs=1).shards if check.problem]
    assert len(problems) == 1
    assert "softlabels regenerate" in problems[0]
    (result,) = regenerate(store, [1], jobs=1)
    assert result.restored
    assert remote.shards() == before
    assert verify(softlabels.open(remote.store), jobs=1).good


def test_a_recording_that_comes_damaged_is_fetched_again(remote: Remote) -> None:
    remote.server.proxy.spoil("corrupt", only="GET c1.wav", times=1)
    assert remote.run().labelled == 14
    scored = softlabels.open(remote.store).planned_by_clip()["c1"].sha256
    assert scored == hashlib.sha256((remote.corpus.folder / "c1.wav").read_bytes()).hexdigest()


@pytest.mark.engines
def test_a_run_killed_halfway_is_resumed_and_nothing_is_done_twice(remote: Remote) -> None:
    remote.server.proxy.spoil("delay", only="PUT receipts")
    command = ["run", str(remote.corpus.manifest), "-o", remote.store, "--root", remote.root, "--jobs", "2"]
    killed = remote.run_cli(*command, "--teacher", "standin:teacher", "--shard-windows", "2")
    storage = open_storage(remote.store)
    until = time.monotonic() + 60
    while not storage.list("receipts") and time.monotonic() < until and killed.poll() is None:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=10)
    committed = storage.list("receipts")
    assert 0 < len(committed) < 7
    remote.server.proxy.spoil("")
    done = remote.run_cli(*command, "--teacher", "standin:teacher", "--shard-windows", "2")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "labelled" in out
    again = remote.run_cli("verify", remote.store)
    assert "softlabels verify" not in again.communicate(timeout=60)[1]
    assert again.returncode == 0
    assert label(remote.corpus, shard_windows=2).spec == softlabels.open(remote.store).spec
    assert remote.shards() == shard_bytes(remote.corpus.folder / "store")
    everything = b"".join(written(remote)) + (out + err).encode()
    assert SECRET.encode() not in everything
    assert ENVIRONMENT["AWS_ACCESS_KEY_ID"].encode() not in everything


def written(remote: Remote) -> Iterator[bytes]:
    """All that a run left anywhere: in the bucket, and in the user's cache."""
    storage = open_storage(remote.store)
    for folder in ("plan", "receipts", "shards"):
        yield from map(storage.get, storage.list(folder))
    yield from map(storage.get, storage.names() - {"plan", "receipts", "shards"})
    yield from (path.read_bytes() for path in (remote.corpus.folder.parent / "cache").rglob("*") if path.is_file())


FAULTS = ["drop", "409", "500", "503", "delay", "corrupt"]


@pytest.mark.engines
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_through_a_server_that_often_fails_ends_well(remote: Remote, fault: str) -> None:
    remote.server.proxy.spoil(fault, every=4)
    summary = remote.run()
    remote.server.proxy.spoil("")
    if summary.deferred or summary.missing:
        summary = remote.run()
    assert (summary.labelled, summary.quarantined, summary.missing) == (14, 0, 0)
    assert verify(softlabels.open(remote.store), recompute=1.0, jobs=1).good
    assert remote.shards() == shard_bytes(label(remote.corpus).storage.root)


@pytest.mark.engines
@pytest.mark.parametrize("stage", ["audio", "plan", "shards", "receipts", "_SUCCESS"])
@pytest.mark.parametrize("fault", ["drop", "503", "corrupt"])
def test_a_server_that_breaks_down_leaves_nothing_that_the_next_run_does_not_mend(
    remote: Remote, stage: str, fault: str
) -> None:
    remote.server.proxy.spoil(fault, only=stage)
    with contextlib.suppress(EnvironmentTrouble):
        remote.run()
    remote.server.proxy.spoil("")
    summary = remote.run()
    assert (summary.labelled, summary.quarantined, summary.missing) == (14, 0, 0)
    assert verify(softlabels.open(remote.store), jobs=1).good
    assert remote.shards() == shard_bytes(label(remote.corpus).storage.root)


@pytest.mark.engines
def test_a_recording_that_is_not_there_is_quarantined_and_labelled_once_it_comes(remote: Remote) -> None:
    remote.corpus.write_manifest(remote.corpus.manifest.read_text() + "late,late.wav,,train\n")
    assert remote.run().quarantined == 1
    remote.corpus.write_audio("late.wav", 0.2)
    remote.upload("late.wav")
    assert remote.run().quarantined == 0


@pytest.mark.engines
def test_a_recording_beyond_the_budget_is_not_even_fetched(remote: Remote) -> None:
    remote.server.proxy.requests.clear()
    assert remote.run(budget=AudioBudget(max_bytes=5000)).quarantined == 1
    assert [r for r in remote.server.proxy.requests if "GET" in r and "c2.wav" in r]
    assert not [r for r in remote.server.proxy.requests if "GET" in r and "c3.wav" in r]


def test_paths_may_be_urls_below_the_root(remote: Remote) -> None:
    text = remote.corpus.manifest.read_text()
    plain = remote.run().windows
    remote.corpus.write_manifest(text.replace(",c1.wav", f",{remote.root}/c1.wav"))
    assert remote.run().new_windows == 0, "it is the same clip"
    assert len(softlabels.open(remote.store).join(remote.corpus.manifest, canary=False)) == plain
    for path in ("s3://elsewhere/c1.wav", f"{remote.root}/c1.wav?sig=hidden"):
        remote.corpus.write_manifest(text.replace(",c1.wav", f",{path}"))
        with pytest.raises(ManifestError, match="1 paths are URLs that do not lie below the audio root") as caught:
            remote.run()
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("store", "root", "complaint"),
    [
        ("s3://bucket-nowhere/store", None, "there is no such bucket"),
        (None, "s3://bucket-nowhere/audio", "there is no such bucket"),
        (None, "empty", "no such folder"),
        ("gopher://host/store", None, "expected a path, s3://, gs:// or az://"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_audio_is_read(
    remote: Remote, store: str | None, root: str | None, complaint: str
) -> None:
    remote.server.proxy.requests.clear()
    remote.store = store or remote.store
    remote.root = root.replace("empty", remote.root + "-empty") if root else remote.root
    with pytest.raises(SoftLabelsError, match=complaint):
        remote.run()
    assert not [r for r in remote.server.proxy.requests if ".wav" in r]


def test_a_store_that_is_not_there_is_said_to_be_so(remote: Remote) -> None:
    with pytest.raises(StoreError, match="no store at 's3://"):
        softlabels.open(remote.store)
