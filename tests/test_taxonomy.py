"""Names that moved: bridged by tables of names over the years, never where these leave it open."""

import json
from pathlib import Path

import pytest

from pipeline.cli.commands import main
from pipeline.drafts.class_mapping import draft_mapping
from softlabels import ClassList, ClassListError
from softlabels.classes.matching import match_classes
from softlabels.classes.taxonomy import Taxonomy

HEADER = "TAXON_ORDER,CATEGORY,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME"
OLD = {
    "shikra1": ("Shikra", "Accipiter badius"),
    "norgos": ("Northern Goshawk", "Accipiter gentilis"),
    "yelpip1": ("Yellowish Pipit", "Anthus lutescens"),
    "roltyr1": ("Rough-legged Tyrannulet", "Phyllomyias burmeisteri"),
    "rolchi1": ("Chiff", "Mirafra caffra"),
    "redpol1": ("Common Redpoll", "Acanthis flammea"),
    "woolit1": ("Little Woodpecker", "Campethera maculosa"),
}
NEW = {
    "shikra1": ("Shikra", "Tachyspiza badia"),
    "norgos": ("American Goshawk", "Astur atricapillus"),  # the code went to one half of a split
    "eurgos1": ("Eurasian Goshawk", "Astur gentilis"),
    "yelpip1": ("Yellowish Pipit", "Anthus chii"),
    "roltyr1": ("Zeledon's Tyrannulet", "Acrochordopus zeledoni"),
    "roltyr2": ("Rough-legged Tyrannulet", "Acrochordopus burmeisteri"),
    "rolchi1": ("Chaff", "Corypha caffer"),
    "redpol1": ("Redpoll", "Acanthis flammea"),
    "woolit1": ("Green Woodpecker", "Campethera maculosa"),
    "foxkes": ("Fox Kestrel", "Falco alopex"),
}
TEACHER = ClassList(tuple(sci for _, sci in NEW.values()))


def csv_table(folder: Path, names: dict[str, tuple[str, str]], year: int) -> Path:
    path = folder / f"eBird_taxonomy_v{year}.csv"
    rows = [f'{i},species,{code},"{common}",{sci}' for i, (code, (common, sci)) in enumerate(names.items())]
    path.write_text("\ufeff" + "\r\n".join([HEADER, *rows]), encoding="utf-8", newline="")
    return path


def json_table(folder: Path, names: dict[str, tuple[str, str]], year: int) -> Path:
    path = folder / f"ebird_taxonomy_v{year}.json"
    path.write_text(json.dumps({code: {"common_name": a, "sci_name": b} for code, (a, b) in names.items()}))
    return path


def mappings(folder: Path, **pairs: tuple[str, str, dict[str, str]]) -> Path:
    path = folder / "taxonomy_database.json"
    told = {
        name: {"source_namespace": source, "target_namespace": target, "mapped_pairs": named}
        for name, (source, target, named) in pairs.items()
    }
    path.write_text(json.dumps({"class_lists": {}, "namespaces": {}, "mappings": told}))
    return path


def bridged(tables: list[Path], *student: str, teacher: ClassList = TEACHER) -> dict[str, tuple[str, str]]:
    """student class -> (teacher's, by which names), of those that the tables bridge; the others are not found."""
    rows = draft_mapping(ClassList(student), teacher, Taxonomy(tables))
    assert all(row.look for row in rows if row.how == "taxonomy")
    return {row.student_class: (row.teacher_class, row.names) for row in rows if row.how == "taxonomy"}


@pytest.mark.parametrize("table", [csv_table, json_table])
def test_a_name_that_moved_is_found_by_code_or_by_a_common_name_that_stayed(tmp_path: Path, table) -> None:
    old, new = table(tmp_path, OLD, 2021), table(tmp_path, NEW, 2025)
    shikra = "Accipiter badius_Shikra"
    assert bridged([new], shikra) == {shikra: ("Tachyspiza badia", "Shikra (2025) is Tachyspiza badia (2025)")}
    told = "Accipiter badius (2021) is Tachyspiza badia (2025)"
    assert bridged([old, new], shikra, "Accipiter badius_Schikra") == {}  # both are the same
    assert bridged([new, old], "Accipiter badius_Schikra") == {"Accipiter badius_Schikra": ("Tachyspiza badia", told)}
    codes = bridged([new], "shikra1", "Mirafra caffra_Chaff")  # caffra and caffer are one epithet
    assert {name: theirs for name, (theirs, _) in codes.items()} == {
        "shikra1": "Tachyspiza badia",
        "Mirafra caffra_Chaff": "Corypha caffer",
    }
    pipit = "Anthus lutescens_Yellowish Pipit"  # another epithet, and the older table has it
    assert bridged([old, new], pipit)[pipit][0] == "Anthus chii"
    assert bridged([old], "Tachyspiza badia_Shikra", teacher=ClassList(("Accipiter badius",))) == {
        "Tachyspiza badia_Shikra": ("Accipiter badius", "Shikra (2021) is Accipiter badius (2021)")
    }


@pytest.mark.parametrize(
    "name",
    [
        "Accipiter gentilis_Northern Goshawk",  # its code is another species by now
        "Phyllomyias burmeisteri_Rough-legged Tyrannulet",  # its name went to another code
        "Anthus spec_Yellowish Pipit",  # a common name with an epithet that no table knows
        "Acanthis cabaret_Lesser Redpoll",
        "Calendulauda alopex_Foxy Lark",  # without a table: guessed to be a falcon
        "Accipiter badius_Yellowish Pipit",  # two halves of two species
    ],
)
def test_what_the_tables_leave_open_is_not_bridged(tmp_path: Path, name: str) -> None:
    tables = [csv_table(tmp_path, OLD, 2021), csv_table(tmp_path, NEW, 2025)]
    (row,) = draft_mapping(ClassList((name,)), TEACHER, Taxonomy(tables))
    assert (row.teacher_class, row.how, row.look) == ("", "", True)


def test_a_common_name_that_stayed_with_another_epithet_needs_the_older_table(tmp_path: Path) -> None:
    pipit = "Anthus lutescens_Yellowish Pipit"
    assert bridged([csv_table(tmp_path, NEW, 2025)], pipit) == {}


def test_a_class_that_another_is_already_is_not_bridged(tmp_path: Path) -> None:
    tables = [csv_table(tmp_path, OLD, 2021), csv_table(tmp_path, NEW, 2025)]
    assert bridged(tables, "Accipiter badius_Shikra", "Tachyspiza badia") == {}
    assert bridged(tables, "Accipiter badius_Shikra", "Tachyspiza badia_Yellowish Pipit") == {}  # of two for the tables


def test_mappings_of_names_bridge_but_not_what_they_lump(tmp_path: Path) -> None:
    pairs = {"Passer oldus": "Novus oldus", "Rex albus": "Rex flavus", "Rex flavus": "Rex flavus", "Lar lar": "Lar lar"}
    codes = {"parus minor": "japtit1", "lar lar": "lar1", "larus lar": "lar1"}
    path = mappings(
        tmp_path,
        names=("xenocanto_all", "inat2024", pairs),
        old=("ebird2021_clements", "ebird2021_species", codes),
        new=("ebird2025", "inat2025", {"japtit1": "Neoparus minor", "lar1": "Laromis lar"}),
        families=("inat2024", "ebird2022_families", {"Passer oldus": "passeridae", "Rex albus": "passeridae"}),
        orders=("ebird2022_species", "ebird2022_orders", {"japtit1": "passeriformes", "lar1": "passeriformes"}),
    )
    teacher = ClassList(("Novus oldus", "Rex flavus", "Neoparus minor", "Laromis lar", "passeridae"))
    assert bridged([path], "Passer oldus", "Rex albus", "Parus minor_Japanese Tit", "Lar lar", teacher=teacher) == {
        "Passer oldus": ("Novus oldus", "Passer oldus (xenocanto_all) is Novus oldus (inat2024)"),
        "Parus minor_Japanese Tit": (
            "Neoparus minor",
            "parus minor (ebird2021_clements) is Neoparus minor (inat2025)",
        ),
    }


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("t.csv", "code,sci_name\na,b\n", "one column each of code, scientific and common name, .*got code, sci_name"),
        ("t.csv", HEADER + ",COM_NAME\n", "expected one column each"),
        ("t.csv", HEADER + "\n1,species,a\n", "line 2: expected 5 fields, got 3"),
        ("t.csv", HEADER + "\n", "expected names of species, got none"),
        ("t.json", "[1]", "expected code -> sci_name and common_name, or mappings .*got list"),
        ("t.json", '{"a": {"b": 1}}', "expected code -> sci_name .*got 'a'"),
        ("t.json", '{"mappings": {"m": {"pairs": 1}}}', "or mappings with mapped_pairs"),
        ("t.json", '{"a": ["b"]}', "expected code -> sci_name"),
        ("t.json", "nonsense", "expected a JSON file"),
        ("t.json", "{}", "expected names of species, got none"),
    ],
)
def test_a_table_that_is_none_is_a_clear_error(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ClassListError, match=complaint):
        Taxonomy([tmp_path / name])


@pytest.mark.parametrize("name", ["lacks.csv", "lacks.json", "."])
def test_a_table_that_is_not_there_is_a_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClassListError, match=r"taxonomy '.*': expected a .* file"):
        Taxonomy([tmp_path / name])


def test_the_command_marks_what_it_bridges_and_the_join_takes_it(tmp_path: Path, capsys) -> None:
    student, teacher, draft = tmp_path / "mine.csv", tmp_path / "teacher.txt", tmp_path / "mapping.csv"
    student.write_text("latin_one;label\nAccipiter badius_Shikra;x\nFalco alopex;y\n")
    teacher.write_text(TEACHER.to_text())
    tables = [f"--taxonomy={csv_table(tmp_path, names, year)}" for names, year in ((OLD, 2021), (NEW, 2025))]
    command = ["classes", str(student), "--column", "latin_one", "--against", str(teacher), "-o", str(draft), *tables]
    assert main([*command, "--json"]) == 1
    read = capsys.readouterr()
    told = "Accipiter badius (2021) is Tachyspiza badia (2025)"
    assert (json.loads(read.out)["bridged"], json.loads(read.out)["not_found"]) == (1, 0)
    assert json.loads(read.out)["look"][0]["names"] == told
    assert f"by taxonomy: {told}?" in read.err
    assert f"Accipiter badius_Shikra,Tachyspiza badia,taxonomy: {told},look" in draft.read_text()
    match = match_classes(ClassList.from_file(student, column="latin_one"), TEACHER, mapping=draft)
    assert not match.unmatched
