"""Who is asking behind reverse proxies: as far as what they say can be believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ForwardedHeader = Literal["x-forwarded-for", "forwarded"]

UNIX: Final = "unix"
"""Stands for peers without an address among trusted proxies: a proxy on a Unix socket."""
HEADERS: Final = (b"x-forwarded-for", b"forwarded")
"""By which a proxy that nobody has named gives itself away."""
MAX_HOPS: Final = 32
_MAX_FORWARDED: Final = 4096
_TOKEN: Final = r"!#$%&'*+.^_`|~0-9A-Za-z-"  # noqa: S105 - RFC 9110's name for these letters
# Some proxies leave out the quotes that RFC 7239 wants around colons and brackets.
_PAIR: Final = re.compile(
    rf"""[ \t]*([{_TOKEN}]+)=([{_TOKEN}:\[\]]+|"(?:[^"\\]|\\.)*")[ \t]*""", re.DOTALL
)
_ELEMENT: Final = re.compile(rf"{_PAIR.pattern}(?:;{_PAIR.pattern})*", re.DOTALL)


class TrustedProxies:
    """Finds the source of a request in what proxies say, as far as that can be believed.

    The header is read from right to left. The peer itself is the first hop; while a hop is a
    trusted proxy, the next one is what that proxy says it got the request from. What stands
    further left was written by whoever sent the request.

    Args:
        networks: addresses or networks of the proxies, such as ``10.0.0.7`` or
            ``10.1.0.0/16``; ``unix`` for peers without an address. None at all: the peer is
            the source.
        header: the one that all of these proxies write, X-Forwarded-For or RFC 7239's
            Forwarded. Never both: what a proxy doesn't know it passes on from strangers.

    Raises:
        ValueError: what is no network.
    """

    def __init__(
        self, networks: Iterable[str] = (), header: ForwardedHeader = "x-forwarded-for"
    ) -> None:
        named = tuple(networks)
        self.header: Final = header
        self._unix = UNIX in named
        self._networks = tuple(ipaddress.ip_network(one) for one in named if one != UNIX)

    def source(self, peer: str | None, forwarded: str | None) -> str | None:
        """The address that a request comes from; None where nobody knows.

        Args:
            peer: the other end of the connection; None for a Unix socket.
            forwarded: the value of ``header``, several joined with commas.
        """
        current = address_of(peer)
        if not self.trusts(peer):
            return str(current) if current else peer
        for hop in self._hops(forwarded or ""):
            found = address_of(hop)
            if found is None:
                break  # the proxy's last word that makes sense counts
            if found.is_loopback and current is not None and not current.is_loopback:
                break  # of this machine only a proxy on it can tell; others mean their own
            current = found
            if not self._trusts(found):
                break
        return str(current) if current else peer

    def trusts(self, peer: str | None) -> bool:
        """Whether the other end of a connection is one of these proxies."""
        address = address_of(peer)
        return self._unix if address is None else self._trusts(address)

    def _hops(self, text: str) -> Iterable[str]:
        if self.header == "forwarded":
            return forwarded_hops(text)
        return reversed(text.rsplit(",", MAX_HOPS)[-MAX_HOPS:])

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def forwarded_hops(text: str) -> Iterator[str]:
    """What RFC 7239's Forwarded says of each hop, the last one first.

    It is read from its end: the shortest end that is an element is what the last proxy added,
    whatever quotes somebody left open before it.

    Args:
        text: the header's value.

    Yields:
        What stands after ``for=``; empty where a proxy did not say.
    """
    text = text[-_MAX_FORWARDED:]
    for _ in range(MAX_HOPS):
        end = text.rfind(",")
        while end >= 0 and not _ELEMENT.fullmatch(text, end + 1):
            end = text.rfind(",", 0, end)
        if end < 0 and not _ELEMENT.fullmatch(text):
            return
        yield _for(text, end + 1)
        text = text[: max(end, 0)]


def _for(text: str, start: int) -> str:
    """The value of ``for`` in the element that begins there."""
    while (pair := _PAIR.match(text, start)) is not None:
        if pair[1].lower() == "for":
            return pair[2]
        start = pair.end() + 1
    return ""


def address_of(text: str | None) -> Address | None:
    """An address as proxies write it, perhaps with a port; None if it is none.

    The zone of a link-local address is left out: it can be any text, and an address goes into
    logs as it is.
    """
    text = (text or "").strip().strip('"').partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
