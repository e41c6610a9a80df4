import dataclasses

import pytest

from tests.app.problems import read_problem
from tests.fakes import READY

KEYS = {
    "status",
    "detail",
    "model",
    "adapter",
    "adapter_version",
    "quantization",
    "device",
    "gpu_memory",
    "running",
    "waiting",
    "queue_size",
    "default_style",
    "styles",
}

NOT_READY = ["loading", "stalled", "failed", "dead", "stopped"]


def not_ready(state):
    return dataclasses.replace(READY, state=state, detail=f"the engine is {state}")


def test_a_ready_engine_is_healthy(client):
    response = client.get("/health")
    assert (response.status_code, response.mimetype) == (200, "application/json")


@pytest.mark.parametrize("state", NOT_READY)
def test_an_engine_that_cannot_answer_gives_503(client, engine, state):
    engine.snapshot = not_ready(state)
    assert client.get("/health").status_code == 503


def test_the_keys_are_frozen(client):
    assert set(client.get("/health").get_json()) == KEYS


@pytest.mark.parametrize("state", NOT_READY)
def test_the_keys_are_the_same_when_not_ready(client, engine, state):
    engine.snapshot = not_ready(state)
    assert set(client.get("/health").get_json()) == KEYS


@pytest.mark.parametrize("state", NOT_READY)
def test_a_reader_learns_why_the_engine_is_not_ready(client, engine, state):
    engine.snapshot = not_ready(state)
    health = client.get("/health").get_json()
    assert (health["status"], health["detail"]) == (state, f"the engine is {state}")


def test_health_reports_the_snapshot_of_the_engine(client):
    health = client.get("/health").get_json()
    del health["styles"]
    assert health == {
        "status": "ready",
        "detail": "",
        "model": "pocket",
        "adapter": "pocket-verbosity",
        "adapter_version": "1",
        "quantization": "nf4",
        "device": "cuda:0",
        "gpu_memory": 4.5,
        "running": 2,
        "waiting": 3,
        "queue_size": 32,
        "default_style": "terse",
    }


def test_gpu_memory_is_a_number_of_gigabytes_to_the_megabyte(client, engine):
    engine.snapshot = dataclasses.replace(READY, gpu_memory_gb=3.90149)
    assert client.get("/health").get_json()["gpu_memory"] == 3.901


def test_gpu_memory_is_zero_on_the_cpu(client, engine):
    engine.snapshot = dataclasses.replace(READY, device="cpu", gpu_memory_gb=0.0)
    assert client.get("/health").get_json()["gpu_memory"] == 0


def test_the_styles_are_listed_with_their_presets(client):
    assert client.get("/health").get_json()["styles"] == [
        {
            "name": "terse",
            "description": "One sentence that answers the question.",
            "preset": {
                "temperature": 0.1,
                "top_p": 0.95,
                "min_new_tokens": 0,
                "max_new_tokens": 32,
                "do_sample": True,
            },
        },
        {
            "name": "verbose",
            "description": "A structured explanation with background, an example and a limit.",
            "preset": {
                "temperature": 0.7,
                "top_p": 0.9,
                "min_new_tokens": 64,
                "max_new_tokens": 256,
                "do_sample": True,
            },
        },
    ]


def test_asking_for_health_generates_nothing(client, engine):
    client.get("/health")
    assert engine.requests == []


def test_a_probe_may_ask_without_wanting_the_body(client, engine):
    engine.snapshot = not_ready("loading")
    response = client.head("/health")
    assert (response.status_code, response.data) == (503, b"")


def test_an_engine_whose_status_fails_gives_a_problem_document(client, engine):
    engine.snapshot = RuntimeError("secret")
    assert "secret" not in read_problem(client.get("/health"), 500)["detail"]
