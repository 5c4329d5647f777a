"""strongSwan against the NDES look-alike, with a password from its page."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from cryptography import x509

from pyscep.site.ndes import ndes_app, open_ndes
from pyscep.site.ndes_registry import NdesSettings
from pyscep.site.passwords import PasswordFile, account_line
from tests.cli_lab import listening
from tests.interop import peers

pytestmark = [pytest.mark.interop, pytest.mark.slow]
WORD = "a long password"


def scraped(origin: str) -> str:
    """What a console does: log in, fetch the page, cut out the password."""
    login = base64.b64encode(f"console:{WORD}".encode()).decode()
    page = Request(f"{origin}/certsrv/mscep_admin/", headers={"Authorization": f"Basic {login}"})
    with urlopen(page, timeout=20) as answer:
        text = answer.read().decode("utf-16-le")
    found = re.search(r"challenge password is: <B> (\S+)", text)
    assert found
    return found[1]


@pytest.mark.parametrize("cipher", ["aes", "des3"])
def test_strongswan_enrolls_and_renews(tmp_path: Path, cipher: str) -> None:
    """Two RA certificates; triple DES because the policy is `compatible`.

    Not with NDES's own capability list: strongSwan 5.9.8 finds neither cipher in it.
    """
    peers.require("pki")
    accounts = tmp_path / "accounts"
    accounts.write_text(account_line("console", WORD))
    accounts.chmod(0o600)
    settings = NdesSettings(password_validity=timedelta(minutes=5))
    with (
        open_ndes(tmp_path / "ca", settings) as ca,
        listening(
            ndes_app(ca, settings, authenticate=PasswordFile.read(accounts))
        ) as origin,
    ):
        url = f"{origin}/certsrv/mscep/mscep.dll"
        result, cas, ras = peers.strongswan_get_ca(url, tmp_path)
        assert result.code == 0, result.output
        assert len(cas) == 1
        assert len(ras) == 2, "one signs, one decrypts"
        assert ca.recipient is not None
        assert ca.encryption is not None
        material = peers.Material(
            ca=peers.write_certificates(tmp_path / "root.pem", ca.issuer.certificate),
            recipient=peers.write_certificates(
                tmp_path / "recipient.pem", ca.encryption.certificate
            ),
            signer=peers.write_certificates(tmp_path / "signer.pem", ca.recipient.certificate),
        )
        key, new_key = tmp_path / "key.pem", tmp_path / "new.pem"
        peers.new_key(key)
        peers.new_key(new_key)
        enrolled = peers.strongswan_enroll(
            url,
            tmp_path,
            key=key,
            subject="CN=strongswan, O=Lab",
            material=material,
            challenge=scraped(origin),
            cipher=cipher,
        )
        assert enrolled.code == 0, enrolled.output
        enrolled.issued.verify_directly_issued_by(ca.issuer.certificate)
        old = peers.write_certificates(tmp_path / "old.pem", enrolled.issued)
        renewed = peers.strongswan_enroll(
            url,
            tmp_path,
            key=new_key,
            subject="CN=strongswan, O=Lab",
            material=material,
            old=(old, key),
            cipher=cipher,
        )
        assert renewed.code == 0, renewed.output
        assert isinstance(renewed.issued, x509.Certificate)
        assert renewed.issued.serial_number != enrolled.issued.serial_number
