"""The reference of the configuration, made from the model: docs/configuration.md."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, Final

from pyscep.site.config import SECTIONS, KeyPair, LimitsConfig, NdesConfig, RenewalConfig, Secret

STARTER: Final = """\
# Every key is explained in docs/configuration.md, or by `pyscep config reference`.
# Paths are relative to this file. Check it with `pyscep config check`.

[server]
# 127.0.0.1 is for this machine, and for a reverse proxy on it; 0.0.0.0 for everybody.
host = "127.0.0.1"
port = 8080
# Reverse proxies that are believed who is asking, for limits and logs (docs/deploy).
# trusted_proxies = ["127.0.0.1"]

[ca.main]
directory = "{directory}"
# Where those who check certificates reach this server: http, and not only from here. It stands
# in every certificate, so put it right before the first one is issued.
crl_urls = ["{base}/crl/main.crl"]
issuer_urls = ["{base}/aia/main.cer"]

[profile.device]
preset = "device"
validity_days = 365
# approval = "manual"       # somebody has to say yes: pyscep pending
# subject_rule = "CN={commonName},O=Example"
# [profile.device.renewal]
# window_days = 60

# Make them with `pyscep challenge --config scep.toml --endpoint devices`.
[challenge.once]
kind = "one-time"
lifetime_minutes = 60

# Other kinds are static, sealed, webhook and intune:
# [challenge.shared]
# kind = "static"
# secret = { file = "challenge.txt" }

# Devices get this server's address with the path behind it. Another endpoint is another table.
[endpoint.devices]
path = "/scep"
ca = "main"
profiles = ["device"]
challenges = ["once"]
# policy = "compatible"     # for old devices: SHA-1 and triple DES as well
"""
"""What ``pyscep config init`` writes."""

_HERE: Final = "http://127.0.0.1:8080"
_HEAD: Final = """\
# Configuration

`pyscep serve --config scep.toml` serves many endpoints, each with its CA, profiles and challenges.
`pyscep config init` writes a first file and makes a CA, `pyscep config check` opens everything that
a file names and says what is wrong. Unknown keys are errors. Paths are relative to the file.

This page is generated from the model: `pyscep config reference > docs/configuration.md`.

A first file:

```toml
{starter}```

Another endpoint is another table. Endpoints that share a CA share its database; a certificate can
be renewed only where its profile is offered.
"""
_NESTED: Final = (KeyPair, Secret, RenewalConfig, NdesConfig, LimitsConfig)


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD.format(starter=starter("pyscep-ca"))]
    for title, model in SECTIONS:
        text = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
        summary = text.partition(":")[2].strip() if text.startswith("`") else text
        heading = title if title == "Secrets" else f"`{title}`"
        parts.append(f"## {heading}\n\n{summary[0].upper()}{summary[1:]}\n")
        parts.append("| Key | Type | Default | Meaning |\n|---|---|---|---|")
        hints = typing.get_type_hints(model)
        for name, field in model.model_fields.items():
            default = _default(field)
            cells = (f"`{name}`", _type(hints[name]), default, field.description or "")
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def starter(directory: str, base_url: str | None = None, passphrase_env: str | None = None) -> str:
    """A first configuration.

    Args:
        directory: of the CA.
        base_url: where the server is reached by http.
        passphrase_env: the environment variable with the passphrase of its key files.

    Raises:
        ValueError: a base URL that is none.
    """
    base = (base_url or _HERE).rstrip("/")
    if not re.fullmatch(r"http://[A-Za-z0-9._~:\[\]-]+(/[A-Za-z0-9._~/-]*)?", base):
        raise ValueError(f"{base!a} is no http URL such as http://pki.example")
    # A JSON string is one of TOML as well, whatever is in the path.
    place = json.dumps(str(Path(directory)).replace("\\", "/"), ensure_ascii=False)
    if passphrase_env is not None:
        place += f'\npassphrase = {{ env = "{passphrase_env}" }}'
    return STARTER.replace("{base}", base).replace('"{directory}"', place)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, _NESTED):
        return "its own defaults"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _type(hint: Any) -> str:
    """A type in the words of TOML."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return _type(next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        if arguments[-1] is not Ellipsis:
            return f"{len(arguments)} {_type(arguments[0])}s"
        inner = _type(arguments[0])
        return f"list of {inner}s" if inner in _PLURALS else f"list of {inner}"
    if origin is dict:
        return f"table of {_type(arguments[1])}s" if arguments[1] is not Any else "table"
    return _WORDS.get(hint, "table")


_PLURALS: Final = ("string", "path", "integer", "table")
_WORDS: Final = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "path",
    Secret: "secret",
}
