"""The faults both codec back ends report: one number and one text for each.

The numbers are what the C kernels return; the texts are what a person reads. Native and
pure code raise the same reason at the same offset for the same bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyscep.errors import DecodeError


class Fault(IntEnum):
    """Why bytes are refused."""

    EMPTY = 1
    BAD_ESCAPE = 2
    NOT_BASE64 = 3
    AFTER_PADDING = 4
    BASE64_CUT = 5
    TRUNCATED = 6
    LENGTH_OCTETS = 7
    OVERRUN = 8
    LONG_TAG = 9
    BAD_TAG = 10
    PRIMITIVE_INDEFINITE = 11
    TOO_DEEP = 12
    TOO_MANY_NODES = 13
    BAD_OID = 14
    BAD_INTEGER = 15
    BAD_PRIMITIVE = 16
    TRAILING = 17
    STRAY_END = 18


REASONS: Final = {
    Fault.EMPTY: "nothing to decode",
    Fault.BAD_ESCAPE: "malformed percent escape",
    Fault.NOT_BASE64: "not a base64 character",
    Fault.AFTER_PADDING: "text behind the base64 padding",
    Fault.BASE64_CUT: "base64 ends in the middle of a group",
    Fault.TRUNCATED: "ends inside a tag or length",
    Fault.LENGTH_OCTETS: "more than four length octets",
    Fault.OVERRUN: "a length reaches beyond its container",
    Fault.LONG_TAG: "tag numbers above 30 are not used here",
    Fault.BAD_TAG: "a tag that is not used here",
    Fault.PRIMITIVE_INDEFINITE: "indefinite length on a primitive value",
    Fault.TOO_DEEP: "nested too deep",
    Fault.TOO_MANY_NODES: "too many values",
    Fault.BAD_OID: "object identifier out of bounds",
    Fault.BAD_INTEGER: "integer out of bounds",
    Fault.BAD_PRIMITIVE: "value of an impossible length",
    Fault.TRAILING: "bytes behind the end",
    Fault.STRAY_END: "end-of-contents without an indefinite length",
}


# Members of an Enum are slow keys, and a refusal costs no more than the message it refuses.
_TEXTS: Final = {int(fault): text for fault, text in REASONS.items()}


def fail(fault: int, offset: int) -> DecodeError:
    """The exception for a fault at that offset, in bytes of the input."""
    return DecodeError.at(offset, _TEXTS[fault])
