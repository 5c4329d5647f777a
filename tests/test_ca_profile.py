"""What goes from a request into a certificate, and what does not."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import pyscep
from pyscep.ca import Profile, RenewalRules
from pyscep.ca.names import describe_san, same_name
from pyscep.ca.refusal import Refusal
from tests import devices, forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import START, Setting, ca_identity, openssl, write_pem

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def request(subject: Any = "CN=device", key: Any = None, **more: Any) -> Any:
    return pyscep.pkcs10.create(key or keys.rsa_key("client"), subject, **more)


def name(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def raw_csr(subject: bytes) -> pyscep.CertificateRequest:
    """A CSR with any subject, however odd."""
    return pyscep.pkcs10.read(keys.csr(keys.rsa_key("client"), subject))


def raw_name(value: bytes) -> bytes:
    """CN with any encoding of its value."""
    return asn1.seq(asn1.set_of(asn1.seq(asn1.oid("2.5.4.3"), value)))


# --- extensions ------------------------------------------------------------------------


@pytest.mark.rule("X07")
def test_x07_nothing_but_names_is_taken_from_the_request(tmp_path: Path) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    wanted = [
        (x509.BasicConstraints(ca=True, path_length=3), True),
        (x509.KeyUsage(*[True] * 9), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True),
        (unknown, True),
        (x509.NameConstraints([x509.DNSName("test")], None), True),
    ]
    setting = Setting(tmp_path, static_challenge="s")
    certificate = setting.certificate(
        "s", extensions=wanted, sans=[x509.DNSName("a.test")])
    leaf = write_pem(tmp_path / "leaf.pem", [certificate])
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "Digital Signature, Key Encipherment\n" in text
    assert "Certificate Sign" not in text
    assert "TLS Web Client Authentication\n" in text
    assert "1.2.3.4" not in text
    assert "Name Constraints" not in text
    assert "DNS:a.test" in text


def test_usages_of_the_profile(tmp_path: Path) -> None:
    profile = Profile(
        key_usage=("digitalSignature", "nonRepudiation", "keyAgreement", "dataEncipherment"),
        extended_key_usage=("serverAuth", "clientAuth", "1.3.6.1.5.5.7.3.17"))
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    leaf = write_pem(tmp_path / "leaf.pem", [setting.certificate("s")])
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert "Digital Signature, Non Repudiation, Data Encipherment, Key Agreement\n" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication, ipsec" in text


def test_no_usages_at_all(tmp_path: Path) -> None:
    profile = Profile(key_usage=(), extended_key_usage=())
    certificate = Setting(tmp_path, static_challenge="s", profiles=profile).certificate("s")
    found = {extension.oid._name for extension in certificate.extensions}
    assert found == {"basicConstraints", "subjectKeyIdentifier", "authorityKeyIdentifier"}


def test_ec_keys_where_the_profile_allows_them(tmp_path: Path) -> None:
    """Signed with an RSA key, for the reply has to be encrypted to the signer."""
    profile = Profile(key_algorithms=("rsa", "ec"))
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    party = keys.client("gateway")
    gateway = pyscep.Identity(party.certificate, party.key)
    ec_key = keys.ec_key("device")
    setting.clock.time = START.now(START.tzinfo)
    certificate = setting.certificate("s", key=ec_key, signer=gateway)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment
    strict = setting.reopen(profiles=Profile(), endpoint="strict")
    setting.refuses(
        lambda: setting.enroll("s", key=ec_key, signer=gateway, ca=strict), "not allowed")


def test_key_sizes(tmp_path: Path) -> None:
    """X08 at the profile: the policy has its own bounds before that."""
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(rsa_bits=(3072, 3072)))
    setting.refuses(lambda: setting.enroll("s"), "2048 bits: 3072 to 3072")
    setting.certificate("s", key=keys.rsa_key("larger", 3072))


# --- subjects --------------------------------------------------------------------------


def test_subject_is_kept_octet_by_octet(tmp_path: Path) -> None:
    """String types stay as the device wrote them."""
    for tag in (0x13, 0x0C):
        subject = keys.name("CN=device,O=Lab", tag)
        names = Profile().take_names(raw_csr(subject))
        assert names.subject == subject


def test_attributes_that_are_not_allowed_are_left_out() -> None:
    csr = request(name(
        (NameOID.COMMON_NAME, "router"), (x509.ObjectIdentifier("1.2.3.4"), "x"),
        (NameOID.ORGANIZATION_NAME, "Lab")))
    profile = Profile(subject_types=("commonName", "2.5.4.10"))
    taken = x509.Name.from_bytes(profile.take_names(csr).subject)
    assert taken == name((NameOID.COMMON_NAME, "router"), (NameOID.ORGANIZATION_NAME, "Lab"))


def test_part_of_a_multivalued_rdn_is_left_out() -> None:
    csr = request(x509.Name([x509.RelativeDistinguishedName([
        x509.NameAttribute(NameOID.COMMON_NAME, "a"),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, "7")])]))
    names = Profile(subject_types=("commonName",)).take_names(csr)
    assert x509.Name.from_bytes(names.subject) == name((NameOID.COMMON_NAME, "a"))


def test_nothing_left() -> None:
    with pytest.raises(Refusal, match="no name that the profile allows"):
        Profile(subject_types=("commonName",)).take_names(request("O=Lab"))
    with pytest.raises(Refusal, match="no name"):
        Profile().take_names(request(x509.Name([])))


def test_empty_subject_with_alternative_name(tmp_path: Path) -> None:
    """RFC 5280 section 4.2.1.6: then that extension is critical."""
    setting = Setting(tmp_path, static_challenge="s")
    certificate = setting.certificate(
        "s", subject=x509.Name([]), sans=[x509.DNSName("a.test")])
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.critical


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "a\nb", "a\x1b[31mb", "a\u202eb", "a\u200bb", "a\u2028b", "a\ue000\ufffeb"],
    ids=["NUL", "line break", "escape", "bidi", "zero width", "separator", "noncharacter"],
)
def test_control_characters_are_refused(text: str) -> None:
    csr = raw_csr(raw_name(asn1.text(text, asn1.UTF8)))
    with pytest.raises(Refusal, match="control characters") as caught:
        Profile().take_names(csr)
    assert caught.value.reason.isascii()
    assert caught.value.reason.isprintable()


def test_other_scripts_are_fine() -> None:
    for text in ("Müller", "株式会社", "Ωmega"):
        assert Profile().take_names(raw_csr(raw_name(asn1.text(text, asn1.UTF8))))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (asn1.text("a" * 129, asn1.UTF8), "129 characters: 1 to 128"),
        (asn1.text("", asn1.UTF8), "0 characters"),
    ],
)
@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_lengths(value: bytes, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        Profile().take_names(raw_csr(raw_name(value)))


def test_warnings_that_are_errors(tmp_path: Path) -> None:
    """cryptography warns of a long CN; that must be a FAILURE even with -W error."""
    with pytest.raises(Refusal, match="Attribute's length"):
        Profile().take_names(raw_csr(raw_name(asn1.text("a" * 65, asn1.UTF8))))


def test_value_that_is_no_text() -> None:
    unique = asn1.seq(asn1.set_of(asn1.seq(asn1.oid("2.5.4.45"), asn1.bits(b"\x01"))))
    with pytest.raises(Refusal, match="not text"):
        Profile(subject_types=("2.5.4.45",)).take_names(raw_csr(unique))


def test_subject_that_cannot_be_read(tmp_path: Path) -> None:
    """A UTF8String that is none: refused, remembered, no crash."""
    broken = raw_name(asn1.tlv(asn1.UTF8, b"\xff\xfe"))
    setting = Setting(tmp_path, static_challenge="s")
    recipient = keys.Party(ca_identity().private_key, ca_identity().raw.der)
    csr = keys.csr(keys.rsa_key("client"), broken, challenge="s")
    message = forge.pkcs_req(recipient, request=csr).build()
    reply = forge.read_message(setting.send(devices.micromdm().http(message)).body)
    assert reply.fail_info == "2"
    assert setting.sql("SELECT state, subject FROM attempts") == [("refused", "")]
    assert "subject" in (setting.reason or "")


def test_too_many_attributes() -> None:
    csr = request(name(*[(NameOID.ORGANIZATIONAL_UNIT_NAME, str(i)) for i in range(17)]))
    with pytest.raises(Refusal, match="more than 16"):
        Profile().take_names(csr)


def test_patterns() -> None:
    profile = Profile(patterns=(("commonName", r"printer-\d+"), ("dns", r".*\.test")))
    good = request("CN=printer-7", sans=[x509.DNSName("a.test")])
    assert profile.take_names(good).san_texts == ("dns:a.test",)
    with pytest.raises(Refusal, match="commonName 'printer-x' does not match"):
        profile.take_names(request("CN=printer-x"))
    with pytest.raises(Refusal, match="does not match"):
        profile.take_names(request("CN=printer-7", sans=[x509.DNSName("a.test.example")]))


# --- alternative names -----------------------------------------------------------------


def upn(text: bytes) -> x509.OtherName:
    return x509.OtherName(UPN, bytes((12, len(text))) + text)


@pytest.mark.parametrize(
    ("san", "shown"),
    [
        (x509.DNSName("host.example"), "dns:host.example"),
        (x509.DNSName("xn--bcher-kva.example"), "dns:xn--bcher-kva.example"),
        (x509.IPAddress(ip_address("192.0.2.1")), "ip:192.0.2.1"),
        (x509.IPAddress(ip_address("2001:db8::1")), "ip:2001:db8::1"),
        (x509.RFC822Name("a.b+c@host.example"), "email:a.b+c@host.example"),
        (x509.UniformResourceIdentifier("urn:uuid:1"), "uri:urn:uuid:1"),
    ],
)
def test_alternative_names(san: x509.GeneralName, shown: str) -> None:
    assert Profile().take_names(request(sans=[san])).san_texts == (shown,)


@pytest.mark.parametrize(
    "san",
    [
        x509.DNSName("*.example"),
        x509.DNSName(".example"),
        x509.DNSName("a..example"),
        x509.DNSName("-a.example"),
        x509.DNSName("a b.example"),
        x509.DNSName("a" * 64 + ".example"),
        x509.DNSName(".".join(["a" * 60] * 5)),
        x509.RFC822Name("no-at.example"),
        x509.RFC822Name("a b@host.example"),
        x509.RFC822Name("a@-host"),
        x509.UniformResourceIdentifier("https://a b"),
    ],
)
def test_bad_alternative_names_are_refused(san: x509.GeneralName) -> None:
    with pytest.raises(Refusal, match="not allowed|characters"):
        Profile().take_names(request(sans=[san]))


@pytest.mark.parametrize(
    "san",
    [
        x509.UniformResourceIdentifier("tag:microsoft.com,2022-09-14:sid:S-1-5-21"),
        x509.UniformResourceIdentifier("ID:Microsoft Endpoint Manager:GUID:1"),
        upn(b"user@host.example"),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
        x509.DirectoryName(name((NameOID.COMMON_NAME, "a"))),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.IPAddress(ip_network("192.0.2.0/24")),
    ],
)
def test_kinds_that_are_off_are_left_out(san: x509.GeneralName) -> None:
    """SID and UPN only where the profile says so (SECURITY 1.1)."""
    assert Profile().take_names(request(sans=[san])).sans == b""


def test_upn_where_it_is_on() -> None:
    profile = Profile(san_types=("upn",))
    names = profile.take_names(request(sans=[upn(b"user@host.example")]))
    assert names.san_texts == ("upn:user@host.example",)
    for bad in (b"@host.example", b"user", b"", b"user@-"):
        with pytest.raises(Refusal):
            profile.take_names(request(sans=[upn(bad)]))
    long = x509.OtherName(UPN, b"\x0c\x81\x80" + b"a" * 128)
    assert describe_san(long) == ("upn", "")


def test_wildcards_where_they_are_on() -> None:
    profile = Profile(wildcards=True)
    assert profile.take_names(request(sans=[x509.DNSName("*.example")])).sans
    with pytest.raises(Refusal):
        profile.take_names(request(sans=[x509.DNSName("a.*.example")]))


def test_too_many_alternative_names() -> None:
    sans = [x509.DNSName(f"a{i}.test") for i in range(21)]
    assert Profile().take_names(request(sans=sans[:20]))
    with pytest.raises(Refusal, match="more than 20"):
        Profile().take_names(request(sans=sans))


def test_extensions_that_cannot_be_read() -> None:
    san = keys.extension("2.5.29.17", b"\x30\x03\x82\x05a")
    attribute = asn1.seq(asn1.oid(keys.EXTENSION_REQUEST), asn1.set_of(asn1.seq(san)))
    csr = pyscep.pkcs10.read(keys.csr(keys.rsa_key("client"), attributes=[attribute]))
    with pytest.raises(Refusal, match="extensions"):
        Profile().take_names(csr)


def test_same_name_in_either_order() -> None:
    one = name((NameOID.COMMON_NAME, "a"), (NameOID.ORGANIZATION_NAME, "b"))
    other = name((NameOID.ORGANIZATION_NAME, "b"), (NameOID.COMMON_NAME, "a"))
    assert same_name(one, other)
    assert not same_name(one, name((NameOID.COMMON_NAME, "b"), (NameOID.ORGANIZATION_NAME, "a")))


# --- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"validity": timedelta(0)}, "validity must be positive"),
        ({"backdate": timedelta(-1)}, "backdate not negative"),
        ({"key_usage": ("keyCertSign",)}, "keyCertSign' is none of"),
        ({"extended_key_usage": ("any",)}, "unknown extended key usage 'any'"),
        ({"extended_key_usage": ("2.5.29.37.0",)}, "not for clients"),
        ({"extended_key_usage": ("1.3.6.1.5.5.7.3.9",)}, "not for clients"),
        ({"extended_key_usage": ("1.3.6.1.4.1.311.20.2.1",)}, "not for clients"),
        ({"key_algorithms": ("dsa",)}, "none of rsa, ec"),
        ({"rsa_bits": (512, 2048)}, "between 1024 and 8192"),
        ({"rsa_bits": (4096, 2048)}, "between 1024 and 8192"),
        ({"signer_key": "same"}, "signer_key 'same' is none of any, csr"),
        ({"approval": "maybe"}, "approval 'maybe'"),
        ({"challenge": "none"}, "challenge 'none'"),
        ({"renewal": RenewalRules(approval="x")}, "renewal approval"),  # type: ignore[arg-type]  # refused
        ({"subject_types": ("commonname",)}, "unknown subject attribute type"),
        ({"san_types": ("sid",)}, "none of the SAN types"),
        ({"patterns": (("upn", "."),)}, "which the profile does not allow"),
        ({"patterns": (("dns", "("),)}, "unterminated"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        Profile(**settings)
    assert isinstance(caught.value, ValueError) or "unterminated" in message
