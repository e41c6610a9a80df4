"""What browsers are told about every answer, and which web pages and names may call the server."""

from __future__ import annotations

import re

from flask import Flask, Response
from flask_cors import CORS

from app.config import WebConfig
from app.page import CONTENT_POLICY

_NOTHING = "default-src 'none'; frame-ancestors 'none'"
"""An answer that is no page has nothing to load and belongs into no frame."""

_ORIGIN = re.compile(r"https?://[a-zA-Z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1")
_SENT = ("Authorization", "Content-Type", "X-Request-ID")
_READ = ("Retry-After", "WWW-Authenticate", "X-Request-ID")


def register(app: Flask, config: WebConfig) -> None:
    """Add security headers to every answer, and let in the origins and names of the settings.

    Raises:
        ValueError: an origin is none; the message lists all of them.
    """
    app.after_request(_secure)
    if config.trusted_hosts:
        # Names that always lead to this very machine fool nobody, and health checks use them.
        app.config["TRUSTED_HOSTS"] = [
            *(name.lower() for name in config.trusted_hosts),  # as browsers write them
            *_LOOPBACK_NAMES,
        ]
    if config.cors_origins:
        _allow_origins(app, config.cors_origins)


def _secure(response: Response) -> Response:
    is_page = response.mimetype == "text/html"
    for name, value in (
        ("Content-Security-Policy", CONTENT_POLICY if is_page else _NOTHING),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ):
        response.headers.setdefault(name, value)
    return response


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    # flask-cors would take anything with a * or a ( in it for a pattern
    wrong = [origin for origin in origins if origin != "*" and not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise ValueError(
            f"cors_origins must look like https://chat.example.com, not {', '.join(wrong)}"
        )
    CORS(app, origins=list(origins), allow_headers=list(_SENT), expose_headers=list(_READ))
