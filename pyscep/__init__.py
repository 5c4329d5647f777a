"""SCEP (RFC 8894) for Python: messages, client, server, and a CA to run.

Values and roles live at the top level. What needs an optional package is imported when it
is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyscep import pkcs10
from pyscep.capabilities import Capabilities
from pyscep.cms.algorithms import COMPATIBLE, LEGACY, MODERN, AlgorithmPolicy, Algorithms
from pyscep.enums import FailInfo, MessageType, Operation, PkiStatus
from pyscep.errors import (
    AlgorithmError,
    DecodeError,
    DecryptionError,
    EnrollmentRefused,
    ProtocolError,
    ScepError,
    SignatureError,
    SigningTimeError,
    TransportError,
    UnknownCertificate,
)
from pyscep.http import HttpLimits, HttpRequest, HttpResponse
from pyscep.identity import Identity, IssuerAndSerial, RawCertificate
from pyscep.messages import (
    CertPoll,
    CertRep,
    ClientMessage,
    Failure,
    GetCert,
    GetCRL,
    Outcome,
    Pending,
    PKCSReq,
    RenewalReq,
    Success,
)
from pyscep.pkcs10 import CertificateRequest
from pyscep.transaction import PendingEnrollment, Transaction

if TYPE_CHECKING:
    from pyscep import ca
    from pyscep.adapters.transport import httpx_sender, run, run_async, urllib_sender
    from pyscep.client import Client
    from pyscep.server import Authority, AuthorityUnavailable, PkiRequest, Server
    from pyscep.trust import CaCertificates

__version__ = "0.1.0"

_LAZY = {
    "Authority": "pyscep.server",
    "AuthorityUnavailable": "pyscep.server",
    "CaCertificates": "pyscep.trust",
    "Client": "pyscep.client",
    "PkiRequest": "pyscep.server",
    "Server": "pyscep.server",
    "httpx_sender": "pyscep.adapters.transport",
    "run": "pyscep.adapters.transport",
    "run_async": "pyscep.adapters.transport",
    "urllib_sender": "pyscep.adapters.transport",
}

__all__ = [
    "COMPATIBLE",
    "LEGACY",
    "MODERN",
    "AlgorithmError",
    "AlgorithmPolicy",
    "Algorithms",
    "Authority",
    "AuthorityUnavailable",
    "CaCertificates",
    "Capabilities",
    "CertPoll",
    "CertRep",
    "CertificateRequest",
    "Client",
    "ClientMessage",
    "DecodeError",
    "DecryptionError",
    "EnrollmentRefused",
    "FailInfo",
    "Failure",
    "GetCRL",
    "GetCert",
    "HttpLimits",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "IssuerAndSerial",
    "MessageType",
    "Operation",
    "Outcome",
    "PKCSReq",
    "Pending",
    "PendingEnrollment",
    "PkiRequest",
    "PkiStatus",
    "ProtocolError",
    "RawCertificate",
    "RenewalReq",
    "ScepError",
    "Server",
    "SignatureError",
    "SigningTimeError",
    "Success",
    "Transaction",
    "TransportError",
    "UnknownCertificate",
    "__version__",
    "ca",
    "httpx_sender",
    "pkcs10",
    "run",
    "run_async",
    "urllib_sender",
]


def __getattr__(name: str) -> Any:
    if name == "ca":
        return import_module("pyscep.ca")
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pyscep' has no attribute {name!r}")
