"""The closed sets of values that SCEP puts on the wire."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class MessageType(IntEnum):
    """Kinds of pkiMessage (RFC 8894 section 3.2.1.2)."""

    CERT_REP = 3
    RENEWAL_REQ = 17
    PKCS_REQ = 19
    CERT_POLL = 20
    GET_CERT = 21
    GET_CRL = 22


class PkiStatus(IntEnum):
    """The verdict in a CertRep (RFC 8894 section 3.2.1.3); there is no 1."""

    SUCCESS = 0
    FAILURE = 2
    PENDING = 3


class FailInfo(IntEnum):
    """Why a CertRep says FAILURE (RFC 8894 section 3.2.1.4)."""

    BAD_ALG = 0
    BAD_MESSAGE_CHECK = 1
    BAD_REQUEST = 2
    BAD_TIME = 3
    BAD_CERT_ID = 4

    @property
    def rfc_name(self) -> str:
        """The name the RFC uses, such as ``badRequest``."""
        return _FAIL_INFO_NAMES[self]


_FAIL_INFO_NAMES = {
    FailInfo.BAD_ALG: "badAlg",
    FailInfo.BAD_MESSAGE_CHECK: "badMessageCheck",
    FailInfo.BAD_REQUEST: "badRequest",
    FailInfo.BAD_TIME: "badTime",
    FailInfo.BAD_CERT_ID: "badCertId",
}


class Operation(StrEnum):
    """HTTP operations (RFC 8894 section 3.5.1 and 4)."""

    GET_CA_CAPS = "GetCACaps"
    GET_CA_CERT = "GetCACert"
    GET_NEXT_CA_CERT = "GetNextCACert"
    PKI_OPERATION = "PKIOperation"

    @classmethod
    def from_text(cls, text: str) -> Operation | None:
        """The operation of that name in any case, or None: devices differ in case."""
        return _OPERATIONS.get(text.lower())


_OPERATIONS = {operation.value.lower(): operation for operation in Operation}
