"""What recorders, people and programs write as names and labels: understood with the right value, or refused.

The kinds, their variants and outcomes are listed in README.md beside this file.
"""

from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus

import softlabels
from pipeline.drafts.folder import clips_of_folder
from pipeline.drafts.metadata import clips_of_metadata
from pipeline.report.clip_evidence import HumanLabels
from pipeline.report.report import ReportOptions, report
from pipeline.report.survey import survey
from pipeline.report.suspects import find_suspects
from softlabels import Clip, JoinError, ManifestError
from softlabels.classes.matching import match_classes
from softlabels.corpus.label_names import find_labels
from softlabels.corpus.name_lists import CellFault, read_list

CLASSES = softlabels.ClassList(("Turdus merula_Eurasian Blackbird", "Parus major_Great Tit", "Strix aluco_Tawny Owl"))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def hard(labels: softlabels.JoinedLabels) -> dict[str, list[float]]:
    """clip -> the hard label of its first window."""
    first = labels.keys.drop_duplicates("clip_id")
    return {clip: labels.hard([row])[0].tolist() for row, clip in zip(first.index, first.clip_id, strict=True)}


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for clip in expected:
        np.testing.assert_array_equal(found[clip], expected[clip], err_msg=clip)


NAN = float("nan")

# --- half a name


@pytest.mark.parametrize(
    "name",
    [
        "Turdus merula_Eurasian Blackbird,Parus major_Great Tit",
        "Turdus merula_Eurasian Blackbird & Strix aluco_Tawny Owl",
        "Turdus merula_Eurasian Blackbird/Great Tit",
        "no Turdus merula_Eurasian Blackbird",
        "~Turdus merula_Eurasian Blackbird",
        "Turdus merula_Tawny Owl",
        "Strix aluco_without Tawny Owl",
        "Parus minor_Great Tit",
        "Great Tit (juvenile)",
        "Parus major newtoni",
    ],
)
@pytest.mark.parametrize("other_labels", ["error", "absent"])
def test_a_label_that_is_a_class_by_a_part_of_its_name_is_refused_with_its_place(name: str, other_labels) -> None:
    clips = [Clip(clip_id="x", path="x.wav", labels=("Great Tit",)), Clip(clip_id="y", path="y.wav", labels=(name,))]
    with pytest.raises(JoinError, match=r"'m.csv': 1 labels are a class by a part of their name only: .*clip 'y'"):
        find_labels(clips, CLASSES, "m.csv", other_labels=other_labels)


TWO_TITS = softlabels.ClassList((*CLASSES, "Parus minor_Great Tit"))


@pytest.mark.parametrize("name", ["Great Tit", "great_tit", "GREAT  TIT", "great tit_"])
@pytest.mark.parametrize("other_labels", ["error", "absent", "unknown", "drop"])
def test_a_label_that_two_classes_have_is_refused_with_both(name: str, other_labels) -> None:
    """As a class of a student's list is; it was one that the list lacks, and 0 in both."""
    with pytest.raises(
        JoinError, match="clip 'y'.*: it is a name of 'Parus major_Great Tit' and of 'Parus minor_Great"
    ):
        find_labels([Clip(clip_id="y", path="y.wav", labels=(name,))], TWO_TITS, "m.csv", other_labels=other_labels)
    with pytest.raises(softlabels.ClassListError, match="it is a name of 'Parus major_Great Tit' and of 'Parus minor"):
        match_classes(softlabels.ClassList((" ".join(name.split()), "Strix aluco")), TWO_TITS, min_coverage=0)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("eurbla", "code"),
        ("eurbla1", "code"),
        ("eurbla1_Amsel", "code"),
        ("gretit1", "code"),
        ("Parus-major", "spelling|scientific words"),
        ("great-tit", "common words"),
        ("Great Tît", "common words"),
        ("Strix-aluco-Waldkauz", "scientific words"),
    ],
)
@pytest.mark.parametrize("other_labels", ["error", "absent", "unknown", "drop"])
def test_a_label_that_is_most_likely_a_class_is_never_taken_for_another(name: str, how: str, other_labels) -> None:
    """Codes of eBird, hyphens, accents: refused with the class, where it would be a 0."""
    clips = [Clip(clip_id="y", path="y.wav", labels=(name,))]
    with pytest.raises(JoinError, match=rf"clip 'y'\): most likely '[A-Z].*', by its ({how}); write each as it stands"):
        find_labels(clips, CLASSES, "m.csv", other_labels=other_labels, teacher=TWO_TITS)


@pytest.mark.parametrize("name", ["Podiceps major", "Corvus corax_Common Raven", "falcon", "Amsel", "Parus ater"])
def test_a_label_of_another_species_stays_another(name: str) -> None:
    clips = [Clip(clip_id="y", path="y.wav", labels=(name,))]
    assert find_labels(clips, CLASSES, "m.csv", other_labels="absent").others == {name}
    dogs = softlabels.ClassList(("dog_bark", "cat_meow"))
    wolf = [Clip(clip_id="y", path="y.wav", labels=("wolf_bark",))]
    assert find_labels(wolf, dogs, "m.csv", other_labels="absent").others == {"wolf_bark"}
    teacher = softlabels.ClassList((*CLASSES, "eurbla1"))  # the teacher's own class of that name is that one
    coded = [Clip(clip_id="y", path="y.wav", labels=("eurbla1",))]
    assert find_labels(coded, CLASSES, "m.csv", other_labels="absent", teacher=teacher).others == {"eurbla1"}


def test_a_label_of_no_class_is_refused_with_the_nearest_one() -> None:
    clips = [Clip(clip_id="y", path="y.wav", labels=("Strix alucco", "Zebra"))]
    with pytest.raises(
        JoinError, match=r"of 3: 'Strix alucco', perhaps 'Strix aluco_Tawny Owl', 'Zebra'; correct them"
    ):
        find_labels(clips, CLASSES, "m.csv")


@pytest.mark.parametrize(
    ("folder", "labels", "absent"),
    [
        ("Turdus merula_Eurasian Blackbird,Parus major_Great Tit", CLASSES.names[:2], ()),
        ("Strix aluco_Tawny Owl, Parus major_Great Tit", CLASSES.names[:0:-1], ()),
        ("-Turdus merula_Eurasian Blackbird", None, CLASSES.names[:1]),
        ("-Strix aluco_Tawny Owl,-Parus major_Great Tit", None, CLASSES.names[:0:-1]),
        ("Parus major_Great Tit,-Strix aluco_Tawny Owl", CLASSES.names[1:2], CLASSES.names[2:]),
        ("- Great Tit", None, ("Great Tit",)),
        ("Male speech, man speaking", ("Male speech, man speaking",), ()),  # no list of Analyzer's: a name
        ("Parus-major_Great-Tit", ("Parus-major_Great-Tit",), ()),
    ],
)
def test_folders_of_analyzer_are_understood(tmp_path: Path, folder: str, labels, absent) -> None:
    found = clips_of_folder(touch(tmp_path, f"{folder}/a.wav"))
    clips = found.clips
    assert [(clip.labels, clip.absent) for clip in clips] == [(labels, absent)]
    assert bool(found.remarks) == (bool(absent) or len(labels or ()) > 1)
    softlabels.write_manifest(clips, tmp_path / "m.csv")
    assert softlabels.read_manifest(tmp_path / "m.csv") == clips


@pytest.mark.parametrize("folder", ["-", "A_a,-A_a", "A_a,A_a", "A_a,?B_b", "A_a,"])
def test_folders_that_mean_nothing_are_refused(tmp_path: Path, folder: str) -> None:
    if folder == "A_a,":  # an empty part has no underscore: the comma belongs to the name
        assert clips_of_folder(touch(tmp_path, f"{folder}/a.wav")).clips[0].labels == ("A_a,",)
        return
    with pytest.raises(ManifestError, match=r"folder '.*rename it"):
        clips_of_folder(touch(tmp_path, f"{folder}/a.wav"))


def test_a_negative_sample_is_0_for_its_class_and_unknown_for_the_others(corpus: Corpus, store) -> None:
    lines = ["c0,-Aus aus_Alpha", "c1,-Beta;-Cus cus", "c2,Bus bus_Beta;-Cus cus", "c3,-Aus aus_Alpha;?Cus cus"]
    corpus.write_manifest("clip_id,path,label\n" + "".join(f"{x[:2]},{x[:2]}.wav{x[2:]}\n" for x in lines))
    labels = store.join(corpus.manifest)
    expected = {"c0": [0, NAN, NAN], "c1": [NAN, 0, 0], "c2": [0, 1, 0], "c3": [0, NAN, NAN]}
    same(hard(labels), expected)
    assert any("3 clips say that a class is absent ('-Name')" in note for note in labels.report.notes)
    assert labels.report.rows_both == len(labels)  # annotated, if for one class only


# --- classes of one's own with the name of a folder without a class


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Background", "Background"),
        ("background", "Background"),
        ("noise", "Noise"),
        ("NOISE", "noise"),
        ("Silence", "Silence_Silence"),
        ("noise", "Noise_Noise"),
        ("other", "Other"),
    ],
)
def test_a_class_called_background_is_that_class(tmp_path: Path, word: str, name: str) -> None:
    clips = clips_of_folder(touch(tmp_path, f"{word}/a.wav", "Great Tit/b.wav")).clips
    classes = softlabels.ClassList(("Parus major_Great Tit", name))
    found = find_labels(clips, classes, "m.csv", teacher=CLASSES)
    labels = {clip.clip_id.partition("/")[2]: clip.labels for clip in found.read(clips)}
    assert {key: [found.positions[n] for n in value] for key, value in labels.items()} == {"a.wav": [1], "b.wav": [0]}
    assert [note for note in found.notes if f"is the class {name!r} of the list in 1 clips" in note]


@pytest.mark.parametrize("word", ["Background", "noise", "Silence", "OTHER"])
def test_without_such_a_class_its_clips_have_none_of_them(tmp_path: Path, word: str) -> None:
    clips = clips_of_folder(touch(tmp_path, f"{word}/a.wav")).clips
    found = find_labels(clips, CLASSES, "m.csv", teacher=CLASSES)
    assert [clip.labels for clip in found.read(clips)] == [()]
    assert len(found.notes) == (word != "noise")  # what was decided is said; `noise` has no other meaning


def test_a_teachers_noise_is_only_that_by_its_whole_name() -> None:
    clips = [Clip(clip_id="a", path="a.wav", labels=())]
    for name, labels in {"Noise_Noise": (), "Noise": ("noise",)}.items():
        teacher = softlabels.ClassList(("Parus major_Great Tit", name))
        assert find_labels(clips, teacher, "m", teacher=teacher).read(clips)[0].labels == labels


def test_background_beside_a_class_is_no_mark_of_none(tmp_path: Path) -> None:
    clips = [Clip(clip_id="a", path="a.wav", labels=("Great Tit", "Background"))]
    with pytest.raises(JoinError, match="1 labels are not in the class list of 3: 'Background'"):
        find_labels(clips, CLASSES, "m")


# --- arrays and lists in cells

LISTS = [
    ("['A b' 'C d']", ["A b", "C d"]),
    ("['A b'\n 'C d']", ["A b", "C d"]),
    ("array(['A b', 'C d'], dtype=object)", ["A b", "C d"]),
    ("array(['A b', 'C d'], dtype='<U3')", ["A b", "C d"]),
    ("[np.str_('A b'), np.str_('C d')]", ["A b", "C d"]),
    ("Index(['A b', 'C d'], dtype='object', name='label')", ["A b", "C d"]),
    ('["A b", "C d"]', ["A b", "C d"]),
    ('["A b", null]', ["A b"]),
    ("['A b' nan]", ["A b"]),
    ("('A b', 'C d')", ["A b", "C d"]),
    ("('A b',)", ["A b"]),
    ("{'A b', 'C d'}", ["A b", "C d"]),
    ("frozenset({'A b', 'C d'})", ["A b", "C d"]),
    ('c("A b", "C d")', ["A b", "C d"]),
    ('list("A b")', ["A b"]),
    ("{A b,C d}", ["A b", "C d"]),
    ("[A b, C d]", ["A b", "C d"]),
    ("[\"Steller's Jay\" 'C d']", ["Steller's Jay", "C d"]),
    ("[]", []),
    ("set()", []),
    ("character(0)", []),
]
NO_LISTS = ["['A' ... 'B']", "['A''B']", "[['A', 'B']]", "['A', 3]", "['A', 'B'", '{"A": 1}', "[A b]", "array([1, 2])"]


@pytest.mark.parametrize(("cell", "names"), LISTS)
def test_lists_of_any_usual_form_are_read(tmp_path: Path, cell: str, names: list[str]) -> None:
    audio = touch(tmp_path / "audio", "x.wav")
    quoted = '"' + cell.replace('"', '""') + '"'
    (tmp_path / "t.csv").write_text(f"filename,primary_label\nx,{quoted}\n")
    [clip] = clips_of_metadata(tmp_path / "t.csv", audio).clips
    assert clip.labels == (tuple(names) or None)
    (tmp_path / "m.csv").write_text(f"clip_id,path,label\nx,x.wav,{quoted}\n")
    [clip] = softlabels.read_manifest(tmp_path / "m.csv")
    assert clip.labels == (tuple(names) or None)


@pytest.mark.parametrize("cell", NO_LISTS)
def test_what_looks_like_a_list_and_is_none_is_refused_with_its_row(tmp_path: Path, cell: str) -> None:
    with pytest.raises(CellFault):
        read_list(cell)
    quoted = '"' + cell.replace('"', '""') + '"'
    (tmp_path / "m.csv").write_text(f"clip_id,path,label\nx,x.wav,{quoted}\n")
    with pytest.raises(ManifestError, match=r"line 2: .*expected names as A;B or \['A', 'B'\]"):
        softlabels.read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("A b|C d", ("A b", "C d")),
        ("A b, C d", ("A b", "C d")),
        ("A b,C d,A b", ("A b", "C d")),
        ('"A b\nC d"', ("A b", "C d")),
        ("Tit, Great;C d", ("Tit, Great", "C d")),
        ('["Tit, Great"]', ("Tit, Great",)),
        ("Owl (call)", ("Owl (call)",)),
    ],
)
def test_lists_by_hand_are_read_in_metadata(tmp_path: Path, cell: str, names: tuple) -> None:
    text = cell if cell.startswith('"') else '"' + cell.replace('"', '""') + '"'
    (tmp_path / "t.csv").write_text(f"filename,primary_label\nx,{text}\n")
    found = clips_of_metadata(tmp_path / "t.csv", touch(tmp_path / "audio", "x.wav"))
    assert found.clips[0].labels == names
    assert len(found.remarks) == (";" not in cell and "[" not in cell and "," in cell)


# --- labels of classes that the list lacks

OTHERS = (
    "clip_id,path,label\nc0,c0.wav,Aus aus_Alpha;Bus bus_Beta\nc1,c1.wav,Bus bus_Beta\nc2,c2.wav,noise\nc3,c3.wav,\n"
)


@pytest.mark.parametrize(
    ("other_labels", "expected"),
    [
        ("absent", {"c0": [1, 0], "c1": [0, 0], "c2": [0, 0], "c3": [NAN, NAN]}),
        ("unknown", {"c0": [1, 0], "c1": [NAN, NAN], "c2": [0, 0], "c3": [NAN, NAN]}),
        ("drop", {"c0": [1, 0], "c2": [0, 0], "c3": [NAN, NAN]}),
    ],
)
def test_a_shorter_list_is_joined_as_asked(corpus: Corpus, store, other_labels: str, expected) -> None:
    corpus.write_manifest(OTHERS)
    labels = store.join(corpus.manifest, classes=["Aus aus_Alpha", "Cus cus_Gamma"], other_labels=other_labels)
    same(hard(labels), expected)
    soft = store.join(corpus.manifest, classes=["Aus aus_Alpha", "Cus cus_Gamma"], other_labels="absent").soft()
    np.testing.assert_array_equal(labels.soft(), soft if other_labels != "drop" else soft[np.r_[0:3, 4 : len(soft)]])
    [note] = labels.report.notes  # that a subset has an order of its own is no finding
    assert note.startswith(f"other_labels={other_labels!r}: 1 labels of 2 clips are not in the class list")


def test_a_shorter_list_is_refused_by_default_and_the_message_names_the_option(corpus: Corpus, store) -> None:
    corpus.write_manifest(OTHERS)
    with pytest.raises(JoinError, match=r"not in the class list of 1: 'Bus bus_Beta'.*other_labels='absent', other_la"):
        store.join(corpus.manifest, classes=["Aus aus_Alpha"])
    with pytest.raises(
        ValueError, match="other_labels: expected one of 'error', 'absent', 'unknown', 'drop', got 'no'"
    ):
        store.join(corpus.manifest, other_labels="no")
    corpus.write_manifest("clip_id,path,label\nc1,c1.wav,Bus bus_Beta\n")
    with pytest.raises(
        JoinError, match="all 1 clips have labels of other classes only; other_labels='drop' leaves none"
    ):
        store.join(corpus.manifest, classes=["Aus aus_Alpha"], other_labels="drop")


def test_boxes_of_other_classes_say_nothing(corpus: Corpus, store) -> None:
    corpus.write_manifest(OTHERS)
    boxes = corpus.folder / "boxes.csv"
    boxes.write_text("clip_id,start_s,end_s,label\nc1,0,0.1,Bus bus_Beta\nc0,0,0.1,Bus bus_Beta\nc0,0.1,0.2,Alpha\n")
    for chosen in ("absent", "unknown", "drop"):
        labels = store.join(
            corpus.manifest, classes=["Alpha"], annotations=boxes, annotated_extents="clips", other_labels=chosen
        )
        by_clip = {
            clip: labels.hard(rows)[:, 0].tolist() for clip, rows in labels.keys.groupby("clip_id").groups.items()
        }
        assert (by_clip["c0"], by_clip["c1"]) == ([0, 1, 0], [0])


def test_labels_meet_the_list_by_the_mapping_file_too(corpus: Corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc0,c0.wav,Bus bus_Beta\nc1,c1.wav,Aus aus\nc2,c2.wav,any bird\n")
    mapping = corpus.folder / "mapping.csv"
    mapping.write_text("student_class,teacher_class\nany bird,Aus aus_Alpha\nany bird,Bus bus_Beta\n")
    labels = store.join(corpus.manifest, classes=["any bird", "Cus cus"], mapping=mapping)
    same(hard(labels), {"c0": [1, 0], "c1": [1, 0], "c2": [1, 0]})


# --- labels that the report's teacher does not know


@pytest.mark.parametrize(
    ("label", "nearest"),
    [
        ("Aus auss_Alpha", "Aus aus_Alpha"),
        ("Bus buss", "Bus bus_Beta"),
        ("Gama", "Cus cus_Gamma"),
        ("Quite another bird", ""),
        ("Aus aus_Alpha,Bus bus_Beta", "Aus aus_Alpha"),
    ],
)
@pytest.mark.parametrize("beside", ["", ";Cus cus_Gamma"])
def test_a_label_that_the_teacher_lacks_is_unknown_in_the_report_and_accuses_nobody(
    corpus: Corpus, store, label: str, nearest: str, beside: str
) -> None:
    rows = f'c0,c0.wav,"{label}{beside}"\nc1,c1.wav,Bus bus_Beta;Aus aus\nc2,c2.wav,noise\nc3,c3.wav,Gamma\n'
    corpus.write_manifest("clip_id,path,label\n" + rows)
    labels = HumanLabels.of(softlabels.read_manifest(corpus.manifest), store.index, store.classes)
    assert labels.unknown == {label: (1, nearest)}
    evidence = survey(store, labels, lambda windows: None).evidence
    np.testing.assert_array_equal(evidence.hard()[0], [NAN, NAN, 1 if beside else NAN])
    np.testing.assert_array_equal(evidence.hard()[1:], [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    suspects = find_suspects(evidence, store.index, store.classes)
    assert "c0" not in {suspect.clip.clip_id for suspect in suspects}
    for suspect in suspects:  # named as the manifest has it, not as the teacher has
        assert suspect.label in (suspect.clip.labels or ("noise",))


def test_other_labels_of_the_report_may_say_that_the_teachers_classes_are_absent(corpus: Corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc0,c0.wav,Xus xus_Chi\nc1,c1.wav,Bus bus_Beta;Xus xus_Chi\n")
    clips = softlabels.read_manifest(corpus.manifest)
    for other_labels, expected in {"absent": [[0], [1]], "unknown": [[NAN], [1]]}.items():
        labels = HumanLabels.of(clips, store.index, store.classes, other_labels)
        np.testing.assert_array_equal(labels.hard.rows(np.arange(2), 1), expected)
    page = corpus.folder / "report.html"
    report(store, page, ReportOptions(manifest=corpus.manifest))
    assert "so nothing is known of 2 clips but their other labels: Xus xus_Chi (2 clips)" in page.read_text()
