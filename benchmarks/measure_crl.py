"""GetCRL from both sides, and looking a serial number up."""

from __future__ import annotations

from cryptography import x509

from benchmarks import crls, floor, reference
from benchmarks.counts import peak
from benchmarks.ratios import Results, Settings, Work, compare, note
from pyscep import codec
from pyscep.crl import find_revocation


def get_crl(settings: Settings) -> Results:
    """GetCRL from both sides, and looking a serial number up."""
    results: Results = {}
    for name, entries in {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}.items():
        case = crls.make_exchange(entries)
        if name == "1M":  # no goal, and each call takes long
            settings = Settings(rounds=min(settings.rounds, 5), sample=settings.sample)
        reply = case.serve()
        assert case.read(reply) == case.crl
        ca, key, nonce = case.identity.certificate, case.client.private_key, case.transaction
        works: list[Work] = [lambda case=case, reply=reply: case.read(reply)]
        server_works: list[Work] = [case.serve]
        if name == "100k" and codec.BACKEND == "native":
            works.append(
                lambda reply=reply, ca=ca, key=key, nonce=nonce: reference.open_crl_reply(
                    reply, ca, key, nonce.sender_nonce
                )
            )
            own = case.identity.private_key
            server_works.append(
                lambda case=case, ca=ca, own=own: reference.handle_get_crl(
                    case.message, ca, own, case.crl
                )
            )
        measured = compare(settings, floor.crl_client_floor(case.floor, case.tbs), *works)
        note(results, f"GetCRL client {name}", measured[0])
        if len(measured) > 1:
            results[f"GetCRL client {name} reference"] = measured[1].time / measured[0].time
        measured = compare(settings, floor.crl_server_floor(case.floor), *server_works)
        note(results, f"GetCRL server {name}", measured[0])
        if len(measured) > 1:
            results[f"GetCRL server {name} reference"] = measured[1].time / measured[0].time
        results[f"GetCRL client {name} peak"] = peak(works[0]) / len(reply)
        results[f"GetCRL server {name} peak"] = peak(case.serve) / len(case.crl)
        if name != "10k":
            results.update(_serial(settings, name, case.crl, crls.serial_of(entries - 1)))
    return results


def _serial(settings: Settings, name: str, crl: bytes, serial: int) -> Results:
    """The last entry: the whole CRL is passed over."""
    assert find_revocation(crl, serial)
    assert find_revocation(crl, 5) is None
    (loaded,) = compare(
        settings,
        lambda: find_revocation(crl, serial),
        lambda: x509.load_der_x509_crl(crl).get_revoked_certificate_by_serial_number(serial),
    )
    return {f"serial {name} us": loaded.base, f"serial {name}": loaded.ratio}
