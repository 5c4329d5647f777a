"""The store on PostgreSQL: the cases of SQLite, two processes over one database, kills, outages.

Debian's postgresql, started by the tests; without it they are skipped, or fail where
PYSCEP_REQUIRE_PEERS=1 says that it must be there.
"""

from __future__ import annotations

import inspect
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyscep
from pyscep.ca import CertificateAuthority, Store, failpoints
from pyscep.ca.store import CONFLICTS
from tests import forge_keys as keys
from tests import postgresql, test_ca_enrollment, test_ca_renewal, test_ca_store
from tests.ca_setting import Setting, ask
from tests.crash_lab import lab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ONLY_SQLITE = {
    "test_refusals_are_kept_but_not_for_ever": "sets SQLite's own counter of rows",
    "test_settings_that_contradict": "never gets as far as the database, and leaves it open",
    "test_x05_challenges_stay_out_of_sight": "searches the database's file",
    "test_tables_of_another_version": "writes bytes as SQLite spells them",
    "test_approval_after_the_record_was_lost": "deletes what PostgreSQL's foreign keys protect",
}


class SettingAt(Setting):
    """A Setting on a database that is there."""

    def __init__(self, url: str, path: Path) -> None:
        type(self).new_database = lambda: url
        super().__init__(path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgresql.Cluster]:
    postgresql.require()
    with postgresql.cluster(fsync=False) as one:
        yield one


@pytest.fixture(scope="module")
def durable() -> Iterator[postgresql.Cluster]:
    """One that writes as it does in production."""
    postgresql.require()
    with postgresql.cluster() as one:
        yield one


@pytest.fixture
def on_postgresql(
    cluster: postgresql.Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Every Setting has a PostgreSQL database; its connections are closed afterwards."""
    opened: list[CertificateAuthority] = []
    reopen = Setting.reopen

    def remember(setting: Setting, **settings: Any) -> CertificateAuthority:
        opened.append(reopen(setting, **settings))
        return opened[-1]

    monkeypatch.setattr(Setting, "new_database", cluster.new_database)
    monkeypatch.setattr(Setting, "reopen", remember)
    yield
    for ca in opened:
        ca.close()


def _cases() -> Iterator[Any]:
    for module in (test_ca_enrollment, test_ca_renewal, test_ca_store):
        for name, case in vars(module).items():
            if not name.startswith("test_") or name in ONLY_SQLITE:
                continue
            wanted = set(inspect.signature(case).parameters)
            uses_setting = "setting" in wanted or "Setting(" in inspect.getsource(case)
            if uses_setting and wanted <= {"setting", "tmp_path", "monkeypatch", "caplog"}:
                yield pytest.param(case, id=name.removeprefix("test_"))


@pytest.mark.parametrize("case", tuple(_cases()))
@pytest.mark.usefixtures("on_postgresql")
def test_as_on_sqlite(
    case: Callable[..., None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings: dict[str, Any] = {}
    for name in inspect.signature(case).parameters:
        if name == "setting":
            settings[name] = Setting(tmp_path, static_challenge="static-secret")
        else:
            settings[name] = request.getfixturevalue(name)
    case(**settings)


# --- two processes ---------------------------------------------------------------------


def _work(url: str, words: list[str], results: Any) -> None:
    """One server process under load: four threads, each with all the requests."""
    setting = SettingAt(url, Path("/nonexistent"))
    answers: list[tuple[int, str, int | str]] = []

    def ask(offset: int) -> None:
        for position in range(len(words)):
            number = (position + offset) % len(words)
            for name in ("one", "two"):
                answers.append((number, name, _serial(setting, words[number], name)))

    threads = [threading.Thread(target=ask, args=(offset * 7,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    setting.ca.close()
    results.put(answers)


def _serial(setting: Setting, word: str, name: str) -> int | str:
    """The serial number for a request, repeated while the CA is busy; or "refused"."""
    while True:
        try:
            return setting.certificate(word, key=keys.rsa_key(name)).serial_number
        except pyscep.EnrollmentRefused:
            return "refused"
        except pyscep.TransportError as error:
            assert error.status == 503


@pytest.mark.slow
@pytest.mark.rule("S11")
def test_s11_s16_two_processes_over_one_database_under_load(
    durable: postgresql.Cluster, tmp_path: Path
) -> None:
    """Each challenge is raced by two keys, each request by eight threads of two processes."""
    setting = SettingAt(durable.new_database(), tmp_path)
    words = [setting.ca.new_challenge() for _ in range(12)]
    for name in ("one", "two"):
        keys.rsa_key(name)  # made once, inherited by both
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    setting.ca.close()
    processes = [
        context.Process(target=_work, args=(setting.url, words, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    answers = [answer for _ in processes for answer in results.get(timeout=120)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(answers) == 2 * 4 * 2 * len(words)
    for number in range(len(words)):
        got = {name: {serial for n, one, serial in answers if (n, one) == (number, name)}
               for name in ("one", "two")}
        assert all(len(serials) == 1 for serials in got.values()), "one answer for one request"
        kinds = Counter(isinstance(serials.pop(), int) for serials in got.values())
        assert kinds == {True: 1, False: 1}, "one key has the challenge, the other has not"
    assert setting.sql("SELECT count(*), count(DISTINCT serial) FROM certificates") == [
        (len(words), len(words))]


@pytest.mark.usefixtures("on_postgresql")
def test_tables_are_made_by_two_at_once(cluster: postgresql.Cluster) -> None:
    url = cluster.new_database()
    stores: list[Store] = []
    threads = [threading.Thread(target=lambda: stores.append(Store(url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 6
    assert len({store.secret("one") for store in stores}) == 1
    for store in stores:
        store.close()


def test_tables_are_upgraded_by_several_at_once(cluster: postgresql.Cluster) -> None:
    """Servers that start together on a store of the version before."""
    url = cluster.new_database()
    Store(url).close()
    cluster.sql("ALTER TABLE attempts DROP COLUMN issuer_id, DROP COLUMN wishes", url)
    cluster.sql("UPDATE secrets SET value = '1' WHERE name = 'schema_version'", url)
    barrier = threading.Barrier(6)
    opened: list[Store] = []

    def start() -> None:
        barrier.wait(60)
        opened.append(Store(url))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in opened:
        store.close()
    assert len(opened) == 6
    (version,) = cluster.sql("SELECT value FROM secrets WHERE name = 'schema_version'", url)
    assert bytes(version[0]) == b"2"


@pytest.mark.usefixtures("on_postgresql")
def test_two_writers_of_one_row_both_write(cluster: postgresql.Cluster) -> None:
    """REPEATABLE READ refuses the second one (40001), and the store runs it again."""
    url = cluster.new_database()
    stores = [Store(url), Store(url)]
    stores[0].secret("counter", 1)
    stores[0].write(lambda c: c.exec_driver_sql("UPDATE secrets SET value = ''"))
    tries: list[int] = []

    def append(store: Store) -> None:
        def work(connection: Any) -> None:
            tries.append(1)
            query = "SELECT value FROM secrets WHERE name = 'counter'"
            value = bytes(connection.exec_driver_sql(query).scalar())
            connection.exec_driver_sql(
                "UPDATE secrets SET value = %s WHERE name = 'counter'", (value + b"x",))

        for _ in range(10):
            while True:
                try:
                    store.write(work)
                    break
                except Exception as error:
                    assert getattr(error, "orig", None).sqlstate == "40001"  # type: ignore[union-attr] # asserts

    threads = [threading.Thread(target=append, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].secret("counter") == b"x" * 40
    assert CONFLICTS > 1
    for store in stores:
        store.close()


# --- kills and outages -----------------------------------------------------------------

KILLED_AT = (
    "enter.begin", "enter.commit", "enter.done", "sign.before", "sign.after",
    "signed.commit", "signed.done", "notified.commit", "approve.commit", "revoke.done",
)


@pytest.mark.slow
def test_killed_on_postgresql(
    durable: postgresql.Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(KILLED_AT) <= set(failpoints.POINTS)
    with lab(durable.new_database(), tmp_path) as one:
        one.kill(len(KILLED_AT), KILLED_AT)
        one.verify()
        assert set(one.kills) >= set(KILLED_AT)
        with capsys.disabled():
            print(f"\nPostgreSQL: {one.report()}")


@pytest.mark.slow
def test_database_that_goes_away_and_comes_back(
    durable: postgresql.Cluster, tmp_path: Path
) -> None:
    """503 while it is away, the same certificate before and after, and no restart of ours."""
    setting = SettingAt(durable.new_database(), tmp_path)
    first, second = setting.ca.new_challenge(), setting.ca.new_challenge()
    before = setting.certificate(first)
    durable.stop()
    try:
        for word in (first, second):
            with pytest.raises(pyscep.TransportError) as caught:
                setting.enroll(word)
            assert caught.value.status == 503
    finally:
        durable.start()
    for _ in range(30):  # each connection of the pool may find out for itself
        try:
            assert setting.certificate(first) == before
            break
        except pyscep.TransportError:
            continue
    assert setting.certificate(second, key=keys.rsa_key("other")) != before
    assert setting.sql("SELECT count(*) FROM certificates") == [(2,)]
    setting.ca.close()


@pytest.mark.usefixtures("on_postgresql")
def test_text_that_postgresql_can_not_store(tmp_path: Path) -> None:
    """A transactionID with NUL in it, which PostgreSQL's text can't have, is no outage."""
    setting = Setting(tmp_path, static_challenge="s")
    message = pyscep.PKCSReq(csr=setting.request("s"))
    outcome = setting.ca(ask(message, "a\0b\\0"))
    assert isinstance(outcome, pyscep.Success)
    assert setting.ca(ask(message, "a\0b\\0")) == outcome
    wrong = pyscep.PKCSReq(csr=setting.request("x"))
    assert isinstance(setting.ca(ask(wrong, "\0")), pyscep.Failure)


def test_audit_is_append_only_on_postgresql(cluster: postgresql.Cluster, tmp_path: Path) -> None:
    import psycopg

    url = cluster.new_database()
    Store(url).close()
    cluster.sql(
        "INSERT INTO audit (at, who, action, decision) VALUES (now(), 'x', 'enroll', 'granted')",
        url,
    )
    for statement in (
        "UPDATE audit SET who = 'somebody else'", "DELETE FROM audit", "TRUNCATE audit",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            cluster.sql(statement, url)
    assert cluster.sql("SELECT who FROM audit", url) == [("x",)]
