"""A profile: which keys and names may be certified, and what the certificate then says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pyscep.ca import names, wishes
from pyscep.ca.names import NameRules, Names
from pyscep.ca.refusal import Refusal
from pyscep.ca.strong_mapping import check_sid
from pyscep.ca.subject_rule import parse_rule
from pyscep.pkcs10 import CertificateRequest

KEY_USAGES: Final = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
}
"""Key usages that a leaf may have, by their RFC 5280 names. keyCertSign and cRLSign are not
among them: no profile can make a CA."""

EXTENDED_KEY_USAGES: Final = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "smartcardLogon": ExtendedKeyUsageOID.SMARTCARD_LOGON,
    "ipsecIKE": ExtendedKeyUsageOID.IPSEC_IKE,
}
"""Extended key usages by name; a dotted OID works too."""

CURVES: Final = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1"}
"""Curves of EC keys by the names that profiles use."""

ClientKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""Public keys that can be certified."""

_FORBIDDEN_USAGES: Final = (
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.OCSP_SIGNING,
    # Clients would take the holder for an RA of this CA.
    x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1"),
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27"),
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRules:
    """When the holder of a certificate may have a new one without a challenge.

    RFC 8894 section 2.3 leaves all of this to the server.
    """

    allowed: bool = True
    same_key: bool = True
    """Whether the new certificate may have the key of the old one."""
    window: timedelta | None = None
    """How long before its end a certificate can be renewed; None: at any time."""
    grace: timedelta = timedelta(0)
    """How long after its end it still can."""
    subject_change: bool = False
    """Whether the new request may have other names than the old one."""
    approval: Literal["automatic", "manual"] = "automatic"


# No slots: the prepared extensions are cached on the instance.
@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a CA certifies for one kind of client.

    The defaults fit devices that authenticate with their certificate.

    Raises:
        ValueError: a setting that is unknown or makes no sense.
    """

    name: str = "device"
    purpose: Literal["any", "signature", "encryption", "both"] = "any"
    """For which requests it is meant, by the key usage they ask for: NDES's SignatureTemplate,
    EncryptionTemplate and GeneralPurposeTemplate (``both``)."""
    validity: timedelta = timedelta(days=365)
    validity_source: Literal["profile", "request"] = "profile"
    """``request``: a shorter validity that the request asks for is granted."""
    not_after: datetime | None = None
    """No certificate ends later; one that would have ended by now is refused."""
    backdate: timedelta = timedelta(hours=24)
    """How far before the present notBefore lies: clocks of devices are wrong."""
    key_usage: tuple[str, ...] = ("digitalSignature", "keyEncipherment")
    """Names from KEY_USAGES; keyEncipherment is left out for EC keys."""
    key_usage_source: Literal["profile", "request"] = "profile"
    """``request``: of key_usage only what the request asks for, if it asks at all."""
    extended_key_usage: tuple[str, ...] = ("clientAuth",)
    """Names from EXTENDED_KEY_USAGES, or dotted OIDs. Keep clientAuth among them: a
    certificate without it can pass for an RA's with SCEP clients."""
    optional_extended_key_usage: tuple[str, ...] = ()
    """As extended_key_usage, for those that a request gets if it asks for them."""
    subject_rule: str | None = None
    """The subject, with values of the request in it, such as ``CN={dns},O=Example``. None:
    the request's own subject."""
    subject_types: tuple[str, ...] = tuple(names.SUBJECT_TYPES)
    san_types: tuple[str, ...] = ("dns", "ip", "email", "uri")
    patterns: tuple[tuple[str, str], ...] = ()
    """Pairs of a name type and a regular expression for the whole of its values."""
    uri_schemes: tuple[str, ...] = ("http", "https", "urn", "spiffe")
    wildcards: bool = False
    """Allow ``*.`` at the start of a DNS name."""
    max_sans: int = 20
    key_algorithms: tuple[str, ...] = ("rsa",)
    """Out of rsa and ec. An EC key can't receive a SCEP reply, so its certificate can't
    be renewed by SCEP."""
    rsa_bits: tuple[int, int] = (2048, 4096)
    """Least and greatest size of an RSA key; at most 8192."""
    ec_curves: tuple[str, ...] = tuple(CURVES)
    """Names from CURVES."""
    security_identifier: Callable[[Names], str | None] | None = field(default=None, repr=False)
    """A trusted source that knows the Active Directory SID of who has those names; the
    certificate then says it (KB5014754). What it raises becomes HTTP 503."""
    signer_key: Literal["any", "csr"] = "any"
    """``csr`` demands that a first request is signed with the key to be certified. Windows
    and gateways sign with another one."""
    approval: Literal["automatic", "manual"] = "automatic"
    """``manual``: an authorized request waits until somebody approves it."""
    challenge: Literal["required", "optional"] = "required"
    """``optional``: a request without challenge waits for approval instead of being
    refused. It is never granted on its own."""
    renewal: RenewalRules = RenewalRules()

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a profile needs a name")
        if self.validity <= timedelta(0) or self.backdate < timedelta(0):
            raise ValueError("validity must be positive and backdate not negative")
        if self.not_after is not None and self.not_after.tzinfo is None:
            raise ValueError("not_after needs a time zone")
        for usage in self.key_usage:
            if usage not in KEY_USAGES:
                raise ValueError(f"key usage {usage!r} is none of {', '.join(KEY_USAGES)}")
        for oid in self._extended_oids(self.extended_key_usage + self.optional_extended_key_usage):
            if oid in _FORBIDDEN_USAGES:
                raise ValueError(f"extended key usage {oid.dotted_string} is not for clients")
        for algorithm in self.key_algorithms:
            if algorithm not in ("rsa", "ec"):
                raise ValueError(f"key algorithm {algorithm!r} is none of rsa, ec")
        least, most = self.rsa_bits
        if not 1024 <= least <= most <= 8192:
            raise ValueError("rsa_bits: least and greatest, between 1024 and 8192")
        for curve in self.ec_curves:
            if curve not in CURVES:
                raise ValueError(f"curve {curve!r} is none of {', '.join(CURVES)}")
        if self.subject_rule is not None:
            parse_rule(self.subject_rule)
        for setting, value, choices in (
            ("purpose", self.purpose, ("any", "signature", "encryption", "both")),
            ("validity_source", self.validity_source, ("profile", "request")),
            ("key_usage_source", self.key_usage_source, ("profile", "request")),
            ("signer_key", self.signer_key, ("any", "csr")),
            ("approval", self.approval, ("automatic", "manual")),
            ("challenge", self.challenge, ("required", "optional")),
            ("renewal approval", self.renewal.approval, ("automatic", "manual")),
        ):
            if value not in choices:
                raise ValueError(f"{setting} {value!r} is none of {', '.join(choices)}")
        self.name_rules  # noqa: B018 (evaluated for its checks)

    @cached_property
    def name_rules(self) -> NameRules:
        """The part that decides on names."""
        return NameRules(
            subject_types=self.subject_types,
            san_types=self.san_types,
            patterns=self.patterns,
            uri_schemes=self.uri_schemes,
            wildcards=self.wildcards,
            max_sans=self.max_sans,
        )

    @property
    def ever_waits(self) -> bool:
        """Whether any request can come to wait for approval."""
        return "manual" in (self.approval, self.renewal.approval) or self.challenge == "optional"

    def check_key(self, csr: CertificateRequest) -> ClientKey:
        """The key to be certified, if the profile allows it.

        That it is not weak has been checked with the request's own signature; here the
        profile decides on its kind and size.

        Raises:
            Refusal: another kind or size.
        """
        match csr.public_key:
            case rsa.RSAPublicKey() as key if "rsa" in self.key_algorithms:
                least, most = self.rsa_bits
                if not least <= key.key_size <= most:
                    raise Refusal(f"RSA key of {key.key_size} bits: {least} to {most} are allowed")
                return key
            case ec.EllipticCurvePublicKey() as key if "ec" in self.key_algorithms:
                if key.curve.name not in [CURVES[curve] for curve in self.ec_curves]:
                    raise Refusal(f"the curve {key.curve.name} is not allowed")
                return key
            case key:
                raise Refusal(f"keys of the kind {type(key).__name__} are not allowed")

    def take_names(self, csr: CertificateRequest) -> Names:
        """The names of a request that the profile allows.

        Raises:
            Refusal: nothing is left, there are too many, or a value is bad.
        """
        taken = names.take(self.name_rules, csr)
        if self.subject_rule is not None:
            taken = parse_rule(self.subject_rule).apply(taken)
        return self.identify(taken)

    def identify(self, taken: Names) -> Names:
        """The names with the SID that the profile's source has for them."""
        if self.security_identifier is None:
            return taken
        sid = self.security_identifier(taken)
        if sid is not None:
            check_sid(sid)
        return replace(taken, sid=sid)

    def narrowing(self, csr: CertificateRequest) -> dict[str, Any] | None:
        """What one request asks for of what the profile leaves to requests.

        Returns:
            Values for ``narrowed`` that JSON can hold: a request that waits for approval is
            not kept, only this. None where nothing is left to it, or it asks for nothing.

        Raises:
            Refusal: it can't be read.
        """
        asked: dict[str, Any] = {}
        if self.key_usage_source == "request":
            usage = wishes.asked(csr, x509.KeyUsage)
            if usage is not None:
                asked["key_usage"] = [one for one in KEY_USAGES if getattr(usage, KEY_USAGES[one])]
        if self.optional_extended_key_usage:
            extended = wishes.asked(csr, x509.ExtendedKeyUsage) or ()
            more = self.optional_extended_key_usage
            asked["extended_key_usage"] = [
                one for one in more if self._extended_oids((one,))[0] in extended
            ]
        if self.validity_source == "request":
            validity = wishes.validity_of(csr)
            if validity is not None:
                asked["validity_seconds"] = validity.total_seconds()
            end = wishes.end_of(csr)
            if end is not None:
                asked["not_after"] = end.isoformat()
        return asked or None

    def for_request(self, csr: CertificateRequest) -> Profile:
        """The profile as one request narrows it, where the profile lets it.

        Raises:
            Refusal: as ``narrowing`` and ``narrowed``.
        """
        return self.narrowed(self.narrowing(csr))

    def narrowed(self, asked: Mapping[str, Any] | None) -> Profile:
        """The profile as one request narrows it; never wider than the profile is.

        Args:
            asked: of ``narrowing``, perhaps by this profile as it was at an earlier time.

        Raises:
            Refusal: it asks for what the profile never gives, and for nothing else.
        """
        if not asked:
            return self
        changes: dict[str, Any] = {}
        if "key_usage" in asked:
            kept = tuple(one for one in self.key_usage if one in asked["key_usage"])
            if not kept:
                raise Refusal("the profile has none of the key usages that are asked for")
            changes["key_usage"] = kept
        more = asked.get("extended_key_usage", ())
        found = [one for one in self.optional_extended_key_usage if one in more]
        if found:
            changes["extended_key_usage"] = tuple(dict.fromkeys((*self.extended_key_usage, *found)))
        if "validity_seconds" in asked:
            validity = timedelta(seconds=asked["validity_seconds"])
            changes["validity"] = min(validity, self.validity)
        if "not_after" in asked:
            end = datetime.fromisoformat(asked["not_after"])
            changes["not_after"] = min(end, self.not_after or end)
        return replace(self, **changes) if changes else self

    def usages(self, *, encipher: bool) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        """The extensions that are the same for every certificate, with their criticality.

        Args:
            encipher: whether the key can encipher (RSA can, EC can't).
        """
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True)
        ]
        usages = [u for u in self.key_usage if encipher or not u.endswith("Encipherment")]
        if usages:
            extensions.append((key_usage(usages), True))
        if self.extended_key_usage:
            oids = self._extended_oids(self.extended_key_usage)
            extensions.append((x509.ExtendedKeyUsage(oids), False))
        return tuple(extensions)

    @staticmethod
    def _extended_oids(usages: Iterable[str]) -> tuple[x509.ObjectIdentifier, ...]:
        oids = []
        for usage in usages:
            try:
                known = EXTENDED_KEY_USAGES.get(usage)
                oids.append(known or x509.ObjectIdentifier(usage))
            except ValueError as error:
                raise ValueError(f"unknown extended key usage {usage!r}") from error
        return tuple(oids)


def choose(profiles: Iterable[Profile], csr: CertificateRequest) -> Profile:
    """The profile for a request that none is named for.

    The first one with the request's own purpose, or else the first one for any purpose.

    Raises:
        Refusal: there is neither, or the request's extensions can't be read.
    """
    candidates = tuple(profiles)
    if all(profile.purpose == "any" for profile in candidates):
        return candidates[0]
    purpose = wishes.purpose_of(csr)
    for wanted in (purpose, "any"):
        for profile in candidates:
            if profile.purpose == wanted:
                return profile
    raise Refusal(f"there is no profile for the purpose {purpose!r}")


def key_usage(usages: Iterable[str], *, ca: bool = False) -> x509.KeyUsage:
    """The keyUsage extension from RFC 5280 names; ``ca`` adds keyCertSign and cRLSign."""
    chosen = {KEY_USAGES[usage] for usage in usages}
    return x509.KeyUsage(
        digital_signature="digital_signature" in chosen,
        content_commitment="content_commitment" in chosen,
        key_encipherment="key_encipherment" in chosen,
        data_encipherment="data_encipherment" in chosen,
        key_agreement="key_agreement" in chosen,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
