import dataclasses

import pytest

from app import create_app
from tests.app.problems import read_problem
from tests.fakes import READY

BEYOND_HELP = ["dead", "stalled"]
LIVE = ["loading", "ready", "failed", "stopped"]
UNREADY = ["loading", "failed", "stopped", *BEYOND_HELP]
ROUTES = ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"]
live_routes = pytest.mark.parametrize("route", [route for route in ROUTES if "live" in route])
ready_routes = pytest.mark.parametrize("route", [route for route in ROUTES if "ready" in route])


@pytest.fixture
def app(engine):
    """One for each test: some make it stop."""
    return create_app(engine)


def in_state(state, **values):
    detail = "" if state == "ready" else f"the engine is {state}"
    return dataclasses.replace(READY, state=state, detail=detail, **values)


def reasons(response):
    return {reason["code"]: reason["detail"] for reason in response.get_json()["reasons"]}


@pytest.mark.parametrize("route", ROUTES)
def test_a_ready_engine_satisfies_every_probe(client, route):
    assert client.get(route).status_code == 200


@live_routes
@pytest.mark.parametrize("state", LIVE)
def test_a_process_that_may_still_get_well_is_live(client, engine, route, state):
    engine.snapshot = in_state(state)
    assert client.get(route).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("state", BEYOND_HELP)
def test_a_dead_or_stuck_engine_satisfies_no_probe(client, engine, route, state):
    engine.snapshot = in_state(state)
    assert client.get(route).status_code == 503


@ready_routes
@pytest.mark.parametrize("state", UNREADY)
def test_only_a_ready_engine_is_ready(client, engine, route, state):
    engine.snapshot = in_state(state)
    assert client.get(route).status_code == 503


@live_routes
def test_a_full_queue_is_no_reason_to_be_restarted(client, engine, route):
    engine.snapshot = in_state("ready", num_waiting=32, queue_size=32)
    assert client.get(route).status_code == 200


@ready_routes
@pytest.mark.parametrize(("num_waiting", "status"), [(31, 200), (32, 503), (33, 503)])
def test_a_server_is_ready_until_its_queue_is_full(client, engine, route, num_waiting, status):
    engine.snapshot = in_state("ready", num_waiting=num_waiting, queue_size=32)
    assert client.get(route).status_code == status


@ready_routes
def test_a_server_that_is_about_to_stop_is_not_ready(app, client, route):
    app.extensions["drain"].begin()
    assert client.get(route).status_code == 503


@live_routes
def test_a_server_that_is_about_to_stop_is_live(app, client, route):
    app.extensions["drain"].begin()
    assert client.get(route).status_code == 200


def test_a_probe_that_succeeds_has_no_reasons(client):
    for route in ("/health/live", "/health/ready"):
        assert client.get(route).get_json() == {"ok": True, "reasons": []}


@pytest.mark.parametrize("state", BEYOND_HELP)
def test_a_dead_engine_says_so(client, engine, state):
    engine.snapshot = in_state(state)
    for route in ("/health/live", "/health/ready"):
        response = client.get(route)
        assert response.get_json()["ok"] is False
        assert reasons(response) == {state: f"the engine is {state}"}


def test_all_reasons_are_told_at_once(app, client, engine):
    app.extensions["drain"].begin()
    engine.snapshot = in_state("ready", num_waiting=40, queue_size=32)
    found = reasons(client.get("/health/ready"))
    assert set(found) == {"draining", "queue_full"}
    assert found["queue_full"] == "40 requests are waiting; at most 32 may"


def test_an_engine_that_is_still_loading_is_not_called_full(client, engine):
    # before it is loaded it has no queue
    engine.snapshot = in_state("loading", num_waiting=0, queue_size=0)
    assert set(reasons(client.get("/health/ready"))) == {"loading"}


@pytest.mark.parametrize("state", ["ready", "dead"])
def test_the_probes_of_the_open_inference_protocol_have_empty_bodies(client, engine, state):
    engine.snapshot = in_state(state)
    for route in ("/v2/health/live", "/v2/health/ready"):
        response = client.get(route)
        assert (response.mimetype, response.get_json()) == ("application/json", {})


@pytest.mark.parametrize("route", ROUTES)
def test_a_probe_generates_nothing(client, engine, route):
    client.get(route)
    assert engine.requests == []


@pytest.mark.parametrize("route", ROUTES)
def test_a_probe_may_ask_without_wanting_the_body(client, engine, route):
    engine.snapshot = in_state("dead")
    response = client.head(route)
    assert (response.status_code, response.data) == (503, b"")


@pytest.mark.parametrize("route", ROUTES)
def test_an_engine_whose_status_fails_satisfies_no_probe(client, engine, route):
    engine.snapshot = RuntimeError("secret")
    assert "secret" not in read_problem(client.get(route), 500)["detail"]
