"""A change of CAs by a configuration (RFC 8894 section 4.7): of a directory, and of key files.

Over HTTP, with certificates, addresses and CRLs judged by openssl.
"""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep.ca import CertificateAuthority, directory
from pyscep.site import checking
from pyscep.site.building import Builder
from pyscep.site.config import ConfigError, parse
from pyscep.site.endpoints import OpenSite
from tests import forge_keys as keys
from tests.ca_setting import openssl, write_pem
from tests.cli_lab import listening
from tests.test_site_config import problems_of, secret_file

CRL, AIA = "http://pki.example/crl/{}.crl", "http://pki.example/aia/{}.cer"
SEND = pyscep.urllib_sender()


class Served:
    """A site that answers."""

    def __init__(self, origin: str, site: OpenSite) -> None:
        self.origin = origin
        (self.endpoint,) = site.endpoints
        self.ca = self.endpoint.ca

    def client(self, **more: Any) -> pyscep.Client:
        return pyscep.Client(
            f"{self.origin}/scep", ca_fingerprint=self.ca.fingerprint, **more)

    def enroll(self, name: str, **more: Any) -> pyscep.Identity:
        key = keys.rsa_key(name)
        csr = pyscep.pkcs10.create(
            key, f"CN={name}", challenge_password=self.ca.new_challenge())
        found = pyscep.run(self.client(**more).enroll(key, csr), SEND)
        assert isinstance(found, pyscep.Success)
        return pyscep.Identity(found.certificates[0], key)

    def next_ca(self) -> tuple[x509.Certificate, ...]:
        return pyscep.run(self.client().get_next_ca_cert(), SEND)

    def fetch(self, path: str) -> bytes:
        with urllib.request.urlopen(self.origin + path, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def judge(self, tmp_path: Path, leaf: x509.Certificate, name: str) -> str:
        """What openssl says of a certificate, with CA and CRL as they are published."""
        ca = x509.load_der_x509_certificate(self.fetch(f"/aia/{name}.cer"))
        (tmp_path / "list.der").write_bytes(self.fetch(f"/crl/{name}.crl"))
        openssl("crl", "-inform", "DER", "-in", tmp_path / "list.der", "-out", tmp_path / "l.pem")
        words = ["-crl_check", "-CRLfile", tmp_path / "l.pem",
                 "-CAfile", write_pem(tmp_path / "root.pem", [ca])]
        try:
            return openssl("verify", *words, write_pem(tmp_path / "leaf.pem", [leaf]))
        except AssertionError as error:
            return str(error)


def addresses(certificate: x509.Certificate) -> list[str]:
    """What a certificate says about CRL and issuer."""
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    names = [name for point in points for name in point.full_name or ()]
    return [str(name.value) for name in (*names, *(one.access_location for one in access))]


def config_with(**ca: Any) -> dict[str, Any]:
    table = {"crl_urls": [CRL.format("main")], "issuer_urls": [AIA.format("main")]} | ca
    return {
        "ca": {"main": table},
        "challenge": {"once": {"kind": "one-time"}},
        "endpoint": {"devices": {
            "path": "/scep", "ca": "main", "profiles": ["device"], "challenges": ["once"]}},
    }


@contextmanager
def served(data: dict[str, Any], base: Path) -> Iterator[Served]:
    config = parse(data)
    with OpenSite(config, Builder(config, base)) as site, listening(site.app) as origin:
        yield Served(origin, site)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA and the one that is to follow."""
    place = tmp_path_factory.mktemp("rollover") / "ca"
    CertificateAuthority.create(place, key_type="rsa-2048", password=b"word").close()
    directory.prepare_next(
        place, key_type="rsa-2048", password=b"word", now=datetime.now(UTC))
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    secret_file(tmp_path / "word.txt")
    return Path(shutil.copytree(made, tmp_path / "ca"))


def of_directory() -> dict[str, Any]:
    return config_with(directory="ca", passphrase={"file": "word.txt"})


def of_files(turns: tuple[str, ...], following: str | None = None) -> dict[str, Any]:
    """The same CAs by their files, which every operator names for himself."""
    where = {"main": "ca", "main-2": "ca/generation-2"}

    def table(name: str) -> dict[str, Any]:
        def pair(file: str) -> dict[str, Any]:
            place = where[name]
            return {"certificate": f"{place}/{file}.pem", "key": f"{place}/{file}.key",
                    "passphrase": {"file": "word.txt"}}

        return pair("ca") | {"ra": pair("ra"), "name": name,
                             "crl_urls": [CRL.format(name)], "issuer_urls": [AIA.format(name)]}

    current, *before = turns
    found = table(current) | {"previous": [table(name) for name in before]}
    if following is not None:
        found["next"] = table(following)
    return config_with(**found, database="sqlite:///ca/scep.db")


@pytest.mark.parametrize("kind", ["directory", "files"])
def test_a_change_of_cas(place: Path, tmp_path: Path, kind: str) -> None:
    before = of_directory() if kind == "directory" else of_files(("main",), "main-2")
    with served(before, tmp_path) as site:
        old = site.enroll("before")
        assert addresses(old.certificate) == [CRL.format("main"), AIA.format("main")]
        following = site.next_ca()
        ahead = site.enroll("ahead", next_ca_certificates=following)
        assert addresses(ahead.certificate) == [CRL.format("main-2"), AIA.format("main-2")]
        assert "OK" in site.judge(tmp_path, ahead.certificate, "main-2")
        assert "OK" in site.judge(tmp_path, old.certificate, "main")

    directory.switch(place, password=b"word", now=datetime.now(UTC))
    after = of_directory() if kind == "directory" else of_files(("main-2", "main"))
    with served(after, tmp_path) as site:
        assert site.ca.issuer.certificate in following
        new = site.enroll("after")
        assert addresses(new.certificate) == [CRL.format("main-2"), AIA.format("main-2")]
        key = keys.rsa_key("renewed")
        csr = pyscep.pkcs10.create(key, old.certificate.subject)
        renewed = pyscep.run(site.client().renew(old, key, csr), SEND)
        assert isinstance(renewed, pyscep.Success)
        assert "OK" in site.judge(tmp_path, renewed.certificates[0], "main-2")
        site.ca.revoke(old.certificate.serial_number)
        site.ca.revoke(ahead.certificate.serial_number)
        assert "certificate revoked" in site.judge(tmp_path, old.certificate, "main")
        assert "certificate revoked" in site.judge(tmp_path, ahead.certificate, "main-2")
        assert "OK" in site.judge(tmp_path, new.certificate, "main-2")
        assert "GetNextCACert" not in pyscep.run(site.client().get_ca_caps(), SEND)


def test_addresses_that_would_be_one(place: Path, tmp_path: Path) -> None:
    """Two CRLs can't be had at one address."""
    data = of_directory()
    data["ca"]["main"]["crl_urls"] = ["http://pki.example/list"]
    config = parse(data)
    (found,) = checking.check(config, Builder(config, tmp_path))
    assert str(found) == (
        "error: ca.main: main-2 would have the address of the CA before, http://pki.example/list: "
        "give addresses that end in /main.crl and /main.cer")


def test_two_cas_of_one_name(place: Path, tmp_path: Path) -> None:
    data = of_directory()
    shutil.copytree(place, tmp_path / "other")
    data["ca"]["main-2"] = data["ca"]["main"] | {
        "directory": "other", "crl_urls": [CRL.format("main-2")],
        "issuer_urls": [AIA.format("main-2")]}
    config = parse(data)
    with pytest.raises(ConfigError, match=r"ca\.main-2: another CA is called main-2"):
        OpenSite(config, Builder(config, tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"directory": "ca", "next": {"name": "b", "certificate": "c", "key": "d"}},
         "ca.main: a directory knows its CAs: let another one follow by `pyscep ca rollover`"),
        ({"directory": "ca", "name": "a"},
         "ca.main: a directory knows its CAs: let another one follow by `pyscep ca rollover`"),
        ({"certificate": "a", "key": "b", "next": {"certificate": "c", "key": "d"}},
         "ca.main.next.name: missing"),
        ({"certificate": "a", "key": "b", "next": {"name": "b", "certificate": "c", "key": "d"}},
         "ca.main: revocation needs crl_urls of the next and the previous CAs, too"),
        ({"certificate": "a", "key": "b", "revocation": False,
          "next": {"name": "b", "certificate": "c", "key": "d",
                   "ra_encryption": {"certificate": "c", "key": "d"}}},
         "ca.main.next: ra_encryption needs an ra that signs"),
        ({"certificate": "a", "key": "b", "previous": [{"nmae": "b"}]},
         "ca.main.previous.0.nmae: unknown key: is it name?"),
    ],
)
def test_what_makes_no_sense(change: dict[str, Any], reason: str) -> None:
    assert reason in problems_of(config_with(**change))
