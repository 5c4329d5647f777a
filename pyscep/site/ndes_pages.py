"""The pages that NDES shows, with the phrases that programs look for.

Consoles fetch the page with the password and cut the password out of it, each in a way of its
own. So these hold, and tests/test_site_ndes.py has a test for each:

* the label ends in a colon, one space and ``<B>``, and the password stands between two spaces;
* one space stands before the label, after the ``>`` of the tag before it;
* nothing before the password has eight or more hexadecimal digits behind the words "challenge
  password", nor a word that begins with 16 of them: the thumbprint is in groups of eight;
* the last ``</B>`` of the page is the one behind the password.
"""

from __future__ import annotations

import hashlib
from typing import Final

TITLE: Final = "Network Device Enrollment Service"
CACHE_FULL: Final = "The password cache is full."
NO_PERMISSION: Final = "You do not have sufficient permission to enroll with SCEP."
_LABEL: Final = "The enrollment challenge password is: <B>"
_THUMBPRINT: Final = "The thumbprint (hash value) for the CA certificate is: <B>"


def thumbprint(certificate: bytes) -> str:
    """The MD5 of a certificate as NDES shows it: four groups of eight digits, upper case.

    Args:
        certificate: DER.
    """
    # Only shown: people compare it with what their device shows.
    digits = hashlib.md5(certificate, usedforsecurity=False).hexdigest().upper()
    return " ".join(digits[start : start + 8] for start in range(0, 32, 8))


def password_page(thumbprint: str, password: str, minutes: int | None) -> str:
    """The page with a password.

    Args:
        thumbprint: of the CA certificate.
        password: must be safe in HTML; those of the password cache are hexadecimal.
        minutes: until it expires; None: the single password, which never does.
    """
    if minutes is None:
        use = " This password can be used for every device and will not expire."
    else:
        use = (
            f" This password can be used only once and will expire within {minutes} minutes.\n"
            "<P> Each enrollment needs a new one: load this page again to get it."
        )
    return _page(
        " To enroll a device, give it the following.",
        f" {_THUMBPRINT} {thumbprint} </B>",
        f" {_LABEL} {password} </B>",
        use,
    )


def no_password_page(thumbprint: str) -> str:
    """The page where no password has to be given (EnforcePassword is 0)."""
    return _page(
        f" {_THUMBPRINT} {thumbprint} </B>",
        " Devices can enroll here without a password. Their requests wait for approval.",
    )


def cache_full_page() -> str:
    """The page when as many passwords are outstanding as may be."""
    return _page(
        f" {CACHE_FULL}",
        " Enroll a device with one of those given out, or wait until one expires.",
    )


def no_permission_page() -> str:
    """The page for an account that may not have passwords."""
    return _page(f" {NO_PERMISSION}", " Ask the administrator of this CA.")


def information_page(admin_path: str | None) -> str:
    """The page at the address of the devices.

    Args:
        admin_path: where passwords are had; None: nowhere here.
    """
    more = f' Passwords for enrollment are at <A HREF="{admin_path}">{admin_path}</A>.'
    return _page(
        " Devices send their certificate requests (SCEP) to this address.",
        *([more] if admin_path else []),
    )


def encode(page: str, encoding: str, *, byte_order_mark: bool = False) -> bytes:
    """A page as it goes out: UTF-16LE or UTF-8."""
    mark = "\ufeff" if byte_order_mark and encoding != "utf-8" else ""
    return (mark + page).encode(encoding)


def _page(*paragraphs: str) -> str:
    # The meta element says UTF-8 in UTF-16 pages, too: NDES does the same, and what counts is
    # the Content-Type.
    head = f'<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=UTF-8"><TITLE>{TITLE}'
    body = "\n".join(f"<P>{paragraph}" for paragraph in paragraphs)
    top = f"<HTML>\n<HEAD>{head}</TITLE></HEAD>\n<BODY>\n<H1>{TITLE}</H1>\n"
    return f"{top}{body}\n</BODY>\n</HTML>\n"
