"""Runs that share one store and have no leader: each shard once, whoever dies."""

import threading
from collections import Counter
from pathlib import Path

import pytest
from conftest import Corpus, label, run_cli, shard_bytes

import pipeline
import pipeline.checking.verify
import pipeline.labelling.worker
import pipeline.planning.prepare
import softlabels
from pipeline import ArrayTask, LabelOptions, RunOptions, RunSummary
from pipeline.labelling.claims import Claim, Claims
from softlabels.storage.local import LocalStorage


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a sign of life here."""
    monkeypatch.setattr("pipeline.running.job_array.POLL_S", 0.05)
    monkeypatch.setattr("pipeline.running.job_array.MAX_POLL_S", 0.1)
    monkeypatch.setattr("pipeline.running.run.Claims", lambda storage: Claims(storage, beat_s=0.1, expiry_s=1.0))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that were labelled, in the order in which they were."""
    shards: list[int] = []
    make_shard = pipeline.labelling.worker.make_shard

    def noted(task):
        shards.append(task.shard)
        return make_shard(task)

    monkeypatch.setattr(pipeline.labelling.worker, "make_shard", noted)
    return shards


def run_task(corpus: Corpus, task: ArrayTask, store: str = "shared", shard_windows: int = 1) -> RunSummary:
    return pipeline.run(
        corpus.manifest,
        corpus.folder / store,
        teacher="standin:teacher",
        labelling=LabelOptions(shard_windows=shard_windows),
        options=RunOptions(backend="sequential", task=task),
    )


def run_at_once(corpus: Corpus, tasks: list[ArrayTask]) -> list[RunSummary]:
    summaries: list[RunSummary] = []
    threads = [threading.Thread(target=lambda t=task: summaries.append(run_task(corpus, t))) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return summaries


@pytest.mark.parametrize("text", ["3/3", "4/3", "-1/3", "1", "a/b", "1/0", "1/3 "])
def test_a_task_that_is_none_of_n_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--task: expected i/n with i from 0 to n - 1, such as 0/100"):
        ArrayTask.parse(text)


@pytest.mark.parametrize(("shards", "count"), [(0, 3), (2, 3), (10, 3), (100, 7)])
def test_the_slices_of_all_tasks_are_all_shards_once_and_others_are_the_rest(shards: int, count: int) -> None:
    tasks = [ArrayTask(i, count) for i in range(count)]
    every = list(range(shards))
    assert [shard for task in tasks for shard in task.slice(every)] == every
    for task in tasks:
        assert sorted(task.slice(every) + task.others(every)) == every
    assert ArrayTask(0, 7).others(list(range(70))) != ArrayTask(0, 7).others(list(range(71)))[:60]


def test_tasks_that_run_at_once_label_each_shard_once_and_give_the_bytes_of_one_run(
    corpus: Corpus, made: list[int]
) -> None:
    alone = shard_bytes(label(corpus, shard_windows=1).storage.root)
    made.clear()
    summaries = run_at_once(corpus, [ArrayTask(i, 3) for i in range(3)])
    assert [summary.missing for summary in summaries] == [0, 0, 0]
    assert shard_bytes(corpus.folder / "shared") == alone
    assert Counter(made) == Counter(range(14))
    assert softlabels.open(corpus.folder / "shared").is_closed()
    assert pipeline.checking.verify.verify(softlabels.open(corpus.folder / "shared")).problems == ()


def test_only_one_task_probes_the_audio(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[int] = []
    probe_files = pipeline.planning.prepare.probe_files

    def noted(root, paths, **options):
        paths = list(paths)
        probed.append(len(paths))
        return probe_files(root, paths, **options)

    monkeypatch.setattr(pipeline.planning.prepare, "probe_files", noted)
    run_at_once(corpus, [ArrayTask(i, 3) for i in range(3)])
    assert sorted(probed) == [0, 0, 6]


def test_a_task_does_its_own_slice_first_and_then_what_nobody_did(corpus: Corpus, made: list[int]) -> None:
    run_task(corpus, ArrayTask(1, 2))
    assert made[:7] == list(range(7, 14))
    assert sorted(made[7:]) == list(range(7))
    assert made[7:] != sorted(made[7:])


@pytest.mark.parametrize("name", ["plan-0001", "shard-00003"])
def test_the_work_of_a_dead_task_is_done_by_the_living(corpus: Corpus, made: list[int], name: str) -> None:
    assert Claim(name, "dead" * 4, 0).take(LocalStorage(corpus.folder / "shared"))
    summary = run_task(corpus, ArrayTask(0, 2))
    assert (summary.missing, summary.labelled) == (0, 14)
    assert (made[-1] == 3) == (name == "shard-00003"), "put last, until it is sure that nobody is at work on it"


def test_a_damaged_shard_is_made_again_by_one_of_several(corpus: Corpus, made: list[int]) -> None:
    run_task(corpus, ArrayTask(0, 1))
    before = shard_bytes(corpus.folder / "shared")
    for name in list(before)[3:5]:
        (corpus.folder / "shared" / "shards" / name).unlink()
    made.clear()
    run_at_once(corpus, [ArrayTask(i, 2) for i in range(2)])
    assert shard_bytes(corpus.folder / "shared") == before
    assert Counter(made) == Counter([3, 4])


def test_work_that_is_put_off_by_every_task_ends(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(task):
        raise MemoryError

    monkeypatch.setattr(pipeline.labelling.worker, "make_shard", no_memory)
    summaries = run_at_once(corpus, [ArrayTask(i, 2) for i in range(2)])
    assert [(summary.missing, bool(summary.deferred)) for summary in summaries] == [(14, True)] * 2


def test_no_claim_is_left_once_the_store_is_whole(corpus: Corpus) -> None:
    run_at_once(corpus, [ArrayTask(i, 3) for i in range(3)])
    left = [path.name for path in (corpus.folder / "shared" / "claims").iterdir()]
    assert [name for name in left if not name.startswith("beat-")] == []


def test_a_longer_manifest_is_planned_by_one_task_too(corpus: Corpus, made: list[int]) -> None:
    run_task(corpus, ArrayTask(0, 1))
    corpus.write_audio("c6.wav", 0.3, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    made.clear()
    summaries = run_at_once(corpus, [ArrayTask(i, 2) for i in range(2)])
    assert [summary.labelled for summary in summaries] == [17, 17]
    assert sorted(made) == [14, 15, 16]


def test_finish_closes_what_others_labelled_and_names_what_they_did_not(corpus: Corpus, tmp_path: Path) -> None:
    store = label(corpus).storage.root
    (store / "_SUCCESS-0001.json").rename(tmp_path / "success")
    done = run_cli("run", "--finish", "-o", store, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "14 windows labelled" in done.stdout
    assert (store / "_SUCCESS-0001.json").read_bytes() == (tmp_path / "success").read_bytes()

    (store / "_SUCCESS-0001.json").unlink()
    next((store / "receipts").iterdir()).unlink()
    done = run_cli("run", "--finish", "-o", store, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 shards are missing, so the store is not closed" in done.stderr
    assert not (store / "_SUCCESS-0001.json").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--task", "3/3"), "--task: expected i/n with i from 0 to n - 1"),
        (("--task", "0/3", "--backend", "ray"), "--task: each task works on its own machine, got --backend ray"),
        (("--finish", "-o", "nowhere"), "nowhere"),
    ],
)
def test_flags_that_do_not_fit_are_refused(corpus: Corpus, flags: tuple[str, ...], complaint: str) -> None:
    done = run_cli("run", *flags, "--teacher", "standin:teacher", cwd=corpus.folder)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not (corpus.folder / "soft_labels").exists()
