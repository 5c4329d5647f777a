"""A server like ``pyscep serve`` that keeps nothing: what a durable store costs is beside it.

The same HTTP server, limits, events and log lines, the same checks and certificates; but the
authority compares the challenge, signs, and forgets.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import pyscep
from pyscep.adapters import http_server
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import Issuer, Profile, directory
from pyscep.ca.challenge import ChallengeRequest, Granted, StaticChallenge, utc_now
from pyscep.site import operations
from pyscep.site.logs import json_line
from pyscep.site.serve import Site, describe_event, url_of


def authority_of(issuer: Issuer, word: str) -> pyscep.Authority:
    """An authority that decides as a CA's does, and has no memory."""
    profile, challenge = Profile(), StaticChallenge(word)

    def decide(request: pyscep.PkiRequest) -> pyscep.Outcome:
        message, now = request.message, utc_now()
        if not isinstance(message, pyscep.PKCSReq):
            return pyscep.Failure()
        asked = ChallengeRequest.of(request, message, "default", now, issuer.id)
        if asked is None or not isinstance(challenge.verify(asked), Granted):
            return pyscep.Failure()
        tbs, _ = issuer.to_be_signed(
            serial_number=secrets.randbits(158) | 1 << 158,
            names=profile.take_names(message.csr),
            key=profile.check_key(message.csr),
            spki=message.csr.spki,
            profile=profile.for_request(message.csr),
            now=now,
        )
        return pyscep.Success(certificates=(issuer.sign(tbs),))

    return decide


def main() -> None:
    """Serve the CA of a directory."""
    place, word = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="ascii")
    issuer = Issuer(directory.load(place).ca)
    layer = operations.for_serving()

    def on_event(event: Any) -> None:
        layer.on_event(event)
        print(json_line(describe_event(event)), file=sys.stderr)

    scep = ScepApp(pyscep.Server(issuer.identity, on_event=on_event), authority_of(issuer, word))
    sock = http_server.bind("127.0.0.1", 0)
    with sock:
        ready = json.dumps({"url": url_of(sock, "127.0.0.1")})
        app = layer.app(Site(scep), {})
        http_server.serve(app, sock, on_ready=lambda: print(ready, flush=True))


if __name__ == "__main__":
    main()
