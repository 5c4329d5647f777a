"""Inspecting: take off the wrapping, tell what it is, and read layer after layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cryptography import x509

from pyscep.cms.certs_only import read_certs_only
from pyscep.cms.enveloped_data import ID_ENVELOPED_DATA
from pyscep.cms.signed_data import ID_SIGNED_DATA, MAX_TRAILING
from pyscep.codec import der
from pyscep.errors import DecodeError, ProtocolError
from pyscep.identity import RawCertificate
from pyscep.inspect import documents, encoding
from pyscep.inspect.envelope import OpeningKey, open_envelope, opening_keys
from pyscep.inspect.names import name_text
from pyscep.inspect.report import Draft, Layer, Report
from pyscep.inspect.signed import Outer, is_pki_message, read_outer
from pyscep.inspect.unwrapping import MAX_BYTES, is_capability_list, unwrap

# How deep to look so that the entries of a CRL, perhaps a million, are never listed: fields of
# what is signed, and certificates and CRLs of a certificates-only message.
_SIGNED_DEPTH: Final = 2
_BAG_DEPTH: Final = 4
_BARE: Final = frozenset({"DER", "PEM", "base64"})
"""Forms that say nothing by themselves."""


def inspect(
    data: bytes,
    *,
    keys: Sequence[Any] = (),
    certificates: Sequence[x509.Certificate] = (),
) -> Report:
    """Explain a message in whatever form it is at hand.

    Args:
        data: DER, BER, PEM, base64, a URL, a log line, or an HTTP request or response; of a
            pkiMessage, a GetCACaps or GetCACert answer, a certificate, a CSR or a CRL. At
            most 64 MiB.
        keys: private keys, or pairs of certificate and private key, that may open envelopes.
        certificates: where to look for a signer that the message does not bring.

    Raises:
        DecodeError: it is none of these.
        TypeError: a key that is no key.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(f"longer than {MAX_BYTES} bytes")
    reader = _Reader(opening_keys(keys), tuple(map(RawCertificate.from_certificate, certificates)))
    unwrapped = unwrap(data)
    kind, layers = unwrapped.kind, list(unwrapped.layers)
    for number, body in enumerate(unwrapped.bodies):
        try:
            inner, more = reader.read(body)
        except ProtocolError as error:
            if kind in _BARE:
                raise
            # What HTTP carried is no message, but the HTTP around it is worth seeing.
            inner, more = kind, [_unreadable("body", error)]
        layers += more
        kind = kind if number else inner
    return Report(kind=kind, layers=tuple(layers), keys_given=bool(keys))


class _Reader:
    """Reads encoded values with the keys at hand."""

    def __init__(
        self, keys: tuple[OpeningKey, ...], certificates: tuple[RawCertificate, ...]
    ) -> None:
        self._keys = keys
        self._certificates = certificates

    def read(self, data: bytes) -> tuple[str, list[Layer]]:
        """What one value is, and its layers.

        Raises:
            DecodeError: nothing that is known here.
        """
        if is_capability_list(data):
            return "GetCACaps answer", [documents.capabilities_layer(data)]
        kind = classify(data)
        match kind:
            case "certificate request":
                return kind, [documents.request_layer(data)]
            case "certificate":
                return kind, [documents.certificate_layer(data)]
            case "certificate revocation list":
                return kind, [documents.crl_layer(data)]
            case "certificates":
                return kind, [certificates_in(data, "certificates")]
            case "envelopedData":
                return kind, self._envelope(data, None)
            case "signedData":
                return self._signed(data)
            case _:
                return kind, [_identifiers(data, kind)]

    def _signed(self, data: bytes) -> tuple[str, list[Layer]]:
        scep = is_pki_message(data)
        draft = Draft("signature")
        outer = read_outer(data, draft, self._certificates)
        inner: list[Layer] = []
        if outer.content and (scep or _is_envelope(outer.content)):
            inner = self._envelope(outer.content, outer)
        elif outer.content:  # GetNextCACert
            inner = [_guarded(outer.content, "certificates", certificates_in)]
        ber = draft.fields["ber_features"] or any(
            layer.fields.get("envelope_ber_features") for layer in inner
        )
        draft.fields["encoding"] = "BER" if ber else "DER"
        return "pkiMessage" if scep else "signedData", [draft.finish(), *inner]

    def _envelope(self, data: bytes, outer: Outer | None) -> list[Layer]:
        draft = Draft("envelope")
        plaintext = open_envelope(data, self._keys, draft)
        if plaintext is None:
            return [draft.finish()]
        expected = None if outer is None else _EXPECTED.get(outer.message_type or "")
        try:
            kind = classify(plaintext)
        except ProtocolError as error:
            draft.fields["problem"] = str(error)
            draft.remark("bad-plaintext", f"the plaintext can't be read: {error}")
            return [draft.finish()]
        if expected is not None and kind != expected:
            draft.remark("wrong-plaintext", f"the plaintext is: {kind}; expected is: {expected}")
        return [draft.finish(), self._plaintext(plaintext, kind, outer)]

    def _plaintext(self, data: bytes, kind: str, outer: Outer | None) -> Layer:
        match kind:
            case "certificate request":
                signer = outer.signer if outer else None
                spki = signer.spki if signer else None
                return _guarded(data, kind, lambda data, _: documents.request_layer(data, spki))
            case "certificates":
                return _guarded(data, "certificates inside", certificates_in)
            case _:
                return _guarded(data, kind, _identifiers)


_EXPECTED: Final = {
    "PKCSReq": "certificate request",
    "RenewalReq": "certificate request",
    "CertPoll": "issuer and subject",
    "GetCert": "issuer and serial number",
    "GetCRL": "issuer and serial number",
    "CertRep": "certificates",
}


def _guarded(data: bytes, title: str, read: Callable[[bytes, str], Layer]) -> Layer:
    """A layer, or one that says why it can't be read."""
    try:
        return read(data, title)
    except ProtocolError as error:
        return _unreadable(title, error)


def _unreadable(title: str, error: ProtocolError) -> Layer:
    draft = Draft(title)
    draft.fields["problem"] = str(error)
    draft.remark("unreadable", f"{title}: {error}")
    return draft.finish()


def classify(data: bytes) -> str:
    """What kind of structure this is, by its shape alone.

    Raises:
        DecodeError: not BER, or a shape that is not known here.
    """
    root = der.read(data, leaf_depth=_SIGNED_DEPTH, max_trailing=MAX_TRAILING)
    fields = root.fields(der.SEQUENCE, 2, "the structure")
    tags = [node.tag for node in fields]
    if tags[0] == der.OID:
        root = der.read(data, leaf_depth=_BAG_DEPTH, max_trailing=MAX_TRAILING)
        return _content_kind(root.children())
    if tags[:2] == [der.INTEGER, der.SET] and len(tags) >= 4:
        return "certificates"  # SignedData without ContentInfo around it
    if tags == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        return _signed_structure_kind(fields[0])
    if tags == [der.SEQUENCE, der.SEQUENCE]:
        return "issuer and subject"
    if tags == [der.SEQUENCE, der.INTEGER]:
        return "issuer and serial number"
    if tags[:3] == [der.INTEGER, der.SEQUENCE, der.OCTET_STRING]:
        raise DecodeError("this is a private key: give the message, and the key with --key")
    raise DecodeError("not a structure of SCEP, though it is ASN.1")


def _is_envelope(data: bytes) -> bool:
    try:
        return classify(data) == "envelopedData"
    except ProtocolError:
        return False


def _content_kind(fields: list[der.Node]) -> str:
    if fields[0].raw == ID_ENVELOPED_DATA:
        return "envelopedData"
    if fields[0].raw != ID_SIGNED_DATA:
        raise DecodeError(f"a ContentInfo with the type {der.oid_text(fields[0].raw)}")
    body = fields[1].fields(0xA0, 1, "content")[0].fields(der.SEQUENCE, 3, "SignedData")
    signers = body[-1]
    return "signedData" if signers.tag == der.SET and signers.children() else "certificates"


def _signed_structure_kind(signed: der.Node) -> str:
    """Certificate, CSR or CRL, by the shape of what is signed."""
    tags = [node.tag for node in signed.fields(der.SEQUENCE, 3, "the signed structure")]
    if der.UTC_TIME in tags or der.GENERALIZED_TIME in tags:
        return "certificate revocation list"
    if tags[0] == 0xA0 or tags[:6] == [der.INTEGER, *[der.SEQUENCE] * 5]:
        return "certificate"
    return "certificate request"


def certificates_in(data: bytes, title: str) -> Layer:
    """A certificates-only message; an answer to GetCACert, or the inside of a CertRep."""
    found = read_certs_only(data)
    root = der.read(data, leaf_depth=_BAG_DEPTH, max_trailing=MAX_TRAILING)
    return documents.certificates_layer(
        title, found.certificates, found.crls, encoding.features(root)
    )


def _identifiers(data: bytes, title: str) -> Layer:
    """IssuerAndSubject of CertPoll, IssuerAndSerialNumber of GetCert and GetCRL."""
    first, second = der.read(data, max_trailing=MAX_TRAILING).fields(der.SEQUENCE, 2, title)[:2]
    draft = Draft(title)
    draft.fields["issuer"] = name_text(first.raw)
    if second.tag == der.INTEGER:
        draft.fields["serial"] = second.value.hex()
    else:
        draft.fields["subject"] = name_text(second.raw)
    return draft.finish()
