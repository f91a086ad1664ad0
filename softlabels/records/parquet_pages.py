"""The pages of a Parquet file, held against its footer: a footer is only what a file says of itself.

A decoder makes room for what the header of a page says, 2 GB at most, whatever the footer says. Headers are small
structs in Thrift's compact protocol, of which this is a reader; nothing is decompressed.
"""

from typing import Any

import pyarrow.parquet as pq

_UNPACKED, _PACKED, _VALUES = 2, 3, 1  # numbers of fields: of a page header, the last of the header in it
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_DEEPEST = 8


def hold_pages(data: bytes, footer: pq.FileMetaData) -> None:
    """Raises: ValueError: pages that unpack to more, or have other values, than the footer says of their column."""
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            starts = [column.data_page_offset, column.dictionary_page_offset if column.has_dictionary_page else None]
            place = min(start for start in starts if start is not None)
            end, unpacked, values = place + column.total_compressed_size, 0, 0
            if not 4 <= place <= end <= len(data):
                raise ValueError(f"pages of column {column.path_in_schema} lie outside the file")
            while place < end:
                header, after = _read_struct(data, place, 0)
                unpacked += int(header[_UNPACKED]) + after - place
                values += sum(int(header[kind][_VALUES]) for kind in (_DATA, _DATA_V2) if kind in header)
                if int(header[_UNPACKED]) < 0 or int(header[_PACKED]) < 0:
                    raise ValueError(f"a page of column {column.path_in_schema} has a size below 0")
                place = after + int(header[_PACKED])
            if place != end or unpacked > column.total_uncompressed_size or values != column.num_values:
                raise ValueError(
                    f"pages of column {column.path_in_schema} have {values:,} values in {unpacked:,} bytes, its footer "
                    f"says {column.num_values:,} in {column.total_uncompressed_size:,}"
                )


def _read_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """number -> value of every field, and where the struct ends. Raises: ValueError, IndexError: it is none."""
    if depth > _DEEPEST:
        raise ValueError("a page header has structs in structs without end")
    fields: dict[int, Any] = {}
    number = 0
    while data[at] != 0:
        kind, step = data[at] & 15, data[at] >> 4
        if step:
            number, at = number + step, at + 1
        else:
            number, at = _read_integer(data, at + 1)
        fields[number], at = _read_value(data, at, kind, depth)
    return fields, at + 1


def _read_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _STRUCT:
        return _read_struct(data, at, depth + 1)
    if kind == _BINARY:
        size, at = _read_varint(data, at)
        return None, at + size
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    if kind in (_LIST, _SET) or kind > _STRUCT:
        raise ValueError(f"a page header has a field of kind {kind}")
    return _read_integer(data, at)


def _read_integer(data: bytes, at: int) -> tuple[int, int]:
    """A signed integer: 0, -1, 1, -2, 2 are written as 0, 1, 2, 3, 4."""
    value, at = _read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a page header has a number without end")
