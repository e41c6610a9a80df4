"""The image is slim, runs as a plain user, and is checked for health; read off the Dockerfile."""

import json
import re
import shlex
from pathlib import Path

import pytest

from app.auth import check_addresses
from app.config import WebConfig
from serving.environment import BIND_VARIABLE, read_environment

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    starts = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    assert len(starts) >= 2  # the compilers of the first stage stay behind
    return found[starts[-1] :]


def test_every_stage_starts_from_a_slim_image_of_a_fixed_version():
    images = [rest.split()[0] for name, rest in instructions() if name == "FROM"]

    assert all(re.fullmatch(r"python:3\.\d+-slim", image) for image in images)


def test_the_server_runs_as_a_plain_user():
    users = [rest for name, rest in last_stage() if name == "USER"]

    assert users
    assert users[-1] not in {"root", "0"}


def test_the_command_is_in_exec_form_so_that_signals_reach_gunicorn():
    command = [rest for name, rest in last_stage() if name == "CMD"]

    assert [json.loads(rest) for rest in command] == [["gunicorn", "wsgi:app"]]


def settings_of_the_image():
    """The environment that the image sets, and what a server makes of it."""
    words = [word for name, rest in last_stage() if name == "ENV" for word in shlex.split(rest)]
    values = dict(word.split("=", 1) for word in words)
    mine = {name: value for name, value in values.items() if name.startswith("LACONIC_")}
    host, _, port = mine[BIND_VARIABLE].rpartition(":")
    return (host, int(port)), read_environment(mine, WebConfig)[0]


def test_the_server_listens_on_the_port_that_is_exposed_and_checked():
    (host, port), _ = settings_of_the_image()
    (check,) = [rest for name, rest in last_stage() if name == "HEALTHCHECK"]

    assert host == "0.0.0.0"  # nobody outside would reach the container otherwise
    assert [rest for name, rest in last_stage() if name == "EXPOSE"] == [str(port)]
    assert f"127.0.0.1:{port}/" in check


def test_the_image_starts_only_with_keys_or_when_openness_is_wanted():
    address, config = settings_of_the_image()

    with pytest.raises(ValueError, match="ALLOW_PUBLIC_WITHOUT_KEYS"):
        check_addresses([address], config)


def test_health_is_checked_by_python_which_is_surely_there():
    (check,) = [rest for name, rest in last_stage() if name == "HEALTHCHECK"]
    words = json.loads(check[check.index("[") :])

    assert words[0] == "python"
    # a busy or loading server must not be replaced
    assert "/health/live" in words[-1]
    compile(words[-1], "healthcheck", "exec")


def test_everything_that_is_copied_exists_and_every_package_is_copied():
    sources = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from=" not in rest
        for source in [word for word in shlex.split(rest) if not word.startswith("--")][:-1]
    ]

    assert not [source for source in sources if not (ROOT / source).exists()]
    assert {"app", "serving", "training", "adapters", "models", "wsgi.py"} <= set(sources)


def test_nothing_private_or_large_goes_into_the_build():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    assert {".git", ".venv", "adapters/store/*"} <= set(ignored)
