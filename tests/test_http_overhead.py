"""The benchmark of the overhead runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_benchmark_asks_a_real_server_and_ends_with_a_line_of_json():
    command = [sys.executable, "-m", "bench.http_overhead", "--requests", "40", "--clients", "2"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [row["clients"] for row in report["rows"]] == [1, 1, 1, 1, 2]
    assert report["p50_ms"] == report["rows"][1]["p50_ms"] > 0
    assert all(row["p99_ms"] >= row["p50_ms"] for row in report["rows"])
