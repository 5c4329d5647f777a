"""CRLs of many entries, and GetCRL from both sides."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import pyscep
from benchmarks.floor import FloorInputs
from benchmarks.payloads import NOW, RSA_SHA256, floor_inputs, make_identity, make_signer
from pyscep import trust
from pyscep.cms.certs_only import build_certs_only
from pyscep.codec import der
from pyscep.pki_message import decode_cert_rep, encode_request
from pyscep.transaction import new_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlExchange:
    """A GetCRL request, its server, its reply, and the client's way to read it."""

    crl: bytes
    tbs: bytes
    server: pyscep.Server
    request: pyscep.HttpRequest
    message: bytes
    identity: pyscep.Identity
    client: pyscep.Identity
    transaction: pyscep.Transaction
    floor: FloorInputs

    def authority(self, request: pyscep.PkiRequest) -> pyscep.Outcome:
        """Hands the CRL out."""
        return pyscep.Success(crls=(self.crl,))

    def serve(self) -> bytes:
        """The CertRep."""
        return self.server.handle(self.request, self.authority).body

    def read(self, reply: bytes) -> bytes:
        """The client's side: open, verify, and verify the CRL, as ``Client.get_crl`` does."""
        found = decode_cert_rep(
            reply,
            transaction=self.transaction,
            signers=(self.identity.raw,),
            recipient=self.client,
            policy=pyscep.MODERN,
            token_bytes=secrets.token_bytes,
        )
        trust.verify_crl(found.crls[0], self.identity.raw, pyscep.MODERN)
        return found.crls[0]


def serial_of(number: int) -> int:
    """The serial number of an entry: 16 octets, spread over the range."""
    return 1 << 120 | (number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 120)


def make_crl(identity: pyscep.Identity, entries: int) -> tuple[bytes, bytes]:
    """A CRL and its TBSCertList; written out in DER, for a million entries take a second."""
    head = b"\x30\x21\x02\x10"
    tail = der.time(NOW)
    revoked = b"".join(
        head + serial_of(number).to_bytes(16, "big") + tail for number in range(entries)
    )
    tbs = der.sequence(
        der.integer(1),
        RSA_SHA256,
        identity.raw.subject,
        der.time(NOW),
        der.time(NOW + timedelta(days=7)),
        der.tlv(der.SEQUENCE, revoked),
    )
    signature = identity.private_key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return der.sequence(tbs, RSA_SHA256, der.bit_string(signature)), tbs


def make_exchange(entries: int) -> CrlExchange:
    """GetCRL where the CRL has that many entries."""
    identity = make_identity("Benchmark CA")
    client = make_signer(rsa.generate_private_key(65537, 2048), "CN=device,O=Lab")
    crl, tbs = make_crl(identity, entries)
    transaction = new_transaction(secrets.token_bytes)
    message = encode_request(
        pyscep.GetCRL(target=pyscep.IssuerAndSerial(identity.raw.subject, 1)),
        transaction=transaction,
        signer=client,
        recipient=identity.raw,
        algorithms=pyscep.Algorithms(),
        token_bytes=secrets.token_bytes,
        signing_time=NOW,
    )
    return CrlExchange(
        crl=crl,
        tbs=tbs,
        server=pyscep.Server(identity),
        request=pyscep.HttpRequest(
            method="POST", path="/scep", query=b"operation=PKIOperation", body=message
        ),
        message=message,
        identity=identity,
        client=client,
        transaction=transaction,
        floor=floor_inputs(identity, client, message, build_certs_only((), (crl,))),
    )
