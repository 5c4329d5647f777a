"""``pyscep poll``: go on with a request that was pending."""

from __future__ import annotations

import click

from pyscep.cli import files
from pyscep.cli.outcome import Polling, conclude, load_state, polling_options
from pyscep.cli.session import Output, Session, json_option


@click.command("poll")
@click.argument("state_file", metavar="STATE")
@polling_options(max_polls=1, state=False)
@json_option
def poll_command(state_file: str, out: Output, polling: Polling) -> int:
    """Ask again for a certificate that was pending.

    STATE is the file that enroll or renew has written; it names the server, the key and where
    the certificate goes. The first poll is made at once. The file is removed when the CA has
    decided.

    \b
    Examples:
      pyscep poll device.pem.pending.json
      pyscep poll device.pem.pending.json --max-polls 100 --poll-interval 300
    """
    job, pending = load_state(state_file)
    files.refuse_existing(job.out_file, job.ca_out, force=job.force)
    key = files.load_key(job.signer_key)
    return conclude(Session(job.server), job, pending, key, polling, out)
