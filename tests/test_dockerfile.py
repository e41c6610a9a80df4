"""The image is slim, runs as a plain user, and is checked for health; read off the Dockerfile."""

import json
import re
import shlex
from pathlib import Path

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


def test_health_is_checked_by_python_which_is_surely_there():
    (check,) = [rest for name, rest in last_stage() if name == "HEALTHCHECK"]
    words = json.loads(check[check.index("[") :])

    assert words[0] == "python"
    assert "/health" in words[-1]
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
