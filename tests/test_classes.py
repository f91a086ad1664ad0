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
        ("turdus merula_EURASIAN blackbird", 0, "scientific name"),
        ("Turdus merula_", 0, "scientific name"),
        ("_Great Tit", 1, "common name"),
        ("strix aluco_owl", 2, "scientific name"),
        ("Cyanistes maior_Great Tit", None, ""),
        ("Cyanistes major_Great Tit", 1, "common name"),  # the genus moved
    ],
)
def test_a_class_is_found_by_its_names(name: str, index: int | None, how: str) -> None:
    assert ClassFinder(TEACHER).find(name) == (None if index is None else (index, how))


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


@pytest.mark.parametrize(
    "name",
    [
        "Turdus merula_Great Tit",
        "Turdus merula_Parus major",
        "Turdus merula_Owl",
        "Parus maior_Great Tit",  # a slip, or another species: nobody can say
        "Turdus philomelos_Eurasian Blackbird",
        "Turdus merula_Song Thrush",
        "Turdus merula_Eurasian Blackbird,Parus major_Great Tit",
        "Turdus merula_Eurasian Blackbird + Parus major_Great Tit",
        "-Turdus merula_Eurasian Blackbird",
        "not Turdus merula_Eurasian Blackbird",
        "Turdus merula_not Eurasian Blackbird",
        "Turdus merula_Amsel?",
        "Turdus merula_Amsel_song",
        "cf. Turdus merula",
        "Turdus merula azorensis",
        "Great Tit (song)",
        "Great Tit|Eurasian Blackbird",
        "Turdus merula/Parus major",
    ],
)
def test_half_a_name_is_never_taken_for_the_whole(name: str) -> None:
    finder = ClassFinder(TEACHER, known=["Turdus philomelos_Song Thrush"])
    assert finder.find(name) is None
    assert finder.doubt(name)


@pytest.mark.parametrize("name", ["Turdus merula_Amsel", "Engine_Motor", "Corvus corax_Raven", "Blue Tit", "dog_growl"])
def test_a_name_that_is_found_or_has_nothing_of_a_class_is_not_doubted(name: str) -> None:
    assert ClassFinder(ClassList((*TEACHER, "dog_bark"))).doubt(name) == ""


def test_a_half_of_a_name_that_is_no_species_is_nothing() -> None:
    assert ClassFinder(ClassList(("dog_bark", "cat_meow"))).find("dog_growl") is None
    assert ClassFinder(ClassList(("dog_bark", "cat_meow"))).find("cat_bark") is None


def test_a_class_is_found_by_the_teachers_name_for_its_species() -> None:
    finder = ClassFinder(ClassList(("Turdus merula_Amsel",)), known=TEACHER)
    assert finder.find("Turdus merula_Eurasian Blackbird") == (0, "scientific name")
    assert finder.find("Turdus merula_Great Tit") is None


def test_a_key_of_two_positions_finds_neither_and_one_given_twice_by_a_position_does() -> None:
    assert unambiguous([("a", 0), ("b", 0), ("b", 1), ("c", 2), ("c", 2), ("", 3)]) == {"a": 0, "c": 2}
