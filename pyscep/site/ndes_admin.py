"""The page where NDES hands out passwords, and who gets to see it.

NDES asks for Windows credentials (Negotiate, NTLM, or Basic). Here it is HTTP Basic, checked by
a function or against a file of hashes; for Negotiate, put a reverse proxy in front.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from pyscep.adapters.asgi import Receive, Scope, Send
from pyscep.ca.password_cache import PasswordCacheFull
from pyscep.http import HttpResponse, text_response
from pyscep.site import ndes_pages as pages
from pyscep.site.ndes_registry import NdesSettings
from pyscep.site.reply import (
    drain,
    header_of,
    not_allowed,
    page_response,
    send_response,
    unavailable,
)

_logger = logging.getLogger("pyscep.site")

Access = Literal["unknown", "forbidden", "allowed"]
"""``unknown``: not these credentials. ``forbidden``: they are right, and the account may not
have passwords."""
Authenticate = Callable[[str, str], Access]
"""Judges a name and a password; runs in a thread, so it may ask a directory."""

_MAX_CREDENTIALS: Final = 2048
_CHALLENGE: Final = ("www-authenticate", f'Basic realm="{pages.TITLE}", charset="UTF-8"')
_METHODS: Final = ("GET", "POST")


@dataclass(slots=True)
class _Guesser:
    """What is known of one source."""

    failures: int = 0
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """Makes guessing slow, for each source by itself: nobody can lock out anybody else.

    One guess of a source is checked at a time, and each wrong one is answered later than the
    one before.

    Args:
        seconds: before the first wrong guess is answered; it doubles with each.
        most: the longest wait, in seconds.
        waiting: how many requests of one source may wait; the next ones get a 429.
        sources: how many are remembered.
        checks: how many guesses are checked at a time, of all sources.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        *,
        seconds: float = 1.0,
        most: float = 30.0,
        waiting: int = 8,
        sources: int = 4096,
        checks: int = 4,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._waiting = waiting
        self._sources = sources
        self._checks = asyncio.Semaphore(checks)
        self._sleep = sleep
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    async def check(self, source: str | None, guess: Callable[[], Access]) -> Access | None:
        """What a guess comes to; None if this source has too many under way.

        Args:
            source: the peer's address.
            guess: checks it; runs in a thread.
        """
        guesser = self._guesser(_network(source))
        if guesser.waiting >= self._waiting:
            return None
        guesser.waiting += 1
        try:
            async with guesser.turn:
                async with self._checks:
                    access = await asyncio.to_thread(guess)
                if access == "unknown":
                    doublings = min(guesser.failures, 16)
                    guesser.failures += 1
                    await self._sleep(min(self._most, self._seconds * 2**doublings))
                else:
                    guesser.failures = 0
                return access
        finally:
            guesser.waiting -= 1

    def _guesser(self, network: str) -> _Guesser:
        found = self._guessers.get(network)
        if found is None:
            self._make_room()
            found = self._guessers[network] = _Guesser()
        self._guessers.move_to_end(network)
        return found

    def _make_room(self) -> None:
        """Forget who came longest ago, and waits for nothing."""
        for network, guesser in list(self._guessers.items()):
            if len(self._guessers) < self._sources:
                return
            if not guesser.waiting:
                del self._guessers[network]


def _network(source: str | None) -> str:
    """An address, or the /64 that an IPv6 host has to itself."""
    try:
        address = ipaddress.ip_address((source or "").partition("%")[0])
    except ValueError:
        return source or ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class AdminPage:
    """``mscep_admin``: each load by somebody with credentials gives one new password.

    Args:
        authenticate: judges credentials.
        new_password: makes one; raises PasswordCacheFull if too many are outstanding.
        ca_certificate: DER; its MD5 thumbprint is shown.
        settings: of the look-alike.
        throttle: slows down guessing.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        new_password: Callable[[], str],
        ca_certificate: bytes,
        settings: NdesSettings,
        *,
        throttle: Throttle | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._new_password = new_password
        self._thumbprint = pages.thumbprint(ca_certificate)
        self._settings = settings
        self._throttle = throttle or Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI)."""
        if scope["method"] == "POST" and not await drain(receive):
            return
        await send_response(scope, send, await self._answer(scope))

    async def _answer(self, scope: Scope) -> HttpResponse:
        # HEAD must not use up a password, and showing none would be another answer than GET's.
        if scope["method"] not in _METHODS:
            return not_allowed(_METHODS)
        if header_of(scope, b"sec-fetch-site") == "cross-site":
            # Another site has a browser use up passwords with the credentials it remembers.
            return text_response(403, "Open this page itself.\n")
        credentials = read_basic(header_of(scope, b"authorization"))
        if credentials is None:
            return self._page(401, "<HTML><BODY>401 Unauthorized</BODY></HTML>\n", (_CHALLENGE,))
        name, password = credentials
        client = scope.get("client")
        source = client[0] if client else None
        try:
            access = await self._throttle.check(source, lambda: self._authenticate(name, password))
            if access is None:
                return text_response(
                    429, "Too many requests from this address.\n", [("retry-after", "30")]
                )
            return await self._by_access(access, name, source)
        except Exception:  # of whoever judges or makes passwords; the log gets the traceback
            _logger.exception("the page with the enrollment password failed")
            return unavailable()

    async def _by_access(self, access: Access, name: str, source: str | None) -> HttpResponse:
        who = f"{name[:64]!a} from {source or 'an unknown address'}"
        match access:
            case "allowed":
                page = await asyncio.to_thread(self._password_page)
                _logger.info("enrollment password page for %s", who)
                return self._page(200, page)
            case "forbidden":
                _logger.warning("no enrollment password for %s: no permission", who)
                return self._page(200, pages.no_permission_page())
            case _:
                _logger.warning("wrong credentials of %s", who)
                return self._page(
                    401, "<HTML><BODY>401 Unauthorized</BODY></HTML>\n", (_CHALLENGE,)
                )

    def _password_page(self) -> str:
        if not self._settings.enforce_password:
            return pages.no_password_page(self._thumbprint)
        try:
            password = self._new_password()
        except PasswordCacheFull:
            _logger.warning("the password cache is full")
            return pages.cache_full_page()
        minutes = None
        if not self._settings.single_password:
            minutes = int(self._settings.password_validity.total_seconds() // 60)
        return pages.password_page(self._thumbprint, password, minutes)

    def _page(
        self, status: int, page: str, extra: tuple[tuple[str, str], ...] = ()
    ) -> HttpResponse:
        return ndes_page(self._settings, status, page, extra)


def ndes_page(
    settings: NdesSettings, status: int, page: str, extra: tuple[tuple[str, str], ...] = ()
) -> HttpResponse:
    """A page in the encoding that the settings want."""
    encoding = settings.encoding
    body = pages.encode(page, encoding, byte_order_mark=settings.byte_order_mark)
    charset = encoding.replace("utf-16-le", "utf-16le")
    if settings.byte_order_mark and encoding != "utf-8":
        charset = "utf-16"  # RFC 2781 section 3.3: the mark tells the order
    return page_response(status, body, f"text/html; charset={charset}", extra)


def read_basic(value: str | None) -> tuple[str, str] | None:
    """Name and password of an Authorization header (RFC 7617); None if there are none.

    Args:
        value: of the header, or None.
    """
    scheme, _, encoded = (value or "").strip().partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _MAX_CREDENTIALS:
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None
