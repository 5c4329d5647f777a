"""Shapes: what a message usually looks like, compiled for one pass over its bytes.

A shape lists what stands in an encoding, in order, and which parts are wanted. Matching one
checks all bounds of the index, then reads off offsets; a message that looks different
(BER, unusual attributes) simply does not match, and the general reader takes over. Shapes say
where things are; what they mean is the affair of the modules that define them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyscep.codec import MAX_DEPTH, MAX_NODES, matcher, reader

# The numbers are those of enum pyscep_op in csrc/codec.h.
_OPEN, _CLOSE, _LEAVE, _TAKE, _TAKE_ANY, _PASS, _SAME, _IF, _TAKE_OPEN, _TAKE_FEW = range(1, 11)

Place = tuple[int, int, int]
"""Start, content and end of a value; three zeros where it is absent."""


class Shape:
    """A compiled shape, to be matched in two ways.

    Both give start, content and end of each slot, one after the other in the order of ``names``,
    three zeros where it is absent; None if the data has another shape.

    Args:
        program: the instructions.
        names: of the slots.
    """

    __slots__ = ("find", "names", "program", "read")

    def __init__(self, program: bytes, names: tuple[str, ...]) -> None:
        self.program = program
        self.names = names
        self.read = reader(program, len(names), max_depth=MAX_DEPTH, max_nodes=MAX_NODES)
        """``read(data, max_trailing)``: of one encoding, whose bounds are checked first. Raises
        DecodeError if it is out of them."""
        self.find = matcher(program, len(names))
        """``find(data)``: of an encoding that has passed the index, or part of one."""

    def match(self, data: bytes) -> Sequence[Place] | None:
        """``find``, with the three numbers of each slot together."""
        places = self.find(data)
        return None if places is None else list(zip(*[iter(places)] * 3, strict=True))


class ShapeBuilder:
    """Writes a shape; slots are numbered in the order in which they are named."""

    def __init__(self) -> None:
        self._program = bytearray()
        self._names: list[str] = []

    def open(self, tag: int) -> ShapeBuilder:
        """Enter a value with that tag."""
        return self._add(_OPEN, tag)

    def close(self) -> ShapeBuilder:
        """The value entered last ends here."""
        return self._add(_CLOSE)

    def leave(self) -> ShapeBuilder:
        """Pass over what is left of the value entered last."""
        return self._add(_LEAVE)

    def take(self, tag: int, name: str) -> ShapeBuilder:
        """A value with that tag is wanted."""
        return self._add(_TAKE, tag, self._slot(name))

    def take_any(self, name: str) -> ShapeBuilder:
        """The next value is wanted, whatever it is."""
        return self._add(_TAKE_ANY, self._slot(name))

    def pass_over(self) -> ShapeBuilder:
        """The next value is not wanted."""
        return self._add(_PASS)

    def same(self, encoded: bytes) -> ShapeBuilder:
        """Exactly these bytes come next."""
        self._add(_SAME, len(encoded))
        self._program += encoded
        return self

    def take_open(self, tag: int, name: str) -> ShapeBuilder:
        """A value with that tag is wanted, and entered."""
        return self._add(_TAKE_OPEN, tag, self._slot(name))

    def take_few(self, tag: int, name: str, most: int) -> ShapeBuilder:
        """A value with that tag is wanted; it holds at most so many of definite length."""
        return self._add(_TAKE_FEW, tag, self._slot(name), most)

    def optional(self, tag: int, inside: Callable[[ShapeBuilder], ShapeBuilder]) -> ShapeBuilder:
        """What ``inside`` adds, if a value with that tag comes next."""
        self._add(_IF, tag, 0)
        size_at = len(self._program) - 1
        inside(self)
        self._program[size_at] = len(self._program) - size_at - 1
        return self

    def take_optional(self, tag: int, name: str) -> ShapeBuilder:
        """A value with that tag is wanted, if it comes next."""
        return self.optional(tag, lambda shape: shape.take(tag, name))

    def build(self) -> Shape:
        return Shape(bytes(self._program), tuple(self._names))

    def _slot(self, name: str) -> int:
        self._names.append(name)
        return len(self._names) - 1

    def _add(self, *numbers: int) -> ShapeBuilder:
        self._program += bytes(numbers)
        return self
