"""A manifest that a person has worked on: what changes is what was asked for, and every other byte stays."""

import csv
import re
from pathlib import Path

import pytest

import softlabels
from pipeline.drafts.manifest_text import ManifestText
from softlabels import ManifestError, read_manifest
from softlabels.corpus.label_cell import LabelCell

# --- corrections of single rows

AB = LabelCell(("A a_x", "B b_y"))
EDITED = {  # kind -> a manifest as people leave it, and as it is once clip "b" has AB
    "plain": ("clip_id,path,label\na,a.wav,C\nb,b.wav,C\n", "clip_id,path,label\na,a.wav,C\nb,b.wav,A a_x;B b_y\n"),
    "byte-order mark, CRLF": (
        '\ufeff"clip_id",path,label\r\na,a.wav,"C"\r\nb,b.wav,"C"\r\n',
        '\ufeff"clip_id",path,label\r\na,a.wav,"C"\r\nb,b.wav,A a_x;B b_y\r\n',
    ),
    "everything quoted, no last line end": (
        '"label","path","clip_id"\n"C","a,a.wav","a"\n" ""C"", d","b.wav","b"',
        '"label","path","clip_id"\n"C","a,a.wav","a"\nA a_x;B b_y,"b.wav","b"',
    ),
    "blank lines, blanks, Mac line ends": (
        "clip_id,path, label \r\ra,a.wav, C ; D \r,,\rb,b.wav,  \r\r,,\r",
        "clip_id,path, label \r\ra,a.wav, C ; D \r,,\rb,b.wav,A a_x;B b_y\r\r,,\r",
    ),
    "formulas and quotes inside": (
        'clip_id,label,path\na,\'-C,it"s.wav\nb,\'-C,\'=b""".wav\n',
        'clip_id,label,path\na,\'-C,it"s.wav\nb,A a_x;B b_y,\'=b""".wav\n',
    ),
    "no column label": ("clip_id,path\r\na,a.wav\r\nb,b.wav", "clip_id,path,label\r\na,a.wav,\r\nb,b.wav,A a_x;B b_y"),
}


@pytest.mark.parametrize("kind", EDITED)
def test_a_correction_changes_one_cell_and_no_other_byte(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.csv"
    before, after = (text.encode() for text in EDITED[kind])
    path.write_bytes(before)
    clips = read_manifest(path)
    text = ManifestText.read(path)
    text.write()
    assert path.read_bytes() == before
    text.corrected({"b": AB}).write()
    assert path.read_bytes() == after
    assert [clip.labels for clip in read_manifest(path)] == [clips[0].labels, AB.labels]


@pytest.mark.parametrize(
    "cell", [LabelCell(()), LabelCell(), LabelCell(None, (), ("C",)), LabelCell(("A, b",), ("D",))]
)
def test_what_a_correction_says_is_read_back(tmp_path: Path, cell: LabelCell) -> None:
    path = tmp_path / "m.csv"
    path.write_text("clip_id,path,label\ne\u0301,a.wav,C\n", encoding="utf-8")
    corrected = ManifestText.read(path).corrected({"\u00e9": cell})
    corrected.write()
    (clip,) = read_manifest(path)
    assert (clip.labels, clip.unsure, clip.absent) == (cell.labels, cell.unsure, cell.absent)
    assert list(corrected.clips) == [clip]


def test_a_cell_that_says_the_same_already_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("clip_id,path,label\na,a.wav,\"['A a_x' 'B b_y']\"\n")
    before = path.read_bytes()
    ManifestText.read(path).corrected({"a": AB}).write()
    assert path.read_bytes() == before


def test_corrections_of_clips_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("clip_id,path\na,a.wav\n")
    with pytest.raises(ManifestError, match="2 clips are not in it: 'b', 'c'"):
        ManifestText.read(path).corrected({"c": AB, "a": AB, "b": AB})


def test_what_somebody_else_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("clip_id,path,label\na,a.wav,C\n")
    text = ManifestText.read(path).corrected({"a": AB})
    path.write_text("clip_id,path,label\na,a.wav,D\n")
    with pytest.raises(ManifestError, match="somebody else wrote it meanwhile; run the same command again"):
        text.write()
    assert read_manifest(path)[0].labels == ("D",)


# --- columns of one's own

OWN = {  # kind -> header and a row, and what is kept of it
    "site and recordist": ("clip_id,path,site,recordist,label\na,a.wav,S 1,Ann; Bo,C\n", ("site", "recordist")),
    "before the known ones": ("notes,path,clip_id\nheard twice,a.wav,a\n", ("notes",)),
    "all of it empty": ("clip_id,path,notes\na,a.wav,\n", ("notes",)),
    "lines and quotes": ('clip_id,path,notes\na,a.wav,"one\r\ntwo ""2""\rthree, 3"\n', ("notes",)),
    "a line end of a Mac": ('clip_id,path,notes\na,a.wav,"one\rtwo"\n', ("notes",)),
    "blanks, numbers, a formula": ("clip_id,path,n,f\na,a.wav, 007 ,'=1+1\n", ("n", "f")),
    "named by a formula": ("clip_id,path,'=n,\u00e9\na,a.wav,x,y\n", ("=n", "\u00e9")),
    "like one that is there": ("clip_id,path,split,splits,labels,label\na,a.wav,,2,x,C\n", ("splits", "labels")),
    "a folder, a gold mark, a plot": (
        "clip_id,path,folder,gold,plot,sha1\na,a.wav,f,1,p,0\n",
        ("folder", "gold", "plot", "sha1"),
    ),
}


@pytest.mark.parametrize("kind", OWN)
def test_columns_of_ones_own_are_kept_by_reader_and_writer(tmp_path: Path, caplog, kind: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(OWN[kind][0].encode())
    clips = read_manifest(path)
    with path.open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    cells = dict(zip((name.strip("'") for name in header), row, strict=True))
    assert clips[0].extra == tuple((name, cells[name].removeprefix("'")) for name in OWN[kind][1])
    softlabels.write_manifest(clips, tmp_path / "new.csv")
    assert read_manifest(tmp_path / "new.csv") == clips
    assert not [cell for cell in (tmp_path / "new.csv").read_text().split(",") if cell.startswith("=")]
    assert not caplog.records


def test_columns_without_a_name_are_passed_over_and_stay_in_the_file(tmp_path: Path) -> None:
    """The row numbers of pandas, and what Excel makes of columns that were deleted."""
    path = tmp_path / "m.csv"
    path.write_text(",clip_id,path,,\n0,a,a.wav,,\n1,b,b.wav,x,\n")
    assert [clip.extra for clip in read_manifest(path)] == [(), ()]
    ManifestText.read(path).corrected({"b": AB}).write()
    assert path.read_text() == ",clip_id,path,,,label\n0,a,a.wav,,,\n1,b,b.wav,x,,A a_x;B b_y\n"


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("lable", "label"),
        ("Label", "label"),
        ("labels", "label"),
        ("sha-256", "sha256"),
        ("SHA_256", "sha256"),
        ("spilt", "split"),
        ("Fold", "fold"),
        ("start", "start_s"),
        ("end", "end_s"),
        ("End (s)", "end_s"),
    ],
)
def test_a_misspelt_column_is_refused_with_the_one_that_is_meant(tmp_path: Path, column: str, meant: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"clip_id,path,{column}\na,a.wav,1\n")
    with pytest.raises(ManifestError, match=re.escape(f"unknown column {column!r}: call it {meant!r} if it is that")):
        read_manifest(path)
    path.write_text("Clip-ID,path\na,a.wav\n")
    with pytest.raises(ManifestError, match="call it 'clip_id'"):
        read_manifest(path)


def test_a_column_that_is_there_in_two_spellings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("clip_id,path,label,Label \na,a.wav,A,B\n")
    with pytest.raises(ManifestError, match="unknown column 'Label': call it 'label'"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("column", "meant"),
    [("Species", "label"), ("start_time", "start_s"), ("Begin Time (s)", "start_s"), ("offset", "end_s")],
)
def test_a_column_that_may_mean_what_is_lacking_is_remarked(tmp_path: Path, caplog, column: str, meant: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"clip_id,path,{column}\na,a.wav,1\n")
    assert read_manifest(path)[0].extra == ((column, "1"),)
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        f"column {column!r} is kept and not read; is it {meant!r}?"
    ]
    caplog.clear()
    path.write_text(f"clip_id,path,{column},label,start_s,end_s\na,a.wav,1,A,0,1\n")
    read_manifest(path)
    assert not caplog.records


@pytest.mark.parametrize(
    "extra", [("label", "x"), ("Label", "x"), ("", "x"), (" a", "x"), ("a", "\udce9"), ("a", "x" * 10**6)]
)
def test_what_no_column_of_ones_own_can_hold_is_not_written(tmp_path: Path, extra: tuple[str, str]) -> None:
    with pytest.raises(ManifestError, match=f"column {extra[0]!r}: expected"):
        softlabels.write_manifest([softlabels.Clip(clip_id="a", path="a.wav", extra=(extra,))], tmp_path / "m.csv")
    assert not list(tmp_path.iterdir())
