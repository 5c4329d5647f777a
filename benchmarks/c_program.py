"""OpenSSL's CMS API in C against pyscep, with the libcrypto of this machine."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks import reference
from benchmarks.payloads import CHALLENGE_SIZES, make_enrollment
from benchmarks.ratios import Settings, no_gc, timed

SOURCE = Path(__file__).with_name("openssl_cms.c")


def missing() -> str | None:
    """What this machine lacks to build the program."""
    if shutil.which("cc") is None:
        return "no C compiler"
    found = subprocess.run(
        ["cc", "-E", "-x", "c", "-"],
        input=b"#include <openssl/cms.h>\n",
        capture_output=True,
        check=False,
    )
    return None if found.returncode == 0 else "no OpenSSL headers (libssl-dev)"


def c_program(settings: Settings) -> dict[str, float | str]:
    """Our server's time over the program's, for queries of two sizes."""
    lack = missing()
    if lack is not None:
        return {"C program missing": lack}
    results: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "openssl_cms"
        subprocess.run(["cc", "-std=gnu11", "-O2", "-o", program, SOURCE, "-lcrypto"], check=True)
        for size in ("8k", "40k"):
            case = make_enrollment(size, CHALLENGE_SIZES[size])
            key = case.identity.private_key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            (folder / "key.pem").write_bytes(key)
            (folder / "ca.pem").write_bytes(case.identity.certificate.public_bytes(Encoding.PEM))
            (folder / "query").write_bytes(case.request.query)
            process = subprocess.Popen(
                [program, "key.pem", "ca.pem", "query", "reply"],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            results["C program libcrypto"] = process.stdout.readline().strip()
            issued = reference.open_reply(
                (folder / "reply").read_bytes(),
                case.identity.certificate,
                case.signer.private_key,
                case.transaction.sender_nonce,
            )
            assert issued.public_key() == case.csr.public_key
            times: list[float] = []
            stdin, stdout = process.stdin, process.stdout
            count = max(1, round(settings.sample / 0.0015))

            def run(stdin=stdin, stdout=stdout, count=count, times=times) -> None:
                stdin.write(f"{count}\n")
                stdin.flush()
                times.append(int(stdout.readline()) / count / 1e3)

            ratios, ours = [], []
            work = partial(case.server.handle, case.request, case.authority)
            with no_gc():
                for _ in range(settings.rounds):
                    run()
                    ours.append(timed(work, count))
                    run()
                    ratios.append(ours[-1] / ((times[-1] + times[-2]) / 2))
            process.stdin.close()
            process.wait(10)
            results[f"ours / C {size}"] = statistics.median(ratios)
            results[f"C program {size} us"] = statistics.median(times)
            results[f"beside C {size} us"] = statistics.median(ours)
    return results
