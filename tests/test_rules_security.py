"""Group X of the rules: trust, secrets, limits (RFC 8894 section 7)."""

from __future__ import annotations

import ast
import hashlib
import hmac
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep import codec, pkcs10, trust
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import Profile, StaticChallenge
from pyscep.capabilities import Capabilities
from pyscep.cli.group import pyscep as command
from pyscep.cms.certs_only import read_certs_only
from pyscep.cms.signed_data import read_signed_data
from pyscep.errors import EnrollmentRefused, ProtocolError, SignatureError
from pyscep.http import HttpRequest, HttpResponse
from pyscep.site import serve
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import openssl
from tests.cli_lab import listening
from tests.endpoint import Endpoint, FakeServer, answering, client, drive, enroll, fingerprint
from tests.realm import STATIC, Realm


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


# --- X01, X02: the fingerprint --------------------------------------------------------


@pytest.mark.rule("X01")
def test_x01_fingerprint_as_openssl_prints_it(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_bytes(keys.ca().pem)
    printed = openssl("x509", "-in", pem, "-noout", "-fingerprint", "-sha256")
    words = printed.strip().partition("=")[2]
    assert words.replace(":", "").lower() == hashlib.sha256(keys.ca().der).hexdigest()
    for form in (words, words.lower(), words.replace(":", ""), "sha256:" + words,
                 "SHA256:" + words.replace(":", " "), f" {words}\n"):
        assert enroll(FakeServer(), ca_fingerprint=form).certificates


@pytest.mark.rule("X01")
def test_x01_of_the_ca_that_runs(realm: Realm, tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_bytes(realm.party.pem)
    printed = openssl("x509", "-in", pem, "-noout", "-fingerprint", "-sha256")
    digits = printed.strip().partition("=")[2].replace(":", "").lower()
    assert realm.ca.fingerprint == f"sha256:{digits}"


@pytest.mark.parametrize("bit", [0, 7, 128, 255])
@pytest.mark.rule("X01")
def test_x01_one_bit_off(bit: int) -> None:
    digest = bytearray(hashlib.sha256(keys.ca().der).digest())
    digest[bit // 8] ^= 1 << bit % 8
    server = FakeServer()
    with pytest.raises(SignatureError):
        enroll(server, ca_fingerprint=digest.hex())
    assert server.messages == [], "no request with a secret in it was made"


@pytest.mark.parametrize("text", [
    "", "sha256:", "ab" * 31, "ab" * 33, "zz" * 32, hashlib.sha1(b"").hexdigest(),
    hashlib.md5(b"").hexdigest(), "md5:" + "ab" * 16, "sha1:" + "ab" * 32])
@pytest.mark.rule("X01")
def test_x01_other_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        client(ca_fingerprint=text)


@pytest.mark.rule("X02")
def test_x02_no_pin_needs_consent() -> None:
    server = FakeServer()
    with pytest.raises(ValueError, match="trust_on_first_use"):
        enroll(server, ca_fingerprint=None)
    with pytest.raises(ValueError, match="pinned"):
        next(client(ca_fingerprint=None).get_ca_cert())
    assert server.messages == []
    assert all(b"GetCACert" not in one.query for one in server.requests)
    assert enroll(server, ca_fingerprint=None, trust_on_first_use=True).certificates


@pytest.mark.rule("X02")
def test_x02_known_certificate_instead() -> None:
    known = (keys.ca().certificate,)
    assert enroll(FakeServer(), ca_fingerprint=None, ca_certificates=known).certificates
    # What another server sends changes nothing: the request is for the known CA alone, and
    # the answer has to be its own.
    other = keys.ca("CN=Other,O=Lab")
    server = FakeServer(recipients=(other,))
    with pytest.raises(SignatureError):
        enroll(server, ca_fingerprint=None, ca_certificates=(other.certificate,))
    assert len(server.opened[0].recipients) == 1


# --- X03, X04: the server's certificates ----------------------------------------------

CA_USAGE = ("digitalSignature", "keyEncipherment", "keyCertSign", "cRLSign")


def intermediate(
    issuer: keys.Party, *, ca: bool = True, usage: tuple[str, ...] = CA_USAGE, **more: Any
) -> keys.Party:
    key = keys.rsa_key("intermediate")
    return keys.party("CN=Intermediate,O=Lab", key, issuer=issuer, extensions=(
        keys.basic_constraints(ca), keys.key_usage(*usage)), **more)


def ca_cert(*parties: keys.Party, **options: Any) -> pyscep.CaCertificates:
    body = forge.certs_only(tuple(one.der for one in parties))
    found: pyscep.CaCertificates = drive(
        client(**options).get_ca_cert(), lambda _: HttpResponse(status=200, body=body))
    return found


def openssl_accepts(root: keys.Party, below: keys.Party, leaf: keys.Party, path: Path) -> bool:
    for name, party in (("root", root), ("below", below), ("leaf", leaf)):
        (path / name).write_bytes(party.pem)
    try:
        openssl("verify", "-CAfile", path / "root", "-untrusted", path / "below", path / "leaf")
    except AssertionError:
        return False
    return True


@pytest.mark.rule("X03")
def test_x03_intermediate_is_verified(tmp_path: Path) -> None:
    below = intermediate(keys.ca())
    agent = keys.party("CN=RA", keys.rsa_key("ra below"), issuer=below, extensions=(
        keys.key_usage("digitalSignature", "keyEncipherment"),))
    assert openssl_accepts(keys.ca(), below, agent, tmp_path)
    for order in ((keys.ca(), below, agent), (agent, below, keys.ca())):
        found = ca_cert(*order)
        assert found.ca == below.certificate
        assert found.recipient == agent.certificate
        assert found.ignored == ()


def _broken(kind: str) -> keys.Party:
    start = forge.now() - timedelta(days=30)
    return {
        "expired": lambda: intermediate(keys.ca(), not_before=start, days=10),
        "not yet valid": lambda: intermediate(keys.ca(), not_before=start + timedelta(days=60)),
        "another key signed": lambda: intermediate(
            keys.Party(keys.rsa_key("impostor"), keys.ca().der)),
        "not a CA": lambda: intermediate(keys.ca(), ca=False),
        "no keyCertSign": lambda: intermediate(
            keys.ca(), usage=("digitalSignature", "keyEncipherment")),
    }[kind]()


@pytest.mark.parametrize("kind", [
    "expired", "not yet valid", "another key signed", "not a CA", "no keyCertSign"])
@pytest.mark.rule("X03")
def test_x03_broken_chain(kind: str, tmp_path: Path) -> None:
    """Either the whole answer is refused, or what is below the fault is left out."""
    below = _broken(kind)
    agent = keys.party("CN=RA", keys.rsa_key("ra below"), issuer=below, extensions=(
        keys.key_usage("digitalSignature", "keyEncipherment"),))
    assert not openssl_accepts(keys.ca(), below, agent, tmp_path)
    try:
        found = ca_cert(keys.ca(), below, agent)
    except ProtocolError:
        return
    assert agent.certificate in found.ignored
    assert agent.certificate not in (*found.signers, *found.certificates, found.recipient)


@pytest.mark.rule("X03")
def test_x03_expired_ca() -> None:
    key = keys.rsa_key("expired root")
    old = keys.party("CN=Old", key, not_before=forge.now() - timedelta(days=30), days=10,
                     extensions=(keys.basic_constraints(True), keys.key_usage(*CA_USAGE)))
    with pytest.raises(ProtocolError, match="not valid now"):
        ca_cert(old, ca_fingerprint=fingerprint(old))


@pytest.mark.rule("X03")
def test_x03_foreign_certificates_are_left_out() -> None:
    stranger = keys.ca("CN=Stranger")
    found = ca_cert(keys.ca(), stranger, keys.ra(), keys.client())
    assert set(found.ignored) == {stranger.certificate, keys.client().certificate}
    assert found.recipient == keys.ra().certificate


def ca_with(*usage: str) -> keys.Party:
    key = keys.rsa_key("ca of other usage")
    return keys.party("CN=Usage", key, days=99, extensions=(
        keys.basic_constraints(True), keys.key_usage(*usage)))


def enroll_with(ca: keys.Party, **options: Any) -> Any:
    def answer(request: forge.Message, opened: Any) -> forge.Forge:
        return forge.cert_rep(
            request, server=ca, certificates=(keys.issue(ca, opened.plaintext),))

    server = FakeServer(answer, ca_reply=("", ca.der), recipients=(ca,))
    return enroll(server, ca_fingerprint=fingerprint(ca), **options)


@pytest.mark.parametrize("usage", [
    CA_USAGE, ("digitalSignature", "keyEncipherment", "keyCertSign")])
@pytest.mark.rule("X04")
def test_x04_ca_that_may_sign_and_decrypt(usage: tuple[str, ...]) -> None:
    assert enroll_with(ca_with(*usage)).certificates


@pytest.mark.parametrize("usage", [
    ("keyCertSign", "cRLSign"), ("digitalSignature", "keyCertSign"),
    ("keyEncipherment", "keyCertSign")])
@pytest.mark.rule("X04")
def test_x04_missing_bit(usage: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match="check_key_usage"):
        enroll_with(ca_with(*usage))
    assert enroll_with(ca_with(*usage), check_key_usage=False).certificates
    assert enroll_with(ca_with(*usage), policy=pyscep.LEGACY).certificates
    with pytest.raises(ProtocolError, match="check_key_usage"):
        enroll_with(ca_with(*usage), policy=pyscep.LEGACY, check_key_usage=True)


@pytest.mark.rule("X04")
def test_x04_with_an_ra_the_ca_needs_neither() -> None:
    ca = ca_with("keyCertSign")
    agent = keys.party("CN=RA", keys.rsa_key("ra of it"), issuer=ca, extensions=(
        keys.key_usage("digitalSignature", "keyEncipherment"),))
    found = ca_cert(ca, agent, ca_fingerprint=fingerprint(ca))
    assert found.recipient == agent.certificate


# --- X05, X06: secrets ----------------------------------------------------------------


def causes(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += f"{error!r} {error} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.rule("X05")
def test_x05_challenges_appear_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    static = "St4tic-Pa55phrase"
    realm = Realm(tmp_path, static_challenge=static, profiles=Profile(approval="manual"))
    once = realm.ca.new_challenge()
    number, _, secret = once.partition("-")
    words = [static, once, "wr0ng-Pa55word", f"{number}-{'a' * 32}", f"{secret}-{number}",
             "\u00fcn\u00efcode-Pa55word"]
    shown: list[str] = []
    for count, word in enumerate(words):
        key = keys.rsa_key(f"x05 {count}")
        csr = pkcs10.create(key, "CN=x", challenge_password=word)
        shown += [repr(csr), repr(pyscep.PKCSReq(csr=csr))]
        try:
            outcome = realm.enroll(word, key=key)
        except EnrollmentRefused as error:
            shown.append(causes(error))
        else:
            shown += [repr(outcome), outcome.to_json()]
            pending = outcome
    # What breaks on the way, or in the authority, is shown without the secret too.
    broken = realm.message(static, envelope={"pad": lambda data, block: data})
    realm.post(realm.message(static, request=keys.csr(
        keys.rsa_key("client"), challenge=static, flip=True)))

    def fails(request: pyscep.PkiRequest) -> pyscep.Outcome:
        shown.append(repr(request))
        raise RuntimeError(f"broken on {request!r}")

    assert broken.signer is keys.client()
    realm.send(HttpRequest(
        method="POST", path="/scep", body=realm.message(static).build()), fails)
    for attempt in realm.ca.pending():
        shown.append(repr(attempt))
        realm.ca.approve(attempt.id)
    realm.poll(pending, keys.rsa_key("x05 1"))
    shown += [repr(one) for one in realm.ca.certificates()]
    shown += [repr(realm.events), caplog.text, *capfd.readouterr()]
    shown += [causes(getattr(event, "error", None)) for event in realm.events]
    shown += [serve.event_line(serve.describe_event(event)) for event in realm.events]
    for file in tmp_path.iterdir():
        shown.append(file.read_bytes().decode("latin-1"))
    assert len(realm.ca.certificates()) == 2
    everything = "".join(shown)
    for word in (*words, secret, "Pa55"):
        assert word not in everything
        assert ascii(word).strip("'") not in everything
    assert number in everything, "the public part is what a log needs"


@pytest.mark.rule("X05")
def test_x05_messages_show_no_ciphertext_either() -> None:
    server = FakeServer()
    enroll(server)
    assert server.messages[0].raw not in repr(server.requests).encode()
    assert "body" not in repr(server.requests[-1])


@pytest.mark.rule("X06")
def test_x06_challenges_go_through_compare_digest(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, Any]] = []
    genuine = hmac.compare_digest

    def compare(one: Any, other: Any) -> bool:
        seen.append((one, other))
        return genuine(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(EnrollmentRefused):
        realm.enroll("wrong-word")
    assert (b"wrong-word", STATIC.encode()) in seen
    number = realm.ca.new_challenge().partition("-")[0]
    seen.clear()
    with pytest.raises(EnrollmentRefused):
        realm.enroll(f"{number}-{'a' * 32}")
    # Fixed length: MACs are compared, and the static word beside them.
    assert any(len(one) == len(other) == 32 for one, other in seen)


@pytest.mark.rule("X06")
def test_x06_no_secret_meets_an_equals_sign() -> None:
    """In the sources that know secrets, no name of one stands in a comparison."""
    names = {"password", "secret", "challenge_password", "mac", "_secret", "_mac"}
    package = Path(pyscep.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            if not all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
                continue
            for part in (node.left, *node.comparators):
                name = getattr(part, "attr", getattr(part, "id", None))
                if name in names:
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("word", ["", "x", STATIC[:-1], STATIC + "x", STATIC.upper(), "\udcff"])
@pytest.mark.rule("X06")
def test_x06_words_of_any_length(word: str) -> None:
    asked: Any = type("Asked", (), {"password": word})()
    assert type(StaticChallenge(STATIC).verify(asked)).__name__ == "Refused"


# --- X07, X08: what is certified ------------------------------------------------------


def ask(realm: Realm, *extensions: tuple[x509.ExtensionType, bool], **more: Any) -> forge.Forge:
    csr = pkcs10.create(
        keys.rsa_key("client"), "CN=device,O=Lab", challenge_password=STATIC,
        extensions=extensions, **more)
    return realm.message(request=csr.der)


@pytest.mark.rule("X07")
def test_x07_only_names_are_taken_from_a_request(realm: Realm, tmp_path: Path) -> None:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True,
        data_encipherment=True, key_agreement=True, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False)
    message = ask(
        realm, (x509.BasicConstraints(True, None), True), (usage, True),
        (x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0"),
                                x509.ObjectIdentifier("1.3.6.1.5.5.7.3.9")]), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
        (x509.SubjectKeyIdentifier(b"chosen by the device"), False),
        sans=[x509.DNSName("device.example")])
    (certificate,) = realm.post(message).open(message.signer).certificates
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    granted = extensions.get_extension_for_class(x509.KeyUsage).value
    assert granted.digital_signature
    assert (granted.key_cert_sign, granted.crl_sign, granted.key_agreement) == (False,) * 3
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in purposes] == ["1.3.6.1.5.5.7.3.2"]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("device.example")]
    assert "1.2.3.4" not in {one.oid.dotted_string for one in extensions}
    identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier.digest != b"chosen by the device"
    (tmp_path / "c").write_bytes(certificate.public_bytes(Encoding.PEM))
    text = openssl("x509", "-in", tmp_path / "c", "-noout", "-text")
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "Certificate Sign" not in text


@pytest.mark.parametrize(("name", "reason"), [
    (x509.DNSName("bad name"), "is not allowed"), (x509.DNSName("*.example"), "is not allowed"),
    (x509.DNSName("-a.example"), "is not allowed"), (x509.DNSName("a..example"), "is not allowed"),
    (x509.RFC822Name("a@-b.example"), "is not allowed"),
    (x509.DNSName("a\n.example"), "control characters")])
@pytest.mark.rule("X07")
def test_x07_bad_alternative_names(realm: Realm, name: x509.GeneralName, reason: str) -> None:
    realm.denies(ask(realm, sans=[name]), reason)


@pytest.mark.parametrize("name", [
    x509.UniformResourceIdentifier("javascript:alert(1)"),
    x509.DirectoryName(x509.Name.from_rfc4514_string("CN=admin")),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x03a@b")])
@pytest.mark.rule("X07")
def test_x07_kinds_of_names_that_are_left_out(realm: Realm, name: x509.GeneralName) -> None:
    message = ask(realm, sans=[x509.DNSName("a.example"), name])
    (certificate,) = realm.post(message).open(message.signer).certificates
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.example")]


@pytest.mark.rule("X07")
def test_x07_profile_says_which_names(realm: Realm) -> None:
    realm.ca = realm.reopen(profiles=Profile(
        san_types=("dns",), patterns=(("dns", r"[a-z]+\.lab\.example"),)))
    realm.denies(ask(realm, sans=[x509.DNSName("www.bank.example")]), "pattern")
    message = ask(realm, sans=[
        x509.DNSName("a.lab.example"), x509.RFC822Name("root@lab.example")])
    (certificate,) = realm.post(message).open(message.signer).certificates
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.lab.example")]


@pytest.mark.parametrize("usage", ["keyCertSign", "cRLSign"])
@pytest.mark.rule("X07")
def test_x07_no_profile_makes_a_ca(usage: str) -> None:
    with pytest.raises(ValueError, match=usage):
        Profile(key_usage=("digitalSignature", usage))
    for oid in ("2.5.29.37.0", "1.3.6.1.5.5.7.3.9", "1.3.6.1.4.1.311.20.2.1"):
        with pytest.raises(ValueError, match="not for clients"):
            Profile(extended_key_usage=("clientAuth", oid))


class _Modulus:
    """A public key of a size that takes too long to generate; nobody has its private half."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def public_key(self) -> _Modulus:
        return self

    def public_bytes(self, *_: Any) -> bytes:
        number = asn1.integer((1 << self.bits) - 1)
        key = asn1.seq(number, asn1.integer(65537))
        return asn1.seq(asn1.algorithm("1.2.840.113549.1.1.1", asn1.null()), asn1.bits(key))


@pytest.mark.parametrize("bits", [2048, 3072])
@pytest.mark.rule("X08")
def test_x08_usual_sizes_pass(realm: Realm, bits: int) -> None:
    signer = keys.party("CN=sized", keys.rsa_key(f"x08 {bits}", bits))
    assert realm.post(realm.message(signer=signer)).status == "0"


@pytest.mark.parametrize("bits", [1024, 1536])
@pytest.mark.rule("X08")
def test_x08_small_keys(realm: Realm, bits: int) -> None:
    small = keys.rsa_key(f"x08 {bits}", bits)
    signer = keys.party("CN=sized", small)
    # The signer's key stands in the clear and is answered as badAlg, the CSR's is not.
    realm.denies(
        realm.message(signer=signer, key=keys.rsa_key("client")), f"{bits} bits", fail_info="0")
    realm.denies(realm.message(key=small), f"{bits} bits")


@pytest.mark.parametrize("bits", [4104, 8192, 16384, 32768])
@pytest.mark.rule("X08")
def test_x08_large_keys(realm: Realm, bits: int) -> None:
    key = keys.rsa_key("client")
    giant = _Modulus(bits)
    request = keys.csr(giant, challenge=STATIC, signing_key=key)
    realm.denies(realm.message(request=request), f"RSA key of {bits} bits")
    signer = keys.Party(key, keys.certificate(
        "CN=giant", giant, issuer=keys.party("CN=giant", key)))
    realm.denies(realm.message(signer=signer), f"RSA key of {bits} bits", fail_info="0")


@pytest.mark.rule("X08")
def test_x08_bounds_are_settings() -> None:
    signer = keys.party("CN=sized", keys.rsa_key("x08 3072", 3072))
    message = forge.pkcs_req(keys.ca(), signer=signer)
    endpoint = Endpoint()
    for least, most, status in ((2048, 3072, "0"), (2048, 2048, "2"), (3073, 8192, "2")):
        endpoint.server = pyscep.Server(
            pyscep.Identity(keys.ca().certificate, keys.ca().key),
            policy=replace(pyscep.MODERN, min_rsa_bits=least, max_rsa_bits=most))
        assert endpoint.send(message).status == status
    for sizes in ((512, 4096), (2048, 16384), (4096, 2048)):
        with pytest.raises(ValueError, match="rsa_bits"):
            Profile(rsa_bits=sizes)


# --- X09, X10: attempts, and HTTPS ----------------------------------------------------


@pytest.mark.rule("X09")
def test_x09_wrong_secrets_burn_a_challenge(realm: Realm) -> None:
    """DECISIONS 16: sources are slowed down, never locked out; a challenge has five tries."""
    for wrong, granted in ((4, True), (5, False)):
        word = realm.ca.new_challenge()
        number = word.partition("-")[0]
        device = keys.client(f"x09 {wrong}")
        for _ in range(wrong):
            realm.denies(realm.message(f"{number}-{'a' * 32}", signer=device), "wrong secret")
        if granted:
            assert realm.post(realm.message(word, signer=device)).status == "0"
        else:
            realm.denies(realm.message(word, signer=device), "too many wrong secrets")


@pytest.mark.rule("X09")
def test_x09_others_are_not_locked_out(realm: Realm) -> None:
    """Whoever fails, however often: everybody else enrolls."""
    word = realm.ca.new_challenge()
    for _ in range(20):
        realm.denies(realm.message("aaaaaaaaaaaaa-" + "a" * 32), "unknown one-time challenge")
    assert realm.post(realm.message(word)).status == "0"


@pytest.mark.rule("X10")
def test_x10_https_does_not_replace_the_challenge(realm: Realm) -> None:
    one = pyscep.Client(
        "https://ca.test/scep", ca_fingerprint=realm.ca.fingerprint, now=realm.clock)
    key = keys.rsa_key("client")

    def send(request: HttpRequest) -> HttpResponse:
        headers = (*request.headers, ("x-forwarded-proto", "https"),
                   ("x-forwarded-for", "127.0.0.1"), ("x-ssl-client-verify", "SUCCESS"),
                   ("authorization", "Basic YWRtaW46YWRtaW4="))
        return realm.send(replace(request, headers=headers, peer="127.0.0.1"))

    for word in ("wrong", None):
        with pytest.raises(EnrollmentRefused):
            pyscep.run(one.enroll(key, realm.request(word, key=key)), send)
    assert realm.serials == []
    assert pyscep.run(one.enroll(key, realm.request(STATIC, key=key)), send).certificates


# --- X11: text from the network -------------------------------------------------------

NASTY = "\x1b[2Jcleared\r\nsecond line\x00\u202egnp.exe \u00e9"


@pytest.mark.rule("X11")
def test_x11_fail_info_text_in_exceptions() -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info_text=NASTY))
    assert caught.value.text == NASTY, "as it was, for who escapes it"
    shown = str(caught.value)
    assert shown.isascii()
    assert shown.isprintable()
    assert "cleared" in shown


@pytest.mark.rule("X11")
def test_x11_fail_info_text_has_a_limit() -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info_text="x" * 5000))
    assert len(caught.value.text or "") == 1024


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.rule("X11")
def test_x11_fail_info_text_on_a_terminal(realm: Realm, tmp_path: Path, json: bool) -> None:
    def authority(request: pyscep.PkiRequest) -> pyscep.Outcome:
        return pyscep.Failure(text=NASTY)

    with listening(ScepApp(realm.ca.server(), authority)) as origin:
        words = ["enroll", f"{origin}/scep", "--trust-on-first-use", "--challenge", "word",
                 "--key", str(tmp_path / "k.pem"), "--out", str(tmp_path / "c.pem"),
                 "--subject", "CN=device"]
        found = CliRunner().invoke(command, [*words, "--json"] if json else words)
    assert found.exit_code != 0
    printed = found.stdout + found.stderr
    assert "cleared" in printed
    for character in "\x1b\r\x00\u202e":
        assert character not in printed


@pytest.mark.rule("X11")
def test_x11_foreign_text_in_the_server_log(realm: Realm) -> None:
    message = realm.message("wrong", transaction_id=NASTY, transaction_id_tag=asn1.UTF8)
    realm.post(message)
    line = serve.event_line(serve.describe_event(realm.events[-1]))
    assert "cleared" in line
    assert line.isascii()
    assert line.isprintable()


# --- X12: work is bounded -------------------------------------------------------------


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: the same number on every machine."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except ProtocolError:
        pass
    finally:
        sys.settrace(before)
    return count


def _signed(*rest: bytes) -> bytes:
    info = asn1.seq(asn1.integer(1), *rest)
    return asn1.seq(asn1.oid("1.2.840.113549.1.7.2"), asn1.tlv(0xA0, info))


def _empty_bag(*members: bytes) -> bytes:
    return _signed(asn1.set_of(), asn1.seq(asn1.oid(forge.DATA)), asn1.tlv(0xA0, *members),
                   asn1.set_of())


BOMBS: dict[str, Callable[[int], bytes]] = {
    "NULLs": lambda size: asn1.seq(b"\x05\x00" * (size // 2)),
    "empty certificates": lambda size: _empty_bag(b"\x30\x00" * (size // 2)),
    "digests": lambda size: _signed(asn1.tlv(0x31, b"\x30\x00" * (size // 2))),
    "nested": lambda size: b"\x30\x80" * (size // 2),
    "nested, closed": lambda size: b"\x30\x80" * (size // 4) + b"\x00\x00" * (size // 4),
    "OID": lambda size: _signed(asn1.seq(asn1.tlv(0x06, b"\x81" * (size - 1) + b"\x01"))),
    "OID of many arcs": lambda size: _signed(asn1.seq(asn1.tlv(0x06, b"\x2a" * size))),
    "INTEGER": lambda size: asn1.seq(asn1.tlv(0x02, b"\x7f" * size)),
    "pieces": lambda size: asn1.seq(
        asn1.oid("1.2.840.113549.1.7.2"), b"\x24\x80" + b"\x04\x01a" * (size // 3) + b"\0\0"),
    "one string": lambda size: asn1.seq(asn1.octets(bytes(size))),
    "zeros": lambda size: bytes(size),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.rule("X12")
def test_x12_work_on_a_message_is_bounded(name: str) -> None:
    """A megabyte costs no more than what the bounds on nodes and depth allow."""
    readers = (read_signed_data, read_certs_only, trust.parse_ca_certificates, pkcs10.read)
    for reader in readers:
        small, large = (BOMBS[name](size) for size in (1 << 18, 1 << 20))
        few, many = lines_run(lambda reader=reader, data=small: reader(data)), lines_run(
            lambda reader=reader, data=large: reader(data))
        assert many < 100 * codec.MAX_NODES
        assert many <= few * 4.5 + 1000


@pytest.mark.parametrize("unit", [
    b"%25", b"%2525", b"%", b"+", b"%2B", b"A", b"%0A", b"=", b"-_", b"%%%", b"A%", b"%41"])
@pytest.mark.rule("X12")
def test_x12_work_on_a_query_is_linear(unit: bytes) -> None:
    def read(size: int) -> int:
        return lines_run(lambda: codec.decode_message(unit * (size // len(unit))))

    few, many = read(15_000), read(60_000)
    assert many <= few * 4.5 + 1000
    assert many < 60_000 * 60


@pytest.mark.rule("X12")
def test_x12_work_on_capabilities_is_bounded() -> None:
    for body in (b"\n" * 65_536, b"A\n" * 32_768, b"AES," * 16_384):
        found = lines_run(lambda body=body: "AES" in Capabilities.parse(body))
        assert found < 65_536 * 4


@pytest.mark.rule("X12")
def test_x12_long_crl_costs_its_length_only() -> None:
    crl = keys.crl(keys.ca(), *range(1, 20_001))
    ca = pyscep.RawCertificate(keys.ca().der)
    short = keys.crl(keys.ca(), 1)
    few, many = (
        lines_run(lambda data=data: trust.verify_crl(data, ca, pyscep.MODERN))
        for data in (short, crl))
    assert many < few + 100
