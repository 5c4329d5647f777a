"""Programs that end with the test run, even one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

# The end of standard input, which the kernel brings about if nobody else does, ends the program;
# the end of the program ends the shell, with the same code.
_LEASH = """
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
(read -r _ <&3; kill "$program") 2>/dev/null &
watcher=$!
exec 3<&-
wait "$program"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"""


def start(words: list[str], *, home: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Run a program in a directory; what it says goes to output.log there."""
    with open(home / "output.log", "wb") as sink:
        return subprocess.Popen(
            ["sh", "-c", _LEASH, "sh", *words],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env=env,
            start_new_session=True,
        )


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """Ask them to end, all together; make them after 15 seconds."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
