"""Valid messages made invalid, field by field, by what their descriptors say: this reaches deepest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MOST_REPEATED = 300
NOT_UTF8 = b"\xff\xfe\xc0\xaf\xed\xa0\x80"
NOT_UTF8_YET = "\x01~~~~~\x01"
"""Stands in a message for bytes that are no UTF-8: `serialized` puts those in its place."""

_TEXTS = (
    "",
    " ",
    ".",
    "..",
    "a/b",
    "../../etc/passwd",
    "/",
    "\0",
    "line\nbreak",
    "\x7f\x1b[31m",
    "x" * 255,
    "x" * 256,
    "x" * 10_000,
    "ü" * 255,
    "\u202e\ufeff\ufffd",
    "\U0010ffff" * 300,
    "%s%n{}{0}${HOME}$(reboot)`reboot`",
    "*",
    "eng//ads",
    "-1",
    "(" * 3_000 + ")" * 3_000,
    "a{4294967297}",
    NOT_UTF8_YET,
)
_WHOLE = (0, 1, 2, 7, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**47, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1)
_SIGNED = (*_WHOLE, -1, -2, -(2**31), -(2**53), -(2**63))
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def mutated(message: Message, chance: Random) -> None:
    """Change one to four places of a message, anywhere within it."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        node = chance.choice(list(_nodes(message)))
        fields: Sequence[Any] = node.DESCRIPTOR.fields
        if fields:
            _change(node, chance.choice(fields), chance)


def serialized(message: Message) -> bytes:
    """Return the bytes of a message, those that are no UTF-8 among them."""
    return message.SerializeToString().replace(NOT_UTF8_YET.encode(), NOT_UTF8)


def _nodes(message: Message) -> Iterator[Message]:
    """Yield a message and all that are set within it."""
    yield message
    for field, value in message.ListFields():
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or _is_map(field):
            continue
        for each in value if field.is_repeated else [value]:
            yield from _nodes(each)


def _is_map(field: FieldDescriptor) -> bool:
    kind: Descriptor | None = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def _change(node: Message, field: FieldDescriptor, chance: Random) -> None:
    if field.is_repeated:
        _change_repeated(node, field, chance)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if node.HasField(field.name) and chance.random() < 0.7:
            node.ClearField(field.name)
        else:
            getattr(node, field.name).SetInParent()
    elif chance.random() < 0.15:
        node.ClearField(field.name)
    else:
        setattr(node, field.name, _scalar(field, chance))


def _change_repeated(node: Message, field: FieldDescriptor, chance: Random) -> None:
    values = getattr(node, field.name)
    match chance.choice(("drop", "double", "many", "add", "reverse")):
        case "drop":
            node.ClearField(field.name)
        case "double" if values:
            _extend(values, [values[chance.randrange(len(values))]])
        case "many" if values:
            _extend(values, [values[0]] * MOST_REPEATED)
        case "reverse" if values:
            kept = list(reversed(list(values)))
            node.ClearField(field.name)
            _extend(getattr(node, field.name), kept)
        case _ if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            values.add()
        case _:
            values.append(_scalar(field, chance))


def _extend(values: Any, more: list[Any]) -> None:
    """Append copies: what is appended may be a part of what grows."""
    values.extend([_copied(each) for each in more])


def _copied(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    copy = type(value)()
    copy.CopyFrom(value)
    return copy


def _scalar(field: FieldDescriptor, chance: Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 1, 1_000, 100_000)))
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(_TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case kind:
            least, most = _BOUNDS[kind]
            return chance.choice([value for value in _SIGNED if least <= value <= most])
