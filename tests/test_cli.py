"""The command line as a user types it: exit codes, what goes to stdout, and errors that name the next step."""

import csv
import json
import re
import unicodedata

import pytest
from conftest import REPOSITORY, Corpus, run_cli, shard_bytes

from pipeline.cli.commands import main
from softlabels import read_manifest

STAND_IN = ("--teacher", "standin:teacher", "--backend", "sequential")


@pytest.fixture
def here(corpus: Corpus, monkeypatch) -> Corpus:
    """The corpus as the current directory."""
    monkeypatch.chdir(corpus.folder)
    return corpus


def fields(out: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in out.splitlines())


def test_run_labels_and_sums_up_and_a_second_run_says_one_line(here: Corpus, capsys) -> None:
    assert main(["run", *STAND_IN]) == 0
    printed = capsys.readouterr()
    summary = fields(printed.out)
    assert (summary["clips"], summary["windows"], summary["quarantined"]) == ("6", "14", "0")
    assert {"seconds", "bytes_per_window", "store"} <= set(summary)
    assert "softlabels.open('soft_labels').join('data_manifest.csv')" in printed.err
    assert main(["run", *STAND_IN]) == 0
    printed = capsys.readouterr()
    assert printed.out == "soft_labels: nothing to do, 6 clips, 14 windows labelled, 0 quarantined\n"
    assert printed.err == ""


def test_the_store_and_manifest_can_be_named(here: Corpus, capsys) -> None:
    here.manifest.rename(here.folder / "other.csv")
    assert main(["run", "other.csv", "-o", "labels", *STAND_IN]) == 0
    assert (here.folder / "labels" / "_SUCCESS-0001.json").is_file()


def test_quarantine_exits_1_until_it_is_allowed(here: Corpus, capsys) -> None:
    (here.folder / "c1.wav").unlink()
    assert main(["run", *STAND_IN]) == 1
    printed = capsys.readouterr()
    assert "c1: missing" in printed.err
    assert "next: softlabels inspect soft_labels --quarantine" in printed.err
    assert main(["run", *STAND_IN, "--allow-quarantined", "1"]) == 0
    assert main(["run", *STAND_IN, "--allow-quarantined", "10%"]) == 0
    assert main(["run", *STAND_IN, "--allow-quarantined", "1%"]) == 1


def test_on_error_fail_stops_and_says_why(here: Corpus, capsys) -> None:
    (here.folder / "c0.wav").unlink()
    assert main(["run", *STAND_IN, "--on-error", "fail", "--shard-windows", "4"]) == 1
    printed = capsys.readouterr()
    assert "stopped early: --on-error fail: c0: missing" in printed.err
    assert "the same command again" in printed.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "nowhere.csv"], "no such file; `softlabels manifest DIR`"),
        (["run", "--teacher", "standin:nobody"], "expected a function 'nobody'"),
        (["run", "--overlap", "9", *STAND_IN], "overlap must be at least 0"),
        (["run", "--min-probability", "0.1", *STAND_IN], "--min-probability goes with --layout sparse"),
        (["run", "--allow-quarantined", "many", *STAND_IN], "expected a number of windows or a percentage"),
        (["run", "--teacher", "litert"], "needs --model, --labels"),
        (["manifest", "nowhere", "-o", "x.csv"], "no such folder"),
        (["inspect", "nowhere"], "no store at 'nowhere'"),
        (["classes", "nowhere.txt"], "class list 'nowhere.txt': expected a UTF-8 text file"),
        (["classes", str(REPOSITORY / "tests/corpus/classes.txt"), "--against", "nowhere"], "no store at 'nowhere'"),
    ],
)
def test_wrong_usage_is_one_error_exit_2_and_nothing_written(here: Corpus, capsys, arguments, complaint) -> None:
    before = sorted(here.folder.iterdir())
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.startswith(f"softlabels {arguments[0]}: ")
    assert printed.out == ""
    assert sorted(here.folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [["run", "--no-such-flag"], ["dance"], []])
def test_an_unknown_flag_or_command_exits_2(arguments) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_dry_run_shows_the_plan_and_labels_nothing(here: Corpus, capsys) -> None:
    assert main(["run", *STAND_IN, "--dry-run", "--shard-windows", "4"]) == 0
    forecast = fields(capsys.readouterr().out)
    assert (forecast["windows"], forecast["shards"], forecast["unusable_clips"]) == ("14", "4", "0")
    assert {"seconds", "bytes_dense", "bytes_sparse", "bytes_100_classes"} <= set(forecast)
    assert not (here.folder / "soft_labels" / "store.json").exists()
    assert main(["run", *STAND_IN, "--shard-windows", "4"]) == 0
    stored = sum(map(len, shard_bytes(here.folder / "soft_labels").values()))
    assert int(forecast["bytes_dense"]) == pytest.approx(stored, rel=0.2)
    capsys.readouterr()
    assert main(["run", *STAND_IN, "--dry-run"]) == 0
    assert fields(capsys.readouterr().out)["windows"] == "0", "what is done is not forecast again"


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Corpus:
    """A folder a class, as collections are kept."""
    made = Corpus(tmp_path / "work" / "recordings")
    for i, name in enumerate(
        ["Turdus merula_Amsel/b.wav", "Turdus merula_Amsel/sub/Noise/c.wav", "Parus_major/a.FLAC", "loose.wav"]
    ):
        made.write_audio(name, 0.2, seed=i)
    made.write_audio(unicodedata.normalize("NFD", "Grünspecht/ä.wav"), 0.2)
    (made.folder / "Parus_major" / "notes.txt").write_text("no audio")
    made.write_audio(".hidden/x.wav")
    monkeypatch.chdir(made.folder.parent)
    return made


NOISE_REMARK = "folder 'Noise': 1 clips with none of the classes, unless the class list of a join has 'Noise'\n"
NOISE_REMARK += "left out, no audio by their ending: 1 .txt\n"


def test_a_manifest_is_written_from_a_folder_a_class(tree: Corpus, capsys) -> None:
    assert main(["manifest", "recordings"]) == 0
    printed = capsys.readouterr()
    assert fields(printed.out) == {"clips": "5", "classes": "3", "written": "data_manifest.csv"}
    assert printed.err == NOISE_REMARK + "next: softlabels run\n"
    clips = {clip.clip_id: clip for clip in read_manifest("data_manifest.csv")}
    assert {clip_id: clip.labels for clip_id, clip in clips.items()} == {
        "Turdus merula_Amsel/b.wav": ("Turdus merula_Amsel",),
        "Turdus merula_Amsel/sub/Noise/c.wav": ("Noise",),  # the join decides what it is: a class may be called so
        "Parus_major/a.FLAC": ("Parus_major",),
        "loose.wav": None,
        "Grünspecht/ä.wav": ("Grünspecht",),
    }
    assert clips["loose.wav"].path == "recordings/loose.wav"
    assert main(["manifest", "recordings"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["manifest", "recordings", "--unlabelled", "-o", "plain.csv"]) == 0
    assert {clip.labels for clip in read_manifest("plain.csv")} == {None}


def test_a_manifest_kept_elsewhere_names_the_root(tree: Corpus, capsys) -> None:
    (tree.folder.parent / "lists").mkdir()
    assert main(["manifest", "recordings", "-o", "lists/m.csv"]) == 0
    assert capsys.readouterr().err == NOISE_REMARK + "next: softlabels run lists/m.csv --root recordings\n"
    assert main(["run", "lists/m.csv", "--root", "recordings", *STAND_IN]) == 0


def test_run_takes_a_folder_and_writes_its_manifest_on_the_way(tree: Corpus, capsys) -> None:
    assert main(["run", "recordings", *STAND_IN]) == 0
    printed = capsys.readouterr()
    assert "wrote data_manifest.csv, 5 clips" in printed.err
    assert fields(printed.out)["clips"] == "5"
    assert main(["run", "recordings", *STAND_IN]) == 0
    assert "nothing to do" in capsys.readouterr().out
    tree.write_audio("new/one.wav")
    assert main(["run", "recordings", *STAND_IN]) == 2
    assert "says something else than the folder" in capsys.readouterr().err


def test_inspect_tells_what_a_store_holds(here: Corpus, capsys) -> None:
    (here.folder / "c1.wav").unlink()
    main(["run", *STAND_IN])
    capsys.readouterr()
    assert main(["inspect"]) == 1
    assert re.search(r"\nquarantined +1\n  missing +1\nmissing +0\n", capsys.readouterr().out)
    assert main(["inspect", "soft_labels", "--json"]) == 1
    contents = json.loads(capsys.readouterr().out)
    assert (contents["labelled"], contents["quarantined_by_reason"]) == (13, {"missing": 1})
    assert main(["inspect", "--quarantine"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines(), delimiter="\t"))
    assert [(row["clip_id"], row["reason"]) for row in rows] == [("c1", "missing")]


def test_a_class_list_is_held_against_a_store_and_a_mapping_file_drafted(here: Corpus, capsys) -> None:
    main(["run", *STAND_IN])
    (here.folder / "mine.txt").write_text("Cus cus_Gamma\nAus_aus_Alpha\nBus bus_Biene\n")
    capsys.readouterr()
    assert main(["classes", "mine.txt"]) == 1
    printed = capsys.readouterr()
    assert fields(printed.out) == {
        "classes": "3",
        "against": "soft_labels",
        "teacher_classes": "3",
        "exact": "1",
        "scientific_name": "1",
        "common_name": "0",
        "guessed": "1",
        "spelling": "1",
        "not_found": "0",
        "to_look_at": "1",
        "written": "mapping.csv",
    }
    assert "in another order" not in printed.err  # of two of the teacher's three: a subset has an order of its own
    assert "look: 'Aus_aus_Alpha': 'Aus aus_Alpha' by spelling?" in printed.err
    assert "store.join('data_manifest.csv', classes='mine.txt', mapping='mapping.csv')" in printed.err
    assert "Aus_aus_Alpha,Aus aus_Alpha,spelling,look\n" in (here.folder / "mapping.csv").read_text()
    assert main(["classes", "mine.txt"]) == 2
    assert "'mapping.csv' is there already" in capsys.readouterr().err


def test_a_class_list_that_is_found_surely_exits_0(here: Corpus, capsys) -> None:
    (here.folder / "mine.txt").write_text("Bus bus\nGamma\n")
    (here.folder / "theirs.txt").write_text("Aus aus_Alpha\nBus bus_Beta\nCus cus_Gamma\n")
    assert main(["classes", "mine.txt", "--against", "theirs.txt", "-o", "m.csv"]) == 0
    printed = capsys.readouterr()
    assert (fields(printed.out)["against"], fields(printed.out)["teacher_classes"]) == ("theirs.txt", "3")
    assert printed.err.startswith(
        "next, in Python: store.join('data_manifest.csv', classes='mine.txt'); m.csv is needed"
    )


def test_two_names_of_one_class_are_told_and_to_be_looked_at(here: Corpus, capsys) -> None:
    (here.folder / "mine.txt").write_text("Bus bus\nBeta\n")
    (here.folder / "theirs.txt").write_text("Aus aus_Alpha\nBus bus_Beta\n")
    assert main(["classes", "mine.txt", "--against", "theirs.txt"]) == 1
    printed = capsys.readouterr()
    assert fields(printed.out)["to_look_at"] == "2"
    assert "are both 'Bus bus_Beta' for the teacher; keep one" in printed.err


def test_a_class_list_is_held_against_birdnet_where_there_is_no_store(here: Corpus, capsys) -> None:
    (here.folder / "mine.txt").write_text("norcar\nParus major\n" + "".join(f"x{i}\n" for i in range(11)))
    assert main(["classes", "mine.txt"]) == 1
    printed = capsys.readouterr()
    assert (fields(printed.out)["against"], fields(printed.out)["teacher_classes"]) == ("birdnet", "6522")
    assert "look: 'norcar': 'Cardinalis cardinalis_Northern Cardinal' by code?" in printed.err
    assert printed.err.count("look: 'x") == 9
    assert "look: ... and 2 more" in printed.err


def test_python_m_pipeline_is_the_console_script(here: Corpus) -> None:
    done = run_cli("run", *STAND_IN, cwd=here.folder)
    assert done.returncode == 2, "the stand-in is not importable from there"
    assert "No module named 'standin'" in done.stderr


def test_every_command_and_flag_has_help_and_every_command_is_in_the_readme(capsys) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for command in ("run", "manifest", "classes", "inspect", "verify", "regenerate"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert len(capsys.readouterr().out) > 200
        assert f"softlabels {command}" in readme
