"""What OpenAI's own Python library sees."""

import dataclasses

import openai
import pytest

from serving.errors import EngineBusyError, GenerationError
from tests.fakes import COMPLETION, FakeHandle

MODEL = "pocket-verbosity"
QUESTION = [{"role": "user", "content": "What is rate limiting?"}]


def stream_chat(client, **fields):
    return client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **fields)


def test_a_chat_answer_has_text_usage_and_a_reason_why_it_ended(openai_client):
    answer = openai_client.chat.completions.create(model=MODEL, messages=QUESTION)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", COMPLETION.text)
    assert (choice.index, choice.finish_reason) == (0, "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (17, 13, 30)


def test_a_completion_has_text_usage_and_a_reason_why_it_ended(openai_client):
    answer = openai_client.completions.create(model=MODEL, prompt="What is rate limiting?")
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, COMPLETION.text, "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (17, 13, 30)


def test_every_listed_model_can_be_retrieved_and_asked(openai_client):
    models = list(openai_client.models.list())
    assert len(models) == 3
    for model in models:
        assert openai_client.models.retrieve(model.id) == model
        answer = openai_client.chat.completions.create(model=model.id, messages=QUESTION)
        assert answer.model == model.id


def test_the_style_can_be_given_as_an_extra_field(engine, openai_client):
    openai_client.chat.completions.create(
        model=MODEL, messages=QUESTION, extra_body={"style": "verbose"}
    )
    assert engine.requests[0].style == "verbose"


def test_a_streamed_chat_opens_with_the_role_and_closes_with_the_reason(openai_client):
    first, *middle, last = (chunk.choices[0] for chunk in stream_chat(openai_client))
    assert (first.delta.role, first.delta.content) == ("assistant", "")
    assert "".join(choice.delta.content for choice in middle) == COMPLETION.text
    assert {choice.delta.role for choice in middle} == {None}
    assert {choice.finish_reason for choice in (first, *middle)} == {None}
    assert (last.delta.content, last.finish_reason) == (None, "stop")


def test_a_streamed_completion_closes_with_the_reason(openai_client):
    *pieces, last = openai_client.completions.create(
        model=MODEL, prompt="What is rate limiting?", stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in pieces) == COMPLETION.text
    assert {chunk.choices[0].finish_reason for chunk in pieces} == {None}
    assert (last.choices[0].text, last.choices[0].finish_reason) == ("", "stop")


def test_the_chunks_of_an_answer_share_its_id_and_those_of_another_do_not(openai_client):
    first = {(chunk.id, chunk.created, chunk.model) for chunk in stream_chat(openai_client)}
    second = {(chunk.id, chunk.created, chunk.model) for chunk in stream_chat(openai_client)}
    assert len(first) == len(second) == 1
    assert first.isdisjoint(second)


def test_a_stream_counts_tokens_in_a_last_chunk_without_choices_if_asked(openai_client):
    *chunks, last = stream_chat(openai_client, stream_options={"include_usage": True})
    assert last.choices == []
    usage = last.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (17, 13, 30)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.usage for chunk in chunks} == {None}


@pytest.mark.parametrize("options", [{}, {"include_usage": False}])
def test_a_stream_counts_nothing_if_not_asked(openai_client, options):
    *_, last = stream_chat(openai_client, stream_options=options)
    assert (last.choices[0].finish_reason, last.usage) == ("stop", None)


def test_an_answer_cut_short_by_the_limit_says_so(engine, openai_client):
    engine.script += [dataclasses.replace(COMPLETION, finish_reason="length")] * 2
    whole = openai_client.chat.completions.create(model=MODEL, messages=QUESTION)
    *_, last = stream_chat(openai_client)
    assert whole.choices[0].finish_reason == last.choices[0].finish_reason == "length"


def test_an_answer_that_is_wanted_whole_is_not_taken_from_the_engine_in_pieces(
    engine, openai_client
):
    openai_client.chat.completions.create(model=MODEL, messages=QUESTION)
    openai_client.completions.create(model=MODEL, prompt="What is rate limiting?")
    assert [handle.num_given for handle in engine.handles] == [0, 0]


def test_text_arrives_before_the_answer_is_complete(engine, openai_client):
    handle = FakeHandle(COMPLETION, [f"{number} " for number in range(100)])
    engine.script.append(handle)
    with stream_chat(openai_client) as chunks:
        next(chunks)
        assert next(chunks).choices[0].delta.content == "0 "
        assert handle.num_given < 5


def test_a_stream_that_is_closed_early_frees_its_place(engine, openai_client):
    handle = FakeHandle(COMPLETION, [f"{number} " for number in range(100)])
    engine.script.append(handle)
    with stream_chat(openai_client) as chunks:
        next(chunks)
        assert not handle.cancelled
    assert handle.cancelled


def test_a_stream_that_fails_on_its_way_raises_the_cause(engine, openai_client):
    engine.script.append(FakeHandle(GenerationError("the model failed"), ["It ", "caps "]))
    received = []
    with pytest.raises(openai.APIError, match="the model failed") as caught:
        received.extend(chunk.choices[0].delta.content for chunk in stream_chat(openai_client))
    assert received == ["", "It ", "caps "]
    assert (caught.value.type, caught.value.code) == ("server_error", None)


def test_a_stream_the_engine_refuses_fails_before_it_begins(engine, openai_client):
    engine.script.append(EngineBusyError("32 requests are waiting already", 7))
    with pytest.raises(openai.InternalServerError, match="32 requests are waiting") as caught:
        stream_chat(openai_client)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "7"


def test_an_unknown_model_raises_what_the_library_has_for_it(openai_client):
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_a_bad_value_raises_what_the_library_has_for_it(openai_client):
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")


def test_an_api_this_server_lacks_raises_what_the_library_has_for_it(openai_client):
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.embeddings.create(model=MODEL, input="x")
    assert caught.value.code == "unknown_url"
