import pytest
from werkzeug.datastructures import WWWAuthenticate

from app import create_app
from app.auth import PUBLIC_ROUTES, caller, check_addresses
from app.auth.keys import make_key
from app.config import WebConfig
from tests.app.problems import read_problem
from tests.fakes import FakeEngine

EVERYWHERE = [("0.0.0.0", 8000), ("::", 8000), ("192.168.1.7", 80), ("", 80), ("a.example", 80), 3]
HERE = [("127.0.0.1", 8000), ("127.9.9.9", 1), ("::1", 8000), ("localhost", 80), "/run/app.sock"]


@pytest.fixture
def keys():
    """Two keys by name."""
    return {name: make_key(name) for name in ("ann", "bob")}


@pytest.fixture
def config(keys, tmp_path):
    file = tmp_path / "keys"
    file.write_text("".join(f"{line}\n" for _, line in keys.values()), encoding="utf-8")
    return WebConfig(api_keys_file=file)


@pytest.fixture
def guarded(config):
    """An application that asks for a key."""
    return create_app(FakeEngine(), config)


@pytest.fixture
def visitor(guarded):
    return guarded.test_client()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def address_of(rule):
    """A path that a rule matches."""
    return rule.rule.replace("<path:name>", "style.css").replace("<path:model>", "pocket")


def test_every_route_that_is_not_listed_as_public_needs_a_key(guarded, visitor):
    checked = []
    for rule in guarded.url_map.iter_rules():
        if rule.rule not in PUBLIC_ROUTES:
            for method in rule.methods - {"OPTIONS"}:
                assert visitor.open(address_of(rule), method=method).status_code == 401, rule
            checked.append(rule.rule)
    assert {"/generate", "/metrics", "/v1/models", "/v1/chat/completions"} <= set(checked)


def test_every_public_route_is_one_and_answers_without_a_key(guarded, visitor):
    rules = {rule.rule: rule for rule in guarded.url_map.iter_rules()}
    assert set(rules) >= PUBLIC_ROUTES
    for route in PUBLIC_ROUTES:
        assert visitor.get(address_of(rules[route])).status_code != 401, route


def test_a_route_that_is_added_later_needs_a_key(guarded, visitor):
    guarded.add_url_rule("/new", view_func=lambda: "secret")
    assert visitor.get("/new").status_code == 401


def test_an_unknown_address_does_not_say_that_it_is_unknown(visitor):
    assert visitor.get("/no/such/route").status_code == 401


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_each_key_of_the_file_is_accepted(visitor, keys, name):
    answer = visitor.post("/generate", json={"prompt": "a"}, headers=bearer(keys[name][0]))
    assert answer.status_code == 200


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_name_of_the_scheme_may_be_written_in_any_case(visitor, keys, scheme):
    headers = {"Authorization": f"{scheme} {keys['ann'][0]}"}
    assert visitor.post("/generate", json={"prompt": "a"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "make",
    [
        lambda key, line: "",
        lambda key, line: "Bearer",
        lambda key, line: "Bearer ",
        lambda key, line: f"Bearer {key[:-1]}",
        lambda key, line: f"Bearer {key}x",
        lambda key, line: f"Bearer {line.split()[1]}",  # the hash, for whoever reads the file
        lambda key, line: f"Bearer {key.upper()}",
        lambda key, line: f"Basic {key}",
        lambda key, line: f"Token {key}",
        lambda key, line: "Basic YW5uOmFubg==",
        lambda key, line: "Bearer \xff\xfe",
        lambda key, line: key,
    ],
)
def test_anything_but_a_known_key_is_refused(visitor, keys, make):
    headers = {"Authorization": make(*keys["ann"])}
    assert visitor.post("/generate", json={"prompt": "a"}, headers=headers).status_code == 401


def test_a_key_in_the_address_is_not_looked_at(visitor, keys):
    assert visitor.get(f"/metrics?api_key={keys['ann'][0]}").status_code == 401


def test_a_refusal_says_which_scheme_is_wanted(visitor):
    answer = visitor.post("/generate", json={"prompt": "a"})
    assert read_problem(answer, 401)["detail"].startswith("Send an API key")
    assert answer.www_authenticate == WWWAuthenticate("bearer", {"realm": "laconic"})


def test_a_refusal_under_v1_has_the_shape_of_openai(visitor):
    answer = visitor.post("/v1/chat/completions", json={}, headers=bearer("wrong"))
    assert answer.status_code == 401
    assert answer.get_json()["error"]["code"] == "invalid_api_key"
    assert answer.www_authenticate.type == "bearer"


def test_a_refused_request_never_reaches_the_engine(config):
    engine = FakeEngine()
    create_app(engine, config).test_client().post("/generate", json={"prompt": "a"})
    assert engine.requests == []


def test_a_browser_may_ask_what_it_may_send_without_a_key(visitor):
    assert visitor.options("/generate").status_code == 200
    assert visitor.options("/no/such/route").status_code == 401


def test_without_a_file_of_keys_everything_is_open(client):
    assert client.get("/metrics").status_code == 200


def test_a_caller_is_known_by_the_name_of_the_key(guarded, keys):
    guarded.add_url_rule("/whoami", view_func=caller)
    answer = guarded.test_client().get("/whoami", headers=bearer(keys["bob"][0]))
    assert answer.text == "key bob"


def test_a_caller_without_a_key_is_known_by_the_address(engine):
    app = create_app(engine)
    app.add_url_rule("/whoami", view_func=caller)
    answer = app.test_client().get("/whoami", environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert answer.text == "address 192.0.2.1"


@pytest.mark.parametrize("address", EVERYWHERE)
def test_an_address_that_others_reach_is_refused_without_keys(address):
    with pytest.raises(ValueError, match=r"LACONIC_API_KEYS_FILE.*PUBLIC_WITHOUT_KEYS=true"):
        check_addresses([("127.0.0.1", 8000), address], WebConfig())


@pytest.mark.parametrize("address", HERE)
def test_an_address_of_this_machine_needs_no_keys(address):
    check_addresses([address], WebConfig())


@pytest.mark.parametrize("address", EVERYWHERE)
def test_an_address_that_others_reach_is_fine_with_keys_or_when_wanted(address, config):
    check_addresses([address], config)
    check_addresses([address], WebConfig(allow_public_without_keys=True))
