"""A manifest that a person has worked on: what changes is what was asked for, and every other byte stays."""

from pathlib import Path

import pytest

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
