"""How the demo looks: one rule for each step, what went over the wire, and a table at the end."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import demo_wire
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from pyscep import HttpRequest, HttpResponse, urllib_sender

PKI_MESSAGE = "application/x-pki-message"


class DemoFailed(Exception):
    """Something did not come out as it should: the demo ends with a non-zero exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP request with its response."""

    request: HttpRequest
    response: HttpResponse
    seconds: float

    @property
    def operation(self) -> str:
        """Such as ``GetCACaps``."""
        query = self.request.query.decode("ascii", "replace")
        return query.partition("operation=")[2].partition("&")[0] or "PKIOperation"

    @property
    def sent(self) -> int:
        """Bytes of query and body."""
        return len(self.request.query) + len(self.request.body)

    def message(self) -> bytes:
        """The pkiMessage that was sent, in DER; empty for the other operations."""
        if self.operation != "PKIOperation":
            return b""
        if self.request.body:
            return self.request.body
        from pyscep import codec

        return codec.decode_message(self.request.query.partition(b"message=")[2])


@dataclass(slots=True)
class Wire:
    """A sender that remembers what went over the wire."""

    exchanges: list[Exchange] = field(default_factory=list)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        start = time.perf_counter()
        response = urllib_sender(timeout=30)(request)
        seconds = time.perf_counter() - start
        self.exchanges.append(Exchange(request=request, response=response, seconds=seconds))
        return response

    def take(self) -> list[Exchange]:
        """What happened since the last call."""
        taken, self.exchanges = self.exchanges, []
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the summary."""

    title: str
    result: str
    requests: int
    sent: int
    received: int
    seconds: float


class View:
    """Prints the demo, to a terminal or to a file."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # arrows, where the locale has none
        # Without a terminal there is nobody to ask for a width: wide enough for the tables.
        width = None if sys.stdout.isatty() else 100
        self.console = Console(width=width, highlight=False)
        self.wire = Wire()
        self.rows: list[Row] = []
        self._result = ""

    def title(self, text: str, *lines: str) -> None:
        """The panel at the top."""
        self.console.print(Panel("\n".join(lines), title=f"[bold]{text}[/]", border_style="cyan"))

    @contextmanager
    def step(self, title: str, explanation: str) -> Iterator[None]:
        """One step: a rule, a sentence, then what the body prints, and the exchanges."""
        number = len(self.rows) + 1
        self.console.print()
        self.console.rule(f"[bold cyan]{number}[/] [bold]{title}[/]", align="left", style="cyan")
        self.console.print(explanation, style="dim")
        self._result = ""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        exchanges = self.wire.take()
        self.rows.append(
            Row(
                title=title,
                result=self._result,
                requests=len(exchanges),
                sent=sum(one.sent for one in exchanges),
                received=sum(len(one.response.body) for one in exchanges),
                seconds=seconds,
            )
        )

    def show_wire(self) -> None:
        """The exchanges of this step: two lines for each, and more for a pkiMessage.

        Where there is a pkiMessage, the unauthenticated fetches before it get one line together.
        """
        exchanges = self.wire.exchanges
        if shown := [one for one in exchanges if one.message()]:
            fetched = " and ".join(one.operation for one in exchanges if not one.message())
            self.console.print(f"  {fetched} as before, then", style="dim")
        for one in shown or exchanges:
            in_url = not one.request.body
            sent = f"{one.sent:,} bytes" + (" in the URL" if in_url else "")
            what = f"{one.request.method} {one.request.path} {one.operation}"
            self._line("[yellow]→[/]", what, sent, "")
            self._show_message(one.message())
            arrow = "[green]←[/]" if one.response.status == 200 else "[red]←[/]"
            what = f"{one.response.status} {one.response.media_type}"
            time_taken = f"{one.seconds * 1000:.1f} ms"
            self._line(arrow, what, f"{len(one.response.body):,} bytes", time_taken)
            if one.response.media_type == PKI_MESSAGE:
                self._show_message(one.response.body)

    def _line(self, arrow: str, what: str, size: str, time_taken: str) -> None:
        self.console.print(f"{arrow} {escape(what):<44}{size:<24}[dim]{time_taken:>10}[/]")

    def _show_message(self, message: bytes) -> None:
        if not message:
            return
        seen = demo_wire.look(message)
        self.console.print(f"    [bold magenta]{escape(seen.title)}[/]  {seen.seal}")
        self.console.print(f"    transactionID {escape(seen.transaction_id)}", style="dim")
        if seen.envelope:
            self.console.print(f"    encrypted: {escape(seen.envelope)}", style="dim")

    def facts(self, *pairs: tuple[str, str]) -> None:
        """Names with values, aligned."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", min_width=14)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(f"  {name}", escape(value))
        self.console.print(grid)

    def command(self, text: str) -> None:
        """A command that is run, as it would be typed."""
        self.console.print("  [yellow]$[/] " + escape(text), soft_wrap=True)

    def excerpt(self, text: str, wanted: Sequence[str]) -> None:
        """The lines of an output in which one of these is."""
        for line in text.splitlines():
            if any(one in line for one in wanted):
                self.console.print(f"    {line.strip()}", style="dim", markup=False, soft_wrap=True)

    def good(self, text: str) -> None:
        """What came out; the last one of a step stands in the summary."""
        self._result = text
        self.console.print(f"[green]✓[/] {escape(text)}")

    def summary(self, closing: Sequence[str]) -> None:
        """The table of all steps."""
        table = Table(title="What happened", title_style="bold", border_style="cyan")
        table.add_column("")
        table.add_column("step")
        seen = any(row.requests for row in self.rows)
        for name in ("HTTP", "sent", "received", "ms") if seen else ("ms",):
            table.add_column(name, justify="right")
        table.add_column("result", style="green", overflow="fold")
        for number, row in enumerate(self.rows, 1):
            wire = (row.requests, row.sent, row.received) if row.requests else ("", "", "")
            table.add_row(
                str(number),
                row.title,
                *(f"{one:,}" if one else "" for one in wire if seen),
                f"{row.seconds * 1000:,.0f}",
                escape(row.result),
            )
        self.console.print()
        self.console.print(table)
        self.console.print(Panel("\n".join(closing), border_style="green"))

    def failed(self, text: str, log: str = "") -> None:
        """Why it ended early, with the end of the server's log."""
        body = f"[bold red]{escape(text)}[/]"
        if log:
            body += f"\n\n[dim]The server's log:[/]\n{escape(log)}"
        self.console.print(Panel(body, title="The demo failed", border_style="red"))
