"""lazy: made once, where it is asked for, and replaceable by who knows it already."""

from __future__ import annotations

from pyscep.lazy import lazy


class Thing:
    made = 0

    @lazy
    def part(self) -> list[int]:
        """What it is."""
        Thing.made += 1
        return [Thing.made]


def test_a_part_is_made_once_for_each_object() -> None:
    one, other = Thing(), Thing()
    before = Thing.made
    assert one.part is one.part
    assert one.part is not other.part
    assert Thing.made == before + 2


def test_what_is_known_already_is_not_made() -> None:
    thing, known = Thing(), [7]
    thing.__dict__["part"] = known
    before = Thing.made
    assert thing.part is known
    assert Thing.made == before


def test_the_class_has_the_documentation() -> None:
    assert Thing.part.__doc__ == "What it is."
