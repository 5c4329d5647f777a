"""A whole change of CAs (RFC 8894 sections 2.2, 4.7 and 5.1), with openssl as the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import (
    CertificateAuthority,
    Generation,
    Issuer,
    KeyFileError,
    Profile,
    creation,
    directory,
)
from pyscep.ca.creation import Addresses
from pyscep.http import HttpRequest, HttpResponse
from pyscep.identity import IssuerAndSerial, RawCertificate
from pyscep.messages import GetCert, GetCRL
from tests import forge
from tests import forge_keys as keys
from tests.ca_setting import START, Clock, Setting, ask, ca_identity, openssl, write_pem
from tests.cli_lab import done
from tests.realm import party_of

URL = "http://pki.example:8080"
PASSWORD = b"of the key files"
STARTS = START + timedelta(days=30)


class Change:
    """A CA in a directory, its server, and one-time challenges."""

    def __init__(self, path: Path, **arguments: Any) -> None:
        self.path = path / "ca"
        self.clock = Clock()
        self.password = arguments.get("password")
        self.ca = CertificateAuthority.create(
            self.path, key_type="rsa-2048", now=self.clock, base_url=URL, **arguments
        )

    def restart(self, **settings: Any) -> None:
        self.ca.close()
        self.ca = CertificateAuthority.load(
            self.path, password=self.password, now=self.clock, **settings
        )

    def prepare(self, **arguments: Any) -> directory.CaFiles:
        made = directory.prepare_next(
            self.path,
            now=self.clock(),
            password=self.password,
            **({"key_type": "rsa-2048"} | arguments),
        )
        self.restart()
        return made

    def switch(self) -> None:
        directory.switch(self.path, password=self.password, now=self.clock())
        self.restart()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.ca.server().handle(request, self.ca)

    def client(self, **more: Any) -> pyscep.Client:
        return pyscep.Client(
            "http://ca.test/scep",
            now=self.clock,
            **({"ca_fingerprint": self.ca.fingerprint} | more),
        )

    def following(self) -> pyscep.Client:
        """A client that has learned of the next CA."""
        known = pyscep.run(self.client().get_next_ca_cert(), self)
        return self.client(next_ca_certificates=known)

    def enroll(
        self, name: str, client: pyscep.Client | None = None, challenge: str | None = None
    ) -> pyscep.Identity:
        key = keys.rsa_key(name)
        csr = pyscep.pkcs10.create(
            key, f"CN={name}", challenge_password=challenge or self.ca.new_challenge()
        )
        found = pyscep.run((client or self.client()).enroll(key, csr), self)
        assert isinstance(found, pyscep.Success)
        return pyscep.Identity(found.certificates[0], key)

    def renew(self, old: pyscep.Identity, client: pyscep.Client | None = None) -> x509.Certificate:
        key = keys.rsa_key("renewed")
        csr = pyscep.pkcs10.create(key, old.certificate.subject)
        found = pyscep.run((client or self.client()).renew(old, key, csr), self)
        assert isinstance(found, pyscep.Success)
        return found.certificates[0]

    def post(self, message: forge.Forge) -> x509.Certificate:
        """The certificate that a message gets."""
        response = self(HttpRequest(method="POST", path="/scep", body=message.build()))
        reply = forge.read_message(response.body, der=True)
        assert reply.status == "0"
        (found,) = reply.open(message.signer).certificates
        return found

    def asked(
        self,
        kind: type[GetCert] | type[GetCRL],
        ca: Generation,
        identity: pyscep.Identity,
        serial: int | None = None,
    ) -> Any:
        """GetCert or GetCRL by the name of a CA, signed with a certificate."""
        number = identity.certificate.serial_number if serial is None else serial
        target = IssuerAndSerial(ca.issuer.identity.raw.subject, number)
        recipient = self.ca.succession.current.decrypts
        return self.ca(replace(ask(kind(target=target)), signer=identity.raw, recipient=recipient))

    def generation(self, name: str) -> Generation:
        (found,) = [one for one in self.ca.succession.all if one.name == name]
        return found


@pytest.fixture
def change(tmp_path: Path) -> Iterator[Change]:
    made = Change(tmp_path)
    yield made
    made.ca.close()


def verified(
    path: Path, leaf: x509.Certificate, ca: Generation, at: datetime, crl: bytes | None = None
) -> str:
    """What `openssl verify` says of a certificate at a time, with the CRL if there is one."""
    words: list[str | Path] = ["-attime", str(int(at.timestamp()))]
    words += ["-CAfile", write_pem(path / "root.pem", ca.ca_certificates)]
    if crl is not None:
        (path / "list.der").write_bytes(crl)
        openssl("crl", "-inform", "DER", "-in", path / "list.der", "-out", path / "list.pem")
        words += ["-crl_check", "-CRLfile", path / "list.pem"]
    try:
        return openssl("verify", *words, write_pem(path / "leaf.pem", [leaf]))
    except AssertionError as error:
        return str(error)


@pytest.mark.rule("R14")
def test_r14_a_whole_rollover(change: Change, tmp_path: Path) -> None:
    old = change.enroll("before")
    change.prepare(starts=STARTS)

    # Who knows nothing of it gets what he got.
    assert change.enroll("unaware").certificate.issuer == old.certificate.issuer
    # Who encrypts to the next CA gets its certificate, from its first day on.
    ahead = change.enroll("ahead", change.following())
    following = change.generation("ca-2")
    assert ahead.certificate.not_valid_before_utc == STARTS
    assert ahead.certificate.not_valid_after_utc == STARTS + timedelta(days=365)
    assert "OK" in verified(tmp_path, ahead.certificate, following, STARTS)
    assert "not yet valid" in verified(tmp_path, ahead.certificate, following, START)
    assert "not yet valid" in verified(
        tmp_path, following.issuer.certificate, following, STARTS - timedelta(seconds=1)
    )

    with pytest.raises(ValueError, match="not valid before 2026-03-31"):
        change.switch()
    change.clock.time = STARTS
    change.switch()
    first, second = change.generation("ca"), change.generation("ca-2")
    assert change.ca.issuer.certificate == second.issuer.certificate
    assert change.ca.succession.previous == (first,)
    assert change.ca.succession.next is None

    # An old certificate is renewed by the CA that followed.
    renewed = change.renew(old)
    assert "OK" in verified(tmp_path, renewed, second, STARTS)
    new = change.enroll("after")

    # Each CA has its own CRL, and either's certificates are revoked.
    change.ca.revoke(old.certificate.serial_number, "superseded")
    change.ca.revoke(new.certificate.serial_number, "keyCompromise")
    lists = {name: one.crl() for name, one in change.ca.published().items()}
    assert set(lists) == {"ca", "ca-2"}
    assert change.ca.crl() == lists["ca-2"]
    at = STARTS + timedelta(hours=1)
    for leaf, ca, name, said in (
        (old.certificate, first, "ca", "certificate revoked"),
        (new.certificate, second, "ca-2", "certificate revoked"),
        (ahead.certificate, second, "ca-2", "OK"),
        (renewed, second, "ca-2", "OK"),
        (renewed, second, "ca", "unable to get certificate CRL"),
    ):
        assert said in verified(tmp_path, leaf, ca, at, lists[name]), (name, said)

    # GetCRL and GetCert by the name of the CA that the certificate is of.
    for generation, crl in ((first, lists["ca"]), (second, lists["ca-2"])):
        assert change.asked(GetCRL, generation, ahead).crls == (crl,)
    assert change.asked(GetCert, first, old).certificates == (old.certificate,)
    assert change.asked(GetCert, second, ahead).certificates == (ahead.certificate,)


def test_the_holder_gets_his_old_certificate_by_his_new_one(change: Change) -> None:
    """GetCert (RFC 8894 section 2.6), though another CA signed the one he asks with."""
    old = change.enroll("device")
    change.prepare()
    change.switch()
    first = change.generation("ca")
    renewed = pyscep.Identity(change.renew(old), keys.rsa_key("renewed"))
    serial = old.certificate.serial_number
    assert change.asked(GetCert, first, renewed, serial).certificates == (old.certificate,)
    stranger = change.enroll("stranger")
    assert isinstance(change.asked(GetCert, first, stranger, serial), pyscep.Failure)


def test_a_client_gets_the_crl_of_the_ca_that_issued(change: Change) -> None:
    """RFC 8894 section 4.6: by the issuer of its certificate, not by who is present."""
    old = change.enroll("old")
    change.prepare()
    change.switch()
    new = change.enroll("new")
    first, second = change.generation("ca"), change.generation("ca-2")
    both = change.client(
        ca_fingerprint=None, ca_certificates=[second.issuer.certificate, first.issuer.certificate]
    )
    for device, ca in ((old, first), (new, second)):
        assert pyscep.run(both.get_crl(device), change) == change.ca.crl(ca.issuer)
        serial = device.certificate.serial_number
        assert pyscep.run(both.get_cert(device, serial), change) == device.certificate


@pytest.mark.rule("R14")
def test_r14_requests_of_both_cas_are_repeated(change: Change) -> None:
    """The same request gets the same certificate: before the switch, and after it."""
    change.prepare()
    messages = []
    for name in ("ca", "ca-2"):
        to = party_of(change.generation(name).decrypts)
        messages.append(
            forge.pkcs_req(to, signer=keys.client(name), challenge=change.ca.new_challenge())
        )
    first = [change.post(message) for message in messages]
    assert [one.issuer for one in first] == [
        one.issuer.certificate.subject for one in change.ca.succession.all
    ]
    change.restart()
    assert [change.post(message) for message in messages] == first
    change.switch()
    assert [change.post(message) for message in messages] == first
    assert len(change.ca.certificates()) == 2


@pytest.mark.rule("R14")
def test_r14_a_followed_ca_issues_nothing_new(change: Change) -> None:
    """A device that still encrypts to it gets a certificate of the CA that followed."""
    change.prepare()
    change.switch()
    first, second = change.generation("ca"), change.generation("ca-2")
    message = forge.pkcs_req(party_of(first.decrypts), challenge=change.ca.new_challenge())
    found = change.post(message)
    found.verify_directly_issued_by(second.issuer.certificate)
    assert change.post(message) == found


def test_a_challenge_is_good_under_one_ca(change: Change) -> None:
    """One use is one use: not one for each CA, even for the same key."""
    change.prepare()
    challenge = change.ca.new_challenge()
    change.enroll("device", challenge=challenge)
    with pytest.raises(pyscep.EnrollmentRefused):
        change.enroll("device", change.following(), challenge)
    assert len(change.ca.certificates()) == 1


def test_one_key_under_both_cas(change: Change) -> None:
    """RFC 8894 figure 9: the same key, in the window of repetitions, asked for under each CA."""
    change.prepare()
    change.restart(static_challenge="for-all")
    found = [
        change.enroll("device", client, "for-all").certificate
        for client in (change.client(), change.following()) * 2
    ]
    assert found[:2] == found[2:]
    for certificate, name in zip(found, ("ca", "ca-2"), strict=False):
        certificate.verify_directly_issued_by(change.generation(name).issuer.certificate)


def test_pending_under_the_next_ca(change: Change) -> None:
    """What waits is approved for the CA that was asked; after the switch too."""
    change.prepare()
    change.restart(profiles=Profile(approval="manual"))
    key = keys.rsa_key("patient")
    csr = pyscep.pkcs10.create(key, "CN=patient", challenge_password=change.ca.new_challenge())
    client = change.following()
    waiting = pyscep.run(client.enroll(key, csr), change)
    assert isinstance(waiting, pyscep.PendingEnrollment)
    (attempt,) = change.ca.pending()
    second = change.generation("ca-2")
    assert attempt.issuer_id == second.issuer.id
    change.ca.approve(attempt.id).verify_directly_issued_by(second.issuer.certificate)
    change.switch()
    found = pyscep.run(client.poll(waiting, key), change)
    assert isinstance(found, pyscep.Success)
    found.certificates[0].verify_directly_issued_by(second.issuer.certificate)


def test_what_waited_for_a_followed_ca(change: Change) -> None:
    change.restart(profiles=Profile(approval="manual"))
    key = keys.rsa_key("patient")
    csr = pyscep.pkcs10.create(key, "CN=patient", challenge_password=change.ca.new_challenge())
    assert isinstance(
        pyscep.run(change.client().enroll(key, csr), change), pyscep.PendingEnrollment
    )
    change.prepare()
    change.switch()
    (attempt,) = change.ca.pending()
    change.ca.approve(attempt.id).verify_directly_issued_by(change.ca.issuer.certificate)


def test_a_crash_between_the_commits_of_either_ca(change: Change) -> None:
    """What was entered is signed on the next start, by the CA it was entered for."""
    change.prepare()
    found = [
        change.enroll(name, client).certificate
        for name, client in (("one", change.client()), ("two", change.following()))
    ]
    with change.ca.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE certificates SET state = 'signing', certificate = NULL, issued_at = NULL"
        )
    change.switch()
    again = [record.certificate for record in reversed(change.ca.certificates())]
    assert again == found, "RSA signs the same octets into the same certificate"


# --- addresses ------------------------------------------------------------------------


def test_each_generation_names_its_own_addresses(change: Change) -> None:
    change.prepare()
    for name, client in (("ca", change.client()), ("ca-2", change.following())):
        leaf = change.enroll(name, client).certificate
        agent = change.generation(name).recipient
        assert agent is not None
        for certificate in (leaf, agent.certificate):
            text = openssl("x509", "-noout", "-text", data=certificate.public_bytes(Encoding.PEM))
            assert f"URI:{URL}/crl/{name}.crl" in text
            assert f"CA Issuers - URI:{URL}/aia/{name}.cer" in text


def test_an_intermediate_names_its_parents_addresses(tmp_path: Path) -> None:
    addresses = Addresses(
        crl=("http://root.example/r.crl",), certificate=("http://root.example/r",)
    )
    with CertificateAuthority.create(
        tmp_path / "ca",
        key_type="rsa-2048",
        parent=ca_identity(),
        parent_addresses=addresses,
        now=Clock(),
    ) as ca:
        text = openssl(
            "x509", "-noout", "-text", data=ca.issuer.certificate.public_bytes(Encoding.PEM)
        )
        assert "URI:http://root.example/r.crl" in text
        assert "CA Issuers - URI:http://root.example/r" in text
        assert ca.recipient is not None
        agent = openssl(
            "x509", "-noout", "-text", data=ca.recipient.certificate.public_bytes(Encoding.PEM)
        )
        assert "URI:" not in agent, "where its own CRL is, nobody said"


def test_an_address_is_kept_and_can_change(change: Change) -> None:
    directory.publish_at(change.path, "http://elsewhere.example")
    change.restart()
    assert change.ca.issuer.crl_urls == ("http://elsewhere.example/crl/ca.crl",)
    for wrong in (
        "https://pki.example",
        "pki.example",
        "http://pki.example/",
        "http://a/?b",
        "http://a b",
    ):
        with pytest.raises(ValueError, match="no URL like"):
            directory.publish_at(change.path, wrong)
    change.restart()
    assert change.ca.issuer.crl_urls == ("http://elsewhere.example/crl/ca.crl",)


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["ra", "ra-split", "ndes", "ca"])
def test_the_next_ca_has_the_same_shape(tmp_path: Path, topology: str) -> None:
    change = Change(tmp_path, topology=topology, password=PASSWORD, organization="Lab")
    made = change.prepare()
    assert made.topology == topology
    assert made.ca.certificate.subject == x509.Name.from_rfc4514_string("CN=pyscep CA G2,O=Lab")
    for path in made.path.glob("*.key"):
        assert b"ENCRYPTED" in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert made.path.stat().st_mode & 0o777 == 0o700
    device = change.enroll("device", change.following())
    device.certificate.verify_directly_issued_by(made.ca.certificate)
    change.switch()
    assert change.prepare().ca.certificate.subject.rfc4514_string() == "CN=pyscep CA G3,O=Lab"
    change.ca.close()


def test_keys_of_another_password_are_not_made(tmp_path: Path) -> None:
    change = Change(tmp_path, password=PASSWORD)
    for password in (None, b"another"):
        with pytest.raises(KeyFileError):
            directory.prepare_next(change.path, password=password, now=change.clock())
    assert not list(change.path.glob("generation-*"))
    change.ca.close()


def test_an_ec_ca_may_follow_where_an_ra_decrypts(change: Change, tmp_path: Path) -> None:
    change.prepare(key_type="ec-p256")
    device = change.enroll("device", change.following())
    following = change.generation("ca-2")
    assert isinstance(following.issuer.certificate.public_key(), ec.EllipticCurvePublicKey)
    assert "OK" in verified(tmp_path, device.certificate, following, START)
    without = Change(tmp_path / "other", topology="ca")
    with pytest.raises(ValueError, match="RSA keys"):
        directory.prepare_next(without.path, key_type="ec-p256", now=without.clock())
    without.ca.close()


def test_only_one_follows(change: Change) -> None:
    with pytest.raises(ValueError, match="no next CA"):
        directory.switch(change.path, now=change.clock())
    change.prepare()
    with pytest.raises(FileExistsError, match="generation-2"):
        directory.prepare_next(change.path, now=change.clock())
    with pytest.raises(FileNotFoundError):
        directory.prepare_next(change.path.parent, now=change.clock())


def test_the_cas_before_are_retired(change: Change) -> None:
    """Also where their keys can't be read any more: that is when it is needed."""
    with pytest.raises(ValueError, match="no CA before"):
        directory.retire(change.path)
    old = change.enroll("old")
    for _ in range(2):
        change.prepare()
        change.switch()
    assert len(change.ca.succession.previous) == 2
    (change.path / "ca.key").unlink()
    with pytest.raises(FileNotFoundError):
        change.restart()
    found = done("ca", "rollover", "retire", "--directory", change.path)
    assert found == {"retired": [str(change.path / "generation-2"), str(change.path)]}
    change.restart()
    assert change.ca.succession.previous == ()
    with pytest.raises(pyscep.EnrollmentRefused):
        change.renew(old)
    assert list(change.ca.published()) == ["ca-3"]
    assert change.prepare().path.name == "generation-4"


def test_it_has_to_start_before_the_present_one_ends(change: Change) -> None:
    ends = change.ca.issuer.certificate.not_valid_after_utc
    with pytest.raises(ValueError, match="has to start before"):
        directory.prepare_next(change.path, now=change.clock(), starts=ends)
    assert not list(change.path.glob("generation-*"))


def test_a_crash_while_it_is_made_changes_nothing(change: Change, monkeypatch: Any) -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(directory.creation, "make_ra", crash)
        with pytest.raises(KeyboardInterrupt):
            change.prepare()
    change.restart()
    assert change.ca.succession.next is None
    assert change.prepare().path.name == "generation-3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{",
        '{"previous": 1}',
        '{"current": "../elsewhere", "next": null, "previous": [], "base_url": null}',
        '{"current": ".", "next": ".", "previous": [], "base_url": null}',
        '{"current": ".", "next": null, "previous": [], "base_url": "ftp://x"}',
        '{"current": ".", "next": null, "previous": [], "base_url": null, "more": 1}',
    ],
)
def test_a_damaged_file_is_named(change: Change, text: str) -> None:
    (change.path / "ca.json").write_text(text)
    with pytest.raises(KeyFileError, match=r"ca\.json is damaged"):
        CertificateAuthority.load(change.path)


# --- without a directory --------------------------------------------------------------


def following_identity(name: str = "CN=Test CA,O=Lab") -> pyscep.Identity:
    key = keys.rsa_key("next ca of one name")
    common, organization = (part.partition("=")[2] for part in name.split(","))
    made = creation.make_ca(
        key,
        common_name=common,
        organization=organization,
        validity=timedelta(days=3650),
        now=START - timedelta(days=1),
        serial_number=5,
        decrypts=True,
    )
    return pyscep.Identity(made, key)


def test_cas_of_one_name(tmp_path: Path) -> None:
    """A CA often keeps its name; then the certificate says which CRL is meant."""
    following = following_identity()
    setting = Setting(tmp_path, next_ca=Generation(issuer=Issuer(following), name="second"))
    old = setting.identity(setting.ca.new_challenge())
    client = pyscep.Client(
        "http://ca.test/scep",
        ca_fingerprint=setting.ca.fingerprint,
        now=setting.clock,
        next_ca_certificates=[following.certificate],
    )
    key = keys.rsa_key("other")
    csr = setting.request(setting.ca.new_challenge(), key=key)
    found = pyscep.run(client.enroll(key, csr), setting.send)
    assert isinstance(found, pyscep.Success)
    new = pyscep.Identity(found.certificates[0], key)
    assert old.certificate.issuer == new.certificate.issuer
    # By its name alone nobody could tell which CA issued what is renewed here.
    renewal_key = keys.rsa_key("renewed")
    flow = client.renew(old, renewal_key, setting.request(None, key=renewal_key))
    renewed = pyscep.run(flow, setting.send)
    renewed.certificates[0].verify_directly_issued_by(following.certificate)
    setting.ca.revoke(old.certificate.serial_number)
    answers = [
        setting.ca(
            replace(
                ask(
                    GetCRL(
                        target=RawCertificate.from_certificate(one.certificate).issuer_and_serial
                    )
                ),
                signer=new.raw,
            )
        )
        for one in (old, new)
    ]
    lists = [x509.load_der_x509_crl(one.crls[0]) for one in answers]
    for crl, issuer, count in zip(lists, (ca_identity(), following), (1, 0), strict=True):
        assert crl.is_signature_valid(issuer.certificate.public_key())
        assert len(crl) == count


def test_generations_that_do_not_fit(tmp_path: Path) -> None:
    same = Generation(issuer=Issuer(ca_identity()))
    with pytest.raises(ValueError, match="same name and key"):
        Setting(tmp_path, next_ca=same)
    with pytest.raises(ValueError, match="leave out the others"):
        Setting(tmp_path, issuer=same, recipient=ca_identity())
    agent = Generation(issuer=Issuer(following_identity()), recipient=ca_identity())
    with pytest.raises(ValueError, match="same certificate for requests"):
        Setting(tmp_path, next_ca=agent)
    unnamed = Setting(tmp_path, next_ca=Generation(issuer=Issuer(following_identity())))
    with pytest.raises(ValueError, match="names of their own"):
        unnamed.ca.published()


def test_the_client_refuses_what_the_present_ca_issued(change: Change) -> None:
    """It asked under the next CA; an answer of the other is none."""
    change.prepare()
    client = change.following()
    change.ca.succession.__dict__["_by_recipient"] = {}  # a server that mixes them up
    with pytest.raises(pyscep.ProtocolError):
        change.enroll("device", client)


def test_the_client_refuses_an_expired_next_ca(change: Change) -> None:
    change.prepare(validity=timedelta(days=2))
    client = change.following()
    change.clock.pass_by(days=3)
    with pytest.raises(pyscep.ProtocolError, match="not valid now"):
        change.enroll("device", client, "any")


def test_status_as_json(change: Change) -> None:
    change.prepare()
    found = done("ca", "rollover", "status", "--directory", change.path)
    assert [one["turn"] for one in found["cas"]] == ["next", "present"]
    assert json.loads((change.path / "ca.json").read_text())["next"] == "generation-2"


def test_a_ca_that_cannot_decrypt_takes_no_turn(tmp_path: Path) -> None:
    """A SCEP request is encrypted to an RSA key (RFC 8894 section 3.1)."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = creation.make_ca(
        key,
        common_name="EC CA",
        organization=None,
        validity=timedelta(days=3650),
        now=START - timedelta(days=10),
        serial_number=1,
        decrypts=False,
    )
    following = Generation(issuer=Issuer(pyscep.Identity(certificate, key)))
    with pytest.raises(ValueError, match="needs an RA"):
        Setting(tmp_path, next_ca=following)


def test_what_is_known_of_no_ca_belongs_to_the_present_one(change: Change) -> None:
    assert change.ca.succession.by_id("0" * 64) is change.ca.succession.current


def test_nothing_retires_where_there_is_no_ca(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no ca\.pem"):
        directory.retire(tmp_path)


def test_the_same_address_again_changes_nothing(change: Change) -> None:
    file = change.path / "ca.json"
    before = file.stat().st_mtime_ns, file.read_bytes()
    directory.publish_at(change.path, URL)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
