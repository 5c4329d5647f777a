"""The house of docs/architecture.md, as a test: who may import whom, and who may touch the world.

Every import counts: at the top, inside a function, under TYPE_CHECKING, relative, or by
importlib with a literal name. The checker is itself tested with synthetic sources at the end.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).resolve().parent.parent / "pyscep"
MAX_LINES: Final = 400

# Floor with letter, and the units that live there. A unit is a module, or a package with all that
# is in it. A module imports from lower floors, from an earlier letter of its own floor, and from
# its own unit.
# A unit of several modules lists them with spaces.
FLOORS: Final = (
    ("0a", "enums"),
    ("0a", "lazy"),
    ("0b", "errors"),
    ("1a", "codec"),
    ("1b", "identity"),
    ("2a", "cms.algorithms cms.certificates cms.keys cms.signatures cms.signing"),
    ("2b", "cms"),
    ("2b", "issuance"),
    ("2b", "pkcs10"),
    ("2c", "paths"),
    ("3", "messages"),
    ("3", "capabilities"),
    ("3", "trust"),
    ("3", "crl"),
    ("4a", "transaction"),
    ("4a", "http"),
    ("4b", "attributes"),
    ("4b", "pki_request"),
    ("4b", "events"),
    ("4b", "exchange"),
    ("4c", "pki_message"),
    ("5", "server"),
    ("5", "client"),
    ("6a", "ca"),
    ("6b", "integrations"),
    ("7", "adapters"),
    ("8", "site"),
    ("8", "inspect"),
    ("8", "doctor"),
    ("9", "cli"),
)

# The public names on top of the house: nobody below imports them.
ROOF: Final = ("pyscep", "pyscep.__main__")

# Floors 0 to 5 have no I/O, clock or randomness: they import from the standard library only this.
PURE_MODULES: Final = frozenset(
    (
        "__future__ abc base64 binascii collections contextlib dataclasses datetime enum functools"
        " hashlib hmac ipaddress itertools json math operator re string struct types typing"
        " unicodedata urllib.parse"
    ).split()
)

# ... and beyond that, each with its reason.
PURE_EXCEPTIONS: Final = {
    ("pyscep.server", "secrets"): "token_bytes as an argument's default",
    ("pyscep.client", "secrets"): "token_bytes as an argument's default",
    ("pyscep.codec", "io"): "BytesIO, whose buffer is written in place",
    ("pyscep.codec", "os"): "PYSCEP_BACKEND and PYSCEP_KERNEL, read once at import",
}

# The clock is read by one kind of function only: the default of a `now` argument.
CLOCK_DEFAULTS: Final = frozenset({"utc_now", "_utc_now", "_now"})
CLOCK_CALLS: Final = frozenset({"now", "utcnow", "today"})
RANDOM_CALLS: Final = frozenset({"token_bytes", "token_hex", "token_urlsafe", "urandom"})
IO_CALLS: Final = frozenset({"open", "print", "input"})

# Third-party packages and the only units that may import them.
THIRD_PARTY: Final = {
    "cryptography": None,  # everybody: X.509 values are in the public types
    "cffi": ("codec",),
    "asn1crypto": ("cms", "pkcs10", "pki_message", "inspect"),
    "sqlalchemy": ("ca",),
    "httpx": ("adapters", "integrations", "site", "doctor", "cli"),
    "msal": ("integrations",),
    "anyio": ("adapters",),  # comes with httpx: its timeouts hold under asyncio and trio
    "uvicorn": ("adapters", "site", "cli"),
    "pydantic": ("site",),  # and there only in site.config: tests/test_site_config.py
    "h11": ("adapters",),
    "click": ("cli",),
    "rich": ("cli", "doctor", "inspect"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: what is imported, and where."""

    target: str
    line: int
    top_level: bool


def unit_of(module: str) -> str | None:
    """The unit that a module belongs to, by the longest name; None if the house has no room."""
    inside = module.removeprefix("pyscep.") + "."
    found = [
        (len(name), unit)
        for _, unit in FLOORS
        for name in unit.split()
        if inside.startswith(name + ".")
    ]
    return max(found)[1] if found else None


def floor_of(unit: str) -> str:
    return next(floor for floor, name in FLOORS if name == unit)


def imports_of(
    module: str, source: str, *, is_package: bool, modules: frozenset[str]
) -> list[Import]:
    """Every import of a module, with names of submodules resolved."""
    tree = ast.parse(source)
    package = module if is_package else module.rpartition(".")[0]
    top_level = {id(node) for node in tree.body}
    found: list[Import] = []

    def add(target: str, node: ast.AST) -> None:
        line = getattr(node, "lineno", 0)
        found.append(Import(target=target, line=line, top_level=id(node) in top_level))

    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    add(alias.name, node)
            case ast.ImportFrom(module=base, names=names, level=level):
                if level:
                    parents = package.split(".")
                    parents = parents[: len(parents) - level + 1]
                    base = ".".join([*parents, base] if base else parents)
                for alias in names:
                    submodule = f"{base}.{alias.name}"
                    add(submodule if submodule in modules else str(base), node)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                called = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
                if called in ("import_module", "__import__"):
                    add(package + name if name.startswith(".") else name, node)
            case _:
                pass
    return found


def breaches(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with these modules (dotted name to source), one line each."""
    modules = frozenset(sources)
    problems: list[str] = []
    for module, source in sorted(sources.items()):
        lines = source.count("\n")
        if lines > MAX_LINES:
            problems.append(f"{module}: {lines} lines, more than {MAX_LINES}")
        if module in ROOF:
            continue
        unit = unit_of(module)
        if unit is None:
            problems.append(f"{module}: on no floor of the house")
            continue
        imports = imports_of(module, source, is_package=module in packages, modules=modules)
        for item in imports:
            problem = _import_breach(unit, item)
            if problem:
                problems.append(f"{module}:{item.line}: {problem}")
        if floor_of(unit) < "6":
            found = _impurities(unit, source, imports)
            problems.extend(f"{module}:{line}: {what}" for line, what in found)
    problems.extend(_cycles(sources, packages))
    return list(dict.fromkeys(problems))


def _import_breach(unit: str, item: Import) -> str | None:
    root = item.target.partition(".")[0]
    if root != "pyscep":
        allowed = THIRD_PARTY.get(root, ())
        if root in sys.stdlib_module_names or allowed is None:
            return None
        if root not in THIRD_PARTY:
            return f"imports {root}, which is no dependency of this package"
        if not any(unit == name or unit.startswith(name + ".") for name in allowed):
            return f"imports {root}, which only {', '.join(allowed)} may"
        return None
    if item.target in ROOF:
        return "imports the public names on top of the house"
    other = unit_of(item.target)
    if other is None:
        return f"imports {item.target}, which is on no floor"
    if other == unit or floor_of(other) < floor_of(unit):
        return None
    return f"floor {floor_of(unit)} imports {item.target} of floor {floor_of(other)}"


def _impurities(unit: str, source: str, imports: list[Import]) -> Iterator[tuple[int, str]]:
    """Rule 2: no I/O, clock or randomness on floors 0 to 5."""
    allowed_units = {name for owner, name in PURE_EXCEPTIONS if f"pyscep.{unit}".startswith(owner)}
    for item in imports:
        root = item.target.partition(".")[0]
        if root not in sys.stdlib_module_names or root in allowed_units:
            continue
        if root not in PURE_MODULES and item.target not in PURE_MODULES:
            yield item.line, f"imports {item.target} on floor {floor_of(unit)}"
    for function, call in _calls(ast.parse(source)):
        func = call.func
        name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        owner = ast.unparse(func.value) if isinstance(func, ast.Attribute) else ""
        if name in CLOCK_CALLS and owner.endswith(("datetime", "date")):
            if function not in CLOCK_DEFAULTS:
                yield call.lineno, f"reads the clock in {function or 'the module'}"
        elif name in RANDOM_CALLS and owner in ("secrets", "os"):
            yield call.lineno, f"draws randomness with {owner}.{name}"
        elif name in IO_CALLS and not owner:
            yield call.lineno, f"calls {name}()"


def _calls(node: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        inner = function
        if isinstance(child, ast.Call):
            yield function, child
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = child.name
        elif isinstance(child, ast.Lambda) and _is_default_of(child, "now", node):
            inner = "_now"
        yield from _calls(child, inner)


def _is_default_of(child: ast.Lambda, name: str, node: ast.AST) -> bool:
    """Whether a lambda is the default of the keyword-only argument of that name."""
    if not isinstance(node, ast.arguments):
        return False
    pairs = zip(node.kwonlyargs, node.kw_defaults, strict=True)
    return any(default is child and argument.arg == name for argument, default in pairs)


def _cycles(sources: Mapping[str, str], packages: frozenset[str]) -> Iterator[str]:
    """Imports at the top of modules form no cycle, not even inside one unit."""
    modules = frozenset(sources)
    graph = {
        module: sorted(
            {
                item.target
                for item in imports_of(
                    module, source, is_package=module in packages, modules=modules
                )
                if item.top_level and item.target in modules and item.target != module
            }
        )
        for module, source in sources.items()
        if module not in ROOF
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield "cycle: " + " -> ".join((*path[path.index(module) :], module))
        elif module not in done:
            for target in graph.get(module, ()):
                yield from visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, ())


def house() -> tuple[dict[str, str], frozenset[str]]:
    """The package's modules with their sources, and which of them are packages."""
    sources: dict[str, str] = {}
    packages: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("pyscep", *path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts = parts[:-1]
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources, frozenset(packages)


def test_the_house_stands() -> None:
    sources, packages = house()
    assert len(sources) > 15, "the package was not found"
    assert not (found := breaches(sources, packages)), "\n".join(found)


def test_every_exception_is_needed() -> None:
    """An allowance that nobody uses any more is taken back."""
    sources, packages = house()
    used = {
        (module, item.target.partition(".")[0])
        for module, source in sources.items()
        for item in imports_of(
            module, source, is_package=module in packages, modules=frozenset(sources)
        )
    }
    unused = [
        (owner, name)
        for owner, name in PURE_EXCEPTIONS
        if not any((module + ".").startswith(owner + ".") and name == root for module, root in used)
    ]
    assert not unused


def test_the_map_of_the_large_packages() -> None:
    """docs/architecture.md names every module of ``ca`` and ``site`` once, and no other."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## Inside the two large packages")[1].split("\n## ")[0]
    sources, _ = house()
    for name, part in zip(("ca", "site"), section.split("`pyscep.")[1:], strict=True):
        named = re.findall(r"`(\w+)`", part.partition("`")[2])
        assert sorted(named) == sorted(
            {
                module.split(".")[2]
                for module in sources
                if module.startswith(f"pyscep.{name}.")
            }
        )


# The checker, checked ----------------------------------------------------------------------------


def check(module: str, source: str, *others: str, package: bool = False) -> list[str]:
    sources = dict.fromkeys(others, "") | {module: source}
    return breaches(sources, frozenset({module} if package else ()))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pyscep.errors", "from pyscep.enums import FailInfo\n"),
        ("pyscep.identity", "from pyscep.codec import der\n"),
        ("pyscep.cms.signed_data", "from pyscep.cms import algorithms\n"),
        ("pyscep.cms.signed_data", "from pyscep.cms.certs_only import bag\n"),
        ("pyscep.messages", "from pyscep import pkcs10\nfrom pyscep.identity import Identity\n"),
        ("pyscep.client", "import secrets\n\ndef f(token_bytes=secrets.token_bytes): ...\n"),
        ("pyscep.server", "def utc_now():\n    return datetime.now(UTC)\n"),
        ("pyscep.server", "def f(*, now=lambda: datetime.now(UTC)): ...\n"),
        ("pyscep.ca.store", "import sqlalchemy, os, time\nfrom . import profile\n"),
        ("pyscep.cli.demo", "import click\nfrom pyscep.ca import store\n"),
    ],
)
def test_allowed(module: str, source: str) -> None:
    others = ("pyscep.cms.algorithms", "pyscep.pkcs10", "pyscep.ca.profile")
    assert check(module, source, *others) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("pyscep.enums", "from pyscep.errors import ScepError\n", "floor 0a imports"),
        ("pyscep.codec._pure", "from pyscep import identity\n", "floor 1a imports pyscep.identity"),
        ("pyscep.client", "from pyscep.server import Server\n", "floor 5 imports pyscep.server"),
        ("pyscep.server", "import pyscep.client\n", "floor 5 imports pyscep.client"),
        ("pyscep.capabilities", "from pyscep import messages\n", "floor 3 imports"),
        ("pyscep.cms.algorithms", "from pyscep.cms import signed_data\n", "floor 2a imports"),
        ("pyscep.cms.algorithms", "from . import signed_data\n", "floor 2a imports"),
        ("pyscep.pkcs10", "from pyscep.cms.signed_data import x\n", "floor 2b imports"),
        ("pyscep.http", "def f():\n    from pyscep.server import Server\n", "floor 4a imports"),
        (
            "pyscep.http",
            "if TYPE_CHECKING:\n    from pyscep.pki_message import x\n",
            "floor 4a imports",
        ),
        ("pyscep.http", "importlib.import_module('pyscep.ca')\n", "floor 4a imports"),
        ("pyscep.ca", "from pyscep.integrations import intune\n", "floor 6a imports"),
        ("pyscep.inspect", "from ..site import app\n", "floor 8 imports"),
        ("pyscep.adapters.asgi", "import pyscep\n", "on top of the house"),
        ("pyscep.adapters.asgi", "from pyscep import Server\n", "on top of the house"),
        ("pyscep.newcomer", "", "on no floor"),
        ("pyscep.http", "import socket\n", "imports socket on floor 4a"),
        ("pyscep.http", "import urllib.request\n", "imports urllib.request on floor 4a"),
        ("pyscep.http", "from urllib import request\n", "imports urllib on floor 4a"),
        ("pyscep.identity", "from pathlib import Path\n", "imports pathlib on floor 1b"),
        ("pyscep.http", "import secrets\n", "imports secrets on floor 4a"),
        ("pyscep.client", "import secrets\nsecrets.token_bytes(16)\n", "draws randomness"),
        ("pyscep.client", "def f():\n    return datetime.now(UTC)\n", "reads the clock in f"),
        ("pyscep.server", "def f():\n    return dt.date.today()\n", "reads the clock in f"),
        ("pyscep.server", "x = lambda: datetime.now(UTC)\n", "reads the clock in the module"),
        ("pyscep.identity", "def f(path):\n    return open(path).read()\n", "calls open()"),
        ("pyscep.messages", "import sqlalchemy\n", "imports sqlalchemy, which only ca may"),
        ("pyscep.server", "import asn1crypto.cms\n", "imports asn1crypto"),
        ("pyscep.ca.store", "import requests\n", "no dependency of this package"),
        ("pyscep.messages", "x = 1\n" * (MAX_LINES + 1), "401 lines"),
    ],
)
def test_breach(module: str, source: str, complaint: str) -> None:
    others = ("messages", "identity", "cms.signed_data", "site.app")
    is_package = module == "pyscep.inspect"
    found = check(module, source, *(f"pyscep.{name}" for name in others), package=is_package)
    assert any(complaint in line for line in found), found


def test_a_cycle_inside_a_unit() -> None:
    found = breaches(
        {
            "pyscep.ca.store": "from pyscep.ca import issuer\n",
            "pyscep.ca.issuer": "from pyscep.ca.store import Store\n",
        }
    )
    assert found == ["cycle: pyscep.ca.issuer -> pyscep.ca.store -> pyscep.ca.issuer"]
