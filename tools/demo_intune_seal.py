"""Seal a challenge that is good for a second: ``demo_intune_seal.py SUBJECT DNS URI``.

What a management service in Python does, with its files in the working directory.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from pyscep import Identity
from pyscep.integrations.binding import Binding
from pyscep.integrations.sealed import seal

subject, dns, uri = sys.argv[1:]
print(
    seal(
        Binding(
            subject=x509.Name.from_rfc4514_string(subject),
            sans=(f"dns:{dns}", f"uri:{uri}"),
        ),
        service=Identity.from_pem(Path("mdm.pem").read_bytes(), Path("mdm.key").read_bytes()),
        recipient=x509.load_pem_x509_certificate(Path("module.pem").read_bytes()),
        lifetime=timedelta(seconds=1),
        data=Path("data").read_bytes(),
    )
)
