"""Our server, asked by strongSwan, certmonger and micromdm's client over HTTP.

Each test fills one column of the matrix for every row whose client has the feature. A
certificate counts only if OpenSSL verifies it and it is for the client's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509

from pyscep import Failure, MessageType, Pending, Success

from . import peers
from .certmonger import Certmonger, scep_submit
from .clients import CertmongerClient, PeerClient, ScepClient, StrongSwan
from .realm import CHALLENGE, Realm, Served, realm, serve_asgi, serve_command
from .rows import SERVER_COLUMNS, SERVER_ROWS, Row, having

NO_POST = ("POSTPKIOperation", "SCEPStandard")
PROGRAMS = {
    "strongSwan": StrongSwan.programs,
    "certmonger": CertmongerClient.programs,
    "scepclient": ScepClient.programs,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Opens endpoints and clients for a test, with everything they leave in its directory."""

    home: Path
    stack: ExitStack
    daemon: Callable[[], Certmonger]

    def realm(
        self,
        row: Row,
        *,
        approval: Literal["automatic", "manual"] = "automatic",
        hide: tuple[str, ...] = (),
    ) -> Realm:
        return self.stack.enter_context(
            realm(
                self.home,
                topology=row.topology,
                policy=row.policy,
                approval=approval,
                hide=hide,
            )
        )

    def client(self, row: Row, world: Realm | Served, url: str | None = None) -> PeerClient:
        url = url or (world.url if isinstance(world, Served) else world.front.url)
        home = self.home / "client"
        home.mkdir()
        if row.client == "strongSwan":
            return StrongSwan(url=url, home=home, ca=world.ca, cipher=row.cipher)
        if row.client == "scepclient":
            return ScepClient(url=url, home=home)
        return CertmongerClient(
            url=url,
            home=home,
            daemon=self.daemon(),
            material=world.material,
            nickname=self.home.name,
        )


@contextmanager
def open_lab(home: Path, daemon: Callable[[], Certmonger]) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(home=home, stack=stack, daemon=daemon)


@pytest.fixture
def lab(row: Row, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    peers.require("openssl", *PROGRAMS[row.client])
    with open_lab(tmp_path, lambda: request.getfixturevalue("certmonger_daemon")) as opened:
        yield opened


def rows(column: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", having(column, SERVER_ROWS), ids=lambda row: row.id)


@pytest.mark.cell("POST")
@rows("POST")
def test_enroll_by_post(row: Row, lab: Lab) -> None:
    world = lab.realm(row)
    client = lab.client(row, world)
    world.check(client.enroll(CHALLENGE).issued, client.key)
    assert world.front.transports == {"POST"}


@pytest.mark.cell("GET")
@rows("GET")
def test_enroll_by_get(row: Row, lab: Lab) -> None:
    world = lab.realm(row, hide=NO_POST)
    client = lab.client(row, world)
    world.check(client.enroll(CHALLENGE).issued, client.key)
    assert world.front.transports == {"GET"}


@pytest.mark.cell("wrong, right")
@rows("wrong, right")
def test_wrong_challenge_then_the_right_one(row: Row, lab: Lab) -> None:
    """DECISIONS 2: a refusal closes nothing, the same key and transactionID enroll later."""
    world = lab.realm(row)
    client = lab.client(row, world)
    refused = client.enroll("wrong-horse")
    assert refused.certificate is None, refused.output
    assert refused.code != 0, refused.output
    assert "badRequest" in refused.output or "CA_REJECTED" in refused.output, refused.output
    assert all(isinstance(answer, Failure) for _, answer in world.asked)
    key = client.key
    world.check(client.enroll(CHALLENGE).issued, key)
    first, last = world.asked[0][0], world.asked[-1][0]
    assert first.transaction.transaction_id == last.transaction.transaction_id


def pending(row: Row, lab: Lab) -> None:
    world = lab.realm(row, approval="manual")
    client = lab.client(row, world)
    with ThreadPoolExecutor(1) as pool:
        running: Future[peers.Result] = pool.submit(client.enroll, CHALLENGE, patience=45)
        world.approve()
        result = running.result()
    world.check(result.issued, client.key)
    answers = [type(answer) for _, answer in world.asked]
    assert answers[0] is Pending
    assert answers[-1] is Success
    assert set(answers) == {Pending, Success}


QUICK = [row for row in having("pending", SERVER_ROWS) if row.client != "scepclient"]
SLOW_PROGRAMS = ("openssl", "scepclient")
SLOW = [row for row in having("pending", SERVER_ROWS) if row.client == "scepclient"]


@pytest.mark.cell("pending")
@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.id)
def test_pending_then_approval(row: Row, lab: Lab) -> None:
    pending(row, lab)


@pytest.fixture(scope="module", autouse=True)
def slow_pending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """micromdm's client sleeps 30 s between polls: its rows wait beside the other tests."""
    wanted = {
        item.callspec.params["row"].id: item.callspec.params["row"]
        for item in request.session.items
        if item.get_closest_marker("waits") and hasattr(item, "callspec")
    }
    if peers.missing(*SLOW_PROGRAMS):
        wanted = {}  # the tests themselves say so

    def scenario(row: Row, home: Path) -> None:
        with open_lab(home, _no_daemon) as opened:
            pending(row, opened)

    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        yield {
            name: pool.submit(scenario, row, tmp_path_factory.mktemp("pending"))
            for name, row in wanted.items()
        }


def _no_daemon() -> Certmonger:
    raise AssertionError("only micromdm's client waits in the background")


@pytest.mark.waits
@pytest.mark.cell("pending")
@pytest.mark.parametrize("row", SLOW, ids=lambda row: row.id)
def test_pending_then_approval_slowly(row: Row, slow_pending: dict[str, Future[None]]) -> None:
    peers.require(*SLOW_PROGRAMS)
    slow_pending[row.id].result(timeout=90)


@pytest.mark.cell("renewal")
@rows("renewal")
def test_renewal_with_the_same_key(row: Row, lab: Lab) -> None:
    """Authorized by the old certificate: no challenge that would do is in the request."""
    world = lab.realm(row)
    client = lab.client(row, world)
    first = client.enroll(CHALLENGE).issued
    renewed = client.renew().issued
    assert renewed.serial_number != first.serial_number
    assert renewed.public_key() == first.public_key()
    world.check(renewed, client.key)
    _signed_by(world, first, row)


@pytest.mark.cell("rekey")
@rows("rekey")
def test_rekey(row: Row, lab: Lab) -> None:
    world = lab.realm(row)
    client = lab.client(row, world)
    first = client.enroll(CHALLENGE).issued
    renewed = client.rekey().issued
    assert renewed.public_key() != first.public_key()
    world.check(renewed, client.key)
    _signed_by(world, first, row)


def _signed_by(world: Realm, old: object, row: Row) -> None:
    request, answer = world.asked[-1]
    assert isinstance(answer, Success)
    assert request.signer.certificate == old, "the renewal was not signed by the old certificate"
    expected = {"certmonger": MessageType.PKCS_REQ}.get(row.client, MessageType.RENEWAL_REQ)
    assert request.message.message_type is expected


@pytest.mark.cell("ASGI")
@rows("ASGI")
def test_enroll_under_uvicorn(row: Row, lab: Lab) -> None:
    """The other adapter, with no front between: what uvicorn's parser makes of the client."""
    world = lab.realm(row)
    with serve_asgi(world) as url:
        client = lab.client(row, world, url)
        world.check(client.enroll(CHALLENGE).issued, client.key)
    assert not world.front.exchanges


@pytest.mark.cell("pyscep serve")
@rows("pyscep serve")
def test_enroll_and_renew_with_the_serve_command(row: Row, lab: Lab) -> None:
    """The command as it is run by an operator, with the one-time challenge that it shows."""
    with serve_command(lab.home, topology=row.topology, policy=row.policy) as served:
        client = lab.client(row, served)
        first = client.enroll(served.challenge).issued
        served.check(first, client.key)
        renewed = client.renew().issued
        assert renewed.serial_number != first.serial_number
        served.check(renewed, client.key)


def test_every_cell_is_tested_or_has_a_reason() -> None:
    """Nothing is left out in silence: a column is filled or the row says why not."""
    tested = {
        mark.args[0]
        for name, function in globals().items()
        if name.startswith("test_")
        for mark in getattr(function, "pytestmark", [])
        if mark.name == "cell"
    }
    assert tested == set(SERVER_COLUMNS)
    for row in SERVER_ROWS:
        assert set(row.absent) <= set(SERVER_COLUMNS)
        assert all(len(reason) > 20 for reason in row.absent.values())


@pytest.mark.parametrize(
    "row", [r for r in SERVER_ROWS if "GET" in r.absent][:1], ids=lambda r: r.id
)
def test_strongswan_posts_whatever_is_announced(row: Row, lab: Lab) -> None:
    """Why strongSwan's GET cell is empty: should this fail, the cell can be filled."""
    world = lab.realm(row, hide=NO_POST)
    client = lab.client(row, world)
    world.check(client.enroll(CHALLENGE).issued, client.key)
    assert world.front.transports == {"POST"}


@pytest.mark.parametrize(
    "row", [r for r in SERVER_ROWS if "POST" in r.absent][:1], ids=lambda r: r.id
)
def test_certmonger_gets_although_post_is_announced(row: Row, lab: Lab) -> None:
    """Why certmonger's POST cell is empty."""
    world = lab.realm(row)
    client = lab.client(row, world)
    world.check(client.enroll(CHALLENGE).issued, client.key)
    assert "POSTPKIOperation" in world.front.exchanges[0].reply.decode("ascii", "replace") or any(
        b"POSTPKIOperation" in e.reply for e in world.front.exchanges
    )
    assert world.front.transports == {"GET"}


def test_scepclient_signs_with_the_new_key_under_the_old_certificate(tmp_path: Path) -> None:
    """Why micromdm's client has no rekey: nobody could verify what it sends."""
    peers.require("scepclient")
    home = tmp_path / "client"
    home.mkdir()
    with realm(tmp_path, topology="ca", policy="legacy") as world:
        client = ScepClient(url=world.front.url, home=home)
        world.check(client.enroll(CHALLENGE).issued, client.key)
        peers.new_key(home / "k.pem")
        refused = client.renew()
    assert refused.certificate is None
    assert "badMessageCheck" in refused.output, refused.output
    assert len(world.asked) == 1


@pytest.mark.parametrize("policy", ["modern", "compatible"])
def test_scepclient_needs_the_legacy_policy(policy: str, tmp_path: Path) -> None:
    """Single DES with SHA-1 is answered badAlg, in the clear, outside the legacy policy."""
    peers.require("scepclient")
    home = tmp_path / "client"
    home.mkdir()
    with realm(tmp_path, topology="ca", policy=policy) as world:
        refused = ScepClient(url=world.front.url, home=home).enroll(CHALLENGE)
    assert refused.certificate is None
    assert "badAlg" in refused.output, refused.output
    assert not world.asked, "the authority was asked about a message of a refused algorithm"


@pytest.mark.parametrize("topology", ["ca", "ra", "ra-split"])
def test_certmonger_helper_reads_capabilities_and_certificates(
    topology: str, tmp_path: Path
) -> None:
    """``scep-submit -c`` and ``-C``: message=0 and 1 on GetCACert, media type exact."""
    peers.require("certmonger")
    with realm(tmp_path, topology=topology, policy="modern") as world:
        said = scep_submit("-u", world.front.url, "-c")
        assert said.code == 0, said.output
        assert set(world.server.capabilities.keywords) <= set(said.output.split())
        listed = scep_submit("-u", world.front.url, "-C")
        assert listed.code == 0, listed.output
        certificates = x509.load_pem_x509_certificates(listed.output.encode())
        known = {world.ca, world.server.identity.certificate, world.server.encryption.certificate}
        assert set(certificates) == known
    messages = {
        e.query.partition("message=")[2]
        for e in world.front.exchanges
        if e.operation == "GetCACert"
    }
    assert messages == ({"0", "1"} if topology == "ca" else {"0"})
