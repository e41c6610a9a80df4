"""Thousands of requests that Schemathesis makes up from the document, good ones and bad ones.

It asks a real server, and complains about every answer of 5xx, every status, header and body that
the document does not have, every good request that is refused and every bad one that is not, and
every route that forgets to ask for a key.
"""

import os
import re
import subprocess
import sys

import pytest

from app.auth.keys import make_key
from tests.app.document import DESCRIBED
from tests.app.servers import ROOT, Server

pytestmark = pytest.mark.slow

REQUESTS_PER_ROUTE = 60
"""At most, in each of several phases; the same in every run."""


@pytest.fixture
def locked(tmp_path):
    """A server that asks for a key, and the key."""
    key, entry = make_key("ann")
    (tmp_path / "keys").write_text(entry, encoding="utf-8")
    with Server(LACONIC_API_KEYS_FILE=str(tmp_path / "keys"), LACONIC_LOG_FORMAT="json") as server:
        yield server, key


def test_the_server_keeps_to_its_document_whatever_it_is_asked(locked, tmp_path):
    server, key = locked
    command = [sys.executable, "-m", "schemathesis.cli", "run"]
    command += [f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "all"]
    command += ["--generation-deterministic", "--max-examples", str(REQUESTS_PER_ROUTE)]
    command += ["--header", f"Authorization: Bearer {key}", "--continue-on-failure", "--no-color"]
    command += ["--output-sanitize", "false"]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.app.schemathesis_hooks", "PYTHONPATH": str(ROOT)}

    found = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True
    )

    assert found.returncode == 0, found.stdout + found.stderr
    routes = re.search(r"Operations: +(\d+) selected", found.stdout)
    assert int(routes[1]) == len(DESCRIBED) - 1  # it leaves out the document itself
    assert server.read_log().count('"event": "request"') > 10 * len(DESCRIBED)
