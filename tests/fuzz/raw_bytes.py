"""Bytes that are no message, or barely one."""

from __future__ import annotations

from random import Random

VARINT, LENGTH_DELIMITED, GROUP_START, GROUP_END = 0, 2, 3, 4


def varint(number: int) -> bytes:
    """Encode a number as protobuf does."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, kind: int, value: bytes = b"") -> bytes:
    """Encode a field; a length-delimited one with its length."""
    head = varint(number << 3 | kind)
    return head + varint(len(value)) + value if kind == LENGTH_DELIMITED else head + value


def damaged(valid: bytes, chance: Random) -> bytes:
    """Return what a broken client, or a hostile one, makes of a valid message."""
    match chance.randrange(8):
        case 0:
            return chance.randbytes(chance.choice((1, 5, 64, 1_000)))
        case 1:
            return valid[: chance.randrange(len(valid) + 1)]
        case 2:
            place = chance.randrange(len(valid) * 8) if valid else 0
            return _flipped(valid, place)
        case 3:
            place = chance.randrange(len(valid) + 1)
            return valid[:place] + chance.randbytes(chance.randrange(1, 9)) + valid[place:]
        case 4:
            begin, end = sorted(chance.randrange(len(valid) + 1) for _ in range(2))
            return valid[:begin] + valid[end:]
        case 5:
            return valid + field(chance.randrange(1, 30), chance.randrange(6), chance.randbytes(3))
        case 6:
            return valid + _nested(chance.choice((10, 99, 101, 20_000)), chance)
        case _:
            return valid + field(chance.randrange(1, 16), VARINT, b"\xff" * chance.choice((9, 10, 11)) + b"\x01")


def _flipped(valid: bytes, place: int) -> bytes:
    if not valid:
        return b"\xff"
    out = bytearray(valid)
    out[place // 8] ^= 1 << place % 8
    return bytes(out)


def _nested(depth: int, chance: Random) -> bytes:
    """Nest groups that nobody knows, some of which never end."""
    begin, end = field(77, GROUP_START), field(77, GROUP_END)
    return begin * depth + end * (depth if chance.random() < 0.5 else depth // 2)
