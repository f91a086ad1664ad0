"""Training scripts end when they are done: no thread of tf.data waits for an interpreter that is gone."""

from pathlib import Path

import pytest
from conftest import REPOSITORY


@pytest.mark.storms
def test_scripts_end_whatever_tensorflow_is_about_to_ask_of_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "benchmarks")
    import endings

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=":")
    endings.make_store(tmp_path)
    scripts = (
        ("live iterator", "features"),
        ("behind a prefetch", "features"),
        ("attached", "plain"),
        ("recordings left open", "features"),
        ("exception", "plain"),
    )
    ends = {script: endings.ending(tmp_path, *script, patience=60) for script in scripts}
    assert not any(ends.values()), ends
