"""`pyscep.inspect`: the forms a message comes in, and what is said to a person.

What inspect finds in real messages is compared with the corpus's manifest in test_corpus.py;
what it calls unusual is in test_inspect_unusual.py.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import sys
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pyscep import inspect
from pyscep.errors import DecodeError
from pyscep.inspect import Report
from tests import corpus, devices, forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1

CA = keys.ca()
MESSAGE = forge.pkcs_req(CA, challenge="hush-hush").build()
URL_FORMS = {
    "escaped": devices.url_escaped,
    "bare": devices.url_bare,
    "padding escaped": devices.url_padding_escaped,
    "lines": devices.url_lines,
    "base64url": devices.url_safe_alphabet,
    "unpadded": devices.url_unpadded,
    "twice": devices.url_twice,
}
QUERY = "operation=PKIOperation&message=" + devices.url_escaped(MESSAGE)


def transaction_of(report: Report) -> str:
    assert report.kind == "pkiMessage"
    found = report.to_dict()["transaction_id"]
    assert isinstance(found, str)
    return found


def pem(label: str, data: bytes) -> bytes:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def codes(report: Report) -> set[str]:
    return {remark.code for remark in report.remarks}


# --- the forms of one message ---------------------------------------------------------

FORMS = {
    "DER": MESSAGE,
    "BER": forge.pkcs_req(CA, style=asn1.Style(indefinite=True, chunk=1000)).build(),
    "DER and a line break": MESSAGE + b"\r\n",
    "PEM": b"# from a file\n" + pem("PKCS7", MESSAGE),
    "PEM of openssl cms": pem("CMS", MESSAGE).replace(b"\n", b"\r\n"),
    "base64": base64.b64encode(MESSAGE),
    "base64 in lines": b"\n" + base64.encodebytes(MESSAGE) + b"\n",
    "base64url": base64.urlsafe_b64encode(MESSAGE),
    "escaped base64": devices.url_escaped(MESSAGE).encode(),
    "URL": b"https://ca.example/scep/pkiclient.exe?" + QUERY.encode() + b"\n",
    "a query alone": QUERY.encode(),
    "operation in another case": QUERY.replace("PKIOperation", "pkioperation").encode(),
    "two question marks": b"http://ca.example/scep??" + QUERY.encode(),
    "curl": f"curl -v 'http://ca.example/scep?{QUERY}' > x".encode(),
    "Apache combined log": f'192.0.2.7 - - [22/Nov/2026:14:00:25 +0000] "GET /scep?{QUERY}'
    ' HTTP/1.1" 200 3798 "-" "certmonger"\n'.encode(),
    "nginx log, second line": '192.0.2.7 - - [22/Nov/2026:14:00:24 +0000] "GET / HTTP/1.1" 200 1\n'
    f'192.0.2.7 - - [22/Nov/2026:14:00:25 +0000] "GET /scep?{QUERY} HTTP/1.0" 200 1\n'.encode(),
    "IIS log": b"2026-11-22 14:00:25 192.0.2.1 GET /certsrv/mscep/mscep.dll "
    + QUERY.encode() + b" 80 - 192.0.2.7 Mozilla/4.0 200 0 0 15",
    "JSON log": json.dumps({"method": "GET", "uri": f"/scep?{QUERY}"})
    .replace("&", "\\u0026").replace("=", "\\u003d").replace("/", "\\/").encode(),
    "GET": f"GET /scep?{QUERY} HTTP/1.1\r\nHost: ca.example\r\n\r\n".encode(),
    "POST": b"POST /scep?operation=PKIOperation HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s"
    % (len(MESSAGE), MESSAGE),
    "POST without carriage returns": b"POST /scep HTTP/1.0\nContent-Type: x\n\n" + MESSAGE,
    "POST in chunks": b"POST /scep?operation=PKIOperation HTTP/1.1\r\nTransfer-Encoding: Chunked"
    b"\r\n\r\n10;x=y\r\n%s\r\n%X\r\n%s\r\n0\r\n\r\n"
    % (MESSAGE[:16], len(MESSAGE) - 16, MESSAGE[16:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_message_is_found(form: str) -> None:
    assert transaction_of(inspect.inspect(FORMS[form])) == "0123456789ABCDEF0123456789ABCDEF"


@pytest.mark.parametrize("form", URL_FORMS)
def test_how_a_url_was_escaped_is_told(form: str) -> None:
    url = "http://ca.example/scep?operation=PKIOperation&message=" + URL_FORMS[form](MESSAGE)
    report = inspect.inspect(url.encode())
    notes = report.to_dict().get("url_notes", [])
    assert transaction_of(report)
    equals = {"bare ="} if len(MESSAGE) % 3 else set()
    expected = {
        "escaped": set(),
        "bare": {"bare +", "bare /"} | equals,
        "padding escaped": {"bare +", "bare /"},
        "lines": {"line breaks"},
        "base64url": {"base64url alphabet"} | equals,
        "unpadded": {"missing padding"} if equals else set(),
        "twice": {"escaped twice"},
    }[form]
    assert set(notes) == expected
    assert ("url" in codes(report)) is bool(notes)


def test_what_is_under_two_escapes_is_told() -> None:
    text = quote(devices.url_lines(MESSAGE), safe="")
    report = inspect.inspect(f"/scep?operation=PKIOperation&message={text}".encode())
    assert set(report.to_dict()["url_notes"]) == {"escaped twice", "line breaks"}


def test_a_post_as_the_rfc_wants_it() -> None:
    head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nContent-Type: application/x-pki-message"
    assert codes(inspect.inspect(head + b"\r\n\r\n" + MESSAGE)) == {"self-signed"}
    other = head.replace(b"x-pki-message", b"octet-stream") + b"\r\n\r\n" + MESSAGE
    assert codes(inspect.inspect(other)) == {"self-signed", "content-type"}


def test_a_plus_that_became_a_space() -> None:
    text = base64.b64encode(MESSAGE).decode().replace("+", "%20")
    report = inspect.inspect(f"/scep?message={text}&operation=PKIOperation".encode())
    assert "space instead of +" in report.to_dict()["url_notes"]
    assert {"message-first", "url"} <= codes(report)


def test_a_long_query_is_told() -> None:
    message = forge.pkcs_req(CA, challenge="x" * 9000).build()
    url = "http://ca.example/scep??operation=PKIOperation&message=" + quote(
        base64.b64encode(message))
    assert {"long-query", "doubled-question-mark"} <= codes(inspect.inspect(url.encode()))


# --- requests that carry no pkiMessage ------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), [
    (b"GET /scep?operation=GetCACert&message=CA-1 HTTP/1.1\r\n\r\n",
     {"operation": "GetCACert", "ca_identifier": "CA-1", "message_bytes": 4}),
    (b"http://ca.example/scep?operation=getcacaps",
     {"operation": "GetCACaps", "ca_identifier": "", "method": "GET"}),
    (b"http://ca.example/scep?operation=Nonsense",
     {"operation": "Nonsense", "problem": "unknown operation"}),
    (b"http://ca.example/scep?message=MIIx",
     {"operation": "", "problem": "the query names no operation"}),
    (b"DELETE /scep?operation=GetCACert HTTP/1.1\r\n\r\n",
     {"problem": "SCEP uses GET and POST", "method": "DELETE"}),
    (b"POST /scep?operation=PKIOperation HTTP/1.1\r\n\r\n",
     {"problem": "PKIOperation without a message"}),
    (b'192.0.2.7 - - [22/Nov/2026:14:00:25 +0000] "POST /?operation=PKIOperation HTTP/1.1" 200 9',
     {"problem": "a log does not have the body of a POST", "operation": "PKIOperation"}),
])
def test_a_request_without_a_message(data: bytes, expected: dict[str, Any]) -> None:
    found = inspect.inspect(data).to_dict()
    assert {name: found.get(name) for name in expected} == expected
    assert found["verified"]["value"] is False


@pytest.mark.parametrize("body", [b"0\x82\x01", b"\x30\x03\x02\x01\x01", b"\x30\x80\x00\x00"])
def test_http_around_rubbish_is_shown_all_the_same(body: bytes) -> None:
    report = inspect.inspect(b"POST /scep?operation=PKIOperation HTTP/1.1\r\n\r\n" + body)
    assert report.kind == "HTTP request"
    assert "unreadable" in codes(report)


# --- responses ------------------------------------------------------------------------


def response(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", body])


def test_a_response_with_capabilities() -> None:
    report = inspect.inspect(
        response(b"AES\r\nRenewal\r\n", b"Content-Type: text/plain; charset=x"))
    found = report.to_dict()
    assert report.kind == "GetCACaps answer"
    assert found["capabilities"] == ["AES", "Renewal"]
    assert (found["renewal"], found["post"]) == (True, False)
    assert codes(report) == {"content-type", "line-ends", "no-scepstandard", "no-post"}


def test_a_list_of_capabilities_alone() -> None:
    report = inspect.inspect(b"SHA-1\nDES3\nPOSTPKIOperation\n")
    assert report.kind == "GetCACaps answer"
    assert codes(report) == {"no-scepstandard", "no-aes"}
    assert codes(inspect.inspect(b"SCEPStandard")) == set()


def test_an_error_page() -> None:
    report = inspect.inspect(
        response(b"<html>\xff", b"Content-Length: 99", b"no colon", status=b"500"))
    found = report.to_dict()
    assert report.kind == "HTTP response"
    assert found["body_text"] == "<html>\\xff"
    assert codes(report) == {"content-length", "content-type", "http-status"}


def test_a_response_in_pem() -> None:
    report = inspect.inspect(response(CA.pem, b"Content-Type: application/x-x509-ca-cert"))
    assert report.kind == "certificate"
    assert "pem" in codes(report)


def test_a_response_without_a_body() -> None:
    report = inspect.inspect(b"HTTP/1.1 204 No Content\r\nServer: x")
    assert report.to_dict()["body_text"] == ""


@pytest.mark.parametrize("cut", [b"5\r\nab", b"zz\r\nab\r\n", b"5\r\nhello\r\n", b""])
def test_chunks_that_are_cut_short(cut: bytes) -> None:
    report = inspect.inspect(response(cut, b"Transfer-Encoding: chunked", b"Content-Type: x/y"))
    assert "chunks" in codes(report)


# --- other structures -----------------------------------------------------------------


def test_a_certificate() -> None:
    found = inspect.inspect(CA.der).to_dict()
    assert found["kind"] == "certificate"
    assert (found["subject"], found["key"], found["ca"]) == ("CN=Forge CA, O=Lab", "RSA 2048", True)
    assert found["verified"]["value"] is True
    agent = inspect.inspect(keys.ra().pem).to_dict()
    assert agent["verified"]["value"] is False
    assert agent["issuer"] == found["subject"]


def test_a_certificate_that_claims_to_be_its_own_issuer() -> None:
    forged = bytearray(CA.der)
    forged[-1] ^= 1
    found = inspect.inspect(bytes(forged)).to_dict()
    assert found["verified"] == {
        "value": False, "reason": "self-issued: the signature does not verify"}


@pytest.mark.parametrize("key", [keys.ec_key("x"), keys.ed_key("x")])
def test_certificates_of_other_keys(key: Any) -> None:
    found = inspect.inspect(keys.certificate("CN=x", key)).to_dict()
    assert found["key"] in ("EC secp256r1", "Ed25519")


def test_names_in_a_certificate() -> None:
    names = asn1.seq(
        asn1.tlv(0x82, b"device.example"),
        asn1.tlv(0xA4, keys.name("CN=x")),
        asn1.tlv(0xA0, asn1.oid("1.3.6.1.4.1.311.20.2.3"), asn1.tlv(0xA0, asn1.text("u@x"))),
    )
    data = keys.certificate("CN=x", CA.key, extensions=[keys.extension("2.5.29.17", names)])
    found = inspect.inspect(data).to_dict()
    assert found["subject_alt_names"] == [
        "DNSName=device.example", "directoryName=CN=x",
        f"otherName 1.3.6.1.4.1.311.20.2.3={asn1.text('u@x').hex()}"]


def test_a_chain_in_pem() -> None:
    report = inspect.inspect(CA.pem + keys.ra().pem)
    assert report.kind == "certificate"
    assert report.to_dict()["pem_labels"] == ["CERTIFICATE"] * 2
    subjects = [layer.fields["subject"] for layer in report.layers[1:]]
    assert subjects == ["CN=Forge CA, O=Lab", "CN=Forge RA both, O=Lab"]


@pytest.mark.parametrize("wrap", [True, False])
def test_certificates_only(wrap: bool) -> None:
    data = forge.certs_only([CA.der, keys.ra().der], crls=[keys.crl(CA, 5, 6)], wrap=wrap)
    found = inspect.inspect(data).to_dict()
    assert found["kind"] == "certificates"
    assert (found["inner_certs"], found["inner_crls"], found["inner_ber_features"]) == (2, 1, [])
    assert [one.get("ca") for one in found["inner_certificates"]] == [
        True, None]
    assert found["inner_revocation_lists"][0]["revoked"] == 2
    assert found["verified"]["value"] is False


def test_a_crl() -> None:
    found = inspect.inspect(keys.crl(CA, *range(40))).to_dict()
    assert found["kind"] == "certificate revocation list"
    assert (found["revoked"], found["crl_issuer"]) == (40, "CN=Forge CA, O=Lab")
    assert found["next_update"] > found["this_update"]


def test_a_crl_of_a_hundred_thousand_entries() -> None:
    """Its entries are counted, not indexed."""
    entry = asn1.seq(asn1.integer(1), asn1.tlv(0x17, b"261122140000Z"))
    tbs = asn1.seq(keys.signature_algorithm(CA.key), CA.subject,
                   asn1.tlv(0x17, b"261122140000Z"), asn1.seq(entry * 100_000))
    data = asn1.seq(tbs, keys.signature_algorithm(CA.key), asn1.bits(bytes(256)))
    found = inspect.inspect(data).to_dict()
    assert (found["revoked"], found["next_update"]) == (100_000, None)
    inside = inspect.inspect(forge.certs_only(crls=[data])).to_dict()
    assert inside["inner_revocation_lists"][0]["revoked"] == 100_000


def test_a_bad_crl() -> None:
    data = keys.crl(CA, 5).replace(b"\x02\x01\x01\x30", b"\x02\x01\x07\x30", 1)
    report = inspect.inspect(data)
    assert codes(report) == {"unreadable-crl"}
    assert "version" in report.to_dict()["problem"]


def test_a_request_for_a_certificate_alone() -> None:
    data = keys.csr(keys.client().key, challenge="hush-hush", attributes=[
        forge.attribute("1.2.840.113549.1.9.14", asn1.seq(
            keys.extension("2.5.29.17", asn1.seq(asn1.tlv(0x82, b"a.example"))),
            keys.key_usage("digitalSignature")))])
    report = inspect.inspect(pem("NEW CERTIFICATE REQUEST", data))
    found = report.to_dict()
    assert found["kind"] == "certificate request"
    assert found["csr_subject"] == "CN=device, O=Lab"
    assert found["requested_extensions"] == ["subjectAltName", "keyUsage"]
    assert found["requested_names"] == ["DNSName=a.example"]
    assert found["csr_attributes"] == ["challengePassword", "extensionRequest"]
    assert found["verified"] == found["csr_verified"] == {
        "value": True, "reason": "signed with its own key"}


def test_the_message_data_alone() -> None:
    found = inspect.inspect(forge.issuer_and_serial(CA.subject, 77)).to_dict()
    assert (found["kind"], found["serial"]) == ("issuer and serial number", "4d")


def test_an_envelope_alone() -> None:
    envelope = forge.pkcs_req(CA).envelope
    assert envelope is not None
    closed = inspect.inspect(envelope.build()).to_dict()
    assert closed["kind"] == "envelopedData"
    assert closed["decrypted"] == {"value": False, "reason": "no key was given"}
    assert "plaintext_bytes" not in closed
    opened = inspect.inspect(envelope.build(), keys=[CA.key]).to_dict()
    assert opened["challenge_password"]["value"] == "secret"
    assert "signer_holds_key" not in opened


def test_a_signed_list_of_certificates() -> None:
    """GetNextCACert: signed, but with no attribute of SCEP (RFC 8894 section 4.6.1)."""
    inner = forge.certs_only([CA.der])
    message = forge.Forge(signer=CA, content=inner, message_type=None, transaction_id=None,
                          sender_nonce=None)
    found = inspect.inspect(message.build()).to_dict()
    assert found["kind"] == "signedData"
    assert found["inner_certs"] == 1
    assert found["verified"]["value"] is True
    report = inspect.inspect(message.but(content=b"0\x03\x02\x01").build())
    assert "unreadable" in codes(report)
    assert inspect.inspect(message.but(content=None).build()).to_dict()["econtent"] == "absent"


# --- keys and secrets -----------------------------------------------------------------


def test_with_a_key_the_inside_is_shown() -> None:
    for opening in (CA.key, (CA.certificate, CA.key)):
        found = inspect.inspect(MESSAGE, keys=[keys.ec_key("x"), keys.rsa_key("y"), opening])
        assert found.to_dict()["challenge_password"] == {
            "value": "hush-hush", "tag": "PrintableString"}
        assert found.to_dict()["signer_holds_key"] is True


def test_a_key_that_does_not_fit_says_so() -> None:
    for opening in (keys.rsa_key("y"), keys.ec_key("x"), (keys.ra().certificate, CA.key)):
        found = inspect.inspect(MESSAGE, keys=[opening]).to_dict()
        assert found["decrypted"] == {"value": False, "reason": "none of the keys opens it"}
        assert "challenge_password" not in found


def test_what_is_no_key_is_refused() -> None:
    for wrong in ("key.pem", (CA.key, CA.certificate), None):
        with pytest.raises(TypeError, match="private keys"):
            inspect.inspect(MESSAGE, keys=[wrong])


def test_the_challenge_is_hidden_from_those_without_a_key() -> None:
    request = keys.csr(keys.client().key, challenge="hush-hush")
    report = inspect.inspect(request)
    assert "hush-hush" not in json.dumps(report.to_dict())
    assert report.to_dict()["challenge_password"]["tag"] == "PrintableString"
    assert "hush-hush" in json.dumps(report.to_dict(show_secrets=True))
    opened = inspect.inspect(MESSAGE, keys=[CA.key])
    assert "hush-hush" not in json.dumps(opened.to_dict(show_secrets=False))
    assert "hush-hush" not in repr(opened)
    assert "hush-hush" not in shown(opened)
    assert "hush-hush" in shown(opened, show_secrets=True)


def test_a_private_key_is_not_inspected() -> None:
    key = CA.key
    for encoding in (Encoding.PEM, Encoding.DER):
        data = key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(DecodeError, match="private key"):
            inspect.inspect(data)


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "empty"),
    (b" \n", "empty"),
    (b"what is this?", "neither DER"),
    (b"hello world", "neither DER.*holds no"),
    (b"aGVsbG8gd29ybGQhIQ==", "holds no ASN.1 sequence"),
    (b"-----BEGIN X-----\nMIIx\n", "without an end line"),
    (b"-----BEGIN X-----\nM\n-----END X-----", "PEM: "),
    (b"\x30\x82\x01", "ends inside"),
    (b"\x30\x05\x02\x01\x01", "beyond its container"),
    (b"\x30\x06\x02\x01\x01\x02\x01\x01", "not a structure of SCEP"),
    (asn1.seq(asn1.oid("1.2.3"), asn1.tlv(0xA0, asn1.null())), "with the type 1.2.3"),
])
def test_what_is_nothing_of_scep(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        inspect.inspect(data)


def test_more_than_64_mib_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyscep.inspect.reading.MAX_BYTES", 100)
    with pytest.raises(DecodeError, match="longer than 100 bytes"):
        inspect.inspect(bytes(101))


@settings(max_examples=100)
@given(st.data())
def test_nothing_but_decode_error_comes_out(data: st.DataObject) -> None:
    """X04: captured messages with octets changed, cut and repeated."""
    one = data.draw(st.sampled_from(corpus.exchanges()))
    side = data.draw(st.sampled_from(["request", "response"]))
    mutated = bytearray(one.raw(side) if data.draw(st.booleans()) else one.http(side).body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated)))
        mutated[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        report = inspect.inspect(bytes(mutated))
    except DecodeError:
        return
    json.dumps(report.to_dict())


@given(st.binary(max_size=300))
def test_noise_is_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        json.dumps(inspect.inspect(data).to_dict())


# --- for a person ---------------------------------------------------------------------


def shown(report: Report, **options: Any) -> str:
    out = io.StringIO()
    inspect.render(report, Console(file=out, width=100, markup=False, highlight=False), **options)
    return out.getvalue()


def test_a_report_for_a_person() -> None:
    text = shown(inspect.inspect(MESSAGE, keys=[CA.key]))
    assert text.startswith("This is: pkiMessage\n")
    for words in ("message type", "PKCSReq", "aes128-cbc", "(hidden) (PrintableString)",
                  "1. subject: CN=device, O=Lab", "unusual"):
        assert words in text
    assert "NOT VERIFIED" not in text


def test_a_report_says_what_is_not_verified() -> None:
    broken = forge.pkcs_req(CA, signature_value=bytes(256)).build()
    text = shown(inspect.inspect(broken))
    assert "NOT VERIFIED: the signature does not verify" in text
    assert "the signature is not good" in text


def test_a_report_of_something_usual() -> None:
    text = shown(inspect.inspect(CA.der))
    assert text.rstrip().endswith("nothing")
    assert "certificate" in text
    assert "(nothing beside what is inside)" in shown(inspect.inspect(base64.b64encode(CA.der)))


def test_what_is_missing_is_shown_as_none() -> None:
    text = shown(inspect.inspect(FORMS["POST in chunks"]))
    assert "request content type    none" in text
    assert re.search(r"ber features +none", text)
    text = shown(inspect.inspect(FORMS["BER"]))
    assert re.search(r"ber features +constructed-octet-string", text)


def test_text_from_the_network_has_no_control_characters() -> None:
    attack = "x\x1b[2J\u202e[bold]\r\n"
    request = keys.csr(keys.client().key, f"CN={attack}", challenge=attack, challenge_tag=asn1.UTF8)
    text = shown(inspect.inspect(request), show_secrets=True)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "x\\x1b[2J\\u202e[bold]\\r\\n" in text


def test_rich_is_imported_only_to_render(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rich", None)
    report = inspect.inspect(MESSAGE)
    assert report.to_dict()["kind"] == "pkiMessage"
    with pytest.raises(ImportError):
        inspect.render(report, Console(file=io.StringIO()))
