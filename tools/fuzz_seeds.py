"""Write the seeds of the fuzz targets in csrc/fuzz from the captured messages of tests/vectors.

usage: fuzz_seeds.py DIRECTORY   (one folder for each target is made in it)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "corpus"
MOST = {"decode": 8_000}
"""Larger inputs only slow the fuzzer down; in bytes, 3,000 for the other targets."""

SMALL_TEXTS = (
    b"QUJD",
    b"QQ%3D%3D",
    b"QQ==",
    b"QQ",
    b"Q%55JD",
    b"%51%55%4A%44" * 12,
    b"QU\r\nJD",
    b"Q-_ ",
    b"QUI%253D",
    b"%",
    b"%4",
    b"%zz",
    b"AA=A",
    b"A===",
    b"QUJD" * 40 + b"%2B" + b"QUJD" * 20,
)
# An escape that begins with the last byte of a block of 16 or 64, and ends the text or doesn't.
EDGES = tuple(
    (b"A" * (block - 1) + b"%2B").ljust(size, b"A")
    for block in (16, 64)
    for size in (*range(block + 2, block + 20), *range(2 * block - 2, 2 * block + 4))
)
SMALL_VALUES = (
    "3000",
    "30800000",
    "3003020101",
    "308003020101 0000",
    "3084000000 03 020101",
    "3083ffff",
    "240404020102",
    "0603551d0e",
    "30 0b 0603551d0e 3104 04020500",
    "a003020105",
)


def texts_and_values() -> tuple[set[bytes], set[bytes]]:
    """Query texts and encodings."""
    texts, values = {*SMALL_TEXTS, *EDGES}, {bytes.fromhex(value) for value in SMALL_VALUES}
    for path in sorted(CORPUS.rglob("*.re[qs]*")):
        head, _, body = path.read_bytes().partition(b"\r\n\r\n")
        _, found, query = head.partition(b"\r\n")[0].partition(b"message=")
        if found:
            text = query.split(b" ")[0].split(b"&")[0]
            texts.add(text)
            try:
                body = base64.b64decode(unquote_to_bytes(text))
            except binascii.Error:
                continue
        if body[:1] == b"\x30":
            values.add(body)
            texts.add(quote(base64.b64encode(body), safe="").encode())
            values.update(nested(body))
    return texts, values


def nested(data: bytes) -> Iterator[bytes]:
    """Roughly: what starts like a long SEQUENCE and fits."""
    at = data.find(b"\x30\x82", 1)
    while at >= 0:
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end <= len(data) and end - at > 400:
            yield data[at:end]
        at = data.find(b"\x30\x82", at + 1)


def main() -> None:
    where = Path(sys.argv[1])
    texts, values = texts_and_values()
    entry = bytes.fromhex("3010 020101 170b 3235303130313030305a00")
    seeds = {
        "decode": texts,
        "encode": values,
        "index": {bytes([bounds]) + value for value in values for bounds in (0x1D, 0x00)},
        "match": {bytes([program]) + value for value in values for program in range(4)},
        "serial": {
            b"\x01\x01" + entry,
            b"\x02\x01\x02" + entry * 3,
            b"\x00" + entry,
            b"\x01\x02" + entry * 40,
            b"\x01\x02" + (entry * 9 + b"\x30\x04\x02\x02\x01\x01") * 5,
        },
    }
    for target, inputs in seeds.items():
        folder = where / target
        folder.mkdir(parents=True, exist_ok=True)
        for data in sorted(inputs):
            if len(data) <= MOST.get(target, 3_000):
                name = hashlib.sha256(data).hexdigest()[:16]
                (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
