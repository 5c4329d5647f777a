"""What no request with a judged challenge may have, whoever judges it.

A judge and this CA must see the same request. Where a CSR can be read in two ways, the judge
might look at one of them and the certificate be made from the other.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pyscep.errors import DecodeError
from pyscep.identity import X509_FAULTS
from pyscep.pkcs10 import CertificateRequest

EXTENSION_REQUESTS: Final = ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14")
"""The attribute with extensions, by its PKCS #9 name and by Microsoft's."""
CA_USAGES: Final = ("key_cert_sign", "crl_sign")


def fault_of(csr: CertificateRequest) -> str | None:
    """Why a request is refused before anybody is asked about it; None if it is sound.

    Requests for a CA, for every purpose, with extensions twice or in several places.
    """
    try:
        attributes = [one.oid.dotted_string for one in csr.certificate_request.attributes]
        extensions = csr.extensions
        _ = csr.subject_name
    except DecodeError as error:
        return error.reason
    except X509_FAULTS as error:
        return f"attributes of the CSR: {error}"
    if sum(attributes.count(oid) for oid in EXTENSION_REQUESTS) > 1:
        return "extensions in more than one attribute"
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                return "it asks to be a CA"
            case x509.KeyUsage() as usage if any(getattr(usage, name) for name in CA_USAGES):
                return "it asks for the key usage of a CA"
            case x509.ExtendedKeyUsage() as usages if _ANY in usages:
                return "it asks for anyExtendedKeyUsage"
            case _:
                pass
    return None


_ANY: Final = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
