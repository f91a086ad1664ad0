import csv
from pathlib import Path, PurePosixPath

import pytest
from conftest import least_seconds

from softlabels import Clip, ManifestError, read_manifest, write_manifest


def manifest(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "data_manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_row_becomes_a_clip(tmp_path: Path) -> None:
    digest = "ab" * 32
    text = f"clip_id,path,label,split,fold,start_s,end_s,sha256\n007,a/b.wav,A a_x;B b_y,train,3,1.5,4,{digest}\n"
    assert read_manifest(manifest(tmp_path, text)) == [
        Clip(
            clip_id="007",
            path="a/b.wav",
            labels=("A a_x", "B b_y"),
            split="train",
            fold="3",
            start_s=1.5,
            end_s=4.0,
            sha256=digest,
        )
    ]


def test_ids_are_text_so_007_is_not_7(tmp_path: Path) -> None:
    clips = read_manifest(manifest(tmp_path, "clip_id,path\n007,a.wav\n7,b.wav\nNA,c.wav\n1e3,d.wav\n"))
    assert [clip.clip_id for clip in clips] == ["007", "7", "NA", "1e3"]


def test_noise_is_annotated_and_empty_is_not(tmp_path: Path) -> None:
    clips = read_manifest(manifest(tmp_path, "clip_id,path,label\na,a.wav,noise\nb,b.wav,\n"))
    assert [clip.labels for clip in clips] == [(), None]


def test_a_name_with_a_question_mark_is_neither_present_nor_absent(tmp_path: Path) -> None:
    rows = "a,a.wav,A a_x;?B b_y; ? C c_z\nb,b.wav,?B b_y\n"
    clips = read_manifest(manifest(tmp_path, "clip_id,path,label\n" + rows))
    assert [(clip.labels, clip.unsure) for clip in clips] == [
        (("A a_x",), ("B b_y", "C c_z")),
        ((), ("B b_y",)),  # somebody listened: it is annotated, and all classes but B are absent
    ]


def test_a_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    clips = read_manifest(manifest(tmp_path, b"\xef\xbb\xbfclip_id,path\r\na,a.wav\r\n"))
    assert clips == [Clip(clip_id="a", path="a.wav")]


def test_written_manifests_read_back_equal(tmp_path: Path) -> None:
    clips = [
        Clip(clip_id="a, with comma", path="ä b.wav", labels=("A a_x", "B b_y"), start_s=0.1, end_s=1 / 3),
        Clip(clip_id="b", path="b.wav", labels=(), split="test", fold="1"),
        Clip(clip_id="c", path="c.wav"),
        Clip(clip_id="d", path="d.wav", labels=("A a_x",), unsure=("B b_y", "C c_z")),
        Clip(clip_id="e", path="e.wav", labels=(), unsure=("B b_y",)),
    ]
    write_manifest(clips, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == clips


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path\na.wav\n", "column 'clip_id' is missing"),
        ("", "column 'clip_id' is missing: .* got an empty file"),
        ("clip_id,path,path\na,b,c\n", "column 'path' is given twice"),
        ("clip_id,path,lable\na,b,c\n", "unknown column 'lable'"),
        ("clip_id,path\n", "expected at least one row"),
        ("clip_id,path\na,b.wav\na,c.wav\n", "line 3: clip_id 'a': same clip_id as line 2"),
        ("clip_id,path\n\u00e9,b.wav\ne\u0301,c.wav\n", "same clip_id as line 2"),
        ("clip_id,path\n,b.wav\n", "expected text without control characters as clip_id"),
        ('clip_id,path\na,"b\nc.wav"\n', "without control characters"),
        ("clip_id,path\na,../b.wav\n", "leaves the manifest's folder"),
        ("clip_id,path\na,/b.wav\n", "leaves the manifest's folder"),
        ("clip_id,path\na\n", "line 2: expected 2 fields, got 1"),
        ("clip_id,path,start_s,end_s\na,b.wav,3,2\n", "expected start_s before end_s, got 3 and 2"),
        ("clip_id,path,end_s\na,b.wav,0\n", "expected start_s before end_s"),
        ("clip_id,path,start_s\na,b.wav,nan\n", "expected seconds from 0 up as start_s, got 'nan'"),
        ("clip_id,path,start_s\na,b.wav,-1\n", "expected seconds from 0 up"),
        ("clip_id,path,label\na,b.wav,noise;A\n", "or 'noise' alone"),
        ("clip_id,path,label\na,b.wav,A;A\n", "expected different class names"),
        ("clip_id,path,label\na,b.wav,A;?A\n", "expected different class names"),
        ("clip_id,path,label\na,b.wav,A;?\n", "expected different class names"),
        ("clip_id,path,label\na,b.wav,A;?noise\n", "or 'noise' alone"),
        ("clip_id,path,sha256\na,b.wav,xyz\n", "expected 64 hexadecimal digits"),
        (b"clip_id,path\n\xff\xfe,b.wav\n", "expected a UTF-8 CSV file"),
        (b"\x00\x01\x02clip", "expected a UTF-8 CSV file|is missing"),
    ],
)
def test_a_faulty_manifest_is_one_clear_error(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        read_manifest(manifest(tmp_path, text))


def test_all_faults_are_reported_together_ten_shown(tmp_path: Path) -> None:
    rows = "".join(f"c{i},/abs{i}.wav\n" for i in range(25))
    with pytest.raises(ManifestError, match=r"(?s)25 faults.*abs9.*and 15 more") as caught:
        read_manifest(manifest(tmp_path, "clip_id,path\n" + rows))
    assert "abs10" not in str(caught.value)


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="softlabels manifest DIR"):
        read_manifest(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "path", ["a..b/c.wav", "..a/b.wav", "a/...wav", "./a.wav", "a//b.wav", "a/b..", "a\\..\\b.wav"]
)
def test_dots_in_names_do_not_leave_the_folder(tmp_path: Path, path: str) -> None:
    assert read_manifest(manifest(tmp_path, f"clip_id,path\na,{path}\n"))[0].path == path


@pytest.mark.parametrize(
    "path", ["..", "../a.wav", "a/../../b.wav", "a/..", "//a.wav", "/", "./../a.wav", "a//../b.wav"]
)
def test_a_path_that_climbs_is_refused_wherever_it_does(tmp_path: Path, path: str) -> None:
    assert PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts
    with pytest.raises(ManifestError, match="leaves the manifest's folder"):
        read_manifest(manifest(tmp_path, f"clip_id,path\na,{path}\n"))


def test_rows_of_the_same_label_hold_it_once_and_each_fault_is_told_every_time(tmp_path: Path) -> None:
    clips = read_manifest(manifest(tmp_path, "clip_id,path,label,split\na,a.wav,A;B,train\nb,b.wav,A;B,train\n"))
    assert clips[0].labels is clips[1].labels
    assert clips[0].split is clips[1].split
    with pytest.raises(ManifestError, match="2 faults"):
        read_manifest(manifest(tmp_path, "clip_id,path,label\na,a.wav,A;A\nb,b.wav,A;A\n"))


def test_a_manifest_of_20_000_rows_is_read_in_a_moment(tmp_path: Path) -> None:
    rows = "".join(f"c{i},audio/{i}.wav,A a_x,train\n" for i in range(20_000))
    path = manifest(tmp_path, "clip_id,path,label,split\n" + rows)
    assert len(read_manifest(path)) == 20_000
    bare = least_seconds(lambda: list(csv.DictReader(path.read_text().splitlines())))
    assert least_seconds(lambda: read_manifest(path)) < 16 * bare  # it takes 4 times as long: 6 s for a million
