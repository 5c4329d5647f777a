"""Devices and clients that can't run here, by the shape of what they send.

Each function returns a Device that builds its HTTP requests octet by octet, independently of
the package, and that opens the reply as strictly as its original does. The shapes were
captured from the wire, or are described in public issue threads of several servers.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.forge_envelope import Envelope, Recipient

# --- how a message gets into a URL ----------------------------------------------------


def _base64(message: bytes) -> str:
    return base64.b64encode(message).decode()


def url_escaped(message: bytes) -> str:
    """As RFC 8894 section 4.1 wants it."""
    return quote(_base64(message), safe="")


def url_bare(message: bytes) -> str:
    """jscep: nothing is escaped."""
    return _base64(message)


def url_padding_escaped(message: bytes) -> str:
    """Apple: only ``=`` is escaped."""
    return _base64(message).replace("=", "%3D")


def url_lines(message: bytes) -> str:
    """sscep, strongSwan, Cisco: a line break every 64 columns."""
    text = _base64(message)
    lines = "".join(text[at:at + 64] + "\n" for at in range(0, len(text), 64))
    return quote(lines, safe="")


def url_safe_alphabet(message: bytes) -> str:
    """micromdm's client up to 2.3.0: base64url."""
    return base64.urlsafe_b64encode(message).decode()


def url_unpadded(message: bytes) -> str:
    return quote(_base64(message).rstrip("="), safe="")


def url_twice(message: bytes) -> str:
    """Escaped twice over, by a client and its HTTP library."""
    return quote(quote(_base64(message), safe=""), safe="")


# --- how it gets over the wire --------------------------------------------------------


def over_the_wire(
    request: HttpRequest, address: tuple[str, int], *, version: str = "1.1", chunked: bool = False
) -> HttpResponse:
    """Send a request through a socket, octet by octet as a device's own HTTP code does.

    Args:
        version: ``1.0`` comes without Host, as from Cisco.
        chunked: the body in chunks of 1000 octets, as from Apple.
    """
    target = request.path.encode() + (b"?" + request.query if request.query else b"")
    lines = [b"%s %s HTTP/%s" % (request.method.encode(), target, version.encode())]
    if version == "1.1":
        lines.append(b"Host: %s" % address[0].encode())
        lines.append(b"Connection: close")
    lines.extend(f"{key}: {value}".encode() for key, value in request.headers)
    body = request.body
    if request.method == "POST" and chunked:
        lines.append(b"Transfer-Encoding: chunked")
        parts = (*asn1.pieces(body, 1000), b"")
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    elif request.method == "POST":
        lines.append(b"Content-Length: %d" % len(body))
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", body]))
        received = b""
        while part := connection.recv(65_536):
            received += part
    head, _, content = received.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = tuple((name.strip().lower(), value.strip())
                    for name, _, value in (field.partition(":") for field in fields))
    return HttpResponse(status=int(status.split()[1]), headers=headers, body=content)


# --- devices --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device: who it is, how it writes CMS, how it speaks HTTP."""

    name: str
    signer: keys.Party
    key: Any = field(repr=False)
    """The key that the certificate is for."""
    request: bytes = field(repr=False)
    """The CSR."""
    transaction_id: str
    path: str = "/scep"
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    ca_identifier: str | None = None
    """Value of ``message`` in GetCACaps and GetCACert; None leaves the parameter out."""
    to_url: Callable[[bytes], str] = url_escaped
    message_first: bool = False
    knobs: tuple[tuple[str, Any], ...] = ()
    """Of forge.Forge."""
    envelope: tuple[tuple[str, Any], ...] = ()
    """Of Envelope."""
    to: tuple[tuple[str, Any], ...] = ()
    """Of Recipient."""
    every_certificate: bool = False
    """One RecipientInfo for each certificate that GetCACert gave."""
    reply_ciphers: frozenset[str] = frozenset({"aes128-cbc", "aes192-cbc", "aes256-cbc"})
    """What the device can open."""
    reply_digests: frozenset[str] = frozenset({"sha256", "sha384", "sha512"})

    def plain(self, operation: str) -> HttpRequest:
        """GetCACaps, GetCACert."""
        query = f"operation={operation}"
        if self.ca_identifier is not None:
            query += f"&message={self.ca_identifier}"
        return HttpRequest(method="GET", path=self.path, query=query.encode())

    def message(self, *recipients: keys.Party, **changes: Any) -> forge.Forge:
        """The PKCSReq (or what `changes` make of it) for those recipients."""
        addressed = tuple(Recipient(party=party, **dict(self.to)) for party in recipients)
        knobs = dict(self.knobs)
        shape = {"plaintext": self.request, "recipients": addressed,
                 "style": knobs.get("style", asn1.DER)} | dict(self.envelope)
        shape |= changes.pop("envelope", {})
        return forge.Forge(**{
            "signer": self.signer, "transaction_id": self.transaction_id,
            "envelope": Envelope(**shape)} | knobs | changes)

    def http(self, message: bytes) -> HttpRequest:
        """The HTTP request that carries a pkiMessage."""
        if self.method == "POST":
            return HttpRequest(method="POST", path=self.path, query=b"operation=PKIOperation",
                               headers=self.headers, body=message)
        pairs = ["operation=PKIOperation", f"message={self.to_url(message)}"]
        if self.message_first:
            pairs.reverse()
        return HttpRequest(method="GET", path=self.path, query="&".join(pairs).encode(),
                           headers=self.headers)

    def read(
        self, response: HttpResponse, sent: forge.Forge, *known: keys.Party
    ) -> forge.Message:
        """The CertRep that answers `sent`, checked as the device checks it.

        Args:
            known: the certificates of GetCACert.
        """
        assert response.status == 200, response.body[:200]
        assert ("content-type", "application/x-pki-message") in response.headers
        reply = forge.read_message(
            response.body, der=True, known=[party.der for party in known])
        assert reply.signer_certificate in [party.der for party in known]
        assert reply.message_type == "3"
        assert reply.transaction_id == sent.transaction_id
        assert reply.recipient_nonce == sent.sender_nonce
        assert reply.sender_nonce is not None
        assert len(reply.sender_nonce) == 16
        assert reply.digest in self.reply_digests
        return reply

    def certificate(
        self, response: HttpResponse, sent: forge.Forge, *known: keys.Party
    ) -> x509.Certificate:
        """The certificate that the device was issued, for its own key."""
        reply = self.read(response, sent, *known)
        assert reply.status == "0", (reply.status, reply.fail_info)
        opened = reply.open(self.signer)
        assert opened.cipher in self.reply_ciphers
        (certificate,) = opened.certificates
        assert keys.spki(certificate.public_key()) == keys.spki(self.key)
        return certificate

    def renewing(self, certificate: x509.Certificate, key: Any, request: bytes) -> Device:
        """The same device with an issued certificate, which asks for the next one."""
        issued = keys.Party(self.key, certificate.public_bytes(Encoding.DER))
        return replace(self, signer=issued, key=key, request=request)


def _knobs(**items: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(items.items())


def _sha1_hex(key: Any) -> str:
    return hashlib.sha1(keys.spki(key)).hexdigest()


def _md5_hex(key: Any) -> str:
    return hashlib.md5(keys.spki(key)).hexdigest().upper()


def _signing_time() -> bytes:
    return asn1.utc_time(forge.now())


def windows(*, throw_away_key: bool, challenge: str = "secret") -> Device:
    """Windows, by MDM: its own signer certificate with a critical AKI, and RSAES-OAEP.

    Args:
        throw_away_key: the signer's key is another one than the CSR's; both were reported.
    """
    key = keys.rsa_key("windows")
    signer_key = keys.rsa_key("windows throw-away") if throw_away_key else key
    subject = "CN=3e1f0d1c-7d5a-4f0a-9f6e-1f2d3c4b5a69"
    version = asn1.seq(asn1.oid("1.3.6.1.4.1.311.13.2.3"),
                       asn1.set_of(asn1.text("10.0.22631.2", asn1.IA5)))
    client_info = asn1.seq(asn1.oid("1.3.6.1.4.1.311.21.20"), asn1.set_of(asn1.seq(
        asn1.integer(9), asn1.text("host", asn1.UTF8), asn1.text("AzureAD\\user", asn1.UTF8),
        asn1.text("omadmclient.exe", asn1.UTF8))))
    uri = asn1.seq(asn1.tlv(0x86, b"ID:Microsoft Endpoint Manager:GUID:3e1f0d1c"))
    extensions = asn1.seq(asn1.oid(keys.EXTENSION_REQUEST), asn1.set_of(asn1.seq(
        keys.extension("2.5.29.17", uri), keys.key_usage("digitalSignature"))))
    signer = keys.party("CN=SCEP Protocol Certificate", signer_key, extensions=(
        keys.key_usage("digitalSignature", "keyEncipherment"),
        keys.authority_key_identifier(signer_key, critical=True)))
    return Device(
        name="Windows", signer=signer, key=key, path="/scep/pkiclient.exe",
        request=keys.csr(key, subject, challenge=challenge,
                         attributes=(version, client_info, extensions)),
        transaction_id=_sha1_hex(signer_key).upper(), ca_identifier="default",
        headers=(("content-type", "application/x-pki-message"),),
        knobs=_knobs(signature="combined", digest_parameters=asn1.null()),
        envelope=_knobs(cipher="aes256-cbc"),
        to=_knobs(oaep=("sha1", "sha1"), oaep_parameters="empty"))


def apple(*, method: str = "GET", cipher: str = "aes128-cbc") -> Device:
    """iOS and macOS: BER in pieces; GET with only ``=`` escaped; 3DES was seen."""
    key = keys.rsa_key("apple")
    extensions = asn1.seq(asn1.oid(keys.EXTENSION_REQUEST), asn1.set_of(asn1.seq(
        keys.key_usage("digitalSignature", "keyEncipherment"))))
    return Device(
        name="Apple", key=key, signer=keys.party("CN=iPad,O=Lab", key, serial=1, extensions=(
            keys.key_usage("digitalSignature", "keyEncipherment"),)),
        request=keys.csr(key, "O=Lab,CN=iPad", challenge="secret", attributes=(extensions,)),
        transaction_id=_sha1_hex(key), method=method, to_url=url_padding_escaped,
        ca_identifier="Lab-Profile",
        headers=(("content-type", "application/x-pki-message"),) if method == "POST" else (),
        knobs=_knobs(style=asn1.Style(indefinite=True, chunk=1024), signature="combined",
                     signing_time=_signing_time()),
        envelope=_knobs(cipher=cipher), reply_ciphers=frozenset({cipher}))


def jscep(
    *, capabilities: str = "SCEPStandard", method: str = "POST", ca_identifier: str = ""
) -> Device:
    """jscep on Bouncy Castle: BER in pieces of 1000 octets, CMSAlgorithmProtection.

    Args:
        capabilities: ``SCEPStandard``, ``DES3`` (3DES and SHA-1) or ``none`` (DES and MD5).
    """
    cipher, digest = {"SCEPStandard": ("aes128-cbc", "sha256"),
                      "DES3": ("des-ede3-cbc", "sha1"), "none": ("des-cbc", "md5")}[capabilities]
    key = keys.rsa_key("jscep")
    return Device(
        name="jscep", key=key, signer=keys.party("CN=jscep,O=Lab", key, serial=1),
        request=keys.csr(key, "CN=jscep,O=Lab", challenge="secret", digest="sha256"),
        transaction_id=_sha1_hex(key), method=method, to_url=url_bare,
        ca_identifier=ca_identifier,
        headers=(("content-type", "application/octet-stream"),) if method == "POST" else (),
        knobs=_knobs(style=asn1.BOUNCY_CASTLE, signature="combined", digest=digest,
                     algorithm_protection=True, digest_parameters=asn1.null(),
                     signing_time=_signing_time()),
        envelope=_knobs(cipher=cipher), reply_ciphers=frozenset({cipher}),
        reply_digests=frozenset({digest}))


def android(*, capabilities: str = "SCEPStandard") -> Device:
    """The agents of Android and of ChromeOS, which are jscep; ``ca`` as CA identifier."""
    return replace(jscep(capabilities=capabilities, ca_identifier="ca"), name="Android")


def cisco(*, digest: str = "md5", cipher: str = "des-cbc") -> Device:
    """IOS: MD5 and single DES; GET with line breaks; a trustpoint as CA identifier."""
    key = keys.rsa_key("cisco")
    return Device(
        name="Cisco", key=key, path="/scep/pkiclient.exe",
        signer=keys.party("CN=router.example", key, serial=0x41, digest=digest),
        request=keys.csr(key, "CN=router.example", challenge="secret", digest=digest),
        transaction_id=_md5_hex(key), method="GET", to_url=url_lines,
        ca_identifier="TRUSTPOINT",
        knobs=_knobs(digest=digest, digest_parameters=asn1.null()),
        envelope=_knobs(cipher=cipher), reply_ciphers=frozenset({cipher}),
        reply_digests=frozenset({digest}))


def sscep(*, method: str = "POST", standard: bool = True) -> Device:
    """sscep: POST without Content-Type, or GET in lines; 32 hex digits as serial number.

    Args:
        standard: the server announced AES and SHA-256; otherwise DES and MD5 are taken.
    """
    key = keys.rsa_key("sscep")
    cipher, digest = ("aes128-cbc", "sha256") if standard else ("des-cbc", "md5")
    transaction = _md5_hex(key)
    serial = int.from_bytes(transaction.encode(), "big")
    return Device(
        name="sscep", key=key, path="/scep",
        signer=keys.party("O=Lab,CN=sscep", key, serial=serial, days=6),
        request=keys.csr(key, "O=Lab,CN=sscep", challenge="secret", challenge_tag=asn1.UTF8),
        transaction_id=transaction, method=method, to_url=url_lines,
        ca_identifier="CAIdentifier",
        knobs=_knobs(digest=digest, digest_parameters=asn1.null(), signing_time=_signing_time()),
        envelope=_knobs(cipher=cipher), reply_ciphers=frozenset({cipher}),
        reply_digests=frozenset({digest}))


def certmonger() -> Device:
    """certmonger: X.509 v1 with a serial number of 33 octets; 77 digits as transactionID."""
    key = keys.rsa_key("certmonger")
    number = int.from_bytes(hashlib.sha256(keys.spki(key)).digest(), "big") | 1 << 255
    return Device(
        name="certmonger", key=key, path="/scep/pkiclient.exe",
        # The highest bit is set, so the INTEGER has 33 octets.
        signer=keys.party("CN=certmonger,O=Lab", key, version=0, times="generalized",
                           serial=number),
        request=keys.csr(key, "CN=certmonger,O=Lab", challenge="secret"),
        transaction_id=str(number)[:77], method="GET", to_url=url_escaped,
        ca_identifier="0",
        knobs=_knobs(digest_parameters=asn1.null(), signing_time=_signing_time()),
        envelope=_knobs(cipher="aes256-cbc"))


def micromdm(*, method: str = "POST") -> Device:
    """scepclient: single DES and SHA-1 always; the Go form of encryptedContent."""
    key = keys.rsa_key("micromdm")
    digest = base64.b64encode(hashlib.sha1(keys.spki(key)).digest()).decode()
    return Device(
        name="micromdm", key=key,
        signer=keys.party("O=Lab,CN=micromdm", key, serial=1, extensions=(
            keys.key_usage("digitalSignature", "keyEncipherment"),)),
        request=keys.csr(key, "O=Lab,CN=micromdm", challenge="secret"),
        transaction_id=digest, method=method, to_url=url_safe_alphabet, message_first=True,
        every_certificate=True,
        headers=(("content-type", "application/octet-stream"),) if method == "POST" else (),
        knobs=_knobs(digest="sha1", signature="combined", digest_parameters=asn1.null(),
                     signing_time=_signing_time()),
        envelope=_knobs(cipher="des-cbc", encrypted_content="definite"),
        reply_ciphers=frozenset({"des-cbc"}), reply_digests=frozenset({"sha1"}))
