r"""The settings of the NDES look-alike, and the names that NDES has for them in the registry.

NDES keeps its settings below ``HKLM\\SOFTWARE\Microsoft\Cryptography\MSCEP``, most of them as
a value inside a key of the same name (``PasswordMax\PasswordMax``). ``from_registry`` takes
both spellings, in any case, so that an exported configuration can be carried over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal

Encoding = Literal["utf-16-le", "utf-8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NdesSettings:
    """How the look-alike behaves; the defaults are NDES's where NDES has the setting.

    Raises:
        ValueError: a setting that makes no sense.
    """

    policy: Literal["modern", "compatible", "legacy"] = "compatible"
    """Which algorithms are accepted; iOS was seen with triple DES."""
    ndes_capabilities: bool = False
    """GetCACaps gives the list that NDES gives, which names neither AES nor SCEPStandard.
    Only for clients that can't stand another list: it makes others choose triple DES."""
    plain_get: Literal["page", "forbidden"] = "page"
    """A GET without operation: the page of NDES (200), or 403 as with Intune's policy module."""
    encoding: Encoding = "utf-16-le"
    """Of the pages. NDES writes UTF-16LE, and consoles rely on it; some want UTF-8."""
    byte_order_mark: bool = False
    """Begin UTF-16 pages with U+FEFF, which NDES often leaves out."""
    root: str = "/certsrv"
    admin_directory: str = "mscep_admin"
    """Name of the page with the password, below ``root`` (PasswordVDir)."""
    password_length: int = 8
    """Bytes; a password has twice as many hexadecimal digits (PasswordLength)."""
    password_max: int = 5
    """How many passwords can be outstanding (PasswordMax)."""
    password_validity: timedelta = timedelta(minutes=60)
    """PasswordValidity, which counts minutes."""
    single_password: bool = False
    """One password for all devices that never expires (UseSinglePassword)."""
    enforce_password: bool = True
    """False: a request without password is accepted, and waits for approval
    (EnforcePassword). NDES would grant it."""
    cache_request: timedelta = timedelta(minutes=20)
    """How long the same request gets the same certificate (CacheRequest, in minutes)."""
    signature_template: str | None = None
    """Profile for requests whose key usage is digitalSignature alone."""
    encryption_template: str | None = None
    """Profile for requests whose key usage is keyEncipherment alone."""
    general_purpose_template: str | None = None
    """Profile for all other requests. None, for each of the three: the CA's first."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("password_length", self.password_length, 8),
            ("password_max", self.password_max, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}: {least} is the least")
        if self.password_validity <= timedelta(0) or self.cache_request < timedelta(0):
            raise ValueError("password_validity must be positive and cache_request not negative")
        if not re.fullmatch(r"(/[\w.~-]+)*", self.root):
            raise ValueError(f"root {self.root!r} is no path like /certsrv")
        if not re.fullmatch(r"[\w.~-]+", self.admin_directory):
            raise ValueError(f"admin_directory {self.admin_directory!r} is no name of a directory")
        if self.admin_directory.lower() == "mscep":
            raise ValueError("admin_directory mscep is where devices enroll")
        if self.ndes_capabilities and self.policy == "modern":
            raise ValueError(
                "NDES's capability list announces SHA-1 and triple DES, which the policy "
                "'modern' refuses: take 'compatible', or leave the list out"
            )
        if self.single_password and not self.enforce_password:
            raise ValueError("a single password that nobody has to give: choose one")

    @property
    def templates(self) -> tuple[str | None, str | None, str | None]:
        """The profiles for signature, encryption and general purpose."""
        return self.signature_template, self.encryption_template, self.general_purpose_template


@dataclass(frozen=True, slots=True, kw_only=True)
class FromRegistry:
    """What became of registry values."""

    settings: NdesSettings
    without_effect: tuple[str, ...] = ()
    """Names that NDES knows and that mean nothing here."""


def from_registry(values: Mapping[str, Any], base: NdesSettings | None = None) -> FromRegistry:
    r"""Settings by their names in NDES's registry.

    Args:
        values: such as ``{"PasswordMax": 20, r"EnforcePassword\EnforcePassword": 1}``, or
            with tables for the keys; numbers also as text, decimal or ``dword:``.
        base: what is not named there stays as it is here.

    Raises:
        ValueError: a name that NDES does not have, one that is there twice, a value of the
            wrong kind, or a policy module, whose decisions must not get lost.
    """
    changes: dict[str, Any] = {}
    ignored: list[str] = []
    seen: set[str] = set()
    for name, value in _flattened(values):
        key = name.lower()
        if key in seen:
            raise ValueError(f"{name} is there twice")
        seen.add(key)
        if key in _WITHOUT_EFFECT:
            ignored.append(name)
        elif key.startswith("modules\\") or key == "modules":
            raise ValueError(
                f"{name}: policy modules of Windows can't run here, and without its module this "
                "endpoint would issue what the module refuses: configure a challenge provider"
            )
        elif key in _SETTINGS:
            setting, convert = _SETTINGS[key]
            changes[setting] = convert(name, value)
        else:
            raise ValueError(f"{name} is no setting of NDES that is known here: {_KNOWN}")
    settings = replace(base or NdesSettings(), **changes)
    return FromRegistry(settings=settings, without_effect=tuple(ignored))


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    r"""Names and values; ``A\A`` is told as ``A``."""
    for name, value in values.items():
        whole = f"{prefix}\\{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from _flattened(value, whole)
            continue
        head, _, tail = whole.rpartition("\\")
        yield (tail if head.lower() == tail.lower() else whole), value


def _number(name: str, value: object) -> int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        if match := re.fullmatch(r"dword:([0-9a-fA-F]{1,8})", value):
            return int(match[1], 16)
        if re.fullmatch(r"[0-9]{1,10}", value):
            return int(value)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}: a number is needed")
    return value


def _minutes(name: str, value: object) -> timedelta:
    minutes = _number(name, value)
    if minutes > _MAX_MINUTES:
        raise ValueError(f"{name} is {minutes} minutes: more than ten years")
    return timedelta(minutes=minutes)


def _switch(name: str, value: object) -> bool:
    number = _number(name, value)
    if number not in (0, 1):
        raise ValueError(f"{name} is {number}: 0 or 1 is needed")
    return number == 1


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}: a name is needed")
    return value


def _directory(name: str, value: object) -> str:
    """The last part of ``CertSrv/mscep_admin``."""
    return _text(name, value).replace("\\", "/").strip("/").rpartition("/")[2]


_MAX_MINUTES: Final = 10 * 366 * 24 * 60
_SETTINGS: Final[dict[str, tuple[str, Callable[[str, object], object]]]] = {
    "passwordlength": ("password_length", _number),
    "passwordmax": ("password_max", _number),
    "passwordvalidity": ("password_validity", _minutes),
    "passwordvdir": ("admin_directory", _directory),
    "usesinglepassword": ("single_password", _switch),
    "enforcepassword": ("enforce_password", _switch),
    "cacherequest": ("cache_request", _minutes),
    "signaturetemplate": ("signature_template", _text),
    "encryptiontemplate": ("encryption_template", _text),
    "generalpurposetemplate": ("general_purpose_template", _text),
}
_WITHOUT_EFFECT: Final = frozenset(
    ("catype", "refresh", "refreshperiod", "refresh\\refreshperiod", "hashalgorithm")
)
"""The CA's kind shows in its certificate; pending requests are looked up when they are
polled, not every RefreshPeriod; replies are hashed as their requests are."""
_KNOWN: Final = (
    "PasswordLength, PasswordMax, PasswordValidity, PasswordVDir, UseSinglePassword, "
    "EnforcePassword, CacheRequest, SignatureTemplate, EncryptionTemplate, "
    "GeneralPurposeTemplate, and without effect CAType, RefreshPeriod, HashAlgorithm"
)
