from pathlib import Path

import pytest

from softlabels import ClassList, ClassListError
from softlabels.classes.finder import ClassFinder, unambiguous

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


def test_two_unicode_forms_are_one_name() -> None:
    assert ClassFinder(ClassList(("Picus viridis_Gr\u00fcnspecht",))).find("gru\u0308nspecht") == (0, "common name")


def test_a_name_whose_halves_are_of_two_classes_contradicts() -> None:
    finder = ClassFinder(TEACHER)
    assert finder.contradicts("Turdus merula_Great Tit", TEACHER[0])
    assert not finder.contradicts("Turdus merula_Amsel", TEACHER[0])
    assert not finder.contradicts("Turdus merula_Eurasian Blackbird", TEACHER[0])


def test_a_key_of_two_positions_finds_neither_and_one_given_twice_by_a_position_does() -> None:
    assert unambiguous([("a", 0), ("b", 0), ("b", 1), ("c", 2), ("c", 2), ("", 3)]) == {"a": 0, "c": 2}
