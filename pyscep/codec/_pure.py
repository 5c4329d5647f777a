"""The codec in Python: the reference for the native one, and the fallback.

Speed comes from letting C functions of the standard library do whole passes; whatever they
refuse is looked at again, slowly, only to say what is wrong and where.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final

from pyscep.codec._reasons import Fault, fail
from pyscep.errors import DecodeError

# --- GET query text -------------------------------------------------------------------

_REPAIRS: Final = bytes.maketrans(b" -_", b"++/")
_LINE_BREAKS: Final = b"\r\n\t"
_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def percent_decode(text: bytes) -> bytes:
    """Undo percent escapes once; malformed escapes stay as they are."""
    parts = text.split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        try:
            out.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
        except ValueError:
            out.append(b"%" + part)
        else:
            if len(part) < 2 or not part[:2].isalnum():
                out[-1] = b"%" + part
    return b"".join(out)


def decode_message(text: bytes) -> bytes:
    """The raw value of a GET ``message`` parameter to bytes.

    Accepts what clients send: any part escaped, once or twice; spaces for ``+``; base64url;
    line breaks; missing padding.

    Raises:
        DecodeError: with the offset in ``text`` of what is wrong.
    """
    plain = text
    passes = []
    for _ in range(2):
        if b"%" not in plain:
            break
        before, plain = _unescape(plain)
        passes.append((before, plain))
    out = _base64(plain)
    if out is None:
        # What stands for other characters, and line breaks, are rare: looked for only now.
        plain = plain.translate(_REPAIRS, _LINE_BREAKS)
        out = _base64(plain)
    # A malformed escape leaves a "=" where it stood, or nothing at the end. In the middle that
    # is no base64; at the end it could pass for padding, so there the lengths decide: an escape
    # takes two bytes away.
    padded = plain.endswith(b"=")
    for before, after in passes:
        if (padded or before.endswith(b"%")) and len(after) + 2 * before.count(b"%") != len(before):
            out = None
    if out is None:
        raise _explain(text)
    return out


def _unescape(text: bytes) -> tuple[bytes, bytes]:
    """One pass of percent-decoding: what went in, with other marks escaped, and what came out.

    Quoted-printable is percent-encoding with another mark, and its decoder is one pass of C.
    (Measured at 40 KB: 33 us, where urllib.parse.unquote_to_bytes takes 166.)
    """
    if b"=" in text:
        text = text.replace(b"=", b"%3D")
    if b"\r" in text or b"\n" in text:
        text = text.replace(b"\r", b"%0D").replace(b"\n", b"%0A")
    return text, binascii.a2b_qp(text.replace(b"%", b"="))


def _base64(text: bytes) -> bytes | None:
    """Decode base64 with up to two padding characters, or none; None if it is something else."""
    body = text.rstrip(b"=") if text.endswith(b"=") else text
    size = len(body)
    if not size or size % 4 == 1 or len(text) - size > 2 or b"=" in body:
        return None
    try:
        out = binascii.a2b_base64(body + b"=="[: -size % 4])
    except binascii.Error:
        return None
    # The C function skips what is not base64; a skipped byte makes the result too short.
    return out if len(out) == size * 3 // 4 else None


def _explain(text: bytes) -> Exception:
    """Find the first fault of a message that decode_message refused."""
    units = list(zip(text, range(len(text)), strict=True))
    for _ in range(2):
        if not any(byte == 0x25 for byte, _ in units):
            break
        decoded = []
        position = 0
        while position < len(units):
            byte, offset = units[position]
            if byte != 0x25:
                decoded.append((byte, offset))
                position += 1
                continue
            digits = bytes(unit[0] for unit in units[position + 1 : position + 3])
            if len(digits) != 2 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
                return fail(Fault.BAD_ESCAPE, offset)
            decoded.append((int(digits, 16), offset))
            position += 3
        units = decoded
    count = padding = 0
    for byte, offset in units:
        if byte in _LINE_BREAKS:
            continue
        if byte == 0x3D:
            padding += 1
            if padding > 2 or not count:
                return fail(Fault.AFTER_PADDING if count else Fault.NOT_BASE64, offset)
        elif byte not in _ALPHABET and byte not in b" -_":
            return fail(Fault.NOT_BASE64, offset)
        elif padding:
            return fail(Fault.AFTER_PADDING, offset)
        else:
            count += 1
    return fail(Fault.BASE64_CUT if count else Fault.EMPTY, len(text))


def encode_message(data: bytes) -> str:
    """Bytes to the percent-encoded base64 of a GET query (RFC 8894 section 4.1)."""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


# --- DER and BER index ----------------------------------------------------------------

# What to do with an identifier octet.
_REFUSE, _LEAF, _DESCEND, _OID, _INTEGER, _SHAPED = range(6)


def _kinds() -> bytes:
    kinds = bytearray(256)
    for tag in range(256):
        number, constructed, universal = tag & 0x1F, tag & 0x20, tag < 0x40
        if number == 0x1F:
            continue
        if not universal:
            kinds[tag] = _DESCEND if constructed else _LEAF
        elif constructed:
            # SEQUENCE and SET are always constructed; strings may be in BER.
            kinds[tag] = _DESCEND if number in (0x03, 0x04, 0x0C, *range(0x10, 0x1F)) else _REFUSE
        elif number == 0x02:
            kinds[tag] = _INTEGER
        elif number == 0x06:
            kinds[tag] = _OID
        elif number in (0x01, 0x03, 0x05):
            kinds[tag] = _SHAPED
        elif number in (0x04, 0x0A, 0x0C) or 0x12 <= number <= 0x1E:
            kinds[tag] = _LEAF
    return bytes(kinds)


_KINDS: Final = _kinds()
MAX_OID_BYTES: Final = 64
MAX_ARC_BYTES: Final = 19
MAX_INTEGER_BYTES: Final = 2049


def index(
    data: bytes, *, leaf_depth: int, max_depth: int, max_nodes: int, max_trailing: int
) -> Sequence[int]:
    """List every value of one BER encoding, with all bounds checked.

    Args:
        data: one value, and at most ``max_trailing`` bytes behind it.
        leaf_depth: constructed values at this depth (the root is 0) are not entered, unless
            their length is indefinite.
        max_depth: values deeper than this are refused.
        max_nodes: more values than this are refused.

    Returns:
        Four integers for each value in the order of appearance: where its tag is, where its
        content starts, where its content ends, and the number of the first value that is
        not inside it.

    Raises:
        DecodeError: with the offset of the value that is wrong.
    """
    size = len(data)
    if not size:
        raise fail(Fault.EMPTY, 0)
    table: list[int] = []
    extend = table.extend
    kinds = _KINDS
    # The containers around the current position: (slot of its table row, limit outside it,
    # whether the outer one has an indefinite length).
    stack: list[tuple[int, int, bool]] = []
    push, pop = stack.append, stack.pop
    position, limit, indefinite = 0, size, False
    # ``number`` counts the values found, ``depth`` the containers that are open.
    number = depth = 0
    while True:
        start = position
        position += 2
        if position > limit:
            raise fail(Fault.TRUNCATED, start)
        tag = data[start]
        length = data[start + 1]
        if indefinite and not tag:
            if length:
                raise fail(Fault.BAD_TAG, start)
            # End of contents: close the container.
            slot, limit, indefinite = pop()
            depth -= 1
            table[slot + 2] = start
            table[slot + 3] = number
        else:
            kind = kinds[tag]
            if not kind:
                raise _tag_fault(tag, start)
            if number == max_nodes:
                raise fail(Fault.TOO_MANY_NODES, start)
            if depth > max_depth:
                raise fail(Fault.TOO_DEEP, start)
            if length >= 0x80:
                if length == 0x80:
                    if kind != _DESCEND:
                        raise fail(Fault.PRIMITIVE_INDEFINITE, start)
                    push((number << 2, limit, indefinite))
                    extend((start, position, 0, 0))
                    number += 1
                    depth += 1
                    indefinite = True
                    continue
                count = length & 0x7F
                if count > 4:
                    raise fail(Fault.LENGTH_OCTETS, start)
                if position + count > limit:
                    raise fail(Fault.TRUNCATED, start)
                length = int.from_bytes(data[position : position + count], "big")
                position += count
            end = position + length
            if end > limit:
                raise fail(Fault.OVERRUN, start)
            if kind == _LEAF:
                number += 1
                extend((start, position, end, number))
                position = end
            elif kind != _DESCEND:
                # Nearly all are short and sound; the call is for the others.
                if not 0 < length <= MAX_ARC_BYTES or kind == _SHAPED or data[end - 1] & 0x80:
                    _check_primitive(data, kind, tag, start, position, end)
                number += 1
                extend((start, position, end, number))
                position = end
            elif length and depth < leaf_depth:
                push((number << 2, limit, indefinite))
                number += 1
                extend((start, position, end, number))
                depth += 1
                limit, indefinite = end, False
                continue
            else:
                number += 1
                extend((start, position, end, number))
                position = end
        while position == limit and depth and not indefinite:
            slot, limit, indefinite = pop()
            depth -= 1
            table[slot + 3] = number
        if not depth:
            break
    if size - position > max_trailing:
        raise fail(Fault.TRAILING, position)
    return table


def _tag_fault(tag: int, start: int) -> Exception:
    if tag & 0x1F == 0x1F:
        return fail(Fault.LONG_TAG, start)
    return fail(Fault.BAD_TAG if tag else Fault.STRAY_END, start)


def _check_primitive(data: bytes, kind: int, tag: int, start: int, content: int, end: int) -> None:
    length = end - content
    if kind == _INTEGER:
        if not 0 < length <= MAX_INTEGER_BYTES:
            raise fail(Fault.BAD_INTEGER, start)
    elif kind == _OID:
        if not 0 < length <= MAX_OID_BYTES or data[end - 1] & 0x80:
            raise fail(Fault.BAD_OID, start)
        run = 0
        for byte in data[content:end]:
            run += 1
            if run > MAX_ARC_BYTES:
                raise fail(Fault.BAD_OID, start)
            if byte < 0x80:
                run = 0
    elif tag == 0x01:
        if length != 1:
            raise fail(Fault.BAD_PRIMITIVE, start)
    elif tag == 0x05:
        if length:
            raise fail(Fault.BAD_PRIMITIVE, start)
    elif not length or data[content] > 7:  # BIT STRING: the count of unused bits
        raise fail(Fault.BAD_PRIMITIVE, start)


def plain(data: bytes, position: int, limit: int, room: int, left: int) -> int:
    """Check the values between two offsets, if all have definite lengths, as nearly all do.

    Args:
        room: how deep containers may nest in them.
        left: how many values are accepted.

    Returns:
        How many would still be; -1 if anything is unusual or wrong: then ``index`` has to look.
    """
    if position == limit:
        return left
    if room < 0:
        return -1
    kinds = _KINDS
    limits: list[int] = []
    push, pop = limits.append, limits.pop
    for rest in range(left - 1, -1, -1):
        kind = kinds[data[position]]
        length = data[position + 1]
        content = position + 2
        if length >= 0x80:
            if length > 0x84 or length == 0x80:
                return -1
            start = content
            content += length & 0x7F
            length = int.from_bytes(data[start:content], "big")
        end = content + length
        if end > limit:  # so does a header that is cut off
            return -1
        if kind == _DESCEND:
            if length:
                if len(limits) == room:
                    return -1
                push(limit)
                position, limit = content, end
                continue
        elif (
            kind != _LEAF
            # Nearly all are short and sound; the call is for the others.
            and (kind != _OID or not 0 < length <= MAX_ARC_BYTES or data[end - 1] & 0x80)
            and not is_sound(data, data[position], content, end)
        ):
            return -1
        position = end
        while position == limit:
            if not limits:
                return rest
            limit = pop()
    return -1


def is_sound(data: bytes, tag: int, content: int, end: int) -> bool:
    """Whether a primitive value is within the bounds of its type."""
    kind = _KINDS[tag]
    try:
        if kind > _DESCEND:
            _check_primitive(data, kind, tag, content, content, end)
    except DecodeError:
        return False
    return kind != _REFUSE
