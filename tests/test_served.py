"""The measurement of served throughput: what it counts as a reply, as good, and as met."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyscep
from benchmarks import payloads, served_cases, served_report, served_stateless
from benchmarks.served_load import body_of, drive, is_complete
from benchmarks.served_report import Cell, Sample
from pyscep.ca import Issuer
from tests import forge_keys as keys
from tests.ca_setting import ca_identity


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the path, in chunks if that ends so, each byte a packet if it is slow."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(404 if "missing" in self.path else 200)
        if self.path.endswith("chunks"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (body[:3], body[3:] + b"\r\n0\r\n\r\n"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for number in range(len(body)):
                self.wfile.write(body[number : number + 1])
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("connections", [1, 3, 50])
def test_each_request_gets_its_own_reply(port: int, connections: int) -> None:
    """Framed by Python's own server: by length, and in chunks with what looks like their end."""
    paths = [f"/{number}{'/chunks' if number % 2 else ''}" for number in range(20)]
    requests = [b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in paths]
    load = drive(port, requests, connections)
    found = [body_of(response).removesuffix(b"\r\n0\r\n\r\n") for response in load.responses]
    assert found == [path.encode() for path in paths]
    assert len(load.latencies) == len(paths)
    assert 0 < max(load.latencies) <= load.seconds


def test_a_reply_that_is_an_error_does_not_count(port: int) -> None:
    load = drive(port, [b"GET /missing HTTP/1.1\r\nHost: x\r\n\r\n"], 1)
    with pytest.raises(RuntimeError, match="404"):
        body_of(load.responses[0])


def test_half_a_reply_is_none() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert is_complete(whole)
    assert not any(is_complete(whole[:end]) for end in range(len(whole)))


def test_keys_are_distinct_and_work() -> None:
    found = list(served_cases.rsa_keys(10))
    assert len({key.private_numbers().public_numbers.n for key in found}) == 10
    for key in found:
        key.private_numbers().private_key()  # OpenSSL checks them


def test_the_server_without_a_store_issues_what_was_asked() -> None:
    identity = ca_identity()
    word = served_cases.challenge_of("small")
    (case,) = served_cases.make_cases(identity, "small", 1)
    authority = served_stateless.authority_of(Issuer(identity), word)
    query = case.get.split(b" ")[1].partition(b"?")[2]
    request = pyscep.HttpRequest(method="GET", path="/scep", query=query)
    reply = pyscep.Server(identity).handle(request, authority)
    assert served_cases.check(case, reply.body, identity) is not None


def test_a_reply_for_another_key_is_found_out() -> None:
    identity = payloads.make_identity("Test CA")
    sign = payloads.der_issuer(identity)
    case, other = (
        served_cases.make_case(identity, keys.rsa_key(name), f"CN={name}", "word")
        for name in ("device 1", "device 2")
    )
    assert case.transaction != other.transaction
    server = pyscep.Server(identity)
    wrong = pyscep.pkcs10.create(keys.rsa_key("device 2"), "CN=device 1")

    def reply(authority: pyscep.Authority) -> bytes:
        query = case.get.split(b" ")[1].partition(b"?")[2]
        request = pyscep.HttpRequest(method="GET", path="/scep", query=query)
        return server.handle(request, authority).body

    good = reply(payloads.authority_of("word", sign))
    assert isinstance(served_cases.check(case, good, identity), int)
    bad = reply(lambda request: pyscep.Success(certificates=(sign(wrong),)))
    with pytest.raises(RuntimeError, match="another key"):
        served_cases.check(case, bad, identity)
    refused = reply(lambda request: pyscep.Failure())
    assert served_cases.check(case, refused, identity) is None
    with pytest.raises(pyscep.ScepError):
        served_cases.check(other, good, identity)


def cell(rate: float, cpu_us: float) -> Cell:
    sample = Sample(rate=rate, cpu_us=cpu_us, own_us=1.0, latencies=[0.001, 0.002])
    return Cell(samples=[sample] * 3, caps=[sample], rss_mib=1.0, checked=3)


def cells(ours: float) -> dict[str, dict[str, Cell]]:
    peers = {"micromdm": cell(100, 1000), "pyscep": cell(100 * ours, 1000 / ours)}
    names = [f"{method} {count}" for method in ("GET", "POST") for count in (1, 4, 16)]
    return dict.fromkeys(names, peers) | {
        "store 1": {"none": cell(1, 100), "SQLite": cell(1, 100 * 4 / ours)},
        "store 16": {"none": cell(1, 100), "SQLite": cell(1, 100 * 4 / ours)},
        "disk 64": {"as it is": cell(100, 1), "5 ms slower": cell(25 * ours, 1)},
        "cores 16": {
            "one core": cell(100, 1),
            "two cores, threads": cell(100, 1),
            "two cores, 2 workers": cell(50 * ours, 1),
        },
    }


def test_goals_are_met_or_missed() -> None:
    met = served_report.goals(cells(4.0))
    assert [goal.missed for goal in met] == [False] * 8
    assert [goal.verdict for goal in met[:4]] == ["stretch met"] * 4
    missed = served_report.goals(cells(2.0))
    assert [goal.missed for goal in missed] == [True] * 8
    few = {name: one for name, one in cells(4.0).items() if name.startswith("store")}
    assert [goal.verdict for goal in served_report.goals(few)] == ["met", "met"]


def test_what_is_written_by_hand_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_report, "SERVED", tmp_path / "SERVED.md")
    found = cells(4.0)
    text = served_report.text(found, served_report.goals(found), {"date": "today"})
    served_report.write(text)
    assert served_report.BY_HAND in served_report.SERVED.read_text()
    with served_report.SERVED.open("a") as file:
        file.write("\nA remark.\n")
    served_report.write(text.replace("today", "tomorrow"))
    written = served_report.SERVED.read_text()
    assert written.endswith("A remark.\n")
    assert "| date | tomorrow |" in written
    assert served_report.as_json(found, served_report.goals(found), {})["goals"][0]["value"] == 4
