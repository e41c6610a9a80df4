import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import create_app
from app.config import WebConfig
from tests.app.problems import read_problem
from tests.fakes import FakeEngine

ROOT = Path(__file__).parents[2]

WSGI_PROBE = """
import json, logging, threading
import wsgi
report = {
    "imported": True,
    "has an application": "app" in vars(wsgi),
    "threads": [thread.name for thread in threading.enumerate()],
    "log handlers": len(logging.getLogger().handlers),
    "has another name": hasattr(wsgi, "application"),
}
try:
    wsgi.app
except ValueError as error:
    report["error of the application"] = str(error)
print(json.dumps(report))
"""


def run_python(code, **environment):
    """Run code in a fresh interpreter, where nothing is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_routes_are_frozen(app):
    routes = {rule.rule: rule.methods for rule in app.url_map.iter_rules()}
    assert routes == {
        "/generate": {"POST", "OPTIONS"},
        "/api/ai-echo/chat": {"POST", "OPTIONS"},
        "/api/ai-echo/stream": {"POST", "OPTIONS"},
        "/api/training/status": {"GET", "HEAD", "OPTIONS"},
        "/v1/models": {"GET", "HEAD", "OPTIONS"},
        "/v1/models/<path:model>": {"GET", "HEAD", "OPTIONS"},
        "/v1/chat/completions": {"POST", "OPTIONS"},
        "/v1/completions": {"POST", "OPTIONS"},
        "/health": {"GET", "HEAD", "OPTIONS"},
        "/health/live": {"GET", "HEAD", "OPTIONS"},
        "/health/ready": {"GET", "HEAD", "OPTIONS"},
        "/v2/health/live": {"GET", "HEAD", "OPTIONS"},
        "/v2/health/ready": {"GET", "HEAD", "OPTIONS"},
        "/metrics": {"GET", "HEAD", "OPTIONS"},
        "/openapi.json": {"GET", "HEAD", "OPTIONS"},
        "/docs": {"GET", "HEAD", "OPTIONS"},
        "/": {"GET", "HEAD", "OPTIONS"},
        "/static/<path:name>": {"GET", "HEAD", "OPTIONS"},
    }


def test_a_longest_prompt_in_any_script_fits_into_the_largest_body():
    # UTF-8 takes at most four bytes a character; the rest is for keys and other fields.
    assert WebConfig().max_body_bytes > 4 * WebConfig().max_prompt_characters


def test_a_setting_replaces_the_default(engine):
    client = create_app(engine, WebConfig(max_body_bytes=10)).test_client()
    detail = read_problem(client.post("/generate", json={"prompt": "a"}), 413)["detail"]
    assert detail == "The body is larger than 10 bytes."


def test_a_setting_for_the_longest_prompt_is_obeyed(engine):
    client = create_app(engine, WebConfig(max_prompt_characters=3)).test_client()
    problem = read_problem(client.post("/generate", json={"prompt": "four"}), 422)
    assert problem["errors"] == {"prompt": ["Has 4 characters; at most 3 are accepted."]}


def test_an_application_under_test_still_hides_unexpected_errors():
    app = create_app(FakeEngine(RuntimeError("secret")))
    app.config["TESTING"] = True
    read_problem(app.test_client().post("/generate", json={"prompt": "a"}), 500)


def test_applications_in_one_process_keep_their_own_engines():
    first, second = FakeEngine(), FakeEngine()
    create_app(first)
    create_app(second).test_client().post("/generate", json={"prompt": "a"})
    assert (len(first.requests), len(second.requests)) == (0, 1)


@pytest.mark.slow
def test_the_web_app_imports_no_model_library():
    loaded = run_python("import app, sys; print(*sys.modules)").split()
    assert "flask" in loaded
    heavy = {"torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl"}
    assert heavy.isdisjoint(loaded)


@pytest.fixture(scope="module")
def wsgi_report():
    """What a fresh interpreter saw of wsgi.py, in one run as it imports torch (seconds)."""
    return json.loads(run_python(WSGI_PROBE, LACONIC_TYPO="1"))


@pytest.mark.slow
def test_importing_wsgi_reads_no_setting(wsgi_report):
    # Had it read the environment, the unknown variable would have stopped the import.
    assert wsgi_report["imported"]


@pytest.mark.slow
def test_importing_wsgi_builds_no_application(wsgi_report):
    assert not wsgi_report["has an application"]


@pytest.mark.slow
def test_importing_wsgi_starts_no_thread(wsgi_report):
    assert wsgi_report["threads"] == ["MainThread"]


@pytest.mark.slow
def test_importing_wsgi_leaves_logging_to_whoever_imports_it(wsgi_report):
    assert wsgi_report["log handlers"] == 0


@pytest.mark.slow
def test_wsgi_has_no_other_lazy_names(wsgi_report):
    assert not wsgi_report["has another name"]


@pytest.mark.slow
def test_asking_wsgi_for_its_application_reads_the_settings(wsgi_report):
    assert "LACONIC_TYPO" in wsgi_report["error of the application"]
