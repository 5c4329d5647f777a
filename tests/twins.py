"""The two codec back ends side by side: for each kernel the same value, or the same refusal.

``python -m tests.twins COUNT [SEED]`` compares that many mutants and prints a summary;
``python -m tests.twins --files DIRECTORY...`` what every file below the directories holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyscep import crl, identity, pkcs10
from pyscep.cms import enveloped_data, signed_reader
from pyscep.codec import MAX_DEPTH, MAX_NODES, _native, _pure, _pure_shapes, der
from pyscep.codec.shapes import Shape
from pyscep.errors import DecodeError
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.mutants import bytes_mutant

SHAPES: tuple[Shape, ...] = (
    pkcs10._USUAL, enveloped_data._USUAL, signed_reader._USUAL, crl._HEAD,
    identity._USUAL)
"""Every shape that the package matches."""
WHOLE = {"leaf_depth": MAX_DEPTH + 1, "max_depth": MAX_DEPTH, "max_nodes": MAX_NODES,
         "max_trailing": 0}


def kernels() -> tuple[str, ...]:
    """Those that this machine can run."""
    native = _native
    assert native is not None, "the native back end is not built"
    return tuple(name for name, number in native._KERNELS.items()
                 if native.lib.pyscep_kernel_available(number))


@contextmanager
def kernel(name: str) -> Iterator[Any]:
    """The native back end with that kernel; then the one that was chosen at import again."""
    native = _native
    assert native is not None
    native.lib.pyscep_use_kernel(native._KERNELS[name])
    try:
        yield native
    finally:
        native.lib.pyscep_use_kernel(native._KERNELS[native.KERNEL])


class Difference(AssertionError):
    """The back ends disagree."""


def outcome(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The value, or class, reason and offset of the refusal."""
    try:
        value = work(*args, **options)
    except DecodeError as error:
        return type(error), error.reason, error.offset
    return tuple(value) if isinstance(value, (list, memoryview)) else value


def same(expected: Any, got: Any, what: str, data: bytes, *about: Any) -> Any:
    if expected != got:
        raise Difference(f"{what}{about or ''} of {data.hex()}: {expected!r:.200} and {got!r:.200}")
    return expected


class Twins:
    """Compares one function after the other, and counts what came out."""

    def __init__(self) -> None:
        self.native: Any = _native
        self.kernels = [self.native._KERNELS[name] for name in kernels()]
        self.use = self.native.lib.pyscep_use_kernel
        self.counts: Counter[str] = Counter()

    def close(self) -> None:
        """Choose the kernel of the import again."""
        self.use(self.native._KERNELS[self.native.KERNEL])

    def query(self, text: bytes) -> None:
        expected = outcome(_pure.decode_message, text)
        for number in self.kernels:
            self.use(number)
            got = outcome(self.native.decode_message, text)
            same(expected, got, "decode_message", text, number)
        self.counts["query accepted" if isinstance(expected, bytes) else "query refused"] += 1

    def encoding(self, data: bytes) -> None:
        expected = _pure.encode_message(data)
        for number in self.kernels:
            self.use(number)
            same(expected, self.native.encode_message(data), "encode_message", data, number)
        self.counts["encoded"] += 1

    def der(self, data: bytes, **bounds: int) -> None:
        """Index; the shapes; for what passes, the attributes of it too."""
        bounds = WHOLE | bounds
        table = outcome(_pure.index, data, **bounds)
        same(table, outcome(self.native.index, data, **bounds), "index", data, bounds)
        self.counts["index accepted" if len(table) > 3 else "index refused"] += 1
        self.shapes(data)
        if len(table) > 3:
            self.attributes(data, table)

    def shapes(self, data: bytes) -> None:
        """What no index has checked must come out the same, too."""
        for shape in SHAPES:
            slots = len(shape.names)
            found = _pure_shapes.match(data, shape.program, slots)
            same(found, self.match(data, shape.program, slots), "match", data, slots)
            for max_trailing in (0, 8):
                read, native = (outcome(twin.reader(shape.program, slots, max_depth=MAX_DEPTH,
                                                    max_nodes=MAX_NODES), data, max_trailing)
                                for twin in (_pure_shapes, self.native))
                if isinstance(native, self.native.ffi.CData):
                    native = tuple(native)
                same(read, native, "reader", data, slots, max_trailing)
            self.counts["matched" if found else "not matched"] += 1

    def match(self, data: bytes, program: bytes, slots: int) -> tuple[int, ...] | None:
        """What the native back end says."""
        found = self.native.matcher(program, slots)(data)
        return None if found is None else tuple(found)

    def attributes(self, data: bytes, table: Sequence[int]) -> None:
        """At every set that the index lists, and its neighbors."""
        for at in range(0, len(table), 4):
            start, content, end, _ = table[at:at + 4]
            if data[start] in (0x31, 0xA0) or (data[start] == 0x30 and end - content < 300):
                self.attributes_at(data, content, end)

    def attributes_at(self, data: bytes, start: int, end: int) -> None:
        found = _pure_shapes.attributes(data, start, end)
        same(found, self.native.attributes(data, start, end), "attributes", data, start, end)
        self.counts["attributes" if found else "no attributes"] += 1

    def serial(self, data: bytes, start: int, end: int, serial: bytes) -> None:
        expected = outcome(_pure_shapes.find_serial, data, start, end, serial)
        same(expected, outcome(self.native.find_serial, data, start, end, serial),
             "find_serial", data, start, end, serial)
        self.counts["serial found" if isinstance(expected, int) else "serial not found"] += 1

    def file(self, data: bytes) -> None:
        """Everything that bytes of any kind can be given to."""
        self.query(data)
        self.encoding(data)
        self.der(data)
        self.der(data, leaf_depth=2, max_trailing=8)
        self.query(quote(base64.b64encode(data), safe="").encode())
        self.revoked(data)

    def revoked(self, data: bytes) -> None:
        """Serial numbers of a CRL: the first, the last, one that is not there."""
        places = _pure_shapes.match(data, crl._HEAD.program, len(crl._HEAD.names))
        if not places or not places[5] or data[places[0]] not in (der.UTC_TIME,
                                                                  der.GENERALIZED_TIME):
            return
        self.counts["CRLs"] += 1
        start, end = places[4:6]
        entries = der.split(data, start, end) or []
        numbers = [entry.children()[0].value for entry in (*entries[:1], *entries[-1:])
                   if entry.children()]
        for serial in (*numbers, b"\x05"):
            self.serial(data, start, end, serial)


def nested(data: bytes) -> Iterator[bytes]:
    """The encodings in the octet strings of another, those in pieces put together."""
    table = outcome(_pure.index, data, **WHOLE)
    for at in range(0, len(table) // 4 * 4, 4):
        start, content, end, after = table[at:at + 4]
        octets = data[content:end]
        if data[start] == 0x24:
            pieces = [table[row:row + 3] for row in range(at + 4, 4 * after, 4)]
            octets = b"".join(data[piece[1]:piece[2]] for piece in pieces)
        if data[start] in (4, 0x24) and octets[:1] == b"\x30":
            yield octets


# --- mutants ------------------------------------------------------------------------------


def _trees() -> tuple[bytes, ...]:
    message = forge.pkcs_req(keys.ca())
    csr = keys.csr(keys.rsa_key("client"), challenge="secret")
    return (
        message.build(), message.but(style=asn1.BER).build(), message.octets, csr, csr, csr,
        keys.csr(keys.ec_key("client"), challenge="secret"), keys.ca().der,
        keys.crl(keys.ca(), *range(1, 6)),
        *(asn1.seq(asn1.oid("1.2.840.113549.1.9.7"), asn1.tlv(0x31, asn1.tlv(0x13, b"x" * size)))
          for size in (1, 60, 200)),
        asn1.seq(asn1.integer(1), asn1.seq(asn1.null(), asn1.oid("2.5.4.3")),
                 asn1.tlv(0xA0, asn1.integer(5))),
        asn1.BER.seq(asn1.BER.seq(asn1.integer(7)), asn1.tlv(4, b"abc")),
    )


_ESCAPES = (b"%2B", b"%2F", b"%3D", b"%2b", b"%0A", b"%09", b"%20", b"%25", b"%252B", b"%41",
            b"%zz", b"%", b"%2", b"=", b"\n", b"\r\n", b" ", b"-", b"_", b"+", b"/", b"\x80", b"!",
            b"%%", b"%2541", b"%0", b"==")


def query_mutant(chance: random.Random) -> bytes:
    """The text of a few bytes or a few hundred, escaped in some way and damaged or not."""
    data = chance.randbytes(chance.choice((1, 2, 3, 9, 20, 60, 100, 150, 300)))
    plain = base64.b64encode(data)
    match chance.randrange(8):
        case 0 | 1 | 2:
            text = plain.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")
        case 3:
            text = plain
        case 4:
            text = b"".join(b"%%%02X" % byte if chance.random() < 0.3 else bytes((byte,))
                            for byte in plain)
        case 5:
            text = b"%" + plain.hex("%").upper().encode()
        case 6:
            width = chance.choice((4, 10, 64, 76))
            text = b"\r\n".join(plain[at:at + width] for at in range(0, len(plain), width))
        case _:
            text = plain.replace(b"+", b"%252B").replace(b"/", b"%252F").replace(b"=", b"%253D")
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at]
            case 1:
                text = bytes_mutant(text, chance)
            case _:
                text = text[:at] + chance.choice(_ESCAPES) + text[at + chance.randrange(2):]
    return text


def run(count: int, seed: int) -> Counter[str]:
    """Compare that many mutants; raises Difference at the first that differs."""
    chance = random.Random(seed)
    trees = _trees()
    crls = [asn1.seq(*(asn1.seq(asn1.integer(serial), asn1.tlv(0x17, b"250101000000Z"))
                       for serial in serials))
            for serials in ((1, 2, 300), range(120, 140), range(1 << 126, (1 << 126) + 40))]
    twins = Twins()
    try:
        for number in range(count):
            match number % 5:
                case 0 | 1:
                    twins.query(query_mutant(chance))
                case 2 | 3:
                    bounds = {"max_depth": chance.choice((24, 24, 3)), "max_nodes": MAX_NODES,
                              "leaf_depth": chance.choice((25, 25, 2)),
                              "max_trailing": chance.choice((0, 8))}
                    twins.der(bytes_mutant(chance.choice(trees), chance), **bounds)
                case _ if number % 2:
                    twins.encoding(chance.randbytes(chance.randrange(200)))
                case _:
                    data = bytes_mutant(chance.choice(crls), chance)
                    end = chance.choice((len(data), len(data), chance.randrange(len(data) + 1)))
                    twins.serial(data, min(chance.choice((2, 2, 0)), end), end,
                                 chance.choice((b"\x01", b"\x01\x2c", b"\x7f", b"\x00\x80", b"",
                                                b"\x40" + bytes(14) + b"\x26")))
    finally:
        twins.close()
    return twins.counts


LARGEST_FILE = 200_000
"""In bytes: what is longer is lists of numbers for ciphers."""
_PEM = re.compile(rb"-----BEGIN [^\n]*-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END ")


_HEX = re.compile(rb"(?<![0-9A-Za-z])30[0-9a-fA-F]{6,}(?![0-9A-Za-z])")


def _armored(data: bytes) -> Iterator[bytes]:
    for text in _PEM.findall(data):
        with suppress(binascii.Error):  # damaged on purpose
            yield binascii.a2b_base64(text)


def run_files(directories: Sequence[str]) -> Counter[str]:
    """Compare what every file below the directories gives: as bytes, its PEM, and SEQUENCEs in hex.

    The last are how collections of test vectors carry keys and signatures.
    """
    twins = Twins()
    seen: set[bytes] = set()
    try:
        for directory in directories:
            for path in sorted(Path(directory).rglob("*")):
                if not path.is_file():
                    continue
                data = path.read_bytes()
                values = {"files": [data] if len(data) < LARGEST_FILE else [],
                          "PEM blocks": list(_armored(data)),
                          "values in hexadecimal": [bytes.fromhex(text.decode())
                                                    for text in _HEX.findall(data)
                                                    if len(text) % 2 == 0]}
                for what, octets in values.items():
                    for one in octets:
                        digest = hashlib.sha256(one).digest()
                        if digest not in seen:
                            seen.add(digest)
                            twins.counts[what] += 1
                            twins.file(one)
    finally:
        twins.close()
    return twins.counts


def main() -> None:
    started = time.monotonic()
    if sys.argv[1] == "--files":
        counts = run_files(sys.argv[2:])
    else:
        counts = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8894)
    print(", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))
    seconds = time.monotonic() - started
    print(f"kernels {', '.join(kernels())}; {seconds:.0f} seconds; no difference")


if __name__ == "__main__":
    main()
