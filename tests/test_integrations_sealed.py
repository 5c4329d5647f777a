"""Sealed challenges: only the request that was announced, once, and unreadable on the way."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st

import pyscep
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import Granted, Profile, Refused
from pyscep.cms import enveloped_data, sealing, signed_data
from pyscep.cms.algorithms import DIGESTS, Algorithms
from pyscep.errors import AlgorithmError
from pyscep.identity import RawCertificate
from pyscep.integrations import sealed
from pyscep.integrations.binding import Binding
from pyscep.integrations.sealed import SealedChallenges, SealError, seal
from tests import forge_keys as keys
from tests import serving
from tests.ca_setting import START, Setting
from tests.integration_lab import (
    CLIENT_AUTH,
    ODD,
    asks,
    csr_with,
    party,
    self_signed,
    usage,
)

SUBJECT = x509.Name.from_rfc4514_string("CN=device,O=Lab")
DNS = x509.DNSName("device.lab.example")
BOUND = Binding(
    subject=SUBJECT,
    sans=("dns:device.lab.example",),
    key_usage=("digitalSignature",),
    extended_key_usage=("clientAuth",),
    key="rsa-2048",
)
FITTING: dict[str, Any] = {
    "sans": (DNS,),
    "extensions": ((usage(digital_signature=True), True), (CLIENT_AUTH, False)),
}


def minted(binding: Binding = BOUND, **more: Any) -> str:
    values: dict[str, Any] = {
        "service": party("service"),
        "recipient": party("module").certificate,
        "now": lambda: START,
    }
    return seal(binding, **(values | more))


@pytest.fixture
def module() -> SealedChallenges:
    return SealedChallenges(party("module"), [party("service").certificate])


@pytest.fixture
def setting(tmp_path: Path, module: SealedChallenges) -> Setting:
    profiles = (Profile(), Profile(name="vpn", validity=timedelta(days=7)))
    return Setting(tmp_path, challenge=module, profiles=profiles)


# --- end to end -----------------------------------------------------------------------


def test_the_announced_request_enrolls_once(setting: Setting) -> None:
    word = minted()
    certificate = setting.certificate(word, **FITTING)
    assert certificate.subject == SUBJECT
    assert setting.certificate(word, **FITTING) == certificate, "its retry"
    other = keys.rsa_key("other device")
    setting.refuses(lambda: setting.enroll(word, key=other, **FITTING), "spent for another key")
    assert len(setting.serials) == 1


def test_a_spent_challenge_stays_spent_in_another_process(setting: Setting) -> None:
    word = minted()
    setting.certificate(word, **FITTING)
    other = setting.reopen()
    key = keys.rsa_key("other device")
    setting.refuses(lambda: setting.enroll(word, key=key, ca=other, **FITTING), "spent")


def test_a_refused_request_spends_nothing(setting: Setting) -> None:
    word = minted()
    setting.refuses(lambda: setting.enroll(word), "differs: subject alternative names")
    setting.certificate(word, **FITTING)


def test_it_names_the_profile(setting: Setting) -> None:
    word = minted(dataclasses.replace(BOUND, profile="vpn"))
    certificate = setting.certificate(word, **FITTING)
    assert certificate.not_valid_after_utc - START <= timedelta(days=7)
    unknown = minted(dataclasses.replace(BOUND, profile="no such"))
    key = keys.rsa_key("other device")
    setting.refuses(lambda: setting.enroll(unknown, key=key, **FITTING), "unknown profile")


def test_expiry(setting: Setting) -> None:
    word = minted(lifetime=timedelta(minutes=10))
    setting.clock.pass_by(minutes=10)
    setting.refuses(lambda: setting.enroll(word, **FITTING), "has expired")


def test_a_pending_request_reserves_it(tmp_path: Path, module: SealedChallenges) -> None:
    setting = Setting(tmp_path, challenge=module, profiles=Profile(approval="manual"))
    word = minted()
    assert isinstance(setting.enroll(word, **FITTING), pyscep.PendingEnrollment)
    other = keys.rsa_key("other device")
    setting.refuses(lambda: setting.enroll(word, key=other, **FITTING), "spent for another key")


def test_get_of_forty_kilobytes(setting: Setting) -> None:
    """The largest challenge goes through one GET, and the device can't read it."""
    word = minted(data=b"x" * 12_500)
    assert 22_000 < len(word) <= sealed.MAX_TEXT
    sizes = []

    def send(request: Any) -> Any:
        sizes.append(len(request.query))
        return setting.send(request)

    client = pyscep.Client(
        "http://ca.test/scep",
        ca_fingerprint=setting.ca.fingerprint,
        method="get",
        now=setting.clock,
    )
    key = keys.rsa_key("client")
    flow = client.enroll(key, setting.request(word, key=key, **FITTING))
    assert isinstance(pyscep.run(flow, send), pyscep.Success)
    assert 36_000 < max(sizes) < 65_000


def test_get_of_forty_kilobytes_over_a_socket(setting: Setting) -> None:
    word = minted(data=b"x" * 12_500)
    app = ScepApp(setting.ca.server(), setting.ca)
    with serving.asgi(app) as origin:
        client = pyscep.Client(
            f"{origin}/scep", ca_fingerprint=setting.ca.fingerprint, method="get",
            now=setting.clock)
        key = keys.rsa_key("client")
        flow = client.enroll(key, setting.request(word, key=key, **FITTING))
        assert isinstance(pyscep.run(flow, pyscep.urllib_sender(timeout=30)), pyscep.Success)


@pytest.mark.parametrize("size", [0, 1_000, 4_000, 8_000, 12_800])
def test_sizes(module: SealedChallenges, size: int) -> None:
    word = minted(data=b"\xff" * size)
    found = module.open(word, START)
    assert found.data == b"\xff" * size
    assert found.binding == BOUND
    assert len(word) >= size * 16 // 9


def test_too_long() -> None:
    with pytest.raises(ValueError, match="characters, more than 24576"):
        minted(data=b"x" * 14_000)


def test_windows_can_send_it() -> None:
    """Windows encodes it as PrintableString (INTUNE B.1)."""
    csr = csr_with(minted(), **FITTING)
    assert csr.challenge_tag == "PrintableString"


def test_what_is_in_it_is_not_readable() -> None:
    data = base64.b64decode(minted())
    for secret in (b"device", b"Lab", b"rsa-2048", b"clientAuth", b"sealed challenge", b"service"):
        assert secret not in data.replace(b"CN=module", b"")


def test_each_is_another_one() -> None:
    assert minted() != minted()


def test_ec_and_rsa_services_and_several_modules() -> None:
    module = SealedChallenges(
        [party("next module"), party("module")],
        [party("ec service", "ec").certificate, party("service").certificate],
    )
    for service in (party("ec service", "ec"), party("service")):
        for recipient in (party("module"), party("next module")):
            word = minted(service=service, recipient=recipient.certificate)
            assert module.open(word, START).binding == BOUND


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)
TYPES = st.sampled_from([
    NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.TITLE])
HOSTS = st.from_regex(r"[a-z]{1,20}\.example", fullmatch=True)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    names=st.lists(st.tuples(TYPES, TEXT), min_size=1, max_size=6),
    hosts=st.lists(HOSTS, max_size=6, unique=True),
    other=st.tuples(TYPES, TEXT),
)
def test_what_is_announced_fits_and_more_does_not(
    names: list[tuple[Any, str]], hosts: list[str], other: tuple[Any, str]
) -> None:
    """For any names: the announced request fits after sealing and opening, a longer one never."""
    subject = x509.Name([x509.NameAttribute(*one) for one in names])
    sans = tuple(x509.DNSName(host) for host in hosts)
    bound = Binding(subject=subject, sans=tuple(f"dns:{host}" for host in hosts))
    module = SealedChallenges(party("module"), [party("service").certificate])
    found = module.open(minted(bound), START).binding
    assert found == bound
    assert found.difference(csr_with("x", subject=subject, sans=sans)) is None
    more = x509.Name([*subject, x509.NameAttribute(*other)])
    assert found.difference(csr_with("x", subject=more, sans=sans)) == "subject"
    longer = (*sans, x509.DNSName("dc.other"))
    assert found.difference(csr_with("x", subject=subject, sans=longer)) == (
        "subject alternative names")


# --- what differs ---------------------------------------------------------------------

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("subject", {"subject": "CN=other,O=Lab"}),
    ("subject", {"subject": "CN=device"}),
    ("subject", {"subject": "CN=device,O=Lab,OU=Extra"}),
    ("subject", {"subject": "CN=device,CN=second,O=Lab"}),
    ("subject", {"subject": "CN=DEVICE,O=Lab"}),
    ("subject", {"subject": "CN=device+O=Lab"}),
    ("subject", {"subject": x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "device\x00"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Lab")])}),
    ("subject", {"subject": x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "dev\u202eice"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Lab")])}),
    ("subject", {"subject": x509.Name([])}),
    ("subject alternative names", {"sans": ()}),
    ("subject alternative names", {"sans": (DNS, x509.DNSName("dc.lab.example"))}),
    ("subject alternative names", {"sans": (DNS, DNS)}),
    ("subject alternative names", {"sans": (x509.DNSName("dc.lab.example"),)}),
    ("subject alternative names", {"sans": (DNS, x509.RegisteredID(NameOID.COMMON_NAME))}),
    ("key usage", {"extensions": ((CLIENT_AUTH, False),)}),
    ("key usage", {"extensions": (
        (usage(digital_signature=True, key_encipherment=True), True), (CLIENT_AUTH, False))}),
    ("extended key usage", {"extensions": ((usage(digital_signature=True), True),)}),
    ("extended key usage", {"extensions": (
        (usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False))}),
    ("key size", {"key": keys.rsa_key("big", 3072)}),
    ("key size", {"key": keys.ec_key("ec device")}),
    ("key size", {"key": keys.ed_key("ed device")}),
    # A SID, with which a domain controller would take the holder for somebody else.
    ("extension 1.3.6.1.4.1.311.25.2", {"extensions": (
        *FITTING["extensions"],
        (x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2"), b"\x30\x00"), False))}),
]


@pytest.mark.parametrize(("what", "change"), CHANGES)
def test_another_request_is_refused_by_field(
    module: SealedChallenges, what: str, change: dict[str, Any]
) -> None:
    word = minted()
    verdict = module.verify(asks(word, csr_with(word, **(FITTING | change))))
    assert isinstance(verdict, Refused)
    assert verdict.reason.endswith(f"the request differs: {what}")
    assert word not in verdict.reason


@pytest.mark.parametrize("reason", ODD)
def test_odd_requests_are_refused_even_where_a_field_is_free(
    module: SealedChallenges, reason: str
) -> None:
    word = minted(Binding(subject=SUBJECT))
    verdict = module.verify(asks(word, csr_with(word, **ODD[reason])))
    assert isinstance(verdict, Refused)
    assert reason.lower() in verdict.reason.lower()


def test_free_fields_are_the_profile_s_affair(module: SealedChallenges) -> None:
    word = minted(Binding(subject=SUBJECT))
    for extra in ({}, {"extensions": FITTING["extensions"]}, {"key": keys.rsa_key("big", 3072)}):
        assert isinstance(module.verify(asks(word, csr_with(word, **extra))), Granted)


def test_harmless_extensions_may_come(module: SealedChallenges) -> None:
    word = minted(Binding(subject=SUBJECT))
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectKeyIdentifier(b"12345678"), False),
    ]
    verdict = module.verify(asks(word, csr_with(word, extensions=extensions)))
    assert isinstance(verdict, Granted)


def test_the_order_of_a_name(module: SealedChallenges) -> None:
    """RFC 4514 turns names round; where a type comes twice, order is meaning."""
    word = minted(Binding(subject=SUBJECT))
    turned = x509.Name(list(reversed(list(SUBJECT))))
    assert isinstance(module.verify(asks(word, csr_with(word, subject=turned))), Granted)
    double = x509.Name.from_rfc4514_string("CN=a,CN=b")
    word = minted(Binding(subject=double))
    assert isinstance(module.verify(asks(word, csr_with(word, subject=double))), Granted)
    turned = x509.Name(list(reversed(list(double))))
    assert isinstance(module.verify(asks(word, csr_with(word, subject=turned))), Refused)


def test_string_types_do_not_count(module: SealedChallenges) -> None:
    word = minted(Binding(subject=SUBJECT))
    subject = x509.Name([
        x509.NameAttribute(one.oid, one.value, x509.name._ASN1Type.PrintableString)
        for one in SUBJECT
    ])
    assert isinstance(module.verify(asks(word, csr_with(word, subject=subject))), Granted)


def test_every_kind_of_name(module: SealedChallenges) -> None:
    upn = x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x0eada@lab.exampl")
    sans = (
        x509.DNSName("a.example"), x509.RFC822Name("ada@lab.example"), upn,
        x509.UniformResourceIdentifier("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1"),
        x509.IPAddress(ip_address("2001:db8::1")),
    )
    bound = Binding(subject=x509.Name([]), key="rsa-2048", sans=(
        "dns:a.example", "email:ada@lab.example", "upn:ada@lab.exampl",
        "uri:tag:microsoft.com,2022-09-14:sid:S-1-5-21-1", "ip:2001:db8::1"))
    word = minted(bound)
    verdict = module.verify(asks(word, csr_with(word, subject=x509.Name([]), sans=sans)))
    assert isinstance(verdict, Granted), verdict


def test_ec_keys(module: SealedChallenges) -> None:
    key = keys.ec_key("ec device")
    word = minted(Binding(subject=SUBJECT, key="ec-p256"))
    assert isinstance(module.verify(asks(word, csr_with(word, key=key))), Granted)
    word = minted(Binding(subject=SUBJECT, key="ec-p384"))
    assert isinstance(module.verify(asks(word, csr_with(word, key=key))), Refused)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": x509.Name([])}, "needs a subject or an alternative name"),
        ({"sans": ("device.example",)}, "is no alternative name"),
        ({"sans": ("dns:",)}, "0 characters"),
        ({"sans": ("dns:a\u202eb",)}, "control characters"),
        ({"sans": ("ip:2001:DB8::1",)}, "write the address as 2001:db8::1"),
        ({"sans": ("ip:none",)}, "does not appear to be"),
        ({"sans": tuple(f"dns:a{n}" for n in range(101))}, "more than 100"),
        ({"key_usage": ("keyCertSign",)}, "key usage 'keyCertSign' is none of"),
        ({"extended_key_usage": ("webServer",)}, "unknown extended key usage"),
        ({"key": "rsa"}, "is none like rsa-2048"),
        ({"subject": x509.Name([x509.NameAttribute(
            NameOID.X500_UNIQUE_IDENTIFIER, b"\x00\x01", x509.name._ASN1Type.BitString)])},
         "is not text"),
        ({"subject": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a\x00b")])},
         "control characters"),
    ],
)
def test_bad_bindings(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Binding(**({"subject": SUBJECT} | fields))


# --- what is no sealed challenge ------------------------------------------------------


def refused(module: SealedChallenges, word: str) -> str:
    verdict = module.verify(asks(word, csr_with("x", **FITTING)))
    assert isinstance(verdict, Refused)
    return verdict.reason


@pytest.mark.parametrize("word", ["secret", "é", "QUJD", "QUJ D", "", "MAA=", "A" * 24_576])
def test_other_words(module: SealedChallenges, word: str) -> None:
    assert refused(module, word).startswith("sealed challenge: ")


def test_foreign_service(module: SealedChallenges) -> None:
    assert "not there" in refused(module, minted(service=party("stranger")))


def test_same_name_and_number_but_another_key(module: SealedChallenges) -> None:
    """A certificate that only looks like the service's."""
    known = party("service").certificate
    key = keys.rsa_key("stranger")
    false = (
        x509.CertificateBuilder()
        .subject_name(known.subject).issuer_name(known.issuer).public_key(key.public_key())
        .serial_number(known.serial_number)
        .not_valid_before(known.not_valid_before_utc)
        .not_valid_after(known.not_valid_after_utc)
        .sign(key, known.signature_hash_algorithm)
    )
    assert "does not verify" in refused(module, minted(service=pyscep.Identity(false, key)))


def test_for_another_module(module: SealedChallenges) -> None:
    word = minted(recipient=party("stranger").certificate)
    assert "no recipient of the envelope is ours" in refused(module, word)


def test_sealed_anew_for_us_by_the_other_module(module: SealedChallenges) -> None:
    """Another module opened it, and passes the signed part on."""
    signed = opened(minted(recipient=party("stranger").certificate), party("stranger"))
    word = wrapped(signed)
    assert "for another module" in refused(module, word)


def test_damage_is_refused(module: SealedChallenges) -> None:
    data = base64.b64decode(minted())
    reasons = set()
    for at in range(20, len(data), 37):
        broken = bytearray(data)
        broken[at] ^= 1
        reasons.add(refused(module, base64.b64encode(bytes(broken)).decode()))
    assert len(reasons) > 1


def test_an_envelope_that_is_not_sound(
    module: SealedChallenges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of its plaintext means anything, however well it looks."""
    decrypt = enveloped_data.decrypt

    def unsound(*arguments: Any, **more: Any) -> Any:
        return dataclasses.replace(decrypt(*arguments, **more), sound=False)

    monkeypatch.setattr(enveloped_data, "decrypt", unsound)
    assert "the envelope does not open" in refused(module, minted())


def test_pkcs1_padding_is_not_taken(module: SealedChallenges) -> None:
    """Otherwise anybody could ask the module's key about paddings."""
    signed = opened(minted(), party("module"))
    word = wrapped(signed, Algorithms(cipher="aes256-cbc"))
    assert "refuses the key transport" in refused(module, word)


def test_the_service_s_certificate_has_an_end(module: SealedChallenges) -> None:
    word = minted(lifetime=timedelta(days=90))
    with pytest.raises(SealError, match="not valid now"):
        module.open(word, START + timedelta(days=31))


def opened(word: str, identity: pyscep.Identity) -> bytes:
    envelope = enveloped_data.read_enveloped_data(base64.b64decode(word))
    return enveloped_data.decrypt(
        envelope, [identity], sealed.POLICY, token_bytes=bytes
    ).plaintext


def wrapped(signed: bytes, algorithms: Algorithms = sealed._ALGORITHMS) -> str:
    recipient = RawCertificate.from_certificate(party("module").certificate)
    data = sealing.encrypt(signed, recipient, algorithms, token_bytes=lambda n: b"k" * n)
    return base64.b64encode(data).decode()


def content_of(word: str) -> dict[str, Any]:
    signed = signed_data.read_signed_data(opened(word, party("module")))
    found: dict[str, Any] = json.loads(signed.content or b"")
    return found


def signed_by_service(content: bytes) -> str:
    return wrapped(
        signed_data.sign(content, (), party("service"), DIGESTS["sha256"], certificates=())
    )


MUTATIONS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("another format", lambda fields: fields.update(format="other")),
    ("another version", lambda fields: fields.update(version=2)),
    ("more than known", lambda fields: fields.update(also="this")),
    ("less than known", lambda fields: fields.pop("sans")),
    ("number as id", lambda fields: fields.update(id=7)),
    ("short id", lambda fields: fields.update(id="00")),
    ("long id", lambda fields: fields.update(id="0" * 34)),
    ("upper case id", lambda fields: fields.update(id="A" * 32)),
    ("time without zone", lambda fields: fields.update(expires_at="2026-03-01T12:30:00")),
    ("no time", lambda fields: fields.update(expires_at="soon")),
    ("no name", lambda fields: fields.update(subject="MAM=")),
    ("subject is no base64", lambda fields: fields.update(subject="=")),
    ("names no list", lambda fields: fields.update(sans="dns:a")),
    ("names no text", lambda fields: fields.update(sans=[1])),
    ("usage unknown", lambda fields: fields.update(key_usage=["all"])),
    ("key unknown", lambda fields: fields.update(key="any")),
    ("profile a number", lambda fields: fields.update(profile=1)),
    ("data a list", lambda fields: fields.update(data=[])),
    ("recipient a list", lambda fields: fields.update(recipient=[])),
]


@pytest.mark.parametrize(("name", "mutate"), MUTATIONS)
def test_what_is_not_understood_in_full(
    module: SealedChallenges, name: str, mutate: Callable[[dict[str, Any]], object]
) -> None:
    fields = content_of(minted())
    assert module.open(signed_by_service(json.dumps(fields).encode()), START).binding == BOUND
    mutate(fields)
    assert "content: " in refused(module, signed_by_service(json.dumps(fields).encode())), name


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_signed_rubbish(module: SealedChallenges, content: bytes) -> None:
    assert "sealed challenge: " in refused(module, signed_by_service(content))


# --- misuse ---------------------------------------------------------------------------


def test_misuse(module: SealedChallenges) -> None:
    with pytest.raises(ValueError, match="made by the management service"):
        module.generate()
    with pytest.raises(ValueError, match="lifetime"):
        minted(lifetime=timedelta(0))
    with pytest.raises(AlgorithmError):
        minted(recipient=self_signed("ec", keys.ec_key("ec")))
    for recipients, services in (((), [party("service").certificate]), ([party("module")], [])):
        with pytest.raises(ValueError, match="at least one"):
            SealedChallenges(recipients, services)


def test_no_secret_in_a_repr(module: SealedChallenges) -> None:
    word = minted(data=b"the service's own")
    assert "own" not in repr(module.open(word, START))
    assert word not in repr(asks(word))
