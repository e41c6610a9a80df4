"""The guide to `/v1` in docs/api.md does what it says."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import httpx2
import openai
import pytest
import yaml

from app.v1.errors import KINDS
from app.v1.schemas import ChatRequestSchema, CompletionRequestSchema
from tests.app.v1.error_objects import read_error
from tests.fakes import COMPLETION, READY

GUIDE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## OpenAI's API")[2].partition("\n## ")[0]


def only_block(language):
    (block,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return block


@pytest.fixture
def bundled(engine):
    """The fake engine under the name of the adapter that the guide uses."""
    engine.snapshot = dataclasses.replace(READY, adapter="pocket")
    return engine


def test_the_python_example_runs(app, bundled, monkeypatch, capsys):
    with httpx2.Client(transport=httpx2.WSGITransport(app)) as transport:
        offline = functools.partial(openai.OpenAI, http_client=transport)
        monkeypatch.setattr(openai, "OpenAI", offline)
        exec(compile(only_block("python"), "docs/api.md", "exec"), {})
    assert [request.style for request in bundled.requests] == ["terse", "verbose", "verbose"]
    assert capsys.readouterr().out == f"{COMPLETION.text}\n{COMPLETION.text}13\n"


@pytest.mark.usefixtures("bundled")
def test_the_models_of_the_librechat_example_exist(client):
    (endpoint,) = yaml.safe_load(only_block("yaml"))["endpoints"]["custom"]
    listed = {model["id"] for model in client.get("/v1/models").get_json()["data"]}
    assert {*endpoint["models"]["default"], endpoint["titleModel"]} <= listed
    assert set(endpoint["dropParams"]) <= set(ChatRequestSchema().fields)
    assert endpoint["baseURL"].endswith("/v1")


@pytest.mark.usefixtures("bundled")
def test_the_example_of_an_error_is_what_the_server_answers(ask_chat):
    assert read_error(ask_chat(model="gpt-4o"), 404) == json.loads(only_block("json"))["error"]


def test_every_field_stands_in_the_guide():
    table = SECTION.partition("### Fields of a request")[2].partition("###")[0]
    told = set(re.findall(r"`(\w+)", table))
    known = {*ChatRequestSchema().fields, *CompletionRequestSchema().fields}
    assert known - {"model", "style"} <= told


def test_every_route_stands_in_the_guide(app):
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/v1")}
    assert len(rules) == 4
    assert all(f"{rule.replace('<path:model>', '{id}')}`" in SECTION for rule in rules)


def test_every_code_of_an_error_stands_in_the_guide():
    table = SECTION.partition("### Errors")[2]
    for status, (_, code) in KINDS.items():
        (row,) = [row for row in table.splitlines() if f"`{code}`" in row]
        assert str(status.value) in row
