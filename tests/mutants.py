"""Seeded mutants of encodings: of their bytes, and of their structure with lengths put right."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests import forge_keys as keys
from tests import forge_tlv as asn1

COUNT = int(os.environ.get("PYSCEP_MUTANTS", "2000"))
"""How many raw mutants a run makes in all; more for a long run."""

_CONTENTS = (
    b"", b"\x00", b"\xff", b"\x80", b"\x7f" * 9, bytes(64), b"\xff" * 2049, b"3", b"19", b"99999",
    b"\x30\x80", b"\x30\x00", b"-1", b"\xd9\xa1\xd9\xa9", b"250101000000Z", b"x" * 300,
)
_TAGS = (1, 2, 3, 4, 5, 6, 0x0A, 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1C, 0x1E, 0x24, 0x30, 0x31,
         0x80, 0x81, 0xA0, 0xA1, 0xA2, 0xA3, 0x00, 0x1F)
_INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF, 0x30, 0x31, 0xA0, 0x24)


def bytes_mutant(data: bytes, chance: random.Random) -> bytes:
    """One to three changes that know nothing of structure."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(changed)) if changed else 0
        size = chance.choice((1, 1, 2, 5, 40))
        match chance.randrange(7):
            case 0 if changed:
                changed[at] ^= 1 << chance.randrange(8)
            case 1 if changed:
                changed[at] = chance.choice(_INTERESTING)
            case 2:
                del changed[at:at + size]
            case 3:
                changed[at:at] = chance.randbytes(size)
            case 4:
                changed[at:at] = changed[at:at + size]
            case 5:
                del changed[at:]
            case _:
                other = chance.randrange(len(changed)) if changed else 0
                changed[at:at + size] = changed[other:other + size]
    return bytes(changed)


@dataclass
class Tree:
    """An encoding taken apart: constructed values, and strings that hold encodings, have parts."""

    tag: int
    content: bytes = b""
    parts: list[Tree] = field(default_factory=list)
    head: bytes = b""
    """Octets before the parts: the count of unused bits of a BIT STRING."""
    indefinite: bool = False

    @classmethod
    def read(cls, data: bytes) -> Tree:
        return cls._of(asn1.read(data))

    @classmethod
    def _of(cls, element: asn1.Element) -> Tree:
        if element.tag & 0x20:
            return cls(element.tag, parts=[cls._of(child) for child in element])
        head = element.content[:1] if element.tag == asn1.BIT_STRING else b""
        inside = element.content[len(head):]
        if element.tag in (asn1.OCTET_STRING, asn1.BIT_STRING) and inside[:1] == b"\x30":
            try:
                return cls(element.tag, parts=[cls._of(asn1.read(inside))], head=head)
            except (AssertionError, IndexError):
                pass
        return cls(element.tag, element.content)

    def encode(self) -> bytes:
        inside = self.content or self.head + b"".join(part.encode() for part in self.parts)
        if self.indefinite:
            return bytes((self.tag, 0x80)) + inside + b"\x00\x00"
        return asn1.tlv(self.tag, inside)

    def copy(self) -> Tree:
        return Tree(self.tag, self.content, [part.copy() for part in self.parts], self.head,
                    self.indefinite)

    def containers(self) -> Iterator[Tree]:
        if self.parts:
            yield self
        for part in self.parts:
            yield from part.containers()


def tree_mutant(tree: Tree, chance: random.Random) -> Tree:
    """One or two values added, taken out, exchanged or changed; all lengths are right."""
    root = tree.copy()
    for _ in range(chance.choice((1, 1, 2))):
        parent = chance.choice(list(root.containers()) or [root])
        if not parent.parts:
            break
        _change(parent, chance.randrange(len(parent.parts)), chance)
    return root


def _change(parent: Tree, at: int, chance: random.Random) -> None:
    parts, one = parent.parts, parent.parts[at]
    match chance.randrange(10):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, one.copy())
        case 2:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            one.tag = chance.choice(_TAGS)
        case 4:
            one.parts, one.content = [], chance.choice(_CONTENTS)
        case 5:
            parts[at] = Tree(chance.choice((0x30, 0x31, 0xA0, 0x24)), parts=[one])
        case 6:
            one.indefinite = bool(one.tag & 0x20)
        case 7:
            one.parts.append(Tree(chance.choice(_TAGS), chance.choice(_CONTENTS)))
        case 8 if one.content:
            one.content = bytes_mutant(one.content, chance)
        case _:
            parts.insert(at, Tree(chance.choice(_TAGS), chance.choice(_CONTENTS)))


def resigned(message: Tree, signer: keys.Party) -> bytes:
    """The encoding with messageDigest and signature made anew, as far as their places are left."""
    try:
        signed = message.parts[1].parts[0]
        info = signed.parts[-1].parts[0]
        attributes, signature = info.parts[3], info.parts[5]
        encapsulated = signed.parts[2].parts
        octets = encapsulated[1].parts[0].encode() if len(encapsulated) > 1 else b"\x04\x00"
        digest = hashlib.sha256(asn1.read(octets).content).digest()
        wanted = asn1.oid("1.2.840.113549.1.9.4")
        for attribute in attributes.parts:
            if attribute.parts and attribute.parts[0].encode() == wanted:
                attribute.parts[1].parts[0].content = digest
        signed_bytes = b"\x31" + attributes.encode()[1:]
        signature.parts, signature.content = [], keys.sign(signer.key, signed_bytes)
    except (IndexError, AssertionError):
        pass  # nothing left to sign: a raw mutant then
    return message.encode()
