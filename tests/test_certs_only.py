"""cms.certs_only: the degenerate SignedData; OpenSSL makes some and reads ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyscep.cms import certs_only
from pyscep.cms.certs_only import CertsOnly, build_certs_only, read_certs_only
from pyscep.cms.signed_data import MAX_CERTIFICATES
from pyscep.codec import der
from pyscep.errors import DecodeError
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1

CERTIFICATES = (keys.ca().der, keys.ra("sign").der, keys.ra("encrypt").der)
CRL = keys.crl(keys.ca(), 5, 6)


def test_build_is_der_and_sorted() -> None:
    encoded = build_certs_only(CERTIFICATES, (CRL,))
    asn1.assert_der(encoded)
    assert encoded == forge.certs_only(sorted(CERTIFICATES), crls=(CRL,))
    assert read_certs_only(encoded) == CertsOnly(
        certificates=tuple(sorted(CERTIFICATES)), crls=(CRL,))


@pytest.mark.parametrize(("certificates", "crls"), [
    ((), ()), (CERTIFICATES[:1], ()), ((), (CRL,)), (CERTIFICATES, (CRL, keys.crl(keys.ca(), 7)))])
def test_empty_sets_are_left_out(
    certificates: tuple[bytes, ...], crls: tuple[bytes, ...]
) -> None:
    encoded = build_certs_only(certificates, crls)
    signed = asn1.read(encoded)[1][0]
    assert [part.tag for part in signed][3:-1] == [0xA0] * bool(certificates) + [0xA1] * bool(crls)
    found = read_certs_only(encoded)
    assert (set(found.certificates), set(found.crls)) == (set(certificates), set(crls))


def test_openssl_reads_ours(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"],
        input=build_certs_only(CERTIFICATES, (CRL,)), check=True, capture_output=True)
    assert ran.stdout.count(b"subject=") == 3
    assert ran.stdout.count(b"Certificate Revocation List") <= 1


def test_ours_reads_openssl(tmp_path: Path) -> None:
    (tmp_path / "one.pem").write_bytes(keys.ca().pem)
    (tmp_path / "two.pem").write_bytes(keys.ra("sign").pem)
    (tmp_path / "crl.der").write_bytes(CRL)
    pem = subprocess.run(["openssl", "crl", "-inform", "DER", "-in", "crl.der"],
                         cwd=tmp_path, check=True, capture_output=True).stdout
    (tmp_path / "crl.pem").write_bytes(pem)
    made = subprocess.run(
        ["openssl", "crl2pkcs7", "-in", "crl.pem", "-certfile", "one.pem", "-certfile", "two.pem",
         "-outform", "DER"], cwd=tmp_path, check=True, capture_output=True).stdout
    found = read_certs_only(made)
    assert set(found.certificates) == {keys.ca().der, keys.ra("sign").der}
    assert found.crls == (CRL,)


@pytest.mark.parametrize("style", [asn1.DER, asn1.BER, asn1.BOUNCY_CASTLE, asn1.Style(pad=1)])
@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("trailing", [b"", b"\r\n", bytes(8)])
def test_forms(style: asn1.Style, wrap: bool, trailing: bytes) -> None:
    encoded = forge.certs_only(CERTIFICATES, crls=(CRL,), wrap=wrap, style=style)
    assert read_certs_only(encoded + trailing) == CertsOnly(certificates=CERTIFICATES, crls=(CRL,))


@pytest.mark.parametrize("wrap", [True, False])
def test_a_large_crl_is_not_entered(wrap: bool) -> None:
    crl = keys.crl(keys.ca(), *range(1, 12_000))
    assert read_certs_only(forge.certs_only(crls=(crl,), wrap=wrap)).crls == (crl,)


def test_other_kinds_of_certificates_are_passed_over() -> None:
    encoded = forge.certs_only((keys.ca().der, asn1.tlv(0xA1, asn1.null())),
                               crls=(asn1.tlv(0xA1, asn1.null()), CRL))
    assert read_certs_only(encoded) == CertsOnly(certificates=(keys.ca().der,), crls=(CRL,))


def test_the_number_of_certificates() -> None:
    small = [asn1.seq(asn1.integer(number)) for number in range(MAX_CERTIFICATES + 1)]
    assert len(read_certs_only(build_certs_only(small[:-1])).certificates) == MAX_CERTIFICATES
    with pytest.raises(DecodeError, match="too many certificates"):
        read_certs_only(build_certs_only(small))


@pytest.mark.parametrize("data", [
    b"", asn1.null(), asn1.seq(), asn1.seq(asn1.integer(1), asn1.set_of()),
    asn1.seq(asn1.oid(forge.DATA), asn1.tlv(0xA0, asn1.octets(b""))),
    asn1.seq(asn1.oid(forge.SIGNED_DATA)), asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.null()),
    asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0)),
    asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(asn1.integer(1)))),
    asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.null())),
    forge.certs_only(CERTIFICATES) + bytes(9),
])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_certs_only(data)


def test_reprs_are_short() -> None:
    assert repr(CertsOnly(certificates=CERTIFICATES)) == "CertsOnly()"
    assert der.read(build_certs_only()).tag == der.SEQUENCE


USUAL = [
    build_certs_only(CERTIFICATES[:count], (CRL,) * crls)
    for count in (0, 1, 3) for crls in (0, 1, 2)
]


@pytest.mark.parametrize("encoded", USUAL)
def test_ours_are_read_in_the_short_way(
    encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = certs_only._read_any_certs_only(encoded)
    monkeypatch.delattr(certs_only, "_read_any_certs_only")
    assert read_certs_only(encoded) == expected


@given(st.sampled_from(USUAL), st.integers(0, 90), st.integers(0, 255), st.booleans())
def test_the_short_way_finds_what_the_long_one_does(
    encoded: bytes, at: int, octet: int, behind: bool
) -> None:
    changed = bytearray(encoded)
    changed[-1 - at % 40 if behind else min(at, len(changed) - 1)] = octet
    try:
        expected = certs_only._read_any_certs_only(bytes(changed))
    except DecodeError:
        return
    assert read_certs_only(bytes(changed)) == expected


def test_many_crls() -> None:
    crls = tuple(sorted(keys.crl(keys.ca(), number) for number in range(20, 32)))
    for count in (7, 8, 12):
        assert read_certs_only(build_certs_only((), crls[:count])).crls == crls[:count]
