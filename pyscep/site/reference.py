"""The reference of the configuration, made from the model: docs/configuration.md."""

from __future__ import annotations

import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any, Final

from pyscep.site.config import SECTIONS, KeyPair, LimitsConfig, NdesConfig, RenewalConfig, Secret

STARTER: Final = """\
# Every key is explained in docs/configuration.md, or by `pyscep config reference`.
# Paths are relative to this file. Check it with `pyscep config check`.

[server]
host = "127.0.0.1"
port = 8080

[ca.main]
directory = "{directory}"
# Where those who check certificates reach this server: http, and not only from here.
crl_urls = ["http://127.0.0.1:8080/crl/main.crl"]
issuer_urls = ["http://127.0.0.1:8080/aia/main.cer"]

[profile.device]
preset = "device"
validity_days = 365

# Make them with `pyscep challenge --config scep.toml --endpoint devices`.
[challenge.once]
kind = "one-time"
lifetime_minutes = 60

[endpoint.devices]
path = "/scep"
ca = "main"
profiles = ["device"]
challenges = ["once"]
"""
"""What ``pyscep config init`` writes."""

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


def starter(directory: str) -> str:
    """A first configuration for the CA in a directory."""
    return STARTER.replace("{directory}", str(Path(directory)).replace("\\", "/"))


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
