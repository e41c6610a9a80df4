"""`GET /v1/models`: the adapter in its default style, and in each of its styles."""

from __future__ import annotations

import time

from flask import Blueprint, Response, current_app, jsonify
from flask.blueprints import BlueprintSetupState
from marshmallow import Schema, ValidationError, fields

from app.context import get_engine
from app.v1.errors import UnknownModelError
from serving.types import EngineStatus

blueprint = Blueprint("models", __name__)


class ModelSchema(Schema):
    """A model that requests may name."""

    id = fields.String()
    object = fields.Constant("model")
    created = fields.Integer()
    owned_by = fields.Constant("laconic")
    root = fields.String()
    parent = fields.String()


@blueprint.record
def _note_start(state: BlueprintSetupState) -> None:
    """OpenAI's models have a time of creation; here it is when the server began."""
    state.app.extensions["v1_created"] = int(time.time())


@blueprint.get("/models")
def list_models() -> Response:
    """Every model id."""
    status = get_engine().status()
    return jsonify(object="list", data=[_describe(model, status) for model in model_ids(status)])


@blueprint.get("/models/<path:model>")
def get_model(model: str) -> Response:
    """One model id; 404 if there is no such."""
    status = get_engine().status()
    find_style(model, None, status)
    return jsonify(_describe(model, status))


def model_ids(status: EngineStatus) -> dict[str, str | None]:
    """Each model id with the style that it names; None for the adapter's default."""
    styled = {f"{status.adapter}:{style.name}": style.name for style in status.styles}
    return {status.adapter: None, **styled}


def model_id(style: str | None, status: EngineStatus) -> str:
    """The id of the adapter in this style."""
    return status.adapter if style is None else f"{status.adapter}:{style}"


def find_style(model: str | None, style: str | None, status: EngineStatus) -> str | None:
    """The style that a model id and the field `style` name together; None for the default.

    Raises:
        UnknownModelError: there is no such model.
        ValidationError: they name two different styles.
    """
    known = model_ids(status)
    if model is not None and model not in known:
        raise UnknownModelError(f"No model {model!r} here. Choose one of: {', '.join(known)}.")
    named = None if model is None else known[model]
    if named is not None and style is not None and named != style:
        raise ValidationError(
            f"The model {model!r} answers in the style {named!r}, but 'style' asks for {style!r}. "
            "Name one of them.",
            "style",
        )
    return style if named is None else named


def _describe(model: str, status: EngineStatus) -> dict[str, object]:
    described: dict[str, object] = ModelSchema().dump(
        {
            "id": model,
            "created": current_app.extensions["v1_created"],
            "root": status.adapter,
            "parent": status.model,
        }
    )
    return described
