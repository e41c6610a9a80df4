import gc
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from adapters.manifest import AdapterMismatchError
from adapters.prompts import Message
from serving.base_model import load_base
from serving.engine import ModelEngine
from serving.errors import EngineNotReadyError, InvalidRequestError
from serving.loader import attach_adapter
from serving.types import GenerationRequest
from tests.serving.conftest import LONG, SHORT, STYLES, start_and_wait, wait_until
from tests.serving.fakes import Gate, HashModel, ScriptedModel, add_hook, ask, end_of, in_time

QUESTIONS = [f"What is {'really ' * number}a queue, and number {number}?" for number in range(20)]


@pytest.fixture
def engine(start_engine):
    """Answers go on until their limit."""
    return start_engine()


@pytest.fixture
def eager_engine(start_engine):
    """Ends every answer as early as it may."""
    return start_engine(HashModel(eos_every=1))


# Answers


@pytest.mark.slow
def test_an_answer_is_what_the_model_generates_for_the_prompt(tiny, loaded):
    ids = loaded.prompt.encode_prompt([Message("user", "What is a cache?")], LONG.token)
    model = attach_adapter(load_base(tiny.base, "cpu", "none"), tiny.adapter).eval()
    generated = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        min_new_tokens=LONG.preset.min_new_tokens,
        max_new_tokens=LONG.preset.max_new_tokens,
        suppress_tokens=list(loaded.suppressed_ids),
        pad_token_id=0,
    )[0, len(ids) :].tolist()
    engine = start_and_wait(ModelEngine(tiny.config()))

    completion = engine.generate(ask("What is a cache?", style="long", temperature=0.0))

    engine.stop()
    assert completion.text == loaded.prompt.decode(generated).strip()
    assert completion.num_tokens == len(generated) == 12


def test_a_completion_tells_what_was_asked_and_what_came(start_engine, prompt):
    ids = prompt.encode_prompt([Message("user", "Why?")], LONG.token)
    script = [*prompt.encode_words("Because it is fast."), prompt.eos_id]
    engine = start_engine(ScriptedModel({tuple(ids): script}))

    completion = engine.generate(ask("Why?", style="long", max_new_tokens=50, temperature=0))

    assert (completion.text, completion.style) == ("Because it is fast.", "long")
    assert completion.num_prompt_tokens == len(ids)
    assert completion.num_tokens == len(script) - 1
    assert completion.finish_reason == "stop"
    assert 0 < completion.first_token_seconds <= completion.seconds


def test_times_count_from_the_acceptance(start_engine, clock, hold):
    engine = start_engine()
    gate, handle = hold(engine, min_new_tokens=9)

    clock.advance(30)
    late_gate = add_hook(engine, Gate(after=5))
    gate.open()
    assert late_gate.reached.wait(20)
    clock.advance(5)
    late_gate.open()

    completion = end_of(handle)
    assert (completion.first_token_seconds, completion.seconds) == (30, 35)


def test_pieces_make_up_the_text_and_come_before_the_end(start_engine, prompt, hold):
    ids = prompt.encode_prompt([Message("user", "The first one?")], SHORT.token)
    script = [*prompt.encode_words("Yes, it is the one."), prompt.eos_id]
    engine = start_engine(ScriptedModel({tuple(ids): script}))
    gate, handle = hold(engine, max_new_tokens=50)
    gate.open()

    pieces = in_time(lambda: list(handle))

    assert len(pieces) > 3
    assert "".join(pieces) == handle.result().text == "Yes, it is the one."
    assert list(handle) == []


def test_a_piece_is_handed_over_before_the_answer_is_complete(engine):
    gate = add_hook(engine, Gate(after=12))
    streaming = engine.submit(ask(min_new_tokens=20))

    assert in_time(lambda: next(iter(streaming)))

    assert engine.status().num_running == 1
    gate.open()
    assert end_of(streaming).num_tokens == 20


def test_without_streaming_no_piece_comes(engine):
    handle = engine.submit(ask(), streams=False)

    assert in_time(lambda: list(handle)) == []
    assert handle.result().num_tokens == 4


def test_the_style_changes_the_answer(engine):
    settings = {"temperature": 0.0, "min_new_tokens": 8, "max_new_tokens": 8}

    short, long = (engine.generate(ask(style=style.name, **settings)) for style in STYLES)

    assert short.text != long.text


def test_a_conversation_is_answered_too(engine):
    turns = (Message("user", "What?"), Message("assistant", "This."), Message("user", "Why?"))

    completion = engine.generate(GenerationRequest(turns))

    assert completion.num_prompt_tokens > engine.generate(ask("Why?")).num_prompt_tokens


def test_a_seeded_answer_is_the_same_again_and_another_without_a_seed(engine):
    settings = {"style": "long", "temperature": 2.0, "top_p": 1.0}

    seeded = {engine.generate(ask(**settings, seed=11)).text for _ in range(3)}
    unseeded = {engine.generate(ask(**settings)).text for _ in range(3)}

    assert (len(seeded), len(unseeded)) == (1, 3)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_twenty_callers_at_once_each_get_their_own_answer(engine, temperature):
    requests = [
        ask(text, style=STYLES[number % 2].name, temperature=temperature, seed=number)
        for number, text in enumerate(QUESTIONS)
    ]
    alone = [engine.generate(request).text for request in requests]
    barrier = threading.Barrier(len(requests))

    def call(request):
        barrier.wait(20)
        return engine.generate(request).text

    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(call, requests))

    assert together == alone
    assert len(set(alone)) > 15  # or mixed-up answers would not show


# Presets


def test_a_request_that_names_nothing_gets_the_preset_of_its_style(engine, eager_engine):
    assert engine.generate(ask()).num_tokens == SHORT.preset.max_new_tokens
    assert engine.generate(ask(style="long")).num_tokens == LONG.preset.max_new_tokens
    assert eager_engine.generate(ask(style="long")).num_tokens == LONG.preset.min_new_tokens


def test_a_request_can_change_what_it_names(eager_engine):
    request = ask(style="long", min_new_tokens=2, max_new_tokens=30)

    completion = eager_engine.generate(request)

    assert (completion.num_tokens, completion.finish_reason) == (2, "stop")


def test_an_answer_ends_in_front_of_the_texts_that_a_request_names(start_engine, prompt):
    ids = prompt.encode_prompt([Message("user", "Why?")], SHORT.token)
    engine = start_engine(ScriptedModel({tuple(ids): prompt.encode_words("So it is. Q: And?")}))

    completion = engine.generate(ask("Why?", stop=("A:", "Q:"), max_new_tokens=100))

    assert (completion.text, completion.finish_reason) == ("So it is.", "stop")


def test_a_tiny_top_k_is_as_good_as_greedy(engine):
    narrow = engine.generate(ask(style="long", top_k=1, temperature=2.0))

    assert narrow.text == engine.generate(ask(style="long", temperature=0.0)).text


def test_presets_of_the_operator_are_shown_and_used(start_engine, tmp_path):
    (tmp_path / "presets.json").write_text(json.dumps({"short": {"max_new_tokens": 7}}))
    engine = start_engine(presets=tmp_path / "presets.json")

    assert engine.status().styles[0].preset.max_new_tokens == 7
    assert engine.generate(ask(style="short")).num_tokens == 7


def test_a_refused_request_never_reaches_the_model(engine):
    steps = []
    add_hook(engine, steps.append)

    with pytest.raises(InvalidRequestError, match="loud"):
        engine.submit(ask(style="loud"))

    engine.stop()
    assert steps == []


# States


def test_an_engine_that_was_not_started_is_loading(tiny):
    engine = ModelEngine(tiny.config())

    assert engine.status().state == "loading"
    assert engine.status().detail
    with pytest.raises(EngineNotReadyError, match="loaded"):
        engine.submit(ask())


def test_a_ready_engine_has_nothing_to_explain(engine):
    assert (engine.status().state, engine.status().detail) == ("ready", "")


def test_the_garbage_collector_passes_over_what_is_loaded_while_the_engine_runs(start_engine):
    before = gc.get_freeze_count()

    engine = start_engine()

    assert gc.get_freeze_count() > before + 1000
    engine.stop()
    wait_until(lambda: gc.get_freeze_count() == 0)


def test_the_status_describes_what_runs(start_engine, tiny):
    status = start_engine(queue_size=5, max_batch_size=3, max_new_tokens=64).status()

    assert (status.model, status.adapter, status.adapter_version) == (str(tiny.base), "tiny", "1")
    assert (status.quantization, status.device, status.gpu_memory_gb) == ("none", "cpu", 0.0)
    assert (status.default_style, status.styles) == ("short", (SHORT, LONG))
    assert (status.queue_size, status.kv_cache_tokens) == (5, 3 * (1024 + 64))
    assert (status.num_running, status.num_waiting, status.kv_cache_tokens_used) == (0, 0, 0)
    assert 0 <= status.seconds_since_step < 20


def test_the_status_names_the_base_that_the_settings_name(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "copy")

    status = ModelEngine(tiny.config(base_model=str(tmp_path / "copy"))).status()

    assert (status.model, status.kv_cache_tokens) == (str(tmp_path / "copy"), 0)


def test_the_status_counts_what_runs_and_what_waits(start_engine, hold):
    engine = start_engine(max_batch_size=1)
    gate, first = hold(engine)
    waiting = [engine.submit(ask()) for _ in range(3)]

    status = engine.status()

    assert (status.num_running, status.num_waiting) == (1, 3)
    assert 0 < status.kv_cache_tokens_used < status.kv_cache_tokens / 4
    gate.open()
    assert [end_of(handle).num_tokens for handle in [first, *waiting]] == [4] * 4
    wait_until(lambda: engine.status().num_running == 0)
    assert (engine.status().num_waiting, engine.status().kv_cache_tokens_used) == (0, 0)


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
