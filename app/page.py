"""`GET /` and `GET /static/<file>`: the chat page and the files it is made of.

Only the files listed here are served, so no name in an address can lead anywhere else.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from flask import Blueprint, Response, abort, request

blueprint = Blueprint("page", __name__)

FOLDER = Path(__file__).parent / "static"
PAGE = "index.html"
OWN_FILES = (
    "answer.css",
    "answer.js",
    "app.js",
    "chat.js",
    "clipboard.js",
    "composer.js",
    "conversation.js",
    "docs-schema.js",
    "docs.css",
    "docs.js",
    "element.js",
    "health.js",
    "history.js",
    "icon.svg",
    "notice.js",
    "render.js",
    "scroll.js",
    "settings.js",
    "sidebar.js",
    "storage.js",
    "stream.js",
    "style.css",
    "styles.js",
    "theme.js",
    "turn.js",
)
VENDORED_FILES = (
    "vendor/dompurify-3.4.18.js",
    "vendor/highlight-11.12.0.js",
    "vendor/marked-18.2.1.js",
)
"""Their names carry their versions, so that browsers may keep them for good."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
YEAR_SECONDS = 365 * 24 * 3600

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Only DOMPurify may hand text to the HTML parser.
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
"""Pages run their own scripts and talk to their own server only; `app/headers.py` sends it."""


@blueprint.get("/")
def page() -> Response:
    """The chat page; it needs nothing but this server."""
    return _send(PAGE)


@blueprint.get("/static/<path:name>")
def static_file(name: str) -> Response:
    """A script, a style sheet or the icon of the page; 404 for every other name."""
    if name not in OWN_FILES and name not in VENDORED_FILES:
        abort(404, "The page has no such file.")
    return _send(name)


def _send(name: str) -> Response:
    body, digest = _read(name)
    response = Response(body, content_type=MEDIA_TYPES[Path(name).suffix])
    response.set_etag(digest)
    if name in VENDORED_FILES:
        response.cache_control.public = True
        response.cache_control.max_age = YEAR_SECONDS
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True  # ask each time; the ETag spares the transfer
    response.make_conditional(request)
    return response


@functools.cache
def _read(name: str) -> tuple[bytes, str]:
    """A file and its digest, read when it is first asked for."""
    body = (FOLDER / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()
