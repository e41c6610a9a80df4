import dataclasses
import threading

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from app.measured_engine import MeasuredEngine
from app.metrics import Metrics
from serving.errors import (
    DeadlineExceededError,
    EngineBusyError,
    InvalidRequestError,
    ServingError,
)
from serving.types import GenerationRequest
from tests.fakes import COMPLETION, READY, FakeEngine, FakeHandle

REQUEST = GenerationRequest(messages=())
VERBOSE = dataclasses.replace(COMPLETION, style="verbose", finish_reason="length", num_tokens=200)


class MeasuredFake:
    """A measured fake engine, and how to read what was counted."""

    def __init__(self, *script):
        self.fake = FakeEngine(*script)
        self.metrics = Metrics(self.fake)
        self.engine = MeasuredEngine(self.fake, self.metrics)

    def read(self, name, **labels):
        """The sum of all series of a name that have these labels."""
        found = [
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"laconic_{name}" and labels.items() <= sample.labels.items()
        ]
        assert found, f"there is no laconic_{name} with {labels}"
        return sum(found)


@pytest.fixture
def app(engine):
    """One for each test: they count what it did."""
    return create_app(engine)


def read_page(client, accept="text/plain"):
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    return response.get_data(as_text=True)


def test_the_names_are_frozen(client):
    names = {family.name for family in text_string_to_metric_families(read_page(client))}
    ours = {name for name in names if name.startswith("laconic_") and not name.endswith("_created")}
    assert ours == {
        "laconic_request_success",
        "laconic_request_failures",
        "laconic_prompt_tokens",
        "laconic_generation_tokens",
        "laconic_request_generation_tokens",
        "laconic_time_to_first_token_seconds",
        "laconic_e2e_request_latency_seconds",
        "laconic_request_time_per_output_token_seconds",
        "laconic_engine_ready",
        "laconic_engine_seconds_since_step",
        "laconic_num_requests_running",
        "laconic_num_requests_waiting",
        "laconic_queue_size",
        "laconic_kv_cache_tokens",
        "laconic_kv_cache_usage_perc",
        "laconic_gpu_memory_bytes",
        "laconic_build_info",
    }
    assert "process_resident_memory_bytes" in names


def test_the_use_of_the_cache_is_a_share_of_its_tokens(client, engine):
    engine.snapshot = dataclasses.replace(READY, kv_cache_tokens=800, kv_cache_tokens_used=200)
    assert 'laconic_kv_cache_usage_perc{model="pocket"} 0.25' in read_page(client)


def test_an_engine_that_has_no_cache_yet_uses_none_of_it(client, engine):
    engine.snapshot = dataclasses.replace(READY, kv_cache_tokens=0, kv_cache_tokens_used=0)
    assert 'laconic_kv_cache_usage_perc{model="pocket"} 0.0' in read_page(client)


def test_a_scraper_that_wants_openmetrics_gets_it(client):
    page = read_page(client, "application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")
    assert list(parse_openmetrics(page))


def test_gauges_are_the_state_of_the_engine_at_the_scrape(client, engine):
    engine.snapshot = dataclasses.replace(READY, num_running=7, num_waiting=9, gpu_memory_gb=1.5)
    page = read_page(client)
    assert 'laconic_num_requests_running{model="pocket"} 7.0' in page
    assert 'laconic_num_requests_waiting{model="pocket"} 9.0' in page
    assert 'laconic_gpu_memory_bytes{model="pocket"} 1.5e+09' in page
    assert 'laconic_engine_ready{model="pocket"} 1.0' in page


@pytest.mark.parametrize("state", ["loading", "stalled", "failed", "dead", "stopped"])
def test_an_engine_that_cannot_answer_is_not_ready(client, engine, state):
    engine.snapshot = dataclasses.replace(READY, state=state)
    assert 'laconic_engine_ready{model="pocket"} 0.0' in read_page(client)


def test_the_build_names_what_runs(client):
    page = read_page(client)
    labels = 'adapter="pocket-verbosity",adapter_version="1",model="pocket",quantization="nf4"'
    assert f"laconic_build_info{{{labels}}} 1.0" in page


def test_an_answer_is_counted_with_its_style_and_its_end():
    measured = MeasuredFake(VERBOSE)
    measured.engine.generate(REQUEST)
    style = {"style": "verbose", "model": "pocket"}
    assert measured.read("request_success_total", finished_reason="length", **style) == 1
    assert measured.read("request_success_total") == 1
    assert measured.read("prompt_tokens_total", **style) == 17
    assert measured.read("generation_tokens_total", **style) == 200
    assert measured.read("request_generation_tokens_sum", **style) == 200
    assert measured.read("time_to_first_token_seconds_sum", **style) == 0.05
    assert measured.read("e2e_request_latency_seconds_sum", **style) == 0.25


def test_the_time_between_tokens_does_not_count_the_first():
    measured = MeasuredFake(dataclasses.replace(COMPLETION, num_tokens=5))
    measured.engine.generate(REQUEST)
    name = "request_time_per_output_token_seconds_sum"
    assert measured.read(name) == pytest.approx((0.25 - 0.05) / 4)


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_there_is_no_time_between_fewer_than_two_tokens(num_tokens):
    measured = MeasuredFake(dataclasses.replace(COMPLETION, num_tokens=num_tokens))
    measured.engine.generate(REQUEST)
    assert measured.read("request_time_per_output_token_seconds_count") == 0
    assert measured.read("request_success_total") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidRequestError("seed", "no"), "invalid"),
        (EngineBusyError("full", retry_after_seconds=1), "busy"),
        (DeadlineExceededError("late"), "deadline"),
        (ServingError("some other"), "unexpected"),
        (RuntimeError("a mistake of ours"), "unexpected"),
    ],
)
@pytest.mark.parametrize("call", ["generate", "submit"])
def test_a_refusal_is_counted_once_and_passed_on(error, reason, call):
    measured = MeasuredFake(error)
    with pytest.raises(type(error)):
        getattr(measured.engine, call)(dataclasses.replace(REQUEST, style="verbose"))
    assert measured.read("request_failures_total", reason=reason, style="verbose") == 1
    assert measured.read("request_failures_total") == 1
    assert measured.read("request_success_total") == 0


def test_a_failure_of_a_request_without_a_style_counts_for_the_default_one():
    measured = MeasuredFake(DeadlineExceededError("late"))
    with pytest.raises(DeadlineExceededError):
        measured.engine.generate(REQUEST)
    assert measured.read("request_failures_total", style="terse") == 1


def test_callers_cannot_make_up_series():
    measured = MeasuredFake()
    num_before = len(list(measured.metrics.registry.collect()))
    for number in range(50):
        with pytest.raises(InvalidRequestError):
            measured.engine.generate(dataclasses.replace(REQUEST, style=f"made up {number}"))
    assert measured.read("request_failures_total", style="unknown", reason="invalid") == 50
    assert len(list(measured.metrics.registry.collect())) == num_before


def test_a_stream_is_counted_when_its_end_is_reached():
    measured = MeasuredFake(FakeHandle(COMPLETION, ["a ", "b"]))
    handle = measured.engine.submit(REQUEST)
    pieces = iter(handle)
    assert next(pieces) == "a "
    assert measured.read("request_success_total") == 0
    assert list(pieces) == ["b"]
    assert measured.read("request_success_total") == 1


def test_an_answer_is_counted_once_however_it_is_read():
    measured = MeasuredFake(FakeHandle(COMPLETION, ["a"]))
    handle = measured.engine.submit(REQUEST)
    assert list(handle) == ["a"]
    assert handle.next_piece() is None
    assert handle.result() == handle.result() == COMPLETION
    handle.cancel()  # whoever closes a stream cancels it, at its end as well
    assert measured.read("request_success_total") == 1
    assert measured.read("request_failures_total") == 0


def test_a_stream_that_fails_on_its_way_is_a_failure():
    measured = MeasuredFake(FakeHandle(DeadlineExceededError("late"), ["a"]))
    handle = measured.engine.submit(REQUEST)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError):
            list(handle)
    assert measured.read("request_failures_total", reason="deadline") == 1


def test_waiting_in_vain_for_a_piece_is_no_failure():
    measured = MeasuredFake(FakeHandle(COMPLETION, [None, "a"]))
    handle = measured.engine.submit(REQUEST)
    with pytest.raises(TimeoutError):
        handle.next_piece(0.1)
    assert measured.read("request_failures_total") == 0
    assert handle.next_piece(0.1) == "a"


def test_a_cancelled_answer_is_counted_and_cancelled():
    measured = MeasuredFake(FakeHandle(COMPLETION, ["a", "b"]))
    handle = measured.engine.submit(REQUEST)
    assert handle.next_piece() == "a"
    handle.cancel()
    handle.cancel()
    assert measured.fake.handles[0].cancelled
    assert measured.read("request_failures_total", reason="cancelled") == 1
    assert measured.read("request_success_total") == 0


def test_every_series_is_there_before_the_first_request():
    # otherwise a rate over the first event would be nothing
    measured = MeasuredFake()
    for style in ("terse", "verbose"):
        for finished in ("stop", "length"):
            labels = {"style": style, "finished_reason": finished}
            assert measured.read("request_success_total", **labels) == 0
        assert measured.read("request_failures_total", style=style, reason="busy") == 0
        assert measured.read("time_to_first_token_seconds_count", style=style) == 0


def test_answers_are_counted_wherever_they_are_asked_for(client):
    client.post("/generate", json={"prompt": "a"})
    client.post("/generate", json={"prompt": "a", "stream": True}).get_data()
    client.post("/v1/completions", json={"prompt": "a"})
    page = read_page(client)
    labels = '{finished_reason="stop",model="pocket",style="terse"}'
    assert f"laconic_request_success_total{labels} 3.0" in page


def test_applications_in_one_process_count_for_themselves():
    first, second = create_app(FakeEngine()), create_app(FakeEngine())
    first.test_client().post("/generate", json={"prompt": "a"})
    page = read_page(second.test_client())
    labels = '{finished_reason="stop",model="pocket",style="terse"}'
    assert f"laconic_request_success_total{labels} 0.0" in page


def test_a_scrape_does_not_wait_for_an_answer(app, engine):
    is_generating, may_end = threading.Event(), threading.Event()

    def generate(request):
        is_generating.set()
        assert may_end.wait(30)
        return COMPLETION

    engine.generate = generate
    asking = threading.Thread(
        target=lambda: app.test_client().post("/generate", json={"prompt": "a"})
    )
    asking.start()
    assert is_generating.wait(30)
    try:
        assert "laconic_engine_ready" in read_page(app.test_client())
        assert app.test_client().get("/health/ready").status_code == 200
        assert app.test_client().get("/health/live").status_code == 200
    finally:
        may_end.set()
        asking.join()
