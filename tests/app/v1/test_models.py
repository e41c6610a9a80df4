import dataclasses

import pytest

from app import create_app
from tests.app.v1.error_objects import read_error
from tests.fakes import READY, FakeEngine

IDS = ["pocket-verbosity", "pocket-verbosity:terse", "pocket-verbosity:verbose"]


def test_the_adapter_is_listed_in_its_default_style_and_in_each(client):
    listed = client.get("/v1/models").get_json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == IDS


def test_a_model_is_described_as_openai_does_and_names_adapter_and_base(client):
    model = client.get("/v1/models/pocket-verbosity:terse").get_json()
    assert isinstance(model.pop("created"), int)
    assert model == {
        "id": "pocket-verbosity:terse",
        "object": "model",
        "owned_by": "laconic",
        "root": "pocket-verbosity",
        "parent": "pocket",
    }


def test_a_model_was_created_when_the_server_began(client):
    first, second = (client.get("/v1/models").get_json()["data"] for _ in range(2))
    assert first == second
    assert first[0]["created"] > 1_600_000_000


def test_models_are_listed_while_the_engine_is_loading(engine, client):
    engine.snapshot = dataclasses.replace(READY, state="loading", detail="not yet")
    assert client.get("/v1/models").status_code == 200


def test_an_adapter_may_have_a_slash_in_its_name():
    engine = FakeEngine()
    engine.snapshot = dataclasses.replace(READY, adapter="team/adapter")
    client = create_app(engine).test_client()
    assert client.get("/v1/models/team/adapter:terse").get_json()["id"] == "team/adapter:terse"


@pytest.mark.parametrize("model", ["gpt-4o", "terse", "pocket-verbosity:loud", "Pocket-Verbosity"])
def test_an_unknown_model_is_answered_with_the_known_ones(client, ask_chat, model):
    for response in (client.get(f"/v1/models/{model}"), ask_chat(model=model)):
        error = read_error(response, 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert all(known in error["message"] for known in [model, *IDS])


@pytest.mark.parametrize(
    ("fields", "style", "answered_as"),
    [
        ({}, None, "pocket-verbosity"),
        ({"model": None, "style": None}, None, "pocket-verbosity"),
        ({"model": "pocket-verbosity"}, None, "pocket-verbosity"),
        ({"model": "pocket-verbosity:verbose"}, "verbose", "pocket-verbosity:verbose"),
        ({"style": "verbose"}, "verbose", "pocket-verbosity:verbose"),
        ({"model": "pocket-verbosity", "style": "terse"}, "terse", "pocket-verbosity:terse"),
        (
            {"model": "pocket-verbosity:verbose", "style": "verbose"},
            "verbose",
            "pocket-verbosity:verbose",
        ),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_model_and_style_together_choose_how_to_answer(
    engine, ask_chat, ask_completion, fields, style, answered_as, streams
):
    for ask in (ask_chat, ask_completion):
        response = ask(**fields, stream=streams)
        assert engine.requests[-1].style == style
        assert f'"{answered_as}"' in response.get_data(as_text=True)


def test_a_model_and_a_style_that_disagree_are_refused_naming_both(engine, ask_chat):
    error = read_error(ask_chat(model="pocket-verbosity:verbose", style="terse"), 400)
    assert error["param"] == "style"
    assert "'verbose'" in error["message"]
    assert "'terse'" in error["message"]
    assert engine.requests == []


def test_an_unknown_style_is_refused_with_the_known_ones(ask_chat):
    error = read_error(ask_chat(style="loud"), 400)
    assert error["param"] == "style"
    assert "terse, verbose" in error["message"]


@pytest.mark.parametrize("field", ["model", "style"])
@pytest.mark.parametrize("value", [5, True, [], {"id": "x"}])
def test_a_model_or_style_that_is_no_text_is_refused(ask_chat, field, value):
    assert read_error(ask_chat(**{field: value}), 400)["param"] == field
