"""The ``pyscep`` command.

This module imports nothing but the standard library, so that a missing extra is told in one
line instead of a traceback. The commands are in the modules beside it.
"""

from __future__ import annotations

import sys

_MISSING = (
    "pyscep: the command line needs the package {name}, which is not installed.\n"
    "In a checkout of pyscep, install it with:  pip install '.[cli]'\n"
)


def main() -> None:
    """Entry point of ``pyscep`` and of ``python -m pyscep``."""
    try:
        import click  # noqa: F401 - only to see whether it is there
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(_MISSING.format(name=error.name))
        sys.exit(2)
    from pyscep.cli.group import pyscep

    pyscep(prog_name="pyscep")
