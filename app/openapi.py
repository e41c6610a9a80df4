"""`GET /openapi.json` and `GET /docs`: the API as a document, and that document as a page."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify

from app.context import get_config, get_engine
from app.page import CONTENT_POLICY
from app.reference.document import build_document

blueprint = Blueprint("openapi", __name__)

_PAGE = Path(__file__).parent / "static" / "docs.html"


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document, made when it is first asked for."""
    made = current_app.extensions
    if "openapi" not in made:
        made["openapi"] = build_document(
            current_app.url_map,
            get_engine().status(),
            asks_for_keys=get_config().api_keys_file is not None,
        )
    return jsonify(made["openapi"])


@blueprint.get("/docs")
def docs() -> Response:
    """A page that shows the document."""
    response = Response(_PAGE.read_bytes(), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    return response
