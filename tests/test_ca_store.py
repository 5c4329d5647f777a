"""Durability: write before sign, commit before answer, and two processes on one store.

What the database holds is asked with sqlite3 itself.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import multiprocessing
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.schema import CreateTable

import pyscep
from pyscep.ca import (
    CertificateAuthority,
    Granted,
    Issuer,
    IssuerError,
    Notification,
    Profile,
    Refused,
    Store,
    creation,
    schema,
)
from pyscep.ca.challenge import FirstOf, StaticChallenge
from pyscep.ca.schema import WireText
from tests import forge_keys as keys
from tests.ca_setting import START, Clock, Setting, ca_identity, openssl, write_pem


class Crash(Exception):
    """The process ends here."""


class FailingKey:
    """The CA's key, which fails as often as it is told to before it signs."""

    def __init__(self, key: Any, failures: int) -> None:
        self._key = key
        self.failures = failures
        self.signatures = 0

    def sign(self, *arguments: Any) -> bytes:
        if self.failures:
            self.failures -= 1
            raise Crash
        self.signatures += 1
        return bytes(self._key.sign(*arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._key, name)


rsa.RSAPrivateKey.register(FailingKey)


def identity_of(key: Any) -> pyscep.Identity:
    return pyscep.Identity(ca_identity().certificate, key)


# --- crashes ---------------------------------------------------------------------------


def test_crash_between_write_and_sign_is_finished_by_the_retry(tmp_path: Path) -> None:
    key = FailingKey(ca_identity().private_key, failures=1)
    setting = Setting(tmp_path, issuer=identity_of(key))
    word = setting.ca.new_challenge()
    with pytest.raises(pyscep.TransportError) as caught:
        setting.enroll(word)
    assert caught.value.status == 503, "devices give up on FAILURE"
    ((serial, state, tbs, stored),) = setting.sql(
        "SELECT serial, state, tbs, certificate FROM certificates")
    assert (state, stored) == ("signing", None)
    assert setting.sql("SELECT spent_at IS NOT NULL FROM challenges") == [(1,)]
    certificate = setting.certificate(word)
    assert f"{certificate.serial_number:x}" == serial
    assert certificate.tbs_certificate_bytes == tbs
    assert setting.serials == [serial]


def test_crash_between_write_and_sign_is_finished_at_start(tmp_path: Path) -> None:
    key = FailingKey(ca_identity().private_key, failures=1)
    setting = Setting(tmp_path, issuer=identity_of(key))
    word = setting.ca.new_challenge()
    with pytest.raises(pyscep.TransportError):
        setting.enroll(word)
    setting.ca = setting.reopen()
    ((state, stored),) = setting.sql("SELECT state, certificate FROM certificates")
    assert state == "issued"
    assert setting.certificate(word).public_bytes(Encoding.DER) == stored
    assert key.signatures == 2, "the certificate once, and the CertRep"


def test_crash_before_the_certificate_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, and lost: RSA makes the same certificate once more, octet by octet."""
    from pyscep.ca import registrar

    signed: list[bytes] = []
    set_signed = registrar.ledger.set_signed

    def lose(connection: Any, number: int, der: bytes, now: Any) -> bool:
        signed.append(der)
        if len(signed) == 1:
            raise Crash
        return set_signed(connection, number, der, now)

    monkeypatch.setattr(registrar.ledger, "set_signed", lose)
    setting = Setting(tmp_path, static_challenge="s")
    with pytest.raises(pyscep.TransportError):
        setting.enroll("s")
    certificate = setting.certificate("s")
    assert signed[0] == signed[1] == certificate.public_bytes(Encoding.DER)


def test_commit_comes_before_the_answer(tmp_path: Path, monkeypatch: Any) -> None:
    """Another connection sees the certificate before the server gets it."""
    setting = Setting(tmp_path, static_challenge="s")
    seen: list[Any] = []

    def watching(request: Any) -> Any:
        outcome = setting.ca(request)
        seen.extend(setting.sql("SELECT state, certificate FROM certificates"))
        return outcome

    certificate = setting.certificate("s", ca=watching)
    assert seen == [("issued", certificate.public_bytes(Encoding.DER))]


def test_row_is_committed_before_the_key_is_used(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    seen: list[Any] = []

    class Watching(FailingKey):
        def sign(self, *arguments: Any) -> bytes:
            if len(arguments[0]) > 300:  # certificates; a CertRep's attributes are shorter
                seen.extend(setting.sql("SELECT state FROM certificates"))
            return super().sign(*arguments)

    rsa.RSAPrivateKey.register(Watching)
    key = Watching(ca_identity().private_key, failures=0)
    setting.ca = setting.reopen(issuer=identity_of(key))
    setting.certificate("s")
    assert seen[0] == ("signing",)


def test_two_that_finish_one_row_get_the_same(tmp_path: Path) -> None:
    """ECDSA signatures differ each time: what is handed out is what was stored first."""
    setting = Setting(tmp_path, static_challenge="s", **ec_ca())
    ca = setting.ca
    entered: list[Any] = []
    finish = ca._registrar.finish

    def twice(record: Any, now: Any) -> Any:
        entered.extend((finish(record, now), finish(record, now)))
        return entered[1]

    ca._registrar.finish = twice  # type: ignore[method-assign]  # two processes in one
    setting.certificate("s")
    assert entered[0].der == entered[1].der
    assert entered[1].state == "issued"


def ec_ca() -> dict[str, Any]:
    """Settings for a CA with an EC key and an RA."""
    key = creation.generate_key("ec-p384")
    certificate = creation.make_ca(
        key, common_name="EC CA", organization=None, validity=timedelta(days=900), now=START,
        serial_number=1, decrypts=False)
    ca = pyscep.Identity(certificate, key)
    ra_key = keys.rsa_key("ra")
    ra = creation.make_ra(
        ra_key, ca, usages=("digitalSignature", "keyEncipherment"), now=START, serial_number=2)
    issuer = Issuer(ca, digest="sha384", crl_urls=["http://crl.test/a"],
                    issuer_urls=["http://ca.test/ca"])
    return {"issuer": issuer, "recipient": pyscep.Identity(ra, ra_key)}


def test_ec_ca(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", **ec_ca())
    identity = setting.identity("s")
    root = write_pem(tmp_path / "root.pem", setting.ca.ca_certificates)
    leaf = write_pem(tmp_path / "leaf.pem", [identity.certificate])
    at = ("-attime", str(int(setting.clock().timestamp())))
    openssl("verify", *at, "-x509_strict", "-CAfile", root, leaf)
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert "ecdsa-with-SHA384" in text
    assert "URI:http://crl.test/a" in text
    assert "CA Issuers - URI:http://ca.test/ca" in text
    crl = pyscep.run(setting.client.get_crl(identity), setting.send)
    openssl("crl", "-inform", "DER", "-noout", "-CAfile", root, data=crl)


def test_signed_certificate_must_be_the_stored_one(tmp_path: Path) -> None:
    """Boulder's rule; what is no TBSCertificate is not signed into a certificate."""
    issuer = Issuer(ca_identity())
    with pytest.raises(ValueError, match="error|parse|invalid"):
        issuer.sign(b"\x30\x00")
    setting = Setting(tmp_path, static_challenge="s")
    setting.certificate("s")
    ((tbs,),) = setting.sql("SELECT tbs FROM certificates")

    class Other:
        tbs_certificate_bytes = b"something else"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cryptography.x509.load_der_x509_certificate", lambda _: Other)
        with pytest.raises(IssuerError, match="differs"):
            issuer.sign(tbs)


def test_expired_ca_is_a_fault_of_ours(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    setting.clock.pass_by(days=4000)
    client = pyscep.Client(
        "http://ca.test/scep", ca_certificates=setting.ca.ca_certificates, now=lambda: START)
    key = keys.rsa_key("client")
    with pytest.raises(pyscep.TransportError) as caught:
        pyscep.run(client.enroll(key, setting.request("s")), setting.send)
    assert caught.value.status == 503
    assert isinstance(setting.events[-1].error, IssuerError)


def test_certificates_end_with_their_ca(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(
        validity=timedelta(days=9999), backdate=timedelta(days=9999)))
    certificate = setting.certificate("s")
    ca = ca_identity().certificate
    assert certificate.not_valid_after_utc == ca.not_valid_after_utc
    assert certificate.not_valid_before_utc == ca.not_valid_before_utc


def test_serial_conflict_draws_again(tmp_path: Path) -> None:
    drawn = [b"\x11" * 20, b"\x11" * 20, b"\x22" * 20]
    setting = Setting(
        tmp_path, challenge=StaticChallenge("s"), token_bytes=lambda size: drawn.pop(0))
    send = setting.ca.server(token_bytes=bytes)

    def enroll(name: str) -> Any:
        key = keys.rsa_key(name)
        flow = setting.client.enroll(key, setting.request("s", key=key))
        return pyscep.run(flow, lambda request: send.handle(request, setting.ca))

    enroll("client")
    enroll("other")
    assert setting.serials == ["51" + "11" * 19, "62" + "22" * 19]
    assert drawn == []


# --- two processes ---------------------------------------------------------------------


def enroll_in_another_process(
    directory: str, key_der: bytes, word: str, barrier: Any, results: Any
) -> None:
    """One server process: opens the CA, waits for the others, enrolls."""
    key = load_der_private_key(key_der, None)
    with CertificateAuthority.load(directory) as ca:
        server = ca.server()
        client = pyscep.Client("http://ca.test/scep", ca_fingerprint=ca.fingerprint)
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=word)
        barrier.wait(60)
        try:
            outcome = pyscep.run(client.enroll(key, csr), lambda r: server.handle(r, ca))
            results.put(outcome.certificates[0].serial_number)
        except pyscep.ScepError as error:
            results.put(str(error))


def race(directory: Path, word: str, key_names: list[str]) -> list[Any]:
    """What several processes get that start at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(key_names)), context.Queue()
    processes = [
        context.Process(
            target=enroll_in_another_process,
            args=(str(directory), private_der(name), word, barrier, results),
        )
        for name in key_names
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return answers


def private_der(name: str) -> bytes:
    return keys.rsa_key(name).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.slow
@pytest.mark.rule("S11")
def test_s11_two_processes_issue_once_for_one_request(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "ca", key_type="rsa-2048") as ca:
        word = ca.new_challenge()
        serials = race(tmp_path / "ca", word, ["client", "client"])
        assert len(set(serials)) == 1
        assert [one.serial_number for one in ca.certificates()] == [serials[0]]


@pytest.mark.slow
@pytest.mark.rule("S16")
def test_s16_two_processes_and_one_challenge(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "ca", key_type="rsa-2048") as ca:
        word = ca.new_challenge()
        answers = race(tmp_path / "ca", word, ["client", "other"])
        assert sum(isinstance(one, int) for one in answers) == 1
        assert "the CA refused: badRequest" in answers
        assert len(ca.certificates()) == 1


# --- providers that are told -----------------------------------------------------------


class Service:
    """A provider elsewhere, such as Intune: it wants to know, and may be unreachable."""

    scheme = "service"
    notifies = True

    def __init__(self) -> None:
        self.told: list[Notification] = []
        self.unreachable = False

    def generate(self, **_: Any) -> str:
        return "word"

    def verify(self, request: Any) -> Granted | Refused:
        if request.password == "word":
            return Granted(credential="service:1")
        return Refused(reason="no")

    def notify(self, notification: Notification) -> None:
        if self.unreachable:
            raise ConnectionError("unreachable")
        self.told.append(notification)


def test_certificate_is_released_when_the_service_knows(tmp_path: Path) -> None:
    service = Service()
    setting = Setting(tmp_path, challenge=FirstOf(StaticChallenge("s"), service))
    service.unreachable = True
    with pytest.raises(pyscep.TransportError):
        setting.enroll("word")
    assert setting.sql("SELECT state, notified FROM certificates") == [("issued", 0)]
    service.unreachable = False
    certificate = setting.certificate("word")
    assert [(one.outcome, one.certificate) for one in service.told] == [("issued", certificate)]
    assert setting.certificate("word") == certificate
    assert len(service.told) == 1, "once"
    assert len(setting.serials) == 1
    setting.certificate("s", key=keys.rsa_key("other"))
    setting.renew(pyscep.Identity(certificate, keys.rsa_key("client")))
    assert len(service.told) == 1, "not its challenges"
    assert setting.ca.new_challenge() == "s"


def test_service_is_told_of_refusals_and_denials(tmp_path: Path) -> None:
    service = Service()
    setting = Setting(
        tmp_path, challenge=service, profiles=Profile(rsa_bits=(3072, 4096)))
    setting.refuses(lambda: setting.enroll("word"), "2048 bits")
    manual = setting.reopen(profiles=Profile(approval="manual"))
    setting.enroll("word", ca=manual)
    manual.deny(manual.pending()[0].id, "no")
    setting.refuses(lambda: setting.enroll("word", ca=manual), "denied")
    assert [(one.outcome, one.reason) for one in service.told] == [
        ("refused", "RSA key of 2048 bits: 3072 to 4096 are allowed"),
        ("denied", "no"),
        ("refused", "denied: no"),
    ]


# --- the store itself ------------------------------------------------------------------


def test_sqlite_is_durable_and_private(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600
    with store.read() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert told == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_memory_is_no_store(url: str) -> None:
    with pytest.raises(ValueError, match="forgets nothing"):
        Store(url)


def test_sqlite_uri(tmp_path: Path) -> None:
    store = Store(f"sqlite:///file:{tmp_path / 'a.db'}?uri=true")
    assert len(store.secret("a")) == 32
    store.close()


def test_a_store_of_the_version_before(tmp_path: Path) -> None:
    """It lacks two columns, and gets them; a request from before finds its certificate."""
    present = datetime.now(UTC).replace(microsecond=0)
    setting = Setting(tmp_path, clock=Clock(present))
    challenge = setting.ca.new_challenge()
    first = setting.certificate(challenge)
    (key,) = setting.sql("SELECT reserved_by FROM challenges")
    setting.ca.close()
    for column in ("issuer_id", "wishes"):
        setting.sql(f"ALTER TABLE attempts DROP COLUMN {column}")
    digest = hashlib.sha256()
    (parts,) = setting.sql("SELECT endpoint, credential, csr_key FROM attempts")
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part.encode())
    for table, column in (
        ("attempts", "issue_key"),
        ("certificates", "issue_key"),
        ("challenges", "reserved_by"),
    ):
        setting.sql(f"UPDATE {table} SET {column} = ?", digest.hexdigest())  # noqa: S608
    setting.sql("UPDATE secrets SET value = ? WHERE name = 'schema_version'", b"1")

    setting.ca = setting.reopen()
    assert setting.sql("SELECT value FROM secrets WHERE name = 'schema_version'") == [(b"2",)]
    assert setting.sql("SELECT reserved_by FROM challenges") == [key]
    assert setting.certificate(challenge) == first
    setting.certificate(setting.ca.new_challenge(), key=keys.rsa_key("other"))
    assert len(setting.serials) == 2


def test_tables_of_another_version(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.sql("UPDATE secrets SET value = x'3939' WHERE name = 'schema_version'")
    setting.ca.close()
    gc.collect()
    with pytest.raises(ValueError, match="version '99', this program needs 2"):
        setting.reopen()
    assert str(setting.database) not in _open_files(), "what could not be used is closed again"


def _open_files() -> set[str]:
    """What this process has open, where the system tells (Linux)."""
    found = set()
    for descriptor in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.add(str(descriptor.readlink()))
    return found


def test_secret_is_drawn_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    assert Store(url).secret("x") == Store(url).secret("x") != Store(url).secret("y")


def test_write_gives_up_on_a_lasting_conflict(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    tries: list[int] = []

    def twice(connection: Any) -> None:
        tries.append(1)
        connection.execute(insert(schema.secrets).values(name="schema_version", value=b""))

    with pytest.raises(IntegrityError):
        store.write(twice)
    assert len(tries) == 5


def test_write_repeats_after_a_serialization_failure(tmp_path: Path) -> None:
    """PostgreSQL's 40001; other errors are not repeated."""
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")

    class Postgres(Exception):
        sqlstate = "40001"

    failures: list[BaseException] = [Postgres("could not serialize")]

    def work(_: Any) -> str:
        if failures:
            raise DBAPIError("COMMIT", None, failures.pop())
        return "done"

    assert store.write(work) == "done"
    failures.append(OSError("disk"))
    with pytest.raises(DBAPIError, match="disk"):
        store.write(work)


def test_locked_database_becomes_503(tmp_path: Path) -> None:
    """DECISIONS 8: never a FAILURE."""
    import sqlite3

    setting = Setting(tmp_path, static_challenge="s")
    url = f"sqlite:///{setting.database}"
    setting.ca = CertificateAuthority(
        store=Store(url, busy_timeout=0.05), issuer=ca_identity(), static_challenge="s",
        now=setting.clock)
    blocker = sqlite3.connect(setting.database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(pyscep.TransportError) as caught:
            setting.enroll("s")
    finally:
        blocker.close()
    assert caught.value.status == 503
    assert isinstance(setting.events[-1].error, OperationalError)
    setting.certificate("s")


def test_tables_are_sql_that_postgresql_has() -> None:
    text = "\n".join(
        str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in schema.metadata.sorted_tables
    )
    assert "TIMESTAMP WITH TIME ZONE" in text
    assert "BIGSERIAL" in text


def test_moments_are_utc_whatever_the_database_says() -> None:
    kind = schema.UtcDateTime()
    sqlite, server = type("D", (), {"name": "sqlite"})(), postgresql.dialect()
    here = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert kind.process_bind_param(here, sqlite) == noon.replace(tzinfo=None)
    assert kind.process_bind_param(here, server) == noon
    assert kind.process_bind_param(None, server) is None
    assert kind.process_result_value(noon.replace(tzinfo=None), sqlite) == noon
    assert kind.process_result_value(here, server) == noon
    assert kind.process_result_value(None, server) is None


def test_other_databases_need_no_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL of PostgreSQL: no file, no pragmas, and no queue of writers."""
    from pyscep.ca import store as module

    asked: list[str] = []

    def create_engine(url: Any, **_: Any) -> Any:
        asked.append(url.get_backend_name())
        return sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'a.db'}")

    monkeypatch.setattr(module, "create_engine", create_engine)
    store = Store("postgresql://ca@db.test/scep")
    assert asked == ["postgresql"]
    assert len(store.secret("a")) == 32
    store.close()


def test_ca_without_key_identifier() -> None:
    """An old root: the identifier is made of its key."""
    key = keys.rsa_key("old root")
    party = keys.party("CN=Old root", key, extensions=(
        keys.basic_constraints(True), keys.key_usage("keyCertSign", "cRLSign")))
    issuer = Issuer(pyscep.Identity(party.certificate, key))
    crl = x509.load_der_x509_crl(issuer.make_crl((), number=1, now=START))
    found = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    expected = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert found.key_identifier == expected.digest
    assert crl.is_signature_valid(key.public_key())


def test_another_issuer_on_the_same_store_issues_anew(tmp_path: Path) -> None:
    """After a change of the CA's key, a certificate of the old key is no answer."""
    setting = Setting(tmp_path, static_challenge="s")
    first = setting.certificate("s")
    setting.ca = setting.reopen(**ec_ca())
    second = setting.certificate("s")
    assert second.issuer != first.issuer


def test_approval_after_the_record_was_lost(tmp_path: Path) -> None:
    """A store that contradicts itself is an error (503), not a refusal."""
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(approval="manual"))
    pending = setting.enroll("s")
    setting.ca.approve(setting.ca.pending()[0].id)
    setting.sql("DELETE FROM certificates")
    with pytest.raises(pyscep.TransportError):
        setting.poll(pending)
    setting.enroll("s", key=keys.rsa_key("other"))
    ec_spki = keys.spki(creation.generate_key("ec-p256"))
    ed_spki = keys.spki(keys.ed_key("x"))
    setting.sql("UPDATE attempts SET spki = ?", ec_spki)
    (attempt,) = setting.ca.pending()
    setting.sql("UPDATE attempts SET spki = ?", ed_spki)
    with pytest.raises(TypeError, match="never accepted"):
        setting.ca.approve(attempt.id)
    setting.sql("UPDATE attempts SET spki = ?", ec_spki)
    approved = setting.ca.approve(attempt.id)
    assert isinstance(approved.public_key(), ec.EllipticCurvePublicKey)
    unsigned = setting.ca.certificates()[0]
    from dataclasses import replace

    with pytest.raises(ValueError, match="not signed yet"):
        _ = replace(unsigned, der=None).certificate


@given(st.text(st.sampled_from("a\\\0\n0") | st.characters(exclude_categories=["Cs"])))
def test_any_text_on_postgresql(text: str) -> None:
    r"""Its text type has no NUL: what is stored has none, and comes back as it was."""
    dialect = postgresql.dialect()
    bound = WireText().process_bind_param(text, dialect)
    assert "\0" not in bound
    assert WireText().process_result_value(bound, dialect) == text
