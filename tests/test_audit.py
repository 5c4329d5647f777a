"""The audit table: every decision once, in the transaction of the decision, for ever."""

from __future__ import annotations

import logging
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import pyscep
from pyscep.ca import Profile, Store, audit
from pyscep.ca.audit import Decision
from tests import forge_keys as keys
from tests.ca_setting import START, Setting


def entries(setting: Setting) -> list[Decision]:
    """Oldest first."""
    with setting.ca.store.read() as connection:
        return list(reversed(audit.entries(connection)))


def verdicts(setting: Setting) -> list[tuple[str, str, str]]:
    return [(one.who, one.action, one.decision) for one in entries(setting)]


def test_what_is_entered(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    heard: list[Decision] = []
    setting.ca.store.on_decision = heard.append
    word = setting.ca.new_challenge()
    with pytest.raises(pyscep.EnrollmentRefused):
        setting.enroll("wrong")
    identity = setting.identity(word, transaction_id="first")
    setting.certificate(word)  # asked again: decided already
    setting.renew(identity)
    setting.ca.revoke(identity.certificate.serial_number, "keyCompromise")
    setting.ca.revoke(identity.certificate.serial_number, "keyCompromise")
    assert verdicts(setting) == [
        ("unknown", "enroll", "refused"),
        ("unknown", "enroll", "granted"),
        ("unknown", "renew", "granted"),
        ("operator", "revoke", "revoked"),
    ]
    refused, granted, renewed, revoked = entries(setting)
    assert refused.reason == "unknown one-time challenge"
    assert refused.serial is None
    assert granted.at == START
    assert granted.serial == f"{identity.certificate.serial_number:x}"
    assert (granted.transaction_id, granted.endpoint) == ("first", "default")
    assert granted.credential == f"once:{word.partition('-')[0]}"
    assert granted.subject == "CN=device,O=Lab"
    assert renewed.credential is not None
    assert renewed.credential.startswith("cert:")
    assert (revoked.serial, revoked.reason) == (granted.serial, "keyCompromise")
    assert heard == entries(setting), "the hook hears what is committed, once"
    assert word.partition("-")[2] not in repr(entries(setting))


def test_people_decide(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s", profiles=Profile(approval="manual"))
    setting.enroll("s", transaction_id="a")
    setting.enroll("s", transaction_id="b", key=keys.rsa_key("other"))
    first, second = setting.ca.pending()
    certificate = setting.ca.approve(first.id)
    setting.ca.deny(second.id, "nobody knows it")
    assert verdicts(setting)[2:] == [
        ("operator", "approve", "approved"), ("operator", "deny", "denied")]
    approved, denied = entries(setting)[2:]
    assert approved.serial == f"{certificate.serial_number:x}"
    assert (approved.transaction_id, denied.transaction_id) == ("a", "b")
    assert (denied.reason, denied.serial) == ("nobody knows it", None)


def test_source_is_who(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    server = setting.ca.server()

    def send(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
        from dataclasses import replace

        return server.handle(replace(request, peer="192.0.2.7"), setting.ca)

    key = keys.rsa_key("client")
    pyscep.run(setting.client.enroll(key, setting.request("s", key=key)), send)
    assert entries(setting)[0].who == "192.0.2.7"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'somebody else'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit (id, at, who, action, decision) VALUES (1, 0, 'x', 'y', 'z')",
        "REPLACE INTO audit (id, at, who, action, decision) VALUES (1, 0, 'x', 'y', 'z')",
    ],
)
def test_nothing_is_changed_or_deleted(tmp_path: Path, statement: str) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    setting.certificate("s")
    before = setting.sql("SELECT * FROM audit")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        setting.sql(statement)
    assert setting.sql("SELECT * FROM audit") == before


def test_no_decision_without_its_entry(tmp_path: Path) -> None:
    """If the entry can't be made, nothing is issued and no challenge is spent."""
    setting = Setting(tmp_path)
    word = setting.ca.new_challenge()
    setting.sql("CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'x'); END")
    with pytest.raises(pyscep.TransportError) as caught:
        setting.enroll(word)
    assert caught.value.status == 503
    assert setting.serials == []
    assert setting.sql("SELECT count(*) FROM challenges WHERE spent_at IS NOT NULL") == [(0,)]
    setting.sql("DROP TRIGGER broken")
    assert setting.certificate(word)


def test_refusals_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "REFUSALS_PER_HOUR", 3)
    setting = Setting(tmp_path, static_challenge="s")

    def refuse() -> None:
        with pytest.raises(pyscep.EnrollmentRefused):
            setting.enroll("wrong")

    for _ in range(5):
        refuse()
    reasons = [one.reason or "" for one in entries(setting)]
    assert len(reasons) == 3
    assert "the last refusal that this hour has room for" in reasons[2]
    setting.certificate("s")
    setting.clock.pass_by(hours=1, seconds=1)
    refuse()
    assert [one.decision for one in entries(setting)] == ["refused"] * 3 + ["granted", "refused"]


def test_a_store_of_the_first_version_gets_the_table(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    for statement in ("DROP TABLE audit", "SELECT 1"):
        setting.sql(statement)
    setting.ca = setting.reopen()
    setting.certificate("s")
    assert len(entries(setting)) == 1
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        setting.sql("DELETE FROM audit")


def test_what_is_rolled_back_is_not_told(tmp_path: Path) -> None:
    heard: list[Any] = []
    store = Store(f"sqlite:///{tmp_path / 'a.db'}", on_decision=heard.append)

    def work(connection: Any) -> None:
        audit.enter(connection, at=START, who="x", action="revoke", decision="revoked")
        if len(tried) < 1:
            tried.append(1)
            raise RuntimeError

    tried: list[int] = []
    with pytest.raises(RuntimeError):
        store.write(work)
    assert heard == []
    store.write(work)
    assert [one.at for one in heard] == [START]
    store.write(lambda connection: None)
    assert len(heard) == 1
    with store.read() as connection:
        assert audit.entries(connection) == tuple(heard)
    store.close()


# --- when the database can't be written ------------------------------------------------


def _refused_with_503(setting: Setting, word: str) -> None:
    with pytest.raises(pyscep.TransportError) as caught:
        setting.enroll(word)
    assert caught.value.status == 503


def _limit_pages(setting: Setting, pages: int | None) -> None:
    """Make the disk full for every connection of the CA, or not."""
    store = setting.ca.store
    found = setting.sql("PRAGMA page_count")[0][0]
    store.close()
    from sqlalchemy import event

    @event.listens_for(store.engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        limit = found + pages if pages is not None else 1_073_741_823
        connection.execute(f"PRAGMA max_page_count = {limit}")


def test_full_database(tmp_path: Path) -> None:
    """Nothing is issued while it is full; it recovers by itself."""
    setting = Setting(tmp_path)
    words = [setting.ca.new_challenge() for _ in range(8)]
    _limit_pages(setting, 0)
    issued = len(setting.serials)
    for word in words:
        try:
            setting.certificate(word)
            issued += 1  # the last page may have had room
        except pyscep.TransportError as error:
            assert error.status == 503
    assert issued < len(words), "the database was full"
    spent = setting.sql("SELECT count(*) FROM challenges WHERE spent_at IS NOT NULL")[0][0]
    assert spent == len(setting.serials), "a challenge is spent with a certificate or not at all"
    _limit_pages(setting, None)
    serials = {setting.certificate(word).serial_number for word in words}
    assert len(serials) == len(setting.serials) == len(words)
    assert setting.sql("PRAGMA integrity_check") == [("ok",)]


def test_locked_database(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.ca.close()
    setting.ca = pyscep.ca.CertificateAuthority(
        store=Store(setting.url, busy_timeout=0.05), issuer=setting.settings["issuer"],
        now=setting.clock)
    word = setting.ca.new_challenge()
    other = sqlite3.connect(setting.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _refused_with_503(setting, word)
    other.execute("ROLLBACK")
    other.close()
    assert setting.certificate(word)
    assert len(setting.serials) == 1


def test_database_that_is_moved_away_and_back(tmp_path: Path) -> None:
    """SQLite would go on writing into the file that nobody will find again."""
    setting = Setting(tmp_path)
    word, second = setting.ca.new_challenge(), setting.ca.new_challenge()
    certificate = setting.certificate(word)
    away = tmp_path / "away.db"
    setting.database.rename(away)
    _refused_with_503(setting, second)
    away.rename(setting.database)
    assert setting.certificate(word) == certificate
    assert setting.certificate(second) != certificate
    assert len(setting.serials) == 2


def test_database_that_was_replaced(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    word = setting.ca.new_challenge()
    setting.database.rename(tmp_path / "old.db")
    sqlite3.connect(setting.database).close()
    _refused_with_503(setting, word)


def test_read_only_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting(tmp_path)
    word = setting.ca.new_challenge()
    store = setting.ca.store
    from sqlalchemy import event

    store.close()
    switch = ["ON"]

    @event.listens_for(store.engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA query_only = {switch[0]}")

    with caplog.at_level(logging.ERROR):
        _refused_with_503(setting, word)
    assert setting.serials == []
    switch[0] = "OFF"
    store.close()
    assert setting.certificate(word)


def test_databases_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="SQLite or PostgreSQL"):
        Store("mysql://db.test/scep")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match="psycopg 3"):
        Store("postgresql://db.test/scep")


def test_values_of_rows_are_not_in_errors(tmp_path: Path) -> None:
    """What an error of the database says goes to logs: no names, no hashes."""
    setting = Setting(tmp_path)
    word = setting.ca.new_challenge()
    setting.sql("CREATE TRIGGER b BEFORE INSERT ON attempts BEGIN SELECT RAISE(FAIL, 'x'); END")
    with pytest.raises(pyscep.TransportError):
        setting.enroll(word, subject="CN=private-name,O=Lab")
    error = setting.events[-1].error
    assert "private-name" not in str(error)


def test_revoked_in_time(tmp_path: Path) -> None:
    """An entry has the time of the CA's clock, not of the database's."""
    setting = Setting(tmp_path, static_challenge="s")
    setting.clock.pass_by(days=3)
    setting.certificate("s")
    assert entries(setting)[0].at == START + timedelta(days=3)
