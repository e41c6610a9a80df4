"""Who may call: nobody without an API key, but for the routes that are listed as public.

Without a file of keys everything is open, and the server listens to this machine only unless told
otherwise; see `check_addresses`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from app.auth.keys import ApiKeys, read_keys
from app.config import WebConfig

PUBLIC_ROUTES = frozenset(
    {
        "/",
        "/static/<path:name>",
        "/docs",
        "/openapi.json",  # what the page /docs shows
        "/health",
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
    }
)
"""Rules of `app.url_map` that need no key; a route that is not listed here does."""

_CALLER = "laconic.caller"
_REALM = "laconic"


def register(app: Flask, config: WebConfig) -> None:
    """Ask for a key before anything else happens, if there is a file of keys.

    Raises:
        ValueError: the file cannot be used; the message lists every problem.
    """
    if config.api_keys_file is None:
        return
    keys = read_keys(config.api_keys_file)
    app.before_request(lambda: _demand_key(keys))


def is_public() -> bool:
    """Whether the route of the current request needs no key; an unknown one does."""
    return request.url_rule is not None and request.url_rule.rule in PUBLIC_ROUTES


def caller() -> str:
    """Who sent the current request: the name of the key, or the address without keys."""
    known = request.environ.get(_CALLER)
    return f"address {request.remote_addr}" if known is None else f"key {known}"


def check_addresses(addresses: Iterable[object], config: WebConfig) -> None:
    """Refuse to be open to everybody who can reach this machine.

    Args:
        addresses: as sockets name them: a host and a port, or the path of a local socket.
        config: whether there are keys, or openness is wanted.

    Raises:
        ValueError: others reach an address and need no key; the message says what to do.
    """
    if config.api_keys_file is not None or config.allow_public_without_keys:
        return
    if public := [address for address in addresses if not _is_local(address)]:
        raise ValueError(
            f"everybody who reaches {_write(public[0])} could use the server without a key. "
            "Make a key with `python -m app.auth NAME`, put the line that it prints into a file "
            "and set LACONIC_API_KEYS_FILE to it; or listen on 127.0.0.1; or, if a proxy or a "
            "firewall keeps others out, set LACONIC_ALLOW_PUBLIC_WITHOUT_KEYS=true"
        )


def _demand_key(keys: ApiKeys) -> None:
    sent = request.authorization
    if sent is not None and sent.type == "bearer" and sent.token:
        name = keys.find_name(sent.token)
        if name is not None:
            request.environ[_CALLER] = name
            return
    if is_public() or _is_preflight():
        return
    detail = (
        "Send an API key: add the header 'Authorization: Bearer <key>'."
        if sent is None
        else "This API key is not accepted."
    )
    raise Unauthorized(detail, www_authenticate=WWWAuthenticate("bearer", {"realm": _REALM}))


def _is_preflight() -> bool:
    """Whether a browser asks what it may send; it never shows a key then, and learns no secret."""
    automatic = getattr(request.url_rule, "provide_automatic_options", False)
    return request.method == "OPTIONS" and bool(automatic)


def _is_local(address: object) -> bool:
    if isinstance(address, str | bytes):  # the path of a Unix socket: file rights guard it
        return True
    if not isinstance(address, tuple):  # an inherited socket, which says nothing of its address
        return False
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that may mean anything
        return False


def _write(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
