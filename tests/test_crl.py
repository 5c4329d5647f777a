"""pyscep.crl: look-ups in CRLs made by cryptography, checked against what cryptography reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.crl import find_revocation
from tests import forge_keys as keys
from tests import forge_tlv as asn1

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def make_crl(entries: list[tuple[int, x509.ReasonFlags | None]], *, next_update: int = 7) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name.from_rfc4514_string("CN=CA"))
        .last_update(NOW)
        .next_update(NOW + timedelta(days=next_update))
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    for serial, reason in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(keys.rsa_key("client"), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("next_update", [7, 365 * 40], ids=["UTCTime", "GeneralizedTime"])
def test_what_cryptography_reads(next_update: int) -> None:
    reasons = list(x509.ReasonFlags)
    entries = [(2**158 + n * 977, reasons[n % len(reasons)] if n % 3 else None)
               for n in range(300)]
    entries += [(1, None), (127, None), (128, None), (2**159 - 1, None)]
    crl = make_crl(entries, next_update=next_update)
    read = x509.load_der_x509_crl(crl)
    for serial, _ in entries:
        theirs = read.get_revoked_certificate_by_serial_number(serial)
        ours = find_revocation(crl, serial)
        assert theirs is not None
        assert ours is not None
        assert (ours.serial_number, ours.revoked_at) == (serial, theirs.revocation_date_utc)
        flags = [one.value.reason.value for one in theirs.extensions]
        assert ours.reason == (flags[0] if flags else "unspecified")
    for absent in (2, 2**158 + 1, 2**70, 255):
        assert find_revocation(crl, absent) is None
        assert read.get_revoked_certificate_by_serial_number(absent) is None


def test_an_empty_crl() -> None:
    assert find_revocation(make_crl([]), 1) is None


def test_what_is_no_crl() -> None:
    crl = make_crl([(5, None)])
    csr = keys.csr(keys.rsa_key("client"))
    for bad in (b"", b"\x30\x80\x00\x00", crl[:-1], crl + b"\x00", csr):
        with pytest.raises(pyscep.DecodeError):
            find_revocation(bad, 5)


@pytest.mark.parametrize("entry", [
    asn1.octets(b"x"), asn1.seq(asn1.null()), asn1.seq(),
    asn1.tlv(0x30, bytes.fromhex("0285000000000105")), asn1.tlv(0x30, b"\x02\x05\x01"),
    asn1.tlv(0x30, b"\x02"), asn1.tlv(0x30, b"\x02\x82\x01"), asn1.tlv(0x30, b"\x02\x81\x05\x01")])
def test_malformed_entries(entry: bytes) -> None:
    """Whatever stands before the serial number that is asked for is a fault, not a skip."""
    good = asn1.seq(asn1.integer(5), asn1.utc_time(NOW))
    tbs = asn1.seq(asn1.seq(), asn1.seq(), asn1.utc_time(NOW), asn1.seq(entry, good))
    crl = asn1.seq(tbs, asn1.seq(), asn1.bits(b"x"))
    with pytest.raises(pyscep.DecodeError):
        find_revocation(crl, 5)


def test_long_entries_are_passed_over() -> None:
    """Lengths of two octets and more, of an entry and of a serial number."""
    filler = asn1.seq(asn1.seq(asn1.oid("2.5.29.24"), asn1.octets(bytes(70_000))))
    entries = [
        asn1.seq(asn1.integer(9), asn1.utc_time(NOW), filler),
        asn1.seq(asn1.integer(2 ** 1200), asn1.utc_time(NOW)),
        asn1.seq(asn1.integer(5), asn1.utc_time(NOW))]
    tbs = asn1.seq(asn1.seq(), asn1.seq(), asn1.utc_time(NOW), asn1.seq(*entries))
    crl = asn1.seq(tbs, asn1.seq(), asn1.bits(b"x"))
    found = find_revocation(crl, 5)
    assert found is not None
    assert found.revoked_at == NOW
    assert find_revocation(crl, 6) is None


def test_odd_reasons() -> None:
    def crl(*extensions: bytes) -> bytes:
        entry = asn1.seq(asn1.integer(5), asn1.utc_time(NOW), asn1.seq(*extensions))
        tbs = asn1.seq(asn1.seq(), asn1.seq(), asn1.utc_time(NOW), asn1.seq(entry))
        return asn1.seq(tbs, asn1.seq(), asn1.bits(b"x"))

    def reason(value: bytes) -> bytes:
        return asn1.seq(asn1.oid("2.5.29.21"), asn1.octets(value))

    other = asn1.seq(asn1.oid("2.5.29.24"), asn1.octets(b"x"))
    found = [find_revocation(crl(*one), 5) for one in (
        (other,), (), (other, reason(b"\x0a\x01\x01")), (reason(b"\x0a\x01\x07"),))]
    assert [one and one.reason for one in found] == [
        "unspecified", "unspecified", "keyCompromise", "reason 7"]
    with pytest.raises(pyscep.DecodeError):
        find_revocation(crl(reason(b"\x02\x01\x01")), 5)
