"""``pyscep info``: versions, for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

import click
from cryptography.hazmat.backends.openssl import backend

from pyscep import codec
from pyscep.cli.session import Output, json_option

_PACKAGES = ("cryptography", "asn1crypto", "SQLAlchemy", "click", "rich", "uvicorn", "httpx")


@click.command("info")
@json_option
def info_command(out: Output) -> None:
    """Show versions and the codec's back end.

    \b
    Example:
      pyscep info --json
    """
    data = {
        "pyscep": sys.modules["pyscep"].__version__,
        "backend": codec.BACKEND,
        "kernel": codec.KERNEL,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "openssl": backend.openssl_version_text(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    packages = (f"  {name:<14}{_version(name) or 'not installed'}" for name in _PACKAGES)
    lines = (
        f"pyscep {data['pyscep']}",
        f"codec back end: {data['backend']} ({data['kernel']})",
        f"Python {data['python']} on {data['platform']}",
        f"{data['openssl']} (inside cryptography)",
        *packages,
    )
    out.result(data, "\n".join(lines))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
