"""The part of OpenAI's API that its client libraries, chat pages and harnesses need: `/v1`."""

from __future__ import annotations

from flask import Blueprint, Flask
from flask.blueprints import BlueprintSetupState

from app.errors import use_shape
from app.v1.chat import blueprint as chat_blueprint
from app.v1.completions import blueprint as completions_blueprint
from app.v1.errors import UnknownModelError, from_problem, unknown_model
from app.v1.models import blueprint as models_blueprint

PREFIX = "/v1"

blueprint = Blueprint("v1", __name__, url_prefix=PREFIX)
blueprint.register_blueprint(models_blueprint)
blueprint.register_blueprint(chat_blueprint)
blueprint.register_blueprint(completions_blueprint)
blueprint.register_error_handler(UnknownModelError, unknown_model)


@blueprint.record
def _use_error_objects(state: BlueprintSetupState) -> None:
    """Also for paths that no route of this blueprint knows, whose errors never reach it."""
    assert isinstance(state.app, Flask)
    use_shape(state.app, PREFIX, from_problem)
