"""Renewals, GetCert, GetCRL and revocation. DECISIONS 6: one badRequest for all refusals."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import Issuer, Profile, RenewalRules, creation
from pyscep.identity import IssuerAndSerial, RawCertificate
from pyscep.messages import GetCert, GetCRL
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import START, Setting, ask, ca_identity, openssl, write_pem


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, static_challenge="static-secret")


def with_rules(tmp_path: Path, **rules: Any) -> Setting:
    profile = Profile(renewal=RenewalRules(**rules))
    return Setting(tmp_path, static_challenge="static-secret", profiles=profile)


# --- renewal ---------------------------------------------------------------------------


@pytest.mark.rule("R01")
@pytest.mark.rule("R02")
@pytest.mark.parametrize("message_type", ["renewal", "pkcs"])
def test_r01_r02_renewal_with_new_key(setting: Setting, message_type: str) -> None:
    """The reply is opened with the old key, which the client checks."""
    identity = setting.identity("static-secret")
    renewed = setting.renew(identity, message_type=message_type).certificates[0]
    assert keys.spki(renewed.public_key()) == keys.spki(keys.rsa_key("renewed"))
    assert renewed.subject == identity.certificate.subject
    assert setting.sql("SELECT credential FROM certificates WHERE id = 2") == [
        (f"cert:{identity.raw.sha256.hex()}",)]


@pytest.mark.rule("R03")
def test_r03_renewal_with_old_key(tmp_path: Path) -> None:
    setting = with_rules(tmp_path)
    identity = setting.identity("static-secret")
    assert setting.renew(identity, key=identity.private_key).certificates[0]
    strict = with_rules(tmp_path, same_key=False)
    strict.refuses(
        lambda: strict.renew(identity, key=identity.private_key), "demands a new key")
    strict.renew(identity)


@pytest.mark.rule("R04")
def test_r04_expired_signer(tmp_path: Path) -> None:
    setting = with_rules(tmp_path)
    identity = setting.identity("static-secret")
    setting.clock.pass_by(days=365)
    setting.renew(identity)
    setting.clock.pass_by(seconds=1)
    setting.refuses(lambda: setting.renew(identity), "not valid now")
    graceful = with_rules(tmp_path, grace=timedelta(days=30))
    graceful.clock.time = setting.clock.time
    graceful.renew(identity, key=keys.rsa_key("another"))


def test_signer_that_is_not_valid_yet(setting: Setting) -> None:
    """Somebody turned the clock back."""
    identity = setting.identity("static-secret")
    setting.clock.pass_by(hours=-25)
    setting.refuses(lambda: setting.renew(identity), "not valid now")


@pytest.mark.rule("R05")
def test_r05_revoked_signer(setting: Setting) -> None:
    identity = setting.identity("static-secret")
    setting.ca.revoke(identity.certificate.serial_number, "keyCompromise")
    setting.refuses(lambda: setting.renew(identity), "revoked")
    setting.refuses(lambda: setting.enroll("static-secret"), "has been revoked")


def test_r05_revoked_while_it_is_being_decided(setting: Setting) -> None:
    """The signer is looked at again in the transaction that enters the new certificate."""
    from pyscep.ca.registrar import Registrar

    identity = setting.identity("static-secret")
    enter = Registrar.enter

    def revoke_first(self: Registrar, *arguments: Any) -> Any:
        setting.ca.revoke(identity.certificate.serial_number)
        return enter(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registrar, "enter", revoke_first)
        setting.refuses(lambda: setting.renew(identity), "has been revoked")
    assert len(setting.serials) == 1


def foreign(name: str = "CN=Old CA", subject: str = "CN=device,O=Lab", **shape: Any) -> Any:
    """A CA elsewhere, and a certificate that it issued."""
    old_ca = keys.ca(name)
    key = keys.rsa_key("client")
    party = keys.party(subject, key, issuer=old_ca, **shape)
    return old_ca.certificate, pyscep.Identity(party.certificate, key)


@pytest.mark.rule("R06")
def test_r06_signer_of_a_foreign_ca(tmp_path: Path) -> None:
    now = Setting(tmp_path / ".", static_challenge="x").clock
    now.time = START.now(START.tzinfo)  # what forge_keys makes is valid at the present
    old_ca, identity = foreign()
    listed = Setting(tmp_path, clock=now, trusted_renewal_issuers=[old_ca])
    renewed = listed.renew(identity).certificates[0]
    assert renewed.subject == identity.certificate.subject
    assert renewed.issuer == ca_identity().certificate.subject
    listed.refuses(lambda: listed.renew(identity, subject="CN=admin"), "subject differs")
    unlisted = Setting(tmp_path, clock=now)
    unlisted.refuses(lambda: unlisted.renew(identity), "unknown CA")
    false_ca = keys.party("CN=Old CA", keys.rsa_key("thief"), extensions=(
        keys.basic_constraints(True),))
    impostor = keys.party("CN=device,O=Lab", keys.rsa_key("client"), issuer=false_ca)
    impostor_identity = pyscep.Identity(impostor.certificate, keys.rsa_key("client"))
    listed.refuses(lambda: listed.renew(impostor_identity), "unknown CA")


@pytest.mark.rule("R07")
def test_r07_ca_and_ra_certificates_do_not_renew(tmp_path: Path) -> None:
    ra_key = keys.rsa_key("ra")
    ra_certificate = creation.make_ra(
        ra_key, ca_identity(), usages=("digitalSignature", "keyEncipherment"), now=START,
        serial_number=99)
    ra = pyscep.Identity(ra_certificate, ra_key)
    setting = Setting(tmp_path, recipient=ra)
    setting.refuses(lambda: setting.renew(ra, subject="CN=Test CA RA"), "not issued to a client")
    setting.refuses(
        lambda: setting.renew(ca_identity(), subject="CN=Test CA,O=Lab"), "self-signed")
    sub_ca_key = keys.rsa_key("sub ca")
    sub = creation.make_ca(
        sub_ca_key, common_name="Sub", organization=None, validity=timedelta(days=9), now=START,
        serial_number=3, decrypts=True, parent=ca_identity())
    trusting = Setting(tmp_path, trusted_renewal_issuers=[ca_identity().certificate])
    trusting.ca = trusting.reopen(issuer=other_ca())
    trusting.refuses(
        lambda: trusting.renew(pyscep.Identity(sub, sub_ca_key), subject="CN=Sub"),
        "not a device's")


@pytest.mark.rule("R07")
def test_r07_an_ra_of_a_ca_elsewhere_does_not_renew(tmp_path: Path) -> None:
    """By a purpose of RAs, or, where it names none, because the operator lists it."""
    clock = Setting(tmp_path / ".").clock
    clock.time = START.now(START.tzinfo)  # what forge_keys makes is valid at the present
    for oid in ("1.3.6.1.4.1.311.20.2.1", "1.3.6.1.5.5.7.3.28", "1.3.6.1.5.5.7.3.27"):
        purpose = keys.extension("2.5.29.37", asn1.seq(
            asn1.oid(oid), asn1.oid("1.3.6.1.5.5.7.3.2")))
        old_ca, agent = foreign(subject="CN=agent", extensions=(purpose,))
        setting = Setting(tmp_path, clock=clock, trusted_renewal_issuers=[old_ca])
        setting.refuses(partial(setting.renew, agent, subject="CN=agent"), "not a device's")
    old_ca, plain = foreign(subject="CN=agent")
    unlisted = Setting(tmp_path, clock=clock, trusted_renewal_issuers=[old_ca])
    assert unlisted.renew(plain, subject="CN=agent").certificates, "as a device's it looks"
    both = [old_ca, plain.certificate]
    listed = Setting(tmp_path, clock=clock, trusted_renewal_issuers=both, endpoint="listed")
    listed.refuses(lambda: listed.renew(plain, subject="CN=agent"), "not a device's")
    # Listed, it is no CA whose devices are trusted.
    below = keys.party(
        "CN=below", keys.rsa_key("other"), issuer=keys.Party(plain.private_key, plain.raw.der))
    device = pyscep.Identity(below.certificate, keys.rsa_key("other"))
    listed.refuses(lambda: listed.renew(device, subject="CN=below"), "unknown CA")
    _, other = foreign(subject="CN=device,O=Lab", serial=7)
    assert listed.renew(other).certificates


def other_ca() -> pyscep.Identity:
    key = keys.rsa_key("other ca")
    certificate = creation.make_ca(
        key, common_name="Other CA", organization=None, validity=timedelta(days=3650),
        now=START, serial_number=1, decrypts=True)
    return pyscep.Identity(certificate, key)


@pytest.mark.rule("R08")
def test_r08_names_stay_the_same(tmp_path: Path) -> None:
    setting = with_rules(tmp_path)
    names = [x509.DNSName("a.test")]
    identity = setting.identity("static-secret", sans=names)
    setting.refuses(lambda: setting.renew(identity, subject="CN=admin,O=Lab"), "subject differs")
    setting.refuses(
        lambda: setting.renew(identity, sans=[x509.DNSName("b.test")]), "alternative names differ")
    kept = setting.renew(identity).certificates[0]
    alternative = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(alternative) == names, "what is left out is taken over"
    free = with_rules(tmp_path, subject_change=True)
    changed = free.renew(identity, subject="CN=new", key=keys.rsa_key("x")).certificates[0]
    assert changed.subject.rfc4514_string() == "CN=new"


def test_r08_original_request_had_more(tmp_path: Path) -> None:
    """DECISIONS 5: Cisco repeats its first request's subject, of which we left a part out."""
    profile = Profile(subject_types=("commonName",))
    setting = Setting(tmp_path, static_challenge="static-secret", profiles=profile)
    identity = setting.identity("static-secret", subject="CN=router,O=Lab")
    assert identity.certificate.subject.rfc4514_string() == "CN=router"
    for subject in ("CN=router,O=Lab", "O=Lab,CN=router", "CN=router"):
        renewed = setting.renew(identity, subject=subject).certificates[0]
        assert renewed.subject == identity.certificate.subject
    setting.refuses(lambda: setting.renew(identity, subject="O=Lab"), "subject differs")


@pytest.mark.rule("R09")
def test_r09_legacy_renewal_can_be_switched_off(setting: Setting) -> None:
    identity = setting.identity("static-secret")
    strict = setting.reopen(legacy_renewal=False)
    setting.ca, usual = strict, setting.ca
    setting.refuses(lambda: setting.renew(identity, message_type="pkcs"), "no challenge")
    setting.ca = usual
    setting.renew(identity, message_type="pkcs")


def test_r09_challenge_beats_the_certificate(setting: Setting) -> None:
    """PKCSReq by an issued certificate with a valid challenge: a new enrollment."""
    identity = setting.identity("static-secret")
    other = setting.renew(
        identity, message_type="pkcs", challenge=setting.ca.new_challenge(),
        subject="CN=someone else").certificates[0]
    assert other.subject.rfc4514_string() == "CN=someone else"
    # The old challenge, spent or wrong, does no harm to a renewal.
    kept = setting.renew(identity, message_type="pkcs", challenge="of long ago").certificates[0]
    assert kept.subject == identity.certificate.subject


def test_renewal_not_allowed_or_too_early(tmp_path: Path) -> None:
    identity = with_rules(tmp_path).identity("static-secret")
    never = with_rules(tmp_path, allowed=False)
    never.refuses(lambda: never.renew(identity), "does not allow it")
    late = with_rules(tmp_path, window=timedelta(days=30))
    late.refuses(lambda: late.renew(identity), "too early")
    late.clock.pass_by(days=336)
    late.renew(identity)


def test_renewal_that_waits(tmp_path: Path) -> None:
    setting = with_rules(tmp_path, approval="manual")
    identity = setting.identity("static-secret")
    pending = setting.renew(identity)
    approved = setting.ca.approve(setting.ca.pending()[0].id)
    flow = setting.client.poll(pending, identity.private_key)
    assert pyscep.run(flow, setting.send).certificates == (approved,)


def test_renewal_that_waits_while_its_signer_is_revoked(tmp_path: Path) -> None:
    setting = with_rules(tmp_path, approval="manual")
    identity = setting.identity("static-secret")
    setting.renew(identity)
    setting.ca.revoke(identity.certificate.serial_number)
    (attempt,) = setting.ca.pending()
    with pytest.raises(LookupError, match="has been revoked"):
        setting.ca.approve(attempt.id)
    setting.ca.deny(attempt.id)
    assert len(setting.serials) == 1


def test_renewal_keeps_its_profile(tmp_path: Path) -> None:
    profiles = [Profile(), Profile(name="short", validity=timedelta(days=2))]
    setting = Setting(tmp_path, profiles=profiles)
    identity = setting.identity(setting.ca.new_challenge(profile="short"))
    renewed = setting.renew(identity).certificates[0]
    assert renewed.not_valid_after_utc == setting.clock() + timedelta(days=2)


# --- revocation and CRL ----------------------------------------------------------------


def test_crl_by_openssl(setting: Setting, tmp_path: Path) -> None:
    identity = setting.identity("static-secret")
    good = setting.certificate("static-secret", key=keys.rsa_key("other"))
    serial = identity.certificate.serial_number
    setting.ca.revoke(serial, "keyCompromise")
    setting.clock.pass_by(minutes=5)
    setting.ca.revoke(serial, "superseded")
    crl = pyscep.run(setting.client.get_crl(identity), setting.send)
    assert crl == setting.ca.crl()
    root = write_pem(tmp_path / "root.pem", setting.ca.ca_certificates)
    text = openssl("crl", "-inform", "DER", "-noout", "-text", "-CAfile", root, data=crl)
    assert f"Serial Number: {serial:X}" in text
    assert "Key Compromise" in text, "the first reason stays"
    assert "Superseded" not in text
    assert "X509v3 CRL Number: \n                2" in text
    pem = tmp_path / "crl.pem"
    openssl("crl", "-inform", "DER", "-out", pem, data=crl)
    at = ("-attime", str(int(setting.clock().timestamp())))
    leaf = write_pem(tmp_path / "leaf.pem", [good])
    openssl("verify", *at, "-crl_check", "-CAfile", root, "-CRLfile", pem, leaf)
    revoked = write_pem(tmp_path / "revoked.pem", [identity.certificate])
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl("verify", *at, "-crl_check", "-CAfile", root, "-CRLfile", pem, revoked)


def test_crl_is_made_once_and_again_after_half_its_life(setting: Setting) -> None:
    empty = setting.ca.crl()
    assert b"revokedCertificates" not in empty
    assert setting.ca.crl() == empty
    assert setting.reopen().crl() == empty, "another process hands out the same"
    setting.clock.pass_by(days=3, hours=12)
    renewed = setting.ca.crl()
    assert x509.load_der_x509_crl(renewed).extensions.get_extension_for_class(
        x509.CRLNumber).value.crl_number == 2
    assert setting.ca.crl() == renewed


def test_crl_forgets_what_has_ended(setting: Setting) -> None:
    certificate = setting.certificate("static-secret")
    setting.ca.revoke(certificate.serial_number)
    assert len(x509.load_der_x509_crl(setting.ca.crl())) == 1
    setting.clock.pass_by(days=371)
    assert len(x509.load_der_x509_crl(setting.ca.crl())) == 1, "on one CRL after its end"
    setting.clock.pass_by(days=4)
    assert len(x509.load_der_x509_crl(setting.ca.crl())) == 0


def test_two_processes_revoke_at_once(setting: Setting) -> None:
    """A CRL that lacks what was revoked meanwhile is made anew."""
    one = setting.certificate("static-secret")
    two = setting.certificate("static-secret", key=keys.rsa_key("other"))
    other = setting.reopen()
    make_crl = Issuer.make_crl
    interrupted: list[bool] = []

    def interrupt(self: Issuer, *arguments: Any, **more: Any) -> bytes:
        if not interrupted:
            interrupted.append(True)
            other.revoke(two.serial_number)
        return make_crl(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Issuer, "make_crl", interrupt)
        setting.ca.revoke(one.serial_number)
    crl = x509.load_der_x509_crl(setting.ca.crl())
    assert {entry.serial_number for entry in crl} == {one.serial_number, two.serial_number}
    assert setting.sql("SELECT number FROM crls") == [(1,), (2,)]


def test_revoke_what_is_not_there(setting: Setting) -> None:
    with pytest.raises(LookupError, match="serial number 63"):
        setting.ca.revoke(99)
    with pytest.raises(LookupError):
        setting.ca.revoke(-1)
    with pytest.raises(ValueError, match="none of unspecified, keyCompromise"):
        setting.ca.revoke(99, "dislike")


def test_certificates_are_listed(setting: Setting) -> None:
    setting.certificate("static-secret")
    last = setting.certificate("static-secret", key=keys.rsa_key("other"))
    found = setting.ca.certificates()
    assert [one.state for one in found] == ["issued", "issued"]
    assert found[0].certificate == last
    assert len(setting.ca.certificates(limit=1)) == 1


# --- GetCert, GetCRL -------------------------------------------------------------------


@pytest.mark.rule("M10")
def test_m10_get_cert_of_ones_own(setting: Setting) -> None:
    identity = setting.identity("static-secret")
    serial = identity.certificate.serial_number
    assert pyscep.run(setting.client.get_cert(identity, serial), setting.send) == (
        identity.certificate)
    renewed = setting.renew(identity).certificates[0]
    new = pyscep.Identity(renewed, keys.rsa_key("renewed"))
    get = setting.client.get_cert
    assert pyscep.run(get(identity, renewed.serial_number), setting.send) == renewed
    assert pyscep.run(get(new, serial), setting.send) == identity.certificate, "same subject"


@pytest.mark.rule("M11")
def test_m11_get_cert_unknown_or_somebody_elses(setting: Setting) -> None:
    identity = setting.identity("static-secret")
    other = setting.certificate("static-secret", key=keys.rsa_key("other"), subject="CN=other")
    for serial in (12345, other.serial_number, 1 << 200):
        flow = setting.client.get_cert(identity, serial)
        setting.refuses(
            lambda flow=flow: pyscep.run(flow, setting.send), "no such certificate", "badCertId")
    setting.ca = setting.reopen(public_certificates=True)
    flow = setting.client.get_cert(identity, other.serial_number)
    assert pyscep.run(flow, setting.send) == other


def test_gateway_gets_what_it_asked_for(setting: Setting) -> None:
    """The signer of a request may have its certificate, whoever holds the key."""
    party = keys.client("client")
    setting.clock.time = START.now(START.tzinfo)
    gateway = pyscep.Identity(party.certificate, party.key)
    certificate = setting.certificate(
        "static-secret", key=keys.rsa_key("other"), subject="CN=other", signer=gateway)
    target = IssuerAndSerial(ca_identity().raw.subject, certificate.serial_number)
    assert setting.ca(ask(GetCert(target=target))) == pyscep.Success(certificates=(certificate,))


def test_get_cert_that_is_not_signed_yet(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise OSError("power")

    setting.certificate("static-secret")
    monkeypatch.setattr(Issuer, "sign", crash)
    with pytest.raises(pyscep.TransportError):
        setting.enroll(setting.ca.new_challenge())
    serial = int(setting.serials[1], 16)
    outcome = setting.ca(ask(GetCert(target=IssuerAndSerial(ca_identity().raw.subject, serial))))
    assert isinstance(outcome, pyscep.Failure)
    assert outcome.fail_info is pyscep.FailInfo.BAD_CERT_ID
    with pytest.raises(LookupError):
        setting.ca.revoke(serial)


def test_get_cert_and_crl_are_for_known_clients(setting: Setting) -> None:
    """A stranger learns nothing: one badRequest, whether the target exists or not."""
    serial = setting.certificate("static-secret").serial_number
    stranger = keys.client("stranger")
    unknown = pyscep.Identity(stranger.certificate, stranger.key)
    setting.clock.time = START.now(START.tzinfo)
    for flow in (
        setting.client.get_cert(unknown, serial),
        setting.client.get_cert(unknown, 1),
        setting.client.get_crl(unknown, serial),
    ):
        setting.refuses(lambda flow=flow: pyscep.run(flow, setting.send), "key is unknown here")


def test_pending_key_is_known(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(approval="manual"))
    setting.enroll("s")
    request = ask(GetCRL(target=IssuerAndSerial(ca_identity().raw.subject, 1)))
    assert setting.ca(request).crls == (setting.ca.crl(),)


def test_targets_of_another_ca(setting: Setting) -> None:
    setting.certificate("static-secret")
    for issuer in (keys.name("CN=Another CA"), b"\x30\x03\x02\x01\x01", b""):
        target = IssuerAndSerial(issuer, 1)
        for message in (GetCert(target=target), GetCRL(target=target)):
            outcome = setting.ca(ask(message))
            assert outcome.fail_info is pyscep.FailInfo.BAD_CERT_ID


def test_ca_name_in_other_string_types(setting: Setting) -> None:
    """Clients write the CA's name anew, with the string types of their own library."""
    setting.certificate("static-secret")
    printable = keys.name("O=Lab,CN=Test CA", 0x13)
    assert printable != ca_identity().raw.subject
    assert setting.ca(ask(GetCRL(target=IssuerAndSerial(printable, 1)))).crls


def test_signing_certificate_that_cryptography_refuses(setting: Setting) -> None:
    """A "v4" certificate as the signer of a renewal: of an unknown CA, and no crash."""
    from dataclasses import replace

    from pyscep.messages import RenewalReq

    setting.ca = setting.reopen(trusted_renewal_issuers=[ca_identity().certificate])
    party = keys.party("CN=x", keys.rsa_key("client"), issuer=keys.ca())
    broken = party.der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1)
    signer = RawCertificate(broken)
    csr = setting.request(None)
    request = replace(ask(RenewalReq(csr=csr)), signer=signer)
    outcome = setting.ca(request)
    assert isinstance(outcome, pyscep.Failure)
    assert "renewal: certificate" in (outcome.reason or "")


def test_issuers_that_are_none() -> None:
    leaf = keys.client("client")
    with pytest.raises(ValueError, match="not a CA's"):
        Issuer(pyscep.Identity(leaf.certificate, leaf.key))
    party = keys.party("CN=x", keys.rsa_key("client"), extensions=(
        keys.basic_constraints(True), keys.key_usage("digitalSignature")))
    with pytest.raises(ValueError, match="keyCertSign"):
        Issuer(pyscep.Identity(party.certificate, party.key))
    ed = keys.ed_key("ca")
    party = keys.party("CN=x", ed, extensions=(
        keys.basic_constraints(True), keys.key_usage("keyCertSign", "cRLSign")))
    with pytest.raises(ValueError, match="RSA or EC"):
        Issuer(pyscep.Identity(party.certificate, ed))
    with pytest.raises(ValueError, match="digest 'md5'"):
        Issuer(ca_identity(), digest="md5")


def test_der_of_the_certificate_is_what_was_entered(setting: Setting) -> None:
    certificate = setting.certificate("static-secret")
    ((tbs, stored),) = setting.sql("SELECT tbs, certificate FROM certificates")
    assert certificate.tbs_certificate_bytes == tbs
    assert certificate.public_bytes(Encoding.DER) == stored
