from pathlib import Path

import pytest

from softlabels import ClassList, ClassListError, JoinError
from softlabels.classes import ClassFinder, match_classes

TEACHER = ClassList(
    ("Turdus merula_Eurasian Blackbird", "Parus major_Great Tit", "Strix aluco_Owl", "Bubo bubo_Owl", "Engine_Engine")
)


@pytest.mark.parametrize(
    ("name", "index", "how"),
    [
        ("Turdus merula_Eurasian Blackbird", 0, "exact"),
        ("Turdus merula_Amsel", 0, "scientific name"),
        ("Turdus merula", 0, "scientific name"),
        ("Turdus_merula", 0, "scientific name"),
        ("turdus MERULA", 0, "scientific name"),
        ("Eurasian Blackbird", 0, "common name"),
        ("great_tit", 1, "common name"),
        ("Parus maior_Great Tit", 1, "common name"),
    ],
)
def test_a_class_is_found_by_its_names(name: str, index: int, how: str) -> None:
    assert ClassFinder(TEACHER).find(name) == (index, how)


@pytest.mark.parametrize("name", ["Owl", "Corvus corax", "", "_"])
def test_an_ambiguous_or_unknown_name_is_not_guessed(name: str) -> None:
    assert ClassFinder(TEACHER).find(name) is None


@pytest.mark.parametrize(
    ("names", "complaint"),
    [((), "got: nothing"), (("a", "a"), "'a' is given 2 times"), ((" a",), "stray white space"), (("a\nb",), "stray")],
)
def test_a_malformed_class_list_is_refused(names: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ClassListError, match=complaint):
        ClassList(names)


def test_order_is_identity() -> None:
    assert ClassList(("a", "b")).digest != ClassList(("b", "a")).digest


def test_a_file_may_lack_the_last_newline(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\ufeffa b_c\r\nd e_f")
    assert ClassList.from_file(tmp_path / "c.txt").names == ("a b_c", "d e_f")


def test_a_class_the_teacher_lacks_has_no_column() -> None:
    match = match_classes(ClassList(("Great Tit", "Corvus corax", "Turdus merula")), TEACHER)
    assert match.columns.tolist() == [1, -1, 0]
    assert match.unmatched == ("Corvus corax",)
    assert match.how == {"common name": 1, "scientific name": 1}


def test_two_student_classes_for_one_of_the_teacher_are_refused() -> None:
    with pytest.raises(JoinError, match="'Parus major' and 'Great Tit' are both 'Parus major_Great Tit'"):
        match_classes(ClassList(("Parus major", "Great Tit")), TEACHER)


def test_a_list_the_teacher_hardly_knows_is_refused() -> None:
    with pytest.raises(JoinError, match="only 1 of the 3 classes"):
        match_classes(ClassList(("Great Tit", "x", "y")), TEACHER)
