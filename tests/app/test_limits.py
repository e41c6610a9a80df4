import pytest

from app import create_app, limits
from app.auth.keys import make_key
from app.config import WebConfig
from app.limits import Buckets, Permits
from tests.app.problems import read_problem
from tests.fakes import COMPLETION, FakeEngine, FakeHandle

BODY = {"prompt": "a"}
STREAM = {"prompt": "a", "stream": True}


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def client_with(*script, **settings):
    return create_app(FakeEngine(*script), WebConfig(**settings)).test_client()


def ask(client, body=None, address="192.0.2.1", **options):
    """The answer, which is still under way unless `buffered` is given."""
    body = BODY if body is None else body
    return client.post("/generate", json=body, environ_base={"REMOTE_ADDR": address}, **options)


def test_a_full_bucket_gives_a_minutes_worth_at_once_and_then_says_when(clock):
    buckets = Buckets(3, clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(20)


def test_a_bucket_fills_again_evenly(clock):
    buckets = Buckets(3, clock)
    for _ in range(3):
        buckets.take("a")
    clock.seconds += 19
    assert buckets.take("a") == pytest.approx(1)
    clock.seconds += 1.01
    assert buckets.take("a") == 0
    assert buckets.take("a") > 19


def test_a_refused_request_costs_nothing(clock):
    buckets = Buckets(1, clock)
    buckets.take("a")
    for _ in range(50):
        buckets.take("a")
    clock.seconds += 60.1
    assert buckets.take("a") == 0


def test_a_bucket_never_holds_more_than_a_minutes_worth(clock):
    buckets = Buckets(2, clock)
    buckets.take("a")
    clock.seconds += 3600
    assert [buckets.take("a") for _ in range(2)] == [0, 0]
    assert buckets.take("a") > 0


def test_callers_have_buckets_of_their_own(clock):
    buckets = Buckets(1, clock)
    assert [buckets.take("a"), buckets.take("b")] == [0, 0]


def test_only_so_many_callers_are_remembered_and_the_busy_ones_first(clock, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CALLERS", 3)
    buckets = Buckets(1, clock)
    for caller in ("a", "b", "c", "a", "d"):  # b has been silent for longest
        buckets.take(caller)
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


def test_permits_are_given_out_up_to_the_limit_and_again_once_given_back():
    permits = Permits(2)
    assert [permits.acquire("a") for _ in range(3)] == [True, True, False]
    assert permits.acquire("b")
    permits.release("a")
    assert [permits.acquire("a") for _ in range(2)] == [True, False]


def test_callers_without_permits_are_forgotten():
    permits = Permits(1)
    permits.acquire("a")
    permits.release("a")
    assert vars(permits)["_held"] == {}


def test_too_many_requests_in_a_minute_are_refused():
    client = client_with(requests_per_minute=2)
    assert [ask(client).status_code for _ in range(2)] == [200, 200]
    answer = ask(client)
    read_problem(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert ask(client, address="192.0.2.2").status_code == 200


def test_a_refusal_under_v1_has_the_shape_of_openai():
    client = client_with(requests_per_minute=1)
    client.get("/v1/models")
    answer = client.get("/v1/models")
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)
    assert answer.get_json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("path", ["/health", "/health/live", "/v2/health/ready", "/"])
def test_public_routes_have_no_limits(path):
    client = client_with(requests_per_minute=1, concurrent_requests=1)
    ask(client, STREAM)
    assert [client.get(path).status_code for _ in range(4)] == [200] * 4


def test_keys_share_an_address_but_no_limit(tmp_path):
    keys = [make_key(name) for name in ("ann", "bob")]
    (tmp_path / "keys").write_text("\n".join(line for _, line in keys), encoding="utf-8")
    client = client_with(requests_per_minute=1, api_keys_file=tmp_path / "keys")
    for key, _ in keys:
        headers = {"Authorization": f"Bearer {key}"}
        assert ask(client, headers=headers).status_code == 200
        assert ask(client, headers=headers).status_code == 429


def test_who_has_no_key_is_refused_before_being_counted(tmp_path):
    (tmp_path / "keys").write_text(make_key("ann")[1], encoding="utf-8")
    client = client_with(requests_per_minute=1, api_keys_file=tmp_path / "keys")
    assert [ask(client).status_code for _ in range(3)] == [401] * 3


def test_a_stream_holds_its_permit_until_it_is_read_to_the_end():
    client = client_with(concurrent_requests=1)
    stream = ask(client, STREAM)
    answer = ask(client)
    read_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    answer.close()
    stream.get_data()
    stream.close()
    assert ask(client).status_code == 200


def test_a_stream_that_is_given_up_gives_its_permit_back_and_only_one():
    client = client_with(concurrent_requests=1)
    ask(client, STREAM).close()
    held = ask(client, STREAM)
    assert ask(client).status_code == 429
    held.close()


@pytest.mark.parametrize(
    "failure", [RuntimeError(), FakeHandle(RuntimeError()), FakeHandle(RuntimeError(), ["A "])]
)
@pytest.mark.parametrize("body", [BODY, STREAM, {"prompt": 1}])
def test_a_failure_gives_the_permit_back(failure, body):
    client = client_with(failure, concurrent_requests=1)
    ask(client, body, buffered=True)
    assert ask(client, buffered=True).status_code != 429


def test_a_failure_outside_of_any_route_gives_the_permit_back():
    app = create_app(FakeEngine(COMPLETION), WebConfig(concurrent_requests=1))

    failures = [KeyboardInterrupt()]  # no handler of errors sees it

    def fail_once(response):
        if failures:
            raise failures.pop()
        return response

    app.after_request(fail_once)
    with pytest.raises(KeyboardInterrupt):
        ask(app.test_client())
    assert ask(app.test_client()).status_code == 200


def test_a_refused_request_holds_no_permit():
    client = client_with(concurrent_requests=1)
    stream = ask(client, STREAM)
    for _ in range(3):
        ask(client, buffered=True)
    stream.close()
    assert ask(client).status_code == 200
