"""Draws benchmarks/chart.svg: two groups of bars, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from benchmarks.goals import Values

CHART = Path(__file__).with_name("chart.svg")
WIDTH, LEFT, RIGHT, ROW = 720, 250, 110, 26
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 14px; }
  .label { text-anchor: end; }
  .bar { fill: #8c959f; }
  .ours { fill: #1f6feb; }
  .limit { fill: #d0d7de; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .bar { fill: #6e7681; }
    .ours { fill: #58a6ff; }
    .limit { fill: #373e47; }
  }
"""
Bar = tuple[str, float, str, str]
"""Label, length, text behind it, class."""


def write(results: Mapping[str, Values]) -> None:
    """Write the chart."""
    CHART.write_text(draw(results), encoding="utf-8")


def draw(results: Mapping[str, Values]) -> str:
    """The chart as SVG text."""
    parts: list[str] = []
    y = 24
    for title, bars in (_enrollments(results), _decoding(results)):
        if not bars:
            continue
        parts.append(f'<text class="title" x="12" y="{y}">{escape(title)}</text>')
        y += 14
        longest = max(length for _, length, _, _ in bars)
        for label, length, text, kind in bars:
            width = max(1.0, length / longest * (WIDTH - LEFT - RIGHT))
            parts.append(
                f'<text class="label" x="{LEFT - 8}" y="{y + 16}">{escape(label)}</text>'
                f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="18" '
                f'rx="2"/><text x="{LEFT + width + 6:.1f}" y="{y + 16}">{escape(text)}</text>'
            )
            y += ROW
        y += 30
    height = y - 14
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="Speed of pyscep beside its peers">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _enrollments(results: Mapping[str, Values]) -> tuple[str, list[Bar]]:
    """Speed of the server as a share of what its cryptography alone would reach."""
    native: Any = results.get("native", {})
    pure: Any = results.get("pure", {})
    peers: Any = results.get("peers", {})
    ours = native.get("server 40k")
    times: list[tuple[str, float | None, str]] = [
        ("its cryptography alone", 1.0, "limit"),
        ("pyscep", ours, "ours"),
        ("pyscep, pure Python", pure.get("server 40k"), "ours"),
        ("OpenSSL's CMS API in C", _over(ours, native.get("ours / C 40k")), "bar"),
        ("micromdm scepserver (Go)", _times(ours, peers.get("micromdm / ours")), "bar"),
        ("asn1crypto + cryptography", native.get("reference 40k"), "bar"),
    ]
    bars = [
        (label, 1 / ratio, f"{100 / ratio:.0f} %", kind) for label, ratio, kind in times if ratio
    ]
    return "Enrollments per second and core, of what the RSA leaves possible (40 KB query)", bars


def _decoding(results: Mapping[str, Values]) -> tuple[str, list[Bar]]:
    """Query text per second."""
    native: Any = results.get("native", {})
    scalar: Any = results.get("native, scalar", {})
    size = native.get("server 40k query bytes", 0)
    own = native.get("decode 40k us")
    times: list[tuple[str, float | None, str]] = [
        ("pyscep, AVX2", own, "ours"),
        ("pyscep, scalar C", scalar.get("decode 40k us"), "ours"),
        ("replace + pybase64", _times(own, native.get("decode 40k replace")), "bar"),
        ("unquote + b64decode", _times(own, native.get("decode 40k typical")), "bar"),
    ]
    bars = [
        (label, size / time, f"{size / time:,.0f} MB/s", kind)
        for label, time, kind in times
        if time
    ]
    return "Decoding a GET query of 40 KB", bars if size else []


def _times(first: float | None, second: float | None) -> float | None:
    return first * second if first and second else None


def _over(first: float | None, second: float | None) -> float | None:
    return first / second if first and second else None
