"""Group C of the rules: SignedData and its encoding (RFC 5652, RFC 8894 section 3.2)."""

from __future__ import annotations

import functools
import hashlib
import random
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pyscep
from pyscep.cms import signed_data
from pyscep.cms.algorithms import DIGESTS, MODERN, AlgorithmPolicy
from pyscep.errors import AlgorithmError, ProtocolError, SignatureError
from pyscep.http import HttpRequest
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import (
    Endpoint,
    FakeServer,
    answering,
    enroll,
    identity,
    issue_at_once,
)

OUT_OF_SCOPE = {
    "C09 (strict)": "there is no strict reader: attributes that are not DER verify as received",
    "C19 (legacy)": "the policy `legacy` takes MD5: some devices speak nothing else",
    "C25 (strict)": "there is no strict reader: up to 8 octets behind a message are overlooked",
}
BAD_ALG, BAD_MESSAGE_CHECK, BAD_REQUEST = "0", "1", "2"


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def request(**knobs: Any) -> forge.Forge:
    return forge.pkcs_req(keys.ca(), **knobs)


def client_message() -> forge.Message:
    server = FakeServer()
    enroll(server)
    return server.messages[0]


def verify(message: forge.Forge, policy: AlgorithmPolicy = MODERN) -> Any:
    """What the package's SignedData reader says, without the server around it."""
    return signed_data.verify(
        signed_data.read_signed_data(message.build()), policy, max_rsa_bits=4096)


# --- structure ------------------------------------------------------------------------


@pytest.mark.parametrize("build", [
    lambda: request().octets, lambda: request(outer_type=forge.DATA).build(),
    lambda: request(outer_type=forge.ENVELOPED_DATA).build(),
    lambda: asn1.seq(asn1.oid(forge.DATA), asn1.tlv(0xA0, asn1.octets(b"x")))],
    ids=["envelope", "named data", "named enveloped", "data"])
@pytest.mark.rule("C01")
def test_c01_outer_content_type_is_signed_data(endpoint: Endpoint, build: Any) -> None:
    endpoint.refuses(build())


@pytest.mark.parametrize("outer", [forge.DATA, forge.ENVELOPED_DATA])
@pytest.mark.rule("C01")
def test_c01_client_rejects_another_outer_content_type(outer: str) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(outer_type=outer))


@pytest.mark.parametrize("inner", [forge.ENVELOPED_DATA, forge.SIGNED_DATA, "1.2.3.4"])
@pytest.mark.rule("C02")
def test_c02_econtent_type_is_data(endpoint: Endpoint, inner: str) -> None:
    endpoint.refuses(request(econtent_type=inner, version=3), BAD_REQUEST)
    with pytest.raises(ProtocolError):
        enroll(answering(econtent_type=inner, version=3))


@pytest.mark.rule("C03")
def test_c03_bare_enveloped_data_is_refused(endpoint: Endpoint) -> None:
    endpoint.refuses(request(envelope={"wrap": False}), BAD_REQUEST)


@pytest.mark.rule("C03")
def test_c03_content_info_of_another_type_is_refused(endpoint: Endpoint) -> None:
    good = request()
    renamed = good.octets.replace(asn1.oid(forge.ENVELOPED_DATA), asn1.oid(forge.DATA), 1)
    endpoint.refuses(good.but(content=renamed), BAD_REQUEST)


@pytest.mark.rule("C04")
def test_c04_signed_attributes_are_needed(endpoint: Endpoint) -> None:
    """Although the signature over the content verifies."""
    message = request(no_signed_attributes=True)
    endpoint.refuses(message)
    with pytest.raises(ProtocolError):
        verify(message)
    with pytest.raises(ProtocolError):
        enroll(answering(no_signed_attributes=True))


@pytest.mark.parametrize("knobs", [
    {"content_type_attribute": forge.ENVELOPED_DATA}, {"drop": frozenset({"content_type"})}],
    ids=["other", "absent"])
@pytest.mark.rule("C05")
def test_c05_content_type_attribute(endpoint: Endpoint, knobs: dict[str, Any]) -> None:
    endpoint.refuses(request(**knobs), BAD_MESSAGE_CHECK)
    with pytest.raises(ProtocolError):
        enroll(answering(**knobs))


@pytest.mark.rule("C06")
def test_c06_message_digest_is_of_the_content(endpoint: Endpoint) -> None:
    message = request()
    data = bytearray(message.build())
    at = bytes(data).index(message.octets) + len(message.octets) - 1
    data[at] ^= 1
    endpoint.refuses(bytes(data), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(message_digest=bytes(32)), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(message_digest=b""), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(drop=frozenset({"message_digest"})), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C06")
def test_c06_client_checks_the_digest_of_every_status() -> None:
    for status in ("0", "2", "3"):
        with pytest.raises(SignatureError):
            enroll(answering(status=status, message_digest=bytes(32)))


@pytest.mark.parametrize("over", ["A0", "content"])
@pytest.mark.rule("C07")
def test_c07_signature_is_over_the_set(endpoint: Endpoint, over: str) -> None:
    endpoint.refuses(request(sign_over=over), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C07")
def test_c07_openssl_verifies_what_is_emitted(endpoint: Endpoint) -> None:
    reply = endpoint.send(request())
    for message in (client_message(), reply):
        done = subprocess.run(
            ["openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER"],
            input=message.raw, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, message.content), done.stderr


def attributes_of(message: forge.Message) -> list[bytes]:
    return [part.raw for part in message.signer_info[3]]


@pytest.mark.rule("C08")
def test_c08_signed_attributes_are_emitted_sorted(endpoint: Endpoint) -> None:
    for message in (client_message(), endpoint.send(request()),
                    endpoint.send(request(challenge="wrong"))):
        listed = attributes_of(message)
        assert listed == sorted(listed)
        assert len({len(part) for part in listed}) > 1


@pytest.mark.rule("C08")
def test_c08_encoder_sorts_what_is_not() -> None:
    extra = sorted((forge.attribute(f"1.2.3.{arc}", asn1.octets(bytes(arc)))
                    for arc in (9, 1, 40)), reverse=True)
    data = signed_data.sign(b"x", extra, identity(keys.ca()), DIGESTS["sha256"])
    listed = attributes_of(forge.read_message(data, der=True))
    assert listed == sorted(listed)
    assert set(extra) < set(listed)


# --- verification ---------------------------------------------------------------------


@pytest.mark.rule("C09")
def test_c09_received_bytes_are_verified_first(endpoint: Endpoint) -> None:
    """Unsorted attributes, signed as they were sent: old strongSwan, EJBCA's test client."""
    message = request(order="reversed")
    assert message.attributes() != sorted(message.attributes())
    endpoint.enrolls(message)


@pytest.mark.rule("C10")
def test_c10_der_is_verified_second(endpoint: Endpoint) -> None:
    """Unsorted attributes under a signature over the sorted ones."""
    endpoint.enrolls(request(order="reversed", sign_over="sorted"))


@pytest.mark.parametrize("style", [asn1.BER, asn1.Style(pad=1)], ids=["indefinite", "padded"])
@pytest.mark.rule("C10")
def test_c10_attributes_in_ber_signed_as_der(endpoint: Endpoint, style: asn1.Style) -> None:
    endpoint.enrolls(request(attributes_style=style, sign_over="sorted"))


@pytest.mark.parametrize("order", ["sorted", "reversed"])
@pytest.mark.parametrize("over", ["as sent", "sorted"])
@pytest.mark.parametrize("style", [asn1.DER, asn1.BER], ids=["der", "ber"])
@pytest.mark.rule("C10")
def test_c10_changed_attribute_fails_both_ways(
    endpoint: Endpoint, order: str, over: str, style: asn1.Style
) -> None:
    changed = (asn1.text("A transaction"), asn1.text("B transaction"))
    endpoint.refuses(
        request(transaction_id="A transaction", order=order, sign_over=over,
                after_signing=changed, attributes_style=style), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C11")
def test_c11_one_signer_info(endpoint: Endpoint) -> None:
    endpoint.refuses(request(signer_infos=0))
    endpoint.refuses(request(signer_infos=2), BAD_REQUEST)
    for count in (0, 2):
        with pytest.raises(ProtocolError):
            enroll(answering(signer_infos=count))


@pytest.mark.rule("C12")
def test_c12_signer_is_found_by_sid(endpoint: Endpoint) -> None:
    bag = (keys.ca().der, keys.client("other").der, keys.client().der)
    message = request(certificates=bag)
    endpoint.enrolls(message)
    assert endpoint.authority.seen[0].signer.der == keys.client().der


@pytest.mark.rule("C12")
def test_c12_first_certificate_is_not_tried(endpoint: Endpoint) -> None:
    """The first certificate's key made the signature, but the sid names another."""
    other = keys.client("other")
    message = request(sid=other.issuer_and_serial,
                      certificates=(keys.client().der, other.der))
    endpoint.refuses(message, BAD_MESSAGE_CHECK)


@pytest.mark.parametrize("sid", [
    lambda: asn1.seq(keys.client().issuer, asn1.integer(7)),
    lambda: asn1.seq(keys.ca().issuer, asn1.integer(keys.client().serial))],
    ids=["serial", "issuer"])
@pytest.mark.rule("C12")
def test_c12_unknown_sid(endpoint: Endpoint, sid: Any) -> None:
    endpoint.refuses(request(sid=sid()), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C12")
def test_c12_two_certificates_under_one_issuer_and_serial(endpoint: Endpoint) -> None:
    """Only the key decides: a namesake's certificate in front does not pass for the signer."""
    namesake = keys.party("CN=device,O=Lab", keys.rsa_key("other"),
                          serial=keys.client().serial)
    endpoint.refuses(request(certificates=(namesake.der,)), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C13")
def test_c13_subject_key_identifier(endpoint: Endpoint) -> None:
    endpoint.enrolls(request(sid="ski", version=3))
    endpoint.refuses(request(sid=asn1.tlv(0x80, bytes(20)), version=3), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C14")
def test_c14_emission_is_version_1_by_issuer_and_serial(endpoint: Endpoint) -> None:
    reply = endpoint.send(request())
    for message, party in ((client_message(), None), (reply, keys.ca())):
        assert message.version == 1
        assert message.signer_info[0].integer == 1
        signer = keys.Party(None, message.signer_certificate)
        assert message.signer_info[1].raw == signer.issuer_and_serial
        if party is not None:
            assert signer.der == party.der


@pytest.mark.parametrize("number", [0, -5, -(1 << 100), 1 << 255, 1 << 311], ids=hex)
@pytest.mark.rule("C12")
def test_c12_any_serial_number(endpoint: Endpoint, number: int) -> None:
    """Devices number their own certificates as they like: zero, negative, 40 octets."""
    device = keys.party("CN=x", keys.rsa_key("client"), serial=number)
    message = request(signer=device)
    opened = endpoint.send(message).open(device)
    assert opened.recipients[0][1].raw == device.issuer_and_serial


@pytest.mark.rule("C12")
def test_c12_other_kinds_of_certificates_are_passed_over(endpoint: Endpoint) -> None:
    attribute_certificate = asn1.tlv(0xA2, asn1.integer(1))
    other = asn1.tlv(0xA3, asn1.oid("1.2.3"))
    endpoint.enrolls(request(
        certificates=(attribute_certificate, keys.client().der, other)))


@pytest.mark.parametrize("count", [31, 32, 33])
@pytest.mark.rule("C12")
def test_c12_number_of_certificates_is_bounded(endpoint: Endpoint, count: int) -> None:
    message = request(certificates=(*[keys.ca().der] * (count - 1), keys.client().der))
    if count <= 32:
        endpoint.enrolls(message)
    else:
        endpoint.refuses(message)


@pytest.mark.rule("C12")
def test_c12_crls_and_unsigned_attributes_are_passed_over(endpoint: Endpoint) -> None:
    message = request()
    signed = asn1.read(message.build())[1][0]
    version, digests, encapsulated, bag, infos = (part.raw for part in signed)
    unsigned = asn1.tlv(0xA1, forge.attribute("1.2.3", asn1.null()))
    info = asn1.seq(*(part.raw for part in asn1.read(infos)[0]), unsigned)
    crls = asn1.tlv(0xA1, keys.crl(keys.ca()))
    data = asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(
        version, digests, encapsulated, bag, crls, asn1.set_of(info))))
    assert endpoint.send(data).status == "0"


@pytest.mark.parametrize("kept", [3, 4, 5])
@pytest.mark.rule("C11")
def test_c11_signer_info_that_is_too_short(endpoint: Endpoint, kept: int) -> None:
    signed = asn1.read(request().build())[1][0]
    *before, infos = (part.raw for part in signed)
    short = asn1.seq(*[part.raw for part in asn1.read(infos)[0]][:kept])
    endpoint.refuses(asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(
        *before, asn1.set_of(short)))))


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 5])
@pytest.mark.rule("C14")
def test_c14_any_version_is_read(endpoint: Endpoint, version: int) -> None:
    endpoint.enrolls(request(version=version))
    endpoint.enrolls(request(signer_info_version=version))


@pytest.mark.rule("C15")
def test_c15_request_without_signer_certificate(endpoint: Endpoint) -> None:
    endpoint.refuses(request(certificates=()), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(certificates=(keys.ca().der,)), BAD_MESSAGE_CHECK)


# --- algorithms -----------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("parameters", [None, asn1.null()], ids=["absent", "NULL"])
@pytest.mark.rule("C16")
def test_c16_digest_parameters(
    endpoint: Endpoint, digest: str, parameters: bytes | None
) -> None:
    reply = endpoint.send(request(digest=digest, digest_parameters=parameters))
    assert (reply.status, reply.digest) == ("0", digest)
    assert len(reply.signer_info[2]) == 1, "parameters are emitted"


@pytest.mark.parametrize("parameters", [asn1.octets(b""), asn1.seq(), asn1.integer(1)],
                         ids=bytes.hex)
@pytest.mark.rule("C16")
def test_c16_digest_parameters_of_another_type(endpoint: Endpoint, parameters: bytes) -> None:
    endpoint.refuses(request(digest_parameters=parameters), BAD_ALG)


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("signature", ["rsaEncryption", "combined", "pss"])
@pytest.mark.rule("C17")
def test_c17_signature_algorithm_names(
    endpoint: Endpoint, digest: str, signature: str
) -> None:
    endpoint.enrolls(request(digest=digest, signature=signature))


@pytest.mark.rule("C17")
def test_c17_rsa_encryption_without_null(endpoint: Endpoint) -> None:
    """AlgorithmIdentifier without parameters."""
    endpoint.enrolls(request(signature=asn1.algorithm(keys.RSA_ENCRYPTION)))


def pss(*parts: bytes) -> bytes:
    """RSASSA-PSS parameters (RFC 4055 section 3.1)."""
    return asn1.algorithm(keys.RSASSA_PSS, asn1.seq(*parts))


SHA256 = asn1.algorithm(keys.DIGEST_OIDS["sha256"], asn1.null())
HASH = asn1.tlv(0xA0, SHA256)
MASK = asn1.tlv(0xA1, asn1.algorithm(keys.MGF1, SHA256))
SALT = asn1.tlv(0xA2, asn1.integer(32))


def signed_with_pss(identifier: bytes, digest: str = "sha256") -> forge.Forge:
    """Signed with PSS proper, under whatever identifier."""
    good = request(digest=digest)
    good = good.but(content=good.octets)
    listed = asn1.set_of(*good.attributes())
    value = keys.sign(good.signer.key, listed, digest, pss=True)
    return good.but(signature=identifier, signature_value=value)


@pytest.mark.rule("C17")
def test_c17_pss_parameters(endpoint: Endpoint) -> None:
    endpoint.enrolls(signed_with_pss(pss(HASH, MASK, SALT)))
    endpoint.enrolls(signed_with_pss(pss(HASH, MASK, SALT, asn1.tlv(0xA3, asn1.integer(1)))))
    by_default = signed_with_pss(asn1.algorithm(keys.RSASSA_PSS), "sha1")
    Endpoint("compatible").enrolls(by_default)
    endpoint.refuses(by_default, BAD_ALG)


@pytest.mark.parametrize("identifier", [
    asn1.algorithm(keys.RSASSA_PSS), pss(), pss(HASH, SALT), pss(MASK, SALT),
    pss(HASH, asn1.tlv(0xA1, asn1.algorithm("1.2.3", SHA256)), SALT),
    pss(HASH, asn1.tlv(0xA1, asn1.algorithm(keys.MGF1)), SALT),
    pss(HASH, MASK, asn1.tlv(0xA2, asn1.integer(-1))),
    pss(HASH, MASK, asn1.tlv(0xA2, asn1.integer(1 << 31))),
    pss(HASH, MASK, SALT, asn1.tlv(0xA3, asn1.integer(2))),
    pss(HASH, MASK, SALT, asn1.tlv(0xA4, asn1.integer(1)))],
    ids=["absent", "empty", "no mask", "no hash", "unknown mask", "mask without hash",
         "negative salt", "huge salt", "trailer", "unknown field"])
@pytest.mark.rule("C17")
def test_c17_pss_parameters_that_do_not_fit(endpoint: Endpoint, identifier: bytes) -> None:
    endpoint.refuses(signed_with_pss(identifier), BAD_ALG)


@pytest.mark.rule("C17")
def test_c17_pss_salt_of_another_length(endpoint: Endpoint) -> None:
    short = pss(HASH, MASK, asn1.tlv(0xA2, asn1.integer(20)))
    endpoint.refuses(signed_with_pss(short), BAD_MESSAGE_CHECK)


@pytest.mark.parametrize(("digest", "combined"), [
    ("sha1", "sha256"), ("sha256", "sha1"), ("sha512", "sha256")])
@pytest.mark.parametrize("made_with", ["digest", "combined"])
@pytest.mark.rule("C17")
def test_c17_signature_algorithm_with_another_digest(
    digest: str, combined: str, made_with: str
) -> None:
    endpoint = Endpoint("compatible")
    made = digest if made_with == "digest" else combined
    message = request(digest=digest, signature="combined", combined_digest=combined,
                      signature_digest=made)
    endpoint.refuses(message, BAD_ALG)


@pytest.mark.rule("C18")
def test_c18_one_digest_for_content_and_attributes() -> None:
    endpoint = Endpoint("compatible")
    endpoint.refuses(request(attribute_digest="sha1"), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(signature_digest="sha1"), BAD_MESSAGE_CHECK)
    endpoint.refuses(request(attribute_digest="sha512"), BAD_MESSAGE_CHECK)


@pytest.mark.rule("C18")
def test_c18_algorithm_protection(endpoint: Endpoint) -> None:
    """RFC 6211: what CMSAlgorithmProtection names must be what the SignerInfo names."""
    endpoint.enrolls(request(algorithm_protection=True))
    endpoint.enrolls(request(algorithm_protection=True, signature="combined"))
    sha256, sha512 = (asn1.algorithm(keys.DIGEST_OIDS[name]) for name in ("sha256", "sha512"))
    rsa = asn1.read(asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null())).content
    for digest, signature in ((sha512, rsa), (sha256, asn1.oid(keys.RSASSA_PSS))):
        value = asn1.seq(digest, asn1.tlv(0xA1, signature))
        stray = forge.attribute("algorithm_protection", value)
        endpoint.refuses(request(extra=(stray,)), BAD_MESSAGE_CHECK)


@pytest.mark.parametrize("policy", ["modern", "compatible"])
@pytest.mark.parametrize("signature", ["rsaEncryption", "combined"])
@pytest.mark.rule("C19")
def test_c19_md5_is_refused(policy: str, signature: str) -> None:
    endpoint = Endpoint(policy)
    message = request(digest="md5", signature=signature)
    endpoint.refuses(message, BAD_ALG)
    with pytest.raises(AlgorithmError):
        enroll(answering(digest="md5", signature=signature),
               policy=AlgorithmPolicy.named(policy))


@pytest.mark.rule("C19")
def test_c19_md5_in_the_csr_alone_is_refused() -> None:
    csr = keys.csr(keys.rsa_key("client"), challenge="secret", digest="md5")
    for policy in ("modern", "compatible"):
        Endpoint(policy).refuses(request(request=csr), BAD_REQUEST)


@pytest.mark.rule("C19")
def test_c19_md5_only_in_legacy() -> None:
    """The legacy policy takes it, and answers in kind."""
    for signature in ("rsaEncryption", "combined"):
        reply = Endpoint("legacy").send(request(digest="md5", signature=signature))
        assert (reply.status, reply.digest) == ("0", "md5")


@pytest.mark.parametrize("policy", ["modern", "compatible", "legacy"])
@pytest.mark.rule("C20")
def test_c20_sha1_from_compatible_on(policy: str) -> None:
    endpoint = Endpoint(policy)
    message = request(digest="sha1", digest_parameters=asn1.null())
    if policy == "modern":
        endpoint.refuses(message, BAD_ALG)
        with pytest.raises(AlgorithmError):
            enroll(answering(digest="sha1"))
    else:
        reply = endpoint.send(message)
        assert (reply.status, reply.digest) == ("0", "sha1")
        chosen = AlgorithmPolicy.named(policy)
        assert enroll(answering(digest="sha1"), policy=chosen).certificates


@pytest.mark.rule("C20")
def test_c20_sha1_in_the_csr_alone() -> None:
    csr = keys.csr(keys.rsa_key("client"), challenge="secret", digest="sha1")
    Endpoint("modern").refuses(request(request=csr), BAD_REQUEST)
    Endpoint("compatible").enrolls(request(request=csr))


@functools.cache
def ec_device() -> keys.Party:
    return keys.party("CN=ec", keys.ec_key("ec"))


@functools.cache
def ed_device() -> keys.Party:
    return keys.party("CN=ed", keys.ed_key("ed"))


RSA_CSR = keys.csr(keys.rsa_key("client"), challenge="secret")


@pytest.mark.parametrize(("party", "digest"), [
    (ec_device, "sha256"), (ec_device, "sha384"), (ec_device, "sha512"), (ed_device, "sha512")])
@pytest.mark.rule("C21")
def test_c21_ecdsa_and_eddsa_verify(endpoint: Endpoint, party: Any, digest: str) -> None:
    """They verify; a server refuses them all the same, for want of a key to encrypt to."""
    message = request(signer=party(), digest=digest, request=RSA_CSR)
    assert verify(message).signer.der == party().der
    endpoint.refuses(message, BAD_ALG)
    changed = message.but(transaction_id="A", after_signing=(asn1.text("A"), asn1.text("B")))
    with pytest.raises(SignatureError):
        verify(changed)


@pytest.mark.rule("C21")
def test_c21_ec_key_identifier_as_signature_algorithm() -> None:
    """id-ecPublicKey where ecdsa-with-SHA256 should stand: the digest is named beside it."""
    name = asn1.algorithm("1.2.840.10045.2.1")
    assert verify(request(signer=ec_device(), signature=name, request=RSA_CSR))


@pytest.mark.rule("C21")
def test_c21_ed25519_wants_sha512() -> None:
    with pytest.raises(AlgorithmError):
        verify(request(signer=ed_device(), digest="sha256", request=RSA_CSR))


@pytest.mark.parametrize("signature", [
    asn1.algorithm(keys.ECDSA_OIDS["sha256"]), asn1.algorithm(keys.ED25519),
    asn1.algorithm("1.2.840.10040.4.3"), asn1.algorithm("1.2.3.4")],
    ids=["ECDSA", "Ed25519", "DSA", "unknown"])
@pytest.mark.rule("C22")
def test_c22_signature_algorithm_must_fit_the_key(
    endpoint: Endpoint, signature: bytes
) -> None:
    endpoint.refuses(request(signature=signature), BAD_ALG)


@pytest.mark.rule("C22")
def test_c22_rsa_algorithm_with_an_ec_key() -> None:
    for name in ("rsaEncryption", "combined"):
        rsa = request(signature=name)._signature_algorithm()
        with pytest.raises(AlgorithmError):
            verify(request(signer=ec_device(), signature=rsa, request=RSA_CSR))


# --- encoding -------------------------------------------------------------------------

STYLES = {"indefinite": asn1.BER, "bouncy": asn1.BOUNCY_CASTLE, "padded": asn1.Style(pad=2),
          "pieces": asn1.Style(chunk=1000), "small pieces": asn1.Style(indefinite=True, chunk=64)}


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.rule("C23")
def test_c23_ber_is_accepted(endpoint: Endpoint, name: str) -> None:
    endpoint.enrolls(request(style=STYLES[name]))
    assert enroll(answering(style=STYLES[name])).certificates
    refused = request(style=STYLES[name], challenge="wrong")
    assert endpoint.send(refused).status == "2"


@pytest.mark.parametrize("cut", [2, 4, 10, 500])
@pytest.mark.rule("C23")
def test_c23_unterminated_indefinite_length(endpoint: Endpoint, cut: int) -> None:
    endpoint.refuses(request(style=asn1.BER).build()[:-cut])


@pytest.mark.rule("C24")
def test_c24_digest_is_over_the_segments(endpoint: Endpoint) -> None:
    message = request()
    size = len(message.octets) // 3 + 1
    message = message.but(style=asn1.Style(chunk=size))
    assert len(asn1.pieces(message.octets, size)) == 3
    endpoint.enrolls(message)


def nest(octets: bytes, depth: int) -> bytes:
    """An OCTET STRING in pieces of pieces."""
    if depth == 0:
        return asn1.octets(octets)
    half = len(octets) // 2
    return asn1.tlv(0x24, nest(octets[:half], depth - 1), nest(octets[half:], depth - 1))


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 8])
@pytest.mark.rule("C24")
def test_c24_nested_segments(endpoint: Endpoint, depth: int) -> None:
    """Four levels; more is refused before anything is put together."""
    message = request()
    message = message.but(content=message.octets,
                          econtent=asn1.tlv(0xA0, nest(message.octets, depth)))
    if depth <= 4:
        endpoint.enrolls(message)
    else:
        endpoint.refuses(message, BAD_REQUEST)


@pytest.mark.parametrize("piece", [asn1.integer(1), asn1.seq(), asn1.null()], ids=bytes.hex)
@pytest.mark.rule("C24")
def test_c24_segments_are_octet_strings(endpoint: Endpoint, piece: bytes) -> None:
    message = request()
    inside = asn1.tlv(0x24, asn1.octets(message.octets), piece)
    endpoint.refuses(
        message.but(content=message.octets, econtent=asn1.tlv(0xA0, inside)), BAD_REQUEST)


@pytest.mark.rule("C24")
def test_c24_swapped_segments_fail(endpoint: Endpoint) -> None:
    message = request()
    size = len(message.octets) // 3 + 1
    message = message.but(style=asn1.Style(chunk=size), chunks_swapped=True)
    endpoint.refuses(message, BAD_MESSAGE_CHECK)


@pytest.mark.parametrize("trailing", [b"\x00", b"\r\n", bytes(8)], ids=bytes.hex)
@pytest.mark.rule("C25")
def test_c25_few_trailing_octets_are_overlooked(endpoint: Endpoint, trailing: bytes) -> None:
    endpoint.enrolls(request(trailing=trailing))
    assert enroll(answering(trailing=trailing)).certificates


@pytest.mark.parametrize("trailing", [bytes(9), bytes(5000)], ids=len)
@pytest.mark.rule("C25")
def test_c25_more_trailing_octets_are_not(endpoint: Endpoint, trailing: bytes) -> None:
    endpoint.refuses(request(trailing=trailing))
    with pytest.raises(ProtocolError):
        enroll(answering(trailing=trailing))


BOMBS = {
    "deep definite": lambda: nested(200),
    "deep indefinite": lambda: b"\x30\x80" * 60_000,
    "deep strings": lambda: b"\x24\x80" * 60_000,
    "2 GiB": lambda: b"\x30\x84\x7f\xff\xff\xff" + bytes(100),
    "4 GiB": lambda: b"\x30\x84\xff\xff\xff\xff",
    "long length": lambda: b"\x30\x88" + b"\xff" * 8,
    "127 length octets": lambda: b"\x30\xff" + b"\xff" * 127,
    "many nodes": lambda: asn1.tlv(0x30, b"\x05\x00" * 40_000),
    "long OID": lambda: asn1.seq(asn1.tlv(0x06, b"\x81" * 60_000 + b"\x01")),
    "empty": lambda: b"",
    "one octet": lambda: b"\x30",
    "high tag": lambda: b"\x3f" + b"\xff" * 1000,
    "text": lambda: b"<html>not SCEP</html>",
}


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = asn1.seq(data)
    return data


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.rule("C26")
def test_c26_bombs_are_a_clean_error(endpoint: Endpoint, name: str) -> None:
    endpoint.refuses(BOMBS[name]())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.rule("C26")
def test_c26_mutations_never_crash(endpoint: Endpoint, seed: int) -> None:
    """Octets of a good message changed, cut out and doubled: a clean answer to each."""
    chance = random.Random(seed)
    styles = [asn1.DER, asn1.BER, asn1.BOUNCY_CASTLE]
    originals = [request(style=style).build() for style in styles]
    for _ in range(250):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at:at + chance.choice((1, 2, 50))]
                case 2:
                    data[at:at] = data[at:at + chance.choice((1, 2, 50))]
        response = endpoint.post(bytes(data))
        assert response.status in (200, 400)
    assert all(isinstance(getattr(event, "error", ProtocolError("")), ProtocolError)
               for event in endpoint.events)


@pytest.mark.rule("C26")
def test_c26_client_survives_mutations() -> None:
    chance = random.Random(26)

    class Mutating(FakeServer):
        def __call__(self, asked: HttpRequest) -> Any:
            response = super().__call__(asked)
            if b"PKIOperation" not in asked.query:
                return response
            data = bytearray(response.body)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            return replace(response, body=bytes(data))

    outcomes = set()
    for _ in range(150):
        try:
            enroll(Mutating())
            outcomes.add("success")
        except pyscep.ScepError as error:
            outcomes.add(type(error).__name__)
    # A bit in the bag's copy of the certificate changes nothing: the CA's is known already.
    assert "SignatureError" in outcomes


@pytest.mark.parametrize(("value", "year"), [
    (asn1.utc_time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)), 2049),
    (asn1.generalized_time(datetime(2050, 1, 1, tzinfo=UTC)), 2050),
    (asn1.utc_time(datetime(1999, 6, 1, tzinfo=UTC)), 1999),
    (asn1.utc_time(datetime(2026, 11, 1, tzinfo=UTC)), 2026)], ids=["2049", "2050", "1999", "2026"])
@pytest.mark.rule("C27")
def test_c27_signing_time_is_reported(endpoint: Endpoint, value: bytes, year: int) -> None:
    """Not enforced by default: phones have wrong clocks."""
    endpoint.enrolls(request(signing_time=value))
    assert endpoint.authority.seen[0].signing_time.year == year
    assert endpoint.authority.seen[0].signing_time.tzinfo is UTC


@pytest.mark.rule("C27")
def test_c27_signing_time_outside_the_window() -> None:
    endpoint = Endpoint(signing_time_window=timedelta(hours=1))
    now = datetime.now(UTC)
    for offset in (-2, 2):
        late = asn1.utc_time(now + timedelta(hours=offset))
        endpoint.refuses(request(signing_time=late), "3")
    endpoint.enrolls(request(signing_time=asn1.utc_time(now - timedelta(minutes=30))))
    endpoint.enrolls(request())


@pytest.mark.parametrize("value", [
    asn1.tlv(0x17, b"2611220000Z"), asn1.tlv(0x17, b"261322000000Z"), asn1.text("20261122"),
    asn1.tlv(0x18, b"20261122000000+0100")], ids=["no seconds", "month 13", "string", "zone"])
@pytest.mark.rule("C27")
def test_c27_malformed_signing_time(endpoint: Endpoint, value: bytes) -> None:
    endpoint.refuses(request(signing_time=value), BAD_REQUEST)


@pytest.mark.parametrize("digests", [(), ("sha512",), ("sha1", "sha256")], ids=str)
@pytest.mark.rule("C28")
def test_c28_digest_algorithms_are_not_relied_on(
    endpoint: Endpoint, digests: tuple[str, ...]
) -> None:
    endpoint.enrolls(request(digest_algorithms=digests))
    assert enroll(answering(digest_algorithms=digests)).certificates


def test_client_survives_a_forged_failure() -> None:
    """Signed by somebody else: no verdict (C12 on the client's side)."""
    stranger = keys.party("CN=Forge CA,O=Lab", keys.rsa_key("other"), serial=1)
    for status in ("0", "2", "3"):
        with pytest.raises(SignatureError):
            enroll(answering(status=status, server=stranger))
    digest = hashlib.sha256(keys.ca().der).hexdigest()
    assert enroll(issue_at_once, ca_fingerprint=digest).certificates
