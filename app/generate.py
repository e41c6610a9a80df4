"""`POST /generate`: one prompt, one answer in a style."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from app.body import read_json_object
from app.schemas import GenerateRequestSchema, GenerateResponseSchema
from serving.types import Engine

blueprint = Blueprint("generate", __name__)


@blueprint.post("/generate")
def generate() -> Response:
    """Answer the prompt of the body in the style it names."""
    request = GenerateRequestSchema().load(read_json_object())
    engine: Engine = current_app.extensions["engine"]
    completion = engine.generate(request)
    return jsonify(GenerateResponseSchema().dump(completion))
