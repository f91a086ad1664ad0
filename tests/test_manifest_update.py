"""A corpus that grows: `softlabels manifest DIR --update` adds, drops and moves rows, and leaves what people wrote."""

import hashlib
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from test_writers import STAND_IN, files_of_at_most

import softlabels
from pipeline.cli.commands import main
from pipeline.drafts.split import split_clips
from softlabels import Clip, read_manifest

MANIFEST = Path("data_manifest.csv")


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows() -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in read_manifest(MANIFEST)}


EDITED = (
    "\ufeffclip_id,site,path,label,split,start_s,end_s,notes\r\n"
    'two, S1,rec/A/1.wav,"B;?C",train,0,0.5,"said ""so""\n'
    'and more"\r\n'
    "two b, S1,./rec//A/1.wav, A ,train,0.5,1,\r\n"
    "\r\n"
    "=1,S2,rec/A/gone.wav,noise,test,,,'=x\r\n"
    "far,S3,elsewhere/x.wav,A,test,,,\r\n"
    "url,S3,https://a.b/c.wav,A,test,,,\r\n"
    "hidden,,rec/.old/y.wav,A,,,,"
)


def test_an_update_leaves_every_byte_that_a_person_wrote(capsys) -> None:
    """Stretches, blanks, quotes, lines in cells, an order and columns of one's own; files elsewhere, hidden or URLs."""
    touch("rec/A/1.wav", "rec/A/2.wav", "rec/.old/y.wav", "elsewhere/z.wav")
    MANIFEST.write_bytes(EDITED.encode())
    assert main(["manifest", "rec", "--update"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "added    1\ndropped  1\nmoved    0\nkept     5\nwritten  data_manifest.csv\n"
    assert "added: A/2.wav\ndropped: =1\n" in printed.err
    left = EDITED.replace("=1,S2,rec/A/gone.wav,noise,test,,,'=x\r\n", "") + "\r\n"
    assert MANIFEST.read_bytes() == f"{left}A/2.wav,,rec/A/2.wav,A,train,,,\r\n".encode()


def test_an_update_of_what_nobody_touched_is_a_manifest_made_anew_and_a_second_one_does_nothing(capsys) -> None:
    touch("rec/B/2.wav", "rec/A/1.wav", "rec/gone/x.wav")
    assert main(["manifest", "rec"]) == 0
    touch("rec/A/0.wav", "rec/B/3.wav", "rec/=C/x.wav", "rec/top.wav")
    Path("rec/gone/x.wav").unlink()
    capsys.readouterr()
    for added, dropped, kept in [(4, 1, 2), (0, 0, 6)]:
        assert main(["manifest", "rec", "--update"]) == 0
        assert f"added    {added}\ndropped  {dropped}\nmoved    0\nkept     {kept}\n" in capsys.readouterr().out
    assert main(["manifest", "rec", "-o", "new.csv"]) == 0
    assert MANIFEST.read_bytes() == Path("new.csv").read_bytes()
    before = MANIFEST.stat().st_mtime_ns
    assert main(["manifest", "rec", "--update"]) == 0
    assert MANIFEST.stat().st_mtime_ns == before


def test_a_dry_run_says_what_an_update_would_do_and_a_full_disk_leaves_the_old_manifest(capsys) -> None:
    touch("rec/A/1.wav")
    assert main(["manifest", "rec", "--dry-run"]) == 0
    assert not MANIFEST.exists()
    assert main(["manifest", "rec", "--update"]) == 0  # none is there yet: it is made
    before = MANIFEST.read_bytes()
    touch("rec/A/2.wav", "rec/B/3.wav")
    capsys.readouterr()
    assert main(["manifest", "rec", "--update", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("added        2\n")
    assert printed.out.endswith("not_written  data_manifest.csv\n")
    assert "next: the same without --dry-run" in printed.err
    with files_of_at_most(10):
        assert main(["manifest", "rec", "--update"]) == 3
    assert MANIFEST.read_bytes() == before
    assert {path.name for path in Path().iterdir()} == {"rec", "data_manifest.csv"}


@pytest.mark.parametrize("output", ["data_manifest.csv", "my lists.csv"])
def test_a_manifest_that_is_there_is_never_to_be_deleted(capsys, output: str) -> None:
    touch("rec/A/1.wav")
    assert main(["manifest", "rec", "-o", output]) == 0
    assert main(["manifest", "rec", "-o", output]) == 2
    error = capsys.readouterr().err
    named = {"data_manifest.csv": "", "my lists.csv": " -o 'my lists.csv'"}[output]
    assert f"`softlabels manifest rec{named} --update` adds new files to it" in error
    assert "delete" not in error
    if output == "data_manifest.csv":
        touch("rec/A/2.wav")
        assert main(["run", "rec", *STAND_IN]) == 2
        error = capsys.readouterr().err
        assert "`softlabels manifest rec --update` adds new files to it and keeps what you corrected" in error
        assert "delete" not in error


@pytest.mark.parametrize(
    "how", ["another folder", "a renamed folder", "an empty disk", "a faulty row", "no manifest at all"]
)
def test_what_cannot_be_updated_is_refused_and_stays(capsys, how: str) -> None:
    touch("rec/A/1.wav", "rec/A/2.wav")
    assert main(["manifest", "rec"]) == 0
    text = MANIFEST.read_text()
    if how == "another folder":
        shutil.move("rec", "old")
        touch("rec/A/7.wav")
        shutil.rmtree("old")
    elif how == "a renamed folder":
        shutil.move("rec", "rec2")
        shutil.move("rec2", "rec/new")
    elif how == "an empty disk":
        for path in Path("rec/A").iterdir():
            path.unlink()
    else:
        MANIFEST.write_text({"a faulty row": f"{text}x,/y.wav,\n", "no manifest at all": "a;b\n"}[how])
    before, complaint = (
        MANIFEST.read_bytes(),
        {
            "another folder": "none of its 2 clips has its file below",
            "a renamed folder": "such as 'rec/A/1.wav': is this the folder it was made of, and its disk there?",
            "an empty disk": "no audio in it",
            "a faulty row": "line 4: clip_id 'x': path '/y.wav' leaves",
            "no manifest at all": "column 'clip_id' is missing",
        },
    )
    assert main(["manifest", "rec", "--update"]) == 2
    assert complaint[how] in capsys.readouterr().err
    assert MANIFEST.read_bytes() == before


def test_a_clip_id_that_another_folder_has_becomes_a_path() -> None:
    touch("a/X/1.wav", "b/X/1.wav")
    assert main(["manifest", "a"]) == 0
    assert main(["manifest", "b", "--update"]) == 0
    assert {clip_id: clip.path for clip_id, clip in rows().items()} == {
        "X/1.wav": "a/X/1.wav",
        "b/X/1.wav": "b/X/1.wav",
    }


# --- files that moved


def test_a_moved_file_keeps_its_row_where_its_digest_is_known(capsys) -> None:
    touch("rec/A/1.wav", "rec/A/2.wav", "rec/B/3.wav")
    assert main(["manifest", "rec", "--sha256", "--split", "train=0.5,test=0.5"]) == 0
    edited = MANIFEST.read_text().replace(",A,", ",A;B,")
    MANIFEST.write_text(edited)
    shutil.move("rec/A", "rec/Aus aus_Alpha")
    Path("rec/B/4.wav").write_bytes(b"new")
    capsys.readouterr()
    assert main(["manifest", "rec", "--update"]) == 0
    assert capsys.readouterr().out.startswith("added    1\ndropped  0\nmoved    2\nkept     1\n")
    found = rows()
    new = found.pop("B/4.wav")
    assert new.sha256 == hashlib.sha256(b"new").hexdigest()
    assert new.split in ("train", "test")
    assert {clip.path for clip in found.values()} == {
        "rec/Aus aus_Alpha/1.wav",
        "rec/Aus aus_Alpha/2.wav",
        "rec/B/3.wav",
    }
    assert [line for line in MANIFEST.read_text().splitlines() if "4.wav" not in line] == edited.replace(
        "rec/A/", "rec/Aus aus_Alpha/"
    ).splitlines()


def test_a_folder_that_was_renamed_in_full_is_moved_too() -> None:
    touch("rec/A/1.wav", "rec/B/2.wav")
    assert main(["manifest", "rec", "--sha256"]) == 0
    shutil.move("rec", "recordings")
    assert main(["manifest", "recordings", "--update"]) == 0
    assert {clip_id: clip.path for clip_id, clip in rows().items()} == {
        "A/1.wav": "recordings/A/1.wav",
        "B/2.wav": "recordings/B/2.wav",
    }
    Path("rec/inner").parent.mkdir()
    shutil.move("recordings", "rec/inner")
    assert main(["manifest", "rec", "--update"]) == 0
    assert [clip.path for clip in rows().values()] == ["rec/inner/A/1.wav", "rec/inner/B/2.wav"]


def test_without_digests_what_may_have_moved_is_told(capsys) -> None:
    touch("rec/A/1.wav", "rec/A/2.wav")
    assert main(["manifest", "rec"]) == 0
    shutil.move("rec/A/1.wav", "rec/1.wav")
    assert main(["manifest", "rec", "--update", "--dry-run"]) == 0
    assert (
        "1 dropped files have the name of an added one, such as 'rec/A/1.wav' and 'rec/1.wav'"
        in capsys.readouterr().err
    )


# --- splits and groups


def test_whatever_is_added_no_split_changes_and_no_recording_or_group_is_divided() -> None:
    """Property, over seeded growth: sites come and go, rows are cut up by hand, shares stay near what they were."""
    rng = np.random.default_rng(17)
    shares = {"train": 0.7, "test": 0.3}
    for group_of in (None, lambda clip: clip.path.split("/")[0]):
        clips: list[Clip] = []
        for step in range(6):
            new = [
                Clip(
                    clip_id=f"{step}-{i}",
                    path=f"{rng.integers(40)}/{rng.integers(30)}.wav",
                    labels=(f"L{rng.integers(4)}",),
                )
                for i in range(80)
            ]
            grown = split_clips([*clips, *new], shares, seed=step, group_of=group_of)
            assert grown[: len(clips)] == clips
            clips = [clip for clip in grown if rng.random() > 0.1]
            splits = defaultdict(set)
            for clip in clips:
                splits[group_of(clip) if group_of else clip.path].add(clip.split)
            assert {len(found) for found in splits.values()} == {1}
        counts = Counter(next(iter(found)) for found in splits.values())
        assert abs(counts["test"] / counts.total() - 0.3) < 0.12


SITES = ("rec/S1/A/1.wav", "rec/S1/B/2.wav", "rec/S2/A/3.wav", "rec/S3/B/4.wav", "rec/S4/A/5.wav")


def splits_of_sites() -> dict[str, set[str]]:
    found = defaultdict(set)
    for clip in rows().values():
        found[clip.path.split("/")[1]].add(clip.split)
    return found


@pytest.mark.parametrize("again", [[], ["--group", "1"]])
def test_a_site_stays_in_one_split_now_and_after_an_update(again: list[str]) -> None:
    """The level of the folder is asked for once: the manifest has the column `group`."""
    touch(*SITES)
    assert main(["manifest", "rec", "--group", "1", "--split", "train=0.5,test=0.5"]) == 0
    before = rows()
    assert {dict(clip.extra)["group"] for clip in before.values()} == {"S1", "S2", "S3", "S4"}
    assert {len(found) for found in splits_of_sites().values()} == {1}
    touch(*(f"rec/S{site}/{label}/{n}.wav" for site in range(1, 8) for label in "AB" for n in (7, 8)))
    assert main(["manifest", "rec", "--update", *again]) == 0
    after = rows()
    assert {clip_id: after[clip_id] for clip_id in before} == before
    assert len(after) == 5 + 28
    assert {len(found) for found in splits_of_sites().values()} == {1}
    assert all(clip.split and dict(clip.extra)["group"] == clip.path.split("/")[1] for clip in after.values())


def test_a_column_of_the_table_keeps_a_speaker_in_one_split() -> None:
    touch(*(f"rec/{n}.wav" for n in range(12)))
    lines = [f"{n}.wav,{'AB'[n % 2]},V{n // 3},de" for n in range(12)]
    Path("m.csv").write_text("\n".join(["filename,primary_label,speaker,country", *lines[:9], ""]))
    command = ["manifest", "rec", "--metadata", "m.csv", "--group", "speaker", "--split", "train=0.5,test=0.5"]
    assert main(command) == 0
    Path("m.csv").write_text("\n".join(["filename,primary_label,speaker,country", *lines, "12.wav,A,V0,fr", ""]))
    touch("rec/12.wav")
    before = rows()
    assert main(["manifest", "rec", "--metadata", "m.csv", "--group", "{speaker}", "--update"]) == 0
    after = rows()
    assert {clip_id: after[clip_id] for clip_id in before} == before
    splits = defaultdict(set)
    for clip in after.values():
        splits[dict(clip.extra)["group"]].add(clip.split)
    assert {len(found) for found in splits.values()} == {1}
    assert after["12.wav"].split == after["0.wav"].split


def test_groups_come_to_a_manifest_that_had_none_and_what_is_divided_already_is_told(capsys) -> None:
    touch(*SITES)
    assert main(["manifest", "rec"]) == 0
    ends = ["split", "test", "train", "train", "test", ""]
    lines = zip(MANIFEST.read_text().splitlines(), ends, strict=True)
    MANIFEST.write_text("".join(f"{line},{end}\n" for line, end in lines))
    touch("rec/S3/A/9.wav")
    assert main(["manifest", "rec", "--update", "--group", "1"]) == 0
    found = rows()
    assert found["S3/A/9.wav"].split == "test"
    assert {clip_id: clip.split for clip_id, clip in found.items() if clip_id != "S3/A/9.wav"} == {
        "S1/A/1.wav": "test",
        "S1/B/2.wav": "train",
        "S2/A/3.wav": "train",
        "S3/B/4.wav": "test",
        "S4/A/5.wav": "",
    }
    assert "1 groups have clips in several splits, which stay as they are: 'S1'" in capsys.readouterr().err


def test_a_column_of_ones_own_groups_what_has_it_and_the_rest_is_told(capsys) -> None:
    touch("rec/A/1.wav", "rec/A/2.wav")
    MANIFEST.write_text("clip_id,path,site,split\na,rec/A/1.wav,X,test\n")
    assert main(["manifest", "rec", "--update", "--group", "site"]) == 0
    assert rows()["A/2.wav"].split == "test"
    assert "1 new clips have no 'site', such as 'A/2.wav': each recording is one by itself" in capsys.readouterr().err
    assert main(["manifest", "rec", "--update", "--group", "speaker"]) == 2
    assert "--group: expected the level of a folder such as 1, or a column" in capsys.readouterr().err


def test_a_split_may_come_later_and_folds_are_told(capsys) -> None:
    touch(*(f"rec/A/{n}.wav" for n in range(10)))
    assert main(["manifest", "rec"]) == 0
    touch("rec/A/x.wav")
    assert main(["manifest", "rec", "--update", "--split", "train=0.8,test=0.2"]) == 0
    assert Counter(clip.split for clip in rows().values()) == {"train": 9, "test": 2}
    MANIFEST.write_text(MANIFEST.read_text().replace("label,split", "label,fold"))
    touch("rec/A/y.wav")
    assert main(["manifest", "rec", "--update"]) == 0
    assert "the fold of 1 new clips is empty" in capsys.readouterr().err


# --- a newcomer's first day, its first third


def test_a_newcomers_first_day_from_a_folder_to_a_corpus_that_grew(here: Path, capsys) -> None:
    made = Corpus(here / "recordings")
    for i, name in enumerate(["Aus aus_Alpha/a.wav", "Bus bus_Beta/b 1.wav", "Background/n.wav", "field.wav"]):
        made.write_audio(name, 0.3, seed=i)
    typed = iter(
        [
            "manifest recordings",
            "run --dry-run",
            "run",
            "manifest recordings --update",
            "run",
            "run",
        ]
    )

    def step() -> str:
        command = next(typed).split()
        assert main([*command, *(STAND_IN if command[0] == "run" else ())]) == 0
        printed = capsys.readouterr()
        return printed.out + printed.err

    told = step()
    assert "folder 'Background': 1 clips with none of the classes" in told
    assert told.endswith("next: softlabels run\n")
    step()
    assert "soft_labels" in step()
    before = softlabels.open("soft_labels").per_clip()
    # A label is corrected by hand, a recording comes, another one goes.
    MANIFEST.write_text(MANIFEST.read_text().replace("Background/n.wav,Background", "Background/n.wav,Cus cus_Gamma"))
    made.write_audio("Cus cus_Gamma/c.wav", 0.2, seed=9)
    (made.folder / "field.wav").unlink()
    told = step()
    assert "added    1\ndropped  1\nmoved    0\nkept     3\n" in told
    step()
    store = softlabels.open("soft_labels")
    assert set(store.per_clip().index) - set(before.index) == {"Cus cus_Gamma/c.wav"}
    assert "nothing to do" in step()
    labels = store.join("data_manifest.csv")
    hard = {clip: labels.hard([row])[0].tolist() for row, clip in enumerate(labels.keys.clip_id)}
    assert hard == {
        "Aus aus_Alpha/a.wav": [1, 0, 0],
        "Background/n.wav": [0, 0, 1],
        "Bus bus_Beta/b 1.wav": [0, 1, 0],
        "Cus cus_Gamma/c.wav": [0, 0, 1],
    }
