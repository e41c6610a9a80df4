"""The server takes what the document says, and answers as it says."""

import hashlib

import pytest

from app import create_app
from app.config import WebConfig
from app.schemas import MOST_MESSAGES
from tests.app.document import DESCRIBED, problems_of, resolve, schema
from tests.fakes import READY, FakeEngine


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ({"prompt": "a"}, True),
        ({"prompt": "a", "style": None, "temperature": 0, "top_k": 0, "stop": "\n"}, True),
        ({"messages": [{"role": "user", "content": "a"}]}, True),
        ({"prompt": ""}, False),
        ({"prompt": "   "}, False),
        ({"prompt": "\u0085\u001c"}, False),  # blank to Python only
        ({"prompt": "\ufeff"}, False),  # blank to JavaScript only
        ({"prompt": None}, False),
        ({"messages": []}, False),
        ({"messages": [{"role": "user", "content": "a"}] * MOST_MESSAGES}, True),
        ({"messages": [{"role": "user", "content": "a"}] * (MOST_MESSAGES + 1)}, False),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, False),
        ({}, False),
        ({"prompt": "a", "typo": 1}, False),
        ({"prompt": "a", "style": "loud"}, False),
        ({"prompt": "a", "temperature": 2.1}, False),
        ({"prompt": "a", "temperature": "1"}, False),
        ({"prompt": "a", "top_p": 0}, False),
        ({"prompt": "a", "top_p": 1}, True),
        ({"prompt": "a", "top_k": -1}, False),
        ({"prompt": "a", "top_k": 5.0}, True),
        ({"prompt": "a", "top_k": 5.5}, False),
        ({"prompt": "a", "seed": 2**63 - 1}, True),
        ({"prompt": "a", "seed": 2**63}, False),
        ({"prompt": "a", "stop": [""]}, False),
        ({"prompt": "a", "stop": ["a"] * 5}, False),
        ({"prompt": "a", "stream": "on"}, False),
    ],
)
def test_the_document_and_generate_agree_on_what_is_a_good_body(post, body, is_right):
    assert (problems_of(body, schema("GenerateRequest")) == []) == is_right
    assert (post(body).status_code == 200) == is_right


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, True),
        (
            {"messages": [{"role": "developer", "content": "b"}, {"role": "user", "content": "a"}]},
            True,
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, True),
        ({"messages": [{"role": "user", "content": "a"}], "user": "x", "n": 1}, True),
        ({"messages": [{"role": "user", "content": "a"}], "n": 2}, False),
        ({"messages": [{"role": "user", "content": "a"}], "stop": [""] * 4}, True),
        ({"messages": [{"role": "user", "content": "a"}], "stop": [""] * 5}, False),
        ({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"}, False),
        ({"messages": [{"role": "tool", "content": "a"}]}, False),
        ({"messages": [{"role": "user", "content": None}]}, False),
        ({"messages": []}, False),
        ({}, False),
    ],
)
def test_the_document_and_chat_completions_agree_on_what_is_a_good_body(client, body, is_right):
    assert (problems_of(body, schema("OpenAIChatRequest")) == []) == is_right
    assert (client.post("/v1/chat/completions", json=body).status_code == 200) == is_right


@pytest.mark.parametrize(
    ("path", "method"), [place for place in DESCRIBED if place[0] != "/openapi.json"]
)
def test_the_examples_and_answers_of_the_server_fit_the_document(client, path, method):
    operation = DESCRIBED[path, method]
    place = path
    for parameter in operation.get("parameters", []):
        example = {"model": READY.adapter}.get(parameter["name"], parameter["example"])
        place = place.replace(f"{{{parameter['name']}}}", example)
    examples = [{"value": None}]
    if "requestBody" in operation:
        examples = operation["requestBody"]["content"]["application/json"]["examples"].values()
    for example in examples:
        body = example["value"]
        if body is not None and "model" in body:
            body = {**body, "model": READY.adapter}
        response = client.open(place, method=method.upper(), json=body)
        words = response.get_data(as_text=True)  # a stream has to be read to its end
        assert response.status_code == 200, words
        described = operation["responses"]["200"]["content"]
        assert response.mimetype in described
        if response.is_json:
            assert problems_of(response.get_json(), described[response.mimetype]["schema"]) == []


def test_an_error_of_the_server_fits_the_document(client):
    refused = client.post("/generate", json={})
    assert problems_of(refused.get_json(), schema("Problem")) == []
    refused = client.post("/v1/chat/completions", json={})
    assert problems_of(refused.get_json(), schema("OpenAIError")) == []


def test_routes_that_ask_for_a_key_say_so_and_no_others(tmp_path):
    hashed = hashlib.sha256(b"key").hexdigest()
    (tmp_path / "keys").write_text(f"me {hashed}")
    locked = create_app(FakeEngine(), WebConfig(api_keys_file=tmp_path / "keys")).test_client()
    for (path, method), operation in DESCRIBED.items():
        asks = locked.open(path.replace("{name}", "docs.js"), method=method).status_code == 401
        assert (operation["security"] == [{"bearer": []}]) == asks, path
        assert ("401" in operation["responses"]) == asks, path


def test_every_answer_names_the_request_in_the_log(client):
    assert "X-Request-ID" in client.get("/health").headers
    for operation in DESCRIBED.values():
        for reply in operation["responses"].values():
            assert "X-Request-ID" in resolve(reply)["headers"]


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ({"message": "a"}, True),
        ({"prompt": "a", "session": 7}, True),
        ({"message": "a", "history": [{"role": "user", "content": "b", "id": 7}]}, True),
        ({"message": "a", "history": [{"role": "tool", "content": "b"}]}, False),
        ({"message": "a", "history": [{"role": "user"}]}, False),
        ({"message": "a", "prompt": "a"}, False),
        ({"message": " "}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("route", ["chat", "stream"])
def test_the_document_and_the_routes_for_other_pages_agree(client, route, body, is_right):
    assert (problems_of(body, schema("EchoRequest")) == []) == is_right
    response = client.post(f"/api/ai-echo/{route}", json=body)
    response.get_data()  # a stream has to be read to its end
    assert (response.status_code == 200) == is_right
