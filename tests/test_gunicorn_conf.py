"""What gunicorn.conf.py sets and refuses; tests/app/test_server_*.py run it in real servers."""

import socket
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from app import create_app
from app.auth.keys import make_key
from tests.fakes import FakeEngine

FILE = Path(__file__).parent.parent / "gunicorn.conf.py"


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, of which there are none of ours before."""
    for name in ("LACONIC_BIND", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.fixture
def load(environment):
    """Reads the file as gunicorn does; no adapter is looked at unless a test says so."""

    def read(check_start=lambda config: None):
        names = {"__file__": str(FILE)}
        exec(compile(FILE.read_text(encoding="utf-8"), str(FILE), "exec"), names)
        names["check_start"] = check_start
        names["logs"] = SimpleNamespace(configure=lambda config: None)
        return SimpleNamespace(**{n: v for n, v in names.items() if not n.startswith("__")})

    return read


def server(conf, **settings):
    """As much of gunicorn's arbiter as the hooks use, with the settings of the file."""
    cfg = Config()
    known = {name: value for name, value in vars(conf).items() if name in cfg.settings}
    for name, value in {**known, **settings}.items():
        cfg.set(name, value)
    return SimpleNamespace(cfg=cfg, LISTENERS=[])


def refusal(conf, **settings):
    with pytest.raises(SystemExit) as caught:
        conf.on_starting(server(conf, **settings))
    return caught.value.code


def test_there_are_threads_for_all_requests_and_for_slow_clients_besides(load, environment):
    environment("LACONIC_MAX_BATCH_SIZE", "8")
    environment("LACONIC_QUEUE_SIZE", "100")
    conf = load()
    started = server(conf)
    conf.on_starting(started)
    assert started.cfg.threads >= 8 + 100 + 200
    assert started.cfg.worker_connections > started.cfg.threads


def test_the_grace_is_longer_than_the_drain(load, environment):
    environment("LACONIC_DRAIN_SECONDS", "7.5")
    conf = load()
    started = server(conf)
    conf.on_starting(started)
    assert 7.5 < started.cfg.graceful_timeout < 15


def test_settings_survive_a_reload(load):
    conf = load()
    reloaded = server(conf)
    conf.on_reload(reloaded)
    assert reloaded.cfg.threads > 200


def test_more_than_one_worker_is_refused_with_the_reason(load):
    assert "one process owns the model" in refusal(load(), workers=2)


def test_a_signal_for_one_more_worker_changes_nothing(load):
    warnings = []
    log = SimpleNamespace(warning=lambda *words: warnings.append(words))
    asked = SimpleNamespace(num_workers=2, log=log)
    load().nworkers_changed(asked, 2, 1)
    assert asked.num_workers == 1
    assert warnings


def test_the_number_of_workers_at_the_start_is_left_to_be_refused(load):
    asked = SimpleNamespace(num_workers=2)
    load().nworkers_changed(asked, 2, None)
    assert asked.num_workers == 2


def test_only_this_machine_is_served_by_default(load):
    conf = load()
    conf.on_starting(server(conf))
    assert conf.bind == "127.0.0.1:8000"


def test_a_public_address_without_keys_is_refused(load, environment):
    environment("LACONIC_BIND", "0.0.0.0:8000")
    assert "LACONIC_API_KEYS_FILE" in refusal(load())


def test_the_command_line_cannot_open_the_server_either(load):
    assert "LACONIC_API_KEYS_FILE" in refusal(load(), bind=["127.0.0.1:8000", "[::]:8001"])


def test_a_public_address_with_keys_is_served(load, environment, tmp_path):
    (tmp_path / "keys").write_text(make_key("ann")[1], encoding="utf-8")
    environment("LACONIC_BIND", "0.0.0.0:8000")
    environment("LACONIC_API_KEYS_FILE", str(tmp_path / "keys"))
    conf = load()
    conf.on_starting(server(conf))


def test_a_wrong_file_of_keys_stops_the_start(load, environment, tmp_path):
    environment("LACONIC_API_KEYS_FILE", str(tmp_path / "missing"))
    assert "cannot be read" in refusal(load())


def test_an_adapter_that_cannot_be_served_stops_the_start(load):
    def check(config):
        raise FileNotFoundError("no such adapter")

    assert refusal(load(check)) == "laconic cannot start: no such adapter"


def test_an_inherited_public_socket_without_keys_is_refused(load):
    conf = load()
    started = server(conf)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        started.LISTENERS = [SimpleNamespace(sock=listener)]
        with pytest.raises(SystemExit) as caught:
            conf.when_ready(started)
    assert "LACONIC_API_KEYS_FILE" in caught.value.code


def test_accepted_connections_have_time_limits(load):
    conf = load()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = SimpleNamespace(LISTENERS=[SimpleNamespace(sock=listener)])
        conf.pre_fork(started, None)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                raw = accepted.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("ll"))
                assert 0 < struct.unpack("ll", raw)[0] <= 10


def test_headers_are_limited_and_no_control_socket_is_opened(load):
    cfg = server(load()).cfg
    assert 0 < cfg.limit_request_field_size <= 8190
    assert 0 < cfg.limit_request_line <= 4094
    assert cfg.limit_request_fields <= 100
    assert cfg.control_socket_disable
    assert not cfg.preload_app


def test_the_engine_ends_with_the_worker_and_what_still_runs_is_cut(load):
    app, calls = create_app(FakeEngine()), []
    drain = app.extensions["drain"]
    app.extensions["stop_engine"] = lambda: calls.append(drain.is_over)
    load().worker_exit(None, SimpleNamespace(wsgi=app))
    assert calls == [True]


def test_a_worker_without_an_application_can_end(load):
    load().worker_exit(None, SimpleNamespace(wsgi=None))
