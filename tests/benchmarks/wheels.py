"""Whether pip finds a wheel of everything that softlabels depends on, so that no compiler is needed: platform x Python.

    python tests/benchmarks/wheels.py [EXTRA ...]

Reads pyproject.toml and, for what these need in turn, the packages as they are installed here; markers are taken for
the platform that is asked about. A package whose wheel here is for any platform has one there. Of the others `pip index
versions --only-binary=:all:` says which there are, and nothing is downloaded. Prints a table (in brackets how many were
asked for), then what is missing. Exits 1 if anything is missing on a platform that README.md promises.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {  # name -> its tags, newest first, and what markers see there
    "Linux x86-64": (["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64"], "linux", "x86_64"),
    "Linux arm64": (["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"], "linux", "aarch64"),
    "Windows x86-64": (["win_amd64"], "win32", "AMD64"),
    "macOS arm64": ([f"macosx_{n}_0_arm64" for n in (15, 14, 13, 12, 11)], "darwin", "arm64"),
    "macOS x86-64": ([f"macosx_{n}_x86_64" for n in ("15_0", "14_0", "13_0", "12_0", "11_0")], "darwin", "x86_64"),
}
WITHOUT = {"macOS x86-64"}  # libraries have stopped making wheels for it, and README.md says so
SYSTEMS = {"linux": ("Linux", "posix"), "win32": ("Windows", "nt"), "darwin": ("Darwin", "posix")}


def requirements(extras: list[str]) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chosen = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    return [Requirement(each) for each in chosen if not each.startswith("softlabels")]


def wanted(requirement: Requirement, platform: str, python: str) -> bool:
    """Whether its marker asks for it there."""
    _, system, machine = PLATFORMS[platform]
    there = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    there |= {"extra": "", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    there |= {"python_full_version": f"{python}.9"}
    there |= dict(zip(("platform_system", "os_name"), SYSTEMS[system], strict=True))
    return requirement.marker is None or requirement.marker.evaluate(there)


def closure(needed: list[Requirement], platform: str, python: str) -> dict[str, Requirement]:
    """name -> what is asked of it, of all that is needed there, as far as it is installed here."""
    found: dict[str, Requirement] = {}
    to_read = [each for each in needed if wanted(each, platform, python)]
    while to_read:
        requirement = to_read.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found[name] = requirement
        try:
            theirs = [Requirement(each) for each in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue  # only there
        to_read += [each for each in theirs if wanted(each, platform, python)]
    return found


def is_for_any(name: str) -> bool:
    """Whether the wheel that is installed here is one for every platform."""
    try:
        text = importlib.metadata.distribution(name).read_text("WHEEL") or ""
    except importlib.metadata.PackageNotFoundError:
        return False
    return "-none-any" in text


def lacks(requirement: Requirement, platform: str, python: str) -> bool:
    """Whether there is no wheel of a version that will do."""
    tags = [part for tag in PLATFORMS[platform][0] for part in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "index", "versions", requirement.name, "--only-binary=:all:", *tags]
    command += ["--python-version", python, "--implementation", "cp", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = done.stdout.partition("Available versions:")[2].partition("\n")[0].split(",")
    versions = [version.strip() for version in listed if version.strip()]
    return not any(requirement.specifier.contains(version) for version in versions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*")
    needed = requirements(parser.parse_args().extras)
    print(f"{'':16}" + "".join(f"{python:>24}" for python in PYTHONS))
    faults, bad = [], False
    for platform in PLATFORMS:
        cells = []
        for python in PYTHONS:
            compiled = [each for name, each in closure(needed, platform, python).items() if not is_for_any(name)]
            missing = [str(each) for each in compiled if lacks(each, platform, python)]
            cells.append(f"all ({len(compiled)})" if not missing else f"not {len(missing)} of {len(compiled)}")
            faults += [f"{platform}, {python}: no wheel of {name}" for name in missing]
            bad |= bool(missing) and platform not in WITHOUT
        print(f"{platform:16}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    print(*faults, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
