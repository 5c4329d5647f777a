"""Every captured message of tests/vectors/corpus, read by inspect and by the real readers.

The expectations are those of the corpus's manifest, which was made with other software. A
message that its real peer accepted must be readable here, under the legacy policy where its
algorithms are of that age.
"""

from __future__ import annotations

import re
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyscep import http, inspect, pki_message, trust
from pyscep.capabilities import Capabilities
from pyscep.cms import signed_data
from pyscep.cms.algorithms import COMPATIBLE, LEGACY, MODERN, AlgorithmPolicy, Algorithms
from pyscep.cms.certs_only import CertsOnly
from pyscep.enums import FailInfo
from pyscep.errors import AlgorithmError, DecryptionError, ProtocolError, SignatureError
from pyscep.identity import Identity, RawCertificate
from pyscep.messages import CertPoll, ClientMessage, Failure, Pending, PKCSReq, RenewalReq
from pyscep.pki_message import OuterRequest
from tests import corpus
from tests.corpus import Exchange, exchanges
from tests.interop import peers

NOT_OURS = ("tools", "decrypts_with")
"""Keys of the manifest that say something of other software, or of the corpus itself."""
SIDES = [
    pytest.param(one, side, id=f"{one.name}.{side}")
    for one in exchanges()
    for side in ("request", "response")
]
REQUESTS = [pytest.param(one, id=one.name) for one in exchanges() if one.request]
REPLIES = [pytest.param(one, id=one.name) for one in exchanges() if one.response]


def of_operation(operation: str) -> list[Any]:
    return [
        pytest.param(one, id=one.name)
        for one in exchanges()
        if one.about["operation"] == operation
    ]


def test_the_corpus_is_whole() -> None:
    assert len(exchanges()) == 152
    assert (len(REQUESTS), len(REPLIES)) == (70, 68)
    assert all((corpus.CORPUS / f"{one.name}.{suffix}").is_file()
               for one in exchanges() for suffix in ("req", "resp"))


# --- inspect --------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "side"), SIDES)
def test_inspect_finds_what_the_manifest_says(one: Exchange, side: str) -> None:
    """DECISIONS 23: every key of the manifest's request and response objects."""
    expected = dict(getattr(one, side))
    keys = [corpus.key(expected["decrypts_with"])] if "decrypts_with" in expected else []
    expected = {name: value for name, value in expected.items() if name not in NOT_OURS}
    if side == "request":
        outside = ("method", "operation", "request_content_type", "message_bytes")
    else:
        outside = ("http_status", "content_type", "reply_message_bytes")
    expected |= {name: one.about[name] for name in outside}
    found = inspect.inspect(one.raw(side), keys=keys).to_dict()
    assert {name: found.get(name, "(missing)") for name in expected} == expected


@pytest.mark.parametrize(("one", "side"), [case for case in SIDES if case.values[0].request])
def test_inspect_verifies_every_captured_signature(one: Exchange, side: str) -> None:
    found = inspect.inspect(one.raw(side)).to_dict()
    if getattr(one, side):
        assert found["verified"]["value"] is True, found["verified"]
        assert found.get("decrypted", {}).get("value") is not True
    else:
        assert found["http_status"].startswith("HTTP/1.1 500")
        assert found["verified"]["value"] is False


# --- the server's reading path --------------------------------------------------------


def read_request(
    one: Exchange, policy: AlgorithmPolicy
) -> tuple[OuterRequest, ClientMessage, Algorithms]:
    call = http.parse_request(one.http_request(), http.HttpLimits())
    verified = signed_data.verify(
        signed_data.read_signed_data(call.message), policy, max_rsa_bits=policy.max_rsa_bits
    )
    outer = pki_message.open_request(verified)
    message, algorithms, _ = pki_message.decrypt_request(
        outer, corpus.server_identities(), policy, token_bytes=secrets.token_bytes
    )
    return outer, message, algorithms


@pytest.mark.parametrize("one", REQUESTS)
def test_the_server_reads_every_captured_request(one: Exchange) -> None:
    expected = one.request
    outer, message, algorithms = read_request(one, LEGACY)
    assert type(message).__name__ == expected["message_type"]
    assert outer.transaction.transaction_id == expected["transaction_id"]
    assert outer.transaction.transaction_id_tag == expected["string_tags"]["transactionID"]
    assert outer.transaction.sender_nonce.hex() == expected["senderNonce"]
    assert algorithms.digest == expected["digest"]
    assert algorithms.signature == expected["signature_algorithm"]
    assert algorithms.cipher == expected["cipher"]
    assert algorithms.key_transport == expected["key_transport"]
    if isinstance(message, PKCSReq | RenewalReq):
        challenge = expected["challenge_password"]
        assert message.challenge_password == (challenge and challenge["value"])
        assert message.csr.challenge_tag == (challenge and challenge["tag"])
        assert len(message.csr.der) == expected["plaintext_bytes"]
    else:
        assert isinstance(message, CertPoll)
        assert len(message.issuer + message.subject) < expected["plaintext_bytes"]


@pytest.mark.parametrize("policy", [MODERN, COMPATIBLE], ids=lambda policy: policy.name)
def test_a_policy_refuses_exactly_the_algorithms_that_it_does_not_name(
    policy: AlgorithmPolicy,
) -> None:
    """DECISIONS 10: over all captured requests."""
    for one in exchanges():
        if not one.request:
            continue
        allowed = (
            one.request["digest"] in policy.digests and one.request["cipher"] in policy.ciphers
        )
        try:
            read_request(one, policy)
        except AlgorithmError:
            assert not allowed, one.name
        else:
            assert allowed, one.name


@pytest.mark.parametrize("one", REQUESTS)
def test_a_changed_octet_is_noticed(one: Exchange) -> None:
    """A bit of the content, of the attributes or of the signature: nothing is believed then."""
    message = http.parse_request(one.http_request(), http.HttpLimits()).message
    info = signed_data.read_signed_data(message).signers[0]
    nonce = message.index(bytes.fromhex(one.request["senderNonce"]))
    signature = message.rindex(info.signature)
    for place in (len(message) // 4, nonce, signature + 40):
        changed = bytearray(message)
        changed[place] ^= 0x01
        with pytest.raises(ProtocolError):
            signed_data.verify(signed_data.read_signed_data(bytes(changed)), LEGACY,
                               max_rsa_bits=LEGACY.max_rsa_bits)


# --- the client's reading path --------------------------------------------------------


def client_identity(signer: RawCertificate) -> Identity:
    """The client that signed a request, with its key from the corpus."""
    key: Any = signer.public_key
    return Identity(signer.certificate, corpus.client_key(key.key_size))


def read_reply(
    one: Exchange, outer: OuterRequest, **changes: Any
) -> CertsOnly | Pending | Failure:
    arguments: dict[str, Any] = {
        "transaction": outer.transaction,
        "signers": one.ca_certificates(),
        "recipient": client_identity(outer.signer),
        "policy": LEGACY,
        "token_bytes": secrets.token_bytes,
    }
    return pki_message.decode_cert_rep(one.http("response").body, **arguments | changes)


@pytest.mark.parametrize("one", REPLIES)
def test_the_client_reads_every_captured_reply(one: Exchange) -> None:
    expected = one.response
    outer, message, _ = read_request(one, LEGACY)
    outcome = read_reply(one, outer)
    match expected["pki_status"]:
        case "SUCCESS":
            assert isinstance(outcome, CertsOnly)
            assert len(outcome.certificates) == expected["inner_certs"]
            assert len(outcome.crls) == expected["inner_crls"]
            csr = getattr(message, "csr", None)
            the_issued_one(one, outcome, outer.signer.spki if csr is None else csr.spki)
        case "PENDING":
            assert isinstance(outcome, Pending)
        case "FAILURE":
            assert isinstance(outcome, Failure)
            assert isinstance(outcome.fail_info, FailInfo)
            assert outcome.fail_info.rfc_name == expected["fail_info"]
            assert outcome.text == expected.get("fail_info_text")
        case status:
            pytest.fail(f"the manifest says {status}")


def the_issued_one(one: Exchange, outcome: CertsOnly, spki: bytes) -> RawCertificate:
    """Exactly one certificate is for our key, and a CA of the server signed it."""
    ours = [raw for raw in map(RawCertificate, outcome.certificates) if raw.spki == spki]
    assert len(ours) == 1
    issuers = [ca for ca in one.ca_certificates() if trust.may_issue(ca, ours[0])]
    assert issuers, "no CA certificate of the server has the issuer's name"
    for issuer in issuers:
        trust.verify_issued_by(ours[0], issuer, LEGACY)
    return ours[0]


@pytest.mark.parametrize("one", [case for case in REPLIES if case.values[0].response["pki_status"]
                                 == "SUCCESS"])
def test_the_reply_is_for_nobody_else(one: Exchange) -> None:
    outer, _, _ = read_request(one, LEGACY)
    other = corpus.server_identity("jscep-ra-encr")
    with pytest.raises(DecryptionError):
        read_reply(one, outer, recipient=other)
    with pytest.raises(SignatureError):
        read_reply(one, outer, signers=[other.raw])
    with pytest.raises(SignatureError):
        read_reply(one, outer, transaction=replace(outer.transaction, sender_nonce=bytes(16)))


# --- GetCACaps and GetCACert ----------------------------------------------------------


@pytest.mark.parametrize("one", of_operation("GetCACaps"))
def test_the_client_reads_every_captured_capability_list(one: Exchange) -> None:
    call = http.parse_request(one.http_request(), http.HttpLimits())
    assert call.operation.value == "GetCACaps"
    capabilities = Capabilities.parse(one.http("response").body)
    assert capabilities.keywords
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", keyword) for keyword in capabilities.keywords)
    # No list makes a client use what its policy refuses.
    for policy in (MODERN, COMPATIBLE, LEGACY):
        chosen = capabilities.choose(policy)
        assert chosen.digest in policy.digests
        assert chosen.cipher in policy.ciphers


@pytest.mark.parametrize("one", of_operation("GetCACert"))
def test_the_client_reads_every_captured_ca_certificate(one: Exchange) -> None:
    call = http.parse_request(one.http_request(), http.HttpLimits())
    assert call.operation.value == "GetCACert"
    certificates = trust.parse_ca_certificates(one.http("response").body)
    assert any(trust.is_ca(raw.certificate) for raw in certificates)
    agents = [raw for raw in certificates if trust.is_registration_authority(raw.certificate)]
    if one.about["content_type"].endswith("-ca-ra-cert"):
        assert len(agents) == 2
        assert {trust.allows(raw.certificate, "key_encipherment") for raw in agents} == {
            True, False}


# --- a second opinion -----------------------------------------------------------------

OPENSSL_DIGESTS = {"md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
OPENSSL_SIGNATURES = {
    "rsaEncryption": "rsaEncryption",
    "sha1WithRSA": "sha1WithRSAEncryption",
    "sha256WithRSA": "sha256WithRSAEncryption",
    "sha512WithRSA": "sha512WithRSAEncryption",
    "rsassa-pss": "rsassaPss",
}
OPENSSL_CIPHERS = {"aes128-cbc": "aes-128-cbc", "aes256-cbc": "aes-256-cbc"}


def shapes() -> list[Any]:
    """One message of each combination of algorithms and encodings."""
    found: dict[tuple[Any, ...], Any] = {}
    for one in exchanges():
        for side in ("request", "response"):
            about = getattr(one, side)
            if about:
                shape = (side, *(str(about.get(name)) for name in (
                    "digest", "signature_algorithm", "cipher", "encoding", "recipients",
                    "ber_features", "envelope_ber_features")))
                found.setdefault(shape, pytest.param(one, side, id=f"{one.name}.{side}"))
    return list(found.values())


def openssl(*arguments: str) -> bytes:
    done = subprocess.run(
        ["openssl", "cms", *arguments, "-provider", "default", "-provider", "legacy"],
        capture_output=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.interop
@pytest.mark.parametrize(("one", "side"), shapes())
def test_openssl_sees_the_same(one: Exchange, side: str, tmp_path: Path) -> None:
    peers.require("openssl")
    expected = getattr(one, side)
    keys = [corpus.key(expected["decrypts_with"])] if "decrypts_with" in expected else []
    found = inspect.inspect(one.raw(side), keys=keys).to_dict()
    message = tmp_path / "message.der"
    if side == "request":
        message.write_bytes(http.parse_request(one.http_request(), http.HttpLimits()).message)
    else:
        message.write_bytes(one.http("response").body)
    printed = openssl("-cmsout", "-print", "-inform", "DER", "-in", str(message)).decode()
    signer = printed[printed.rindex("signerInfos:"):]
    assert algorithm_after("digestAlgorithm", signer) == OPENSSL_DIGESTS[found["digest"]]
    assert algorithm_after("signatureAlgorithm", signer) == OPENSSL_SIGNATURES[
        found["signature_algorithm"]]
    if "cipher" not in found:
        return
    content = tmp_path / "content.der"
    openssl("-verify", "-noverify", "-inform", "DER", "-in", str(message), "-out", str(content))
    assert f"{content.stat().st_size} bytes" == found["econtent"]
    printed = openssl("-cmsout", "-print", "-inform", "DER", "-in", str(content)).decode()
    assert algorithm_after("contentEncryptionAlgorithm", printed) == OPENSSL_CIPHERS.get(
        found["cipher"], found["cipher"])
    assert algorithm_after("keyEncryptionAlgorithm", printed) == found["key_transport"]
    assert printed.count("keyEncryptionAlgorithm:") == found["recipients"]
    plain = openssl("-decrypt", "-inform", "DER", "-in", str(content), "-keyform", "DER",
                    "-inkey", str(corpus.CORPUS / expected["decrypts_with"]))
    assert len(plain) == found["plaintext_bytes"]


def algorithm_after(label: str, printed: str) -> str:
    match = re.search(rf"{label}:\s+algorithm: (\S+)", printed)
    assert match is not None, label
    return match[1]
