"""Describe a pkiMessage from the outside, for the demo: what somebody on the wire can see.

It reads with asn1crypto alone and verifies nothing: a second opinion on what pyscep sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asn1crypto import cms

_MESSAGE_TYPES = {
    "3": "CertRep",
    "17": "RenewalReq",
    "19": "PKCSReq",
    "20": "CertPoll",
    "21": "GetCert",
    "22": "GetCRL",
}
_STATUSES = {"0": "SUCCESS", "2": "FAILURE", "3": "PENDING"}
_FAIL_INFOS = {
    "0": "badAlg",
    "1": "badMessageCheck",
    "2": "badRequest",
    "3": "badTime",
    "4": "badCertId",
}
_NAMES = {
    "aes128_cbc": "AES-128-CBC",
    "aes192_cbc": "AES-192-CBC",
    "aes256_cbc": "AES-256-CBC",
    "tripledes_3key": "3DES-CBC",
    "rsaes_pkcs1v15": "RSA PKCS #1 v1.5",
    "rsaes_oaep": "RSA OAEP",
    "rsassa_pkcs1v15": "RSA",
    "sha256_rsa": "RSA",
    "sha256": "SHA-256",
    "sha384": "SHA-384",
    "sha512": "SHA-512",
}
_ATTRIBUTES = {
    "2.16.840.1.113733.1.9.2": "message_type",
    "2.16.840.1.113733.1.9.3": "status",
    "2.16.840.1.113733.1.9.4": "fail_info",
    "2.16.840.1.113733.1.9.7": "transaction_id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The visible part of a pkiMessage."""

    message_type: str
    status: str | None
    fail_info: str | None
    transaction_id: str
    digest: str
    signature: str
    cipher: str | None
    """None where there is no envelope: FAILURE and PENDING."""
    key_transport: str | None
    sealed_bytes: int
    """Length of the encrypted content, in bytes."""

    @property
    def title(self) -> str:
        """Such as ``PKCSReq`` or ``CertRep FAILURE badRequest``."""
        return " ".join(part for part in (self.message_type, self.status, self.fail_info) if part)

    @property
    def envelope(self) -> str:
        """How it is encrypted; empty where it is not."""
        if not self.cipher:
            return ""
        return f"{self.sealed_bytes:,} bytes in {self.cipher}, its key under {self.key_transport}"

    @property
    def seal(self) -> str:
        """How it is signed."""
        return f"signed with {self.signature} and {self.digest}"


def look(message: bytes) -> Seen:
    """Read a pkiMessage in DER.

    Raises:
        ValueError: it is none.
    """
    signed = cms.ContentInfo.load(message)["content"]
    signer = signed["signer_infos"][0]
    attributes = {
        _ATTRIBUTES[oid]: str(attribute["values"][0].native)
        for attribute in signer["signed_attrs"]
        if (oid := attribute["type"].dotted) in _ATTRIBUTES
    }
    cipher, transport, sealed = _envelope(signed["encap_content_info"]["content"].native)
    status, fail_info = attributes.get("status"), attributes.get("fail_info")
    return Seen(
        message_type=_MESSAGE_TYPES[attributes["message_type"]],
        status=None if status is None else _STATUSES[status],
        fail_info=None if fail_info is None else _FAIL_INFOS.get(fail_info, fail_info),
        transaction_id=attributes["transaction_id"],
        digest=_name(signer["digest_algorithm"]["algorithm"].native),
        signature=_name(signer["signature_algorithm"]["algorithm"].native),
        cipher=cipher,
        key_transport=transport,
        sealed_bytes=sealed,
    )


def _envelope(content: Any) -> tuple[str | None, str | None, int]:
    if not content:
        return None, None, 0
    enveloped = cms.ContentInfo.load(content)["content"]
    recipient = enveloped["recipient_infos"][0].chosen
    sealed = enveloped["encrypted_content_info"]
    return (
        _name(sealed["content_encryption_algorithm"]["algorithm"].native),
        _name(recipient["key_encryption_algorithm"]["algorithm"].native),
        len(sealed["encrypted_content"].native),
    )


def _name(native: str) -> str:
    return _NAMES.get(native, native)
