"""What people mark in time: Raven tables over several files, Audacity's label tracks, boxes that are none;
and the numbers that they give to flags."""

from pathlib import Path

import pytest
from conftest import Corpus

import pipeline
from pipeline.cli.commands import main
from softlabels import Clip, ManifestError, read_manifest
from softlabels.corpus.annotation_tables import read_annotations

SEQUENTIAL = pipeline.RunOptions(backend="sequential")
FILES = [Clip(clip_id=name, path=f"x/{name}.wav") for name in ("r1", "r2", "r3")]
HEADER = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"


def boxes(folder: Path, text: str, durations: dict[str, float] | None = None, name: str = "t.txt") -> list[tuple]:
    (folder / name).write_text(text)
    found = read_annotations(folder / name, FILES, duration_of=lambda path: (durations or {}).get(path[2:4]))
    return [(FILES[clip].clip_id, round(start, 6), round(end, 6)) for clip, start, end, _, _ in found.boxes.tolist()]


def sequence(*rows: tuple[float, float, str]) -> str:
    return HEADER + "".join(f"{i}\tS\t{a}\t{b}\t{name}.wav\tA\n" for i, (a, b, name) in enumerate(rows))


LENGTHS = {"r1": 60.0, "r2": 45.0, "r3": 90.0}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(5, 6, "r1"), (70, 72, "r2")], [("r1", 5, 6), ("r2", 10, 12)]),  # beyond r2's end: counted on
        ([(5, 6, "r1"), (70, 72, "r2"), (106, 107, "r3")], [("r1", 5, 6), ("r2", 10, 12), ("r3", 1, 2)]),
        ([(5, 6, "r1"), (110, 112, "r3")], [("r1", 5, 6), ("r3", 5, 7)]),  # nobody called in r2
        ([(5, 6, "r1"), (50, 52, "r3")], [("r1", 5, 6), ("r3", 50, 52)]),  # too early to be counted on
        ([(5, 6, "r1"), (4, 5, "r2")], [("r1", 5, 6), ("r2", 4, 5)]),  # times of each file: they overlap
        ([(5, 6, "r1"), (5, 6, "r2"), (5, 6, "r3")], [("r1", 5, 6), ("r2", 5, 6), ("r3", 5, 6)]),
    ],
)
def test_raven_times_over_several_files_are_read_where_the_lengths_settle_it(tmp_path: Path, rows, expected) -> None:
    assert boxes(tmp_path, sequence(*rows), LENGTHS) == expected


@pytest.mark.parametrize(
    ("rows", "durations"),
    [
        ([(5, 6, "r1"), (70, 72, "r2")], {}),  # nobody knows how long they are
        ([(5, 6, "r1"), (70, 72, "r2")], {"r1": 60.0, "r2": 90.0}),  # 70 s of r2, or 10 s
        ([(5, 6, "r1"), (300, 302, "r2")], LENGTHS),  # neither
        ([(5, 6, "r2"), (70, 72, "r1")], LENGTHS),  # not the order of their names
        ([(70, 72, "r1"), (130, 131, "r2")], LENGTHS),  # the sequence began before r1
    ],
)
def test_raven_times_that_may_count_either_way_are_refused_with_what_to_export(tmp_path: Path, rows, durations) -> None:
    with pytest.raises(ManifestError, match="t.txt': [23] recordings without the column 'File Offset "):
        boxes(tmp_path, sequence(*rows), durations)


def test_file_offsets_need_no_lengths(tmp_path: Path) -> None:
    text = sequence((5, 6, "r1"), (70, 72, "r2"), (120, 121, "r3")).replace("\tSpecies", "\tSpecies\tFile Offset (s)")
    for row, offset in zip(("r1", "r2", "r3"), (5, 10, 15), strict=True):
        text = text.replace(f"{row}.wav\tA", f"{row}.wav\tA\t{offset}")
    assert boxes(tmp_path, text) == [("r1", 5, 6), ("r2", 10, 12), ("r3", 15, 16)]


@pytest.mark.parametrize(
    "text",
    [
        "1.5\t2.5\tA\n4\t4.25\tA\n",
        "1.500000\t2.500000\tA\n\\\t1000.0\t8000.0\n4.0\t4.25\tA\n\\\t0\t1\n",  # a spectral selection
        "1,5\t2,5\tA\n4,0\t4,25\tA\n",
        "1.5\t2.5\tA\n3\t3\tA\n3\t3.5\t\n4\t4.25\tA\n",
    ],
)
def test_audacity_label_tracks_are_read(tmp_path: Path, text: str) -> None:
    assert boxes(tmp_path, text, name="r2.txt") == [("r2", 1.5, 2.5), ("r2", 4, 4.25)]


def test_quoted_raven_tables_are_read_and_quotes_in_unquoted_ones_stay(tmp_path: Path) -> None:
    table = sequence((1, 2, "r1"), (3, 4, "r1"))
    quoted = "".join("\t".join(f'"{cell}"' for cell in line.split("\t")) + "\n" for line in table.splitlines())
    assert boxes(tmp_path, quoted) == boxes(tmp_path, table) == [("r1", 1, 2), ("r1", 3, 4)]
    assert len(boxes(tmp_path, table.replace("S\t", '6" high\t'))) == 2


def test_boxes_of_no_length_or_label_are_counted_and_their_recording_is_annotated(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(sequence((1, 1, "r1"), (1, 3, "r2")).replace("r2.wav\tA", "r2.wav\t "))
    found = read_annotations(tmp_path / "t.txt", FILES, extents="clips")
    assert (len(found.boxes), found.listed_clips.tolist()) == (0, [0, 1])
    assert found.notes == (
        "annotations: 1 boxes of no length are passed over",
        "annotations: 1 boxes without a label are passed over",
    )


# --- numbers that flags cannot have

NUMBERS = {
    "run": ["--timeout", "--jitters", "--min-probability", "--shard-windows", "--jobs", "--batch-size", "--rate"],
    "run ": ["--max-hours", "--max-channels", "--min-rate", "--max-rate", "--max-gigabytes"],
    "manifest .": ["--jobs"],
    "verify": ["--jobs"],
    "regenerate --shard 1": ["--jobs"],
}


@pytest.mark.parametrize("command", NUMBERS)
@pytest.mark.parametrize("value", ["0", "-3", "nan", "-inf", "inf"])
def test_a_number_that_a_flag_cannot_have_is_refused_by_its_name(tmp_path, monkeypatch, capsys, command, value) -> None:
    monkeypatch.chdir(tmp_path)
    for flag in NUMBERS[command]:
        try:
            code = main([*command.split(), f"{flag}={value}"])
        except SystemExit as e:  # argparse: no whole number
            code = e.code
        assert code == 2
        assert f"{flag}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--overlap=-0.5"], "--overlap: expected seconds, 0 or more, got -0.5"),
        (["run", "--jitters=65"], "--jitters: expected 1 to 64, got 65"),
        (["run", "--min-probability=1"], "--min-probability: expected a probability between 0 and 1, both excluded"),
        (["verify", "--recompute=1.5"], "--recompute: expected a share from 0 to 1, got 1.5"),
        (["verify", "--shard=-1"], "--shard: expected 0 or more, got -1"),
        (
            ["export", "--to=detections", "-o=x.csv", "--threshold=nan"],
            "--threshold: expected a probability from 0 to 1",
        ),
    ],
)
def test_numbers_have_their_ranges(arguments: list[str], complaint: str, capsys) -> None:
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (pipeline.RunOptions, {"timeout_s": 0}),
        (pipeline.RunOptions, {"timeout_s": float("nan")}),
        (pipeline.RunOptions, {"jobs": 0}),
        (pipeline.LabelOptions, {"jitters": 0}),
        (pipeline.LabelOptions, {"shard_windows": -1}),
        (pipeline.LabelOptions, {"min_probability": 0.0}),
        (pipeline.LabelOptions, {"overlap_s": float("inf")}),
    ],
)
def test_python_refuses_the_same_numbers(options, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"^--.*: expected"):
        options(**settings)


# --- rows and paths


@pytest.mark.parametrize("empty", [",,\n", "\n", " , ,\n", "\u00a0,,\t\n", ",\n", ",,,,\n"])
def test_empty_rows_of_a_spreadsheet_are_skipped(tmp_path: Path, empty: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"clip_id,path,label\n{empty}a,a.wav,A\n{empty}b,b.wav,\n{empty}{empty}")
    assert [clip.clip_id for clip in read_manifest(path)] == ["a", "b"]
    path.write_text(f"clip_id,path,label\n{empty}a,,A\n")
    with pytest.raises(ManifestError, match="line 3: .*expected a path"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("there", "written", "hint"),
    [
        ("a/x.wav", "a\\x.wav", r"but 'a/x.wav' is, with '/' for '\\'"),
        ("a/X.WAV", "A/x.wav", "but 'a/X.WAV' is, in other case"),
        ("a/gru\u0308n.wav", "a/gr\u00fcn.wav", r"but 'a/gru\u0308n.wav' is, in other Unicode characters \(NFC, NFD\)"),
        ("x.wav", "corpus/x.wav", "it is below --root "),
        ("sub/x.wav", "x.wav", "it is below --root .*/sub"),
        ("y.wav", "x.wav", "such as 'x.wav': is --root right"),
    ],
)
def test_a_root_below_which_nothing_is_there_is_refused_before_a_store_is_made(
    tmp_path: Path, there: str, written: str, hint: str
) -> None:
    corpus = Corpus(tmp_path / "corpus")
    corpus.write_audio(there)
    corpus.write_manifest(f"clip_id,path\na,{written}\n")
    with pytest.raises(ManifestError, match=rf"(?s)none of the 1 files of the manifest is below .*{hint}"):
        pipeline.run(corpus.manifest, tmp_path / "store", teacher="standin:teacher", options=SEQUENTIAL)
    assert not (tmp_path / "store" / "store.json").exists()


def test_some_files_that_are_not_there_are_a_warning(tmp_path: Path, caplog) -> None:
    corpus = Corpus(tmp_path / "corpus")
    corpus.write_audio("a.wav")
    corpus.write_manifest("clip_id,path\na,a.wav\nb,A.wav\n")
    summary = pipeline.run(corpus.manifest, tmp_path / "store", teacher="standin:teacher", options=SEQUENTIAL)
    assert (summary.labelled, summary.quarantined) == (3, 1)
    assert "1 of 2 files are not below" in caplog.text
    assert "'A.wav' (but 'a.wav' is, in other case)" in caplog.text
