import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from softlabels import Clip, ManifestError
from softlabels.corpus.annotation_tables import read_annotations
from softlabels.corpus.annotations import Annotations

CLIPS = [Clip(clip_id="a", path="x/a.wav"), Clip(clip_id="b", path="b.wav"), Clip(clip_id="c", path="c.wav")]
POSITIONS = {"A": 0, "B": 1, "C": 2}
HEADER = "clip_id,start_s,end_s,label\n"


def table(tmp_path: Path, rows: str, name: str = "annotations.csv", header: str = HEADER) -> Path:
    path = tmp_path / name
    path.write_bytes((header + rows).encode())
    return path


def raven(tmp_path: Path, name: str, *rows: str, columns: str = "Species") -> Path:
    header = f"Selection|View|Begin Time (s)|End Time (s)|{columns}\n"
    return table(tmp_path, "".join(f"{row}\n" for row in rows).replace("|", "\t"), name, header.replace("|", "\t"))


def label(found: Annotations, starts: list[float], *, window_s: float = 3.0, end_s: float = 1e9) -> np.ndarray:
    """(windows, classes A B C) hard labels of the first clip."""
    clip = np.zeros(len(starts), np.int64)
    ends = np.full(3, end_s)
    hard = found.label_windows(clip, np.array(starts), window_s=window_s, positions=POSITIONS, clip_ends=ends)
    return hard.rows(np.arange(len(starts)), 3)


def read(tmp_path: Path, rows: str, extents: str | None = "clips") -> Annotations:
    if extents not in (None, "clips"):
        extents = str(table(tmp_path, extents, "extents.csv", "clip_id,start_s,end_s\n"))
    return read_annotations(table(tmp_path, rows), CLIPS, extents=extents)


def first_class(tmp_path: Path, rows: str, extents: str | None = "clips", starts: tuple = (0, 3, 6)) -> list[float]:
    return label(read(tmp_path, rows, extents), list(starts))[:, 0].tolist()


def test_half_a_second_of_a_box_makes_a_window_positive(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,1,3.5,A\n") == [1, 1, 0]
    assert first_class(tmp_path, "a,1,3.499,A\n") == [1, 0, 0]


def test_exactly_half_a_second_counts_whatever_the_floats_say(tmp_path: Path) -> None:
    assert 4.1 - 3.6 < 0.5  # the overlap of the second window below
    assert first_class(tmp_path, "a,1,4.1,A\n", starts=(0, 3.6)) == [1, 1]


def test_a_box_too_short_for_half_a_second_goes_to_the_window_it_fits_best(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,2.7,3.1,A\n") == [1, 0, 0]
    assert first_class(tmp_path, "a,2.9,3.3,A\n") == [0, 1, 0]


def test_of_windows_that_fit_a_short_box_equally_well_the_first_gets_it(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,2.7,3.3,A\n") == [1, 0, 0]
    assert first_class(tmp_path, "a,2,2.2,A\n", starts=(0, 1, 2)) == [1, 0, 0]


def test_boxes_of_one_class_do_not_add_up(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,2.3,3.3,A\na,3.5,3.7,A\na,5.5,6.4,A\n", starts=(0, 3, 6)) == [1, 1, 0]
    assert first_class(tmp_path, "a,2.3,3.3,A\na,5.7,6.7,A\n") == [1, 0, 1]  # 0.3 s twice in the middle


def test_outside_the_extents_nothing_is_known_but_what_a_box_says(tmp_path: Path) -> None:
    hard = label(read(tmp_path, "a,7,8,A\n", "a,0,5\n"), [0, 3, 6])
    np.testing.assert_array_equal(hard, [[0, 0, 0], [np.nan] * 3, [1, np.nan, np.nan]])


def test_without_extents_no_label_is_zero(tmp_path: Path) -> None:
    np.testing.assert_array_equal(first_class(tmp_path, "a,1,2,A\n", None), [1, np.nan, np.nan])


def test_extents_that_meet_are_one(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,0,1,B\n", "a,4,9\na,0,4\n") == [0, 0, 0]
    np.testing.assert_array_equal(first_class(tmp_path, "a,0,1,B\n", "a,0,4\na,4.1,9\n"), [0, np.nan, 0])


def test_a_window_is_judged_by_its_part_before_the_end_of_the_clip(tmp_path: Path) -> None:
    found = read(tmp_path, "a,6.8,8,A\na,0,1,B\n", "a,0,7\n")  # 0.2 s of the box are in the clip
    np.testing.assert_array_equal(label(found, [0, 3, 6], end_s=7)[:, 0], [0, 0, 1])
    np.testing.assert_array_equal(label(found, [0, 3, 6], end_s=7.2)[:, 1], [1, 0, np.nan])


def test_extents_may_differ_from_windows_by_a_sample(tmp_path: Path) -> None:
    assert first_class(tmp_path, "a,3,4,B\n", "a,3.0001,6\n", starts=(3.0, 3.00005)) == [0, 0]


def test_noise_is_an_extent(tmp_path: Path) -> None:
    np.testing.assert_array_equal(first_class(tmp_path, "a,0,3,noise\n", None), [0, np.nan, np.nan])


def test_a_box_carries_several_labels(tmp_path: Path) -> None:
    found = read(tmp_path, "a,0,1,A; C\n")
    assert found.labels == {"A", "C"}
    assert label(found, [0]).tolist() == [[1, 0, 1]]


def test_names_of_one_class_share_it(tmp_path: Path) -> None:
    found = read(tmp_path, "a,0,1,A;B\na,0,1,A\n")
    hard = found.label_windows(
        np.zeros(1, int), np.zeros(1), window_s=3, positions={"A": 1, "B": 1}, clip_ends=np.ones(3)
    )
    assert (hard.index.tolist(), hard.offsets.tolist()) == ([1], [0, 1])


def test_only_clips_with_a_box_or_an_extent_are_annotated(tmp_path: Path) -> None:
    assert read(tmp_path, "c,0,1,A\n", "a,0,5\n").listed_clips.tolist() == [0, 2]


def test_rows_of_clips_may_come_in_any_order_and_some_clips_have_none(tmp_path: Path) -> None:
    found = read(tmp_path, "a,0,1,A\nb,3,4,B\nc,0,1,C\n")
    clip, start_s = np.array([1, 1, 0]), np.array([0.0, 3.0, 0.0])
    hard = found.label_windows(clip, start_s, window_s=3, positions=POSITIONS, clip_ends=np.array([9.0, 9.0]))
    assert hard.rows(np.arange(3), 3).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_no_rows_give_no_labels(tmp_path: Path) -> None:
    assert len(label(read(tmp_path, "a,0,1,A\n"), [])) == 0


@pytest.mark.parametrize("clip", [[0, 1, 0], [0, 0, 1]])
def test_rows_out_of_order_are_refused(tmp_path: Path, clip: list[int]) -> None:
    with pytest.raises(ValueError, match="in the order of time"):
        read(tmp_path, "a,0,1,A\n").label_windows(
            np.array(clip), np.array([3.0, 0, 6]), window_s=3, positions=POSITIONS, clip_ends=np.ones(3)
        )


def test_a_name_without_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none for Z"):
        label(read(tmp_path, "a,0,1,Z\n"), [0])


def test_a_box_behind_the_end_of_the_audio_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"csv' line 3: the box starts at 8 s, but its clip ends at 7 s"):
        label(read(tmp_path, "a,0,1,A\na,8,9,A\n"), [0, 3, 6], end_s=7)


def brute_force(boxes: list, extents: list, starts: list, window: Fraction, end: Fraction) -> list[list[float]]:
    """The rule in exact fractions, box by box and window by window; 24 points a second stand for a stretch."""
    spans = [(s, min(s + window, end)) for s in starts]
    rows = []
    for s, e in spans:
        points = [s + Fraction(k, 240) for k in range(int((e - s) * 240))]
        known = all(any(f <= p < t for f, t in extents) for p in points)
        rows.append([0.0 if known else np.nan] * 3)
    for f, t, c in boxes:
        overlaps = [min(e, t) - max(s, f) for s, e in spans]
        hits = [i for i, o in enumerate(overlaps) if o >= Fraction(1, 2)]
        best = overlaps.index(max(overlaps))
        for i in hits or ([best] if overlaps[best] > 0 else []):
            rows[i][c] = 1.0
    return rows


def test_random_boxes_agree_with_brute_force(tmp_path: Path) -> None:
    rng = random.Random(5)

    def stretches(count: int, longest: int) -> list[tuple[Fraction, Fraction]]:
        starts = [rng.randrange(120) for _ in range(count)]
        return [(Fraction(s, 10), Fraction(s + rng.randint(1, longest), 10)) for s in starts]

    for _ in range(60):
        hop, window, end = Fraction(rng.choice([5, 10, 15, 30]), 10), Fraction(3), Fraction(rng.randint(121, 140), 10)
        starts = [hop * k for k in range(int((end - window) / hop) + 2) if hop * k < end]
        boxes = [(*stretch, rng.randrange(3)) for stretch in stretches(rng.randint(1, 12), rng.choice([6, 12, 60]))]
        extents = stretches(rng.randint(1, 6), 60)
        rows = "".join(f"a,{float(s)},{float(e)},{'ABC'[c]}\n" for s, e, c in boxes)
        found = read(tmp_path, rows, "".join(f"a,{float(s)},{float(e)}\n" for s, e in extents))
        got = label(found, [float(s) for s in starts], end_s=float(end))
        np.testing.assert_array_equal(got, brute_force(boxes, extents, starts, window, end))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("z,0,1,A\n", "line 2: clip_id 'z' is not in the manifest"),
        ("a,2,1,A\n", "line 2: expected a start before the end, got 2 and 1 s"),
        ("a,1,1,A\n", "expected at least one row, got none, and 1 of no length"),
        ("a,x,1,A\n", "expected seconds from 0 up, got 'x'"),
        ("a,-1,1,A\n", "expected seconds from 0 up, got '-1'"),
        ("a,0,inf,A\n", "expected seconds from 0 up, got 'inf'"),
        ("a,0,1,\n", "expected at least one row, got none, and 1 without a label"),
        ("a,0,1,A;A\n", "expected different class names"),
        ("a,0,1,A;noise\n", "or 'noise' alone"),
        ("a,0,1\n", "line 2: expected 4 fields, got 3"),
        ("", "expected at least one row"),
        ("a,0,1,A\n\nz,0,1,A\ny,0,1,A\n", r"(?s)2 faults.*line 4: clip_id 'z'.*line 5: clip_id 'y'"),
    ],
)
def test_faulty_rows_are_one_error(tmp_path: Path, rows: str, complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        read(tmp_path, rows, None)


def test_ten_faults_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"(?s)25 faults.*line 11.*and 15 more") as caught:
        read(tmp_path, "z,0,1,A\n" * 25)
    assert "line 12" not in str(caught.value)


def test_a_box_outside_its_clip_says_that_times_count_in_the_file(tmp_path: Path) -> None:
    clips = [Clip(clip_id="a", path="a.wav", start_s=60, end_s=63)]
    with pytest.raises(ManifestError, match=r"0 to 1 s lies outside clip 'a', 60 to 63 s of its file; times count in"):
        read_annotations(table(tmp_path, "a,0,1,A\n"), clips)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("clip_id,start_s,label\n", "column 'end_s' is missing"),
        ("clip_id,start_s,end_s\n", "expected a column of labels named 'label'"),
        ("", "got an empty file"),
    ],
)
def test_a_table_of_another_form_is_an_error(tmp_path: Path, header: str, complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        read_annotations(table(tmp_path, "", header=header), CLIPS)


def test_faults_of_the_extents_are_reported_with_the_others(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"(?s)2 faults.*annotations.csv' line 2.*extents.csv' line 2"):
        read(tmp_path, "z,0,1,A\n", "y,0,1\n")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no file matches it as a pattern"):
        read_annotations(str(tmp_path / "*.txt"), CLIPS)


def test_raven_tables_find_their_recording_by_their_own_name(tmp_path: Path) -> None:
    raven(tmp_path, "a.Table.1.selections.txt", "1|Spectrogram 1|1|2|A")
    raven(tmp_path, "b.selections.txt", "1|Spectrogram 1|1|2|B")
    raven(tmp_path, "c.wav.txt", "1|Spectrogram 1|1|2|C")
    found = read_annotations(str(tmp_path / "*.txt"), CLIPS)
    assert found.boxes[["clip", "name"]].tolist() == [
        (0, "A"),
        (1, "B"),
        (2, "C"),
    ]


def test_raven_rows_find_their_recording_by_begin_file_or_begin_path(tmp_path: Path) -> None:
    by_file = raven(tmp_path, "t1.txt", "1|S|1|2|b.flac|A", columns="Begin File|Species")
    by_path = raven(tmp_path, "t2.txt", r"1|S|1|2|D:\field\c.wav|A", columns="Begin Path|Species")
    assert read_annotations([by_file, by_path], CLIPS).boxes["clip"].tolist() == [1, 2]


def test_a_selection_in_two_views_is_one_box_and_glued_tables_lose_nothing(tmp_path: Path) -> None:
    rows = ["1|Waveform 1|1|2|A", "1|Spectrogram 1|1|2|A", "1|Spectrogram 1|5|6|A", "|S|1|2|B", "|S|1|2|C"]
    assert len(read_annotations(raven(tmp_path, "a.txt", *rows), CLIPS).boxes["clip"]) == 4


def test_file_offset_is_the_time_in_the_begin_file(tmp_path: Path) -> None:
    columns = "Begin File|File Offset (s)|Species"
    found = read_annotations(raven(tmp_path, "t.txt", "1|S|3601|3603|b.wav|1|A", columns=columns), CLIPS)
    assert (found.boxes["start_s"].tolist(), found.boxes["end_s"].tolist()) == ([1], [3])


def test_the_label_column_is_the_first_known_one_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = raven(tmp_path, "a.txt", "1|S|1|2|C|A|B", columns="My Notes|call type|SPECIES CODE")
    assert read_annotations(path, CLIPS).labels == {"B"}
    assert read_annotations(path, CLIPS, label_column="my notes").labels == {"C"}
    with pytest.raises(ManifestError, match="named 'Bird'.*name it by `label_column`"):
        read_annotations(path, CLIPS, label_column="Bird")


def test_an_empty_raven_table_makes_its_clip_annotated_as_silent(tmp_path: Path) -> None:
    raven(tmp_path, "a.selections.txt")
    raven(tmp_path, "b.selections.txt", "1|S|1|2|B")
    found = read_annotations(str(tmp_path / "*.txt"), CLIPS, extents="clips")
    assert found.listed_clips.tolist() == [0, 1]
    assert label(found, [0]).tolist() == [[0, 0, 0]]


STRETCHES = [Clip(clip_id=f"a{i}", path="a.wav", start_s=10.0 * i, end_s=10.0 * i + 10) for i in range(3)]


def test_a_box_goes_to_each_stretch_of_its_file_that_has_half_a_second_of_it(tmp_path: Path) -> None:
    rows = ["1|S|8|12|A", "2|S|19.9|22|B", "3|S|9.8|10.1|C"]  # 0.1 s of B are no reason to label a1 with it
    found = read_annotations(raven(tmp_path, "a.txt", *rows), STRETCHES)
    assert found.boxes[["clip", "name"]].tolist() == [
        (0, "A"),
        (1, "A"),
        (2, "B"),
        (0, "C"),
    ]


def test_raven_boxes_that_no_clip_reaches_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read_annotations(raven(tmp_path, "a.txt", "1|S|1|2|A", "2|S|40|41|A"), STRETCHES)
    assert (found.boxes["clip"].tolist(), found.outside) == ([0], 1)


@pytest.mark.parametrize(
    ("clips", "complaint"),
    [
        (CLIPS[1:], "the recording 'a', got none"),
        ([CLIPS[0], Clip(clip_id="z", path="y/a.wav")], "got several: x/a.wav, y/a.wav"),
    ],
)
@pytest.mark.parametrize("rows", [(), ("1|S|1|2|A",)])
def test_a_recording_has_to_be_one_file_of_the_manifest(
    tmp_path: Path, clips: list[Clip], complaint: str, rows: tuple[str, ...]
) -> None:
    with pytest.raises(ManifestError, match=complaint):
        read_annotations(raven(tmp_path, "a.txt", *rows), clips, extents="clips")


def test_a_recording_without_extension_is_not_shortened_further(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="the recording 'a.2020', got none"):
        read_annotations(raven(tmp_path, "a.2020.txt", "1|S|1|2|A"), CLIPS)
