import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.manifest import WEIGHTS_NAME
from serving.engine import ModelEngine
from serving.errors import (
    DeviceLostError,
    EngineNotReadyError,
    GenerationError,
    RequestCancelledError,
)
from serving.runner import Runner, Tokens
from tests.serving.conftest import SKULL, save_manifest, wait_until
from tests.serving.fakes import (
    Breakdown,
    Gate,
    HashModel,
    LostRunner,
    Poison,
    add_hook,
    ask,
    assert_all_free,
    end_of,
    in_time,
)


@pytest.fixture
def poison(prompt):
    """Makes a model fail on every prompt that holds a skull."""
    return Poison(prompt.encode_words(SKULL)[0])


def works(engine):
    """Whether the engine answers, and holds nothing afterwards."""
    num_tokens = in_time(lambda: engine.generate(ask())).num_tokens
    assert_all_free(engine._core)
    return num_tokens == 4 and engine.status().state == "ready"


# Requests that fail


def test_a_request_that_makes_the_model_fail_is_told_so(start_engine, poison):
    engine = start_engine()
    add_hook(engine, poison)

    with pytest.raises(GenerationError, match="failed on this request"):
        in_time(lambda: engine.generate(ask(SKULL)))

    assert works(engine)


def test_a_request_that_fails_takes_no_neighbour_along(
    start_engine, each_runner, poison, hold, caplog
):
    engine = start_engine()
    texts = ["What is a cache?", SKULL, "What is a queue?", f"A {SKULL}", "What is rate limiting?"]
    wanted = {text: engine.generate(ask(text)).text for text in texts if SKULL not in text}
    gate, first = hold(engine)
    add_hook(engine, poison)
    handles = [engine.submit(ask(text)) for text in texts]

    gate.open()

    for text, handle in zip(texts, handles, strict=True):
        if SKULL in text:
            assert isinstance(end_of(handle), GenerationError)
        else:
            assert end_of(handle).text == wanted[text]
    assert end_of(first).num_tokens == 4
    assert 5 in [len(counts) for counts in gate.steps]  # they were together at first
    assert caplog.text.count("a prompt could not be read") == 2
    assert works(engine)


def test_a_step_that_fails_takes_its_rows_along_and_the_engine_goes_on(
    start_engine, each_runner, hold
):
    engine = start_engine(max_batch_size=2)
    gate, first = hold(engine)
    add_hook(engine, trouble := Breakdown(every=1))
    waiting = [engine.submit(ask(max_new_tokens=1)) for _ in range(3)]

    gate.open()

    assert isinstance(end_of(first), GenerationError)
    assert [end_of(handle).num_tokens for handle in waiting] == [1] * 3  # none of them has a step
    assert trouble.num_rows_failed == 1
    engine._loaded.model.hooks.remove(trouble)
    assert works(engine)


def test_a_stream_that_fails_has_given_its_pieces_before(start_engine):
    engine = start_engine()
    add_hook(engine, Breakdown(every=12))
    pieces = []

    def read():
        for piece in engine.submit(ask(min_new_tokens=30)):
            pieces.append(piece)

    with pytest.raises(GenerationError):
        in_time(read)

    assert len(pieces) > 5


# A device that is lost


class Deaths:
    """Counts the calls; `handles` must have been told before."""

    def __init__(self):
        self.handles = []
        self.seen = []

    def __call__(self):
        self.seen.append([type(end_of(handle)) for handle in self.handles])


@pytest.fixture
def deaths():
    return Deaths()


@pytest.fixture
def lost_engine(start_engine, deaths, monkeypatch):
    """Holds two requests; its device does not come back after the first error."""
    monkeypatch.setattr("serving.core.Runner", LostRunner)
    return start_engine(max_batch_size=2, on_death=deaths)


def test_a_lost_device_is_told_to_everybody_who_runs_or_waits(lost_engine, hold, deaths):
    gate, first = hold(lost_engine)
    deaths.handles = [first, *(lost_engine.submit(ask(), streams=n > 1) for n in range(5))]
    add_hook(lost_engine, Breakdown(every=1))

    gate.open()

    # a handle is for one thread at a time, so the engine's looks first
    wait_until(lambda: deaths.seen)
    assert deaths.seen == [[DeviceLostError] * 6]
    assert [type(end_of(handle)) for handle in deaths.handles] == [DeviceLostError] * 6


def test_a_prompt_can_lose_the_device_as_well(lost_engine, poison, deaths):
    add_hook(lost_engine, poison)

    with pytest.raises(DeviceLostError):
        in_time(lambda: lost_engine.generate(ask(SKULL)))

    wait_until(lambda: deaths.seen)


def test_a_dead_engine_says_so_and_refuses(lost_engine, deaths):
    add_hook(lost_engine, Breakdown(every=1))
    end_of(lost_engine.submit(ask()))
    wait_until(lambda: deaths.seen)

    status = lost_engine.status()

    assert (status.state, status.num_running, status.num_waiting) == ("dead", 0, 0)
    assert "must be replaced" in status.detail
    with pytest.raises(EngineNotReadyError, match="must be replaced"):
        lost_engine.submit(ask())
    in_time(lost_engine.stop)
    assert len(deaths.seen) == 1


class LateErrorRunner(Runner):
    """A device that tells what went wrong in a step when the results are waited for."""

    broken = False

    def generate(self, num_rows, jobs=()):
        tokens = super().generate(num_rows, jobs)
        return BrokenTokens(self._chosen) if self.broken else tokens


class BrokenTokens(Tokens):
    def wait(self):
        raise RuntimeError("an illegal memory access was encountered")


def test_results_that_never_come_are_the_end_of_the_engine(start_engine, deaths, hold, monkeypatch):
    monkeypatch.setattr("serving.core.Runner", LateErrorRunner)
    engine = start_engine(max_batch_size=1, on_death=deaths)
    gate, first = hold(engine)
    deaths.handles = [first, engine.submit(ask())]
    engine._core._runner.broken = True

    gate.open()

    wait_until(lambda: deaths.seen)
    assert deaths.seen == [[DeviceLostError] * 2]
    assert "illegal memory access" in engine.status().detail


# Engines that cannot load


def load_and_wait(engine):
    engine.start()
    wait_until(lambda: engine.status().state != "loading")
    return engine.status()


def test_an_engine_that_cannot_load_says_why(tiny, deaths, monkeypatch):
    def load(config):
        raise RuntimeError("no such layer")

    monkeypatch.setattr("serving.engine.load", load)
    engine = ModelEngine(tiny.config(), on_death=deaths)

    status = load_and_wait(engine)

    assert (status.state, status.kv_cache_tokens) == ("failed", 0)
    assert status.detail == "the model could not be loaded: no such layer"
    with pytest.raises(EngineNotReadyError, match="no such layer"):
        engine.submit(ask())
    in_time(engine.stop)
    assert engine.status().state == "stopped"
    assert deaths.seen == []


def test_too_little_memory_is_a_failure_to_load(tiny, put_in, monkeypatch):
    monkeypatch.setattr("serving.engine.load", lambda config: put_in(HashModel()))

    status = load_and_wait(ModelEngine(tiny.config(kv_cache_gb=1e-6)))

    assert status.state == "failed"
    assert "kv_cache_gb" in status.detail


def test_a_model_that_cannot_answer_is_a_failure_to_load(tiny, put_in, monkeypatch):
    model = HashModel()
    model.hooks.append(Breakdown(every=1))
    monkeypatch.setattr("serving.engine.load", lambda config: put_in(model))

    assert load_and_wait(ModelEngine(tiny.config())).state == "failed"


@pytest.mark.slow
def test_weights_that_do_not_fit_are_a_failure_to_load(own_tiny):
    path = own_tiny.adapter / WEIGHTS_NAME
    save_file({**load_file(path), "base_model.model.stray": torch.ones(1)}, path)
    save_manifest(own_tiny.adapter, own_tiny.base, own_tiny.token_ids)

    status = load_and_wait(ModelEngine(own_tiny.config()))

    assert status.state == "failed"
    assert "stray" in status.detail


# Engines that stall


def test_an_engine_whose_step_takes_too_long_is_stalled_until_the_next(start_engine, hold, clock):
    engine = start_engine(stall_seconds=60)
    gate, _ = hold(engine)
    late_gate = add_hook(engine, Gate(after=2))

    clock.advance(59)
    assert engine.status().state == "ready"
    clock.advance(2)
    status = engine.status()

    assert (status.state, status.detail) == ("stalled", "no step for 61 seconds")
    assert status.seconds_since_step == 61
    gate.open()
    assert late_gate.reached.wait(20)
    assert engine.status().state == "ready"
    late_gate.open()


def test_a_stalled_engine_still_takes_requests_and_lets_them_be_cancelled(
    start_engine, hold, clock
):
    engine = start_engine(stall_seconds=60)
    gate, _ = hold(engine)
    clock.advance(61)

    handle = engine.submit(ask())
    handle.cancel()
    gate.open()

    assert isinstance(end_of(handle), RequestCancelledError)


def test_an_engine_with_nothing_to_do_is_not_stalled(start_engine, clock):
    engine = start_engine(stall_seconds=60)

    clock.advance(1000)

    wait_until(lambda: engine.status().seconds_since_step == 0)
    assert engine.status().state == "ready"
