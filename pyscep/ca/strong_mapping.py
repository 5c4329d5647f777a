"""Strong certificate mapping for Active Directory (KB5014754): the SID of a certificate's holder.

There are two carriers. A URI among the alternative names,
``tag:microsoft.com,2022-09-14:sid:<SID>``, comes from the request, and a profile lets it through
or not. The extension 1.3.6.1.4.1.311.25.2 is never taken from a request, whose maker could write
any SID into it: the CA adds it when a source that it trusts knows the SID.
"""

from __future__ import annotations

import re
from typing import Final

from pyscep.codec import der

SID_EXTENSION: Final = "1.3.6.1.4.1.311.25.2"
SID_URI_SCHEME: Final = "tag"
"""What ``uri_schemes`` of a profile needs for SID URIs."""

_SID_TYPE: Final = der.oid("1.3.6.1.4.1.311.25.2.1")
_SID: Final = re.compile(r"S-1-[0-9]{1,15}(-[0-9]{1,10}){1,15}")


def sid_extension(sid: str) -> bytes:
    """The value of the extension, DER: a GeneralNames with one otherName.

    Args:
        sid: such as ``S-1-5-21-1-2-3-1104``.

    Raises:
        ValueError: not a SID.
    """
    check_sid(sid)
    text = der.context(0, der.octet_string(sid.encode("ascii")))
    return der.sequence(der.context(0, _SID_TYPE, text))


def check_sid(sid: str) -> None:
    """See that a text is a security identifier.

    Raises:
        ValueError: it is none.
    """
    if not _SID.fullmatch(sid):
        raise ValueError(f"{ascii(sid)} is no security identifier like S-1-5-21-1-2-3-1104")
