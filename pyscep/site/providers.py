"""Challenge providers out of a configuration."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyscep.ca import (
    ChallengeProvider,
    ChallengeRequest,
    OneTimeChallenges,
    Refused,
    StaticChallenge,
    Store,
)
from pyscep.ca.challenge import Notification
from pyscep.ca.made_elsewhere import MadeElsewhere
from pyscep.site.config import (
    HookConfig,
    IntuneConfig,
    OneTimeConfig,
    SealedConfig,
    StaticConfig,
    WebhookConfig,
)
from pyscep.site.files import Files

if TYPE_CHECKING:
    from pyscep.integrations.webhook import Webhook


class NoChallenges(MadeElsewhere):
    """Nobody new enrolls; certificates can still be renewed."""

    scheme = "none-accepted"
    notifies = False
    no_challenge = "this endpoint has no challenges"

    def verify(self, request: ChallengeRequest) -> Refused:
        """Refused."""
        del request
        return Refused(reason="this endpoint takes no challenges")

    def notify(self, notification: Notification) -> None:
        """Nothing was spent."""


def provider(
    config: StaticConfig | OneTimeConfig | SealedConfig | WebhookConfig | IntuneConfig,
    *,
    issuer_name: str,
    store: Store,
    files: Files,
    stack: ExitStack,
    now: Callable[[], datetime],
) -> ChallengeProvider:
    """The provider for a table of challenges.

    Args:
        config: the table.
        issuer_name: what Intune is told as the issuer, unless its settings say.
        store: of the CA.
        files: reads secrets and keys.
        stack: closes what has to be closed.
        now: the clock.

    Raises:
        ValueError: a file, a secret or a package is missing.
        OSError: a file can't be read.
    """
    match config:
        case StaticConfig(secret=secret):
            return StaticChallenge(files.secret(secret))
        case OneTimeConfig(lifetime_minutes=minutes):
            lifetime = timedelta(minutes=minutes)
            return OneTimeChallenges(store, lifetime=lifetime, now=now)
        case SealedConfig() as sealed:
            return _sealed(sealed, files)
        case WebhookConfig() as hooks:
            return _webhook(hooks, store, files, stack)
        case _:
            return _intune(config, store, files, stack, issuer_name)


def _sealed(config: SealedConfig, files: Files) -> ChallengeProvider:
    from pyscep.integrations.sealed import SealedChallenges

    services = [one for path in config.services for one in files.certificates(path)]
    return SealedChallenges(files.identity(config.recipient), services)


def _webhook(
    config: WebhookConfig, store: Store, files: Files, stack: ExitStack
) -> ChallengeProvider:
    try:
        from pyscep.integrations.web import Web
        from pyscep.integrations.webhook import webhook_challenges
    except ImportError as error:
        raise ValueError("webhooks need the package httpx") from error
    roots = None if config.roots is None else str(files.path(config.roots))
    web = Web(timeout=config.timeout_seconds, roots=roots)
    stack.callback(web.close)
    return webhook_challenges(
        [_hook(one, files) for one in config.ask],
        store,
        web=web,
        notifying=[_hook(one, files) for one in config.notify],
        lifetime=timedelta(minutes=config.lifetime_minutes),
    )


def _intune(
    config: IntuneConfig, store: Store, files: Files, stack: ExitStack, issuer_name: str
) -> ChallengeProvider:
    try:
        from pyscep.integrations.intune import IntuneChallenges, IntuneClient, load_settings
    except ImportError as error:
        raise ValueError(f"Intune needs the package {error.name}") from error
    client = IntuneClient(load_settings(str(files.path(config.settings)), files.environ))
    stack.callback(client.close)
    judge = IntuneChallenges(
        client,
        store,
        issuer_name=issuer_name,
        wait_for_success_notification=config.wait_for_success_notification,
    )
    stack.callback(judge.close)  # before the client: what is on its way has to arrive
    return judge


def _hook(config: HookConfig, files: Files) -> Webhook:
    from pyscep.integrations.webhook import Webhook

    basic = None
    if config.user is not None and config.password is not None:
        basic = config.user, files.secret(config.password)
    return Webhook(
        url=config.url,
        id=config.id,
        secret=None if config.secret is None else _base64(files.secret(config.secret)),
        bearer_token=None if config.bearer_token is None else files.secret(config.bearer_token),
        basic=basic,
    )


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("the key of the signature is not base64") from error
