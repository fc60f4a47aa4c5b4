"""Structs in Thrift's compact protocol, of which the end of a Parquet file and the headers of its pages are made."""

from __future__ import annotations

from typing import IO, Any

PIECE_BYTES = 1024 * 1024


def read_struct(file: IO[bytes]) -> dict[int, Any]:
    """Read a struct: each value by the number of its field. Raises ValueError or EOFError where it is damaged."""
    found: dict[int, Any] = {}
    field = 0
    while byte := _byte(file):
        field = field + (byte >> 4) if byte >> 4 else _signed(file)
        found[field] = byte & 15 == 1 if byte & 15 in (1, 2) else _value(file, byte & 15)
    return found


def _value(file: IO[bytes], kind: int) -> Any:
    match kind:
        case 1 | 2 | 3:  # true and false in a list, and a byte
            return _byte(file)
        case 4 | 5 | 6:
            return _signed(file)
        case 7:
            return _exactly(file, 8)
        case 8:
            return _exactly(file, _unsigned(file))
        case 9 | 10:
            byte = _byte(file)
            count = _unsigned(file) if byte >> 4 == 15 else byte >> 4
            return [_value(file, byte & 15) for _ in range(count)]  # each takes a byte, or the end comes first
        case 12:
            return read_struct(file)
    raise ValueError(f"a Thrift value of kind {kind}")


def _exactly(file: IO[bytes], size: int) -> bytes:
    pieces = []
    while size:  # a file would make room for all that is stated
        piece = file.read(min(size, PIECE_BYTES))
        if not piece:
            raise EOFError("the file ends within a Thrift struct")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _byte(file: IO[bytes]) -> int:
    return _exactly(file, 1)[0]


def _signed(file: IO[bytes]) -> int:
    number = _unsigned(file)
    return (number >> 1) ^ -(number & 1)


def _unsigned(file: IO[bytes]) -> int:
    number = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        number |= (byte & 127) << shift
        if byte < 128:
            return number
    raise ValueError("an endless number in a Thrift struct")
