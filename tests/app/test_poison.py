"""Inputs that have stopped other servers of language models; none may reach the engine here.

Those that are about the body as a whole stand in test_body.py, those about single values in
test_schemas.py and test_messages.py, and routes without a key in test_auth.py. CVE and GHSA numbers
are those of the known cases.
"""

import json

import pytest

from adapters.prompts import Message
from app.config import WebConfig
from serving.types import GenerationRequest
from tests.app.problems import read_problem

QUESTION = {"role": "user", "content": "a"}
WORDS = WebConfig().max_prompt_characters

POISON = {
    # CVE-2026-54235: passes every comparison with a range
    "temperature of 1e999": '{"prompt": "a", "temperature": 1e999}',
    "top_p of -1e999": '{"prompt": "a", "top_p": -1e999}',
    "top_k of 1e999": '{"prompt": "a", "top_k": 1e999}',
    # CVE-2026-34756: a copy of the request for each answer, without limit
    "a million answers": {"prompt": "a", "n": 1_000_000},
    "the best of a million": {"prompt": "a", "best_of": 1_000_000},
    # PYSEC-2026-3704: one request that becomes as many as it has prompts
    "a list of prompts": {"prompt": ["a"] * 1000},
    "a list of conversations": {"messages": [[QUESTION]] * 2},
    # CVE-2026-114051: an answer that has to be longer than it may be
    "a minimum over the maximum": {"prompt": "a", "min_new_tokens": 2, "max_new_tokens": 1},
    # GHSA-69j4-grxj-j64p: arguments for the chat template
    "arguments of the template": {"prompt": "a", "chat_template_kwargs": {"tokenize": False}},
    "a template": {"prompt": "a", "chat_template": "{{ ''.__class__ }}"},
    "template arguments in a message": {"messages": [{**QUESTION, "tokenize": False}]},
    # CVE-2026-116173: as many log-probabilities as there are tokens
    "all probabilities": {"prompt": "a", "logprobs": 10**9},
    "ids to have probabilities of": {"prompt": "a", "logprob_token_ids": list(range(1000))},
    # GHSA-hf3c-wxg2-49q9, CVE-2025-29770: grammars that are kept without limit
    "a grammar": {"prompt": "a", "guided_grammar": "root ::= 'a'"},
    "a JSON schema": {"prompt": "a", "response_format": {"type": "json_schema"}},
    # token ids that the vocabulary does not have
    "token ids for a prompt": {"prompt": [2**40]},
    "token ids for a message": {"messages": [{"role": "user", "content": [2**40]}]},
    "token ids to favour": {"prompt": "a", "logit_bias": {"999999999": 100}},
    "token ids to stop at": {"prompt": "a", "stop": [2**40]},
    "a field for token ids": {"prompt": "a", "stop_token_ids": [-1]},
    # files and addresses that a server would read or call
    "an address in a message": {
        "messages": [{"role": "user", "content": [{"image_url": {"url": "http://localhost"}}]}]
    },
    "an adapter of the caller's choice": {"prompt": "a", "adapter": "/etc/passwd"},
    # values that take a place per entry or character
    "a thousand stop texts": {"prompt": "a", "stop": ["a"] * 1000},
    "a stop text as long as a prompt": {"prompt": "a", "stop": "a" * WORDS},
    "words spread over many messages": {"messages": [{**QUESTION, "content": "a" * WORDS}] * 2},
    # numbers that fit into no integer of a device
    "top_k of 2^63": {"prompt": "a", "top_k": 2**63},
    "seed of 2^63": {"prompt": "a", "seed": 2**63},
    "text that only looks like text": '{"messages": [{"role": "user", "content": "\\ud800"}]}',
}
each_poison = pytest.mark.parametrize("body", POISON.values(), ids=POISON)


def asking_for_a_stream(body):
    data = body if isinstance(body, str) else json.dumps(body)
    return data.removesuffix("}") + ', "stream": true}'


@each_poison
def test_poison_is_refused_with_a_reason_before_it_reaches_the_engine(engine, post, body):
    assert read_problem(post(body), 422)["errors"]
    assert engine.requests == []


@each_poison
def test_poison_is_refused_before_a_stream_begins(engine, post, body):
    read_problem(post(asking_for_a_stream(body)), 422)
    assert engine.requests == []


@each_poison
def test_the_request_after_poison_is_answered(post, body):
    post(body)
    assert post({"prompt": "a"}).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "text/event-stream", "image/png", ""])
def test_json_under_another_name_is_not_read(client, engine, content_type):
    response = client.post("/generate", data=b'{"prompt": "a"}', content_type=content_type)
    read_problem(response, 415)
    assert engine.requests == []


# The same under /v1, where fields that nobody here knows are ignored instead of refused.

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED = {CHAT: {"messages": [QUESTION]}, COMPLETIONS: {"prompt": "a"}}

REFUSED_UNDER_V1 = {
    "temperature of 1e999": (
        CHAT,
        '{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
    ),
    "top_p of 1e999": (COMPLETIONS, '{"prompt": "a", "top_p": 1e999}'),
    "a million answers": (CHAT, {"n": 1_000_000}),
    "a million answers to a prompt": (COMPLETIONS, {"n": 1_000_000}),
    "the best of a million": (COMPLETIONS, {"best_of": 1_000_000}),
    "a list of prompts": (COMPLETIONS, {"prompt": ["a"] * 1000}),
    "a list of conversations": (CHAT, {"messages": [[QUESTION]] * 2}),
    "all probabilities": (CHAT, {"logprobs": True, "top_logprobs": 10**9}),
    "all probabilities of a prompt": (COMPLETIONS, {"logprobs": 10**9}),
    "a JSON schema": (CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}),
    "token ids for a prompt": (COMPLETIONS, {"prompt": [2**40]}),
    "token ids to favour": (CHAT, {"logit_bias": {"999999999": 100}}),
    "an address in a message": (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:/"}]}]},
    ),
    "an adapter of the caller's choice": (CHAT, {"model": "/etc/passwd"}),
    "text that only looks like text": (COMPLETIONS, '{"prompt": "\\ud800"}'),
}
IGNORED_UNDER_V1 = {
    "arguments of the template": {"chat_template_kwargs": {"tokenize": False}},
    "a template": {"chat_template": "{{ ''.__class__ }}", "add_generation_prompt": False},
    "a minimum over the maximum": {"min_tokens": 10**9, "min_new_tokens": 10**9},
    "ids to have probabilities of": {"logprob_token_ids": list(range(1000))},
    "a grammar": {"guided_grammar": "root ::= 'a'", "guided_json": {}, "guided_regex": "(a+)+$"},
    "a field for token ids": {"stop_token_ids": [-1, 2**40], "bad_words": ["a"] * 1000},
    "an adapter": {"lora_path": "/etc", "adapter": "/etc/passwd"},
}


@pytest.mark.parametrize(("path", "body"), REFUSED_UNDER_V1.values(), ids=list(REFUSED_UNDER_V1))
def test_poison_under_v1_is_refused_with_a_reason_before_it_reaches_the_engine(
    client, engine, path, body
):
    data = body if isinstance(body, str) else json.dumps({**ASKED[path], **body})

    response = client.post(path, data=data, content_type="application/json")

    assert response.status_code in {400, 404}
    assert response.get_json()["error"]["message"]
    assert engine.requests == []


@pytest.mark.parametrize("fields", IGNORED_UNDER_V1.values(), ids=list(IGNORED_UNDER_V1))
@pytest.mark.parametrize("path", ASKED)
def test_poison_in_fields_that_are_ignored_under_v1_reaches_nobody(client, engine, path, fields):
    assert client.post(path, json={**ASKED[path], **fields}).status_code == 200
    assert engine.requests == [GenerationRequest(messages=(Message("user", "a"),))]
