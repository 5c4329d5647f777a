"""A report for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pyscep.inspect.report import Layer, Report, visible_fields

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LABELS: Final = {
    "econtent": "eContent",
    "certs": "number of certificates",
    "csr_subject": "subject",
    "csr_key": "key",
    "csr_verified": "verified",
    "csr_signature_algorithm": "signature algorithm",
    "csr_attributes": "attributes",
    "inner_certs": "number of certificates",
    "inner_crls": "number of CRLs",
    "inner_certificates": "certificates",
    "inner_revocation_lists": "CRLs",
}


def render(report: Report, console: Console, *, show_secrets: bool = False) -> None:
    """Print a report.

    Text from the message is printed without control characters.

    Args:
        show_secrets: print the challengePassword instead of hiding it.
    """
    from rich.text import Text

    console.print(Text(f"This is: {report.kind}", style="bold"))
    if not report.verified["value"]:
        console.print(Text(f"NOT VERIFIED: {safe(report.verified['reason'])}", style="bold red"))
    for layer in report.layers:
        console.print(Text(f"\n{layer.title}", style="bold"))
        if layer.fields:
            console.print(_table(visible_fields(layer, show_secrets=show_secrets)))
        else:
            console.print(Text("  (nothing beside what is inside)"))
    console.print(Text("\nunusual", style="bold"))
    for layer in report.layers:
        _remarks(layer, console)
    if not report.remarks:
        console.print(Text("  nothing"))


def _table(fields: Mapping[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=True, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        label = _LABELS.get(name, name.replace("_", " "))
        good = isinstance(value, dict) and value.get("value") is True
        bad = isinstance(value, dict) and value.get("value") is False
        style = "green" if good else "yellow" if bad else ""
        table.add_row(Text(label), Text("\n".join(_lines(value)), style=style))
    return table


def _lines(value: Any) -> list[str]:
    """A value as lines of text."""
    match value:
        case None:
            return ["none"]
        case bool():
            return ["yes" if value else "no"]
        case {"value": bool(good), "reason": reason}:
            return [f"{'yes' if good else 'NO'}: {safe(str(reason))}"]
        case {"value": secret, "tag": tag}:
            return [f"{safe(str(secret))} ({tag})"]
        case dict():
            return [
                f"{key.replace('_', ' ')}: {'; '.join(_lines(one))}" for key, one in value.items()
            ]
        case [*members]:
            return _members(members)
        case _:
            return [safe(str(value))]


def _members(members: Sequence[Any]) -> list[str]:
    if not members:
        return ["none"]
    if all(isinstance(member, str) and "," not in member for member in members):
        return [safe(", ".join(members))]
    lines = []
    for number, member in enumerate(members, 1):
        first, *rest = _lines(member)
        lines.append(f"{number}. {first}")
        lines.extend(f"   {line}" for line in rest)
    return lines


def _remarks(layer: Layer, console: Console) -> None:
    from rich.text import Text

    for remark in layer.remarks:
        console.print(Text(f"  {layer.title}: {safe(remark.text)}", style="yellow"))


def safe(text: str) -> str:
    """Text from the network without control characters, for a terminal."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )
