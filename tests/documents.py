"""The named code blocks of the documents: ```` ```python name=server ````."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w+)(?: name=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code(document: str, language: str = "python") -> dict[str, str]:
    """The blocks of a document in that language by name; one without a name is numbered."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for found_language, name, source in _FENCE.findall(text):
        if found_language == language:
            found[name or f"unnamed-{len(found)}"] = source
    return found


def execute(document: str, name: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block in a namespace that begins with these names, and return the namespace."""
    namespace = {"__name__": f"snippet_{name}", **names}
    exec(compile(code(document)[name], f"{document}:{name}", "exec"), namespace)  # noqa: S102 - ours
    return namespace
