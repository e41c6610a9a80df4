"""Data sets that are named by a hub id."""

import os
import subprocess
import sys

import pytest

from tests.training.conftest import ROOT
from training.dataset.hub import read_hub


class FakeHub:
    """Remembers what it is asked for, and answers or fails."""

    def __init__(self, *rows, error=None):
        self.rows = list(rows)
        self.error = error
        self.asked = []

    def load(self, name, split):
        self.asked.append((name, split))
        if self.error is not None:
            raise self.error
        return self.rows


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/name", ("owner/name", "train")),
        ("owner/name:test", ("owner/name", "test")),
        ("owner/name:train[:10%]", ("owner/name", "train[:10%]")),
    ],
)
def test_a_hub_id_may_name_a_split(source, expected):
    hub = FakeHub({"prompt": "a"})

    assert read_hub(source, hub.load) == [{"prompt": "a"}]
    assert hub.asked == [expected]


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError(""), Exception("x")])
def test_a_hub_out_of_reach_is_one_clear_error(monkeypatch, error):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub = FakeHub(error=error)

    with pytest.raises(OSError, match="could not be had from the hub") as caught:
        read_hub("owner/name", hub.load)

    assert (str(error) or "ValueError") in str(caught.value)
    assert "name the file" in str(caught.value)
    assert "HF_HUB_OFFLINE" not in str(caught.value)


def test_being_offline_on_purpose_is_told(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = FakeHub(error=ConnectionError("offline"))

    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set; unset it, or download"):
        read_hub("owner/name", hub.load)


@pytest.mark.slow
def test_the_library_itself_is_answered_the_same_way():
    command = [sys.executable, "-m", "training", "data", "check", "nobody/nothing"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert result.returncode == 1
    assert "nobody/nothing: could not be had from the hub" in result.stdout
    assert "HF_HUB_OFFLINE is set" in result.stdout
    assert "Traceback" not in result.stderr
