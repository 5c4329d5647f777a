"""Matching shapes in Python: the reference for csrc/match.c, and the fallback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pyscep.codec._pure import _DESCEND, _KINDS, _LEAF, index, is_sound, plain
from pyscep.codec._reasons import Fault, fail

_OPEN, _CLOSE, _LEAVE, _TAKE, _TAKE_ANY, _PASS, _SAME, _IF, _TAKE_OPEN, _TAKE_FEW = range(1, 11)
_TAGGED: Final = frozenset({_OPEN, _TAKE, _TAKE_OPEN, _TAKE_FEW})
_OPENING: Final = frozenset({_OPEN, _TAKE_OPEN})
MAX_ATTRIBUTES: Final = 64
MAX_OPEN: Final = 16
"""How many values a shape can have open at once."""
_Value = tuple[int, int, int]


def match(data: bytes, program: bytes, slots: int) -> tuple[int, ...] | None:
    """Match a checked encoding against a shape (see pyscep/codec/shapes.py).

    Returns:
        Start, content and end of each slot, zeros where it is absent; None if the encoding
        has another shape or an indefinite length where the shape looks.
    """
    found = [0] * (3 * slots)
    limits: list[int] = []
    position, limit, at, stop = 0, len(data), 0, len(program)
    while at < stop:
        op = program[at]
        if op == _SAME:
            size = program[at + 1]
            end = position + size
            at += 2 + size
            if end > limit or data[position:end] != program[at - size : at]:
                return None
            position = end
        elif op == _CLOSE:
            if position != limit:
                return None
            limit = limits.pop()
            at += 1
        elif op == _LEAVE:
            position = limit
            limit = limits.pop()
            at += 1
        elif op == _IF:
            there = position < limit and data[position] == program[at + 1]
            at += 3 if there else 3 + program[at + 2]
        else:
            if position + 2 > limit or (op in _TAGGED and data[position] != program[at + 1]):
                return None
            content = position + 2
            length = data[position + 1]
            if length >= 0x80:
                count = length & 0x7F
                if not 0 < count <= 4 or content + count > limit:
                    return None
                length = int.from_bytes(data[content : content + count], "big")
                content += count
            end = content + length
            if end > limit:
                return None
            if op in (_TAKE, _TAKE_OPEN):
                slot = 3 * program[at + 2]
                found[slot : slot + 3] = position, content, end
                at += 3
            elif op == _TAKE_FEW:
                if not _holds_few(data, content, end, program[at + 3]):
                    return None
                slot = 3 * program[at + 2]
                found[slot : slot + 3] = position, content, end
                at += 4
            elif op == _TAKE_ANY:
                slot = 3 * program[at + 1]
                found[slot : slot + 3] = position, content, end
                at += 2
            else:
                at += 2 if op == _OPEN else 1
            if op in (_OPEN, _TAKE_OPEN):
                if len(limits) == MAX_OPEN:
                    return None
                limits.append(limit)
                position, limit = content, end
            else:
                position = end
    return tuple(found) if position == len(data) else None


def window(octets: memoryview) -> Any:
    """What a matcher or reader takes for octets that stand in something longer."""
    return octets


def matcher(program: bytes, slots: int) -> Callable[[bytes], Sequence[int] | None]:
    """``match`` for one shape."""

    def match_shape(data: bytes) -> Sequence[int] | None:
        return match(data, program, slots)

    return match_shape


def _holds_few(data: bytes, start: int, end: int, most: int) -> bool:
    """Whether at most so many values, all of definite length, stand between two offsets."""
    while start < end:
        value = _value(data, end, start, None)
        if not most or value is None:
            return False
        most -= 1
        start = value[2]
    return True


def reader(
    program: bytes, slots: int, *, max_depth: int, max_nodes: int
) -> Callable[[bytes, int], Sequence[int] | None]:
    """A function that checks one encoding as ``index`` does, then matches it.

    It takes the encoding and ``max_trailing``, and returns or raises what the two would. Both are
    done in one pass; what that does not find in order is gone through again, slowly.
    """
    steps = _steps(program)
    # So many values does a shape pass by itself: whoever comes so near has to be counted exactly.
    budget = max_nodes - len(program)

    def read_shape(data: bytes, max_trailing: int) -> Sequence[int] | None:
        found = None
        try:
            if budget >= 0:
                found = _walk(data, steps, [0] * (3 * slots), max_depth, budget)
        except IndexError:  # it ends inside a tag or length
            pass
        if found is None:
            index(
                data,
                leaf_depth=max_depth + 1,
                max_depth=max_depth,
                max_nodes=max_nodes,
                max_trailing=max_trailing,
            )
            return match(data, program, slots)
        return found

    return read_shape


_Step = tuple[int, int, int, bytes]


def _steps(program: bytes) -> list[_Step]:
    """The instructions of a shape, each as operation, tag, number, and bytes; 0 is any tag.

    The number is that of the slot, or for _IF that of the step to go to without the tag.
    """
    steps: list[_Step] = []
    jumps: dict[int, int] = {}
    at = 0
    places = {}
    while at < len(program):
        places[at] = len(steps)
        op = program[at]
        if op == _SAME:
            size = program[at + 1]
            steps.append((op, 0, size, program[at + 2 : at + 2 + size]))
            at += 2 + size
        elif op == _IF:
            jumps[len(steps)] = at + 3 + program[at + 2]
            steps.append((op, program[at + 1], 0, b""))
            at += 3
        elif op == _TAKE_ANY:
            steps.append((op, 0, 3 * program[at + 1], b""))
            at += 2
        elif op in (_TAKE, _TAKE_OPEN, _TAKE_FEW):
            size = 4 if op == _TAKE_FEW else 3
            steps.append((op, program[at + 1], 3 * program[at + 2], program[at + 3 : at + size]))
            at += size
        else:
            size = 2 if op == _OPEN else 1
            steps.append((op, program[at + 1] if op == _OPEN else 0, 0, b""))
            at += size
    places[at] = len(steps)
    for number, target in jumps.items():
        op, tag, _, rest = steps[number]
        steps[number] = (op, tag, places[target], rest)
    return steps


def _walk(
    data: bytes, steps: list[_Step], found: list[int], max_depth: int, left: int
) -> list[int] | None:
    """Match a shape, and check everything that it passes; None if anything is not in order.

    Raises:
        IndexError: it ends inside a tag or length.
    """
    limits: list[int] = []
    position, limit, at, stop = 0, len(data), 0, len(steps)
    while at < stop:
        op, tag, number, rest = steps[at]
        at += 1
        if op == _SAME:
            end = position + number
            if end > limit or data[position:end] != rest:
                return None
            position = end
            continue
        if op == _CLOSE:
            if position != limit:
                return None
            limit = limits.pop()
            continue
        if op == _IF:
            if position >= limit or data[position] != tag:
                at = number
            continue
        if op == _LEAVE:
            left = plain(data, position, limit, max_depth - len(limits), left)
            if left < 0:
                return None
            position = limit
            limit = limits.pop()
            continue
        if position >= limit or (tag and data[position] != tag):
            return None
        content = position + 2
        length = data[position + 1]
        if length >= 0x80:
            if length > 0x84 or length == 0x80:
                return None
            start = content
            content += length & 0x7F
            length = int.from_bytes(data[start:content], "big")
        end = content + length
        if end > limit:
            return None
        if op in _OPENING:
            depth = len(limits)
            if depth in (MAX_OPEN, max_depth) or (not depth and end != limit):
                return None
            limits.append(limit)
            if op == _TAKE_OPEN:
                found[number : number + 3] = position, content, end
            position, limit = content, end
            continue
        kind = _KINDS[data[position]]
        if kind == _DESCEND:
            left = plain(data, content, end, max_depth - len(limits) - 1, left)
            if left < 0:
                return None
        elif kind != _LEAF and not is_sound(data, data[position], content, end):
            return None
        if op != _PASS:
            if rest and not _holds_few(data, content, end, rest[0]):
                return None
            found[number : number + 3] = position, content, end
        position = end
    return found if position == len(data) and not limits else None


def attributes(data: bytes, start: int, end: int) -> Sequence[int] | None:
    """List the Attributes between two offsets of a checked encoding.

    Returns:
        Five integers for each: start and end of its OID; start, content and end of its
        single value. None if there are more than 64, or one of another form.
    """
    places: list[int] = []
    while start < end:
        attribute = _value(data, end, start, 0x30)
        oid = attribute and _value(data, attribute[2], attribute[1], 0x06)
        values = oid and attribute and _value(data, attribute[2], oid[2], 0x31)
        single = values and _value(data, values[2], values[1], None)
        if not (attribute and oid and values and single) or len(places) == 5 * MAX_ATTRIBUTES:
            return None
        if values[2] != attribute[2] or single[2] != values[2]:
            return None
        places += (oid[0], oid[2], *single)
        start = attribute[2]
    return places


def _value(data: bytes, limit: int, start: int, tag: int | None) -> _Value | None:
    """Where one definite-length value is, if it has that tag."""
    if start + 2 > limit or (tag is not None and data[start] != tag):
        return None
    content = start + 2
    length = data[start + 1]
    if length >= 0x80:
        count = length & 0x7F
        if not 0 < count <= 4 or content + count > limit:
            return None
        length = int.from_bytes(data[content : content + count], "big")
        content += count
    return (start, content, content + length) if content + length <= limit else None


def find_serial(data: bytes, start: int, end: int, serial: bytes) -> int | None:
    """Look a serial number up in the revokedCertificates of a CRL of any length.

    Args:
        data: the CRL.
        start, end: where the content of revokedCertificates is.
        serial: the content octets of the serial number.

    Returns:
        The offset of its entry, or None.

    Raises:
        DecodeError: an entry is not a SEQUENCE that starts with an INTEGER.
    """
    while start < end:
        if data[start] != 0x30:
            raise fail(Fault.BAD_TAG, start)
        content, entry_end = _header(data, end, start, start)
        if content == entry_end or data[content] != 0x02:
            raise fail(Fault.BAD_TAG, start)
        number, number_end = _header(data, entry_end, content, start)
        if data[number:number_end] == serial:
            return start
        start = entry_end
    return None


def _header(data: bytes, limit: int, start: int, entry: int) -> tuple[int, int]:
    """Where the content of a definite-length value starts and ends."""
    content = start + 2
    if content > limit:
        raise fail(Fault.TRUNCATED, entry)
    length = data[start + 1]
    if length >= 0x80:
        count = length & 0x7F
        if not 0 < count <= 4:
            raise fail(Fault.LENGTH_OCTETS, entry)
        if content + count > limit:
            raise fail(Fault.TRUNCATED, entry)
        length = int.from_bytes(data[content : content + count], "big")
        content += count
    if content + length > limit:
        raise fail(Fault.OVERRUN, entry)
    return content, content + length
