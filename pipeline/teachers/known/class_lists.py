"""How the class lists of known models are read; the one reader of such files is `softlabels.classes.list_file`."""

from pathlib import Path

from softlabels.classes.list_file import ListFile, joined, read_list
from softlabels.errors import ClassListError
from softlabels.tables import open_table


def sheet_names(path: Path) -> ListFile:
    """`Scientific name_Common name` of a table with the columns sci_name and com_name, or of one name a line.

    Raises: ClassListError: see `read_list`.
    """
    return read_list(path, needs=("sci_name", "com_name"))


def listed_names(path: Path) -> ListFile:
    """One name a line, after a heading if the first line is one: a single lower-case word.

    Raises: ClassListError: it cannot be read.
    """
    return read_list(path, heading=True)


def coded_names(path: Path) -> ListFile:
    """`Scientific name_Common name` of eBird codes, one a line, by the table `ebird_taxonomy.csv` in the same folder.

    Raises: ClassListError: one of both cannot be read, or the table lacks a code or a column.
    """
    taxonomy, codes = path.parent / "ebird_taxonomy.csv", read_list(path).names
    with open_table(taxonomy, "table of codes", ClassListError) as table:
        rows = {row.get("code"): row for _, row in table}
    unknown = [code for code in codes if not (rows.get(code) or {}).get("sci_name") or not rows[code].get("name")]
    if unknown:
        raise ClassListError(
            f"class list '{path}': expected eBird codes with a code, name and sci_name in '{taxonomy}', which lacks "
            f"{len(unknown)} of {len(codes)}, such as {unknown[0][:50]!r}"
        )
    return joined(str(path), [(rows[code]["sci_name"], rows[code]["name"]) for code in codes])
