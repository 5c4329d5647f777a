"""How to reach one tenant's Intune."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from pyscep.ca import read_identity
from pyscep.ca.keyfiles import read_checked
from pyscep.identity import Identity
from pyscep.integrations.web import TIMEOUT, check_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Where the services of one of Microsoft's clouds are."""

    login_url: str
    graph_url: str
    intune_scope: str | None
    """None: it has to be given in the settings."""


# The reference implementation's resource ends with a slash, hence the two.
CLOUDS: Final = {
    "global": Cloud(
        login_url="https://login.microsoftonline.com",
        graph_url="https://graph.microsoft.com",
        intune_scope="https://api.manage.microsoft.com//.default",
    ),
    "us-government": Cloud(
        login_url="https://login.microsoftonline.us",
        graph_url="https://graph.microsoft.us",
        intune_scope="https://api.manage.microsoft.us//.default",
    ),
    "us-dod": Cloud(
        login_url="https://login.microsoftonline.us",
        graph_url="https://dod-graph.microsoft.us",
        intune_scope=None,
    ),
    "china": Cloud(
        login_url="https://login.partner.microsoftonline.cn",
        graph_url="https://microsoftgraph.chinacloudapi.cn",
        intune_scope=None,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntuneSettings:
    """One app registration in one tenant.

    Raises:
        ValueError: something is missing, doubled or unknown.
    """

    tenant: str
    """GUID or domain."""
    client_id: str
    """Of the app registration."""
    client_secret: str | None = field(default=None, repr=False)
    certificate: Identity | None = None
    """Instead of the secret: a certificate of the app registration with its RSA key."""
    cloud: str = "global"
    login_url: str = ""
    """Instead of the cloud's; likewise the next two."""
    graph_url: str = ""
    intune_scope: str = ""
    provider: str = "pyscep"
    """Name and version that Intune logs as the caller."""
    issuer_name: str = ""
    """What Intune is told as the issuing CA, and asked for revocations with. Empty: the CN of
    the CA. Keep it: revocations of certificates from before a change are not found."""
    timeout: float = TIMEOUT
    """For each step of an exchange, in seconds."""
    roots: str | None = None
    """A PEM file of the only CAs to trust for TLS; None: the public ones."""
    proxy: str | None = None
    """URL of an HTTP proxy."""
    api_version: str = "2018-02-20"
    revocation_api_version: str = "5019-05-05"

    def __post_init__(self) -> None:
        if not self.tenant or not self.client_id:
            raise ValueError("tenant and client_id are needed")
        if (self.client_secret is None) == (self.certificate is None):
            raise ValueError("give either a client secret or a certificate")
        if self.cloud not in CLOUDS:
            raise ValueError(f"cloud {self.cloud!r} is none of {', '.join(CLOUDS)}")
        cloud = CLOUDS[self.cloud]
        for name in ("login_url", "graph_url", "intune_scope"):
            value = getattr(self, name) or getattr(cloud, name)
            if value is None:
                raise ValueError(f"the cloud {self.cloud!r} needs {name}: ask Microsoft")
            check_url(value)
            object.__setattr__(self, name, value.rstrip("/"))
        if len(self.issuer_name) > 256:
            raise ValueError("issuer_name has at most 256 characters")


_FILES: Final = frozenset(("client_secret_file", "certificate_file", "key_file"))


def load_settings(path: str, environment: Mapping[str, str] = os.environ) -> IntuneSettings:
    """Settings from a TOML file.

    Its keys are the fields of IntuneSettings. Secrets stay out of it: ``client_secret_file``, or
    the variable PYSCEP_INTUNE_SECRET; or ``certificate_file`` and ``key_file``. File names are
    relative to the TOML file.

    Raises:
        ValueError: not TOML, an unknown key, or settings that don't fit together.
        OSError: a file can't be read.
    """
    with open(path, "rb") as file:
        values: dict[str, Any] = tomllib.load(file)
    texts = {one.name for one in fields(IntuneSettings)} - {"client_secret", "certificate"}
    if unknown := set(values) - texts - _FILES:
        raise ValueError(f"{path}: unknown: {', '.join(sorted(unknown))}")
    for name, value in values.items():
        wanted = (int, float) if name == "timeout" else str
        if not isinstance(value, wanted):
            raise ValueError(f"{path}: {name} has a value of the wrong kind")

    def beside(name: str) -> str:
        return os.path.join(os.path.dirname(path), values.pop(name))

    secret = environment.get("PYSCEP_INTUNE_SECRET") or None
    if "client_secret_file" in values:
        secret = read_checked(beside("client_secret_file")).decode().strip() or None
    certificate = None
    if "certificate_file" in values or "key_file" in values:
        if not {"certificate_file", "key_file"} <= set(values):
            raise ValueError(f"{path}: certificate_file and key_file go together")
        certificate = read_identity(beside("certificate_file"), beside("key_file"))
    if "roots" in values:
        values["roots"] = beside("roots")
    return IntuneSettings(client_secret=secret, certificate=certificate, **values)
