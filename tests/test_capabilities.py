"""capabilities: what rule tests (group Q) leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyscep
from pyscep.capabilities import MAX_BYTES, Capabilities
from pyscep.cms.algorithms import Algorithms
from pyscep.errors import ProtocolError

DIGESTS = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"]


def having(*keywords: str) -> Capabilities:
    return Capabilities(keywords=keywords)


@pytest.mark.parametrize("policy", ["modern", "compatible", "legacy"])
@pytest.mark.parametrize("renewal", [True, False])
@pytest.mark.parametrize("next_ca", [True, False])
def test_a_server_announces_what_its_policy_has(policy: str, renewal: bool, next_ca: bool) -> None:
    named = pyscep.AlgorithmPolicy.named(policy)
    made = Capabilities.of_server(named, renewal=renewal, next_ca=next_ca)
    assert ("Renewal" in made, "GetNextCACert" in made) == (renewal, next_ca)
    assert ("SHA-1" in made) == ("DES3" in made) == (policy != "modern")
    assert all(keyword in made for keyword in ("AES", "POSTPKIOperation", "SHA-256"))
    assert Capabilities.parse(made.to_bytes()) == made
    assert made.choose(named) == Algorithms(digest="sha256", cipher="aes128-cbc")


@given(st.binary(max_size=80))
def test_any_list_can_be_written_and_read_again(body: bytes) -> None:
    read = Capabilities.parse(body)
    assert Capabilities.parse(read.to_bytes()).keywords == read.keywords


def test_the_size_is_bounded() -> None:
    assert Capabilities.parse(b"a\n" * (MAX_BYTES // 2)).keywords[0] == "a"
    with pytest.raises(ProtocolError, match="too long"):
        Capabilities.parse(bytes(MAX_BYTES + 1))


@given(st.sets(st.sampled_from(["AES", "DES3", "SCEPStandard", "Renewal", "x", *DIGESTS])),
       st.sampled_from(["modern", "compatible", "legacy"]))
def test_a_client_never_goes_below_its_policy(keywords: set[str], policy: str) -> None:
    named = pyscep.AlgorithmPolicy.named(policy)
    chosen = having(*keywords).choose(named)
    assert chosen.digest in named.digests - {"md5"}
    assert chosen.cipher in named.ciphers - {"des-cbc"}
    if "SHA-256" in keywords or "SCEPStandard" in keywords:
        assert chosen.digest == "sha256"
    if "AES" in keywords or "SCEPStandard" in keywords:
        assert chosen.cipher == "aes128-cbc"


@pytest.mark.parametrize(("keywords", "policy", "digest", "cipher"), [
    ((), "modern", "sha256", "aes128-cbc"), ((), "compatible", "sha1", "des-ede3-cbc"),
    ((), "legacy", "sha1", "des-ede3-cbc"), (("SHA-512",), "modern", "sha512", "aes128-cbc"),
    (("SHA-384", "AES"), "compatible", "sha384", "aes128-cbc"),
    (("SHA-1", "AES"), "modern", "sha256", "aes128-cbc")])
def test_choices(keywords: tuple[str, ...], policy: str, digest: str, cipher: str) -> None:
    chosen = having(*keywords).choose(pyscep.AlgorithmPolicy.named(policy))
    assert (chosen.digest, chosen.cipher) == (digest, cipher)


def test_requirements() -> None:
    have = having("scepstandard", "Renewal")
    have.require(["AES", "renewal", "POSTPKIOperation"])
    have.require([])
    assert have.post
    assert have.renewal
    assert not having().post
    with pytest.raises(ProtocolError, match="announce SHA-512, Foo, which is required"):
        have.require(["AES", "SHA-512", "Foo"])
