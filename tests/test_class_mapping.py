"""One class list found in another: by name, by mapping file, pooled, and drafted for a person to edit."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.drafts.class_mapping import draft_mapping, write_draft
from softlabels import ClassList, ClassListError, Clip, JoinError
from softlabels.classes.matching import ClassMatch, match_classes
from softlabels.corpus.label_names import find_labels

TEACHER = ClassList(
    (
        "Turdus merula_Eurasian Blackbird",
        "Parus major_Great Tit",
        "Strix aluco_Owl",
        "Bubo bubo_Owl",
        "Cyanistes caeruleus_Eurasian Blue Tit",
        "Cardinalis cardinalis_Northern Cardinal",
        "Engine_Engine",
    )
)


def mapping_file(folder: Path, *rows: str, header: str = "student_class,teacher_class") -> Path:
    path = folder / "mapping.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def made_of(match: ClassMatch) -> list[list[int]]:
    """The teacher's classes of each student class."""
    return [part.tolist() for part in np.split(match.teacher_classes, match.offsets[1:-1])]


def match(*student: str, **options: object) -> ClassMatch:
    return match_classes(ClassList(student), TEACHER, **{"min_coverage": 0, **options})


def test_names_are_found_exactly_then_by_scientific_then_by_common_name_and_a_lacking_class_is_made_of_nothing() -> (
    None
):
    found = match("Great Tit", "Corvus corax", "Turdus merula", "Engine_Engine")
    assert made_of(found) == [[1], [], [0], [6]]
    assert found.how == ("common name", "", "scientific name", "exact")
    assert Counter(found.how) == {"common name": 1, "scientific name": 1, "exact": 1, "": 1}
    assert found.unmatched == ("Corvus corax",)


def test_the_mapping_file_has_the_last_word_and_may_make_one_class_of_several(tmp_path: Path) -> None:
    path = mapping_file(
        tmp_path,
        "any owl,Bubo bubo_Owl,guess,look",
        "Great Tit,Turdus merula_Eurasian Blackbird,,",
        "",
        "any owl,Strix aluco_Owl,,",
        "Engine_Engine,,,",
        header="\ufeffstudent_class, teacher_class,how,look",
    )
    found = match("Engine_Engine", "any owl", "Great Tit", "Eurasian Blue Tit", mapping=path)
    assert made_of(found) == [[], [3, 2], [0], [4]]
    assert found.how == ("", "mapping", "mapping", "common name")
    assert found.unmatched == ("Engine_Engine",)
    assert found.notes == (
        "classes that the mapping file makes of several of the teacher's: 1 of 2",
        "classes that the mapping file says the teacher lacks: 1",
    )


def test_all_faults_of_a_mapping_file_are_told_together_with_their_lines(tmp_path: Path) -> None:
    path = mapping_file(
        tmp_path,
        "nobody,Strix aluco_Owl",
        "owl,Owl",
        "owl,Bubo bubo_Owl",
        "owl,Bubo bubo_Owl",
        "tit,Bubo bubo_Owl",
        "owl,",
        "tit,Engine_Engine",
    )
    with pytest.raises(ClassListError) as caught:
        match("owl", "tit", "Engine", mapping=path)
    assert str(caught.value).splitlines() == [
        f"class mapping '{path}': 6 faults; correct and join again:",
        "  line 2: student_class 'nobody' is not in the student's list of 3",
        "  line 3: teacher_class 'Owl' is not in the teacher's list of 7",
        "  line 5: same pair as line 4: 'owl', 'Bubo bubo_Owl'",
        "  line 7: 'owl' is made of a teacher class and of none, see line 3",
        "  'owl' (line 4) and 'tit' (line 6) are both 'Bubo bubo_Owl' for the teacher; keep one, or leave the "
        "teacher_class of one empty in a mapping file",
        "  'tit' (line 8) and 'Engine' (found by scientific name) are both 'Engine_Engine' for the teacher; keep one, "
        "or leave the teacher_class of one empty in a mapping file",
    ]


def test_ten_faults_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, *(f"x{i},Strix aluco_Owl" for i in range(12)))
    with pytest.raises(ClassListError, match=r"(?s)12 faults.*line 11: .*\n  \.\.\. and 2 more$") as caught:
        match("dog", mapping=path)
    assert "line 12" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"student,teacher\na,b\n", "expected the columns student_class, teacher_class .* got student, teacher"),
        (b"student_class;teacher_class\na;b\n", "separated by commas, got student_class;teacher_class"),
        (b"", "got an empty file"),
        (b"student_class,teacher_class,student_class\n", "each once"),
        (b"student_class,teacher_class\na\n", "line 2: expected 2 fields, got 1"),
        (b"student_class,teacher_class\n\xff,b\n", "expected a UTF-8 CSV file"),
        (b'student_class,teacher_class\n"a,b\n', "expected a UTF-8 CSV file"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ClassListError, match=complaint):
        match("a", mapping=tmp_path / "m.csv")


def test_a_mapping_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClassListError, match="No such file"):
        match("a", mapping=tmp_path / "m.csv")


def test_two_student_classes_for_one_of_the_teacher_are_refused() -> None:
    with pytest.raises(ClassListError, match="'Parus major' .* and 'Great Tit' .* are both 'Parus major_Great Tit'"):
        match("Parus major", "Great Tit")


def test_a_list_the_teacher_hardly_knows_is_refused() -> None:
    with pytest.raises(JoinError, match="only 1 of the 3 classes, expected at least 50%.*lacks 'x', 'y'"):
        match("Great Tit", "x", "y", min_coverage=0.5)
    assert match("Great Tit", "x", min_coverage=0.5).unmatched == ("x",)
    with pytest.raises(JoinError, match="at least 100%.*softlabels classes LIST.*underscores for spaces: 1"):
        match("Great Tit", "a_b_c", min_coverage=1)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_min_coverage_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="min_coverage: expected a share from 0 to 1"):
        match("Great Tit", min_coverage=share)


@pytest.mark.parametrize(
    ("student", "notes"),
    [
        (TEACHER.names, []),
        (("Turdus_merula", "great tit"), []),
        (TEACHER.names[::-1], ["in another order"]),
        (("Turdus merula_Amsel", "Parus major_Kohlmeise"), ["2 classes were found by scientific name only.*'Turdus"]),
        (("Engine_Engine", "Turdus merula", "Bubo bubo_Owl"), []),  # a subset has an order of its own
        (("Parus caeruleus_Eurasian Blue Tit",), ["1 class was found by common name only.*'Parus caeruleus_Eurasian"]),
        (("Parus_ater_Coal_Tit",), ["not found and written with underscores for spaces: 1, such as 'Parus_ater"]),
    ],
)
def test_a_shuffled_renamed_translated_or_mixed_up_list_is_reported_as_such(student, notes) -> None:
    found = match(*student).notes
    assert len(found) == len(notes)
    for note, expected in zip(found, notes, strict=True):
        assert re.search(expected, note)


@pytest.mark.parametrize("name", ["Turdus merula_Great Tit", "Parus maior_Great Tit", "Strix aluco_Owl,Bubo bubo_Owl"])
def test_a_class_that_is_the_teachers_by_one_half_only_is_refused_until_a_mapping_file_says_which(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ClassListError, match=rf"class 1, '{name}': .*, and the other half is not; `softlabels classes"):
        match("Engine_Engine", name)
    path = mapping_file(tmp_path, f'"{name}",')
    assert match("Engine_Engine", name, mapping=path).how == ("exact", "")


def pooled_slowly(found: ClassMatch, probabilities: np.ndarray, activation: str) -> np.ndarray:
    rows = [
        [
            (max if activation == "sigmoid" else sum)(row[part].astype(float)) if len(part) else np.nan
            for part in np.split(found.teacher_classes, found.offsets[1:-1])
        ]
        for row in probabilities
    ]
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Parus_major_Great_Tit", "it holds 'Parus major_Great Tit' and more"),
        ("Great Tit (Parus major)", "it holds 'Parus major_Great Tit' and more"),
        ("Parus major - Kohlmeise", "it holds 'Parus major_Great Tit' and more"),
        ("Parus_major_Kohlmeise", "it holds 'Parus major_Great Tit' and more"),
        ("Turdus merula & Parus major", "it holds 'Turdus merula_Eurasian Blackbird' and more"),
        ("owl", "it is a name of 'Bubo bubo_Owl' and of 'Strix aluco_Owl'"),
    ],
)
def test_a_class_is_doubted_as_a_label_is_and_a_mapping_file_decides(tmp_path: Path, name: str, why: str) -> None:
    """They were classes that the teacher lacks, with a NaN for each of its windows."""
    with pytest.raises(ClassListError, match=re.escape(f"class 1, '{name}': {why}; `softlabels classes LIST` drafts")):
        match("Eurasian Blue Tit", name)
    clips = [Clip(clip_id="y", path="y.wav", labels=(name,))]
    with pytest.raises(JoinError, match=re.escape(why)):
        find_labels(clips, TEACHER, "m.csv", other_labels="absent")
    path = mapping_file(tmp_path, f'"{name}",')
    assert match("Eurasian Blue Tit", name, mapping=path).how == ("common name", "")


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("several", [False, True])
def test_pooling_sums_or_maximises_and_says_nothing_of_lacking_classes(tmp_path, activation, several) -> None:
    rows = ["x,Bubo bubo_Owl", *["x,Turdus merula_Eurasian Blackbird", "x,Engine_Engine"] * several]
    found = match("a", "Great Tit", "x", "b", mapping=mapping_file(tmp_path, *rows))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), 5).astype(np.float32)
    probabilities[4] = np.nan  # a window without a label
    pooled = found.pool(probabilities, activation)
    assert (pooled.dtype, pooled.shape) == (np.float32, (5, 4))
    np.testing.assert_allclose(pooled, pooled_slowly(found, probabilities, activation), rtol=1e-6)
    assert np.isnan(pooled[:, [0, 3]]).all()


def test_a_sum_is_never_above_one_by_rounding_and_no_softmax_is_an_error(tmp_path: Path) -> None:
    found = match("x", mapping=mapping_file(tmp_path, "x,Bubo bubo_Owl", "x,Strix aluco_Owl"))
    probabilities = np.zeros((1, 7), np.float32)
    probabilities[0, 2:4] = 0.502
    assert found.pool(probabilities, "softmax").tolist() == [[1.0]]
    assert found.pool(2 * probabilities - 0.1, "sigmoid")[0, 0] == pytest.approx(0.904)
    probabilities[0, 2:4] = 0.8
    with pytest.raises(JoinError, match="sum to 1.6, expected at most 1 of a softmax teacher"):
        found.pool(probabilities, "softmax")


@pytest.mark.parametrize("shape", [(2, 1), (2, 8), (7,)])
def test_probabilities_of_another_width_are_never_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(rows, 7\)"):
        match("Great Tit").pool(np.zeros(shape, np.float32), "sigmoid")


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'sigmoid' or 'softmax', got 'relu'"):
        match("Great Tit").pool(np.zeros((1, 7), np.float32), "relu")


@pytest.mark.parametrize(
    ("name", "position", "how", "look"),
    [
        ("Parus major_Great Tit", 1, "exact", False),
        ("Parus major_Kohlmeise", 1, "scientific name", False),
        ("Parus caeruleus_Eurasian Blue Tit", 4, "common name", True),
        ("norcar_Northern Cardinal", 5, "common words", True),
        ("Parus_major_Great_Tit", 1, "spelling", True),
        ("Great Tit_Parus major", 1, "spelling", True),
        ("parus-major, great tit", 1, "spelling", True),
        ("Parus_major_Kohlmeise", 1, "scientific words", True),
        ("Pinus_maior_Great_Tit", 1, "common words", True),
        ("Pinus maior x_Great-Tit", 1, "common words", True),
        ("Gréat-Ti't", 1, "common words", True),
        ("Párus_major_x", 1, "scientific words", True),
        ("x_norcar", 5, "code", True),
        ("Parus_caerulea", 4, "epithet", True),
        ("norcar", 5, "code", True),
        ("norcar1_Rotkardinal", 5, "code", True),
        ("eubtit", 4, "code", True),
        ("Parus caerulea", 4, "epithet", True),
        ("Parus caeruleum_Blaumeise", 4, "epithet", True),
        ("Turdus merula_Great Tit", 0, "scientific words", True),
        ("Owl", None, "", True),
        ("norxxx", None, "", True),
        ("Corvus corax", None, "", True),
    ],
)
def test_a_draft_guesses_more_than_the_join_and_marks_it_for_a_look(name, position, how, look) -> None:
    [row] = draft_mapping(ClassList((name,)), TEACHER)
    assert (row.teacher_class, row.how, row.look) == ("" if position is None else TEACHER[position], how, look)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("mallar3", "Mallard"),
        ("gretit1", "Great Tit"),
        ("allgal1", "Allen's Gallinule"),
        ("rethaw", "Red-tailed Hawk"),
        ("bkcchi", "Black-capped Chickadee"),
        ("bcnher", "Black-crowned Night-Heron"),
        ("soioys1", "South Island Oystercatcher"),
    ],
)
def test_a_code_is_made_of_the_letters_of_the_common_name(code: str, name: str) -> None:
    [row] = draft_mapping(ClassList((code,)), ClassList((f"Aus aus_{name}", "Bus bus_Other Bird")))
    assert (row.teacher_class, row.how) == (f"Aus aus_{name}", "code")


def test_a_code_or_epithet_of_two_classes_is_not_guessed() -> None:
    teacher = ClassList(("A montanus_Gray Shrike", "B montana_Grand Shrike"))
    rows = draft_mapping(ClassList(("grashr", "grynot", "C montanus")), teacher)
    assert [row.teacher_class for row in rows] == ["", "", ""]
    [row] = draft_mapping(ClassList(("gryshr",)), teacher)
    assert row.teacher_class == teacher[0]


def test_a_guess_never_takes_a_class_that_another_has_and_two_equal_guesses_are_none() -> None:
    taken = draft_mapping(ClassList(("Great Tit", "Parus_major_Great_Tit")), TEACHER)
    assert [(row.teacher_class, row.look) for row in taken] == [(TEACHER[1], False), ("", True)]
    equal = draft_mapping(ClassList(("norcar", "norcar1")), TEACHER)
    assert [row.teacher_class for row in equal] == ["", ""]
    both = draft_mapping(ClassList(("Great Tit", "Parus major")), TEACHER)
    assert [(row.teacher_class, row.look) for row in both] == [(TEACHER[1], True)] * 2


def test_a_draft_is_a_mapping_file_and_is_never_overwritten(tmp_path: Path) -> None:
    student = ClassList(("norcar", 'Odd "name", with a comma', "Great Tit"))
    write_draft(draft_mapping(student, TEACHER), tmp_path / "m.csv")
    rows = list(csv.reader((tmp_path / "m.csv").read_text().splitlines()))
    assert rows == [
        ["student_class", "teacher_class", "how", "look"],
        ["norcar", TEACHER[5], "code", "look"],
        ['Odd "name", with a comma', "", "", "look"],
        ["Great Tit", TEACHER[1], "common name", ""],
    ]
    found = match_classes(student, TEACHER, mapping=tmp_path / "m.csv")
    assert (made_of(found), found.how) == ([[5], [], [1]], ("mapping", "", "mapping"))
    with pytest.raises(ClassListError, match="is there already, and may have your corrections: name another"):
        write_draft([], tmp_path / "m.csv")
