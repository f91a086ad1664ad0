"""Marks: what a person says of labels in doubt, from the page's table to the manifest."""

from pathlib import Path

import pytest

from pipeline.cli.commands import main
from pipeline.drafts.marks import CHECKED, COLUMNS, Mark, apply_marks, checked, read_marks, row_of
from softlabels import Clip, read_manifest, write_manifest
from softlabels.corpus.label_cell import read_label
from softlabels.corpus.name_lists import CellFault
from softlabels.errors import ManifestError
from softlabels.tables import row_text

A, B, C = "Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma"


def mark(verdict: str, label: str, cell: str, other: str = "") -> Mark:
    return Mark(clip_id="c", right=verdict == "right", label=label, cell=read_label(cell), other=other)


@pytest.mark.parametrize(
    ("verdict", "label", "cell", "other", "becomes"),
    [
        ("right", A, A, "", A),
        ("right", A, A, C, f"{A};{C}"),
        ("right", A, f"{A};?{C};-{B}", C, f"{A};{C};-{B}"),
        ("right", B, f"{A};{B}", "", f"{A};{B}"),
        ("wrong", A, A, "", f"-{A}"),
        ("wrong", A, A, C, f"{C};-{A}"),
        ("wrong", A, A, "noise", "noise"),
        ("wrong", A, f"{A};{B}", "", f"{B};-{A}"),
        ("wrong", A, f"{A};{B}", C, f"{B};{C};-{A}"),
        ("wrong", A, f"{A};?{B}", "", f"?{B};-{A}"),
        ("wrong", A, f"{A};?{B}", B, f"{B};-{A}"),
        ("wrong", A, f"{A};?{B}", "noise", "noise"),
        ("wrong", A, f"{A};-{B}", "", f"-{B};-{A}"),
        ("wrong", A, f"['{A}', '{B}']", "", f"{B};-{A}"),
        ("right", "noise", "noise", "", "noise"),
        ("wrong", "noise", "noise", "", ""),
        ("wrong", "noise", "noise", C, C),
        ("wrong", "Background", "Background", "", ""),  # no class: that it is absent says nothing
        ("wrong", "Background", "Background", C, C),
        ("wrong", "Silence;Other", "Silence;Other", "", ""),
    ],
)
def test_what_becomes_of_a_label(verdict: str, label: str, cell: str, other: str, becomes: str) -> None:
    assert mark(verdict, label, cell, other).corrected() == read_label(becomes)


@pytest.mark.parametrize(
    ("verdict", "label", "cell", "other", "why"),
    [
        ("right", A, B, "", "expected as label one of"),
        ("wrong", "noise", A, "", "expected as label one of"),
        ("wrong", "", A, "", "expected as label one of"),
        ("right", A, A, "noise", "instead of the only label"),
        ("wrong", A, f"{A};{B}", "noise", "instead of the only label"),
        ("wrong", "noise", "noise", "noise", "instead of the only label"),
        ("right", "noise", "noise", C, "choose wrong"),
        ("right", "background", "background", C, "choose wrong"),
        ("wrong", A, A, A, "that the clip does not have"),
        ("right", A, f"{A};{B}", B, "that the clip does not have"),
        ("right", A, A, f"{B};{C}", "may not hold ';'"),
        ("wrong", A, A, "-Xus", "begin with"),
        ("wrong", A, A, "\x1b[2J", "control characters"),
    ],
)
def test_a_mark_that_says_nothing_that_can_be_done(verdict: str, label: str, cell: str, other: str, why: str) -> None:
    with pytest.raises(CellFault, match=why):
        mark(verdict, label, cell, other)


MANIFEST = f"""\ufeffsite,clip_id,path,label,note
north,c0,c0.wav,{A},"two, perhaps"
north,c1,c1.wav,"{A}; {B}",
,,,,
south,c2,c2.wav,noise,"-1"
south,c3,c3.wav,,=1+1
""".replace("\n", "\r\n")
MARKS = [("right", "", "c0", A, A), ("wrong", C, "c1", A, f"{A};{B}"), ("wrong", "", "c2", "noise", "noise")]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "data_manifest.csv"
    path.write_bytes(MANIFEST.encode())
    return path


def write_marks(folder: Path, rows: list = MARKS, *, sep: str = ",", end: str = "\n", encoding: str = "utf-8") -> Path:
    lines = [COLUMNS, *rows]
    text = end.join(row_text(row) if sep == "," else sep.join(quoted(cell, sep) for cell in row) for row in lines)
    path = folder / "marks.csv"
    path.write_bytes((text + end).encode(encoding))
    return path


def quoted(cell: str, sep: str) -> str:
    """As a spreadsheet saves it."""
    return f'"{cell}"' if sep in cell else cell


def test_marks_correct_the_manifest_and_every_other_byte_stays(manifest: Path, tmp_path: Path) -> None:
    marks = write_marks(tmp_path)
    done = apply_marks(manifest, marks)
    assert done.changes == (("c1", f"{A};{B}", f"{B};{C};-{A}"), ("c2", "noise", ""))
    assert (done.confirmed, done.already, done.left_alone) == (1, 0, ())
    after = manifest.read_bytes().decode()
    expected = MANIFEST.replace(",note\r", f",note,{CHECKED}\r").replace('perhaps"\r', f'perhaps",{A}\r')
    expected = expected.replace(f'"{A}; {B}",\r', f"{B};{C};-{A},,{C}\r").replace('noise,"-1"\r', ',"-1",\r')
    assert after == expected.replace("=1+1\r", "=1+1,\r")
    written = manifest.stat()
    again = apply_marks(manifest, marks)
    assert manifest.stat() == written
    assert (again.changes, again.confirmed, again.already) == ((), 0, 3)
    assert manifest.read_bytes().decode() == after
    assert [sorted(checked(clip)) for clip in read_manifest(manifest)] == [[A], [C], [], []]


@pytest.mark.parametrize(
    "saved",
    [
        {"encoding": "utf-8-sig"},
        {"sep": ";", "end": "\r\n", "encoding": "utf-8-sig"},
        {"sep": "\t", "end": "\r\n"},
        {"end": "\r"},
        {"sep": ";", "end": "\n;;;;\n"},
    ],
    ids=str,
)
def test_a_table_that_a_spreadsheet_saved_is_the_same(manifest: Path, tmp_path: Path, saved: dict) -> None:
    done = apply_marks(manifest, write_marks(tmp_path, **saved))
    assert (len(done.changes), done.confirmed, done.left_alone) == (2, 1, ())


@pytest.mark.parametrize("sep", [";", "\t"])
def test_a_spreadsheet_keeps_the_apostrophes_that_keep_it_from_running_a_cell(tmp_path: Path, sep: str) -> None:
    (tmp_path / "marks.csv").write_text(sep.join(COLUMNS) + f"\nright{sep}{sep}'=1+1{sep}'@z{sep}'@z\n")
    (found,) = read_marks(tmp_path / "marks.csv").values()
    assert (found.clip_id, found.label) == ("=1+1", "@z")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "got only the header"),
        ([("maybe", "", "c0", A, A)], "line 2: clip 'c0': expected right or wrong as verdict, got 'maybe'"),
        ([("", "", "c0", A, A)], "got ''"),
        ([*MARKS, ("right", "", "c1", A, f"{A};{B}")], "line 5: clip 'c1': another mark than line 3"),
        ([*MARKS, COLUMNS], "line 5: clip 'clip_id': expected right or wrong"),
        ([("right", "", "c0", A)], "line 2: expected 5 fields, got 4"),
        ([("right", "", "c0", A, f"{A};;")], "expected different class names"),
        ([("wrong", "", f"c{i}", A, A) for i in (7, 8)], "none is of a clip of .* line 2: clip 'c7' is not in"),
        ([("wrong", "", "c0", B, B)], "has the label 'Aus aus_Alpha' by now, and had 'Bus bus_Beta'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(len(value)),
)
def test_faulty_marks_change_nothing_and_say_where(manifest: Path, tmp_path: Path, rows: list, why: str) -> None:
    marks = write_marks(tmp_path, rows)
    with pytest.raises(ManifestError, match=f"(?s){why}"):
        apply_marks(manifest, marks)
    assert manifest.read_bytes() == MANIFEST.encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"clip_id,path\nc0,c0.wav\n", "expected columns verdict, class, clip_id, label, labels"),
        (b"", "got an empty file"),
        (b"verdict,class,clip_id,label,labels,label\n", "expected columns"),
        ("verdict\tclass\n".encode("utf-16"), "expected a UTF-8 CSV file"),
        ("verdict,class,clip_id,label,labels\nright,,c0,\xe9,\xe9".encode("cp1252"), "expected a UTF-8 CSV file"),
    ],
)
def test_a_file_that_is_no_table_of_marks_is_refused(manifest: Path, tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "marks.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=why):
        apply_marks(manifest, tmp_path / "marks.csv")


def test_a_mark_given_twice_counts_once_and_a_spreadsheets_row_numbers_do_not_matter(tmp_path: Path) -> None:
    assert list(read_marks(write_marks(tmp_path, [*MARKS, *MARKS]))) == [2, 3, 4]


def test_what_was_corrected_by_hand_since_is_left_alone_and_the_rest_is_done(manifest: Path, tmp_path: Path) -> None:
    manifest.write_bytes(MANIFEST.replace("noise", C).encode())
    done = apply_marks(manifest, write_marks(tmp_path, [*MARKS, ("right", "", "gone", A, A)]))
    assert [why.partition(": ")[0] for why in done.left_alone] == ["line 4", "line 5"]
    assert (len(done.changes), done.confirmed) == (1, 1)
    assert [clip.labels for clip in read_manifest(manifest)] == [(A,), (B, C), (C,), None]


def test_a_second_listener_may_say_otherwise(manifest: Path, tmp_path: Path) -> None:
    apply_marks(manifest, write_marks(tmp_path))
    apply_marks(manifest, write_marks(tmp_path, [("wrong", "", "c0", A, A)]))
    clip = read_manifest(manifest)[0]
    assert (clip.labels, clip.absent, checked(clip)) == (None, (A,), frozenset())


HOSTILE = ["=1+1", "+a", "@x", "\uff1dz", "'=q", "a,b", 'a"b', "a;b", " a b ", "<b>&amp;", "a\u202eb", "007", "\u00e9"]


def test_names_come_back_from_the_table_as_they_were(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if ";" not in name and name == name.strip()]
    clips = [Clip(clip_id=clip_id, path="a.wav", labels=tuple(names)) for clip_id in HOSTILE]
    rows = [f"wrong,{row_text([f'X {name}'])},{row_of(clip, name)}" for clip in clips for name in names[:1]]
    (tmp_path / "marks.csv").write_text("\ufeff" + "\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")
    assert not [row for row in rows if row.split(",")[2][:1] in set("=+-@\uff1d")]
    found = list(read_marks(tmp_path / "marks.csv").values())
    assert [(m.clip_id, m.label, m.cell.labels) for m in found] == [(c.clip_id, names[0], c.labels) for c in clips]
    write_manifest(clips, tmp_path / "data_manifest.csv")
    assert len(apply_marks(tmp_path / "data_manifest.csv", tmp_path / "marks.csv").changes) == len(clips)
    after = read_manifest(tmp_path / "data_manifest.csv")
    assert {clip.labels for clip in after} == {(*names[1:], f"X {names[0]}")}


def test_the_command_says_what_it_did(manifest: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    marks = write_marks(tmp_path, [*MARKS, ("right", "", "a\u202eb", A, A)])
    assert main(["manifest", "--apply", str(marks), "--dry-run"]) == 1
    assert "next: the same without --dry-run" in capsys.readouterr().err
    assert manifest.read_bytes() == MANIFEST.encode()
    assert main(["manifest", "--apply", str(marks)]) == 1  # data_manifest.csv is what there is
    out, err = capsys.readouterr()
    fields = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert fields == {
        "corrected": "2", "confirmed": "1", "already": "0", "left_alone": "1", "manifest": "data_manifest.csv",
    }  # fmt: skip
    assert f"'c1': '{A};{B}' becomes '{B};{C};-{A}'" in err
    assert r"left alone: line 5: clip 'a\u202eb' is not in the manifest" in err
    assert main(["manifest", str(manifest), "--apply", str(write_marks(tmp_path))]) == 0
    assert main(["manifest", str(tmp_path / "no.csv"), "--apply", str(marks)]) == 2
    assert main(["manifest", str(manifest), "--apply", str(tmp_path / "no.csv")]) == 2
    assert main(["manifest", str(manifest), "--apply", str(marks), "-o", "x.csv", "--split", "a=1"]) == 2
    assert "got --split, --output; the manifest comes first" in capsys.readouterr().err
    assert main(["manifest"]) == 2
    assert "expected DIR, the folder with the recordings" in capsys.readouterr().err
