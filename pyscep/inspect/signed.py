"""The outer layer: SignedData with the attributes of SCEP (RFC 8894 section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyscep.attributes import MESSAGE_TYPE, PKI_STATUS, TRANSACTION_ID
from pyscep.cms import signed_data
from pyscep.cms.algorithms import digest_from, split_identifier
from pyscep.cms.signatures import signature_algorithm_from
from pyscep.cms.signed_data import SignedData, SignerInfo
from pyscep.codec import der
from pyscep.enums import FailInfo, MessageType, PkiStatus
from pyscep.errors import ProtocolError
from pyscep.identity import RawCertificate
from pyscep.inspect import encoding
from pyscep.inspect.documents import ANYTHING, WEAK_DIGESTS, certificate_list
from pyscep.inspect.envelope import identifier_text
from pyscep.inspect.names import ATTRIBUTES, OLD_FAIL_INFO_TEXT, oid_name
from pyscep.inspect.report import Draft
from pyscep.transaction import NONCE_BYTES

_MESSAGE_TYPES: Final = {
    MessageType.CERT_REP: "CertRep",
    MessageType.RENEWAL_REQ: "RenewalReq",
    MessageType.PKCS_REQ: "PKCSReq",
    MessageType.CERT_POLL: "CertPoll",
    MessageType.GET_CERT: "GetCert",
    MessageType.GET_CRL: "GetCRL",
}
_TYPE_NAMES: Final = {str(int(number)): name for number, name in _MESSAGE_TYPES.items()}
_STATUS_NAMES: Final = {str(int(status)): status.name for status in PkiStatus}
_FAIL_INFO_NAMES: Final = {str(int(code)): code.rfc_name for code in FailInfo}
_TEXT_ATTRIBUTES: Final = {
    "messageType": ("message_type", _TYPE_NAMES),
    "pkiStatus": ("pki_status", _STATUS_NAMES),
    "failInfo": ("fail_info", _FAIL_INFO_NAMES),
    "failInfoText": ("fail_info_text", None),
    "transactionID": ("transaction_id", None),
}
_FIRST: Final = (
    "verified",
    "message_type",
    "pki_status",
    "fail_info",
    "fail_info_text",
    "transaction_id",
    "senderNonce",
    "recipientNonce",
    "signing_time",
)
"""What a person looks for."""
_UTF8_ATTRIBUTES: Final = frozenset({"failInfoText"})
_ENVELOPED_STATUS: Final = "SUCCESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """What the layers inside need to know."""

    content: bytes | None
    message_type: str | None
    signer: RawCertificate | None


def read_outer(data: bytes, draft: Draft, certificates: Sequence[RawCertificate] = ()) -> Outer:
    """Describe a SignedData with a signer, and check its signature.

    Args:
        certificates: where the signer is looked for beside the message itself.

    Raises:
        DecodeError: it is not one.
    """
    message = signed_data.read_signed_data(data)
    root = der.read(data, max_trailing=signed_data.MAX_TRAILING)
    ber = encoding.features(root)
    draft.fields["ber_features"] = ber
    if ber:
        draft.remark("ber", f"the signed layer is BER: {', '.join(ber)}")
    if root.after != len(data):
        draft.remark("trailing", f"{len(data) - root.after} bytes behind the message")
    content = _content(message, draft)
    info = _signer_info(message, draft)
    bag = tuple(node.raw for node in message.certificates)
    draft.fields["certs"] = len(bag)
    draft.fields["certificates"] = certificate_list(bag, draft)
    if message.crls:
        draft.remark("crls", f"{len(message.crls)} CRLs in the signed layer")
    _algorithms(message, info, draft)
    values = _attributes(info, draft)
    _known_attributes(values, draft)
    signer = _signer(message, info, certificates, draft)
    _verify(message, signer, draft)
    if "message_type" in draft.fields:
        _sense(draft, content, len(bag))
    draft.fields = {name: draft.fields[name] for name in _FIRST if name in draft.fields} | (
        draft.fields
    )
    return Outer(content=content, message_type=draft.fields.get("message_type"), signer=signer)


def _content(message: SignedData, draft: Draft) -> bytes | None:
    if message.content_type != signed_data.ID_DATA:
        draft.remark("content-type", f"eContentType is {der.oid_text(message.content_type)}")
    try:
        content = message.content
    except ProtocolError as error:
        draft.fields["econtent"] = "unreadable"
        draft.remark("bad-content", str(error))
        return None
    if content is None:
        draft.fields["econtent"] = "absent"
    else:
        draft.fields["econtent"] = f"{len(content)} bytes" if content else "empty"
    return content


def _signer_info(message: SignedData, draft: Draft) -> SignerInfo:
    if len(message.signers) != 1:
        draft.remark("several-signers", f"{len(message.signers)} signers: the first is shown")
    return message.signers[0]


# --- algorithms and signature ---------------------------------------------------------


def _algorithms(message: SignedData, info: SignerInfo, draft: Draft) -> None:
    digest = _name(lambda node: digest_from(node).name, info.digest_algorithm, draft)
    signature = _name(
        lambda node: signature_algorithm_from(node).name, info.signature_algorithm, draft
    )
    draft.fields.update(digest=digest, signature_algorithm=signature)
    if digest in WEAK_DIGESTS:
        draft.remark("weak-digest", f"signed with {digest}")
    if signature == "rsassa-pss":
        draft.remark("pss", "signed with RSASSA-PSS: many peers do not know it")
    if signature == "rsaEncryption" and len(info.signature_algorithm.children()) == 1:
        draft.remark("no-null", "rsaEncryption without its NULL in the SignerInfo")
    by_key = info.sid.tag != der.SEQUENCE
    draft.fields["signer_id"] = "subjectKeyIdentifier" if by_key else "issuerAndSerial"
    draft.fields["signer"] = identifier_text(info.sid)
    if by_key:
        draft.remark("signer-by-key", "the signer is named by its subjectKeyIdentifier")
    expected = 3 if by_key else 1
    if info.version != expected:
        draft.remark("version", f"SignerInfo version {info.version}, where {expected} is due")


def _name(read: Any, identifier: der.Node, draft: Draft) -> str | None:
    """The name of an algorithm; the dotted OID of one that is unknown."""
    try:
        return str(read(identifier))
    except ProtocolError as error:
        draft.remark("unknown-algorithm", error.reason)
    try:
        return der.oid_text(split_identifier(identifier)[0])
    except ProtocolError:
        return None


def _signer(
    message: SignedData,
    info: SignerInfo,
    certificates: Sequence[RawCertificate],
    draft: Draft,
) -> RawCertificate | None:
    candidates = list(certificates)
    for node in message.certificates:
        try:
            candidates.append(RawCertificate(node.raw))
        except ProtocolError:  # the list of certificates says so already
            continue
    try:
        signer = signed_data.find_certificate(info.sid, candidates)
    except ProtocolError as error:
        draft.remark("bad-signer-id", str(error))
        return None
    if signer is None:
        draft.remark("no-signer", "the signer's certificate is not in the message")
        return None
    if not any(node.raw == signer.der for node in message.certificates):
        draft.remark("no-signer", "the signer's certificate is not in the message, but was given")
    draft.fields["signer_self_issued"] = signer.is_self_issued
    return signer


def _verify(message: SignedData, signer: RawCertificate | None, draft: Draft) -> None:
    if signer is None:
        reason = "not checked: the signer's certificate is not here"
        draft.fields["verified"] = {"value": False, "reason": reason}
        return
    try:
        signed_data.verify(
            message,
            ANYTHING,
            signers=(signer,),
            max_rsa_bits=ANYTHING.max_rsa_bits,
            content_types=frozenset({message.content_type}),
        )
    except ProtocolError as error:
        draft.fields["verified"] = {"value": False, "reason": error.reason}
        draft.remark("signature", f"the signature is not good: {error.reason}")
        return
    draft.fields["verified"] = {
        "value": True,
        "reason": "the signature fits the signer's certificate; whether that certificate may be "
        "trusted is not checked",
    }


# --- attributes -----------------------------------------------------------------------


def _attributes(info: SignerInfo, draft: Draft) -> list[tuple[str, der.Node]]:
    """Name and first value of each signed attribute, in wire order."""
    draft.fields["signed_attrs"] = []
    found: list[tuple[str, der.Node]] = []
    node = info.signed_attributes
    if node is None:
        draft.remark("no-attributes", "there are no signed attributes")
        return []
    if not encoding.is_sorted_set(node):
        draft.remark("unsorted-attributes", "the signed attributes are not in DER order")
    for attribute in node.children():
        try:
            kind, values = attribute.fields(der.SEQUENCE, 2, "Attribute")[:2]
            name, members = oid_name(kind), values.fields(der.SET, 1, "attribute values")
        except ProtocolError as error:
            draft.remark("bad-attribute", str(error))
            continue
        draft.fields["signed_attrs"].append(name)
        if len(members) > 1:
            draft.remark("several-values", f"{name} has {len(members)} values")
        if any(name == earlier for earlier, _ in found):
            draft.remark("repeated-attribute", f"{name} is there more than once")
        elif kind.raw == OLD_FAIL_INFO_TEXT:
            draft.remark("old-fail-info-text", "failInfoText has the OID of an old draft")
            name = "failInfoText"
        elif kind.raw not in ATTRIBUTES:
            draft.remark("extra-attribute", f"a signed attribute that SCEP does not have: {name}")
        elif name == "CMSAlgorithmProtection":
            draft.remark("algorithm-protection", "CMSAlgorithmProtection is there (RFC 6211)")
        found.append((name, members[0]))
    return found


def _known_attributes(found: list[tuple[str, der.Node]], draft: Draft) -> None:
    values = dict(reversed(found))  # the first of a name counts
    draft.fields["string_tags"] = {}
    for name, value in values.items():
        if name in _TEXT_ATTRIBUTES:
            _text_attribute(name, value, draft)
        elif name in ("senderNonce", "recipientNonce"):
            _nonce(name, value, draft)
    if "signingTime" not in values:
        return
    try:
        time = values["signingTime"].time("signingTime")
    except ProtocolError as error:
        draft.remark("bad-signing-time", str(error))
    else:
        draft.fields["signing_time"] = time.isoformat()


def _text_attribute(name: str, value: der.Node, draft: Draft) -> None:
    field, words = _TEXT_ATTRIBUTES[name]
    draft.fields["string_tags"][name] = value.tag & 0x1F
    usual = der.UTF8_STRING if name in _UTF8_ATTRIBUTES else der.PRINTABLE_STRING
    if value.tag != usual:
        kind = der.STRING_NAMES.get(value.tag, f"tag 0x{value.tag:02x}")
        draft.remark("string-type", f"{name} is a {kind}, not a {der.STRING_NAMES[usual]}")
    try:
        if value.tag == der.INTEGER:
            text = str(value.integer(name))
        else:
            text = value.text(name)
    except ProtocolError as error:
        draft.fields[field] = value.value.hex()
        draft.remark("bad-text", str(error))
        return
    if words is None:
        draft.fields[field] = text
    elif text in words:
        draft.fields[field] = words[text]
    else:
        draft.fields[field] = text
        draft.remark("unknown-value", f"{name} {text[:40]} is not one of RFC 8894")
    if name == "transactionID":
        _transaction_id(text, value.tag, draft)


def _transaction_id(text: str, tag: int, draft: Draft) -> None:
    if not 0 < len(text) <= 255:
        draft.remark("transaction-id", f"a transactionID of {len(text)} characters")
    elif tag == der.PRINTABLE_STRING and not der.is_printable(text):
        draft.remark("transaction-id", "the transactionID has characters outside PrintableString")
    elif len(text) < 8:
        draft.remark("transaction-id", "so short a transactionID collides with other devices'")


def _nonce(name: str, value: der.Node, draft: Draft) -> None:
    try:
        nonce = value.octets(name)
    except ProtocolError as error:
        draft.remark("bad-nonce", str(error))
        return
    draft.fields[name] = nonce.hex()
    if len(nonce) != NONCE_BYTES:
        draft.remark("nonce-length", f"{name} has {len(nonce)} octets, not {NONCE_BYTES}")


def _sense(draft: Draft, content: bytes | None, certificates: int) -> None:
    """What does not go together, or is missing."""
    fields = draft.fields
    reply = fields["message_type"] == "CertRep"
    required = ["transaction_id", "senderNonce"]
    if reply:
        required += ["pki_status", "recipientNonce"]
    for name in required:
        if name not in fields:
            draft.remark("missing-attribute", f"{name} is missing")
    status = fields.get("pki_status")
    if not reply or status == _ENVELOPED_STATUS:
        if not content:
            draft.remark(
                "no-envelope", f"there should be an envelope, but it is {fields['econtent']}"
            )
    elif content == b"":
        draft.remark("empty-content", "an empty eContent where RFC 8894 wants none at all")
    elif content is not None:
        draft.remark("content", f"a {status} with {len(content)} bytes of content")
    if status == "FAILURE" and "fail_info" not in fields:
        draft.remark("missing-attribute", "a FAILURE without failInfo")
    if reply and "senderNonce" in fields and fields["senderNonce"] == fields.get("recipientNonce"):
        draft.remark("nonce-copied", "senderNonce is a copy of the request's")
    if not reply and fields.get("signer_self_issued"):
        draft.remark("self-signed", "the signer is self-signed: only a challenge can authorize it")
    if certificates != 1:
        draft.remark("certificates", f"{certificates} certificates in the signed layer")


def is_pki_message(data: bytes) -> bool:
    """The SignedData has a signer with one of SCEP's attributes."""
    message = signed_data.read_signed_data(data)
    scep = (MESSAGE_TYPE, TRANSACTION_ID, PKI_STATUS)
    return any(
        part.raw in scep
        for info in message.signers
        if info.signed_attributes is not None
        for attribute in info.signed_attributes.children()
        for part in attribute.children()[:1]
    )
