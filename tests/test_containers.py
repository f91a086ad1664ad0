"""What a file says of its own samples is held against what is there, in both directions; and stretches are exact."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from audio_lies import SUBTYPES, original, pages, read_through, storm
from bad_audio import wav

import pipeline
import softlabels
from pipeline.checking.regenerate import regenerate
from softlabels.audio.decode import probe_audio, read_audio
from softlabels.errors import AudioError

RATE_HZ = 24_000
FRAMES = 30_000


def noise(frames: int = FRAMES, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (frames, channels)).astype(np.float32)


def content(tmp_path: Path, format: str, *, frames: int = FRAMES, channels: int = 1, **options: str) -> bytes:
    soundfile.write(tmp_path / "made", noise(frames, channels), RATE_HZ, format=format, **options)
    return (tmp_path / "made").read_bytes()


def refusal(tmp_path: Path, data: bytes) -> AudioError:
    (tmp_path / "refused").write_bytes(data)
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "refused", rate_hz=RATE_HZ)
    return caught.value


def labelled(tmp_path: Path, data: bytes) -> tuple[np.ndarray, str]:
    """Samples and note."""
    (tmp_path / "labelled").write_bytes(data)
    info = probe_audio(tmp_path / "labelled")
    return read_audio(tmp_path / "labelled", rate_hz=info.rate_hz), info.note


def with_size(data: bytes, marker: bytes, size: int, form: str = "<I", between: int = 0) -> bytes:
    at = data.index(marker) + 4 + between
    return data[:at] + struct.pack(form, size) + data[at + struct.calcsize(form) :]


# truncated: only where samples are missing, with both numbers


@pytest.mark.parametrize("format", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_cut_short_is_truncated_with_both_numbers(tmp_path: Path, format: str, channels: int) -> None:
    data = content(tmp_path, format, channels=channels)
    for share in (0.2, 0.5, 0.99):
        error = refusal(tmp_path, data[: int(len(data) * share)])
        assert error.reason == "truncated"
        assert f"promises {FRAMES} frames" in error.detail
        there = int(error.detail.split(" frames, ")[1].split(" are")[0])
        assert abs(there - FRAMES * share) < 5000  # a CAF has a long header


@pytest.mark.parametrize("format", ["FLAC", "OGG", "OPUS", "MP3", "M4A", "AAC"])
@pytest.mark.parametrize("seed", range(3))
def test_a_compressed_file_cut_short_is_no_shorter_recording(tmp_path: Path, format: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = original(format, random, tmp_path).content
    error = refusal(tmp_path, data[: int(len(data) * random.uniform(0.3, 0.95))])
    assert error.reason in ("truncated", "unreadable")


def test_an_m4a_without_its_index_is_truncated(tmp_path: Path) -> None:
    data = original("M4A", np.random.default_rng(0), tmp_path).content
    assert "the index" in refusal(tmp_path, data[: data.index(b"moov") - 4]).detail
    assert refusal(tmp_path, data[: data.index(b"moov") + 40]).reason == "truncated"


def test_a_title_that_is_not_utf_8_is_no_fault_of_the_samples(tmp_path: Path) -> None:
    data = original("M4A", np.random.default_rng(0), tmp_path).content
    title = data.index(b"Lavf")  # the name of the encoder, among the titles
    changed = data[:title] + b"\xe4\xf6\xfc\xdf" + data[title + 4 :]
    np.testing.assert_array_equal(labelled(tmp_path, changed)[0], labelled(tmp_path, data)[0])


# the header promises what is not meant


PLACEHOLDERS = [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000 - 36, 0xFFFFFFFF - 44, 0x80000000]


@pytest.mark.parametrize("size", [*PLACEHOLDERS, 60_000 + 44, 60_000 + 36, 60_000 + 8, 60_000 + 1])
def test_a_wav_whose_writer_did_not_know_its_size_is_labelled_with_a_note(tmp_path: Path, size: int) -> None:
    data = content(tmp_path, "WAV")
    samples, note = labelled(tmp_path, with_size(data, b"data", size))
    np.testing.assert_array_equal(samples, labelled(tmp_path, data)[0])
    assert f"promises {size} bytes" in note
    assert "60000 are there" in note


def test_a_wav_never_closed_is_labelled_with_a_note(tmp_path: Path) -> None:
    data = with_size(with_size(content(tmp_path, "WAV"), b"data", 0), b"RIFF", 8)
    samples, note = labelled(tmp_path, data)
    assert (len(samples), "promises 0 bytes" in note) == (FRAMES, True)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0])
def test_an_au_and_an_aiff_of_a_stream_are_labelled_or_contradictory_never_empty(tmp_path: Path, size: int) -> None:
    assert len(labelled(tmp_path, with_size(content(tmp_path, "AIFF"), b"SSND", size, ">I"))[0]) == FRAMES
    au = with_size(content(tmp_path, "AU"), b".snd", size, ">I", 4)
    if size:
        assert len(labelled(tmp_path, au)[0]) == FRAMES
    else:
        assert refusal(tmp_path, au).reason == "contradictory"  # libsndfile takes it for empty


@pytest.mark.parametrize("size", [0, 44, 2, 30_000, 59_998, 59_999])
def test_a_wav_that_holds_more_than_it_says_is_contradictory_with_both_numbers(tmp_path: Path, size: int) -> None:
    error = refusal(tmp_path, with_size(content(tmp_path, "WAV"), b"data", size))
    assert error.reason == "contradictory"
    assert f"{FRAMES}" in error.detail
    assert f"{size // 2}" in error.detail


@pytest.mark.parametrize("beyond", [88_200, 4_000_000, 2**31])
def test_a_wav_beyond_4_gib_whose_size_wrapped_is_not_labelled_as_a_short_one(tmp_path: Path, beyond: int) -> None:
    with open(tmp_path / "refused", "wb") as file:  # sparse
        file.write(wav(rate_hz=48_000, data=noise(500).astype("<f2").tobytes(), promised=beyond))
        file.truncate(44 + 2**32 + beyond)
    with pytest.raises(
        AudioError, match=f"contradictory: .* {beyond // 2} frames, the file has {(2**32 + beyond) // 2};"
    ):
        probe_audio(tmp_path / "refused")


@pytest.mark.parametrize("format", ["WAV", "RF64", "AIFF", "CAF", "AU", "W64", "MP3"])
def test_two_files_joined_by_cat_are_not_labelled_as_the_first(tmp_path: Path, format: str) -> None:
    data = content(tmp_path, format)
    assert refusal(tmp_path, data + data).reason == "contradictory"


def test_two_m4as_joined_by_cat_are_not_labelled_as_the_first(tmp_path: Path) -> None:
    data = original("M4A", np.random.default_rng(0), tmp_path).content
    assert refusal(tmp_path, data + data).reason == "contradictory"


ID3 = b"ID3\4\0\0\0\0\2\0" + bytes(256)


@pytest.mark.parametrize("format", list(SUBTYPES))
def test_an_id3_tag_in_front_moves_no_sample(tmp_path: Path, format: str) -> None:
    file = original(format, np.random.default_rng(3), tmp_path, seconds=0.2)
    for tag in (ID3, ID3 + ID3, ID3[:9] + b"\1" + bytes(257)):
        samples, _ = labelled(tmp_path, tag + file.content)
        assert samples.tobytes() == file.samples.tobytes()  # libsndfile would begin a WAV as many bytes too late
    stretch = read_audio(tmp_path / "labelled", rate_hz=file.rate_hz, start=700, stop=900)
    assert stretch.tobytes() == file.samples[700:900].tobytes()


def test_an_old_tag_after_a_flac_is_no_damage(tmp_path: Path) -> None:
    data = content(tmp_path, "FLAC")
    np.testing.assert_array_equal(labelled(tmp_path, data + b"TAG" + bytes(125))[0], labelled(tmp_path, data)[0])
    for rest in (b"TAG" + bytes(124), b"NOT" + bytes(125), b"TAG" + bytes(126)):
        assert refusal(tmp_path, data + rest).reason == "unreadable"


def test_a_wav_whose_samples_look_like_a_tag_is_read_to_its_end(tmp_path: Path) -> None:
    for begin, end in ((b"ID3\4\0\0\0\0\2\0", b""), (b"", b"TAG" + bytes(125))):
        samples = begin + noise(500).astype("<f2").tobytes() + end
        assert len(labelled(tmp_path, wav(data=samples[: len(samples) // 2 * 2]))[0]) == len(samples) // 2


@pytest.mark.parametrize("total", [0, 44, 15_000, 29_839, 60_000, 2**31])
def test_a_gsm_aiff_whose_number_of_frames_lies_is_contradictory(tmp_path: Path, total: int) -> None:
    data = content(tmp_path, "AIFF", subtype="GSM610")
    assert len(labelled(tmp_path, data)[0]) == FRAMES
    error = refusal(tmp_path, with_size(data, b"COMM", total, ">I", 6))
    assert error.reason == "contradictory"


def test_chunks_tags_and_padding_after_the_samples_are_no_samples(tmp_path: Path) -> None:
    data = content(tmp_path, "WAV")
    expected = labelled(tmp_path, data)[0]
    chunk = b"LIST" + struct.pack("<I", 26) + b"INFOICMT" + struct.pack("<I", 14) + b"made by hand\0\0"
    for rest in (
        chunk,
        b"odd1" + struct.pack("<I", 3) + b"abc",
        b"TAG" + bytes(125),
        bytes(-len(data) % 4096),
        chunk[:20],
    ):
        np.testing.assert_array_equal(labelled(tmp_path, data + rest)[0], expected)
    for rest in (noise(40).tobytes(), bytes(-len(data) % 4096 + 4096), bytes(500)):  # silence is sound
        assert refusal(tmp_path, data + rest).reason == "contradictory"


@pytest.mark.parametrize(("field", "value"), [(24, 24_001), (24, 47_000), (28, 48_007), (22, 3), (34, 24), (32, 1)])
def test_a_wav_whose_format_contradicts_itself_is_damaged(tmp_path: Path, field: int, value: int) -> None:
    data = bytearray(content(tmp_path, "WAV"))
    struct.pack_into("<I" if field in (24, 28) else "<H", data, field, value)
    assert refusal(tmp_path, bytes(data)).reason in ("damaged", "unreadable")


@pytest.mark.parametrize(
    ("total", "reason"), [(10_000, "contradictory"), (29_999, "contradictory"), (60_000, "truncated")]
)
def test_a_flac_whose_header_lies_is_held_against_its_last_frame(tmp_path: Path, total: int, reason: str) -> None:
    data = with_size(content(tmp_path, "FLAC"), b"fLaC", total, ">I", 18)
    error = refusal(tmp_path, data)
    assert (error.reason, f"{total} frames" in error.detail) == (reason, True)


# Ogg


def sealed(page: bytes) -> bytes:
    """With its checksum made again, bit by bit."""
    page, value = page[:22] + bytes(4) + page[26:], 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return page[:22] + value.to_bytes(4, "little") + page[26:]


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_pages_of_an_ogg_are_checked(tmp_path: Path, codec: str) -> None:
    data = content(tmp_path, "OGG", frames=120_000, subtype=codec)
    parts = pages(data)
    assert len(parts) > 4
    changed = bytearray(data)
    at = len(data) - len(parts[-1]) - 100
    changed[at] ^= 16
    error = refusal(tmp_path, bytes(changed))
    start = len(data) - len(parts[-1]) - len(parts[-2])
    assert str(error) == f"damaged: page {len(parts) - 2} at byte {start}: its checksum does not fit"
    assert "should be at byte" in refusal(tmp_path, b"".join(parts[:3] + parts[4:])).detail
    assert "should be at byte" in refusal(tmp_path, b"".join([*parts[:2], parts[3], parts[2], *parts[4:]])).detail
    assert "and does not" in refusal(tmp_path, b"".join(parts[:3]) + b"junk!" + b"".join(parts[3:])).detail
    back = parts[-1][:6] + bytes(8) + parts[-1][14:]
    assert "does not go on" in refusal(tmp_path, b"".join([*parts[:-1], sealed(back)])).detail
    other = parts[-1][:14] + b"\1\2\3\4" + parts[-1][18:]
    assert refusal(tmp_path, b"".join([*parts[:-1], sealed(other)])).reason == "unsupported-container"


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_that_was_never_ended_but_is_complete_is_labelled_with_a_note(tmp_path: Path, codec: str) -> None:
    parts = pages(content(tmp_path, "OGG", frames=120_000, subtype=codec))
    for kept in (-1, -2, 4):
        samples, note = labelled(tmp_path, b"".join(parts[:kept]))
        assert 0 < len(samples) < 120_000
        assert "not marked as the last" in note


def test_an_ogg_whose_last_page_lacks_its_mark_is_labelled_to_its_end(tmp_path: Path) -> None:
    parts = pages(content(tmp_path, "OGG", frames=120_000))
    open_ended = sealed(parts[-1][:5] + bytes([parts[-1][5] & ~4]) + parts[-1][6:])
    samples, note = labelled(tmp_path, b"".join([*parts[:-1], open_ended]))
    np.testing.assert_array_equal(samples, labelled(tmp_path, b"".join(parts))[0])
    assert "not marked as the last" in note


@pytest.mark.parametrize("skip", [40_000, 65_535])
def test_an_opus_that_skips_more_than_it_has_is_damaged_not_too_long(tmp_path: Path, skip: int) -> None:
    first, *rest = pages(content(tmp_path, "OGG", frames=9000, subtype="OPUS"))
    at = first.index(b"OpusHead") + 10
    error = refusal(tmp_path, sealed(first[:at] + struct.pack("<H", skip) + first[at + 2 :]) + b"".join(rest))
    assert error.reason == "damaged"


# MP3, AAC


def test_frames_of_an_mp3_are_followed_and_summed(tmp_path: Path) -> None:
    data = content(tmp_path, "MP3")
    expected = labelled(tmp_path, data)[0]
    middle = len(data) // 2
    assert "checksum" in refusal(tmp_path, data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]).detail
    assert "should begin at byte" in refusal(tmp_path, data[:middle] + b"?" + data[middle:]).detail
    assert "checksum of its LAME tag" in refusal(tmp_path, with_size(data, b"Xing", 40, ">I", 4)).detail
    np.testing.assert_array_equal(labelled(tmp_path, data + b"TAG" + bytes(125))[0], expected)
    np.testing.assert_array_equal(labelled(tmp_path, b"ID3\4\0\0\0\0\0\5hello" + data)[0], expected)


def mp3(rate_hz: int, bit_rate: int, *, tag: bool) -> bytes:
    """Of constant bit rate, as recorders and ffmpeg write them."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": str(int(tag)), "id3v2_version": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=rate_hz, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(noise().T, "fltp", "mono")
        frame.sample_rate = rate_hz
        convert = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=rate_hz)
        for converted in convert.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("rates", [(16_000, 32_000), (24_000, 64_000), (44_100, 128_000), (48_000, 96_000)])
@pytest.mark.parametrize("tag", [False, True])
def test_an_mp3_of_another_encoder_is_labelled_with_tags_and_without(
    tmp_path: Path, rates: tuple[int, int], tag: bool
) -> None:
    data = mp3(*rates, tag=tag)
    expected = labelled(tmp_path, data)[0]
    assert len(expected) >= FRAMES
    for tagged in (
        data + b"TAG" + bytes(125),
        b"ID3\4\0\0\0\0\x02\0" + bytes(256) + data,
        data + b"APETAGEX" + bytes(99),
    ):
        np.testing.assert_array_equal(labelled(tmp_path, tagged)[0], expected)
    for lost in (1, 30, 3):  # of its last frame
        assert refusal(tmp_path, data[:-lost]).reason == "truncated"
    if tag:
        changed = bytearray(data)
        changed[len(data) // 2 + 50] ^= 1
        assert "checksum" in refusal(tmp_path, bytes(changed)).detail


def test_an_mp3_of_variable_bit_rate_without_a_tag_is_not_half_read(tmp_path: Path) -> None:
    data = content(tmp_path, "MP3")
    bare = data[data.index(b"\xff\xf3", 100) :]
    error = refusal(tmp_path, bare)  # libsndfile guesses its length from the first frame, and stops there
    assert error.reason == "contradictory"


def test_frames_of_bare_aac_are_followed(tmp_path: Path) -> None:
    data = original("AAC", np.random.default_rng(1), tmp_path).content
    frames = len(labelled(tmp_path, data)[0])
    assert len(labelled(tmp_path, data + data)[0]) == 2 * frames  # one stream goes on as the next
    assert refusal(tmp_path, data[:-20]).reason == "truncated"
    middle = data.index(data[:3], len(data) // 2)
    assert refusal(tmp_path, data[: middle + 1] + b"\0" + data[middle + 2 :]).reason == "damaged"


# checksums


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 255, 4096, 10_007])
def test_checksums_are_those_of_the_specification(length: int) -> None:
    from softlabels.audio.containers.checksums import crc16, crc16_msb, ogg_crc

    def bit_by_bit(data: bytes, first: int, bits: int, polynomial: int) -> int:
        value = first
        for byte in data:
            value ^= byte << (bits - 8)
            for _ in range(8):
                value = ((value << 1) ^ (polynomial if value >> (bits - 1) else 0)) & ((1 << bits) - 1)
        return value

    data = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8)
    assert ogg_crc(data[: length // 3].tobytes(), data[length // 3 :].tobytes()) == bit_by_bit(
        data.tolist(), 0, 32, 0x04C11DB7
    )
    reversed_bits = [int(f"{byte:08b}"[::-1], 2) for byte in data.tolist()]
    for first in (0, 0xFFFF, 0x1234) if length > 1 else (0,):
        assert crc16_msb(data, first=first) == bit_by_bit(data.tolist(), first, 16, 0x8005)
        turned = int(f"{first:016b}"[::-1], 2)
        assert int(f"{int(crc16(data, first=first)):016b}"[::-1], 2) == bit_by_bit(reversed_bits, turned, 16, 0x8005)
    rows = np.stack([data, data[::-1]])
    assert crc16(rows).tolist() == [int(crc16(row)) for row in rows]


# stretches


@pytest.mark.parametrize("format", list(SUBTYPES))
def test_a_stretch_is_what_reading_through_gives_bit_for_bit(tmp_path: Path, format: str) -> None:
    random = np.random.default_rng(list(format.encode()))
    for _ in range(2):
        file = original(format, random, tmp_path, seconds=2)
        path = tmp_path / "stretch"
        path.write_bytes(file.content)
        full = read_audio(path, rate_hz=file.rate_hz)
        assert full.tobytes() == file.samples.tobytes()
        for start in [
            0,
            len(full) - 1,
            *random.integers(len(full) - 9000, len(full), 3),
            int(random.integers(len(full))),
        ]:
            stop = min(len(full), int(start) + 3000)
            stretch = read_audio(path, rate_hz=file.rate_hz, start=int(start), stop=stop)
            assert stretch.tobytes() == full[start:stop].tobytes(), (file.subtype, start)


@pytest.mark.parametrize(("rate_hz", "channels"), [(24_000, 1), (22_050, 1), (44_100, 2)])
def test_an_mp3_is_read_through_whatever_the_size_of_a_block(
    tmp_path: Path, monkeypatch, rate_hz: int, channels: int
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(100_000, channels), rate_hz, format="MP3")
    through = read_through(path, "MP3")[0]
    for block in (65_536, 4099):
        monkeypatch.setattr("softlabels.audio.decode.BLOCK_FRAMES", block)
        found = read_audio(path, rate_hz=rate_hz, start=block)
        assert found.tobytes() == through[block:].tobytes(), block


def test_an_mp3_of_an_old_plan_is_read_as_it_was_so_that_its_shard_is_regenerated(tmp_path: Path, monkeypatch) -> None:
    soundfile.write(tmp_path / "a.mp3", noise(100_000), RATE_HZ, format="MP3")
    (tmp_path / "data_manifest.csv").write_text("clip_id,path\na,a.mp3\n")
    options = pipeline.RunOptions(backend="sequential")
    stores = []
    for name, container in (("old", "mp3"), ("new", "mp3-through")):
        with monkeypatch.context() as patched:
            patched.setattr("softlabels.audio.decode.container_of", lambda head, container=container: container)
            pipeline.run(tmp_path / "data_manifest.csv", tmp_path / name, teacher="standin:teacher", options=options)
        stores.append(softlabels.open(tmp_path / name))
    old, new = (store.receipt(0).audio["a"] for store in stores)
    assert (old["file"] == new["file"], old["pcm"] == new["pcm"]) == (True, False)
    for store in stores:
        (store.storage.root / store.receipts[0].file).unlink()
        (result,) = regenerate(store, [0], jobs=1)
        assert (result.likeness, result.restored) == ("identical", True)


def test_labels_do_not_depend_on_how_windows_are_spread_over_shards(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    kinds: dict[str, tuple[str, str]] = {
        "vorbis.ogg": ("OGG", "VORBIS"),
        "opus.ogg": ("OGG", "OPUS"),
        "gsm.wav": ("WAV", "GSM610"),
        "g721.wav": ("WAV", "G721_32"),
        "ima.wav": ("WAV", "IMA_ADPCM"),
        "a.mp3": ("MP3", "MPEG_LAYER_III"),
        "a.au": ("AU", "G723_24"),
        "a.caf": ("CAF", "ALAC_16"),
    }
    for seed, (name, (format, subtype)) in enumerate(kinds.items()):
        soundfile.write(audio / name, noise(40_000, seed=seed), 8000, format=format, subtype=subtype)
    soundfile.write(audio / "24k.mp3", noise(120_000, seed=9), RATE_HZ, format="MP3")  # seeking spoils it most
    names = [*kinds, "24k.mp3"]
    rows = "\n".join(f"{name},{name}" for name in names)
    (audio / "data_manifest.csv").write_text(f"clip_id,path\n{rows}\n")
    found = []
    for shard_windows in (30, 5000):
        summary = pipeline.run(
            audio / "data_manifest.csv",
            tmp_path / f"store{shard_windows}",
            teacher="standin:teacher",
            labelling=pipeline.LabelOptions(shard_windows=shard_windows),
            options=pipeline.RunOptions(backend="sequential"),
        )
        store = softlabels.open(tmp_path / f"store{shard_windows}")
        assert summary.quarantined == 0, store.census.quarantine
        keys = [(name, window) for name in sorted(names) for window in range(40_000 // 800)]
        found.append(store.take(keys))
    np.testing.assert_array_equal(found[0], found[1])


# mutants: a small storm; the large one is tests/benchmarks/audio_mutants.py


@pytest.mark.parametrize("only_lies", [False, True])
def test_no_mutant_is_read_as_other_audio_that_it_contradicts(tmp_path: Path, only_lies: bool) -> None:
    formats = list(SUBTYPES)
    bad = [
        (seed, format, kind, verdict)
        for seed, format, kind, verdict in storm(formats, range(84), tmp_path, only_lies=only_lies)
        if verdict.bad
    ]
    assert bad == []
