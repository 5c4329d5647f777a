"""Profiles as certificate templates: purpose, subject, usages, validity, SID, CDP and AIA."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import pyscep
from pyscep.ca import Issuer, Profile, RenewalRules
from pyscep.ca.presets import PRESETS
from pyscep.ca.profile import choose
from pyscep.ca.refusal import Refusal
from pyscep.ca.strong_mapping import sid_extension
from pyscep.ca.subject_rule import SubjectRule
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import Setting, ca_identity, openssl, write_pem

SID = "S-1-5-21-1381186052-4247692386-135928078-1225"
SID_URI = f"tag:microsoft.com,2022-09-14:sid:{SID}"
# Of INTUNE.md section E: the extension's value as scepreq and PSCertificateEnrollment write it,
# and the alternative names of a published TameMyCerts test.
SID_VALUE = bytes.fromhex(
    "303fa03d060a2b060104018237190201a02f042d532d312d352d32312d313338313138363035322d34323437"
    "3639323338362d3133353932383037382d31323235"
)
SID_SANS = base64.b64decode(
    "MFCGTnRhZzptaWNyb3NvZnQuY29tLDIwMjItMDktMTQ6c2lkOlMtMS01LTIxLTEzODExODYwNTItNDI0NzY5MjM4"
    "Ni0xMzU5MjgwNzgtMTIyNQ=="
)
SID_OID = "1.3.6.1.4.1.311.25.2"


def usage(*names: str) -> tuple[x509.KeyUsage, bool]:
    fields = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{field: field in names for field in fields}), True


SIGNS = usage("digital_signature")
ENCRYPTS = usage("key_encipherment")
BOTH = usage("digital_signature", "key_encipherment")


def request(subject: Any = "CN=device,O=Lab", **more: Any) -> pyscep.CertificateRequest:
    return pyscep.pkcs10.create(keys.rsa_key("client"), subject, **more)


def attribute(oid: str, *values: bytes) -> bytes:
    return asn1.seq(asn1.oid(oid), asn1.set_of(*values))


def extension(oid: str, value: bytes, critical: bool = False) -> bytes:
    flag = (asn1.tlv(1, b"\xff"),) if critical else ()
    return asn1.seq(asn1.oid(oid), *flag, asn1.octets(value))


def extension_request(*extensions: bytes) -> bytes:
    return attribute("1.2.840.113549.1.9.14", asn1.seq(*extensions))


def pair(name: str, value: str) -> bytes:
    """An enrollment name-value pair as certreq writes it."""
    return attribute(
        "1.3.6.1.4.1.311.13.2.1",
        asn1.seq(
            asn1.tlv(0x1E, name.encode("utf-16-be")), asn1.tlv(0x1E, value.encode("utf-16-be"))
        ),
    )


def raw_request(*attributes: bytes, **more: Any) -> pyscep.CertificateRequest:
    more = {"challenge": "s"} | more
    data = keys.csr(keys.rsa_key("client"), attributes=attributes, **more)
    return pyscep.pkcs10.read(data)


def issue(setting: Setting, csr: pyscep.CertificateRequest) -> x509.Certificate:
    outcome = pyscep.run(setting.client.enroll(keys.rsa_key("client"), csr), setting.send)
    assert isinstance(outcome, pyscep.Success)
    return outcome.certificates[0]


def text_of(certificate: x509.Certificate) -> str:
    data = certificate.public_bytes(Encoding.PEM)
    return openssl("x509", "-noout", "-text", data=data)


def usages_of(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


# --- by purpose ------------------------------------------------------------------------

SIGNATURE = Profile(name="signature", purpose="signature", key_usage=("digitalSignature",))
ENCRYPTION = Profile(name="encryption", purpose="encryption", key_usage=("keyEncipherment",))
GENERAL = Profile(name="general", purpose="both")


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ([SIGNS], "signature"),
        ([usage("content_commitment")], "signature"),
        ([ENCRYPTS], "encryption"),
        ([usage("data_encipherment", "key_agreement")], "encryption"),
        ([BOTH], "general"),
        ([usage("key_cert_sign", "crl_sign")], "general"),
        ([], "general"),
    ],
)
def test_profile_by_purpose(extensions: Any, name: str) -> None:
    """NDES: SignatureTemplate, EncryptionTemplate and GeneralPurposeTemplate."""
    profiles = [SIGNATURE, ENCRYPTION, GENERAL]
    assert choose(profiles, request(extensions=extensions)).name == name


def test_a_profile_for_any_purpose_takes_the_rest() -> None:
    assert choose([Profile(), SIGNATURE], request(extensions=[SIGNS])) is SIGNATURE
    assert choose([Profile(), SIGNATURE], request()).name == "device"
    with pytest.raises(Refusal, match="no profile for the purpose 'encryption'"):
        choose([SIGNATURE, GENERAL], request(extensions=[ENCRYPTS]))


def test_purpose_end_to_end(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=[SIGNATURE, ENCRYPTION, GENERAL])
    assert "Digital Signature\n" in text_of(setting.certificate("s", extensions=[SIGNS]))
    certificate = setting.certificate("s", key=keys.rsa_key("other"), extensions=[ENCRYPTS])
    assert "Key Encipherment\n" in text_of(certificate)
    assert [one.profile for one in setting.ca.certificates()] == ["encryption", "signature"]


def test_a_challenge_for_a_profile_goes_before_the_purpose(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=[SIGNATURE, ENCRYPTION, GENERAL])
    challenge = setting.ca.new_challenge(profile="encryption")
    assert "Key Encipherment\n" in text_of(setting.certificate(challenge, extensions=[SIGNS]))


def test_approval_by_the_profile_of_the_purpose(tmp_path: Path) -> None:
    profiles = [replace(SIGNATURE, challenge="optional"), GENERAL]
    setting = Setting(tmp_path, profiles=profiles)
    assert isinstance(setting.enroll(None, extensions=[SIGNS]), pyscep.PendingEnrollment)
    setting.refuses(
        lambda: setting.enroll(None, key=keys.rsa_key("other"), extensions=[BOTH]), "no challenge")


# --- usages from the request -----------------------------------------------------------


def test_key_usage_of_the_request_where_allowed(tmp_path: Path) -> None:
    profile = Profile(key_usage_source="request")
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    wanted = usage("digital_signature", "content_commitment", "key_cert_sign")
    text = text_of(setting.certificate("s", extensions=[wanted]))
    assert "Digital Signature\n" in text
    assert "Non Repudiation" not in text
    assert "Certificate Sign" not in text
    text = text_of(setting.certificate("s", key=keys.rsa_key("other")))
    assert "Digital Signature, Key Encipherment\n" in text, "not asked: the profile's"
    third = keys.rsa_key("third")
    setting.refuses(
        lambda: setting.enroll("s", key=third, extensions=[usage("key_agreement")]),
        "none of the key usages")


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_issue_without_non_repudiation(tmp_path: Path, name: str) -> None:
    """Apple's devices ask for it and do not want it."""
    setting = Setting(tmp_path, static_challenge="s", profiles=PRESETS[name])
    wanted = usage("digital_signature", "content_commitment", "key_encipherment")
    found = usages_of(setting.certificate("s", extensions=[wanted]))
    assert found.digital_signature
    assert found.key_encipherment
    assert not found.content_commitment


def test_extended_key_usage_of_the_request_where_allowed(tmp_path: Path) -> None:
    profile = Profile(optional_extended_key_usage=("emailProtection", "1.3.6.1.5.5.7.3.17"))
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    wanted = x509.ExtendedKeyUsage([
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.EMAIL_PROTECTION,
        ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = setting.certificate("s", extensions=[(wanted, True)])
    found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert not found.critical
    assert list(found.value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    text = text_of(setting.certificate("s", key=keys.rsa_key("other")))
    assert "TLS Web Client Authentication\n" in text


@pytest.mark.parametrize(
    "setting",
    [
        {"optional_extended_key_usage": ("2.5.29.37.0",)},
        {"optional_extended_key_usage": ("1.3.6.1.4.1.311.20.2.1",)},
        {"optional_extended_key_usage": ("nonsense",)},
        {"purpose": "none"},
        {"key_usage_source": "elsewhere"},
        {"validity_source": "elsewhere"},
        {"ec_curves": ("p224",)},
        {"subject_rule": "no name"},
        {"subject_rule": "CN={nothing}"},
        {"subject_rule": ""},
    ],
)
def test_settings_that_make_no_sense(setting: Any) -> None:
    with pytest.raises(ValueError, match=r"is not for clients|unknown|none|empty"):
        Profile(**setting)


def test_curves() -> None:
    profile = Profile(key_algorithms=("ec",), ec_curves=("p256",))
    csr = pyscep.pkcs10.create(keys.ec_key("device"), "CN=a")
    assert profile.check_key(csr)
    with pytest.raises(Refusal, match="secp256r1 is not allowed"):
        replace(profile, ec_curves=("p384",)).check_key(csr)


# --- validity from the request ---------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "number", "expected"),
    [
        ("Days", "10", timedelta(days=10)),
        ("weeks", " 2 ", timedelta(days=14)),
        ("Months", "1", timedelta(days=30)),
        ("Years", "5", timedelta(days=365)),
        ("Hours", "100", timedelta(hours=100)),
    ],
)
def test_validity_of_the_request(
    tmp_path: Path, unit: str, number: str, expected: timedelta
) -> None:
    """EDITF_ATTRIBUTEENDDATE: never longer than the profile's own."""
    csr = raw_request(pair("ValidityPeriod", unit), pair("ValidityPeriodUnits", number))
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(validity_source="request"))
    ends = issue(setting, csr).not_valid_after_utc
    assert ends == setting.clock() + expected
    ordinary = setting.reopen(profiles=Profile(), endpoint="ordinary")
    flow = setting.client.enroll(keys.rsa_key("client"), csr)
    outcome = pyscep.run(flow, lambda message: setting.send(message, ordinary))
    assert outcome.certificates[0].not_valid_after_utc == setting.clock() + timedelta(days=365)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Mon, 16 Mar 2026 12:00:00 GMT", 15),
        ("Monday, 16-Mar-26 12:00:00 GMT", 15),
        ("Mon, 16 Mar 2026 14:00:00 +0200", 15),
        ("Tue, 16 Mar 2032 12:00:00 GMT", 365),
    ],
)
def test_an_end_from_the_request(tmp_path: Path, text: str, days: int) -> None:
    """ExpirationDate of AD CS: never later than the profile's own; longer is cut, not refused."""
    csr = raw_request(pair("ExpirationDate", text))
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(validity_source="request"))
    found = issue(setting, csr)
    assert found.not_valid_after_utc == setting.clock() + timedelta(days=days)
    both = raw_request(
        pair("ExpirationDate", text), pair("ValidityPeriod", "Days"),
        pair("ValidityPeriodUnits", "3"))
    setting.ca = setting.reopen(endpoint="both")
    assert issue(setting, both).not_valid_after_utc == setting.clock() + timedelta(days=3)
    setting.ca = setting.reopen(endpoint="ordinary", profiles=Profile())
    assert issue(setting, csr).not_valid_after_utc == setting.clock() + timedelta(days=365)
    manual = Profile(validity_source="request", approval="manual")
    setting.ca = setting.reopen(endpoint="manual", profiles=manual)
    pyscep.run(setting.client.enroll(keys.rsa_key("client"), csr), setting.send)
    (attempt,) = setting.ca.pending()
    assert setting.ca.approve(attempt.id).not_valid_after_utc == found.not_valid_after_utc


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", "is over"), ("next week", "can't be read"),
        ("", "can't be read"), ("Mon, 16 Mar 99999 12:00:00 GMT", "can't be read"),
    ],
)
def test_an_end_that_makes_no_sense(tmp_path: Path, text: str, reason: str) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(validity_source="request"))
    setting.refuses(lambda: issue(setting, raw_request(pair("ExpirationDate", text))), reason)
    assert setting.serials == []


def test_an_end_of_the_profile(tmp_path: Path) -> None:
    ends = datetime(2026, 3, 9, tzinfo=UTC)
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(not_after=ends))
    assert issue(setting, raw_request()).not_valid_after_utc == ends
    with pytest.raises(ValueError, match="time zone"):
        Profile(not_after=datetime(2026, 3, 9))  # noqa: DTZ001 - the test is about that


def test_without_a_wish_the_profile_says() -> None:
    profile = Profile(validity_source="request")
    assert profile.for_request(request()) is profile
    plain = pyscep.pkcs10.read(keys.csr(keys.rsa_key("client")))
    assert plain.name_value_pairs == ()
    assert profile.for_request(plain) is profile
    other = raw_request(pair("CertificateTemplate", "DomainController"))
    assert other.name_value_pairs == (("CertificateTemplate", "DomainController"),)
    assert profile.for_request(other) is profile


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ([pair("ValidityPeriod", "Days")], "can't be read"),
        ([pair("ValidityPeriodUnits", "3")], "can't be read"),
        ([pair("ValidityPeriod", "Eons"), pair("ValidityPeriodUnits", "3")], "can't be read"),
        ([pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "-3")], "can't be read"),
        ([pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "9" * 10)], "can't be read"),
        ([pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "0")], "no sense"),
        ([pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "999999")], "no sense"),
        ([attribute("1.3.6.1.4.1.311.13.2.1", asn1.null())], "name-value"),
    ],
)
def test_a_validity_that_makes_no_sense(attributes: Any, reason: str) -> None:
    profile = Profile(validity_source="request")
    with pytest.raises(Refusal, match=reason):
        profile.for_request(raw_request(*attributes))


# --- the subject by rule ---------------------------------------------------------------


def test_subject_by_rule(tmp_path: Path) -> None:
    profile = Profile(subject_rule="CN={dns},serialNumber={serialNumber},O=Example")
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    identity = setting.identity(
        "s", subject=x509.Name([
            x509.NameAttribute(NameOID.COMMON_NAME, "administrator"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "C02")]),
        sans=[x509.DNSName("host.example")])
    shown = identity.certificate.subject.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})
    assert shown == "CN=host.example,serialNumber=C02,O=Example"
    # A renewal repeats the subject that it asked for at first.
    renewed = setting.renew(
        identity, subject=x509.Name([
            x509.NameAttribute(NameOID.COMMON_NAME, "administrator"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "C02")]))
    assert renewed.certificates[0].subject == identity.certificate.subject


def test_a_value_cannot_add_attributes() -> None:
    """The rule is taken apart before values are put in, and they are not looked into again."""
    taken = Profile(subject_rule="CN={commonName}\\, {email},O=Example").take_names(
        request("CN=a\\,O=Admins\\, {dns}", sans=[x509.RFC822Name("x@host.example")]))
    subject = x509.Name.from_bytes(taken.subject)
    assert [one.value for one in subject] == ["Example", "a,O=Admins, {dns}, x@host.example"]
    assert taken.subject_text == "CN=a\\,O=Admins\\, {dns}\\, x@host.example,O=Example"


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("O=Lab", "needs one commonName; the request has 0"),
        ("CN=a,CN=b", "needs one commonName; the request has 2"),
        ("CN=" + "a" * 60, "subject by rule"),
    ],
)
def test_values_that_a_rule_cannot_use(subject: str, reason: str) -> None:
    profile = Profile(subject_rule="CN=device {commonName}")
    with pytest.raises(Refusal, match=reason):
        profile.take_names(request(subject))


def test_values_of_other_types_are_no_harm() -> None:
    profile = Profile(subject_types=("commonName", "1.2.3.4"), subject_rule="CN={commonName}")
    subject = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "a"),
        x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "b")])
    assert profile.take_names(request(subject)).subject_text == "CN=a"


def test_rule_with_a_fixed_name() -> None:
    rule = SubjectRule.parse("CN=kiosk,O=Example")
    assert rule.apply(Profile().take_names(request())).subject_text == "CN=kiosk,O=Example"


# --- what a request must not bring in --------------------------------------------------


def test_everything_else_is_dropped(tmp_path: Path) -> None:
    """CA:TRUE, anyExtendedKeyUsage, template names, another SID: none of it gets through."""
    profile = Profile(
        key_usage_source="request", optional_extended_key_usage=("emailProtection",),
        validity_source="request")
    csr = raw_request(extension_request(
        extension("2.5.29.19", asn1.seq(asn1.tlv(1, b"\xff"), asn1.integer(9)), critical=True),
        extension("2.5.29.15", bytes.fromhex("030201fe"), critical=True),
        extension("2.5.29.37", asn1.seq(asn1.oid("2.5.29.37.0"))),
        extension("1.3.6.1.4.1.311.20.2", asn1.tlv(0x1E, "SubCA".encode("utf-16-be"))),
        extension(SID_OID, SID_VALUE),
        extension("2.5.29.32", asn1.seq(asn1.seq(asn1.oid("1.2.3")))),
    ))
    certificate = issue(Setting(tmp_path, static_challenge="s", profiles=profile), csr)
    found = {one.oid.dotted_string for one in certificate.extensions}
    assert found == {"2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.14", "2.5.29.35"}
    text = text_of(certificate)
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "Certificate Sign" not in text
    assert "Any Extended Key Usage" not in text


@pytest.mark.parametrize(
    "profile",
    [
        Profile(key_usage_source="request"), Profile(optional_extended_key_usage=("serverAuth",)),
        Profile(name="one", purpose="signature"), Profile(),
    ],
    ids=["key usage", "extended", "purpose", "names"],
)
def test_extensions_that_are_there_twice(tmp_path: Path, profile: Profile) -> None:
    """Which of the two counts must not depend on who looks."""
    twice = [extension("2.5.29.15", bytes.fromhex("03020780"))] * 2
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    setting.refuses(lambda: issue(setting, raw_request(extension_request(*twice))), "uplicate")


@pytest.mark.parametrize("other", ["1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"])
def test_extensions_in_two_places(tmp_path: Path, other: str) -> None:
    """OpenSSL sees the first attribute alone; whoever checks must not see another one than we."""
    san = extension("2.5.29.17", asn1.seq(asn1.tlv(0x82, b"second.example")))
    csr = raw_request(
        extension_request(extension("2.5.29.15", bytes.fromhex("03020780"))),
        attribute(other, asn1.seq(san)),
    )
    seen = openssl("req", "-noout", "-text", data=pem_of(csr))
    assert "Digital Signature" in seen
    assert "DNS:second.example" not in seen
    setting = Setting(tmp_path, static_challenge="s")
    setting.refuses(lambda: issue(setting, csr), "extensions in more than one attribute")
    assert setting.serials == []


def test_one_attribute_of_extensions_by_either_name(tmp_path: Path) -> None:
    """Also where the octets of its OID come once more, in a name."""
    san = extension("2.5.29.17", asn1.seq(asn1.tlv(0x82, b"one.example")))
    for name in ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"):
        text = asn1.oid(name).decode("latin-1")
        csr = raw_request(attribute(name, asn1.seq(san)), pair("name", text))
        setting = Setting(tmp_path, static_challenge="s", endpoint=name)
        assert setting.ca.profiles["device"].take_names(csr).san_texts == ("dns:one.example",)


def pem_of(csr: pyscep.CertificateRequest) -> bytes:
    return csr.certificate_request.public_bytes(Encoding.PEM)


def test_what_waited_gets_what_it_asked_for(tmp_path: Path) -> None:
    """Approved, it is the certificate that is issued at once otherwise."""
    wishes = (
        pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "30"),
        extension_request(
            extension("2.5.29.15", bytes.fromhex("03020780"), critical=True),
            extension("2.5.29.37", asn1.seq(
                asn1.oid("1.3.6.1.5.5.7.3.4"), asn1.oid("1.3.6.1.5.5.7.3.3"))),
        ))
    csr = raw_request(*wishes)
    lenient = Profile(
        key_usage_source="request", validity_source="request",
        optional_extended_key_usage=("emailProtection", "serverAuth"))
    setting = Setting(tmp_path, static_challenge="s", profiles=lenient)
    key = keys.rsa_key("client")
    at_once = issue(setting, csr)
    assert at_once.not_valid_after_utc == setting.clock() + timedelta(days=30)

    def approved(
        stored: Profile, later: Profile, endpoint: str, csr: Any = csr
    ) -> x509.Certificate:
        setting.ca = setting.reopen(profiles=stored, endpoint=endpoint)
        waiting = pyscep.run(setting.client.enroll(key, csr), setting.send)
        assert isinstance(waiting, pyscep.PendingEnrollment)
        setting.ca = setting.reopen(profiles=later, endpoint=endpoint)
        (attempt,) = setting.ca.pending()
        return setting.ca.approve(attempt.id)

    manual = replace(lenient, approval="manual")
    later = approved(manual, manual, "manual")
    assert extensions_of(later) == extensions_of(at_once)
    assert later.not_valid_after_utc == at_once.not_valid_after_utc
    # A request without challenge waits as well.
    optional = replace(lenient, challenge="optional")
    unseen = approved(optional, optional, "optional", raw_request(*wishes, challenge=None))
    assert extensions_of(unseen) == extensions_of(at_once)
    # What the profile has stopped to give meanwhile is not given.
    strict = replace(manual, optional_extended_key_usage=(), validity=timedelta(days=7))
    narrower = approved(manual, strict, "strict")
    eku = narrower.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert narrower.not_valid_after_utc == setting.clock() + timedelta(days=7)


def extensions_of(certificate: x509.Certificate) -> list[x509.Extension[Any]]:
    return list(certificate.extensions)


@pytest.mark.parametrize("text", ["a\x00.example", "a\u202eb", "a\u2066b", "a\u200fb"])
def test_unicode_dangers_in_any_name(text: str) -> None:
    subject = asn1.seq(asn1.set_of(asn1.seq(asn1.oid("2.5.4.3"), asn1.text(text, asn1.UTF8))))
    csr = pyscep.pkcs10.read(keys.csr(keys.rsa_key("client"), subject))
    for profile in (*PRESETS.values(), Profile(subject_rule="CN=x {commonName}")):
        with pytest.raises(Refusal, match="control characters"):
            profile.take_names(csr)


def test_several_common_names_stay_as_they_were() -> None:
    """Intune sends CN={{DeviceId}},O=..,CN={{WiFiMacAddress}}: all of it, in its order."""
    csr = request("CN=second,O=Lab,CN=first")
    taken = PRESETS["intune"].take_names(csr)
    assert taken.subject == csr.subject
    pattern = Profile(patterns=(("commonName", "first"),))
    with pytest.raises(Refusal, match="second"):
        pattern.take_names(csr)


# --- strong mapping --------------------------------------------------------------------


def test_sid_extension_is_the_published_one() -> None:
    assert sid_extension(SID) == SID_VALUE
    for wrong in ("S-1-5-21-x", "", "S-2-5-21", SID + "\n", "S-1-5"):
        with pytest.raises(ValueError, match="security identifier"):
            sid_extension(wrong)


@pytest.mark.parametrize("critical", [False, True])
def test_sid_uri_is_carried_through_byte_for_byte(tmp_path: Path, critical: bool) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=PRESETS["intune"])
    csr = raw_request(extension_request(extension("2.5.29.17", SID_SANS, critical)))
    leaf = write_pem(tmp_path / "leaf.pem", [issue(setting, csr)])
    der = leaf.with_suffix(".der")
    der.write_bytes(x509.load_pem_x509_certificate(leaf.read_bytes()).public_bytes(Encoding.DER))
    assert SID_SANS in der.read_bytes()
    parsed = openssl("asn1parse", "-inform", "DER", "-in", der)
    assert f"[HEX DUMP]:{SID_SANS.hex().upper()}" in parsed
    assert f"URI:{SID_URI}" in openssl("x509", "-in", leaf, "-noout", "-text")


def test_sid_uri_beside_others(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=PRESETS["intune"])
    sans = [
        x509.UniformResourceIdentifier(SID_URI),
        x509.UniformResourceIdentifier("IntuneDeviceId://0b9d1f0e-6a0c-4c8f-8d5e-1d5b1e6f2a11"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05a@b.c"),
        x509.UniformResourceIdentifier("ID:Microsoft Endpoint Manager:GUID:1"),
    ]
    identity = setting.identity("s", sans=sans)
    kept = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(kept.value) == sans[:3]
    # A renewal that names again what the profile leaves out is not another request.
    assert isinstance(setting.renew(identity, sans=sans), pyscep.Success)


def test_sid_uri_needs_a_profile_for_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    certificate = setting.certificate("s", sans=[x509.UniformResourceIdentifier(SID_URI)])
    assert SID.encode() not in certificate.public_bytes(Encoding.DER)


def test_sid_of_a_trusted_source(tmp_path: Path) -> None:
    """The extension is the CA's, whatever the request has in its place."""
    known = {"dns:host.example": SID}

    def source(taken: Any) -> str | None:
        return next((known[text] for text in taken.san_texts if text in known), None)

    profile = Profile(
        security_identifier=source, renewal=RenewalRules(approval="manual"), approval="automatic")
    setting = Setting(tmp_path, static_challenge="s", profiles=profile)
    other = x509.UnrecognizedExtension(
        x509.ObjectIdentifier(SID_OID), sid_extension("S-1-5-21-1-2-3-500"))
    identity = setting.identity(
        "s", sans=[x509.DNSName("host.example")], extensions=[(other, False)])
    der = tmp_path / "leaf.der"
    der.write_bytes(identity.certificate.public_bytes(Encoding.DER))
    parsed = openssl("asn1parse", "-inform", "DER", "-in", der)
    assert f"[HEX DUMP]:{SID_VALUE.hex().upper()}" in parsed
    assert b"S-1-5-21-1-2-3-500" not in der.read_bytes()
    assert not identity.certificate.extensions.get_extension_for_oid(
        x509.ObjectIdentifier(SID_OID)).critical
    # A renewal asks the source again, also when it had to be approved.
    known["dns:host.example"] = "S-1-5-21-1-2-3-1104"
    pending = setting.renew(identity)
    (attempt,) = setting.ca.pending()
    renewed = setting.ca.approve(attempt.id)
    assert isinstance(pending, pyscep.PendingEnrollment)
    value = renewed.extensions.get_extension_for_oid(x509.ObjectIdentifier(SID_OID)).value
    assert value.public_bytes() == sid_extension("S-1-5-21-1-2-3-1104")
    unknown = setting.certificate("s", key=keys.rsa_key("other"))
    assert SID_OID not in {one.oid.dotted_string for one in unknown.extensions}


def test_a_source_that_fails_is_no_refusal(tmp_path: Path) -> None:
    def source(taken: Any) -> str | None:
        raise OSError("the directory is down")

    setting = Setting(
        tmp_path, static_challenge="s", profiles=Profile(security_identifier=source))
    with pytest.raises(pyscep.TransportError, match="503"):
        setting.enroll("s")


# --- renewal at another endpoint -------------------------------------------------------


def test_a_certificate_does_not_renew_into_another_endpoint(tmp_path: Path) -> None:
    """With one CA behind two endpoints, who got in by the easy one must not get the other's."""
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(name="guests"))
    guest = setting.identity("s")
    setting.ca = setting.reopen(profiles=Profile(name="staff"), endpoint="staff")
    setting.refuses(lambda: setting.renew(guest), "'guests' is none of this endpoint's")


def test_an_attempt_whose_profile_is_gone(tmp_path: Path) -> None:
    setting = Setting(
        tmp_path, static_challenge="s", profiles=Profile(name="old", approval="manual"))
    setting.enroll("s")
    ca = setting.reopen(profiles=Profile(name="new"))
    (attempt,) = ca.pending()
    with pytest.raises(LookupError, match="no profile 'old'"):
        ca.approve(attempt.id)


# --- CDP, AIA, IDP ---------------------------------------------------------------------

CRL_URL = "http://pki.example/ca.crl"


def publishing(*urls: str) -> Issuer:
    return Issuer(ca_identity(), crl_urls=urls, issuer_urls=["http://pki.example/ca.cer"])


def test_revocation_with_openssl(tmp_path: Path) -> None:
    """CDP and AIA in the certificate, the same point in the CRL, and openssl believes it."""
    setting = Setting(tmp_path, static_challenge="s", issuer=publishing(CRL_URL))
    certificate = setting.certificate("s")
    leaf = write_pem(tmp_path / "leaf.pem", [certificate])
    root = write_pem(tmp_path / "root.pem", [setting.ca.issuer.certificate])
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert f"URI:{CRL_URL}\n" in text
    assert "CA Issuers - URI:http://pki.example/ca.cer\n" in text
    before = tmp_path / "before.pem"
    before.write_text(openssl("crl", "-inform", "DER", data=setting.ca.crl()))
    shown = openssl("crl", "-in", before, "-noout", "-text")
    assert "Issuing Distribution Point: critical" in shown
    assert f"URI:{CRL_URL}" in shown
    at = ("-attime", str(int(setting.clock().timestamp())), "-x509_strict", "-crl_check")
    openssl("verify", *at, "-CAfile", root, "-CRLfile", before, leaf)
    setting.ca.revoke(certificate.serial_number, "keyCompromise")
    after = tmp_path / "after.pem"
    after.write_text(openssl("crl", "-inform", "DER", data=setting.ca.crl()))
    done = subprocess.run(
        ["openssl", "verify", *at, "-CAfile", root, "-CRLfile", after, leaf],
        capture_output=True, text=True, check=False)
    assert "certificate revoked" in done.stdout + done.stderr


def test_a_crl_for_another_point_is_replaced(tmp_path: Path) -> None:
    """openssl refuses a CRL whose point is not the certificate's: so must not be handed out."""
    setting = Setting(tmp_path, static_challenge="s", issuer=publishing(CRL_URL))
    first = setting.ca.crl()
    assert setting.ca.crl() == first
    moved = setting.reopen(issuer=publishing("http://pki.example/new.crl", CRL_URL))
    second = moved.crl()
    assert second != first
    assert moved.crl() == second
    value = x509.load_der_x509_crl(second).extensions.get_extension_for_class(
        x509.IssuingDistributionPoint)
    assert value.critical
    assert [one.value for one in value.value.full_name or ()] == [
        "http://pki.example/new.crl", CRL_URL]


def test_without_points_the_crl_has_none(tmp_path: Path) -> None:
    crl = x509.load_der_x509_crl(Setting(tmp_path, static_challenge="s").ca.crl())
    assert {one.oid._name for one in crl.extensions} == {"authorityKeyIdentifier", "cRLNumber"}


@pytest.mark.parametrize("url", ["https://pki.example/a", "ldap:///cn=a", "http://", "http://a b"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="no URL like http"):
        Issuer(ca_identity(), crl_urls=[url])
    with pytest.raises(ValueError, match="no URL like http"):
        Issuer(ca_identity(), issuer_urls=[url])
