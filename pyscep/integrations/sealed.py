"""Sealed challenges: a management service says in advance what a device will ask for.

The service signs what it expects, encrypts that to the CA's policy module, and hands the text
to the device as its challengePassword. The device can't read it, and only passes it on. The
policy module opens it without asking anybody, compares the request field by field, and lets it
be used once.

    {format, version, id, recipient, expires_at, subject, sans, key_usage, ...}   JSON
    inside SignedData by the service, inside EnvelopedData for the module         CMS
    in base64, whose characters all belong to PrintableString
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pyscep.ca import ChallengeRequest, Granted, Notification, Refused
from pyscep.ca.challenge import LIFETIME, utc_now
from pyscep.ca.made_elsewhere import MadeElsewhere
from pyscep.ca.single_use import claim_once
from pyscep.cms import enveloped_data, sealing, signed_data
from pyscep.cms.algorithms import DIGESTS, MODERN, AlgorithmPolicy, Algorithms
from pyscep.errors import ProtocolError
from pyscep.identity import X509_FAULTS, Identity, RawCertificate
from pyscep.integrations.binding import Binding
from pyscep.integrations.csr_check import fault_of

MAX_TEXT: Final = 24 * 1024
"""The longest sealed challenge, in characters: a GET with it has about 40,000 bytes."""
FORMAT: Final = "pyscep sealed challenge"
VERSION: Final = 1
POLICY: Final = AlgorithmPolicy(
    name="sealed",
    digests=MODERN.digests,
    ciphers=frozenset({"aes256-cbc"}),
    # Anybody can send ciphertexts here: with OAEP there is no padding oracle to ask.
    key_transports=frozenset({"rsaes-oaep"}),
    max_rsa_bits=8192,
)
_ALGORITHMS: Final = Algorithms(
    cipher="aes256-cbc",
    key_transport="rsaes-oaep",
    oaep_digest="sha256",
    oaep_mgf_digest="sha256",
)
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedChallenge:
    """What a sealed challenge says."""

    id: str
    """32 hexadecimal digits; a challenge is known by it, and by who signed."""
    service: str
    """The service's certificate: the first 16 hexadecimal digits of its SHA-256."""
    expires_at: datetime
    binding: Binding
    data: bytes = field(default=b"", repr=False)
    """The service's own; this library does not look at it."""

    @property
    def credential(self) -> str:
        """What events and logs call it."""
        return f"sealed:{self.service}-{self.id}"


class SealError(ValueError):
    """A text is no sealed challenge of a known service, whole and in time."""


def seal(
    binding: Binding,
    *,
    service: Identity,
    recipient: x509.Certificate,
    lifetime: timedelta = LIFETIME,
    data: bytes = b"",
    now: Callable[[], datetime] = utc_now,
    token_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> str:
    """Make a challenge for one request.

    Args:
        binding: what the request must look like.
        service: who signs; the policy module has to know the certificate.
        recipient: the policy module's certificate, with an RSA key.
        lifetime: how long the challenge can be used.
        data: anything of the service's own; it comes back from ``SealedChallenges.open``.

    Raises:
        ValueError: a lifetime that is none, or more than MAX_TEXT characters.
        AlgorithmError: the recipient's key can't encrypt.
    """
    if lifetime <= timedelta(0):
        raise ValueError("the lifetime of a challenge must be positive")
    content = _to_json(
        binding,
        identifier=token_bytes(_ID_BYTES).hex(),
        recipient=_fingerprint(recipient),
        expires_at=now() + lifetime,
        data=data,
    )
    signed = signed_data.sign(content, (), service, DIGESTS["sha256"], certificates=())
    sealed = sealing.encrypt(
        signed, RawCertificate.from_certificate(recipient), _ALGORITHMS, token_bytes=token_bytes
    )
    text = base64.b64encode(sealed).decode("ascii")
    if len(text) > MAX_TEXT:
        raise ValueError(f"the challenge has {len(text)} characters, more than {MAX_TEXT}")
    return text


class SealedChallenges(MadeElsewhere):
    """The policy module's side: opens sealed challenges and holds requests to them.

    Args:
        recipient: the module's certificate and key, or several while one replaces another.
        services: the certificates of the services that may seal.
        token_bytes: the source of randomness.

    Raises:
        ValueError: no recipient or no service.
    """

    scheme = "sealed"
    notifies = False
    no_challenge = "sealed challenges are made by the management service: see seal()"

    def __init__(
        self,
        recipient: Identity | Sequence[Identity],
        services: Iterable[x509.Certificate],
        *,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._recipients = (recipient,) if isinstance(recipient, Identity) else tuple(recipient)
        self._services = tuple(RawCertificate.from_certificate(one) for one in services)
        if not self._recipients or not self._services:
            raise ValueError("give at least one recipient and one service")
        self._token_bytes = token_bytes

    def open(self, text: str, now: datetime) -> SealedChallenge:
        """What a challenge says, if a known service has sealed it for this module.

        Raises:
            SealError: it is another text, not for this module, or expired.
        """
        signed = self._decrypt(text)
        service, content = self._verify(signed, now)
        sealed, recipient = _from_json(content, service)
        if recipient not in [_fingerprint(one.certificate) for one in self._recipients]:
            raise SealError(f"{sealed.credential} was sealed for another module")
        if sealed.expires_at <= now:
            raise SealError(f"{sealed.credential} has expired")
        return sealed

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        try:
            sealed = self.open(request.password, request.now)
        except SealError as error:
            return Refused(reason=f"sealed challenge: {error}")
        difference = fault_of(request.csr) or sealed.binding.difference(request.csr)
        if difference is not None:
            return Refused(reason=f"{sealed.credential}: the request differs: {difference}")
        return Granted(
            credential=sealed.credential,
            expires_at=sealed.expires_at,
            profile=sealed.binding.profile,
            claim=claim_once(sealed.credential, sealed.expires_at),
        )

    def notify(self, notification: Notification) -> None:
        """Nothing: it is spent in the transaction that enters the certificate."""

    def _decrypt(self, text: str) -> bytes:
        try:
            data = base64.b64decode(text.encode("ascii"), validate=True)
            envelope = enveloped_data.read_enveloped_data(data)
            opened = enveloped_data.decrypt(
                envelope, self._recipients, POLICY, token_bytes=self._token_bytes
            )
        except (UnicodeEncodeError, binascii.Error) as error:
            raise SealError("not base64") from error
        except ProtocolError as error:
            raise SealError(f"envelope: {error.reason}") from error
        if not opened.sound:
            raise SealError("the envelope does not open")
        return opened.plaintext

    def _verify(self, signed: bytes, now: datetime) -> tuple[RawCertificate, bytes]:
        try:
            message = signed_data.verify(
                signed_data.read_signed_data(signed),
                POLICY,
                signers=self._services,
                max_rsa_bits=POLICY.max_rsa_bits,
            )
        except ProtocolError as error:
            raise SealError(f"signature: {error.reason}") from error
        certificate = message.signer.certificate
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise SealError("the service's certificate is not valid now")
        return message.signer, bytes(message.content or b"")


def _to_json(
    binding: Binding, *, identifier: str, recipient: str, expires_at: datetime, data: bytes
) -> bytes:
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "id": identifier,
        "recipient": recipient,
        "expires_at": expires_at.astimezone(UTC).isoformat(timespec="seconds"),
        "subject": base64.b64encode(binding.subject.public_bytes()).decode("ascii"),
        "sans": binding.sans,
        "key_usage": binding.key_usage,
        "extended_key_usage": binding.extended_key_usage,
        "key": binding.key,
        "profile": binding.profile,
        "data": base64.b64encode(data).decode("ascii"),
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


_FIELDS: Final = frozenset(
    (
        *("format", "version", "id", "recipient", "expires_at"),
        *("subject", "sans", "key_usage", "extended_key_usage", "key", "profile", "data"),
    )
)
_ID: Final = re.compile(r"[0-9a-f]{32}")


def _from_json(content: bytes, service: RawCertificate) -> tuple[SealedChallenge, str]:
    """The challenge and whom it is for. What is not understood in full is refused."""
    try:
        fields: dict[str, Any] = json.loads(content)
        if frozenset(fields) != _FIELDS or (fields["format"], fields["version"]) != (
            FORMAT,
            VERSION,
        ):
            raise ValueError("another format or version")
        expires_at = datetime.fromisoformat(_text(fields["expires_at"]))
        if expires_at.tzinfo is None:
            raise ValueError("a time without its zone")
        identifier = _text(fields["id"])
        if not _ID.fullmatch(identifier):
            raise ValueError("a bad id")
        binding = Binding(
            subject=x509.Name.from_bytes(base64.b64decode(_text(fields["subject"]))),
            sans=_texts(fields["sans"]) or (),
            key_usage=_texts(fields["key_usage"]),
            extended_key_usage=_texts(fields["extended_key_usage"]),
            key=None if fields["key"] is None else _text(fields["key"]),
            profile=None if fields["profile"] is None else _text(fields["profile"]),
        )
        sealed = SealedChallenge(
            id=identifier,
            service=service.sha256.hex()[:16],
            expires_at=expires_at,
            binding=binding,
            data=base64.b64decode(_text(fields["data"])),
        )
        return sealed, _text(fields["recipient"])
    except (*X509_FAULTS, RecursionError) as error:
        raise SealError(f"content: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a value is not text")
    return value


def _texts(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError("a value is not a list")
    return tuple(_text(one) for one in value)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
