"""Query text and DER, against what else reads and writes them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from benchmarks import peers, reference
from benchmarks.payloads import CHALLENGE_SIZES, make_enrollment
from benchmarks.ratios import Results, Settings, compare
from pyscep import codec
from pyscep.attributes import message_type_of, transaction_of
from pyscep.cms import enveloped_data, signed_data
from pyscep.errors import DecodeError

MALFORMED = (
    "cut in half",
    "one byte short",
    "trailing bytes",
    "attribute overrun",
    "attribute tag",
    "envelope tag",
    "deep nesting",
)


def query(settings: Settings, sizes: tuple[str, ...] = tuple(CHALLENGE_SIZES)) -> Results:
    """GET query text to DER and back."""
    results: Results = {}
    for size in sizes:
        case = make_enrollment(size, CHALLENGE_SIZES[size])
        text, data = case.text, case.message
        decoders: list[Callable[[bytes], bytes]] = [peers.typical_decode, peers.replace_decode]
        assert all(decode(text) == data for decode in (codec.decode_message, *decoders))
        typical, replace = compare(
            settings,
            lambda text=text: codec.decode_message(text),
            *(lambda decode=decode, text=text: decode(text) for decode in decoders),
        )
        results[f"decode {size} us"] = typical.base
        results[f"decode {size} typical"] = typical.ratio
        results[f"decode {size} replace"] = replace.ratio
        assert codec.encode_message(data) == peers.typical_encode(data) == text.decode()
        typical, replace = compare(
            settings,
            lambda data=data: codec.encode_message(data),
            lambda data=data: peers.typical_encode(data),
            lambda data=data: peers.replace_encode(data),
        )
        results[f"encode {size} us"] = typical.base
        results[f"encode {size} typical"] = typical.ratio
        results[f"encode {size} replace"] = replace.ratio
    return results


def hostile(settings: Settings) -> Results:
    """A query with every character escaped."""
    data = secrets.token_bytes(15_000)
    usual = codec.encode_message(data).encode()
    whole, half = (all_escaped(data[:size]) for size in (15_000, 7_500))
    assert codec.decode_message(whole) == data == peers.typical_decode(whole)
    typical, halved, friendly = compare(
        settings,
        lambda: codec.decode_message(whole),
        lambda: peers.typical_decode(whole),
        lambda: codec.decode_message(half),
        lambda: codec.decode_message(usual),
    )
    return {
        "escaped us": typical.base,
        "escaped typical": typical.ratio,
        "escaped 2n / n": 1 / halved.ratio,
        "escaped per byte": len(usual) / len(whole) / friendly.ratio,
    }


def all_escaped(data: bytes) -> bytes:
    """Query text in which even letters are escaped."""
    text = peers.pybase64.b64encode(data)
    return b"".join(b"%%%02X" % character for character in text)


def parse(message: bytes) -> tuple[Any, Any]:
    """Both layers of a pkiMessage, bounds checked, all fields readable."""
    signed = signed_data.read_signed_data(message)
    return signed, enveloped_data.read_enveloped_data(signed.content or b"")


def parse_and_read(message: bytes) -> tuple[Any, ...]:
    """The same, and what an enrollment reads of it."""
    signed, envelope = parse(message)
    info = signed.signers[0]
    attributes = info.attributes
    return (
        message_type_of(attributes),
        transaction_of(attributes),
        attributes[signed_data.MESSAGE_DIGEST].value,
        info.signature,
        info.sid.raw,
        envelope.recipients[0].encrypted_key,
        envelope.encrypted_content,
    )


def structure(settings: Settings) -> Results:
    """DER of a PKCSReq to its fields, and how fast a malformed one is refused."""
    small = make_enrollment("small", CHALLENGE_SIZES["small"]).message
    large = make_enrollment("40k", CHALLENGE_SIZES["40k"]).message
    assert reference.fields(large)["ciphertext"] == parse(large)[1].encrypted_content
    asn1crypto, hazmat, pyasn1, read, short = compare(
        settings,
        lambda: parse(large),
        lambda: reference.fields(large),
        lambda: peers.hazmat_parse(large),
        lambda: peers.pyasn1_parse(large),
        lambda: parse_and_read(large),
        lambda: parse(small),
    )
    refused = malformed(large)
    for data in refused.values():
        assert _is_refused(data)
    rejects = compare(
        settings,
        lambda: parse(large),
        *(lambda data=data: _is_refused(data) for data in refused.values()),
    )
    worst = max(rejects, key=lambda one: one.ratio)
    return {
        "parse us": asn1crypto.base,
        "parse asn1crypto": asn1crypto.ratio,
        "parse hazmat": hazmat.ratio,
        "parse pyasn1": pyasn1.ratio,
        "parse and read": read.ratio,
        "parse 40k / small": 1 / short.ratio,
        "reject / accept": worst.ratio,
        **{
            f"reject {name} / accept": one.ratio for name, one in zip(refused, rejects, strict=True)
        },
    }


def malformed(message: bytes) -> dict[str, bytes]:
    """Broken variants of a pkiMessage."""
    signed = signed_data.read_signed_data(message)
    attributes = signed.signers[0].signed_attributes
    assert attributes is not None
    assert signed.content_node is not None

    def patched(offset: int, value: int) -> bytes:
        return message[:offset] + bytes((value,)) + message[offset + 1 :]

    variants = (
        message[: len(message) // 2],
        message[:-1],
        message + bytes(20),
        patched(attributes.content + 1, 0x7F),
        patched(attributes.content, 0x00),
        patched(signed.content_node.content, 0x31),
        b"\x30\x80" * 14_000,
    )
    return dict(zip(MALFORMED, variants, strict=True))


def _is_refused(data: bytes) -> bool:
    try:
        parse(data)
    except DecodeError:
        return True
    return False
