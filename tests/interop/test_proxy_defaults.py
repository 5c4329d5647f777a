"""The pages of docs/deploy name the symptoms: what a proxy does without its recipe's lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyscep
from tests import documents
from tests.raw_http import CAPS

from . import peers, proxies
from .proxies import SEND, Yard, enroll, enroll_over_http2, get
from .proxy_recipes import RECIPES


def text_of(page: str) -> str:
    return (documents.ROOT / "docs/deploy" / page).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """What the pages name, and nothing else than that is seen."""

    line: str
    """Of the response over HTTP/1."""
    longest: int
    """The longest request line that passes, in bytes."""
    logged: str
    line_2: str
    """Over HTTP/2; empty if the connection is closed instead."""
    logged_2: str


SYMPTOMS = {
    "nginx": Symptom(
        line="414 Request-URI Too Large",
        longest=8_190,
        logged="client sent too long URI while reading client request line",
        line_2="",
        logged_2="client sent too large header field while processing HTTP/2 connection",
    ),
    "Apache httpd": Symptom(
        line="414 Request-URI Too Long",
        longest=8_191,
        logged="request failed: client's request-line exceeds LimitRequestLine",
        line_2="414",
        logged_2="Request pseudo header exceeds LimitRequestFieldSize: :path",
    ),
    "HAProxy": Symptom(
        line="400 Bad request",
        longest=15_249,
        logged="<BADREQ>",
        line_2="",
        logged_2="<BADREQ>",
    ),
}


@pytest.mark.interop
@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptom_of_the_default_settings(yard: Yard, name: str) -> None:
    proxy, symptom = yard(name, default=True), SYMPTOMS[name]
    reply = get(proxy, CAPS.ljust(40_000, b"A"))
    assert f"{reply.status} {reply.reason}" == symptom.line
    assert not proxy.recorder.seen
    peers.wait_until(lambda: symptom.logged in proxy.logs)
    with pytest.raises(pyscep.TransportError) as caught:
        enroll(proxy, 41_000, SEND)
    assert caught.value.status == reply.status


@pytest.mark.interop
@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptom_over_http2(yard: Yard, name: str) -> None:
    proxy, symptom = yard(name, default=True), SYMPTOMS[name]
    with pytest.raises(pyscep.TransportError) as caught:
        enroll_over_http2(proxy, 41_000)
    assert caught.value.status == (int(symptom.line_2) if symptom.line_2 else None)
    peers.wait_until(lambda: symptom.logged_2 in proxy.logs)


@pytest.mark.interop
@pytest.mark.parametrize("name", SYMPTOMS)
def test_limit_of_the_default_settings(yard: Yard, name: str) -> None:
    proxy, longest = yard(name, default=True), SYMPTOMS[name].longest
    room = longest - len("GET /scep? HTTP/1.1")
    assert get(proxy, CAPS.ljust(room, b"A"), path=b"/scep").status == 200
    assert get(proxy, CAPS.ljust(room + 1, b"A"), path=b"/scep").status in (400, 414)


@pytest.mark.interop
def test_caddy_needs_no_setting(yard: Yard) -> None:
    assert RECIPES["Caddy"].needed is None
    reply = get(yard("Caddy"), CAPS.ljust(200_000, b"A"))
    assert (reply.status, reply.body) == (414, b"The query is too long; use POST.\n")


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_pages_name_the_symptoms(name: str) -> None:
    page, symptom = text_of(f"{RECIPES[name].page}.md"), SYMPTOMS[name]
    for words in (symptom.line, symptom.logged, symptom.logged_2, f"{symptom.longest:,}"):
        assert words in page
    rows = [row for row in text_of("README.md").splitlines() if row.startswith(f"| [{name}](")]
    assert any(f"`{symptom.line}`" in row for row in rows)


WITHOUT = (
    ("nginx", "auth_basic off", "401"),
    ("nginx", "auth_request off", "500"),
    ("nginx", "charset off", "text/plain; charset=utf-8"),
    ("nginx", "gzip off", "gzip"),
    ("Apache httpd", "Require all granted", "401"),
    ("Apache httpd", "AddDefaultCharset off", "text/plain; charset=utf-8"),
    ("Apache httpd", "SetEnv no-gzip", "gzip"),
)


@pytest.mark.interop
@pytest.mark.parametrize(("name", "line", "seen"), WITHOUT)
def test_no_line_of_a_recipe_is_idle(name: str, line: str, seen: str, tmp_path: Path) -> None:
    """What happens without it, where the rest of the site is set that way."""
    files = proxies.without(RECIPES[name].files(), line)
    headers = b"Host: scep.example.com\r\nAccept-Encoding: gzip\r\n"
    with proxies.run(RECIPES[name], tmp_path, files) as proxy:
        caps = get(proxy, CAPS, headers=headers)
        certificate = get(proxy, b"operation=GetCACert", headers=headers)
    found = [str(caps.status), caps.headers["content-type"]]
    assert seen in [*found, certificate.headers.get("content-encoding")]


INSIDE = {
    "nginx": "server {\n    listen 80;\n    server_name other.example.com;\n}\n",
    "Apache httpd": "<VirtualHost *:80>\n    ServerName other.example.com\n</VirtualHost>\n",
}
"""Another site on the same port, which comes first."""


@pytest.mark.interop
@pytest.mark.parametrize("name", INSIDE)
def test_the_setting_inside_of_a_server_is_not_enough(name: str, tmp_path: Path) -> None:
    """The pages say so: which server is asked for is known only after the request line."""
    recipe = RECIPES[name]
    assert recipe.needed
    (line,) = re.findall(rf"(?m)^{recipe.needed}.*\n", recipe.files()["scep.conf"])
    inside = re.sub(
        r"(?m)^( *server_name.*;|    ServerName.*)\n",
        rf"\g<0>{line}",
        recipe.default()["scep.conf"],
    )
    assert line in inside
    for first in ("", INSIDE[name]):
        home = tmp_path / f"home{len(first)}"
        home.mkdir()
        files = recipe.files() | {"scep.conf": first + inside}
        with proxies.run(recipe, home, files) as proxy:
            reply = get(proxy, CAPS.ljust(40_000, b"A"))
            assert reply.status == (414 if first else 200)


@pytest.mark.interop
@pytest.mark.parametrize(("name", "default"), [("nginx", True), ("nginx", False)])
def test_the_check(yard: Yard, name: str, default: bool) -> None:
    """The command of the index page."""
    peers.require("curl")
    proxy = yard(name, default=default)
    command = documents.code("docs/deploy/README.md", "sh")["check"]
    assert "https://scep.example.com/scep" in command
    command = command.replace("https://scep.example.com/scep", proxy.url("/scep"))
    done = peers.run("sh", "-c", command)
    assert done.output == ("414\n" if default else "200\n")


def test_every_recipe_has_a_row_and_a_page() -> None:
    index = text_of("README.md")
    pages = {path.name for path in (documents.ROOT / "docs/deploy").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", index)) - {"README.md"}
    for recipe in RECIPES.values():
        assert recipe.files(), f"{recipe.page}.md has no file"
