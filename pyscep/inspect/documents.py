"""Certificates, CSRs, CRLs, capability lists: what is inside or beside a pkiMessage."""

from __future__ import annotations

from typing import Any, Final

from cryptography import x509

from pyscep.capabilities import Capabilities
from pyscep.cms import signatures
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.codec import der
from pyscep.errors import DecodeError, ProtocolError
from pyscep.identity import X509_FAULTS, RawCertificate
from pyscep.inspect import encoding
from pyscep.inspect.names import key_text, name_text, oid_name
from pyscep.inspect.report import Draft, Layer
from pyscep.pkcs10 import CHALLENGE_PASSWORD, EXTENSION_REQUEST, CertificateRequest

ANYTHING: Final = AlgorithmPolicy(
    name="inspect",
    digests=frozenset({"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}),
    ciphers=frozenset({"des-cbc", "des-ede3-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"}),
    min_rsa_bits=512,
    max_rsa_bits=16384,
    max_ca_rsa_bits=16384,
)
"""To look is not to accept."""
WEAK_DIGESTS: Final = frozenset({"md5", "sha1"})
MIN_RSA_BITS: Final = 2048
MAX_SERIAL_OCTETS: Final = 20
_FAULTS: Final = (ProtocolError, *X509_FAULTS)


# --- certificates ---------------------------------------------------------------------


def certificate_fields(raw: RawCertificate, draft: Draft, what: str) -> dict[str, Any]:
    """What a certificate says; what is unusual goes into ``draft``.

    Args:
        what: which certificate it is, for the remarks: "the signer", "certificate 2".
    """
    serial = der.content_of(raw.serial_der)
    version, times = _version_and_times(raw.der)
    fields: dict[str, Any] = {
        "subject": name_text(raw.subject),
        "issuer": name_text(raw.issuer),
        "serial": serial.hex(),
        "version": version,
        "not_before": _time(times[0]) if times else None,
        "not_after": _time(times[1]) if times else None,
        "self_issued": raw.is_self_issued,
        "sha256": raw.sha256.hex(),
    }
    if version != 3:
        draft.remark("certificate-version", f"{what} is an X.509 version {version} certificate")
    if len(serial) > MAX_SERIAL_OCTETS:
        draft.remark("long-serial", f"{what} has a serial number of {len(serial)} octets")
    if any(time.tag == der.GENERALIZED_TIME and time.value < b"2050" for time in times):
        draft.remark("generalized-time", f"{what} has GeneralizedTime for a year before 2050")
    try:
        fields["key"] = key_text(raw.public_key)
    except ProtocolError as error:
        fields["key"] = None
        draft.remark("unreadable-key", f"{what}: {error.reason}")
    _weak_key(fields["key"], draft, what)
    try:
        if raw.serial_number <= 0:
            raise DecodeError("the serial number is not positive")
        _parsed_fields(raw.certificate, fields)
    except _FAULTS as error:
        draft.remark("strict-readers-refuse", f"{what}: {error}")
    signature = _signature_name(raw.der)
    fields["signature_algorithm"] = signature
    if signature.startswith(("md5", "sha1", "ecdsaWithSHA1")) and not raw.is_self_issued:
        draft.remark("weak-certificate", f"{what} is signed with {signature}")
    return fields


def _parsed_fields(certificate: x509.Certificate, fields: dict[str, Any]) -> None:
    fields["extensions"] = []
    for extension in certificate.extensions:
        name = oid_name(der.read(der.oid(extension.oid.dotted_string)))
        fields["extensions"].append(name + (" (critical)" if extension.critical else ""))
        match extension.value:
            case x509.BasicConstraints(ca=ca):
                fields["ca"] = ca
            case x509.KeyUsage() as usage:
                fields["key_usage"] = _usages(usage)
            case x509.SubjectAlternativeName() as names:
                fields["subject_alt_names"] = _alternative_names(names)
            case _:
                pass


def _usages(usage: x509.KeyUsage) -> list[str]:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return [name for name in names if getattr(usage, name)]


def _alternative_names(names: x509.SubjectAlternativeName) -> list[str]:
    found = []
    for name in names:
        if isinstance(name, x509.OtherName):
            found.append(f"otherName {name.type_id.dotted_string}={name.value.hex()}")
        elif isinstance(name, x509.DirectoryName):
            found.append(f"directoryName={name_text(name.value.public_bytes())}")
        else:
            found.append(f"{type(name).__name__}={name.value}")
    return found


def _version_and_times(data: bytes) -> tuple[int, list[der.Node]]:
    """Version 1 to whatever is written, and notBefore and notAfter."""
    fields = der.read(data).children()[0].children()
    version = 1
    if fields[0].tag == 0xA0:
        version = fields[0].fields(0xA0, 1, "version")[0].integer("version") + 1
        fields = fields[1:]
    times = fields[3].children() if fields[3].tag == der.SEQUENCE else []
    return version, times if len(times) == 2 else []


def _time(node: der.Node) -> str:
    """ISO 8601, or the text as it stands where it is no such time."""
    try:
        return node.time("validity").isoformat()
    except ProtocolError:
        return node.value.decode("ascii", "backslashreplace")


def _signature_name(data: bytes) -> str:
    identifier = der.read(data, leaf_depth=2).children()[1]
    try:
        return signatures.signature_algorithm_from(identifier).name
    except ProtocolError as error:
        return error.reason


def _weak_key(key: str | None, draft: Draft, what: str) -> None:
    if key and key.startswith("RSA ") and int(key[4:]) < MIN_RSA_BITS:
        draft.remark("weak-key", f"{what} has a key of {key[4:]} bits")


def certificate_layer(data: bytes) -> Layer:
    """A bare certificate."""
    draft = Draft("certificate")
    raw = RawCertificate(data)
    draft.fields.update(certificate_fields(raw, draft, "it"))
    draft.fields["verified"] = _self_signed(raw)
    return draft.finish()


def _self_signed(raw: RawCertificate) -> dict[str, Any]:
    if not raw.is_self_issued:
        return {"value": False, "reason": "not checked: the issuer's certificate is not here"}
    try:
        signatures.verify_structure(der.read(raw.der), raw.public_key, ANYTHING.digests)
    except ProtocolError as error:
        return {"value": False, "reason": f"self-issued: {error.reason}"}
    return {"value": True, "reason": "self-signed: its own key signed it, which proves nothing"}


def certificates_layer(
    title: str, certificates: tuple[bytes, ...], crls: tuple[bytes, ...], ber: list[str]
) -> Layer:
    """The contents of a certificates-only message, in order."""
    draft = Draft(title)
    draft.fields.update(
        inner_certs=len(certificates),
        inner_crls=len(crls),
        inner_ber_features=ber,
        inner_certificates=certificate_list(certificates, draft),
    )
    if crls:
        draft.fields["inner_revocation_lists"] = [crl_fields(crl, draft) for crl in crls]
    if ber:
        draft.remark("ber-inside", f"the certificates come in BER: {', '.join(ber)}")
    return draft.finish()


def certificate_list(certificates: tuple[bytes, ...], draft: Draft) -> list[dict[str, Any]]:
    """Each certificate of a bag; one that can't be read says why."""
    found = []
    for number, data in enumerate(certificates, 1):
        try:
            found.append(certificate_fields(RawCertificate(data), draft, f"certificate {number}"))
        except ProtocolError as error:
            found.append({"problem": str(error)})
            draft.remark("unreadable-certificate", f"certificate {number}: {error}")
    return found


# --- certificate revocation lists -----------------------------------------------------


def crl_layer(data: bytes) -> Layer:
    """A bare CRL."""
    draft = Draft("certificate revocation list")
    draft.fields.update(crl_fields(data, draft))
    draft.fields["verified"] = {
        "value": False,
        "reason": "not checked: the issuer's certificate is not here",
    }
    return draft.finish()


def crl_fields(data: bytes, draft: Draft) -> dict[str, Any]:
    """Who issued a CRL, when, and how long it is; its entries are counted, not read."""
    try:
        root = der.read(data, leaf_depth=2).fields(der.SEQUENCE, 3, "CertificateList")
        fields = root[0].fields(der.SEQUENCE, 3, "TBSCertList")
        issuer = fields[2] if fields[0].tag == der.INTEGER else fields[1]
        crl = x509.load_der_x509_crl(data)
        following = crl.next_update_utc
        return {
            "crl_issuer": name_text(issuer.raw),
            "this_update": crl.last_update_utc.isoformat(),
            "next_update": following and following.isoformat(),
            "revoked": len(crl),
        }
    except _FAULTS as error:
        draft.remark("unreadable-crl", f"the CRL: {error}")
        return {"problem": str(error)}


# --- certificate requests -------------------------------------------------------------


def request_layer(data: bytes, signer_spki: bytes | None = None) -> Layer:
    """A CSR, bare or from an envelope.

    Args:
        signer_spki: SubjectPublicKeyInfo of who signed the message around it.
    """
    draft = Draft("certificate request")
    root = der.read(data)
    ber = encoding.features(root)
    if ber:
        draft.remark("ber-csr", f"the CSR is not DER: {', '.join(ber)}")
    try:
        csr = CertificateRequest(data)
    except ProtocolError as error:
        draft.fields.update(problem=str(error), challenge_password=None)
        draft.remark("bad-csr", f"the CSR can't be read: {error}")
        return draft.finish()
    _challenge(csr, draft)
    draft.fields["csr_subject"] = name_text(csr.subject)
    _request_signature(csr, root, draft)
    _request_attributes(root, draft)
    if signer_spki is not None:
        draft.fields["signer_holds_key"] = signer_spki == csr.spki
        if signer_spki != csr.spki:
            draft.remark("other-key", "the message is signed with another key than the CSR's")
    _requested_extensions(csr, draft)
    return draft.finish()


def _challenge(csr: CertificateRequest, draft: Draft) -> None:
    if csr.challenge_password is None:
        draft.fields["challenge_password"] = None
        return
    draft.fields["challenge_password"] = {
        "value": csr.challenge_password,
        "tag": csr.challenge_tag,
    }
    if csr.challenge_tag != "PrintableString":
        draft.remark(
            "challenge-type",
            f"the challengePassword is a {csr.challenge_tag}, not a PrintableString",
        )
    if not csr.challenge_password:
        draft.remark("empty-challenge", "the challengePassword is empty")


def _request_signature(csr: CertificateRequest, root: der.Node, draft: Draft) -> None:
    name = _signature_name(csr.der)
    draft.fields["csr_signature_algorithm"] = name
    draft.fields["csr_key"] = None
    try:
        draft.fields["csr_key"] = key_text(csr.public_key)
        digest = signatures.verify_structure(root, csr.public_key, ANYTHING.digests)
    except ProtocolError as error:
        draft.fields["csr_verified"] = {"value": False, "reason": error.reason}
        draft.remark("csr-signature", f"the CSR's own signature: {error.reason}")
    else:
        draft.fields["csr_verified"] = {"value": True, "reason": "signed with its own key"}
        if digest in WEAK_DIGESTS:
            draft.remark("weak-csr", f"the CSR is signed with {digest}")
    _weak_key(draft.fields["csr_key"], draft, "the CSR")


def _request_attributes(root: der.Node, draft: Draft) -> None:
    kinds = [
        attribute.children()[0]
        for part in root.children()[0].children()[3:]
        for attribute in part.children()
    ]
    draft.fields["csr_attributes"] = [oid_name(kind) for kind in kinds]
    for kind in kinds:
        if kind.raw not in (CHALLENGE_PASSWORD, EXTENSION_REQUEST):
            draft.remark("csr-attribute", f"the CSR has the attribute {oid_name(kind)}")


def _requested_extensions(csr: CertificateRequest, draft: Draft) -> None:
    try:
        extensions = csr.extensions
    except ProtocolError as error:
        draft.remark("csr-extensions", error.reason)
        return
    draft.fields["requested_extensions"] = [
        oid_name(der.read(der.oid(extension.oid.dotted_string))) for extension in extensions
    ]
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            draft.fields["requested_names"] = _alternative_names(extension.value)


# --- capabilities ---------------------------------------------------------------------


def capabilities_layer(body: bytes) -> Layer:
    """The answer to GetCACaps (RFC 8894 section 3.5.2)."""
    draft = Draft("capabilities")
    capabilities = Capabilities.parse(body)
    draft.fields.update(
        capabilities=list(capabilities.keywords),
        renewal=capabilities.renewal,
        post=capabilities.post,
        verified={"value": False, "reason": "a capability list is never signed"},
    )
    if b"\r" in body:
        draft.remark("line-ends", "lines end with CR LF")
    if "SCEPStandard" not in capabilities:
        draft.remark("no-scepstandard", "SCEPStandard is missing: a server from before RFC 8894")
    if "AES" not in capabilities:
        draft.remark("no-aes", "AES is not announced: some clients then use 3DES or DES")
    if not capabilities.post:
        draft.remark("no-post", "POSTPKIOperation is not announced: long requests go by GET")
    return draft.finish()
