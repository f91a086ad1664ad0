import dataclasses
import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from standin import SPEC

from softlabels import StoreError
from softlabels.records.shard import ShardRows, decode_shard, encode_shard, round_probabilities
from softlabels.records.spec import LabelSpec

SPARSE = dataclasses.replace(SPEC, layout="sparse", min_probability=0.01)


def rows(probabilities: np.ndarray) -> ShardRows:
    n = len(probabilities)
    return ShardRows(
        clip_id=np.array([f"clip {i}" for i in range(n)], object),
        window_index=np.arange(n, dtype=np.int32),
        start_s=np.arange(n) * 1.0,
        end_s=np.arange(n) + 1.0,
        pad_fraction=np.full(n, 0.25, np.float32),
        probabilities=probabilities.astype(np.float32),
    )


def reference_rounding(value: float) -> float:
    """8 stored significand bits, ties to even, in exact arithmetic."""
    if value > 0.5 or value == 0:
        return value
    mantissa, exponent = np.frexp(np.float64(value))  # value = mantissa * 2^exponent, mantissa in [0.5, 1)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, 9)), exponent - 9))  # np.rint rounds ties to even


def test_rounding_keeps_eight_bits_up_to_one_half_and_everything_above() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            np.exp(rng.uniform(np.log(1e-30), 0, 20_000)).astype(np.float32),
            np.array([0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1, 1e-38], np.float32),
            # exact ties: 9 significand bits, last one set, after an even and after an odd bit
            np.array([(256 + 0.5) / 1024, (257 + 0.5) / 1024], np.float32),
        ]
    )
    expected = np.array([reference_rounding(float(v)) for v in values], np.float32)
    rounded = round_probabilities(values)
    np.testing.assert_array_equal(rounded, expected)
    small = (values <= 0.5) & (values > 0)
    assert np.max(np.abs(rounded[small] / values[small].astype(np.float64) - 1)) <= 2.0**-9
    np.testing.assert_array_equal(rounded[values > 0.5], values[values > 0.5])


def test_rounding_twice_changes_nothing_and_negative_zero_becomes_zero() -> None:
    values = np.array([-0.0, 0.1, 0.3, 0.49999, 0.7], np.float32)
    once = round_probabilities(values)
    np.testing.assert_array_equal(round_probabilities(once), once)
    assert not np.signbit(once[0])


def test_a_dense_shard_reads_back_what_was_written() -> None:
    written = rows(np.random.default_rng(1).uniform(0, 1, (4, 5)))
    read = decode_shard(encode_shard(written, SPEC, shard=7), SPEC, 5)
    np.testing.assert_array_equal(read.probabilities, round_probabilities(written.probabilities))
    for name, values in written.keys().items():
        np.testing.assert_array_equal(getattr(read, name), values)


def test_a_sparse_shard_spreads_the_tail_evenly() -> None:
    # kept: 0.5 and 0.25; tail: 3 classes with 0.0078125 + 0.00390625 + 0 = 0.01171875, 0.00390625 each
    written = rows(np.array([[0.5, 0.0078125, 0.25, 0.00390625, 0]]))
    read = decode_shard(encode_shard(written, SPARSE, shard=0), SPARSE, 5)
    np.testing.assert_array_equal(
        read.probabilities, np.array([[0.5, 0.00390625, 0.25, 0.00390625, 0.00390625]], np.float32)
    )


@pytest.mark.parametrize("spec", [SPEC, SPARSE])
def test_a_shard_without_rows_is_a_shard(spec: LabelSpec) -> None:
    assert len(decode_shard(encode_shard(rows(np.zeros((0, 5))), spec, shard=0), spec, 5)) == 0


def test_equal_rows_give_equal_bytes_however_they_lie_in_memory() -> None:
    values = np.random.default_rng(2).uniform(0, 1, (4, 5)).astype(np.float32)
    contiguous = encode_shard(rows(values), SPEC, shard=0)
    assert encode_shard(rows(np.asfortranarray(values)), SPEC, shard=0) == contiguous


def test_no_column_is_ever_null_and_statistics_cost_nothing() -> None:
    file = pq.ParquetFile(io.BytesIO(encode_shard(rows(np.ones((2, 3))), SPEC, shard=0)))
    assert not any(field.nullable for field in file.schema_arrow)
    assert not file.schema_arrow.field("probabilities").type.value_field.nullable
    assert file.schema_arrow.field("probabilities").type.list_size == 3


def test_a_shard_of_another_spec_is_refused() -> None:
    data = encode_shard(rows(np.ones((2, 3))), SPEC, shard=0)
    with pytest.raises(StoreError, match="made with fingerprint"):
        decode_shard(data, dataclasses.replace(SPEC, teacher_digest="another"), 3)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(StoreError, match="expected the columns"):
        decode_shard(encode_shard(rows(np.ones((2, 3))), SPEC, shard=0), SPEC, 4)


def test_no_flipped_bit_is_read_in_silence() -> None:
    data = encode_shard(rows(np.random.default_rng(3).uniform(0, 1, (4, 50))), SPEC, shard=0)
    good = decode_shard(data, SPEC, 50)
    silent = 0
    for position in np.random.default_rng(4).integers(0, len(data) * 8, 300):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << (position % 8)
        try:
            read = decode_shard(bytes(flipped), SPEC, 50)
        except Exception:
            continue
        silent += not np.array_equal(read.probabilities, good.probabilities)
    assert silent == 0
