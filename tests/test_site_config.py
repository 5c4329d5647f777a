"""The configuration: what is understood, what is refused and how, and what is made of it."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pyscep.ca import (
    CertificateAuthority,
    FirstOf,
    OneTimeChallenges,
    Profile,
    StaticChallenge,
    Store,
    directory,
    read_identity,
)
from pyscep.ca.names import Names
from pyscep.ca.presets import PRESETS
from pyscep.integrations.policy_module import CallableChallenges
from pyscep.integrations.sealed import SealedChallenges
from pyscep.site import checking, reference
from pyscep.site.building import Builder, operations_of
from pyscep.site.config import ConfigError, load, parse
from pyscep.site.limits import RateLimit
from pyscep.site.providers import NoChallenges
from pyscep.site.serve import WEAK_POLICIES
from tests import forge_keys as keys
from tests.ca_setting import write_pem
from tests.cli_lab import done, failed, invoke

ROOT = Path(__file__).resolve().parent.parent
SID = "S-1-5-21-1-2-3-1104"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYSCEP_CA_PASSWORD", "PYSCEP_INTUNE_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def ca_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA, made once; tests give it databases of their own."""
    place = tmp_path_factory.mktemp("ca")
    CertificateAuthority.create(place, key_type="rsa-2048").close()
    return place


def tables(ca_files: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A small configuration, as TOML gives it; keyword arguments replace whole sections."""
    base: dict[str, Any] = {
        "ca": {
            "main": {
                "directory": str(ca_files),
                "database": f"sqlite:///{tmp_path / 'scep.db'}",
                "crl_urls": ["http://pki.example/crl/main.crl"],
            }
        },
        "challenge": {"once": {"kind": "one-time"}},
        "endpoint": {
            "devices": {
                "path": "/scep",
                "ca": "main",
                "profiles": ["device"],
                "challenges": ["once"],
            }
        },
    }
    return base | more


def endpoint(**more: Any) -> dict[str, Any]:
    base = {"path": "/scep", "ca": "main", "profiles": ["device"], "challenges": ["once"]}
    return {"devices": base | more}


def problems_of(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(data)
    return [str(one) for one in caught.value.problems]


# --- what is refused, and how it is said -----------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("server.prot", 1, "server.prot: unknown key: is it port?"),
        ("server.port", "http", "server.port: must be a whole number (it is 'http')"),
        ("server.port", 1.5, "server.port: must be a whole number (it is 1.5)"),
        ("server.port", [], "server.port: must be a whole number"),
        ("server.publish", "maybe", "server.publish: must be true or false (it is 'maybe')"),
        ("server.publish", 3.5, "server.publish: must be true or false (it is 3.5)"),
        ("server.limits.rate_per_second", "fast",
         "server.limits.rate_per_second: must be a number (it is 'fast')"),
        ("server.limits.rate_per_second", [],
         "server.limits.rate_per_second: must be a number"),
        ("ca.main.directory", 3, "ca.main.directory: must be a path in quotes (it is 3)"),
        ("profile.device.patterns", 3, "profile.device.patterns: must be a table (it is 3)"),
        ("challenge.once", 3, "challenge.once: must be a table (it is 3)"),
        ("server.zzzzzz", 1, "server.zzzzzz: unknown key"),
        ("sever", {}, "sever: unknown key: is it server?"),
        ("endpoint.devices.port", 1,
         "endpoint.devices.port: unknown key here: it belongs into [server]"),
        ("challenge.once.lifetime", 1,
         "challenge.once.lifetime: unknown key: is it lifetime_minutes?"),
        ("challenge.once", {"kind": "static", "secret": {"flie": "x", "file": "x"}},
         "challenge.once.secret.flie: unknown key: is it file?"),
        ("challenge.once", {"kind": "webhook", "ask": [{"url": "https://a", "ur1": "x"}]},
         "challenge.once.ask.0.ur1: unknown key: is it url?"),
        ("server.port", 70000, "server.port: must be less than or equal to 65535 (it is 70000)"),
        ("ca.main.crl_urls", 3, 'ca.main.crl_urls: must be a list, such as ["..."] (it is 3)'),
        ("ca.main.database", 3, "ca.main.database: must be text in quotes (it is 3)"),
        ("profile.device.patterns", {"dns": 3},
         "profile.device.patterns.dns: must be text in quotes (it is 3)"),
        ("profile.device.rsa_bits", [1], "profile.device.rsa_bits.1: missing"),
        ("server", 3, "server: must be a table (it is 3)"),
        ("profile.device.validity_days", 0,
         "profile.device.validity_days: must be greater than or equal to 1 (it is 0)"),
        ("profile.device.preset", "ios",
         "profile.device.preset: must be 'device', 'apple' or 'intune' (it is 'ios')"),
        ("profile.device.renewal.graze_days", 1,
         "profile.device.renewal.graze_days: unknown key: is it grace_days?"),
        ("challenge.once.kind", "sometimes",
         "challenge.once.kind: must be one of static, one-time, sealed, webhook, intune"),
        ("challenge.once", {}, "challenge.once.kind: missing: say which kind of challenge it is"),
        ("challenge.once", {"kind": "static"}, "challenge.once.secret: missing"),
        ("challenge.once", {"kind": "static", "secret": "hunter2"},
         "challenge.once.secret: must be a table"),
        ("challenge.once", {"kind": "static", "secret": {}},
         'challenge.once.secret: give either a file or an env, such as { file = "secret.txt" }'),
        ("challenge.once", {"kind": "static", "secret": {"value": "hunter2"}},
         "challenge.once.secret.value: unknown key"),
        ("challenge.once", {"kind": "webhook", "ask": [{"url": "https://a", "user": "x"}]},
         "challenge.once.ask.0: user and password go together"),
        ("endpoint.devices.path", "scep",
         "endpoint.devices.path: must match '^/[A-Za-z0-9._~/-]*$' (it is 'scep')"),
        ("endpoint.devices.ca", "mian",
         "endpoint.devices.ca: there is no [ca.mian]: there is main"),
        ("endpoint.devices.profiles", ["a"],
         "endpoint.devices.profiles: there is no [profile.a]: there is device"),
        ("endpoint.devices.challenges", ["a"],
         "endpoint.devices.challenges: there is no [challenge.a]: there is once"),
        ("endpoint.devices.ndes", {"plain_get": "forbidden"},
         'endpoint.devices.ndes: only for kind = "ndes"'),
        ("endpoint.two", {"path": "/SCEP/", "ca": "main", "profiles": ["device"]},
         "endpoint.two.path: the path of endpoint.devices, too: give each its own"),
        ("endpoint.a b", {"path": "/x", "ca": "main", "profiles": ["device"]},
         "endpoint.a b: a name has letters, digits, dots, hyphens: 64 at most"),
        ("endpoint.devices.profiles", [],
         "endpoint.devices.profiles: must have at least 1 item"),
        ("endpoint.devices.path", "/Metrics",
         "endpoint.devices.path: the server itself answers there: take another"),
        ("server.trusted_proxies", ["unix", "10.0.0.0/24", "nginx"],
         ("server.trusted_proxies.2: 'nginx' does not appear to be an IPv4 or IPv6 network: give "
          "an address, or a network such as 10.0.0.0/24 (it is 'nginx')")),
        ("server.metrics_from", ["unix"],
         ("server.metrics_from.0: 'unix' does not appear to be an IPv4 or IPv6 network: give an "
          "address, or a network such as 10.0.0.0/24 (it is 'unix')")),
        ("server.forwarded_header", "x-real-ip",
         "server.forwarded_header: must be 'x-forwarded-for' or 'forwarded' (it is 'x-real-ip')"),
        ("server.limits.rate", 5, "server.limits.rate: unknown key: is it rate_per_second?"),
        ("server.limits.burst", 0,
         "server.limits.burst: must be greater than or equal to 1 (it is 0)"),
        ("ca.main.key", "a", "ca.main: a directory has its own certificates and keys: give either"),
        ("ca.main", {"certificate": "a", "crl_urls": ["http://a"]},
         "ca.main: give a directory, or a certificate and a key"),
        ("ca.main", {"certificate": "a", "key": "b", "revocation": False,
                     "ra_encryption": {"certificate": "c", "key": "d"}},
         "ca.main: ra_encryption needs an ra that signs"),
    ],
)
def test_errors_name_the_key_and_the_mend(
    ca_files: Path, tmp_path: Path, where: str, value: Any, expected: str
) -> None:
    data = tables(ca_files, tmp_path, profile={"device": {}})
    table = data
    *path, last = where.split(".")
    for part in path:
        table = table.setdefault(part, {})
    table[last] = value
    found = problems_of(data)
    assert found == [expected]
    assert "hunter2" not in "".join(found)


def test_all_problems_at_once() -> None:
    found = problems_of({"server": {"prot": 1}, "endpoint": {}})
    assert len(found) == 3
    assert "ca: missing: there has to be a [ca.NAME]" in found


INTUNE = {"kind": "intune", "settings": "intune.toml"}
WEBHOOK = {"kind": "webhook", "ask": [{"url": "https://a"}]}


def test_intune_and_approval_by_people(ca_files: Path, tmp_path: Path) -> None:
    """When somebody has decided, there is no request left to notify Intune of."""
    data = tables(
        ca_files,
        tmp_path,
        profile={"seen": {"approval": "manual"}, "device": {"renewal": {"approval": "manual"}}},
        challenge={"intune": INTUNE},
        endpoint=endpoint(challenges=["intune"], profiles=["seen", "device"]),
    )
    (found,) = problems_of(data)
    assert found.startswith("endpoint.devices.profiles: profile.seen has requests wait")
    assert 'approval = "automatic"' in found


@pytest.mark.parametrize("table", [INTUNE, WEBHOOK])
def test_two_judges_of_a_kind(ca_files: Path, tmp_path: Path, table: dict[str, Any]) -> None:
    """What became of a request would be told to both."""
    data = tables(
        ca_files,
        tmp_path,
        challenge={"a": table, "b": table, "once": {"kind": "one-time"}},
        endpoint=endpoint(challenges=["a", "once", "b"]),
    )
    (found,) = problems_of(data)
    assert found.startswith("endpoint.devices.challenges: only one challenge of its kind")
    data["endpoint"] = endpoint(challenges=["a", "once"])
    parse(data)


def test_revocation_needs_a_distribution_point(ca_files: Path, tmp_path: Path) -> None:
    """Windows refuses chains without; nobody would find the CRL."""
    data = tables(ca_files, tmp_path)
    del data["ca"]["main"]["crl_urls"]
    (found,) = problems_of(data)
    assert found.startswith("ca.main: revocation needs crl_urls")
    assert "revocation = false" in found
    data["ca"]["main"]["revocation"] = False
    assert parse(data).ca["main"].crl_urls == ()


def test_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "scep.toml"
    path.write_text("[server\n")
    with pytest.raises(ConfigError, match=r"scep\.toml: not TOML: .*line 1"):
        load(path)
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not TOML"):
        load(path)


# --- what is made of it ----------------------------------------------------------------


def build(data: dict[str, Any], base: Path, **more: Any) -> Builder:
    return Builder(parse(data), base, **more)


def test_profiles(ca_files: Path, tmp_path: Path) -> None:
    sids = tmp_path / "sids.toml"
    sids.write_text(f'"upn:ann@corp.example" = "{SID}"\n"CN=kiosk" = "{SID}"\n')
    section = {
        "device": {},
        "full": {
            "preset": "intune",
            "purpose": "signature",
            "validity_days": 10,
            "validity_source": "request",
            "backdate_hours": 2,
            "key_usage": ["digitalSignature"],
            "extended_key_usage": ["clientAuth", "1.2.3.4"],
            "optional_extended_key_usage": ["emailProtection"],
            "subject_rule": "CN={commonName}",
            "subject_types": ["commonName"],
            "patterns": {"commonName": "[a-z]+"},
            "rsa_bits": [3072, 4096],
            "sids": "sids.toml",
            "renewal": {"window_days": 30, "grace_days": 1, "approval": "manual"},
        },
    }
    with_ca = tables(ca_files, tmp_path, profile=section)
    builder = build(with_ca, tmp_path)
    assert builder.profile("device") == Profile()
    full = builder.profile("full")
    assert builder.profile("full") is full
    source = full.security_identifier
    assert source is not None
    assert source(Names(subject=b"", san_texts=("dns:a", "upn:ann@corp.example"))) == SID
    assert source(Names(subject=b"", subject_text="CN=kiosk")) == SID
    assert source(Names(subject=b"", subject_text="CN=other")) is None
    assert full.renewal.window == timedelta(days=30)
    assert full.renewal.grace == timedelta(days=1)
    expected = replace(
        PRESETS["intune"],
        name="full",
        purpose="signature",
        validity=timedelta(days=10),
        validity_source="request",
        backdate=timedelta(hours=2),
        key_usage=("digitalSignature",),
        extended_key_usage=("clientAuth", "1.2.3.4"),
        optional_extended_key_usage=("emailProtection",),
        subject_rule="CN={commonName}",
        subject_types=("commonName",),
        patterns=(("commonName", "[a-z]+"),),
        rsa_bits=(3072, 4096),
        security_identifier=source,
        renewal=full.renewal,
    )
    assert full == expected


@pytest.mark.parametrize("text", ["[", '"upn:a" = "S-nothing"', '"upn:a" = 3'])
def test_sids_that_are_none(ca_files: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "sids.toml").write_text(text)
    builder = build(tables(ca_files, tmp_path, profile={"device": {"sids": "sids.toml"}}), tmp_path)
    with pytest.raises(ConfigError, match=r"profile\.device: .*sids\.toml: "):
        builder.profile("device")


def test_a_profile_that_makes_no_sense(ca_files: Path, tmp_path: Path) -> None:
    builder = build(tables(ca_files, tmp_path, profile={"device": {"san_types": ["x"]}}), tmp_path)
    with pytest.raises(ConfigError, match=r"profile\.device: 'x' is none of the SAN types"):
        builder.profile("device")


def secret_file(path: Path, text: str = "word\n") -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def provider_of(ca_files: Path, tmp_path: Path, *challenges: dict[str, Any], **more: Any) -> Any:
    names = [f"c{number}" for number, _ in enumerate(challenges)]
    data = tables(
        ca_files,
        tmp_path,
        challenge=dict(zip(names, challenges, strict=True)),
        endpoint=endpoint(challenges=names),
    )
    builder = build(data, tmp_path, **more)
    try:
        return builder.challenges(builder.config.endpoint["devices"])
    finally:
        builder.close()


def test_challenges(ca_files: Path, tmp_path: Path) -> None:
    secret_file(tmp_path / "word.txt")
    static = {"kind": "static", "secret": {"file": "word.txt"}}
    assert isinstance(provider_of(ca_files, tmp_path), NoChallenges)
    one = provider_of(ca_files, tmp_path, static)
    assert isinstance(one, StaticChallenge)
    assert one.generate() == "word"
    both = provider_of(ca_files, tmp_path, static, {"kind": "one-time", "lifetime_minutes": 5})
    assert isinstance(both, FirstOf)
    assert isinstance(both._providers[0], OneTimeChallenges), "it makes the challenges"
    assert both._providers[0]._lifetime == timedelta(minutes=5)
    from_env = {"kind": "static", "secret": {"env": "WORD"}}
    assert provider_of(ca_files, tmp_path, from_env, environ={"WORD": "b"}).generate() == "b"


def test_secrets_that_are_not_there(ca_files: Path, tmp_path: Path) -> None:
    def refused(secret: dict[str, str], reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            provider_of(ca_files, tmp_path, {"kind": "static", "secret": secret}, environ={})

    refused({"env": "WORD"}, "challenge.c0: the environment variable WORD is not set")
    refused({"file": "missing.txt"}, "missing.txt")
    secret_file(tmp_path / "empty.txt", "\n")
    refused({"file": "empty.txt"}, "empty.txt is empty")
    secret_file(tmp_path / "open.txt").chmod(0o644)
    refused({"file": "open.txt"}, "chmod 600")


def test_no_challenges(ca_files: Path, tmp_path: Path) -> None:
    nobody = provider_of(ca_files, tmp_path)
    with pytest.raises(ValueError, match="no challenges"):
        nobody.generate(lifetime=timedelta(hours=1))
    nobody.notify(None)


def test_sealed_challenges(ca_files: Path, tmp_path: Path) -> None:
    table = {
        "kind": "sealed",
        "recipient": {"certificate": str(ca_files / "ra.pem"), "key": str(ca_files / "ra.key")},
        "services": [str(ca_files / "ra.pem")],
    }
    assert isinstance(provider_of(ca_files, tmp_path, table), SealedChallenges)
    table["services"] = ["none.pem"]
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"none\.pem: no certificate in PEM form"):
        provider_of(ca_files, tmp_path, table)


def test_webhooks(ca_files: Path, tmp_path: Path) -> None:
    secret_file(tmp_path / "word.txt")
    secret_file(tmp_path / "key.txt", "AAEC")
    secret_file(tmp_path / "bad.txt", "no base64!")
    write_pem(tmp_path / "roots.pem", [x509.load_pem_x509_certificate(
        (ca_files / "ca.pem").read_bytes())])
    word = {"file": "word.txt"}
    hook = {"url": "https://hook.example/a", "id": "7", "secret": {"file": "key.txt"},
            "user": "ann", "password": word}
    table: dict[str, Any] = {
        "kind": "webhook", "ask": [hook], "roots": "roots.pem",
        "notify": [{"url": "https://hook.example/b", "bearer_token": word}]}
    assert isinstance(provider_of(ca_files, tmp_path, table), CallableChallenges)
    table["ask"] = [{"url": "https://hook.example/a", "secret": {"file": "bad.txt"}}]
    with pytest.raises(ConfigError, match="not base64"):
        provider_of(ca_files, tmp_path, table)
    table["ask"] = [{"url": "http://hook.example/a"}]
    with pytest.raises(ConfigError, match="https"):
        provider_of(ca_files, tmp_path, table)


def test_intune(ca_files: Path, tmp_path: Path) -> None:
    pytest.importorskip("msal", reason="comes with the extra intune")
    from pyscep.integrations.intune import IntuneChallenges

    secret_file(tmp_path / "word.txt")
    (tmp_path / "intune.toml").write_text(
        'tenant = "corp.example"\nclient_id = "1"\nclient_secret_file = "word.txt"\n')
    table = {"kind": "intune", "settings": "intune.toml"}
    found = provider_of(ca_files, tmp_path, table)
    assert isinstance(found, IntuneChallenges)
    assert found.issuer_name == "pyscep CA"


@pytest.mark.parametrize(
    ("module", "table", "reason"),
    [
        ("httpx", {"kind": "webhook", "ask": [{"url": "https://a"}]}, "need the package httpx"),
        ("msal", {"kind": "intune", "settings": "a.toml"}, "needs the package"),
    ],
)
def test_packages_that_are_missing(
    ca_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, table: Any,
    reason: str,
) -> None:
    for name in list(sys.modules):
        if name.startswith(("pyscep.integrations", module)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=reason):
        provider_of(ca_files, tmp_path, table)


def test_key_files_by_path_with_passphrases(tmp_path: Path) -> None:
    place = tmp_path / "ca"
    CertificateAuthority.create(place, key_type="rsa-2048", topology="ra-split",
                                password=b"open sesame").close()
    secret_file(tmp_path / "pass.txt", "open sesame\n")

    def pair(name: str, secret: dict[str, str]) -> dict[str, Any]:
        return {"certificate": f"ca/{name}.pem", "key": f"ca/{name}.key", "passphrase": secret}

    by_file, by_env = {"file": "pass.txt"}, {"env": "CA_PASS"}
    main = pair("ca", by_file) | {
        "ra": pair("ra", by_env), "ra_encryption": pair("ra-encryption", by_file),
        "crl_urls": ["http://a/crl"], "issuer_urls": ["http://a/cer"], "digest": "sha384",
        "crl_lifetime_hours": 12}
    data = tables(place, tmp_path, ca={"main": main})
    builder = build(data, tmp_path, environ={"CA_PASS": "open sesame"})
    authority = builder.authority("main")
    assert authority.current.recipient is not None
    assert authority.current.encryption is not None
    ((_, published),) = authority.published()
    assert authority.issuer.crl_lifetime == timedelta(hours=12)
    assert (tmp_path / "scep.db").exists(), "beside the configuration"
    assert x509.load_der_x509_crl(published.crl()).signature_hash_algorithm.name == "sha384"
    assert builder.authority("main") is authority
    builder.close()
    wrong = build(data, tmp_path, environ={"CA_PASS": "other"})
    with pytest.raises(ConfigError, match=r"ca\.main: .*ra\.key: .*password is wrong"):
        wrong.authority("main")
    whole = tables(place, tmp_path)
    whole["ca"]["main"]["passphrase"] = by_file
    builder = build(whole, tmp_path)
    assert builder.authority("main").current.encryption is not None
    builder.close()


def test_ca_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pyscep config init --directory"):
        build(tables(tmp_path / "nothing", tmp_path), tmp_path).authority("main")


def test_databases(ca_files: Path, tmp_path: Path) -> None:
    """A relative one is beside the configuration; a bad one is named, without its password."""
    data = tables(ca_files, tmp_path)
    data["ca"]["main"]["database"] = "sqlite:///here.db"
    data["ca"]["other"] = dict(data["ca"]["main"])
    builder = build(data, tmp_path)
    assert builder.authority("main").store is builder.authority("other").store
    assert (tmp_path / "here.db").exists()
    builder.close()
    data["ca"]["main"]["database"] = "nonsense://ann:hunter2@host/x"
    with pytest.raises(ConfigError, match=r"ca\.main: the database can't be opened") as caught:
        build(data, tmp_path).authority("main")
    assert "hunter2" not in str(caught.value)


def test_limits(ca_files: Path, tmp_path: Path) -> None:
    """Each key reaches what it is the key of."""
    defaults = operations_of(parse(tables(ca_files, tmp_path)).server)
    assert defaults._limits._limit == RateLimit(), "the defaults of the page are the library's"
    server = {
        "trusted_proxies": ["10.0.0.0/24"],
        "forwarded_header": "forwarded",
        "metrics_from": ["192.0.2.9"],
        "limits": {
            "max_pending": 1, "retry_after_seconds": 7, "rate_per_second": 0.5, "burst": 2,
            "failure_cost": 3, "max_delay_seconds": 0, "max_concurrent": 4, "max_sources": 5,
            "max_connections": 6,
        },
    }
    config = parse(tables(ca_files, tmp_path, server=server))
    layer = operations_of(config.server, ["10.9.9.9"])
    assert layer._limits._limit == RateLimit(
        rate=0.5, burst=2, failure_cost=3, max_delay=0, max_concurrent=4, max_sources=5)

    assert layer.connections is not None
    assert [layer.connections.opened("192.0.2.5") for _ in range(7)] == [True] * 6 + [False]

    entered, leave = asyncio.Event(), asyncio.Event()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        if scope["path"] == "/slow":
            await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    app = layer.app(inner, {})

    async def ask(path: str, source: str, proxy: str = "10.0.0.7") -> tuple[int, bytes, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [(b"forwarded", f"for={source}".encode()), (b"x-forwarded-for", b"6.6.6.6")]
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers,
                 "client": (proxy, 1), "http_version": "1.1"}
        await app(scope, receive, send)
        body = b"".join(one.get("body", b"") for one in sent)
        return sent[0]["status"], body, dict(sent[0]["headers"]).get(b"retry-after")

    async def run() -> None:
        assert await ask("/", "192.0.2.1") == (200, b"192.0.2.1", None)
        assert await ask("/", "192.0.2.1", "10.9.9.9") == (200, b"192.0.2.1", None)
        assert (await ask("/", "192.0.2.1"))[::2] == (429, b"2")
        assert (await ask("/metrics", "192.0.2.9"))[0] == 200
        assert (await ask("/metrics", "192.0.2.8"))[0] == 404
        entered.clear()
        slow = asyncio.create_task(ask("/slow", "192.0.2.2"))
        await entered.wait()
        assert await ask("/", "192.0.2.3") == (503, b"busy", b"7")
        leave.set()
        assert (await slow)[0] == 200

    asyncio.run(run())
    free = operations_of(parse(tables(
        ca_files, tmp_path, server={"limits": {"per_source": False}})).server)
    assert free._limits is None
    assert free.connections is None


# --- config check ----------------------------------------------------------------------


def findings(data: dict[str, Any], base: Path, **more: Any) -> list[str]:
    config = parse(data)
    return [str(one) for one in checking.check(config, Builder(config, base), **more)]


def test_nothing_to_say(ca_files: Path, tmp_path: Path) -> None:
    assert findings(tables(ca_files, tmp_path), tmp_path) == []


def test_warnings(ca_files: Path, tmp_path: Path) -> None:
    secret_file(tmp_path / "word.txt")
    data = tables(
        ca_files,
        tmp_path,
        profile={
            "short": {"validity_days": 4, "preset": "intune"},
            "asked": {"validity_source": "request", "extended_key_usage": ["serverAuth"]},
            "unused": {},
            "signs": {"purpose": "signature"},
        },
        challenge={"shared": {"kind": "static", "secret": {"file": "word.txt"}}},
        endpoint={
            "weak": {"path": "/a", "ca": "main", "profiles": ["short"],
                     "challenges": ["shared"], "policy": "legacy"},
            "closed": {"path": "/b", "ca": "main", "profiles": ["asked"]},
            "narrow": {"path": "/c", "ca": "main", "profiles": ["signs"],
                       "challenges": ["shared"]},
        },
    )
    data["ca"]["main"] |= {"revocation": False, "crl_urls": []}
    found = findings(data, tmp_path)
    expected = [
        f"endpoint.weak.policy: legacy: {WEAK_POLICIES['legacy']}",
        "endpoint.weak.challenges: whoever has the static challenge shared can name any SID",
        "endpoint.closed.challenges: there are none: nobody new can enroll",
        "endpoint.narrow.profiles: none of them is for requests without key usage",
        "profile.short.validity_days: under 5 days, Intune's devices don't renew in time",
        "profile.asked.validity_source: requests may ask for less than 5 days",
        "profile.asked.extended_key_usage: without clientAuth",
        "profile.unused: no endpoint uses it",
        "ca.main.revocation: certificates will not say where the CRL is",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"warning: {start}")


def test_a_password_in_the_file(
    ca_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no server to connect to here: what is opened is another store."""
    store = Store(f"sqlite:///{tmp_path / 'scep.db'}")
    monkeypatch.setattr(Builder, "_store", lambda *_: store)
    for url, warns in (
        ("postgresql://scep:hunter2@db.example/scep", True),
        ("postgresql://scep@db.example/scep", False),
        ("postgresql:///?service=scep", False),
        ("sqlite:///a:b@c.db", False),
    ):
        data = tables(ca_files, tmp_path)
        data["ca"]["main"]["database"] = url
        found = findings(data, tmp_path)
        assert [one.partition(": the ")[0] for one in found] == (
            ["warning: ca.main.database"] if warns else [])
        assert "hunter2" not in str(found)


def test_registry_values_without_effect(ca_files: Path, tmp_path: Path) -> None:
    ndes = {"kind": "ndes", "path": "/certsrv", "ca": "main", "profiles": ["device"],
            "ndes": {"registry": {"HashAlgorithm": "SHA1", "PasswordMax": 9}}}
    found = findings(tables(ca_files, tmp_path, endpoint={"ndes": ndes}), tmp_path)
    assert "warning: endpoint.ndes.ndes.registry.HashAlgorithm: it has no effect here" in found


def test_the_end_of_the_ca(ca_files: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate((ca_files / "ca.pem").read_bytes())
    ends = certificate.not_valid_after_utc
    data = tables(ca_files, tmp_path)
    (found,) = findings(data, tmp_path, now=ends - timedelta(days=100))
    assert found == ("warning: ca.main.certificate: the CA ends in 100 days, and certificates are "
                     "cut short at its end; let another one follow it (RFC 8894 section 4.7)")
    (found,) = findings(data, tmp_path, now=ends)
    assert found == "error: ca.main.certificate: the CA has expired"


def test_the_end_of_a_ca_that_another_one_follows(ca_files: Path, tmp_path: Path) -> None:
    directory.create(
        tmp_path / "turns", common_name="First", organization=None, key_type="rsa-2048",
        validity=timedelta(days=60), topology="ca", parent=None, password=None,
        now=datetime.now(UTC))
    directory.prepare_next(
        tmp_path / "turns", now=datetime.now(UTC), password=None, key_type="rsa-2048")
    data = tables(ca_files, tmp_path)
    crl_url = "http://pki.example/crl/main.crl"
    data["ca"]["main"] = {"directory": "turns", "crl_urls": [crl_url]}
    (found,) = [one for one in findings(data, tmp_path) if "cut short" in one]
    assert found.endswith("cut short at its end")


def test_the_end_of_an_ra(ca_files: Path, tmp_path: Path) -> None:
    """Clients refuse an RA whose certificate has ended, and the CA looks healthy."""
    ca = read_identity(ca_files / "ca.pem", ca_files / "ca.key")
    ends = datetime.now(UTC) + timedelta(days=100)
    short = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=RA"))
        .issuer_name(ca.certificate.subject)
        .public_key(keys.rsa_key("client").public_key())
        .serial_number(7)
        .not_valid_before(ends - timedelta(days=200))
        .not_valid_after(ends)
        .sign(ca.private_key, hashes.SHA256())
    )
    pair = {"certificate": write_pem(tmp_path / "ra.pem", [short]), "key": tmp_path / "ra.key"}
    secret_file(tmp_path / "ra.key", keys.key_pem(keys.rsa_key("client")).decode())
    main = {"certificate": ca_files / "ca.pem", "key": ca_files / "ca.key",
            "crl_urls": ["http://pki.example/crl/main.crl"], "ra": pair, "ra_encryption": pair}
    data = tables(ca_files, tmp_path, ca={"main": main})
    at = short.not_valid_after_utc
    assert findings(data, tmp_path, now=at - timedelta(days=30)) == []
    assert findings(data, tmp_path, now=at - timedelta(days=29)) == [
        f"warning: ca.main.{name}: the RA's certificate ends in 29 days, and clients refuse it "
        "then: issue another one" for name in ("ra", "ra_encryption")]
    assert findings(data, tmp_path, now=at) == [
        f"error: ca.main.{name}: the RA's certificate has expired, and clients refuse it: issue "
        "another one" for name in ("ra", "ra_encryption")]


def test_addresses_that_were_served_without_a_configuration(tmp_path: Path) -> None:
    """Whoever moves on to a configuration keeps the CRL where certificates say it is."""
    place = tmp_path / "ca"
    CertificateAuthority.create(
        place, key_type="rsa-2048", base_url="http://pki.example:8080").close()
    data = tables(place, tmp_path)
    (found,) = findings(data, tmp_path)
    assert found == (
        "warning: ca.main.crl_urls: certificates of `pyscep serve --base-url` name "
        "http://pki.example:8080/crl/ca.crl: call this table [ca.ca], and give that address")
    data["ca"] = {"ca": data["ca"]["main"] | {
        "crl_urls": ["http://pki.example:8080/crl/ca.crl"]}}
    data["endpoint"]["devices"]["ca"] = "ca"
    assert findings(data, tmp_path) == []


def test_a_chain_without_its_root(ca_files: Path, tmp_path: Path) -> None:
    with CertificateAuthority.load(ca_files, database=f"sqlite:///{tmp_path}/r.db") as root:
        place = tmp_path / "below"
        CertificateAuthority.create(
            place, key_type="rsa-2048", parent=root.issuer.identity, common_name="below").close()
    whole = (place / "ca.pem").read_bytes()
    assert findings(tables(place, tmp_path), tmp_path) == []
    write_pem(place / "ca.pem", x509.load_pem_x509_certificates(whole)[:1])
    (found,) = findings(tables(place, tmp_path), tmp_path)
    assert found.startswith("warning: ca.main: the chain has no root in it")


def test_errors_of_what_is_opened(ca_files: Path, tmp_path: Path) -> None:
    data = tables(ca_files, tmp_path, endpoint=endpoint(ca_certificates="issuer"))
    (found,) = findings(data, tmp_path)
    assert found.startswith('error: endpoint.devices: ca_certificates = "issuer": clients would')


# --- the command -----------------------------------------------------------------------


def test_init_and_check(tmp_path: Path) -> None:
    path = tmp_path / "scep.toml"
    made = done("config", "init", "--config", path)
    assert made["fingerprint"].startswith("sha256:")
    assert (tmp_path / "pyscep-ca" / "ca.pem").exists()
    assert done("config", "check", "--config", path) == {
        "config": str(path), "endpoints": ["devices"], "warnings": []}
    assert "can be served" in invoke("config", "check", "--config", path).stdout
    assert failed(2, "config", "init", "--config", path)["code"] == "file"


def test_init_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSCEP_CA_PASSWORD", "open sesame")
    path = tmp_path / "scep.toml"
    assert invoke("config", "init", "--config", path).exit_code == 0
    data = tomllib.loads(path.read_text())
    assert data["ca"]["main"]["passphrase"] == {"env": "PYSCEP_CA_PASSWORD"}
    assert done("config", "check", "--config", path)["warnings"] == []
    monkeypatch.setenv("PYSCEP_CA_PASSWORD", "other")
    error = failed(2, "config", "check", "--config", path)
    assert error["code"] == "config"
    assert "error: ca.main" in error["message"]
    assert [(one["level"], one["key"]) for one in error["problems"]] == [("error", "ca.main")]
    other = tmp_path / "other.toml"
    assert failed(2, "config", "init", "--config", other)["code"] == "ca"


def test_check_shows_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "scep.toml"
    path.write_text("[server]\nprot = 1\n")
    error = failed(2, "config", "check", "--config", path)
    assert error["code"] == "config"
    assert f"{path}: server.prot: unknown key: is it port?\n" in error["message"]
    assert error["problems"][0] == {
        "level": "error", "key": "server.prot", "text": "unknown key: is it port?"}
    assert [one["key"] for one in error["problems"]] == ["server.prot", "ca", "endpoint"]
    assert failed(2, "serve", "--config", path)["problems"] == error["problems"]
    assert failed(2, "config", "check", "--config", tmp_path / "none.toml")["code"] == "file"


def test_check_shows_warnings(ca_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "scep.toml"
    text = reference.starter(str(ca_files)).replace("validity_days = 365", "validity_days = 3")
    path.write_text(text)
    found = done("config", "check", "--config", path)["warnings"]
    assert [one["key"] for one in found] == ["profile.device.validity_days"]
    assert "warning: profile.device" in invoke("config", "check", "--config", path).stdout


def test_account() -> None:
    line = done("config", "account", "--name", "console", input="long enough a word")["account"]
    assert line.startswith("console:$scrypt$")
    assert "12 to" in failed(2, "config", "account", "--name", "console", input="short")["message"]
    assert "whose account" in failed(2, "config", "account")["message"]


def test_without_pydantic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("pyscep.site.config", "pyscep.site.building")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    error = failed(2, "config", "check", "--config", tmp_path / "scep.toml")
    assert error["code"] == "missing_package"
    assert "needs the package pydantic" in error["message"]


# --- the reference ---------------------------------------------------------------------


def test_the_committed_reference_is_the_generated_one() -> None:
    """Mend: pyscep config reference > docs/configuration.md"""
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == reference.markdown()
    assert invoke("config", "reference").stdout == committed
    assert done("config", "reference")["reference"] == committed


def test_every_key_is_explained() -> None:
    from pyscep.site.config import SECTIONS

    for title, model in SECTIONS:
        assert model.__doc__, title
        for name, field in model.model_fields.items():
            assert field.description, f"{title} {name}"
            unit = {"days", "hours", "minutes", "seconds"} & set(name.split("_"))
            for word in unit:
                assert word in field.description.lower(), f"{title} {name} has no unit"


def test_the_starter_is_understood(tmp_path: Path) -> None:
    config = parse(tomllib.loads(reference.starter("pyscep-ca")))
    assert list(config.endpoint) == ["devices"]


def test_what_the_starter_has_in_comments_is_right(tmp_path: Path) -> None:
    """Who takes the marks away gets a file that can be served."""
    place = tmp_path / 'a "b" ü'
    CertificateAuthority.create(place, key_type="rsa-2048").close()
    secret_file(tmp_path / "challenge.txt")
    text = reference.starter(str(place), "http://pki.example/")
    whole = re.sub(r"(?m)^# (\[|[a-z_]+ = )", r"\1", text)
    assert whole.count("\n#") == text.count("\n#") - 9
    data = tomllib.loads(whole)
    data["endpoint"]["devices"]["challenges"].append("shared")
    assert data["ca"]["main"]["crl_urls"] == ["http://pki.example/crl/main.crl"]
    (found,) = findings(data, tmp_path)
    assert found.startswith("warning: endpoint.devices.policy")


@pytest.mark.parametrize("url", ["https://pki.example", "pki.example", "http://a b", 'http://a"'])
def test_base_urls_that_are_none(tmp_path: Path, url: str) -> None:
    error = failed(2, "config", "init", "--config", tmp_path / "scep.toml", "--base-url", url)
    assert error["message"].startswith("--base-url: ")
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_lead_nowhere(ca_files: Path, tmp_path: Path) -> None:
    def found(crl: str, aia: str = "http://a/aia", **server: Any) -> list[str]:
        data = tables(ca_files, tmp_path, server=server)
        data["ca"]["main"] |= {"crl_urls": [crl], "issuer_urls": [aia]}
        return findings(data, tmp_path)

    here = "http://127.0.0.1:8080"
    assert found(f"{here}/crl/main.crl", f"{here}/aia/main.crt") == []
    assert found("http://localhost:81/x.crl") == [], "another server of this machine"
    (one,) = found(f"{here}/crl/other.crl")
    assert one == (f"warning: ca.main.crl_urls: this server has nothing at {here}/crl/other.crl: "
                   "it publishes /crl/main.crl")
    first, second = found(f"{here}/crl/main.crl", f"{here}/aia/main.cer", publish=False)
    assert first.endswith("it publishes nothing")
    assert second.startswith("warning: ca.main.issuer_urls")
    (one,) = found("http://localhost:8080/crl/main.crl", host="192.0.2.1")
    assert one.endswith("leads to whoever reads the certificate: put this server's name there")


def test_only_the_configuration_imports_pydantic() -> None:
    for path in (ROOT / "pyscep").rglob("*.py"):
        names = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (node.names if isinstance(node, ast.Import)
                          else [ast.alias(node.module or "")])
        }
        inside = path.relative_to(ROOT / "pyscep").parts[:2] == ("site", "config")
        assert inside or "pydantic" not in names, path


def test_serving_without_a_configuration_needs_no_pydantic() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = None\n"
        "import pyscep.site.serve, pyscep.cli.serve, pyscep.cli.admin, pyscep.cli.config"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
