"""cms.algorithms: names, identifiers, policies; OpenSSL for the forms of RSAES-OAEP."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from asn1crypto import algos
from cryptography.hazmat.primitives.asymmetric import padding

import pyscep
from pyscep.cms import algorithms, enveloped_data
from pyscep.cms.algorithms import CIPHERS, DIGESTS, AlgorithmPolicy, KeyTransport
from pyscep.codec import der
from pyscep.errors import AlgorithmError, ProtocolError
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity
from tests.forge_envelope import CIPHERS as FORGED_CIPHERS
from tests.forge_envelope import RSAES_OAEP, oaep_parameters

P_SPECIFIED = "1.2.840.113549.1.1.9"


# --- policies --------------------------------------------------------------------------


def test_policies_grow() -> None:
    modern, compatible, legacy = map(AlgorithmPolicy.named, ("modern", "compatible", "legacy"))
    assert (modern, compatible, legacy) == (pyscep.MODERN, pyscep.COMPATIBLE, pyscep.LEGACY)
    assert compatible.digests - modern.digests == {"sha1"}
    assert legacy.digests - compatible.digests == {"md5"}
    assert compatible.ciphers - modern.ciphers == {"des-ede3-cbc"}
    assert legacy.ciphers - compatible.ciphers == {"des-cbc"}
    assert modern.digests == {"sha256", "sha384", "sha512"}
    assert modern.ciphers == {"aes128-cbc", "aes192-cbc", "aes256-cbc"}


@pytest.mark.parametrize("name", ["", "Modern", "strict"])
def test_an_unknown_policy(name: str) -> None:
    with pytest.raises(ValueError, match="choose modern, compatible or legacy"):
        AlgorithmPolicy.named(name)


@pytest.mark.parametrize(("digest", "hint"), [
    ("sha1", "allowed by the policy 'compatible'"), ("md5", "allowed by the policy 'legacy'"),
    ("sha224", "sha224$")])
def test_a_refused_digest_says_who_allows_it(digest: str, hint: str) -> None:
    with pytest.raises(AlgorithmError, match=f"'modern' refuses the digest .*{hint}"):
        pyscep.MODERN.require_digest(digest)


@pytest.mark.parametrize(("cipher", "hint"), [
    ("des-ede3-cbc", "'compatible'"), ("des-cbc", "'legacy'"), ("rc2-cbc", "rc2-cbc$")])
def test_a_refused_cipher_says_who_allows_it(cipher: str, hint: str) -> None:
    with pytest.raises(AlgorithmError, match=f"'modern' refuses the cipher .*{hint}"):
        pyscep.MODERN.require_cipher(cipher)


def test_what_is_allowed_passes() -> None:
    pyscep.MODERN.require_digest("sha256")
    pyscep.MODERN.require_cipher("aes128-cbc")
    pyscep.MODERN.require_key_transport("rsaes-oaep")


def test_a_refused_key_transport() -> None:
    only_oaep = AlgorithmPolicy(
        name="mine", digests=frozenset(), ciphers=frozenset(),
        key_transports=frozenset({"rsaes-oaep"}))
    with pytest.raises(AlgorithmError, match="'mine' refuses the key transport rsaEncryption"):
        only_oaep.require_key_transport("rsaEncryption")


# --- digests and ciphers ---------------------------------------------------------------


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("parameters", [None, asn1.null()])
def test_digests(name: str, parameters: bytes | None) -> None:
    digest = DIGESTS[name]
    oid = asn1.oid(algos.DigestAlgorithmId(name).dotted)
    assert digest.oid == oid
    assert digest.size == len(digest.of(b"")) == digest.algorithm.digest_size
    found = algorithms.digest_from(der.read(asn1.seq(oid, parameters or b"")))
    assert found is digest


def test_identifiers_of_digests_as_rfc_5754_has_them() -> None:
    for name, digest in DIGESTS.items():
        assert digest.identifier.endswith(b"\x05\x00") == (name in ("md5", "sha1"))


@pytest.mark.parametrize("parameters", [asn1.seq(), asn1.octets(b""), asn1.integer(0)])
def test_a_digest_takes_no_parameters(parameters: bytes) -> None:
    with pytest.raises(AlgorithmError, match="takes no parameters"):
        algorithms.digest_from(der.read(asn1.algorithm(keys.DIGEST_OIDS["sha256"], parameters)))


@pytest.mark.parametrize("read", [
    algorithms.digest_from, algorithms.cipher_from, algorithms.key_transport_from])
def test_unknown_algorithms_are_named(read: object) -> None:
    with pytest.raises(AlgorithmError, match=r"unknown .* 1\.2\.3\.4"):
        read(der.read(asn1.algorithm("1.2.3.4", asn1.null())))  # type: ignore[operator]  # a function
    with pytest.raises(AlgorithmError, match="more than two parts"):
        read(der.read(asn1.seq(asn1.oid("1.2.3"), asn1.null(), asn1.null())))  # type: ignore[operator]  # a function


@pytest.mark.parametrize("name", CIPHERS)
def test_ciphers(name: str) -> None:
    cipher, iv = CIPHERS[name], bytes(range(CIPHERS[name].block_size))
    dotted, key_size, block_size = FORGED_CIPHERS[name]
    assert (cipher.oid, cipher.key_size, cipher.block_size) == (
        asn1.oid(dotted), key_size, block_size)
    found = algorithms.cipher_from(der.read(asn1.algorithm(dotted, asn1.octets(iv))))
    assert found == (cipher, iv)
    assert algos.EncryptionAlgorithmId(asn1.read(cipher.oid).oid).native == {
        "des-cbc": "des", "des-ede3-cbc": "tripledes_3key"}.get(name, name.replace("-", "_"))


@pytest.mark.parametrize("name", CIPHERS)
def test_ciphers_open_what_openssl_makes(name: str, tmp_path: Path) -> None:
    cipher = CIPHERS[name]
    key, iv, data = bytes(range(1, cipher.key_size + 1)), bytes(cipher.block_size), b"x" * 77
    option = {"des-cbc": "des-ede3-cbc", "aes128-cbc": "aes-128-cbc",
              "aes192-cbc": "aes-192-cbc", "aes256-cbc": "aes-256-cbc"}.get(name, name)
    # single DES is in OpenSSL's legacy provider; 3DES with one key three times is the same
    hexadecimal = (key * 3 if name == "des-cbc" else key).hex()
    made = subprocess.run(
        ["openssl", "enc", f"-{option}", "-K", hexadecimal, "-iv", iv.hex()],
        input=data, check=True, capture_output=True).stdout
    decryptor = cipher.decryptor(key, iv)
    padded = decryptor.update(made) + decryptor.finalize()
    assert padded[:77] == data
    encryptor = cipher.encryptor(key, iv)
    assert encryptor.update(padded) + encryptor.finalize() == made


@pytest.mark.parametrize("parameters", [None, asn1.null()])
def test_a_missing_iv(parameters: bytes | None) -> None:
    for name, (dotted, _, block) in FORGED_CIPHERS.items():
        if name not in CIPHERS:
            continue
        node = der.read(asn1.algorithm(dotted, parameters))
        if name == "des-cbc":
            assert algorithms.cipher_from(node) == (CIPHERS[name], bytes(block))
        else:
            with pytest.raises(AlgorithmError, match="without an IV"):
                algorithms.cipher_from(node)


@pytest.mark.parametrize("iv", [
    asn1.octets(b""), asn1.octets(bytes(8)), asn1.octets(bytes(15)), asn1.octets(bytes(17)),
    asn1.tlv(0x80, bytes(16)), asn1.seq(asn1.octets(bytes(16))),
    asn1.tlv(0x24, asn1.octets(bytes(16)))])
def test_an_iv_that_does_not_fit(iv: bytes) -> None:
    with pytest.raises(AlgorithmError, match="an IV that does not fit"):
        algorithms.cipher_from(der.read(asn1.algorithm(FORGED_CIPHERS["aes128-cbc"][0], iv)))


# --- key transport ---------------------------------------------------------------------


def oaep(parameters: bytes | None) -> KeyTransport:
    return algorithms.key_transport_from(der.read(asn1.algorithm(RSAES_OAEP, parameters)))


def label(content: bytes) -> bytes:
    return asn1.tlv(0xA2, asn1.algorithm(P_SPECIFIED, asn1.octets(content)))


@pytest.mark.parametrize("parameters", [None, asn1.null()])
def test_rsa_encryption(parameters: bytes | None) -> None:
    found = algorithms.key_transport_from(
        der.read(asn1.algorithm(keys.RSA_ENCRYPTION, parameters)))
    assert found == KeyTransport("rsaEncryption")
    assert isinstance(found.padding(), padding.PKCS1v15)
    assert found.identifier() == asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null())


@pytest.mark.parametrize("parameters", [None, asn1.null(), asn1.seq(), asn1.seq(label(b""))])
def test_oaep_defaults(parameters: bytes | None) -> None:
    assert oaep(parameters) == KeyTransport("rsaes-oaep", "sha1", "sha1")


@pytest.mark.parametrize("digest", ["sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("mgf", ["sha1", "sha256", "sha512"])
def test_oaep_parameters(digest: str, mgf: str) -> None:
    found = oaep(oaep_parameters(digest, mgf))
    assert found == KeyTransport("rsaes-oaep", digest, mgf)
    assert found.identifier() == asn1.algorithm(RSAES_OAEP, oaep_parameters(digest, mgf))
    other = algos.EncryptionAlgorithm.load(found.identifier())["parameters"]
    assert other["hash_algorithm"]["algorithm"].native == digest
    assert other["mask_gen_algorithm"]["parameters"]["algorithm"].native == mgf
    assert isinstance(found.padding(), padding.OAEP)


@pytest.mark.parametrize("parameters", [
    asn1.seq(label(b"x")),
    asn1.seq(asn1.tlv(0xA2, asn1.algorithm("1.2.3", asn1.octets(b"")))),
    asn1.seq(asn1.tlv(0xA2, asn1.algorithm(P_SPECIFIED))),
    asn1.seq(asn1.tlv(0xA1, asn1.algorithm("1.2.3", asn1.null()))),
    asn1.seq(asn1.tlv(0xA1, asn1.algorithm(keys.MGF1))),
    asn1.seq(asn1.tlv(0xA0, asn1.algorithm("1.2.3"))),
    asn1.seq(asn1.tlv(0xA3, asn1.integer(1))),
    oaep_parameters("md5", "sha1"), oaep_parameters("sha1", "md5"),
])
def test_oaep_parameters_that_are_refused(parameters: bytes) -> None:
    with pytest.raises(AlgorithmError):
        oaep(parameters)


@pytest.mark.parametrize("parameters", [
    asn1.integer(1), asn1.seq(asn1.integer(1)), asn1.seq(asn1.tlv(0xA0)),
    asn1.seq(asn1.tlv(0x80, b"x")), asn1.seq(asn1.tlv(0xA2, asn1.algorithm(
        P_SPECIFIED, asn1.null())))])
def test_oaep_parameters_that_are_none(parameters: bytes) -> None:
    with pytest.raises(ProtocolError):
        oaep(parameters)


@pytest.mark.parametrize("options", [
    (), ("rsa_oaep_md:sha1",), ("rsa_oaep_md:sha256",), ("rsa_oaep_md:sha512",),
    ("rsa_mgf1_md:sha256",), ("rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"),
    ("rsa_oaep_md:sha384", "rsa_mgf1_md:sha512"),
])
def test_oaep_of_openssl(options: tuple[str, ...], tmp_path: Path) -> None:
    party = keys.ca()
    (tmp_path / "cert.pem").write_bytes(party.pem)
    (tmp_path / "plain").write_bytes(b"a secret")
    arguments = [part for option in ("rsa_padding_mode:oaep", *options)
                 for part in ("-keyopt", option)]
    made = subprocess.run(
        ["openssl", "cms", "-encrypt", "-binary", "-aes-128-cbc", "-outform", "DER", "-in",
         "plain", "-recip", "cert.pem", *arguments],
        cwd=tmp_path, check=True, capture_output=True).stdout
    envelope = enveloped_data.read_enveloped_data(made)
    opened = enveloped_data.decrypt(
        envelope, (identity(party),), pyscep.MODERN, token_bytes=bytes)
    assert (opened.plaintext, opened.sound) == (b"a secret", True)
    named = dict(option.split(":") for option in options)
    digest = named.get("rsa_oaep_md", "sha1")
    assert opened.key_transport == KeyTransport(
        "rsaes-oaep", digest, named.get("rsa_mgf1_md", digest))
