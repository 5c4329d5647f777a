"""What the store tells about attempts and certificates, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from cryptography import x509

from pyscep.ca.names import Names

AttemptState = Literal["pending", "issued", "denied", "refused"]
CertificateState = Literal["signing", "issued", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request for a certificate, whatever became of it."""

    id: int
    endpoint: str
    transaction_id: str
    message_type: int
    profile: str
    credential: str
    """Who asked: ``once:<id>``, ``static``, ``cert:<sha256>``, ``none``."""
    issue_key: str
    """Equal for what counts as the same request."""
    csr_key: str
    """SHA-256 of the SubjectPublicKeyInfo to be certified, hexadecimal."""
    signer_key: str
    """SHA-256 of the SubjectPublicKeyInfo that signed the request, hexadecimal."""
    certificate_id: int | None
    signer_id: int | None
    """The certificate of ours that signed a renewal."""
    source: str | None
    spki: bytes | None
    requested_subject: bytes | None
    subject_der: bytes | None
    sans_der: bytes | None
    subject: str
    """RFC 4514; from the peer, escape it before showing it."""
    sans: tuple[str, ...]
    """Such as ``dns:a.example``; from the peer."""
    state: AttemptState
    reason: str | None
    created_at: datetime
    decided_at: datetime | None
    window_ends: datetime
    """Until when the same request gets the same answer."""
    issuer_id: str | None
    """The CA that was asked, as the store names it; None in entries of old stores."""
    wishes: dict[str, Any] | None
    """What approval has to narrow the profile to: see Profile.narrowing."""

    @property
    def waited(self) -> bool:
        """Whether it needs or needed somebody's approval."""
        return self.spki is not None

    @property
    def names(self) -> Names:
        """The names that the certificate would have."""
        return Names(
            subject=self.subject_der or b"",
            sans=self.sans_der or b"",
            subject_text=self.subject,
            san_texts=self.sans,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        values = dict(row)
        del values["pending_key"]
        return cls(**values | {"sans": tuple(values["sans"])})


# No slots: the parsed certificate is cached on the instance.
@dataclass(frozen=True, kw_only=True)
class CertificateRecord:
    """One certificate, from before it is signed until after it is revoked."""

    id: int
    issuer_id: str
    serial_number: int
    issue_key: str | None
    window_ends: datetime
    csr_key: str
    profile: str
    credential: str
    subject: str
    subject_der: bytes
    requested_subject: bytes
    """The subject as the request had it, DER."""
    tbs: bytes
    der: bytes | None
    """None until it is signed."""
    not_after: datetime
    state: CertificateState
    notified: bool
    """Whether the challenge's provider knows of it, where it wants to."""
    created_at: datetime
    issued_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str | None

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate in cryptography's form.

        Raises:
            ValueError: it is not signed yet.
        """
        if self.der is None:
            raise ValueError("the certificate is not signed yet")
        return x509.load_der_x509_certificate(self.der)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CertificateRecord:
        values = dict(row)
        serial = int(values.pop("serial"), 16)
        return cls(serial_number=serial, der=values.pop("certificate"), **values)


def issue_key(endpoint: str, credential: str, csr_key: str, issuer_id: str) -> str:
    """What counts as the same request: endpoint, credential, key to be certified, CA asked."""
    return _hash_of(endpoint, credential, csr_key, issuer_id)


def pending_key(endpoint: str, transaction_id: str, csr_key: str, signer_key: str) -> str:
    """Where a pending attempt is polled: only one can have it."""
    return _hash_of(endpoint, transaction_id, csr_key, signer_key)


def key_hash(spki: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, 64 hexadecimal digits."""
    return sha256(spki).hexdigest()


def _hash_of(*parts: str) -> str:
    digest = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()
