"""verify and regenerate: every kind of damage is found, named, and mended to the same bytes."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, run_cli, shard_bytes

import pipeline
import softlabels
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.commands import main
from softlabels.records.receipts import commit_generation
from softlabels.records.shard import decode_shard, encode_shard
from softlabels.store.equivalence import compare_probabilities


def reopened(store: softlabels.SoftLabelStore) -> softlabels.SoftLabelStore:
    return softlabels.open(store.storage.root)


def test_a_good_store_verifies_and_recomputes_identical(store) -> None:
    report = verify(store, recompute=1.0, jobs=1)
    assert report.good
    assert [check.likeness for check in report.shards] == ["identical"] * 4
    assert sum(check.recomputed for check in report.shards) == 14


def test_a_sample_is_a_share_of_the_windows_and_always_the_same(store) -> None:
    first, again = (verify(store, recompute=0.3, jobs=1) for _ in range(2))
    assert first == again
    assert sum(check.recomputed for check in first.shards) == 5  # 4.2 rounded up


DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "no Parquet": lambda path: path.write_bytes(b"hello"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_found_and_regenerated_to_the_same_bytes(store, capsys, damage: str) -> None:
    before = shard_bytes(store.storage.root)
    DAMAGE[damage](store.storage.path(store.receipts[2].file))
    report = verify(reopened(store), jobs=1)
    bad = [check for check in report.shards if check.problem]
    assert [check.shard for check in bad] == [2]
    assert f"softlabels regenerate {store.storage} --shard 2" in bad[0].problem
    assert main(["regenerate", str(store.storage), "--shard", "2", "--jobs", "1"]) == 0
    assert capsys.readouterr().out == "shard 2  identical  restored\n"
    assert shard_bytes(store.storage.root) == before
    assert verify(reopened(store), jobs=1).good


def test_every_shard_can_be_regenerated_under_other_jobs_folder_locale_zone_and_hash_seed(
    store, tmp_path, monkeypatch
) -> None:
    before = shard_bytes(store.storage.root)
    for path in (store.storage.root / "shards").iterdir():
        path.unlink()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY)]))
    for name, value in {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"}.items():
        monkeypatch.setenv(name, value)
    shards = [word for shard in range(4) for word in ("--shard", shard)]
    done = run_cli("regenerate", store.storage, *shards, "--jobs", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shard_bytes(store.storage.root) == before


def test_swapped_foreign_and_orphaned_files_are_told_apart(store) -> None:
    folder = store.storage.root / "shards"
    a, b = (store.storage.path(store.receipts[i].file) for i in (0, 2))
    a_bytes, b_bytes = a.read_bytes(), b.read_bytes()
    a.write_bytes(b_bytes)
    b.write_bytes(a_bytes)
    (folder / "00009-123456789abc.parquet").write_bytes(a_bytes)
    report = verify(reopened(store), jobs=1)
    assert [check.shard for check in report.shards if check.problem] == [0, 2]
    assert report.orphans == ("shards/00009-123456789abc.parquet",)


def edit_receipt(store, shard: int, **changes: object) -> None:
    path = store.storage.root / "receipts" / f"{shard:05d}.g0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rows": 3}, "its receipt says 3 rows, the file has 4"),
        ({"fingerprint": "f" * 64}, "its receipt is of shard 0 with fingerprint ffff"),
        ({"digest": "0" * 64}, "is gone"),
        (
            {"quarantined": [{"clip_id": "c0", "first_window": 0, "windows": 1, "reason": "empty", "detail": ""}]},
            "expected 3 windows as planned, in order, got 4",
        ),
        (
            {"quarantined": [{"clip_id": "zz", "first_window": 0, "windows": 1, "reason": "empty", "detail": ""}]},
            "quarantines ('zz', 0), which is not planned here",
        ),
    ],
)
def test_an_edited_receipt_is_found(store, changes: dict, complaint: str) -> None:
    edit_receipt(store, 0, **changes)
    report = verify(reopened(store), shards=[0], jobs=1)
    assert complaint in report.shards[0].problem


def test_a_missing_shard_and_a_missing_success_are_problems(store) -> None:
    (store.storage.root / "_SUCCESS-0001.json").unlink()
    assert "_SUCCESS-0001.json is missing" in verify(reopened(store), jobs=1).problems[0]
    (store.storage.root / "receipts" / "00001.g0.json").unlink()
    report = verify(reopened(store), jobs=1)
    assert "shard 1 of" in report.shards[1].problem
    assert "not committed" in report.shards[1].problem


def test_a_receipt_nobody_planned_is_a_problem(store) -> None:
    edit_receipt(store, 3)
    third = json.loads((store.storage.root / "receipts" / "00003.g0.json").read_text())
    (store.storage.root / "receipts" / "00007.g0.json").write_text(json.dumps({**third, "shard": 7}))
    assert "receipt of shard 7, which no plan has" in verify(reopened(store), jobs=1).problems[0]


def test_changed_audio_is_named_when_a_shard_is_regenerated(corpus: Corpus, store) -> None:
    corpus.write_audio("c1.wav", 0.1, seed=42)
    (result,) = regenerate(store, [0], jobs=1)
    assert result.likeness == "different"
    assert "audio file of clip 'c1'" in result.problem


def test_a_window_that_cannot_be_recomputed_is_a_problem(corpus: Corpus, store) -> None:
    corpus.write_audio("c1.wav", 0.1, seed=42)
    report = verify(store, recompute=1.0, jobs=1)
    assert "c1, window 0, cannot be recomputed: changed-since-probe" in report.shards[0].problem


def test_another_teacher_cannot_regenerate(store) -> None:
    (result,) = regenerate(store, [0], teacher="standin:not_finite", jobs=1)
    assert (
        "cannot be made again: teacher 'stand-in' is not the one that labelled the store: its model" in result.problem
    )


def with_rows(store, shard: int, change) -> None:
    """Let a shard stand whose rows were changed on purpose, as another machine's would be."""
    rows = store.read_shard(shard)
    changed = dataclasses.replace(rows, probabilities=change(rows.probabilities))
    data = encode_shard(changed, store.spec, shard=shard)
    import hashlib

    receipt = dataclasses.replace(store.receipt(shard), digest=hashlib.sha256(data).hexdigest(), size=len(data))
    commit_generation(store.storage, data, receipt)


def test_equivalent_bytes_leave_the_shard_as_it_is_unless_accepted(store, capsys) -> None:
    with_rows(store, 0, lambda p: np.where(p < 0.4, p * np.float32(1 + 2.0**-8), p))
    changed = reopened(store)
    before = changed.receipts[0]
    (result,) = regenerate(changed, [0], jobs=1)
    assert (result.likeness, result.problem, result.accepted) == ("equivalent", "", False)
    assert reopened(store).receipts[0] == before
    assert verify(changed, shards=[0], recompute=1.0, jobs=1).shards[0].likeness == "equivalent"
    assert main(["regenerate", str(store.storage), "--shard", "0", "--accept-equivalent", "--jobs", "1"]) == 0
    assert capsys.readouterr().out == "shard 0  equivalent  accepted\n"
    assert reopened(store).receipts[0] == store.receipts[0]
    assert sorted(p.name for p in (store.storage.root / "receipts").glob("00000*")) == [
        "00000.g0.json",
        "00000.g1.json",
        "00000.g2.json",
    ]


def test_different_bytes_exit_1_and_change_nothing(store, capsys) -> None:
    with_rows(store, 0, lambda p: p[:, ::-1])
    tree = shard_bytes(store.storage.root)
    assert main(["regenerate", str(store.storage), "--shard", "0", "--accept-equivalent", "--jobs", "1"]) == 1
    assert "is different: receipt says sha256:" in capsys.readouterr().out
    assert shard_bytes(store.storage.root) == tree
    assert main(["verify", str(store.storage), "--recompute", "1", "--jobs", "1"]) == 1
    assert "the teacher now says something else" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("p", "q", "likeness"),
    [
        (0.1, 0.1, "identical"),
        (0.1, 0.1 * (1 + 2.0**-8), "equivalent"),
        (0.1, 0.1 * (1 + 2.0**-7), "different"),
        (0.0, 1e-30, "different"),
        (0.9, 0.90005, "equivalent"),  # logits 0.00056 apart
        (0.9, 0.9002, "different"),  # 0.0022
        (0.999, 0.9990005, "equivalent"),  # 0.0005
        (0.999, 0.99901, "different"),  # 0.01
        (1.0, 1.0 - 2.0**-24, "different"),
        (1.0, 0.0, "different"),
    ],
)
def test_equivalence_is_one_rounding_step_or_a_thousandth_in_logits(p: float, q: float, likeness: str) -> None:
    stored, again = np.array([[p, 0.25]], np.float32), np.array([[q, 0.25]], np.float32)
    assert compare_probabilities(stored, again) == likeness
    assert compare_probabilities(again, stored) == likeness


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["verify", "--shard", "9"], "--shard 9: expected one of the 4 planned shards"),
        (["verify", "--recompute", "2"], "--recompute: expected a share from 0 to 1"),
        (["regenerate", "--shard", "9"], "--shard 9: expected one of the 4 planned shards"),
        (["regenerate", "--shard", "0", "--root", "nowhere"], "no audio at 'nowhere'"),
    ],
)
def test_wrong_usage_exits_2(store, capsys, arguments: list[str], complaint: str) -> None:
    assert main([arguments[0], str(store.storage), *arguments[1:]]) == 2
    assert complaint in capsys.readouterr().err


def test_of_a_store_from_elsewhere_the_command_says_what_is_missing(store, capsys, corpus: Corpus, tmp_path) -> None:
    """Not even where run.json would say it: a store may be a stranger's."""
    there, root = str(shutil.copytree(store.storage.root, tmp_path / "there")), str(corpus.folder)
    assert main(["regenerate", there, "--shard", "0"]) == 2
    assert "name it with --root" in capsys.readouterr().err
    assert main(["regenerate", there, "--shard", "0", "--root", root]) == 2
    assert "what a store says of its teacher ('stand-in') is not run: name the teacher with" in capsys.readouterr().err
    assert main(["verify", there, "--recompute", "1", "--root", root, "--labels", "l.txt"]) == 2
    assert "--labels goes with --teacher" in capsys.readouterr().err


def test_verify_prints_json(store, capsys) -> None:
    assert main(["verify", str(store.storage), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["good"] is True
    assert len(report["shards"]) == 4


def test_decoding_needs_the_right_number_of_classes(store) -> None:
    data = store.storage.get(store.receipts[0].file)
    with pytest.raises(softlabels.StoreError):
        decode_shard(data, store.spec, 4)


@pytest.mark.parametrize("command", [["verify", "--recompute", "1"], ["regenerate", "--shard", "0"]])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE])
def test_a_machine_in_trouble_says_nothing_of_a_store(
    store, monkeypatch, capsys, command: list[str], number: int
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise softlabels.errors.EnvironmentTrouble(f"'c0.wav': {os.strerror(number)}")

    monkeypatch.setattr("pipeline.labelling.worker.label_shard", fails)
    before = sorted((store.storage.root / "receipts").iterdir())
    name, *flags = command
    assert main([name, str(store.storage.root), *flags, "--jobs", "1"]) == 3
    assert os.strerror(number) in capsys.readouterr().err
    assert sorted((store.storage.root / "receipts").iterdir()) == before


def test_workers_of_another_folder_are_not_asked_again(tmp_path: Path, monkeypatch) -> None:
    """A store called `store` is another one after `os.chdir`, also for processes that wait for more work."""
    for seed, name in enumerate(("first", "second", "second")):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / "moved")  # and another folder gets its name
        corpus = Corpus(tmp_path / name)
        corpus.write_audio("a.wav", 0.5, seed=seed)
        corpus.write_manifest("clip_id,path\na,a.wav\n")
        monkeypatch.chdir(corpus.folder)
        options = pipeline.RunOptions(backend="sequential")
        labelling = pipeline.LabelOptions(shard_windows=2)
        pipeline.run("data_manifest.csv", "store", teacher="standin:teacher", labelling=labelling, options=options)
        report = verify(softlabels.open("store"), recompute=1.0, jobs=2)
        assert [check.likeness for check in report.shards] == ["identical"] * 3
