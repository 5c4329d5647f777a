"""Key files and the directory of a CA (DECISIONS 15 and 18)."""

from __future__ import annotations

import logging
import multiprocessing
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

import pyscep
from pyscep.ca import (
    CertificateAuthority,
    KeyFileError,
    keyfiles,
    read_identity,
    read_key_file,
    write_private,
    write_public,
)
from tests import forge_keys as keys
from tests.ca_setting import ca_identity, openssl


def pem(key: Any, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "a key"
    write_private(path, pem(keys.rsa_key("client")))
    return path


# --- reading ---------------------------------------------------------------------------


def test_private_key_file(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = read_key_file(key_file)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert keys.spki(key) == keys.spki(keys.rsa_key("client"))


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (0o644, "open to every user"),
        (0o602, "open to every user"),
        (0o660, "writable for its group"),
    ],
)
def test_file_that_others_can_read(key_file: Path, mode: int, problem: str) -> None:
    """The error names the command that mends it, and the command does."""
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match=problem) as caught:
        read_key_file(key_file)
    command = str(caught.value).rpartition(": ")[2]
    assert command == f"chmod 600 '{key_file}'"
    assert os.system(command) == 0  # noqa: S605 - the command that a user would paste
    read_key_file(key_file)


def test_group_may_read_what_root_owns(key_file: Path, monkeypatch: Any) -> None:
    """0640 root:service, as packages install keys."""
    key_file.chmod(0o640)
    owner = [0]
    fstat = os.fstat

    def owned(descriptor: int) -> Any:
        status = list(fstat(descriptor))
        status[4] = owner[0]
        return os.stat_result(status)

    monkeypatch.setattr(keyfiles.os, "fstat", owned)
    read_key_file(key_file)
    owner[0] = 1000
    with pytest.raises(KeyFileError, match="readable for its group"):
        read_key_file(key_file)


def test_links_are_followed_and_their_target_is_checked(key_file: Path) -> None:
    """Kubernetes secrets are links."""
    link = key_file.with_name("link")
    link.symlink_to(key_file)
    read_key_file(link)
    key_file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        read_key_file(link)
    assert str(caught.value).endswith(f"'{os.path.realpath(key_file)}'")


def test_read_only_file_system_is_a_warning(
    key_file: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key_file.chmod(0o644)

    class Mount:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(keyfiles.os, "fstatvfs", lambda _: Mount)
    with caplog.at_level(logging.WARNING, "pyscep.ca"):
        read_key_file(key_file)
    assert "on a read-only file system" in caplog.text


def test_where_files_have_no_modes(key_file: Path, monkeypatch: Any) -> None:
    key_file.chmod(0o644)
    monkeypatch.setattr(keyfiles, "_posix", lambda: False)
    read_key_file(key_file)
    write_private(key_file.with_name("b"), b"x")


def test_passwords(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, pem(keys.rsa_key("client"), b"word"))
    read_key_file(path, b"word")
    with pytest.raises(KeyFileError, match="encrypted: give its password"):
        read_key_file(path)
    with pytest.raises(KeyFileError, match="the password is wrong") as caught:
        read_key_file(path, b"sesame")
    assert "sesame" not in str(caught.value)
    write_private(path, pem(keys.rsa_key("client")), replace=True)
    with pytest.raises(KeyFileError, match="not encrypted: leave it out"):
        read_key_file(path, b"word")


def test_what_is_no_key(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"hello")
    with pytest.raises(KeyFileError, match="openssl pkey -in .*key -noout"):
        read_key_file(tmp_path / "key")
    with pytest.raises(KeyFileError, match="not a regular file"):
        read_key_file("/dev/null")
    with pytest.raises(FileNotFoundError):
        read_key_file(tmp_path / "missing")


def test_identity_files(tmp_path: Path, key_file: Path) -> None:
    certificate = tmp_path / "certificate"
    client = keys.client("client").certificate.public_bytes(Encoding.PEM)
    ca = ca_identity().certificate.public_bytes(Encoding.PEM)
    write_public(certificate, client + ca)
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o644
    identity = read_identity(certificate, key_file)
    assert identity.chain == (ca_identity().certificate,)
    write_public(certificate, ca, replace=True)
    with pytest.raises(KeyFileError, match="is not the key of"):
        read_identity(certificate, key_file)
    write_public(certificate, b"hello", replace=True)
    with pytest.raises(KeyFileError, match="openssl x509 -in"):
        read_identity(certificate, key_file)


# --- writing ---------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_asked(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(FileExistsError):
        write_private(key_file, b"other")
    assert key_file.read_bytes() == before
    write_private(key_file, b"other", replace=True)
    assert key_file.read_bytes() == b"other"
    assert [one.name for one in key_file.parent.iterdir()] == [key_file.name]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keyfiles.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(tmp_path / "key", b"x")
    assert list(tmp_path.iterdir()) == []


def test_data_is_on_disk_before_the_name(tmp_path: Path, monkeypatch: Any) -> None:
    done: list[str] = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(keyfiles.os, "fsync", lambda fd: (done.append("fsync"), fsync(fd)))
    monkeypatch.setattr(keyfiles.os, "link", lambda a, b: (done.append("link"), link(a, b)))
    write_private(tmp_path / "key", b"x")
    assert done == ["fsync", "link", "fsync"], "the file, its name, the directory"


# --- the directory ---------------------------------------------------------------------


def usages(certificate: x509.Certificate) -> str:
    text = openssl("x509", "-noout", "-ext", "keyUsage",
                   data=certificate.public_bytes(Encoding.PEM))
    return text.splitlines()[1].strip()


def enrolls(ca: CertificateAuthority) -> x509.Certificate:
    server = ca.server()
    client = pyscep.Client("http://ca.test/scep", ca_fingerprint=ca.fingerprint)
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=ca.new_challenge())
    flow = client.enroll(key, csr)
    outcome = pyscep.run(flow, lambda request: server.handle(request, ca))
    assert isinstance(outcome, pyscep.Success)
    return outcome.certificates[0]


def test_zero_configuration(tmp_path: Path) -> None:
    place = tmp_path / "a" / "ca"
    with CertificateAuthority.load_or_create(place, key_type="rsa-2048") as ca:
        first = enrolls(ca)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    modes = {one.name: f"{stat.S_IMODE(one.stat().st_mode):o}" for one in place.iterdir()}
    assert modes == {
        "ca.pem": "644", "ca.key": "600", "ra.pem": "644", "ra.key": "600", "scep.db": "600"}
    said = openssl("verify", "-x509_strict", "-CAfile", place / "ca.pem", place / "ra.pem")
    assert said.endswith("OK\n")
    with CertificateAuthority.load_or_create(place, key_type="rsa-2048") as again:
        assert [one.certificate for one in again.certificates()] == [first]
    with pytest.raises(FileExistsError, match="there is a CA in"):
        CertificateAuthority.create(place)


def test_default_ca(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "ca") as ca:
        assert ca.recipient is not None
        assert ca.issuer.certificate.public_key().key_size == 3072
        assert ca.recipient.certificate.public_key().key_size == 2048
        assert usages(ca.issuer.certificate) == (
            "Digital Signature, Certificate Sign, CRL Sign")
        assert usages(ca.recipient.certificate) == "Digital Signature, Key Encipherment"
        assert ca.issuer.certificate.subject.rfc4514_string() == "CN=pyscep CA"


@pytest.mark.parametrize("topology", ["ra", "ra-split", "ca"])
def test_topologies_enroll(tmp_path: Path, topology: str) -> None:
    CertificateAuthority.create(
        tmp_path / "ca", key_type="rsa-2048", topology=topology, organization="Lab",
        password=b"word", common_name="A CA").close()
    with pytest.raises(KeyFileError, match="give its password"):
        CertificateAuthority.load(tmp_path / "ca")
    with CertificateAuthority.load(tmp_path / "ca", password=b"word") as ca:
        enrolls(ca)
        if topology == "ra-split":
            assert ca.recipient is not None
            assert ca.encryption is not None
            assert usages(ca.recipient.certificate) == "Digital Signature"
            assert usages(ca.encryption.certificate) == "Key Encipherment"
            assert ca.recipient.certificate.subject.rfc4514_string() == "CN=A CA RA signing"
        if topology == "ca":
            assert ca.recipient is None
            assert "Key Encipherment" in usages(ca.issuer.certificate)


def test_intermediate_with_ec_key(tmp_path: Path) -> None:
    root = CertificateAuthority.create(
        tmp_path / "root", topology="ca", key_type="rsa-2048", validity=timedelta(days=400))
    parent = root.issuer.identity
    with CertificateAuthority.create(
        tmp_path / "sub", common_name="Sub", key_type="ec-p256", parent=parent,
    ) as ca:
        assert ca.ca_certificates == (ca.issuer.certificate, parent.certificate)
        ends = ca.issuer.certificate.not_valid_after_utc
        assert ends == parent.certificate.not_valid_after_utc
        leaf = enrolls(ca)
        (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        openssl(
            "verify", "-x509_strict", "-CAfile", tmp_path / "root" / "ca.pem",
            "-untrusted", tmp_path / "sub" / "ca.pem", tmp_path / "leaf.pem")
        text = openssl("x509", "-in", tmp_path / "sub" / "ca.pem", "-noout", "-text")
        assert "CA:TRUE, pathlen:0" in text
    root.close()


def test_choices_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of ra, ra-split, ca"):
        CertificateAuthority.create(tmp_path / "ca", topology="star")
    with pytest.raises(ValueError, match="none of rsa-2048"):
        CertificateAuthority.create(tmp_path / "ca", key_type="rsa-1024")
    with pytest.raises(ValueError, match="a CA without RA needs one"):
        CertificateAuthority.create(tmp_path / "ca", topology="ca", key_type="ec-p256")
    with pytest.raises(FileNotFoundError, match=r"no ca\.pem"):
        CertificateAuthority.load(tmp_path / "ca")


def test_interrupted_creation_goes_on_with_its_keys(tmp_path: Path, monkeypatch: Any) -> None:
    from pyscep.ca import directory

    def crash(*_: Any, **__: Any) -> None:
        raise OSError("power")

    monkeypatch.setattr(directory.creation, "make_ra", crash)
    with pytest.raises(OSError, match="power"):
        CertificateAuthority.create(tmp_path / "ca", key_type="rsa-2048")
    before = (tmp_path / "ca" / "ca.key").read_bytes()
    with pytest.raises(FileNotFoundError):
        CertificateAuthority.load(tmp_path / "ca")
    monkeypatch.undo()
    with CertificateAuthority.load_or_create(tmp_path / "ca", key_type="rsa-2048") as ca:
        enrolls(ca)
    assert (tmp_path / "ca" / "ca.key").read_bytes() == before


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        CertificateAuthority.create(tmp_path / name, common_name=name, key_type="rsa-2048").close()
    for suffix in ("pem", "key"):
        (tmp_path / "two" / f"ra.{suffix}").replace(tmp_path / "one" / f"ra.{suffix}")
    with pytest.raises(KeyFileError, match="not issued by the CA"):
        CertificateAuthority.load(tmp_path / "one")
    (tmp_path / "three").mkdir()
    ed = pem(keys.ed_key("x"))
    write_private(tmp_path / "three" / "ca.key", ed)
    with pytest.raises(KeyFileError, match="neither RSA nor EC"):
        CertificateAuthority.create(tmp_path / "three")


def create_in_another_process(place: str, barrier: Any, results: Any) -> None:
    barrier.wait(60)
    with CertificateAuthority.load_or_create(place, key_type="rsa-2048") as ca:
        results.put((ca.fingerprint, enrolls(ca).issuer == ca.issuer.certificate.subject))


@pytest.mark.slow
def test_two_processes_make_one_ca(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(
            target=create_in_another_process, args=(str(tmp_path / "ca"), barrier, results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(set(answers)) == 1
    with CertificateAuthority.load(tmp_path / "ca") as ca:
        assert answers[0] == (ca.fingerprint, True)
        assert len(ca.certificates()) == 3


def test_second_to_link_uses_what_is_there(tmp_path: Path, monkeypatch: Any) -> None:
    """Both saw an empty directory; one was faster, with the key and with the CA."""
    from pyscep.ca import directory

    place = tmp_path / "ca"
    make_ca = directory.creation.make_ca
    generate = directory.creation.generate_key
    faster: list[CertificateAuthority] = []

    def overtaken(key_type: str) -> Any:
        key = generate(key_type)
        if not (place / "ca.key").exists():
            write_private(place / "ca.key", pem(keys.rsa_key("faster")))
        return key

    def overtaken_again(*arguments: Any, **more: Any) -> x509.Certificate:
        if not faster:
            monkeypatch.setattr(directory.creation, "make_ca", make_ca)
            faster.append(CertificateAuthority.create(place))
        return make_ca(*arguments, **more)

    monkeypatch.setattr(directory.creation, "generate_key", overtaken)
    monkeypatch.setattr(directory.creation, "make_ca", overtaken_again)
    with CertificateAuthority.load_or_create(place, key_type="rsa-2048") as ca:
        assert ca.fingerprint == faster[0].fingerprint
        assert keys.spki(ca.issuer.certificate.public_key()) == keys.spki(keys.rsa_key("faster"))
        enrolls(ca)
    faster[0].close()
