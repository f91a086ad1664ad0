"""Parquet that anybody may have made: counted in its footer before any of it is decoded.

A file of one megabyte can unpack to gigabytes: pages that compress well, one value for a million rows, a text that a
dictionary repeats. What a footer says of columns, rows and sizes is held against what is expected, and against the size
of the file. Pages are held against the footer where there are few (plans), or where nothing is believed; texts are
unpacked last.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.records.parquet_pages import hold_pages

BUDGET = 512 << 20  # bytes that any file may unpack to,
UNPACKED = 128  # or so many times its size, if that is more; of shards by BirdNET 3, sparse ones 25, of plans 10
_VALUE = 8  # bytes a value takes at most, texts apart


def read_parquet(
    data: bytes,
    check_schema: Callable[[pa.Schema], None],
    *,
    rows: int | None = None,
    rows_are: str = "rows",
    texts: Sequence[str] = (),
    most_text: int | None = None,
    pages: bool = False,
) -> pa.Table:
    """The table in a Parquet file, page checksums verified, in one piece.

    Args:
      check_schema: called with its schema and metadata before anything is decoded; raises StoreError for another one.
      rows: how many there have to be; None is at most one a byte. rows_are: what they are, for people.
      texts: columns of text, unpacked once their length is known.
      most_text: bytes that the packed columns of text may have together; None does not ask.
      pages: hold every page against the footer first, which takes 15 microseconds each.
    Raises: StoreError: no Parquet file, damaged, or more than it may be. EnvironmentTrouble: no memory.
    """
    budget = max(BUDGET, UNPACKED * len(data))
    try:
        file = _opened(data)
        check_schema(file.schema_arrow)
        found = file.metadata.num_rows
        if found not in (range(len(data) + 1) if rows is None else (rows,)):
            raise StoreError(f"expected {f'at most {len(data)}' if rows is None else rows} {rows_are}, got {found}")
        _count(file.metadata, budget, most_text)
        if pages:
            hold_pages(data, file.metadata)
        if texts:
            file = _opened(data, read_dictionary=list(texts))
        # Without threads: pyarrow 26 aborts a process (exit code 134) that ends soon after its threads were started.
        table = file.read(use_threads=False)
        if texts:
            table = _with_texts(table, texts, budget)
        return table.combine_chunks()
    except SoftLabelsError:
        raise
    except MemoryError as e:
        raise EnvironmentTrouble(f"not enough memory to decode {len(data):,} bytes of Parquet: {e}") from e
    except Exception as e:  # a decoder of foreign bytes may raise anything
        what = f"{type(e).__name__}: {e}" if not isinstance(e, pa.ArrowException | OSError) else e
        raise StoreError(f"expected a Parquet file with valid page checksums, got: {what}") from e


def _opened(data: bytes, **options: object) -> pq.ParquetFile:
    limits = {name: max(1000, len(data)) for name in ("thrift_string_size_limit", "thrift_container_size_limit")}
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, **limits, **options)


def _count(footer: pq.FileMetaData, budget: int, most_text: int | None) -> None:
    """Raises: StoreError: more bytes than the budget, by what the footer says of each column."""
    unpacked = values = text = 0
    for group in map(footer.row_group, range(footer.num_row_groups)):
        columns = [group.column(i) for i in range(group.num_columns)]
        unpacked += max(group.total_byte_size, sum([column.total_uncompressed_size for column in columns]))
        values += sum([column.num_values for column in columns])
        if most_text is not None:
            text += sum([c.total_uncompressed_size for c in columns if c.physical_type == "BYTE_ARRAY"])
    if min(unpacked, values, text) < 0:
        raise StoreError("expected sizes of 0 or more in its footer")
    if max(unpacked, values * _VALUE) > budget:
        raise StoreError(f"unpacks to {max(unpacked, values * _VALUE):,} bytes, expected at most {budget:,}")
    if most_text is not None and text > most_text:
        raise StoreError(f"has {text:,} bytes of text, expected at most {most_text:,}")


def _with_texts(table: pa.Table, texts: Sequence[str], budget: int) -> pa.Table:
    """The same with columns of text in place of dictionaries, if that fits."""
    total = 0
    for name in texts:
        for chunk in table[name].chunks:
            length = pc.binary_length(chunk.dictionary)
            total += pc.sum(length.take(chunk.indices).cast(pa.int64())).as_py() or 0
            if total > budget:
                raise StoreError(f"unpacks to more than {budget:,} bytes of text")
    for name in texts:
        place, field = table.schema.get_field_index(name), table.field(name)
        table = table.set_column(place, pa.field(name, pa.string(), field.nullable), table[name].cast(pa.string()))
    table.validate(full=True)  # UTF-8, too
    return table
