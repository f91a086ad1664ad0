"""Class lists as they are published: one name a line as ever, tables by their columns, years that are stated."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.teachers.description import described
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice
from softlabels import ClassList, ClassListError, TeacherError
from softlabels.classes.list_file import read_list
from softlabels.records.spec import LabelSpec
from softlabels.windows import WindowSpec

PLAIN = ("Aus a_Alpha", "Bus b_Beta")


def list_file(folder: Path, text: str, name: str = "classes.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "Aus a_Alpha\nBus b_Beta\n",
        "\ufeffAus a_Alpha\r\n\r\nBus b_Beta",
        "Speech, male\nname; of a dog\nDoor_Door\n",
        "label\nAus a\n",  # may be a class
        "name\n1,2\n",
        'Aus "a"\nBus, b, c\n',
    ],
)
def test_one_name_a_line_is_read_as_ever(tmp_path: Path, text: str) -> None:
    for name in ("classes.txt", "classes.csv"):
        classes = ClassList.from_file(list_file(tmp_path, text, name))
        assert classes.names == ClassList.from_text(text).names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sci_name,com_name\nAus a,Alpha\nBus b,Beta\n", PLAIN),
        ("\ufeffidx;id;sci_name;com_name;class\n0;3;Aus a;Alpha;Aves\n1;5;Bus b;Beta;Aves\n", PLAIN),
        ("COMMON NAME\tScientific Name\r\nAlpha\tAus a\r\nBeta\tBus b\r\n", PLAIN),
        ('SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\naus1,"Alpha","Aus a"\nbus1,Beta,Bus b\n', PLAIN),
        ('index,mid,display_name\n0,/m/1,"Speech, male"\n1,/m/2,Dog\n', ("Speech, male", "Dog")),
        ("ebird_code,family\naus1,Xidae\nbus1,Xidae\n", ("aus1", "bus1")),
        ("scientific_name,family\nAus a,Xidae\nBus b,Xidae\n", ("Aus a", "Bus b")),
        ("scientific_name\nAus a\nBus b\n", ("Aus a", "Bus b")),
    ],
)
def test_a_table_is_read_by_its_columns(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    for name in ("classes.csv", "classes.txt"):
        assert ClassList.from_file(list_file(tmp_path, text, name)).names == names


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sci_name,scientific_name\nAus a,Bus a\n", "got 2: sci_name, scientific_name in .*--labels-column NAME"),
        ("label;class;x\na;b;c\n", "got 2: label, class in .*from_file.FILE, column=NAME"),
        ("latin_one,family\nAus a,Xidae\n", "got none in the columns latin_one, family"),
        ("Aus a,Alpha\nBus b,Beta\n", "got none in the columns Aus a, Alpha"),
        ("sci_name,com_name\nAus a,\nBus b,Beta\n", "a scientific and a common name in every row, row 0"),
        ("sci_name,com_name\nAus a\nBus b,Beta\n", "line 2: expected 2 fields, got 1"),
        ("idx,name\n1,a\n3,b\n", "expected idx 2 in row 1, got '3'"),
        ("sci_name,sci_name\nAus a,Bus b\n", "got 2: sci_name, sci_name"),
        ("sci_name,com_name\n", "expected rows"),
    ],
)
def test_a_table_that_does_not_say_its_column_is_refused_with_its_columns(tmp_path, text: str, complaint: str) -> None:
    with pytest.raises(ClassListError, match=complaint):
        ClassList.from_file(list_file(tmp_path, text))


def test_a_column_may_be_named(tmp_path: Path) -> None:
    path = list_file(tmp_path, "label,latin_one,x\nb,Aus a,1\na,Bus b,2\n")
    assert ClassList.from_file(path, column="latin_one").names == ("Aus a", "Bus b")
    assert ClassList.from_file(path).names == ("b", "a")
    with pytest.raises(ClassListError, match="'genus' once, got the columns label, latin_one, x"):
        ClassList.from_file(path, column="genus")
    one = list_file(tmp_path, "birds of 2020\nAus a\n")
    assert ClassList.from_file(one, column="birds of 2020").names == ("Aus a",)
    with pytest.raises(ClassListError, match="expected a column 'x', got one name a line"):
        ClassList.from_file(one, column="x")


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("ebird2021,family\naus1,x\n", 0),  # no column of names; see below
        ("sci_name,ebird_2021\nAus a,aus1\n", 2021),
        ("sci_name,taxonomy_year\nAus a,2023\nBus b,2023\n", 2023),
        ("sci_name,taxonomy_year\nAus a,2023\nBus b,2024\n", 0),
        ("sci_name,eBird v2021,clements2022\nAus a,x,y\n", 0),
        ("sci_name,found_2019\nAus a,x\n", 0),
        ("Aus a\nebird2021\n", 0),
    ],
)
def test_the_year_of_a_taxonomy_is_kept_where_it_is_stated(tmp_path: Path, text: str, year: int) -> None:
    path = list_file(tmp_path, text, "classes.txt")
    assert read_list(path).taxonomy_year == year
    if text.startswith("ebird2021"):
        assert read_list(path, column="ebird2021").taxonomy_year == 2021


def test_a_teacher_takes_the_column_that_its_user_names_and_keeps_the_year(tmp_path: Path) -> None:
    path = list_file(tmp_path, "label,ebird2022,x\nb,Aus a ,1\na,Bus b,2\n")
    choice = TeacherChoice(
        kind="onnx", model="m.onnx", labels=str(path), rate_hz=8, activation="sigmoid", outputs="logits"
    )
    named = described(dataclasses.replace(choice, labels_column="ebird2022"))
    assert (named.classes.names, named.taxonomy_year) == (("Aus a", "Bus b"), 2022)
    assert named.notice == "Its class list: 1 name without the blanks at its ends."
    assert described(choice).classes.names == ("b", "a")
    with pytest.raises(TeacherError, match=r"labels: class list .* expected rows, and the column 'y' once"):
        described(dataclasses.replace(choice, labels_column="y"))
    with pytest.raises(TeacherError, match="sets labels_column itself: leave out --labels-column"):
        load_teacher(TeacherChoice(kind="birdnet", labels_column="y"))


def test_a_year_is_in_the_fingerprint_only_where_one_is_stated(spec: LabelSpec) -> None:
    assert "taxonomy_year" not in spec.to_json()
    stated = dataclasses.replace(spec, taxonomy_year=2025)
    assert stated.fingerprint() != spec.fingerprint()
    assert LabelSpec.from_json(stated.to_json()) == stated


@pytest.fixture
def spec() -> LabelSpec:
    window = WindowSpec(rate_hz=8, window_samples=8, hop_samples=8)
    digests = {"teacher_digest": "0" * 64, "class_digest": "0" * 64}
    return LabelSpec(teacher="t", **digests, activation="sigmoid", window=window, shard_windows=8)


def test_blanks_at_the_ends_of_names_are_told(tmp_path: Path, caplog) -> None:
    classes = ClassList.from_file(list_file(tmp_path, "Aus a \n\tBus b\nCus c\r\n"))
    assert classes.names == ("Aus a", "Bus b", "Cus c")
    assert "2 names without the blanks at their ends" in caplog.text
