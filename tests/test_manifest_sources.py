"""Manifests from metadata tables and Raven tables, their splits and digests."""

import csv
import errno
import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus

import softlabels
from pipeline.cli.commands import main
from pipeline.drafts.folder import FoundClips, clips_of_folder, with_digests
from pipeline.drafts.manifest import ManifestSource, parse_columns
from pipeline.drafts.metadata import clips_of_metadata
from pipeline.drafts.raven import clips_of_tables
from pipeline.drafts.split import parse_shares, split_clips
from softlabels import Clip, ManifestError, read_manifest

NAMED = {"label": "{scientific_name}_{common_name}"}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return touch(tmp_path / "audio", "aus1/XC1.ogg", "bus1/XC2.ogg", "bus1/XC3.ogg", "XC4.mp3")


def read(audio: Path, *lines: str, columns: dict[str, str] | None = None) -> FoundClips:
    table = audio.parent / "metadata.csv"
    table.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return clips_of_metadata(table, audio, columns=columns)


def labels(found: FoundClips) -> dict[str, tuple]:
    return {clip.clip_id: (clip.labels, clip.unsure) for clip in found.clips}


# --- metadata tables

BIRDCLEF = (
    "primary_label,secondary_labels,scientific_name,common_name,filename",
    "aus1,\"['bus1', 'zus1']\",Aus aus,Alpha,aus1/XC1.ogg",
    "bus1,[],Bus bus,Beta,bus1/XC2.ogg",
    "bus1,\"['']\",Bus bus,Beta,bus1/XC3.ogg",
)


def test_birdclefs_metadata_is_read_as_it_is(audio: Path) -> None:
    found = read(audio, *BIRDCLEF)
    assert labels(found) == {
        "aus1/XC1.ogg": (("aus1",), ("bus1", "zus1")),
        "bus1/XC2.ogg": (("bus1",), ()),
        "bus1/XC3.ogg": (("bus1",), ()),
    }
    assert (found.problems, found.remarks) == ((), (f"1 files of '{audio}' are in no row and left out",))


def test_codes_of_secondary_labels_become_the_label_of_their_row(audio: Path) -> None:
    assert labels(read(audio, *BIRDCLEF, columns=NAMED))["aus1/XC1.ogg"] == (
        ("Aus aus_Alpha",),
        ("Bus bus_Beta", "zus1"),  # no row says what zus1 is; the join will say that it is in no class list
    )


def test_a_code_that_stands_for_no_single_class_is_kept(audio: Path) -> None:
    header = "filename,primary_label,label,secondary_labels"
    rows = ("XC1,aus1,A,B1;b2;b3;n1", "XC2,B1,,", "XC3,b2,B;C,", "XC4,n1,noise,", "gone,b3,?B,")
    found = read(audio, header, *rows, columns={"label": "label"})
    assert labels(found)["aus1/XC1.ogg"] == (("A",), ("B1", "b2", "b3", "n1"))


def test_a_list_from_xeno_canto_finds_its_files_by_number(audio: Path) -> None:
    columns = {"path": "XC{id}", "label": "{gen} {sp}_{en}"}
    found = read(audio, "id,gen,sp,en,also", '4,Aus,aus,Alpha,"[""Bus bus"", """"]"', "1,,,,Cus cus", columns=columns)
    assert labels(found) == {"XC4.mp3": (("Aus aus_Alpha",), ("Bus bus",)), "aus1/XC1.ogg": (None, ())}
    assert found.remarks == (f"2 files of '{audio}' are in no row and left out",)


@pytest.mark.parametrize("named", ["aus1/XC1.ogg", "./aus1/XC1.ogg", "XC1.ogg", "XC1", " XC1.ogg "])
def test_a_recording_is_found_by_path_name_or_stem(audio: Path, named: str) -> None:
    assert labels(read(audio, "filename,primary_label", f"{named},A")) == {"aus1/XC1.ogg": (("A",), ())}


def test_a_path_that_leads_elsewhere_is_no_other_file_of_that_name(audio: Path) -> None:
    found = read(audio, "filename,primary_label", "cus1/XC1.ogg,A", "XC2.ogg,B")
    assert labels(found) == {"bus1/XC2.ogg": (("B",), ())}
    assert found.problems == (f"1 rows name no file of '{audio}', left out: line 2: 'cus1/XC1.ogg'",)


def test_a_split_is_read_only_if_it_is_named(audio: Path) -> None:
    lines = ("filename,primary_label,split", "XC1,A,test", "XC2,B,train")
    assert [clip.split for clip in read(audio, *lines).clips] == ["", ""]
    assert [clip.split for clip in read(audio, *lines, columns={"split": "split"}).clips] == ["test", "train"]


@pytest.mark.parametrize(
    ("label", "secondary", "expected"),
    [
        ("A", "", (("A",), ())),
        ("A;B", "C; D", (("A", "B"), ("C", "D"))),
        ("\"['A', 'B']\"", "\"['B', 'C']\"", (("A", "B"), ("C",))),
        ("noise", "B", ((), ("B",))),
        ("A", "noise", (("A",), ())),
        ("", "B", (None, ())),
        ("  A   a ", "", (("A a",), ())),
    ],
)
def test_cells_hold_one_or_several_names(audio: Path, tmp_path: Path, label, secondary, expected) -> None:
    found = read(audio, "filename,primary_label,secondary_labels", f"XC1,{label},{secondary}")
    assert labels(found) == {"aus1/XC1.ogg": expected}
    softlabels.write_manifest(found.clips, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == found.clips


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["filename,primary_label", "XC1,A", "XC1.ogg,B"], "line 3: 'aus1/XC1.ogg' has a row before"),
        (["filename,primary_label", "XC1,?A"], r"may not hold ';', which joins labels, nor begin with '\?'"),
        (["filename,primary_label", "XC1,A;noise"], "'noise' only alone"),
        (["filename,primary_label", "XC1,[A"], "expected names as A;B or"),
        (["filename,primary_label", 'XC1,"[1, 2]"'], "expected names as A;B or"),
        (["filename,primary_label", "XC1"], "line 2: expected 2 fields, got 1"),
        (["filename,primary_label,filename", "XC1,A,XC2"], "column 'filename' is given twice"),
        (["filename,primary_label", "XC9,A"], "expected rows that name files of .*line 2: 'XC9' is not there"),
        (["filename,primary_label"], "a header and at least one row, got none"),
        (["file,primary_label", "XC1,A"], "path: expected a column filename or file-name, or --column path=..."),
        ([""], "a header and at least one row"),
    ],
)
def test_a_faulty_table_is_one_clear_error(audio: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(ManifestError, match=f"(?s){complaint}"):
        read(audio, *lines)


def test_a_name_of_several_files_is_a_fault_and_all_faults_come_together(audio: Path) -> None:
    touch(audio, "cus1/XC2.wav", "cus1/XC3.wav")
    with pytest.raises(ManifestError, match=r"(?s)2 faults.*line 2: 'XC2' is the name of 2 files: .*line 4: "):
        read(audio, "filename,primary_label", "XC2,A", "XC1,A", "XC3,A")


@pytest.mark.parametrize(
    ("columns", "error", "complaint"),
    [
        (
            {"labels": "x"},
            ValueError,
            "expected one of path, label, secondary, code, split before the '=', got 'labels'",
        ),
        ({"label": "species"}, ManifestError, "label: expected a column 'species', got the columns filename, "),
        ({"label": "{gen}_{en}"}, ManifestError, "label: expected a column 'gen'"),
    ],
)
def test_a_column_that_is_not_there_is_an_error(audio: Path, columns, error, complaint) -> None:
    with pytest.raises(error, match=complaint):
        read(audio, "filename,primary_label", "XC1,A", columns=columns)


def test_a_missing_table_is_an_error(audio: Path) -> None:
    with pytest.raises(ManifestError, match="expected a UTF-8 CSV file"):
        clips_of_metadata(audio / "nowhere.csv", audio)


def test_metadata_from_the_command_line_exits_1_for_rows_without_a_file(audio: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(audio.parent)
    Path("m.csv").write_text("\n".join([*BIRDCLEF, "cus1,[],Cus cus,Gamma,cus1/XC9.ogg", ""]))
    command = ["manifest", "audio", "--metadata", "m.csv", "--column", "label={scientific_name}_{common_name}"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.out == "clips    3\nclasses  2\nwritten  data_manifest.csv\n"
    assert "1 files of 'audio' are in no row and left out\n" in printed.err
    assert "1 rows name no file of 'audio', left out: line 5: 'cus1/XC9.ogg'\n" in printed.err
    assert printed.err.endswith("next: softlabels run\n")
    assert Path("data_manifest.csv").read_text() == (
        "clip_id,path,label\n"
        "aus1/XC1.ogg,audio/aus1/XC1.ogg,Aus aus_Alpha;?Bus bus_Beta;?zus1\n"
        "bus1/XC2.ogg,audio/bus1/XC2.ogg,Bus bus_Beta\n"
        "bus1/XC3.ogg,audio/bus1/XC3.ogg,Bus bus_Beta\n"
    )


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--column", "label=x"], "--column: expected --metadata beside it"),
        (["--raven", "*.txt", "--column", "path=x"], "--column: expected --metadata beside it"),
        (["--metadata", "m.csv", "--column", "label"], "--column: expected NAME=COLUMN, each name once, got label"),
        (["--metadata", "m.csv", "--column", "label=a", "--column", "label=b"], "each name once, got label=a, label=b"),
        (["--split", "train=0.5"], "--split: expected shares that sum to 1"),
        (["--metadata", "s.csv", "--column", "split=split", "--split", "a=1"], "--split: expected no other splits"),
        (["--raven", "nowhere/*.txt"], "no file matches it as a pattern"),
    ],
)
def test_wrong_usage_exits_2_and_writes_nothing(audio: Path, monkeypatch, capsys, flags, complaint) -> None:
    monkeypatch.chdir(audio.parent)
    Path("m.csv").write_text("\n".join(BIRDCLEF))
    Path("s.csv").write_text("filename,split\nXC1,test\n")
    assert main(["manifest", "audio", *flags]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("data_manifest.csv").exists()


def test_columns_may_hold_an_equals_sign(audio: Path) -> None:
    assert parse_columns(["label = a=b", "path=p"]) == {"label": "a=b", "path": "p"}


# --- Raven tables


def raven(path: Path, *boxes: tuple[float, float, str], column: str = "Species") -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [f"{n}\tSpectrogram 1\t{start}\t{end}\t{name}\n" for n, (start, end, name) in enumerate(boxes, 1)]
    path.write_text(f"Selection\tView\tBegin Time (s)\tEnd Time (s)\t{column}\n" + "".join(rows))


def test_a_recording_is_labelled_with_all_its_table_names(audio: Path, tmp_path: Path) -> None:
    raven(tmp_path / "t" / "XC1.Table.1.selections.txt", (0, 1, "B"), (2, 3, "A"), (4, 5, "B"))
    raven(tmp_path / "t" / "XC2.selections.txt")
    raven(tmp_path / "t" / "XC4.txt", (0, 1, "noise"))
    clips = clips_of_tables(str(tmp_path / "t" / "*.txt"), audio, relative_to=tmp_path).clips
    assert {clip.path: clip.labels for clip in clips} == {
        "audio/XC4.mp3": (),
        "audio/aus1/XC1.ogg": ("A", "B"),
        "audio/bus1/XC2.ogg": (),
        "audio/bus1/XC3.ogg": None,
    }


def test_a_table_of_a_recording_that_is_not_there_is_an_error(audio: Path, tmp_path: Path) -> None:
    raven(tmp_path / "t" / "XC9.txt", (0, 1, "A"))
    with pytest.raises(ManifestError, match="expected one file of the manifest for the recording 'XC9', got none"):
        clips_of_tables(str(tmp_path / "t" / "*.txt"), audio)


def test_a_question_mark_in_a_table_is_no_class(audio: Path, tmp_path: Path) -> None:
    raven(tmp_path / "t" / "XC1.txt", (0, 1, "?"), (2, 3, "A"), (3, 4, "?B"))
    with pytest.raises(ManifestError, match=r"(?s)2 faults.*XC1.txt' line 2: .* got '\?'.* line 4: .* got '\?B'"):
        clips_of_tables(str(tmp_path / "t" / "*.txt"), audio)


@pytest.mark.parametrize("name", [" ?", "??", "?noise", "A;?", "A; ?B", "noise;A"])
def test_what_no_class_can_be_called_is_refused_wherever_its_mark_stands(
    audio: Path, tmp_path: Path, name: str
) -> None:
    raven(tmp_path / "t" / "XC1.txt", (0, 1, name))
    with pytest.raises(ManifestError, match=r"XC1.txt' line 2: expected different class names"):
        clips_of_tables(str(tmp_path / "t" / "*.txt"), audio)


def test_raven_tables_lead_from_a_folder_to_labels_window_by_window(tmp_path, monkeypatch, capsys) -> None:
    made = Corpus(tmp_path / "recordings")
    for i, name in enumerate(["field/a.wav", "field/b.wav", "field/c.wav"]):
        made.write_audio(name, 0.4, seed=i)
    monkeypatch.chdir(tmp_path)
    raven(tmp_path / "tables" / "a.Table.1.selections.txt", (0.11, 0.19, "Bus bus_Beta"), column="Bird")
    raven(tmp_path / "tables" / "b.Table.1.selections.txt", column="Bird")
    assert main(["manifest", "recordings", "--raven", "tables/*.txt", "--column", "label=Bird"]) == 0
    advice = capsys.readouterr().err.splitlines()
    assert advice[0] == "next: softlabels run"
    assert {clip.clip_id: clip.labels for clip in read_manifest("data_manifest.csv")} == {
        "field/a.wav": ("Bus bus_Beta",),
        "field/b.wav": (),
        "field/c.wav": None,
    }
    assert main(["run", "--teacher", "standin:teacher", "--backend", "sequential"]) == 0
    store = softlabels.open("soft_labels")
    joined = eval(advice[1].removeprefix("then, in Python: "), {"store": store})  # as it is printed
    rows = {clip_id: joined.hard(found) for clip_id, found in joined.keys.groupby("clip_id").groups.items()}
    np.testing.assert_array_equal(rows["field/a.wav"], [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(rows["field/b.wav"], np.zeros((4, 3)))
    assert np.isnan(rows["field/c.wav"]).all()
    np.testing.assert_array_equal(joined.soft(), store.join("data_manifest.csv").soft())


# --- splits


def many(recordings: dict[str, int], clips_each: int = 1) -> list[Clip]:
    return [
        Clip(clip_id=f"{label}{i}.{part}", path=f"{label}/{i}.wav", labels=(label,))
        for label, count in recordings.items()
        for i in range(count)
        for part in range(clips_each)
    ]


SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_every_class_is_divided_in_proportion(tmp_path: Path) -> None:
    clips = split_clips(many({"A": 100, "B": 10, "C": 3, "D": 1}), SHARES)
    counts = {label: Counter(clip.split for clip in clips if clip.labels == (label,)) for label in "ABCD"}
    assert counts["A"] == {"train": 70, "validation": 10, "test": 20}
    assert counts["B"] == {"train": 7, "validation": 1, "test": 2}
    assert counts["C"] == {"train": 2, "test": 1}
    assert counts["D"] == {"train": 1}


def test_clips_of_one_recording_stay_together(tmp_path: Path) -> None:
    clips = split_clips(many({"A": 20, "B": 7}, clips_each=3), SHARES)
    splits = {path: {clip.split for clip in clips if clip.path == path} for path in {clip.path for clip in clips}}
    assert {len(found) for found in splits.values()} == {1}


def test_a_split_depends_on_paths_and_seed_alone(tmp_path: Path) -> None:
    clips = many({"A": 30, "B": 12})
    first = {clip.path: clip.split for clip in split_clips(clips, SHARES)}
    assert {clip.path: clip.split for clip in split_clips(clips[::-1], SHARES)} == first
    assert {clip.path: clip.split for clip in split_clips(clips, SHARES, seed=1)} != first


def test_a_recording_of_several_labels_counts_for_its_rarest_and_unlabelled_ones_are_a_class_of_their_own() -> None:
    both = [Clip(clip_id=f"x{i}", path=f"x{i}.wav", labels=("A", "R")) for i in range(10)]
    rest = [Clip(clip_id=f"n{i}", path=f"n{i}.wav", labels=None if i < 10 else ()) for i in range(20)]
    clips = split_clips([*many({"A": 100}), *both, *rest], {"train": 0.8, "test": 0.2})
    for chosen in (lambda c: "R" in (c.labels or ()), lambda c: c.labels is None, lambda c: c.labels == ()):
        assert Counter(clip.split for clip in clips if chosen(clip)) == {"train": 8, "test": 2}


@pytest.mark.parametrize("text", ["", "train", "train=1,", "train=0.5,test=0.6", "a=0.5,a=0.5", "a=x", "a=nan", "=1"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected shares that sum to 1"):
        parse_shares(text)


def test_a_split_is_told_and_written(audio: Path) -> None:
    found = ManifestSource(folder=audio, root=audio).read(split="train=0.5,test=0.5")
    assert found.remarks == ("split train: 3 clips", "split test: 1 clips")  # XC4 and aus1 alone, bus1 both
    assert Counter(clip.split for clip in found.clips) == {"train": 3, "test": 1}


# --- digests


def test_digests_are_those_of_the_files_and_progress_is_told(audio: Path) -> None:
    told: list[int] = []
    clips = with_digests(
        clips_of_folder(audio, relative_to=audio.parent).clips, audio.parent, jobs=2, on_files=told.append
    )
    for clip in clips:
        assert clip.sha256 == hashlib.sha256((audio.parent / clip.path).read_bytes()).hexdigest()
    assert sum(told) == len(clips) == 4


def test_a_file_that_goes_while_it_is_digested_is_named(audio: Path) -> None:
    clips = clips_of_folder(audio).clips
    (audio / "bus1/XC3.ogg").unlink()
    with pytest.raises(ManifestError, match=r"audio/bus1/XC3.ogg': missing: no such file; put it back"):
        with_digests(clips, audio)


def test_a_manifest_made_twice_has_the_same_bytes(audio: Path, monkeypatch) -> None:
    monkeypatch.chdir(audio.parent)
    for name, jobs in [("1.csv", "1"), ("2.csv", "2")]:
        assert main(["manifest", "audio", "-o", name, "--sha256", "--split", "a=0.5,b=0.5", "--jobs", jobs]) == 0
    assert Path("1.csv").read_bytes() == Path("2.csv").read_bytes()
    with open("1.csv", newline="") as file:
        assert list(csv.DictReader(file).fieldnames) == ["clip_id", "path", "label", "split", "sha256"]


@pytest.mark.parametrize("folder", ["a;b", "?a"])
def test_a_folder_that_can_be_no_class_is_refused(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"{folder}/x.wav")
    with pytest.raises(ManifestError, match="a class name may not hold ';'"):
        clips_of_folder(tmp_path)


ENDINGS = ("a.wav", "b.AIF", "c.aiff", "d.w64", "e.caf", "f.au", "g.rf64", "h.Wave", "i.opus")


def test_what_a_folder_scan_takes_is_what_can_be_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    for name in (*ENDINGS, "j.wma", "k.WMA", "notes.txt", "README", ".DS_Store", ".hidden/l.wav"):
        path = tmp_path / "corpus" / "Strix aluco" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert {Path(clip.path).name for clip in clips_of_folder(tmp_path / "corpus").clips} == set(ENDINGS)
    assert clips_of_folder(tmp_path / "corpus").remarks == (
        "left out, no audio by their ending: 2 .wma, 1 .txt, 1 no ending",
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_looked_into_is_named_or_stops_the_scan(
    tmp_path: Path, monkeypatch, capsys, number: int
) -> None:
    """Whom a setting keeps out is told so; a disk that fails is not taken for an empty one."""
    touch(tmp_path / "audio", "open/a.wav", "closed/b.wav")
    scandir = os.scandir

    def closed(path: str) -> object:
        if os.fspath(path).endswith("closed"):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.chdir(tmp_path)
    mine = number in (errno.EACCES, errno.EPERM)
    assert main(["manifest", "audio"]) == (1 if mine else 3)
    error = capsys.readouterr().err
    assert ("1 folders that nobody may look into: 'closed'" in error) == mine
    assert ("audio/closed': " + os.strerror(number) in error) == (not mine)
    assert Path("data_manifest.csv").exists() == mine


def test_of_two_files_in_two_unicode_forms_one_is_taken_and_the_other_named(tmp_path: Path) -> None:
    touch(tmp_path, "gru\u0308n/a.wav", "gr\u00fcn/a.wav", "e\u0301.wav")
    found = clips_of_folder(tmp_path)
    assert {clip.clip_id: clip.path for clip in found.clips} == {
        "gr\u00fcn/a.wav": "gr\u00fcn/a.wav",
        "\u00e9.wav": "e\u0301.wav",
    }
    assert "1 files that are called as another one" in found.problems[0]
    assert "'gru\u0308n/a.wav'" in found.problems[0]


@pytest.mark.parametrize("target", ["outside", "corpus/Strix aluco", "corpus", "nowhere"])
def test_links_to_folders_are_named_and_never_followed(tmp_path: Path, target: str) -> None:
    for folder in ("corpus/Strix aluco", "outside"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.wav").touch()
    (tmp_path / "corpus" / "Parus major").symlink_to(tmp_path / target)
    assert [clip.path for clip in clips_of_folder(tmp_path / "corpus").clips] == ["Strix aluco/a.wav"]
    if target != "nowhere":  # a link to nothing is no folder
        assert clips_of_folder(tmp_path / "corpus").remarks == (
            "left out, links to folders (1): 'Parus major'; name the folder they lead to instead",
        )


def test_many_endings_are_not_all_named(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"x.e{number}").touch()
    (tmp_path / "a.wav").touch()
    assert clips_of_folder(tmp_path).remarks[0].endswith(" and 4 more endings")
