"""GetCACaps: what a server says it can do, and what a client makes of it.

RFC 8894 section 3.5.2. The list travels unauthenticated: it may raise what a client uses,
never lower it below the client's policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyscep.cms.algorithms import AlgorithmPolicy, Algorithms
from pyscep.errors import ProtocolError

MAX_BYTES: Final = 64 * 1024
STANDARD: Final = "SCEPStandard"
POST: Final = "POSTPKIOperation"
RENEWAL: Final = "Renewal"
NEXT_CA: Final = "GetNextCACert"
_IMPLIED_BY_STANDARD: Final = frozenset({"aes", "postpkioperation", "sha-256"})
_DIGEST_KEYWORDS: Final = {
    "sha256": "SHA-256",
    "sha512": "SHA-512",
    "sha384": "SHA-384",
    "sha1": "SHA-1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The keywords of a GetCACaps answer, in order, as sent."""

    keywords: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Capabilities:
        """Read an answer; unknown keywords are kept and mean nothing.

        Raises:
            ProtocolError: larger than 64 KiB.
        """
        if len(body) > MAX_BYTES:
            raise ProtocolError("the capability list is too long")
        text = body.decode("utf-8", "replace")
        return cls(keywords=tuple(line.strip() for line in text.splitlines() if line.strip()))

    @classmethod
    def of_server(cls, policy: AlgorithmPolicy, *, renewal: bool, next_ca: bool) -> Capabilities:
        """What a server with that policy announces.

        The old keywords stand beside SCEPStandard because strongSwan and others know only
        those, and SHA-384 is there because strongSwan before 5.9.11 uses AES only with it.
        """
        keywords = ["AES", POST, "SHA-256", "SHA-384", "SHA-512", STANDARD]
        if renewal:
            keywords.append(RENEWAL)
        if next_ca:
            keywords.append(NEXT_CA)
        if "sha1" in policy.digests:
            keywords.append("SHA-1")
        if "des-ede3-cbc" in policy.ciphers:
            keywords.append("DES3")
        return cls(keywords=tuple(keywords))

    def to_bytes(self) -> bytes:
        """The body of a GetCACaps answer: one keyword a line."""
        return "".join(f"{keyword}\n" for keyword in self.keywords).encode()

    def __contains__(self, keyword: object) -> bool:
        """Whether a capability is announced, in any case, or implied by SCEPStandard."""
        wanted = str(keyword).lower()
        have = {one.lower() for one in self.keywords}
        if wanted in have:
            return True
        return STANDARD.lower() in have and wanted in _IMPLIED_BY_STANDARD

    @property
    def post(self) -> bool:
        """PKIOperation may go by POST."""
        return POST in self

    @property
    def renewal(self) -> bool:
        """The server understands RenewalReq."""
        return RENEWAL in self

    def require(self, keywords: Iterable[str]) -> None:
        """Insist on capabilities that the caller knows the server to have.

        Raises:
            ProtocolError: one is missing: somebody may have edited the list.
        """
        missing = [keyword for keyword in keywords if keyword not in self]
        if missing:
            raise ProtocolError(
                f"the server does not announce {', '.join(missing)}, which is required: "
                "the list may have been tampered with"
            )

    def choose(self, policy: AlgorithmPolicy) -> Algorithms:
        """The algorithms for requests to this server.

        SHA-256 and AES-128 wherever they are announced. A server that announces neither gets
        3DES and SHA-1 if the policy has them, and SHA-256 and AES-128 if not. Single DES and
        MD5 are never chosen.
        """
        return Algorithms(digest=self._digest(policy), cipher=self._cipher(policy))

    def _digest(self, policy: AlgorithmPolicy) -> str:
        for digest, keyword in _DIGEST_KEYWORDS.items():
            if keyword in self and digest in policy.digests:
                return digest
        return "sha1" if "sha1" in policy.digests else "sha256"

    def _cipher(self, policy: AlgorithmPolicy) -> str:
        if "AES" not in self and "des-ede3-cbc" in policy.ciphers:
            return "des-ede3-cbc"
        return "aes128-cbc"
