"""Seconds from starting the server's process to its first 200 on `/health`, and to a first answer.

python -m bench.start_up                                            # the bundled adapter
python -m bench.start_up --adapter FOLDER --base-model FOLDER       # twice: the second is warm
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

ADDRESS = "127.0.0.1:8137"
PATIENCE_SECONDS = 300


def wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    """Poll `/health` until it is 200; raises RuntimeError if the server gives up before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"not ready within {PATIENCE_SECONDS} seconds")


def ask() -> dict[str, object]:
    """One answer."""
    request = urllib.request.Request(
        f"http://{ADDRESS}/generate",
        json.dumps({"prompt": "What is rate limiting?"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, object] = json.load(response)
    return answer


def main() -> int:
    """Start the server, wait, ask, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--adapter", default="")
    parser.add_argument("--base-model", default="")
    arguments = parser.parse_args()
    environment = {**os.environ, "LACONIC_BIND": ADDRESS}
    if arguments.adapter:
        environment["LACONIC_ADAPTER"] = arguments.adapter
    if arguments.base_model:
        environment["LACONIC_BASE_MODEL"] = arguments.base_model
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "gunicorn", "wsgi:app"], env=environment)
    try:
        wait_until_ready(process)
        ready = time.monotonic() - started
        answer = ask()
        answered = time.monotonic() - started
    finally:
        process.terminate()
        process.wait(30)
    print(json.dumps({"ready_seconds": ready, "answer_seconds": answered, "answer": answer}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
