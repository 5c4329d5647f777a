"""What holds for any bytes: only library errors, nothing issued wrongly, nothing accepted wrongly.

    PYSCEP_MUTANTS=200000 pytest tests/test_properties.py     # a long run

Every mutant is seeded: a failure names the seed, and comes again with it.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

import pyscep
from pyscep import codec, pkcs10, pki_message, trust
from pyscep import identity as identity_module
from pyscep.capabilities import Capabilities
from pyscep.cms import certs_only, enveloped_data, signed_data, signed_reader
from pyscep.codec import der
from pyscep.errors import ProtocolError, ScepError
from pyscep.http import HttpLimits, HttpRequest, HttpResponse, parse_request
from pyscep.identity import RawCertificate
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import (
    CHALLENGE,
    Endpoint,
    FakeServer,
    answering,
    client,
    drive,
    identity,
    issue_at_once,
)
from tests.mutants import COUNT, Tree, bytes_mutant, resigned, tree_mutant

NOW = datetime.now(UTC)


# --- decoders --------------------------------------------------------------------------


def touch(*readers: Callable[[], Any]) -> None:
    """Call each; ProtocolError is the only way out."""
    for reader in readers:
        try:
            reader()
        except ProtocolError:
            pass


def read_certificate(data: bytes) -> None:
    """All that is ever asked of a certificate."""
    raw = RawCertificate(data)
    touch(lambda: raw.public_key, lambda: raw.certificate, lambda: raw.subject_key_identifier,
          lambda: (raw.serial_number, raw.issuer_and_serial.to_der(), raw.is_self_issued,
                   raw.sha256, hash(raw), repr(raw)),
          lambda: trust.is_ca(raw.certificate),
          lambda: trust.is_registration_authority(raw.certificate),
          lambda: trust.allows(raw.certificate, "key_encipherment"),
          lambda: trust.check_validity(raw.certificate, NOW),
          lambda: trust.may_issue(raw, raw),
          lambda: trust.verify_issued_by(raw, raw, pyscep.LEGACY),
          lambda: trust.roots_of((raw,)),
          lambda: trust.select((raw,), (raw,), pyscep.LEGACY, now=NOW, check_key_usage=False))


def read_request(data: bytes) -> None:
    """All that is ever asked of a CSR."""
    csr = pyscep.pkcs10.read(data)
    touch(lambda: csr.public_key, lambda: csr.extensions, lambda: csr.subject_name,
          lambda: csr.verify(pyscep.LEGACY), lambda: (hash(csr), repr(csr)))


def read_signed(data: bytes) -> None:
    message = signed_data.read_signed_data(data)
    touch(lambda: message.content, lambda: message.nested,
          lambda: pki_message.peek_transaction(message),
          lambda: pki_message.open_request(
              signed_data.verify(message, pyscep.LEGACY, max_rsa_bits=4096)))


def read_enveloped(data: bytes) -> None:
    envelope = enveloped_data.read_enveloped_data(data)
    touch(lambda: envelope.encrypted_content,
          lambda: enveloped_data.decrypt(
              envelope, (identity(keys.ca()),), pyscep.LEGACY, token_bytes=bytes))


def read_ca_certificates(data: bytes) -> None:
    found = trust.parse_ca_certificates(data)
    touch(lambda: trust.roots_of(found),
          lambda: trust.select(found, trust.roots_of(found), pyscep.LEGACY, now=NOW,
                               check_key_usage=True))


def read_call(data: bytes) -> None:
    limits = HttpLimits()
    touch(lambda: parse_request(HttpRequest(method="POST", query=data), limits),
          lambda: parse_request(HttpRequest(
              method="GET", query=b"operation=PKIOperation&message=" + data), limits))
    parse_request(HttpRequest(method="GET", query=data), limits)


def read_cert_rep(data: bytes) -> Any:
    return pki_message.decode_cert_rep(
        data, transaction=reply_transaction(), signers=(RawCertificate(keys.ca().der),),
        recipient=identity(keys.client()), policy=pyscep.LEGACY, token_bytes=bytes)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "query": codec.decode_message,
    "index": der.read,
    "SignedData": read_signed,
    "EnvelopedData": read_enveloped,
    "certificates-only": certs_only.read_certs_only,
    "CSR": read_request,
    "certificate": read_certificate,
    "capabilities": Capabilities.parse,
    "CA certificates": read_ca_certificates,
    "CRL": lambda data: trust.verify_crl(data, RawCertificate(keys.ca().der), pyscep.LEGACY),
    "pending": lambda data: pyscep.PendingEnrollment.from_json(data.decode("latin-1")),
    "CertRep": read_cert_rep,
    "HTTP request": read_call,
}


@cache
def request() -> forge.Forge:
    return forge.pkcs_req(
        keys.ca(), challenge=CHALLENGE, signing_time=asn1.utc_time(NOW), algorithm_protection=True)


@cache
def reply() -> forge.Forge:
    sent = forge.read_message(request().build())
    return issue_at_once(sent, sent.open(keys.ca())).but(algorithm_protection=True)


def reply_transaction() -> pyscep.Transaction:
    return pyscep.Transaction(transaction_id=str(request().transaction_id),
                              sender_nonce=request().sender_nonce or b"")


@cache
def pending() -> str:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=CHALLENGE)
    found = drive(client().enroll(key, csr), FakeServer(answering(status="3")))
    assert isinstance(found, pyscep.PendingEnrollment)
    return found.to_json()


@cache
def rich_certificate() -> bytes:
    """A certificate with the extensions that are looked at, and a few more."""
    key = keys.rsa_key("client")
    names = asn1.seq(*(asn1.tlv(tag, b"example.org") for tag in (0x81, 0x82, 0x86)),
                     asn1.tlv(0x87, bytes(4)), asn1.tlv(0xA4, keys.name("CN=x")))
    return keys.certificate("CN=rich,O=Lab,C=NL", key, extensions=(
        keys.basic_constraints(True), keys.subject_key_identifier(key),
        keys.authority_key_identifier(key), keys.key_usage("digitalSignature", "keyCertSign"),
        keys.extension("2.5.29.37", asn1.seq(asn1.oid("1.3.6.1.5.5.7.3.2"))),
        keys.extension("2.5.29.17", names), keys.extension("2.5.29.30", asn1.seq(
            asn1.tlv(0xA0, asn1.seq(asn1.tlv(0x82, b".org"))))),
        keys.extension("2.5.29.31", asn1.seq(asn1.seq(asn1.tlv(0xA0, asn1.tlv(0xA0, asn1.tlv(
            0x86, b"http://x/")))))),
        keys.extension("2.5.29.32", asn1.seq(asn1.seq(asn1.oid("2.5.29.32.0"))))))


SEEDS: dict[str, Callable[[], bytes]] = {
    "query": lambda: codec.encode_message(request().build()).encode(),
    "index": lambda: request().build(),
    "SignedData": lambda: request().build(),
    "EnvelopedData": lambda: request().octets,
    "certificates-only": lambda: forge.certs_only(
        (keys.ca().der, keys.ra().der), crls=(keys.crl(keys.ca(), 1, 2),)),
    "CSR": lambda: keys.csr(keys.rsa_key("client"), challenge=CHALLENGE, attributes=(
        asn1.seq(asn1.oid(keys.EXTENSION_REQUEST), asn1.set_of(asn1.seq(
            keys.basic_constraints(True),
            keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0x82, b"example.org"))))),),)),
    "certificate": rich_certificate,
    "capabilities": lambda: b"AES\nPOSTPKIOperation\nSHA-256\n",
    "CA certificates": lambda: forge.certs_only(
        (keys.ca().der, keys.ra("sign").der, keys.ra("encrypt").der)),
    "CRL": lambda: keys.crl(keys.ca(), 1, 2, 3),
    "pending": lambda: pending().encode(),
    "CertRep": lambda: reply().build(),
    "HTTP request": lambda: b"operation=GetCACert&message=CA%20Name&x=y",
}


def only_protocol_errors(name: str, data: bytes, note: str = "") -> None:
    try:
        DECODERS[name](data)
    except ProtocolError:
        pass
    except Exception as error:
        raise AssertionError(f"{name} {note}: {error!r} for {data.hex()}") from error


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_raise_nothing_but_protocol_errors(name: str, data: bytes) -> None:
    only_protocol_errors(name, data)
    only_protocol_errors(name, b"\x30\x80" + data)


@pytest.mark.parametrize("name", DECODERS)
def test_the_seeds_are_sound(name: str) -> None:
    DECODERS[name](SEEDS[name]())


@pytest.mark.parametrize("name", DECODERS)
def test_mutants_raise_nothing_but_protocol_errors(name: str) -> None:
    seed = SEEDS[name]()
    tree = Tree.read(seed) if seed[:1] == b"\x30" else None
    for number in range(COUNT // 8):
        chance = random.Random(f"{name} {number}")
        only_protocol_errors(name, bytes_mutant(seed, chance), f"bytes {number}")
        if tree is not None:
            only_protocol_errors(name, tree_mutant(tree, chance).encode(), f"tree {number}")


# --- the usual shape and any other -----------------------------------------------------


class NoShape:
    """Checks an encoding, and never matches it."""

    def find(self, data: bytes) -> None:
        pass

    def read(self, data: bytes, max_trailing: int) -> None:
        der.read(data, max_trailing=max_trailing)


def outcome(read: Callable[[], Any]) -> Any:
    """What a reader says, or which kind of error it raises."""
    try:
        return read()
    except ProtocolError as error:
        return type(error)


def raws(node: der.Node | None) -> bytes | None:
    return None if node is None else node.raw


def signed_facts(data: bytes) -> tuple[Any, ...]:
    message = signed_data.read_signed_data(data)
    return (message.version, message.content_type, outcome(lambda: message.content),
            [one.raw for one in message.certificates], [one.raw for one in message.crls],
            [(one.version, one.sid.raw, one.digest_algorithm.raw, raws(one.signed_attributes),
              one.signature_algorithm.raw, one.signature,
              outcome(lambda one=one: {oid: node.raw for oid, node in one.attributes.items()}))
             for one in message.signers],
            outcome(lambda: pki_message.peek_transaction(message)))


def enveloped_facts(data: bytes) -> tuple[Any, ...]:
    envelope = enveloped_data.read_enveloped_data(data)
    return (envelope.version, envelope.recipient_count, envelope.content_type,
            envelope.content_algorithm.raw, outcome(lambda: envelope.encrypted_content),
            [(one.version, one.rid.raw, one.key_encryption_algorithm.raw, one.encrypted_key)
             for one in envelope.recipients])


def request_facts(data: bytes) -> tuple[Any, ...]:
    csr = pyscep.pkcs10.read(data)
    return (csr.der, csr.subject, csr.spki, csr.challenge_password, csr.challenge_tag,
            outcome(lambda: csr.verify(pyscep.LEGACY)))


def certificate_facts(data: bytes) -> tuple[Any, ...]:
    raw = RawCertificate.from_node(der.read(data))
    return (raw.der, raw.serial_der, raw.issuer, raw.subject, raw.spki,
            outcome(lambda: raw.subject_key_identifier))


@pytest.mark.parametrize(("name", "facts_of"), [
    ("SignedData", signed_facts), ("CertRep", signed_facts), ("EnvelopedData", enveloped_facts),
    ("CSR", request_facts), ("certificate", certificate_facts)])
def test_the_fast_readers_say_what_the_general_ones_say(
    name: str, facts_of: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = SEEDS[name]()
    tree = Tree.read(seed)
    mutants = [seed]
    for number in range(COUNT // 5):
        chance = random.Random(f"shape {name} {number}")
        mutants.append(bytes_mutant(seed, chance) if number % 4 == 0 else
                       tree_mutant(tree, chance).encode())
    fast = [outcome(lambda data=data: facts_of(data)) for data in mutants]
    for reader in (signed_reader, enveloped_data, pkcs10, identity_module):
        monkeypatch.setattr(reader, "_USUAL", NoShape())
    monkeypatch.setattr(der, "usual_attributes", lambda node: None)
    for number, (data, expected) in enumerate(zip(mutants, fast, strict=True)):
        assert outcome(lambda data=data: facts_of(data)) == expected, (number, data.hex())


# --- the state of a pending enrollment -------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(field=st.sampled_from([
    "version", "url", "transaction_id", "message_type", "spki", "subject", "signer", "recipient",
    "ca_certificates", "digest", "cipher", "post", "requested_at", "polls"]), value=_json)
def test_a_pending_state_with_another_value(field: str, value: object) -> None:
    document = json.loads(pending()) | {field: value}
    only_protocol_errors("pending", json.dumps(document).encode("ascii"))


# --- the server ------------------------------------------------------------------------


@cache
def client_messages() -> dict[str, forge.Forge]:
    """One request of each type, that the endpoint below answers with SUCCESS or badCertId."""
    names = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)
    target = forge.issuer_and_serial(keys.ca().subject, 1)
    plain = {"17": None, "20": names, "21": target, "22": target}
    return {"19": request()} | {
        kind: forge.pkcs_req(keys.ca(), request=data, message_type=kind, challenge=CHALLENGE)
        for kind, data in plain.items()}


class Watch:
    """An endpoint that looks on at what its authority is asked."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("legacy")
        self.endpoint.authority.crls = (keys.crl(keys.ca()),)

    def post(self, data: bytes) -> list[Any]:
        """What the authority was asked; the reply is sound in any case."""
        authority = self.endpoint.authority
        authority.seen.clear()
        response = self.endpoint.post(data)
        assert response.status in (200, 400, 413), response
        if response.status == 200:
            answer = forge.read_message(response.body, der=True)
            assert answer.status in ("0", "2")
            assert answer.signer_certificate == keys.ca().der
            assert authority.seen or answer.status == "2"
        for asked in authority.seen:
            message = asked.message
            if isinstance(message, pyscep.PKCSReq | pyscep.RenewalReq):
                csr = x509.load_der_x509_csr(message.csr.der)
                assert csr.is_signature_valid
                assert message.csr.public_key == csr.public_key()
            assert asked.signer.public_key.key_size >= 2048
        return list(authority.seen)


def facts(asked: Any) -> tuple[Any, ...]:
    """What only the holder of the signer's key can say."""
    message = asked.message
    data = (message.csr.der if isinstance(message, pyscep.PKCSReq | pyscep.RenewalReq)
            else repr(message))
    return (type(message), data, asked.transaction, asked.signer.public_key,
            asked.algorithms.digest, asked.signing_time)


@pytest.mark.parametrize("kind", ["19", "17", "20", "21", "22"])
def test_raw_mutants_of_a_request_change_nothing_that_is_signed(kind: str) -> None:
    watch = Watch()
    sent = client_messages()[kind].build()
    (asked,) = watch.post(sent)
    original, tree = facts(asked), Tree.read(sent)
    for number in range(COUNT // 2 if kind == "19" else COUNT // 8):
        chance = random.Random(f"raw {kind} {number}")
        mutant = (bytes_mutant(sent, chance) if number % 2 else
                  tree_mutant(tree, chance).encode())
        try:
            for asked in watch.post(mutant):
                assert facts(asked) == original
        except Exception as error:
            raise AssertionError(f"raw {kind} {number}: {error!r}") from error


def resigned_mutant(kind: str, chance: random.Random) -> bytes:
    """A message whose sender lies with a good signature."""
    message, signer = client_messages()[kind], keys.client()
    match chance.randrange(4):
        case 0:  # the attributes, the content, the bag: anything, signed again
            mutant = tree_mutant(Tree.read(message.build()), chance)
            return resigned(mutant, signer)
        case 1:  # the envelope
            octets = message.octets
            tree = tree_mutant(Tree.read(octets), chance).encode()
            return message.but(content=chance.choice((tree, bytes_mutant(octets, chance)))).build()
        case 2:  # what is in the envelope, not signed again
            plain = message.envelope.plaintext if message.envelope else b""
            data = tree_mutant(Tree.read(plain), chance).encode()
            return forge.pkcs_req(keys.ca(), request=data, message_type=kind).build()
        case _:  # a CSR that is signed again, over a mutated CertificationRequestInfo
            info = tree_mutant(Tree.read(keys.csr(signer.key, challenge=CHALLENGE)).parts[0],
                               chance).encode()
            csr = asn1.seq(info, keys.signature_algorithm(signer.key),
                           asn1.bits(keys.sign(signer.key, info)))
            return forge.pkcs_req(keys.ca(), request=csr, message_type=kind).build()


def test_mutants_that_are_signed_again_get_a_sound_answer() -> None:
    watch, asked = Watch(), 0
    for number in range(COUNT * 3 // 20):
        chance = random.Random(f"signed again {number}")
        kind = chance.choice(("19", "19", "19", "17", "20", "21", "22"))
        try:
            asked += len(watch.post(resigned_mutant(kind, chance)))
        except Exception as error:
            raise AssertionError(f"signed again {number}: {error!r}") from error
    assert asked, "no mutant came through: they are all too broken to be of use"


_query = st.binary(max_size=80) | st.builds(
    lambda name, value: b"operation=" + name + b"&message=" + value,
    st.sampled_from([b"GetCACert", b"getcacaps", b"PKIOperation", b"GetNextCACert", b"Foo", b""]),
    st.binary(max_size=60) | st.builds(lambda data: codec.encode_message(data).encode(),
                                       st.binary(max_size=60)))


@given(method=st.sampled_from(["GET", "POST"]) | st.text(max_size=5), path=st.text(max_size=9),
       query=_query, body=st.binary(max_size=60),
       headers=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9))).map(tuple))
def test_any_http_request_gets_a_response(
    method: str, path: str, query: bytes, body: bytes, headers: tuple[tuple[str, str], ...]
) -> None:
    endpoint = shared_endpoint()
    response = endpoint.http(HttpRequest(
        method=method, path=path, query=query, body=body, headers=headers))
    assert isinstance(response, HttpResponse)
    assert response.status in (200, 400, 404, 405)
    assert response.header("content-length") == str(len(response.body))
    assert not endpoint.authority.seen


@cache
def shared_endpoint() -> Endpoint:
    return Endpoint()


# --- the client ------------------------------------------------------------------------


def test_a_mutated_reply_says_the_same_or_nothing() -> None:
    sent = reply().build()
    tree, original = Tree.read(sent), read_cert_rep(reply().build())
    for number in range(COUNT):
        chance = random.Random(f"reply {number}")
        mutant = (bytes_mutant(sent, chance) if number % 2 else
                  tree_mutant(tree, chance).encode())
        try:
            assert read_cert_rep(mutant) == original
        except ProtocolError:
            pass
        except Exception as error:
            raise AssertionError(f"reply {number}: {error!r}") from error


@pytest.mark.parametrize("status", ["2", "3"])
def test_a_mutated_refusal_says_the_same_or_nothing(status: str) -> None:
    message = forge.read_message(request().build())
    sent = forge.cert_rep(message, status=status, fail_info_text="no" if status == "2" else None)
    original, tree = read_cert_rep(sent.build()), Tree.read(sent.build())
    for number in range(COUNT // 8):
        chance = random.Random(f"refusal {status} {number}")
        mutant = (bytes_mutant(sent.build(), chance) if number % 2 else
                  tree_mutant(tree, chance).encode())
        try:
            assert read_cert_rep(mutant) == original
        except ProtocolError:
            pass


class Liar(FakeServer):
    """A server whose reply to one operation is a mutant; it may hold the CA's key."""

    def __init__(self, operation: bytes, chance: random.Random, *, signs: bool) -> None:
        super().__init__()
        self.operation, self.chance, self.signs = operation, chance, signs
        if operation == b"GetCACert" and chance.randrange(2):
            self.ca_reply = ("x", SEEDS["CA certificates"]())
            self.recipients = (keys.ca(), keys.ra("encrypt"))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.body and b"=PKIOperation" in request.query:
            value = unquote_to_bytes(request.query.partition(b"message=")[2])
            request = replace(request, body=base64.b64decode(value))
        response = super().__call__(request)
        if b"=" + self.operation not in request.query:
            return response
        body, chance = response.body, self.chance
        if self.signs:
            return HttpResponse(status=200, body=resigned(
                tree_mutant(Tree.read(body), chance), keys.ca()))
        if body[:1] == b"\x30" and chance.randrange(2):
            return HttpResponse(status=200, body=tree_mutant(Tree.read(body), chance).encode())
        return HttpResponse(status=200, body=bytes_mutant(body, chance))


@pytest.mark.parametrize(("operation", "signs"), [
    (b"GetCACaps", False), (b"GetCACert", False), (b"PKIOperation", False),
    (b"PKIOperation", True)])
@pytest.mark.parametrize("first_use", [False, True])
def test_a_client_believes_no_mutant(operation: bytes, signs: bool, first_use: bool) -> None:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=CHALLENGE)
    options: dict[str, Any] = ({"ca_fingerprint": None, "trust_on_first_use": True} if first_use
                               else {})
    ca_key = keys.ca().certificate.public_key()
    for number in range(COUNT // 40):
        chance = random.Random(f"liar {operation!r} {signs} {number}")
        try:
            found = drive(client(policy=pyscep.LEGACY, **options).enroll(key, csr),
                          Liar(operation, chance, signs=signs))
        except (ScepError, AssertionError):
            # the forge's own reader asserts that a request is for the recipients it knows
            continue
        except Exception as error:
            raise AssertionError(f"liar {operation!r} {number}: {error!r}") from error
        assert isinstance(found, pyscep.Success | pyscep.PendingEnrollment)
        if isinstance(found, pyscep.Success):
            certificate = found.certificates[0]
            assert certificate.public_key() == key.public_key()
            assert certificate.issuer.public_bytes() == keys.ca().subject
            ca_key.verify(  # type: ignore[union-attr, call-arg]  # an RSA key
                certificate.signature, certificate.tbs_certificate_bytes,
                *certificate_padding(certificate))


def certificate_padding(certificate: x509.Certificate) -> tuple[Any, Any]:
    return certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm

