"""Webhooks: a job's end is told at least once, signed, and never to an address inside.

Signatures and headers are those of Standard Webhooks (standardwebhooks.com).
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from sqlalchemy.orm import Session
from standardwebhooks import Webhook as Signer

from intrafusion.api import Webhook
from intrafusion.errors import ErrorCode, IntraFusionError
from service.settings import Settings
from service.store.database import Database, now
from service.store.deliveries import Due, schedule, take_due
from service.store.events import add_event
from service.store.jobs import find_job

log = structlog.get_logger()

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_HOLD_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0
_AT_ONCE = 50


def check_webhook(webhook: Webhook | None, settings: Settings) -> None:
    """Raise `INVALID_SPEC` for a webhook that could never be sent.

    It has no secret to sign with, or its address is one that webhooks may not reach.
    """
    if webhook is None:
        return
    if webhook.secret is None and settings.webhook_secret is None:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "The webhook has no secret, and this server has none of its own.",
            'Add "secret": "whsec_…" (base64 of at least 24 random bytes) to sign with.',
        )
    try:
        _resolve(httpx.URL(webhook.url), settings)
    except _ForbiddenAddressError as error:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"The webhook's address {error}.",
            "Give a public one, or have the operator set INTRAFUSION_WEBHOOK_PRIVATE=true.",
            url=webhook.url,
        ) from error
    except (OSError, httpx.InvalidURL) as error:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"The webhook's address {webhook.url} cannot be found: {error}.",
            "Check its spelling.",
            url=webhook.url,
        ) from error


def deliver_due(*, database: Database, settings: Settings) -> int:
    """Send what is due; returns how many were sent, whether or not they arrived.

    Any number of processes may call it: each webhook is held by one of them while it is sent.
    One whose process dies while sending is sent again: at least once, not exactly once.
    """
    for sent in range(_AT_ONCE):
        with database.write() as session:
            due = take_due(session, hold_seconds=_HOLD_SECONDS)
        if due is None:
            return sent
        outcome = _send(due, settings)
        with database.write() as session:
            _note(session, due, outcome, settings)
    return _AT_ONCE


@dataclass(frozen=True)
class _Outcome:
    arrived: bool
    text: str
    final: bool = False


def _send(due: Due, settings: Settings) -> _Outcome:
    ended_at = due.ended_at or now()
    body = json.dumps(
        {
            "type": f"job.{due.status}",
            "timestamp": ended_at.isoformat(),
            "data": {
                "id": due.job_id,
                "status": due.status,
                "url": f"{settings.public_url.rstrip('/')}/v1/jobs/{due.job_id}",
            },
        }
    )
    secret = due.secret or settings.webhook_secret
    if secret is None:
        return _Outcome(arrived=False, text="there is no secret to sign with", final=True)
    moment = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Intra-Fusion",
        "webhook-id": f"msg_{due.job_id}",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(secret).sign(f"msg_{due.job_id}", moment, body),
    }
    url = httpx.URL(due.url)
    try:
        address = _resolve(url, settings)
        # The address that was checked is the one that is called: a second look-up may differ.
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            response = client.post(
                url.copy_with(host=address),
                content=body,
                headers=headers | {"Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.host},
            )
    except _ForbiddenAddressError as error:
        return _Outcome(arrived=False, text=f"its address {error}", final=True)
    except (OSError, httpx.HTTPError) as error:
        return _Outcome(arrived=False, text=str(error) or type(error).__name__)
    said = f"{url.host} answered {response.status_code}"
    return _Outcome(arrived=response.is_success, text=said, final=response.status_code == 410)


def _note(session: Session, due: Due, outcome: _Outcome, settings: Settings) -> None:
    """Write what became of it into the job's story, and when it is sent again."""
    if find_job(session, due.job_id, tenant=None) is None:  # deleted while it was sent
        return
    given_up = outcome.final or due.attempts >= settings.webhook_attempts
    if outcome.arrived or given_up:
        schedule(session, due.job_id, next_at=None)
    else:
        pause = settings.webhook_retry_seconds * 2 ** (due.attempts - 1)
        later = now() + timedelta(seconds=min(pause, _LONGEST_PAUSE_SECONDS))
        schedule(session, due.job_id, next_at=later)
    told = "arrived" if outcome.arrived else "was given up" if given_up else "failed"
    text = f"webhook {told} at attempt {due.attempts}: {outcome.text}"
    log.info("webhook", job_id=due.job_id, outcome=told, reason=outcome.text)
    add_event(session, job_id=due.job_id, kind="log", data={"text": text})


class _ForbiddenAddressError(Exception):
    """The address is private, and webhooks may not go there."""


def _resolve(url: httpx.URL, settings: Settings) -> str:
    """An address of the URL's host. Raises _ForbiddenAddressError, or OSError for none."""
    port = url.port or (443 if url.scheme == "https" else 80)
    found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.webhook_private:
        for address in addresses:
            if not ipaddress.ip_address(address).is_global:
                raise _ForbiddenAddressError(f"is {address}, which is not public")
    return addresses[0]
