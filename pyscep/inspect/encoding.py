"""How bytes are encoded: what in them is BER and not DER."""

from __future__ import annotations

from collections.abc import Iterator

from pyscep.codec import der

_UNIVERSAL = 0x40
_BAD_INTEGERS = (0x00, 0xFF)


def features(root: der.Node, *, encrypted: der.Node | None = None) -> list[str]:
    """What is not DER below a value, as sorted words.

    Args:
        encrypted: the encryptedContent of an envelope: an OCTET STRING under another tag.
    """
    found: set[str] = set()
    for node in _walk(root):
        found.update(_of(node))
    if encrypted is not None and encrypted.tag & der.CONSTRUCTED:
        found.add(
            "constructed-octet-string"
            if encrypted.is_indefinite
            else "constructed-definite-encryptedContent"
        )
    return sorted(found)


def _walk(node: der.Node) -> Iterator[der.Node]:
    yield node
    if node.tag & der.CONSTRUCTED:
        for child in node.children():
            yield from _walk(child)


def _of(node: der.Node) -> Iterator[str]:
    if node.is_indefinite:
        yield "indefinite-length"
    else:
        length = node.end - node.content
        octets = 0 if length < 0x80 else (length.bit_length() + 7) // 8
        if node.content - node.start != 2 + octets:
            yield "non-minimal-length"
    if node.tag == der.OCTET_STRING | der.CONSTRUCTED:
        yield "constructed-octet-string"
    elif node.tag & der.CONSTRUCTED and node.tag < _UNIVERSAL:
        if node.tag not in (der.SEQUENCE, der.SET):
            yield "constructed-string"
    elif node.tag == der.INTEGER:
        value = node.value
        if len(value) > 1 and value[0] in _BAD_INTEGERS and (value[0] ^ value[1]) < 0x80:
            yield "non-minimal-integer"
    elif node.tag == der.BOOLEAN and node.value not in (b"\x00", b"\xff"):
        yield "loose-boolean"


def is_sorted_set(node: der.Node) -> bool:
    """The members of a SET OF stand in the order that DER wants."""
    members = [child.raw for child in node.children()]
    return members == sorted(members)
