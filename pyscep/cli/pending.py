"""``pyscep pending``: the requests that wait for somebody's decision."""

from __future__ import annotations

import click

from pyscep.cli.admin import decide_requests, list_pending
from pyscep.cli.place import Place, opened, place_option
from pyscep.cli.problems import Failed
from pyscep.cli.session import Output, json_option


@click.command("pending")
@click.argument(
    "action", type=click.Choice(("list", "approve", "deny")), default="list", required=False
)
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@place_option
@click.option("--reason", default="", metavar="TEXT", help="deny: why, for the CA's records.")
@json_option
def pending_command(
    action: str, ids: tuple[int, ...], out: Output, place: Place, reason: str
) -> None:
    """List the pending requests; approve or deny them by their IDs.

    An approved device gets its certificate when it polls. Look at the whole row before you
    approve: the names come from the device, the key's hash from its request.

    \b
    Examples:
      pyscep pending
      pyscep pending approve 17 18
      pyscep pending deny 19 --reason "unknown serial number"
    """
    if reason and action != "deny":
        raise Failed("--reason goes with deny")
    if action == "list" and ids:
        raise Failed("say what to do with them: approve or deny")
    if action != "list" and not ids:
        raise Failed(f"say which request to {action}: `pyscep pending` lists them")
    with opened(place) as ca:
        if action == "list":
            list_pending(ca.pending(), out)
        else:
            decide_requests(ca, ids, out, deny=action == "deny", reason=reason)
