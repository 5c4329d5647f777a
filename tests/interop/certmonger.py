"""A private certmonger daemon, without D-Bus's system bus, and its helper by hand."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .peers import Material, Result, environment, read_certificate, run, wait_until

SCEP_SUBMIT = "/usr/lib/certmonger/scep-submit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certmonger:
    """A private certmonger daemon without D-Bus's system bus."""

    home: Path
    address: str
    log: Path = field(repr=False)

    def getcert(self, *argv: str | Path, timeout: float = 60.0) -> Result:
        env = environment(CERTMONGER_PVT_ADDRESS=self.address, HOME=str(self.home))
        return run("getcert", *argv, env=env, timeout=timeout)

    def add_ca(self, nickname: str, url: str, material: Material) -> None:
        """Tell it about a SCEP CA; where the CA itself signs it wants the CA as ``-N``."""
        argv: list[str | Path] = ["add-scep-ca", "-c", nickname, "-u", url]
        if material.has_ra:
            argv += ["-r", material.recipient, "-I", material.signer, "-R", material.ca]
            argv += ["-N", material.ca]
        else:
            argv += ["-N", material.ca, "-R", material.ca, "-I", material.ca]
        result = self.getcert(*argv)
        assert result.code == 0, result.output
        wait_until(lambda: "ca-type" in self.getcert("list-cas", "-c", nickname).output)

    def status(self, certificate: Path) -> str:
        """Such as MONITORING, CA_WORKING, CA_REJECTED or CA_UNREACHABLE."""
        for line in self.getcert("list", "-f", certificate).output.splitlines():
            if line.strip().startswith("status:"):
                return line.split(":", 1)[1].strip()
        return ""

    def wait(self, certificate: Path, *states: str, timeout: float = 30.0) -> Result:
        """Wait for one of these states of the request for that file."""
        end = time.monotonic() + timeout
        while (status := self.status(certificate)) not in states:
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        return self.result(certificate, 0 if status in states else 1)

    def result(self, certificate: Path, code: int) -> Result:
        listed = self.getcert("list", "-f", certificate).output
        return Result(code=code, output=listed, certificate=read_certificate(certificate))


@contextmanager
def certmonger(home: Path, *, lifetime: int = 1800) -> Iterator[Certmonger]:
    """Start a private daemon.

    Args:
        lifetime: seconds after which it ends by itself, come what may.
    """
    for name in ("requests", "cas", "local", "conf", "tmp"):
        (home / name).mkdir(parents=True, exist_ok=True)
    env = environment(
        HOME=str(home),
        CERTMONGER_REQUESTS_DIR=str(home / "requests"),
        CERTMONGER_CAS_DIR=str(home / "cas"),
        CERTMONGER_LOCAL_CA_DIR=str(home / "local"),
        CERTMONGER_CONFIG_DIR=str(home / "conf"),
        CERTMONGER_TMPDIR=str(home / "tmp"),
        # Its own, so that neither the machine's certmonger nor another test run is waited for.
        CERTMONGER_SYSTEM_LOCK_FILE=str(home / "lock"),
    )
    address = home / "address"
    # The daemon lives as long as its command, and the command no longer than our pipe.
    job = home / "job.sh"
    job.write_text(
        "#!/bin/sh\n"
        f'echo "$CERTMONGER_PVT_ADDRESS" > {address}.new && mv {address}.new {address}\n'
        f"exec timeout {lifetime} cat {home / 'life'} > /dev/null\n"
    )
    job.chmod(0o700)
    os.mkfifo(home / "life")
    log = home / "log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            ["certmonger", "-L", "-P", str(home / "sock"), "-n", "-d", "2", "-c", str(job)],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, cwd=home,
        )  # fmt: skip
    life = os.open(home / "life", os.O_RDWR)
    try:
        wait_until(address.exists)
        yield Certmonger(home=home, address=address.read_text().strip(), log=log)
    finally:
        os.close(life)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            process.terminate()
            process.wait(5)


def scep_submit(*argv: str | Path, **extra: str) -> Result:
    """certmonger's helper, by hand."""
    return run(SCEP_SUBMIT, *argv, env=environment(**extra))
