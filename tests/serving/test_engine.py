import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.manifest import WEIGHTS_NAME, AdapterMismatchError
from adapters.prompts import Message
from serving.engine import ModelEngine
from serving.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
    InvalidRequestError,
)
from serving.types import GenerationRequest
from tests.serving.conftest import LONG, SHORT, STYLES, save_manifest, start_and_wait, wait_until
from tests.serving.fakes import EagerToStop, Gate, Poison

pytestmark = pytest.mark.slow

QUESTIONS = [f"What is {'really ' * number}a queue, and number {number}?" for number in range(20)]


def ask(text="What is a cache?", **settings):
    return GenerationRequest((Message("user", text),), **settings)


def model_of(engine):
    """The model inside, for hooks that slow it down, spoil it or listen to it."""
    return engine._loaded.model


def add_hook(engine, hook):
    """Call the hook before every step of the model."""
    model_of(engine).register_forward_pre_hook(hook, with_kwargs=True)
    return hook


@pytest.fixture(scope="module")
def engine(tiny):
    """Shared: for tests that only ask."""
    engine = start_and_wait(ModelEngine(tiny.config()))
    yield engine
    engine.stop()


@pytest.fixture
def own_engine(start_engine):
    """For tests that stop the engine or change its model."""
    return start_engine()


@pytest.fixture
def eager_engine(own_engine):
    """Ends every answer as early as it may."""
    model_of(own_engine).register_forward_hook(EagerToStop(2))
    return own_engine


@pytest.fixture
def pool():
    """Threads that ask while the test goes on."""
    with ThreadPoolExecutor(32) as executor:
        yield executor


@pytest.fixture
def hold(pool):
    """Makes an engine stick in one request; returns the gate to open and the answer to come."""
    gates = []

    def hold_up(engine, request=None):
        gates.append(add_hook(engine, Gate()))
        answer = pool.submit(engine.generate, request or ask("The first one?"))
        assert gates[-1].reached.wait(20)
        return gates[-1], answer

    yield hold_up
    for gate in gates:
        gate.open()


def submit_waiting(pool, engine, requests):
    """Ask from other threads; returns the answers to come once all of them wait in the queue."""
    already = engine.status().num_waiting
    answers = []
    for request in requests:
        answers.append(pool.submit(engine.generate, request))
        wait_until(lambda: engine.status().num_waiting == already + len(answers))
    return answers


# Answers


def test_an_answer_is_what_the_model_generates_for_the_prompt(engine, loaded):
    ids = loaded.prompt.encode_prompt([Message("user", "What is a cache?")], LONG.token)
    generated = loaded.model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        min_new_tokens=LONG.preset.min_new_tokens,
        max_new_tokens=LONG.preset.max_new_tokens,
        suppress_tokens=list(loaded.suppressed_ids),
        pad_token_id=0,
    )[0, len(ids) :].tolist()
    completion = engine.generate(ask("What is a cache?", style="long", temperature=0.0))
    assert completion.text == loaded.prompt.decode(generated).strip()
    assert completion.num_prompt_tokens == len(ids)
    assert completion.num_tokens == len(generated)
    assert completion.finish_reason == "length"
    assert completion.style == "long"
    assert completion.seconds > 0


def test_a_request_without_a_style_gets_the_default_one(engine):
    request, named = ask(seed=1), ask(seed=1, style="short")
    assert engine.generate(request).text == engine.generate(named).text
    assert engine.generate(request).style == "short"


def test_the_style_changes_the_answer(engine):
    settings = {"temperature": 0.0, "min_new_tokens": 8, "max_new_tokens": 8}
    short, long = (engine.generate(ask(style=style.name, **settings)) for style in STYLES)
    assert short.text != long.text


def test_a_conversation_is_answered_too(engine):
    turns = (Message("user", "What?"), Message("assistant", "This."), Message("user", "Why?"))
    completion = engine.generate(GenerationRequest(turns))
    assert completion.num_prompt_tokens > engine.generate(ask("Why?")).num_prompt_tokens


def test_an_answer_never_begins_with_the_end_of_the_text(eager_engine):
    completion = eager_engine.generate(ask(style="short"))
    assert (completion.num_tokens, completion.finish_reason) == (1, "stop")


def test_a_seeded_answer_is_the_same_again(engine):
    request = ask(style="long", temperature=2.0, top_p=1.0, seed=11)
    assert engine.generate(request).text == engine.generate(request).text


def test_answers_without_a_seed_differ(engine):
    request = ask(style="long", temperature=2.0, top_p=1.0)
    assert engine.generate(request).text != engine.generate(request).text


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_twenty_callers_at_once_each_get_their_own_answer(engine, pool, temperature):
    requests = [
        ask(text, style=STYLES[number % 2].name, temperature=temperature, seed=number)
        for number, text in enumerate(QUESTIONS)
    ]
    alone = [engine.generate(request).text for request in requests]
    barrier = threading.Barrier(len(requests))

    def call(request):
        barrier.wait(20)
        return engine.generate(request).text

    assert list(pool.map(call, requests)) == alone
    assert len(set(alone)) > 15  # or mixed-up answers would not show


# What a request may change


def test_a_request_that_names_nothing_gets_the_preset(eager_engine, engine):
    assert eager_engine.generate(ask(style="long")).num_tokens == LONG.preset.min_new_tokens
    assert engine.generate(ask(style="long")).num_tokens == LONG.preset.max_new_tokens


def test_a_maximum_below_the_style_s_minimum_lowers_the_minimum(engine):
    completion = engine.generate(ask(style="long", max_new_tokens=3))
    assert (completion.num_tokens, completion.finish_reason) == (3, "length")


def test_a_minimum_above_the_style_s_maximum_raises_the_maximum(engine):
    completion = engine.generate(ask(style="short", min_new_tokens=9))
    assert (completion.num_tokens, completion.finish_reason) == (9, "length")


def test_a_maximum_above_the_style_s_minimum_leaves_the_minimum(eager_engine):
    completion = eager_engine.generate(ask(style="long", max_new_tokens=30))
    assert (completion.num_tokens, completion.finish_reason) == (6, "stop")


def test_a_minimum_of_its_own_replaces_the_style_s(eager_engine):
    assert eager_engine.generate(ask(style="long", min_new_tokens=2)).num_tokens == 2


def test_a_lower_minimum_does_not_lower_the_maximum(engine):
    assert engine.generate(ask(style="long", min_new_tokens=2)).num_tokens == 12


def test_a_minimum_of_zero_is_a_minimum(eager_engine):
    assert eager_engine.generate(ask(style="long", min_new_tokens=0)).num_tokens == 1


def test_a_temperature_of_zero_is_a_temperature(engine):
    request = ask(style="long", temperature=0.0)
    assert len({engine.generate(request).text for _ in range(5)}) == 1


def test_a_temperature_of_its_own_makes_a_greedy_style_sample(engine):
    request = ask(style="short", temperature=3.0)
    assert len({engine.generate(request).text for _ in range(5)}) > 1


def test_a_tiny_top_p_is_as_good_as_greedy(engine):
    narrow = engine.generate(ask(style="long", top_p=1e-6)).text
    assert narrow == engine.generate(ask(style="long", temperature=0.0)).text


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"min_new_tokens": -1}, "min_new_tokens"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_field(engine, settings, field):
    with pytest.raises(InvalidRequestError, match=field) as caught:
        engine.generate(ask(**settings))
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["max_new_tokens", "min_new_tokens"])
def test_more_tokens_than_the_server_allows_are_refused(start_engine, field):
    engine = start_engine(max_new_tokens=20)
    assert engine.generate(ask(**{field: 20})).num_tokens == 20
    with pytest.raises(InvalidRequestError, match="21 is over this server's limit of 20") as caught:
        engine.generate(ask(**{field: 21}))
    assert caught.value.field == field


def test_an_unknown_style_is_refused_with_those_that_exist(engine):
    with pytest.raises(InvalidRequestError, match=r"'loud'.*short, long") as caught:
        engine.generate(ask(style="loud"))
    assert caught.value.field == "style"


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(engine, start_engine):
    length = engine.generate(ask()).num_prompt_tokens
    assert start_engine(max_prompt_tokens=length).generate(ask()).num_prompt_tokens == length
    with pytest.raises(InvalidRequestError, match=f"{length} tokens.* {length - 1} ") as caught:
        start_engine(max_prompt_tokens=length - 1).generate(ask())
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (Message("assistant", "I answer."),),
        (Message("system", "Be kind."), Message("user", "Why?")),
    ],
)
def test_messages_that_the_template_cannot_take_are_refused(engine, messages):
    with pytest.raises(InvalidRequestError) as caught:
        engine.generate(GenerationRequest(messages))
    assert caught.value.field == "prompt"


def test_a_refused_request_never_reaches_the_model(own_engine):
    gate = add_hook(own_engine, Gate())
    with pytest.raises(InvalidRequestError):
        own_engine.generate(ask(style="loud"))
    assert gate.steps == []


# The queue


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(start_engine, pool, hold):
    engine = start_engine(queue_size=2)
    gate, first = hold(engine)
    waiting = submit_waiting(pool, engine, [ask(), ask()])
    with pytest.raises(EngineBusyError, match="2 requests") as caught:
        engine.generate(ask())  # the gate is closed, so this returns without waiting or never
    assert isinstance(caught.value.retry_after_seconds, int)
    assert caught.value.retry_after_seconds >= 1
    gate.open()
    assert [answer.result(20).num_tokens for answer in [first, *waiting]] == [4, 4, 4]


def test_there_is_room_again_when_the_queue_has_moved_on(start_engine, pool, hold):
    engine = start_engine(queue_size=1)
    gate, first = hold(engine)
    waiting = submit_waiting(pool, engine, [ask()])
    with pytest.raises(EngineBusyError):
        engine.generate(ask())
    gate.open()
    for answer in [first, *waiting]:
        answer.result(20)
    assert engine.generate(ask()).num_tokens == 4


def test_requests_that_wait_are_generated_together_up_to_the_limit(start_engine, pool, hold):
    engine = start_engine(max_batch_size=3)
    gate, first = hold(engine)
    waiting = submit_waiting(pool, engine, [ask(text) for text in QUESTIONS[:5]])
    gate.open()
    for answer in [first, *waiting]:
        answer.result(20)
    assert gate.batch_sizes == [1, 3, 2]


def test_the_more_batches_wait_the_later_one_should_come_back(start_engine, pool, hold):
    seconds = []
    for max_batch_size in (4, 1):
        engine = start_engine(queue_size=8, max_batch_size=max_batch_size)
        gate, _ = hold(engine)
        submit_waiting(pool, engine, [ask()] * 8)
        with pytest.raises(EngineBusyError) as caught:
            engine.generate(ask())
        gate.open()
        seconds.append(caught.value.retry_after_seconds)
    assert seconds[0] < seconds[1]


# Deadlines


def test_an_answer_that_takes_too_long_is_given_up(start_engine, hold):
    engine = start_engine(request_timeout_seconds=0.1)
    _, answer = hold(engine)
    with pytest.raises(DeadlineExceededError, match=r"0\.1 seconds"):
        answer.result(20)


def test_the_engine_works_after_a_deadline_was_missed(start_engine, hold):
    engine = start_engine(request_timeout_seconds=0.5)
    expected = engine.generate(ask()).text
    gate, answer = hold(engine)
    with pytest.raises(DeadlineExceededError):
        answer.result(20)
    gate.open()
    wait_until(lambda: engine.status().num_running == 0)
    assert engine.generate(ask()).text == expected


def test_nothing_more_is_generated_for_a_caller_who_gave_up(start_engine, hold):
    engine = start_engine(request_timeout_seconds=0.1)
    gate, answer = hold(engine, ask(min_new_tokens=300))
    with pytest.raises(DeadlineExceededError):
        answer.result(20)
    gate.open()
    wait_until(lambda: engine.status().num_running == 0)
    assert len(gate.steps) <= 2


def test_a_request_that_was_given_up_while_waiting_is_never_run(start_engine, pool, hold):
    engine = start_engine(request_timeout_seconds=0.5)
    gate, first = hold(engine)
    waiting = submit_waiting(pool, engine, [ask(), ask()])
    for answer in [first, *waiting]:
        with pytest.raises(DeadlineExceededError):
            answer.result(20)
    gate.open()
    wait_until(lambda: engine.status().num_waiting == 0 and engine.status().num_running == 0)
    engine.generate(ask())
    assert gate.batch_sizes == [1, 1]


# Requests that fail


@pytest.fixture
def poison(loaded):
    """Makes an engine fail on every batch that holds a skull."""

    def add_poison(engine):
        return add_hook(engine, Poison(loaded.prompt.encode_words("☠")[0]))

    return add_poison


def test_a_request_that_makes_the_model_fail_is_told_so(own_engine, poison):
    poison(own_engine)
    with pytest.raises(GenerationError):
        own_engine.generate(ask("☠"))


def test_the_engine_works_after_a_request_failed(own_engine, poison):
    poison(own_engine)
    with pytest.raises(GenerationError):
        own_engine.generate(ask("☠"))
    assert own_engine.generate(ask()).num_tokens == 4
    assert own_engine.status().state == "ready"
    assert own_engine.status().num_running == 0


def test_a_request_that_fails_takes_no_neighbour_along(own_engine, poison, pool, hold):
    texts = ["What is a cache?", "☠", "What is a queue?", "☠ ☠", "What is rate limiting?"]
    expected = {text: own_engine.generate(ask(text)).text for text in texts if "☠" not in text}
    gate, _ = hold(own_engine)
    poison(own_engine)
    answers = submit_waiting(pool, own_engine, [ask(text) for text in texts])
    gate.open()
    for text, answer in zip(texts, answers, strict=True):
        if text in expected:
            assert answer.result(20).text == expected[text]
        else:
            with pytest.raises(GenerationError):
                answer.result(20)
    assert 5 in gate.batch_sizes  # they were together at first


# Status


def test_an_engine_that_was_not_started_is_loading(tiny):
    engine = ModelEngine(tiny.config())
    assert engine.status().state == "loading"
    assert engine.status().detail
    with pytest.raises(EngineNotReadyError, match="loaded"):
        engine.generate(ask())


def test_a_ready_engine_has_nothing_to_explain(engine):
    assert (engine.status().state, engine.status().detail) == ("ready", "")


def test_an_engine_that_cannot_load_says_why(own_tiny):
    path = own_tiny.adapter / WEIGHTS_NAME
    tensors = load_file(path)
    save_file({**tensors, "base_model.model.stray": torch.ones(1)}, path)
    save_manifest(own_tiny.adapter, own_tiny.base, own_tiny.token_ids)
    engine = ModelEngine(own_tiny.config())
    engine.start()
    wait_until(lambda: engine.status().state != "loading")
    assert engine.status().state == "failed"
    assert "stray" in engine.status().detail
    with pytest.raises(EngineNotReadyError, match="stray"):
        engine.generate(ask())
    engine.stop()
    assert engine.status().state == "stopped"


def test_the_status_describes_what_runs(engine, tiny):
    status = engine.status()
    assert (status.model, status.adapter, status.adapter_version) == (str(tiny.base), "tiny", "1")
    assert (status.quantization, status.device, status.gpu_memory_gb) == ("none", "cpu", 0.0)
    assert (status.default_style, status.styles) == ("short", (SHORT, LONG))
    assert status.queue_size == 32


def test_the_status_names_the_base_that_the_settings_name(start_engine, tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "copy")
    engine = start_engine(base_model=str(tmp_path / "copy"))
    assert engine.status().model == str(tmp_path / "copy")


def test_the_status_counts_what_runs_and_what_waits(start_engine, pool, hold):
    engine = start_engine(queue_size=5)
    gate, first = hold(engine)
    waiting = submit_waiting(pool, engine, [ask(), ask(), ask()])
    status = engine.status()
    assert (status.num_running, status.num_waiting, status.queue_size) == (1, 3, 5)
    gate.open()
    for answer in [first, *waiting]:
        answer.result(20)
    wait_until(lambda: engine.status().num_running == 0)
    assert engine.status().num_waiting == 0


def test_presets_of_the_operator_are_shown_and_used(start_engine, tmp_path):
    (tmp_path / "presets.json").write_text(json.dumps({"short": {"max_new_tokens": 7}}))
    engine = start_engine(presets=tmp_path / "presets.json")
    assert engine.status().styles[0].preset.max_new_tokens == 7
    assert engine.generate(ask(style="short")).num_tokens == 7


# Adapters that were damaged


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
)
def test_one_changed_byte_stops_the_engine_before_it_starts(own_tiny, name):
    path = own_tiny.adapter / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AdapterMismatchError, match=name):
        ModelEngine(own_tiny.config())


# The end


def stop_in_background(engine):
    """A thread that stops the engine; it is over when the engine is."""
    thread = threading.Thread(target=engine.stop, daemon=True)
    thread.start()
    wait_until(lambda: engine.status().state == "stopped")
    return thread


class SlowToRead(Sequence):
    """Messages that are read only after an event, as if the caller's thread had been slow."""

    def __init__(self, messages):
        self.messages = messages
        self.reading, self.go_on = threading.Event(), threading.Event()

    def __len__(self):
        self.reading.set()
        assert self.go_on.wait(20)
        return len(self.messages)

    def __getitem__(self, index):
        return self.messages[index]


def test_stopping_finishes_what_runs_and_refuses_what_waits(own_engine, pool, hold):
    gate, first = hold(own_engine)
    waiting = submit_waiting(pool, own_engine, [ask(), ask()])
    stopping = stop_in_background(own_engine)
    for answer in waiting:
        with pytest.raises(EngineNotReadyError, match="shutting down"):
            answer.result(20)
    assert not first.done()
    gate.open()
    assert first.result(20).num_tokens == 4
    stopping.join(20)
    assert not stopping.is_alive()


def test_a_stopped_engine_refuses_and_says_so(own_engine):
    own_engine.stop()
    assert own_engine.status().state == "stopped"
    with pytest.raises(EngineNotReadyError, match="shutting down"):
        own_engine.generate(ask())


def test_an_engine_can_be_stopped_while_it_loads(tiny):
    engine = ModelEngine(tiny.config())
    engine.start()
    stopping = stop_in_background(engine)
    stopping.join(20)
    assert not stopping.is_alive()
    assert engine.status().state == "stopped"


def test_a_request_that_slips_in_while_the_engine_stops_is_refused_too(start_engine, pool, hold):
    engine = start_engine(request_timeout_seconds=1.0)
    gate, _ = hold(engine)
    messages = SlowToRead([Message("user", "Am I late?")])
    late = pool.submit(engine.generate, GenerationRequest(messages))
    assert messages.reading.wait(20)
    stopping = stop_in_background(engine)
    messages.go_on.set()
    gate.open()
    with pytest.raises(EngineNotReadyError):
        late.result(20)
    stopping.join(20)
    assert not stopping.is_alive()


def test_a_request_that_runs_when_the_engine_is_stopped_is_finished(own_engine, pool, hold):
    gate, _ = hold(own_engine)
    [running] = submit_waiting(pool, own_engine, [ask()])
    stopping = pool.submit(own_engine.stop)
    gate.open()
    stopping.result(20)
    assert running.done()
    assert not own_engine._thread.is_alive()
