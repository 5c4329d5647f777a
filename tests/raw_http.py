"""HTTP byte for byte, and requests as long as devices send them."""

from __future__ import annotations

import functools
import http.client
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509

import pyscep
from tests import forge_keys as keys

CAPS = b"operation=GetCACaps&message="
"""The start of a query that may be as long as one likes."""
LONG_CHALLENGE = "0123456789abcdef" * 1_560
"""As long as Intune's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    reason: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


def talk(port: int, *pieces: bytes) -> Reply:
    """Send to 127.0.0.1 in pieces, read one response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(0.02)  # most often two reads at the other end; one does no harm
            connection.sendall(piece)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return Reply(
                status=response.status,
                reason=response.reason,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def bare(query: bytes) -> bytes:
    """As a device sends it that escapes nothing."""
    return query.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")


@functools.cache
def long_csr(size: int, *, escaped: bool = True) -> pyscep.pkcs10.CertificateRequest:
    """A CSR with LONG_CHALLENGE that makes a query of about that size; an extension fills it up.

    Args:
        size: bytes, give or take 600.
        escaped: each 32nd character of base64 takes three bytes on the average.
    """
    message = (size - len("operation=PKIOperation&message=")) * 3 / 4 / (1.0625 if escaped else 1)
    filler = bytes(round(message) - len(LONG_CHALLENGE) - 2_400)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), filler)
    return pyscep.pkcs10.create(
        keys.rsa_key("client"),
        "CN=client",
        challenge_password=LONG_CHALLENGE,
        extensions=[(extension, False)],
    )
