"""What lies at a path that was named where something else was wanted, so that an error can say it, and what to do."""

import os
import shlex
from pathlib import Path

STORE_FILE = "store.json"
RECORDING, STORE, FOLDER, NOTHING = "a recording", "a store", "a folder", "nothing, there is no such file"
_MARKS = {
    b"RIFF": RECORDING,
    b"RF64": RECORDING,
    b"riff": RECORDING,
    b"FORM": RECORDING,
    b"fLaC": RECORDING,
    b"OggS": RECORDING,
    b"ID3": RECORDING,
    b"caff": RECORDING,
    b".snd": RECORDING,
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "a gzip file: unpack it with `gunzip -k {}`",
    b"\xfd7zXZ": "an xz file: unpack it with `unxz -k {}`",
    b"BZh": "a bzip2 file: unpack it with `bunzip2 -k {}`",
    b"PK\x03\x04": "an Excel workbook or ZIP file: save the table as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the table as CSV UTF-8",
    b"PAR1": "a Parquet file: save the table as CSV UTF-8",
    b"%PDF": "a PDF file: save the table as CSV UTF-8",
}
_MPEG = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9")  # MP3 and AAC without a tag


def what_is_at(path: str | Path) -> str:
    """What a path leads to, in words, with what to do about a file that holds the right thing in the wrong form.

    Example:
      >>> what_is_at("store"), what_is_at("c0.wav"), what_is_at("data_manifest.csv")
      ('a store', 'a recording', 'a text file')
    """
    path = Path(path)
    if path.is_dir():
        return STORE if (path / STORE_FILE).is_file() else FOLDER
    if not path.is_file():
        return "no regular file" if path.exists() else NOTHING
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
        if head[4:8] == b"ftyp" or head.startswith(_MPEG):
            return RECORDING
        for mark, kind in _MARKS.items():
            if head.startswith(mark):
                return kind.format(shlex.quote(str(path)))
        path.read_text(encoding="utf-8")
    except OSError as e:
        return f"an error: {e.strerror}"
    except UnicodeDecodeError as e:
        return f"a file that is not UTF-8 text (byte {e.object[e.start]:#04x} at {e.start:,}): save it as UTF-8"
    return "a text file"


def instead_of_manifest(path: str | Path) -> str:
    """What was named in place of a manifest, and what to type; "" where it may be one."""
    kind, quoted = what_is_at(path), shlex.quote(os.fspath(path))
    folder = shlex.quote(os.path.dirname(path) or ".")
    steps = {
        RECORDING: f"`softlabels run {folder}` labels all recordings of its folder, `softlabels manifest {folder}` "
        "writes a manifest of them to choose from",
        STORE: f"`softlabels run MANIFEST -o {quoted}` goes on with it, `softlabels inspect {quoted}` shows it",
        FOLDER: f"`softlabels manifest {quoted}` writes a manifest of it",
    }
    return f"{kind}; {steps[kind]}" if kind in steps else ""


def instead_of_store(path: str | Path) -> str:
    """The same of a store."""
    kind, path = what_is_at(path), Path(path)
    if (path.parent / STORE_FILE).is_file():
        return f"{kind} in a store; name the store, '{path.parent}'"
    inside = sorted(each.parent for each in path.glob(f"*/{STORE_FILE}")) if kind == FOLDER else []
    if inside:
        return f"{kind} with a store in it; name that, '{inside[0]}'"
    if kind in (NOTHING, STORE):
        return ""
    source = path.parent if kind == RECORDING else path
    return f"{kind}; `softlabels run {shlex.quote(str(source))}` makes a store"
