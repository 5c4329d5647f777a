"""paths: which certificates may stand below which (RFC 5280 section 6.1), beside OpenSSL."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep import trust
from pyscep.cms.algorithms import Algorithms
from pyscep.cms.certs_only import read_certs_only
from pyscep.errors import ProtocolError, SignatureError
from pyscep.exchange import Session, verify_issued
from pyscep.identity import Identity, RawCertificate
from pyscep.paths import PathError, Paths
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1

NOW = datetime.now(UTC)
SIGNS = keys.key_usage("digitalSignature", "keyEncipherment")
ISSUES = keys.key_usage("digitalSignature", "keyEncipherment", "keyCertSign")
FREE = -1


def ca_of(issuer: keys.Party | None, level: int, room: int, *more: bytes) -> keys.Party:
    """A CA; a pathLenConstraint of FREE is none."""
    fields = [asn1.tlv(0x01, b"\xff")] + ([] if room == FREE else [asn1.integer(room)])
    basic = keys.extension("2.5.29.19", asn1.seq(*fields), critical=True)
    return keys.party(
        f"CN=level {level},O=Lab",
        keys.rsa_key(f"level {level}"),
        issuer=issuer,
        extensions=(basic, ISSUES, *more),
    )


def agent_of(issuer: keys.Party, subject: str = "CN=the agent,O=Lab", *more: bytes) -> keys.Party:
    return keys.party(subject, keys.rsa_key("client"), issuer=issuer, extensions=(SIGNS, *more))


def chain_of(rooms: tuple[int, ...]) -> list[keys.Party]:
    found: list[keys.Party] = []
    for level, room in enumerate(rooms):
        found.append(ca_of(found[-1] if found else None, level, room))
    return [*found, agent_of(found[-1])]


def openssl_accepts(path: Path, root: keys.Party, *others: keys.Party) -> bool:
    """Whether `openssl verify` takes the last one, by the others, from the root."""
    (path / "root.pem").write_bytes(root.pem)
    (path / "between.pem").write_bytes(b"".join(one.pem for one in others[:-1]))
    (path / "leaf.pem").write_bytes(others[-1].pem)
    words = ["openssl", "verify", "-CAfile", path / "root.pem"]
    if len(others) > 1:
        words += ["-untrusted", path / "between.pem"]
    done = subprocess.run([*words, path / "leaf.pem"], capture_output=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode == 0


def we_accept(root: keys.Party, *others: keys.Party) -> bool:
    """Whether a client that pinned the root takes the last one for an RA."""
    sent = [RawCertificate(one.der) for one in (root, *others)]
    try:
        found = trust.select(sent, sent[:1], pyscep.MODERN, now=NOW, check_key_usage=True)
    except PathError:
        return False
    return others[-1].certificate in found.certificates


@pytest.mark.parametrize(
    "rooms",
    [
        (FREE,),
        (0,),
        (FREE, 0),
        (0, 0),
        (0, FREE),
        (1, 0),
        (1, FREE),
        (1, FREE, FREE),
        (1, 5, 5),
        (1, 0, FREE),
        (FREE, 0, 0),
        (FREE, FREE, FREE),
        (2, FREE, FREE),
        (2, 1, 0),
        (3, 1, FREE, 0),
    ],
)
def test_path_lengths(tmp_path: Path, rooms: tuple[int, ...]) -> None:
    chain = chain_of(rooms)
    assert we_accept(*chain) is openssl_accepts(tmp_path, *chain)


def test_both_ends_of_the_path_lengths() -> None:
    """So that the comparison above is not one of nothing."""
    assert we_accept(*chain_of((2, 1, 0)))
    assert not we_accept(*chain_of((1, FREE, FREE)))


Subtrees = list[x509.GeneralName] | None


def constrained(permitted: Subtrees, excluded: Subtrees) -> bytes:
    value = x509.NameConstraints(permitted, excluded).public_bytes()
    return keys.extension("2.5.29.30", value, critical=True)


def sans(*names: x509.GeneralName) -> bytes:
    return keys.extension("2.5.29.17", x509.SubjectAlternativeName(names).public_bytes())


def directory(text: str) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name.from_rfc4514_string(text))


DNS, MAIL, URI = x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier
V4 = x509.IPAddress(ip_network("192.0.2.0/24"))
V6 = x509.IPAddress(ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("permitted", "excluded", "names"),
    [
        ([DNS("lab.example")], None, []),
        ([DNS("lab.example")], None, [DNS("lab.example")]),
        ([DNS("lab.example")], None, [DNS("a.LAB.example")]),
        ([DNS("lab.example")], None, [DNS("xlab.example")]),
        ([DNS("lab.example")], None, [DNS("a.lab.example"), DNS("other.example")]),
        ([DNS("lab.example"), DNS("other.example")], None, [DNS("other.example")]),
        ([DNS("lab.example")], None, [MAIL("x@other.example")]),
        (None, [DNS("lab.example")], [DNS("a.lab.example")]),
        (None, [DNS("lab.example")], [DNS("other.example")]),
        ([DNS("example")], [DNS("lab.example")], [DNS("a.lab.example")]),
        ([DNS(".lab.example")], None, [DNS("a.lab.example")]),
        ([MAIL("lab.example")], None, [MAIL("x@lab.example")]),
        ([MAIL("lab.example")], None, [MAIL("x@sub.lab.example")]),
        ([MAIL(".lab.example")], None, [MAIL("x@sub.lab.example")]),
        ([MAIL(".lab.example")], None, [MAIL("x@lab.example")]),
        ([MAIL("x@lab.example")], None, [MAIL("x@LAB.example")]),
        ([MAIL("x@lab.example")], None, [MAIL("X@lab.example")]),
        ([URI("lab.example")], None, [URI("http://lab.example/a")]),
        ([URI("lab.example")], None, [URI("http://a.lab.example/a")]),
        ([URI(".lab.example")], None, [URI("http://a.lab.example:80/a")]),
        ([URI("lab.example")], None, [URI("urn:x:y")]),
        ([V4], None, [x509.IPAddress(ip_address("192.0.2.9"))]),
        ([V4], None, [x509.IPAddress(ip_address("192.0.3.9"))]),
        ([V4], None, [x509.IPAddress(ip_address("2001:db8::1"))]),
        (None, [V6], [x509.IPAddress(ip_address("2001:db8::1"))]),
        (None, [V6], [x509.IPAddress(ip_address("192.0.2.9"))]),
        ([directory("O=Lab")], None, []),
        ([directory("O=lAB\\ ")], None, []),
        ([directory("O=Other")], None, []),
        (None, [directory("O=Lab")], []),
        ([directory("CN=the agent,O=Lab")], None, []),
        ([directory("CN=more,CN=the agent,O=Lab")], None, []),
        ([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))], None, [DNS("a.example")]),
        (
            None,
            [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))],
            [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))],
        ),
    ],
)
def test_name_constraints(
    tmp_path: Path, permitted: Subtrees, excluded: Subtrees, names: list[x509.GeneralName]
) -> None:
    """Of the root, and of a CA between."""
    extension = constrained(permitted, excluded)
    more = (sans(*names),) if names else ()
    subject = asn1.seq(
        *(
            asn1.set_of(asn1.seq(asn1.oid(oid), asn1.text(text, asn1.UTF8)))
            for oid, text in (("2.5.4.10", "Lab"), ("2.5.4.3", "the agent"))
        )
    )
    root = ca_of(None, 0, FREE, extension)
    agent = agent_of(root, subject, *more)  # type: ignore[arg-type] # a Name, encoded
    assert we_accept(root, agent) is openssl_accepts(tmp_path, root, agent)
    free = ca_of(None, 0, FREE)
    between = ca_of(free, 1, FREE, extension)
    below = agent_of(between, subject, *more)  # type: ignore[arg-type] # as above
    assert we_accept(free, between, below) is openssl_accepts(tmp_path, free, between, below)


def test_a_mail_address_in_the_subject() -> None:
    """It counts where there is no subjectAltName (RFC 5280 section 4.2.1.10)."""
    root = ca_of(None, 0, FREE, constrained([MAIL("lab.example")], None))
    for address, fine in (("x@lab.example", True), ("x@other.example", False)):
        subject = asn1.seq(
            asn1.set_of(asn1.seq(asn1.oid("1.2.840.113549.1.9.1"), asn1.text(address, asn1.IA5)))
        )
        assert we_accept(root, agent_of(root, subject)) is fine  # type: ignore[arg-type] # a Name


def test_constraints_that_cannot_be_read() -> None:
    root = ca_of(None, 0, FREE)
    between = ca_of(root, 1, FREE, keys.extension("2.5.29.30", asn1.null(), critical=True))
    sent = [RawCertificate(one.der) for one in (root, between)]
    with pytest.raises(ProtocolError):
        trust.select(sent, sent[:1], pyscep.MODERN, now=NOW, check_key_usage=True)


# --- an intermediate in the reply -------------------------------------------------------


def judged(authorities: list[keys.Party], bag: list[keys.Party], leaf: keys.Party) -> None:
    """What a client does with an issued certificate and what came along."""
    raw = tuple(RawCertificate(one.der) for one in authorities)
    session = Session(
        ca=raw[0],
        recipient=raw[0],
        signers=raw,
        authorities=raw,
        algorithms=Algorithms(digest="sha256"),
        post=True,
        identity=Identity(leaf.certificate, leaf.key),
    )
    found = read_certs_only(forge.certs_only([one.der for one in (*bag, leaf)]))
    verify_issued(RawCertificate(leaf.der), session, found, pyscep.MODERN)


def test_an_intermediate_that_comes_with_the_certificate(tmp_path: Path) -> None:
    for rooms in ((FREE, FREE, FREE), (1, FREE, FREE), (2, 0, FREE), (0, FREE), (1, 0)):
        *chain, leaf = chain_of(rooms)
        works: Callable[[], Any]
        for known in range(1, len(chain)):

            def works(chain: Any = chain, leaf: Any = leaf, known: int = known) -> None:
                judged(list(reversed(chain[:known])), chain[known:], leaf)

            if openssl_accepts(tmp_path, *chain, leaf):
                works()
            else:
                with pytest.raises(PathError):
                    works()


def test_an_intermediate_of_somebody_else() -> None:
    *chain, leaf = chain_of((FREE, FREE))
    other = ca_of(None, 0, FREE)
    impostor = keys.party(
        "CN=level 1,O=Lab",
        keys.rsa_key("impostor"),
        issuer=keys.Party(keys.rsa_key("impostor"), other.der),
        extensions=(keys.basic_constraints(True), ISSUES),
    )
    with pytest.raises(SignatureError):
        judged(chain[:1], [impostor], agent_of(impostor))
    judged(chain[:1], chain[1:], leaf)


def test_what_is_trusted_together() -> None:
    """Certificates that do not hang together are anchors, each for itself."""
    *chain, _ = chain_of((1, FREE, FREE))
    lone = keys.party(
        "CN=lone,O=Lab",
        keys.rsa_key("lone"),
        issuer=keys.Party(keys.rsa_key("impostor"), chain[0].der),
        extensions=(keys.basic_constraints(True), ISSUES),
    )
    raw = [RawCertificate(one.der) for one in (*reversed(chain[:2]), lone)]
    paths = Paths.through(raw, pyscep.MODERN)
    assert set(paths) == set(raw)
    with pytest.raises(PathError):
        paths.admit(RawCertificate(chain[2].der), pyscep.MODERN)
    assert RawCertificate(chain[2].der) not in paths
    below = agent_of(lone)
    assert paths.admit(RawCertificate(below.der), pyscep.MODERN)
    assert not paths.admit(RawCertificate(keys.client("x").der), pyscep.MODERN)


def test_a_uri_without_a_host_fits_no_constraint() -> None:
    """RFC 5280 section 4.2.1.10: the constraint applies to the host part of a URI."""
    only = constrained(None, [x509.UniformResourceIdentifier("lab.example")])
    root = ca_of(None, 0, FREE, only)
    for uri in ("http://[::", "urn:uuid:1"):
        leaf = agent_of(root, "CN=the agent,O=Lab", sans(x509.UniformResourceIdentifier(uri)))
        assert not we_accept(root, leaf)
    sound = sans(x509.UniformResourceIdentifier("http://other.example/"))
    assert we_accept(root, agent_of(root, "CN=the agent,O=Lab", sound))


def test_a_session_is_about_the_ca_that_issued() -> None:
    """Two CAs have one name in a rollover: the signature tells them apart."""
    other = keys.party("CN=level 0,O=Lab", keys.rsa_key("another key"), extensions=(ISSUES,))
    root = ca_of(None, 0, FREE)
    leaf = agent_of(root)
    first, right, device = (RawCertificate(one.der) for one in (other, root, leaf))
    session = Session(
        ca=first,
        recipient=first,
        signers=(first,),
        authorities=(first, right),
        algorithms=Algorithms(),
        post=True,
        identity=Identity(leaf.certificate, leaf.key),
    )
    assert session.about(device, pyscep.MODERN).ca == right
    assert session.about(first, pyscep.MODERN) is session


def test_a_purpose_that_cannot_be_read_is_no_devices() -> None:
    """What can't be told from an RA must not be renewed as a device."""
    strange = keys.extension("2.5.29.37", asn1.octets(b"no sequence"))
    party = keys.party("CN=strange", keys.rsa_key("client"), extensions=(SIGNS, strange))
    assert trust.acts_for_ca(party.certificate)
    assert not trust.acts_for_ca(agent_of(ca_of(None, 0, FREE)).certificate)
