"""The public names, what importing them costs, and what is shipped."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pyscep

ROOT = Path(__file__).resolve().parent.parent

# Literal on purpose: a change of the public names is a change of this list.
PUBLIC = (
    # roles and what they exchange
    "Server Authority AuthorityUnavailable PkiRequest"
    " Client CaCertificates PendingEnrollment"
    " Identity RawCertificate IssuerAndSerial Transaction"
    " HttpRequest HttpResponse HttpLimits Capabilities"
    # messages and outcomes
    " ClientMessage PKCSReq RenewalReq CertPoll GetCert GetCRL CertRep"
    " Outcome Success Pending Failure CertificateRequest"
    " MessageType PkiStatus FailInfo Operation"
    # algorithms
    " AlgorithmPolicy Algorithms MODERN COMPATIBLE LEGACY"
    # errors
    " ScepError ProtocolError DecodeError SignatureError DecryptionError AlgorithmError"
    " SigningTimeError UnknownCertificate EnrollmentRefused TransportError"
    # drivers and senders
    " run run_async urllib_sender httpx_sender"
    # modules
    " pkcs10 ca __version__"
).split()

# None of these is imported by `import pyscep`: the first costs time, the others are extras.
NOT_IMPORTED = [
    *("asn1crypto", "sqlalchemy", "click", "rich", "httpx", "anyio", "uvicorn", "pydantic")
]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules_after(code: str) -> set[str]:
    """The top-level names in sys.modules after running code in a fresh interpreter."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    return set(json.loads(output))


def test_all() -> None:
    assert sorted(pyscep.__all__) == sorted(PUBLIC)
    assert len(set(pyscep.__all__)) == len(pyscep.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there(name: str) -> None:
    assert getattr(pyscep, name) is not None
    assert name in dir(pyscep)


def test_the_ca_is_loaded_when_it_is_used() -> None:
    pytest.importorskip("sqlalchemy", reason="comes with the extra ca")
    assert "sqlalchemy" in modules_after("import pyscep; pyscep.ca.CertificateAuthority")
    assert pyscep.__getattr__("ca") is importlib.import_module("pyscep.ca")


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        pyscep.no_such_name  # noqa: B018 - the access is the test


def test_star_import() -> None:
    pytest.importorskip("sqlalchemy", reason="comes with the extra ca")
    names: dict[str, Any] = {}
    exec("from pyscep import *", names)  # noqa: S102 - a literal
    assert set(PUBLIC) <= set(names)


@pytest.mark.parametrize(
    "code",
    ["import pyscep", "import pyscep; pyscep.Server; pyscep.Client; pyscep.run"],
    ids=["import", "both roles"],
)
def test_import_is_light(code: str) -> None:
    loaded = modules_after(code)
    assert "pyscep" in loaded
    assert not loaded & set(NOT_IMPORTED)


def test_a_role_does_not_load_the_other() -> None:
    assert "pyscep.client" not in modules_after("import pyscep; pyscep.Server")
    assert "pyscep.server" not in modules_after("import pyscep; pyscep.Client")


def test_the_base_install_is_enough() -> None:
    """Both roles, the adapters and the standard library's sender, with no extra installed."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_IMPORTED[1:]!r}))\n"
        "import pyscep, pyscep.adapters.asgi, pyscep.adapters.wsgi\n"
        "pyscep.Server, pyscep.Client, pyscep.run, pyscep.run_async, pyscep.urllib_sender()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_import_configures_nothing() -> None:
    """No handler, level or warning filter changes by importing the package."""
    script = (
        "import logging, warnings; before = list(warnings.filters)\n"
        "import pyscep; pyscep.Server; pyscep.Client\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
        "assert logging.getLogger('pyscep').level == logging.NOTSET\n"
        "assert [f for f in warnings.filters if f not in before and 'pyscep' in str(f)] == []"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_typed() -> None:
    assert (Path(pyscep.__file__).parent / "py.typed").is_file()
    assert project()["tool"]["setuptools"]["package-data"]["pyscep"] == ["py.typed"]


def test_one_version() -> None:
    version = project()["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert getattr(pyscep, "__version__", version) == version


def test_the_entry_point_exists() -> None:
    pytest.importorskip("click", reason="comes with the extra cli")
    (target,) = project()["project"]["scripts"].values()
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_extras() -> None:
    """`all` is the sum of the extras that users take; no extra names this package."""
    extras = project()["project"]["optional-dependencies"]
    names = ("ca", "cli", "serve", "config", "httpx", "intune", "postgresql")
    parts = [extras[name] for name in names]
    assert sorted(extras["all"]) == sorted({item for part in parts for item in part})
    for requirements in extras.values():
        assert not [item for item in requirements if item.lower().startswith("pyscep")]


def test_every_requirement_is_pinned_for_development() -> None:
    lock = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pins = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    pinned = {normalized(pin.partition("==")[0]) for pin in pins}
    table = project()
    wanted = [*table["build-system"]["requires"], *table["project"]["dependencies"]]
    for requirements in table["project"]["optional-dependencies"].values():
        wanted.extend(requirements)
    names = {normalized(re.split(r"[<>=!~\[; ]", item)[0]) for item in wanted}
    assert names <= pinned


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
