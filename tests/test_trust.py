"""trust: which certificates a client believes, for what; and what happens with odd ones."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

import pyscep
from pyscep import trust
from pyscep.errors import AlgorithmError, DecodeError, ProtocolError, SignatureError
from pyscep.identity import RawCertificate
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1

NOW = datetime.now(UTC)
KEY = keys.rsa_key("client")
CA, SIGNING, ENCRYPTING = keys.ca(), keys.ra("sign"), keys.ra("encrypt")
CA_EXTENSIONS = (keys.basic_constraints(True),
                 keys.key_usage("digitalSignature", "keyEncipherment", "keyCertSign"))


def raw(*parties: keys.Party | bytes) -> tuple[RawCertificate, ...]:
    return tuple(RawCertificate(one if isinstance(one, bytes) else one.der) for one in parties)


def select(*parties: keys.Party, anchors: tuple[keys.Party, ...] = (CA,), **options: Any) -> Any:
    shape: dict[str, Any] = {"now": NOW, "check_key_usage": True} | options
    return trust.select(raw(*parties), raw(*anchors), shape.pop("policy", pyscep.MODERN), **shape)


def certificate(*extensions: bytes, issuer: keys.Party | None = CA, subject: str = "CN=one",
                key: Any = KEY, **shape: Any) -> keys.Party:
    return keys.party(subject, key, issuer=issuer, extensions=extensions, **shape)


def purposes(*dotted: str) -> bytes:
    return keys.extension("2.5.29.37", asn1.seq(*map(asn1.oid, dotted)))


CLIENT_AUTH, SERVER_AUTH = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"
AGENT, CMC_RA, CMC_CA = "1.3.6.1.4.1.311.20.2.1", "1.3.6.1.5.5.7.3.28", "1.3.6.1.5.5.7.3.27"
X400 = keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0xA3, asn1.seq())))


# --- the body of GetCACert -------------------------------------------------------------


@pytest.mark.parametrize(("body", "expected"), [
    (CA.der, (CA,)), (CA.der + b"\r\n", (CA,)), (CA.pem, (CA,)), (b"\n " + CA.pem + b"\n", (CA,)),
    (CA.pem + SIGNING.pem, (CA, SIGNING)),
    (forge.certs_only((SIGNING.der, CA.der)), (SIGNING, CA)),
    (forge.certs_only((CA.der,), style=asn1.BER) + bytes(3), (CA,)),
    (forge.certs_only((CA.der,), signer=CA), (CA,)),
])
def test_bodies(body: bytes, expected: tuple[keys.Party, ...]) -> None:
    assert trust.parse_ca_certificates(body) == raw(*expected)


@pytest.mark.parametrize("body", [
    b"", b"<html></html>", b"-----BEGIN CERTIFICATE-----", asn1.null(), asn1.seq(),
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    forge.certs_only(), forge.certs_only((asn1.tlv(0xA0, asn1.null()),)), CA.der + bytes(9),
    forge.pkcs_req(CA).octets, CA.der[:-1], CA.pem.replace(b"M", b"!", 1),
    keys.csr(KEY), CA.pem * 33,
], ids=range(14))
def test_bodies_that_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        trust.parse_ca_certificates(body)


def test_a_version_that_cryptography_refuses() -> None:
    odd = keys.certificate("CN=x", KEY, version=3)
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(odd) + (
        b"-----END CERTIFICATE-----\n")
    (found,) = trust.parse_ca_certificates(odd)
    with pytest.raises(DecodeError, match="version"):
        trust.roots_of((found,))
    try:
        trust.parse_ca_certificates(pem)
    except DecodeError as error:
        assert "version" in str(error)


# --- pins ------------------------------------------------------------------------------


def test_fingerprints() -> None:
    digest = raw(CA)[0].sha256
    plain = digest.hex()
    colons = ":".join(plain[at:at + 2] for at in range(0, 64, 2)).upper()
    for text in (plain, plain.upper(), colons, f"sha256:{plain}", f"SHA-256:{colons}",
                 f" {plain}\n", colons.replace(":", " ")):
        assert trust.parse_fingerprint(text) == digest
    assert trust.find_pinned(raw(SIGNING, CA), digest).der == CA.der
    with pytest.raises(SignatureError, match=raw(SIGNING)[0].sha256.hex()):
        trust.find_pinned(raw(SIGNING), digest)
    with pytest.raises(SignatureError, match="the server sent"):
        trust.find_pinned((), digest)


@pytest.mark.parametrize("text", [
    "", "sha256:", "ab" * 20, "ab" * 16, "ab" * 31, "ab" * 33, "zz" * 32, "sha1:" + "ab" * 32,
    "ä" * 64, "a" * 63, "sha256:sha-512:" + "ab" * 32])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        trust.parse_fingerprint(text)


def test_trust_on_first_use_starts_at_the_top() -> None:
    middle = certificate(*CA_EXTENSIONS, subject="CN=middle")
    assert trust.roots_of(raw(SIGNING, middle, CA)) == raw(CA)
    assert trust.roots_of(raw(middle)) == raw(middle)
    assert set(trust.roots_of(raw(CA, keys.ca("CN=Other CA")))) == set(
        raw(CA, keys.ca("CN=Other CA")))
    with pytest.raises(ProtocolError, match="only others"):
        trust.roots_of(raw(SIGNING))
    with pytest.raises(ProtocolError, match="only others"):
        trust.roots_of(())


# --- parts -----------------------------------------------------------------------------


def test_a_ca_alone() -> None:
    found = select(CA)
    assert (found.ca, found.recipient) == (CA.certificate, CA.certificate)
    assert found.signers == found.certificates == (CA.certificate,)
    assert found.ignored == ()


def test_registration_authorities() -> None:
    found = select(ENCRYPTING, CA, SIGNING)
    assert found.ca == CA.certificate
    assert found.recipient == ENCRYPTING.certificate
    assert set(found.signers) == {SIGNING.certificate, CA.certificate}
    assert set(found.certificates) == {one.certificate for one in (CA, SIGNING, ENCRYPTING)}


def test_registration_authorities_that_are_named() -> None:
    """A device certificate without extendedKeyUsage is no RA where the RAs are named."""
    device = certificate(keys.key_usage("digitalSignature", "keyEncipherment"))
    unnamed = select(CA, device)
    assert unnamed.recipient == device.certificate
    named = frozenset({raw(SIGNING)[0].sha256, raw(ENCRYPTING)[0].sha256, raw(CA)[0].sha256})
    found = select(device, ENCRYPTING, CA, SIGNING, agents=named)
    assert found.recipient == ENCRYPTING.certificate
    assert device.certificate not in (*found.signers, *found.certificates)
    assert select(CA, device, agents=named).recipient == CA.certificate


def test_data_encipherment_comes_second() -> None:
    second = certificate(keys.key_usage("dataEncipherment"), key=keys.rsa_key("second"))
    assert select(CA, second).recipient == second.certificate
    assert select(CA, second, ENCRYPTING).recipient == ENCRYPTING.certificate


def test_an_agent_without_an_rsa_key_is_no_recipient() -> None:
    agent = certificate(keys.key_usage("keyEncipherment"), key=keys.ec_key("ra"))
    assert select(CA, agent).recipient == CA.certificate


def test_chains() -> None:
    middle_key, low_key = keys.rsa_key("middle"), keys.rsa_key("low")
    middle = certificate(*CA_EXTENSIONS, subject="CN=middle", key=middle_key)
    low = certificate(*CA_EXTENSIONS, subject="CN=low", key=low_key, issuer=middle)
    agent = certificate(keys.key_usage("digitalSignature", "keyEncipherment"), issuer=low,
                        subject="CN=agent")
    for order in ((CA, middle, low, agent), (agent, low, middle, CA), (low, agent, CA, middle)):
        found = select(*order)
        assert found.ca == low.certificate
        assert found.recipient == agent.certificate
        assert len(found.certificates) == 4
    assert select(low, middle).ca == low.certificate
    assert select(middle, anchors=(CA,)).ca == middle.certificate
    # the anchor need not be sent
    assert select(agent, low, anchors=(middle,)).recipient == agent.certificate


def test_an_agent_that_is_pinned_itself() -> None:
    other = keys.ca("CN=Other CA")
    agent = certificate(keys.key_usage("digitalSignature"), issuer=other)
    found = select(CA, anchors=(CA, agent))
    assert (found.ca, found.recipient) == (CA.certificate, CA.certificate)
    assert set(found.signers) == {CA.certificate, agent.certificate}


def test_strangers_are_told_apart() -> None:
    stranger = keys.party("CN=stranger", keys.rsa_key("other"), extensions=CA_EXTENSIONS)
    below = certificate(issuer=stranger, subject="CN=below")
    assert set(select(CA, stranger, below).ignored) == {
        stranger.certificate, below.certificate}


def test_a_false_claim_of_an_issuer() -> None:
    forger = keys.Party(keys.rsa_key("other"), CA.der)
    with pytest.raises(SignatureError, match="does not verify"):
        select(CA, certificate(issuer=forger))


def test_two_cas_of_one_name() -> None:
    """A CA that changes its key keeps its name (RFC 8894 section 2.2)."""
    new_key = keys.rsa_key("new CA")
    new = keys.party("CN=Forge CA,O=Lab", new_key, serial=2, extensions=(
        *CA_EXTENSIONS, keys.subject_key_identifier(new_key)))
    assert raw(new)[0].subject == raw(CA)[0].subject
    agent = certificate(keys.key_usage("digitalSignature", "keyEncipherment"), issuer=new)
    for anchors in ((CA, new), (new, CA)):
        assert select(agent, anchors=anchors).recipient == agent.certificate
    with pytest.raises(SignatureError):
        select(agent, anchors=(CA,))
    assert not trust.verify_issued_by_any(raw(agent)[0], raw(SIGNING), pyscep.MODERN)
    assert trust.verify_issued_by_any(raw(agent)[0], raw(SIGNING, CA, new), pyscep.MODERN)


def test_the_old_certificate_of_a_ca_is_passed_over() -> None:
    old = keys.party("CN=Forge CA,O=Lab", keys.rsa_key("old CA"), extensions=CA_EXTENSIONS)
    found = select(old, CA, SIGNING)
    assert found.ca == CA.certificate
    assert found.ignored == (old.certificate,)


def test_the_pinned_certificate_must_be_a_cas() -> None:
    with pytest.raises(ProtocolError, match="not a CA's"):
        select(SIGNING, anchors=(SIGNING,))


@pytest.mark.parametrize("usages", [("keyCertSign",), ("keyCertSign", "digitalSignature"),
                                    ("keyCertSign", "keyEncipherment")])
def test_key_usage(usages: tuple[str, ...]) -> None:
    ca = keys.party("CN=mute", KEY, extensions=(
        keys.basic_constraints(True), keys.key_usage(*usages)))
    with pytest.raises(ProtocolError, match="check_key_usage=False"):
        select(ca, anchors=(ca,))
    assert select(ca, anchors=(ca,), check_key_usage=False).recipient == ca.certificate


def test_times() -> None:
    day = timedelta(days=1)
    old = certificate(not_before=NOW - 9 * day, days=3)
    new = certificate(not_before=NOW + day)
    for one in (old, new):
        with pytest.raises(ProtocolError, match="is not valid now: valid from 20"):
            select(CA, one)
    with pytest.raises(ProtocolError, match="is not valid now"):
        select(CA, now=NOW + 9999 * day)
    edge = CA.certificate.not_valid_after_utc
    trust.check_validity(CA.certificate, edge)
    with pytest.raises(ProtocolError):
        trust.check_validity(CA.certificate, edge + timedelta(seconds=1))


def test_a_year_that_python_does_not_have() -> None:
    parts = [part.raw for part in asn1.read(keys.certificate("CN=x", KEY))[0]]
    parts[4] = asn1.seq(asn1.tlv(0x18, b"00000101000000Z"), asn1.tlv(0x18, b"99991231235959Z"))
    tbs = asn1.seq(*parts)
    odd = asn1.seq(tbs, keys.signature_algorithm(KEY), asn1.bits(keys.sign(KEY, tbs)))
    with pytest.raises(DecodeError):
        trust.check_validity(RawCertificate(odd).certificate, NOW)


# --- single certificates ---------------------------------------------------------------


@pytest.mark.parametrize(("extensions", "agent"), [
    ((), True), ((purposes(CLIENT_AUTH),), False), ((purposes(SERVER_AUTH),), True),
    ((purposes(AGENT),), True), ((purposes(CLIENT_AUTH, AGENT),), True),
    ((purposes(CMC_RA, CLIENT_AUTH),), True), ((purposes(CMC_CA),), True),
    ((keys.basic_constraints(True),), False), ((keys.basic_constraints(False),), True),
    ((X400,), False), ((keys.extension("2.5.29.37", asn1.null()),), False),
    ((purposes(AGENT), purposes(AGENT)), False),
])
def test_who_is_a_registration_authority(extensions: tuple[bytes, ...], agent: bool) -> None:
    assert trust.is_registration_authority(certificate(*extensions).certificate) is agent


@pytest.mark.parametrize(("extensions", "ca"), [
    ((), False), ((keys.basic_constraints(True),), True), ((keys.basic_constraints(False),), False),
    ((keys.basic_constraints(True), X400), False),
    ((keys.basic_constraints(True),) * 2, False),
    ((keys.extension("2.5.29.19", asn1.null()),), False),
])
def test_who_is_a_ca(extensions: tuple[bytes, ...], ca: bool) -> None:
    assert trust.is_ca(certificate(*extensions).certificate) is ca


@pytest.mark.parametrize(("extensions", "allowed"), [
    ((), True), ((keys.key_usage("keyEncipherment"),), True),
    ((keys.key_usage("digitalSignature"),), False), ((X400,), False),
    ((keys.extension("2.5.29.15", asn1.null()),), False),
])
def test_what_is_allowed(extensions: tuple[bytes, ...], allowed: bool) -> None:
    assert trust.allows(certificate(*extensions).certificate, "key_encipherment") is allowed


def test_a_certificate_signed_with_pss() -> None:
    parts = [part.raw for part in asn1.read(certificate().der)[0]]
    digest = asn1.algorithm(keys.DIGEST_OIDS["sha256"])
    parts[2] = asn1.algorithm(keys.RSASSA_PSS, asn1.seq(
        asn1.tlv(0xA0, digest), asn1.tlv(0xA1, asn1.algorithm(keys.MGF1, digest)),
        asn1.tlv(0xA2, asn1.integer(32))))
    tbs = asn1.seq(*parts)
    signature = CA.key.sign(tbs, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    one = keys.Party(KEY, asn1.seq(tbs, parts[2], asn1.bits(signature)))
    trust.verify_issued_by(*raw(one, CA), pyscep.MODERN)
    one.certificate.verify_directly_issued_by(CA.certificate)
    assert select(CA, one).recipient == one.certificate


def test_weak_signatures_and_keys() -> None:
    weak = certificate(digest="sha1")
    with pytest.raises(AlgorithmError, match="sha1"):
        trust.verify_issued_by(*raw(weak, CA), pyscep.MODERN)
    trust.verify_issued_by(*raw(weak, CA), pyscep.COMPATIBLE)
    small_key = keys.rsa_key("weak", 1024)
    small = keys.party("CN=small", small_key, extensions=CA_EXTENSIONS)
    with pytest.raises(AlgorithmError, match="1024 bits"):
        trust.verify_issued_by(*raw(certificate(issuer=small), small), pyscep.LEGACY)


# --- CRLs ------------------------------------------------------------------------------


def test_crls() -> None:
    (issuer,) = raw(CA)
    for crl in (keys.crl(CA), keys.crl(CA, *range(1, 12_000))):
        trust.verify_crl(crl, issuer, pyscep.MODERN)
        with pytest.raises(SignatureError):
            trust.verify_crl(crl[:-1] + bytes([crl[-1] ^ 1]), issuer, pyscep.MODERN)
    with pytest.raises(SignatureError, match="another issuer's"):
        trust.verify_crl(keys.crl(CA), raw(SIGNING)[0], pyscep.MODERN)
    with pytest.raises(SignatureError, match="does not verify"):
        trust.verify_crl(keys.crl(keys.Party(KEY, CA.der)), issuer, pyscep.MODERN)


def test_a_crl_without_version() -> None:
    parts = [part.raw for part in asn1.read(keys.crl(CA, 5))[0]][1:-1]
    tbs = asn1.seq(*parts)
    crl = asn1.seq(tbs, keys.signature_algorithm(CA.key), asn1.bits(keys.sign(CA.key, tbs)))
    trust.verify_crl(crl, raw(CA)[0], pyscep.MODERN)


@pytest.mark.parametrize("crl", [
    b"", asn1.null(), asn1.seq(), asn1.seq(asn1.seq(), asn1.seq(), asn1.bits(b"")),
    asn1.seq(asn1.seq(asn1.integer(1), asn1.seq(), CA.subject)),
    asn1.seq(asn1.seq(asn1.integer(1), asn1.seq(), CA.subject), asn1.seq(), asn1.null()),
    keys.crl(CA) + b"x"])
def test_what_is_no_crl(crl: bytes) -> None:
    with pytest.raises(ProtocolError):
        trust.verify_crl(crl, raw(CA)[0], pyscep.MODERN)
