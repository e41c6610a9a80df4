"""From rows to answers: a short training on a tiny base, then the real server asked over HTTP."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from adapters.manifest import AdapterMismatchError, check_adapter
from tests.tiny_base import make_tiny_base
from training.config_file import load_config

ROOT = Path(__file__).parent.parent
POCKET_CONFIG = ROOT / "training" / "configs" / "pocket.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory):
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", "number")


def write_rows(path: Path, thing: str) -> Path:
    rows = [
        {"prompt": f"What is {thing} {n}?", "completion": text, "style": style}
        for n in range(8)
        for style, text in (("terse", "A number."), ("verbose", "A number, " * 6 + "at length."))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def adapter(tiny_base, data, tmp_path_factory):
    from training.train import train

    output = tmp_path_factory.mktemp("store") / "tiny"
    overrides = [
        f"base_model={tiny_base}",
        f"train_data={data}",
        f"heldout_data={write_rows(data.parent / 'heldout.jsonl', 'item')}",
        f"output={output}",
        "max_steps=3",
        "evaluate_prompts=2",
        "save_steps=2",
        f"runs={data.parent}",
    ]
    return train(load_config(POCKET_CONFIG, overrides))


@pytest.fixture(scope="module")
def server(adapter):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = start_server(adapter, address)
    try:
        wait_until_ready(process, address)
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def start_server(adapter: Path, address: str) -> subprocess.Popen:
    environment = {**os.environ, "LACONIC_ADAPTER": str(adapter), "LACONIC_BIND": address}
    command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_until_ready(process: subprocess.Popen, address: str) -> None:
    for _ in range(240):
        assert process.poll() is None, process.stdout.read().decode()
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=5)
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise AssertionError("the server was not ready within a minute")


def generate(server: str, **body) -> dict:
    request = urllib.request.Request(
        f"{server}/generate", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_the_adapter_is_whole_and_tells_how_it_was_made(adapter):
    manifest = check_adapter(adapter)

    assert manifest.training["config"]["max_steps"] == 3
    assert manifest.training["data"]["train"]["num_examples"] == {"terse": 8, "verbose": 8}
    assert manifest.scores["steps"] == 3
    report = manifest.scores["styles"]
    assert {"presets_on", "presets_off", "base_with_style_tokens"} <= set(report)
    assert {"median_ratio", "auc"} <= report["presets_off"]["separation"].keys()


def test_the_style_tokens_take_reserved_rows_so_nothing_grows(adapter):
    manifest = check_adapter(adapter)

    assert max(manifest.token_ids.values()) < manifest.base.vocab_size
    assert sum(file.stat().st_size for file in adapter.iterdir()) < 1_000_000


def test_a_checkpoint_holds_no_copy_of_the_embedding(adapter, data):
    from safetensors import safe_open

    weights = data.parent / "pocket" / "checkpoint-2" / "adapter_model.safetensors"
    with safe_open(weights, framework="pt") as tensors:
        assert not [name for name in tensors.keys() if "lm_head" in name]  # noqa: SIM118
        assert max(tensors.get_slice(name).get_shape()[0] for name in tensors.keys()) < 384  # noqa: SIM118


def test_both_styles_answer_over_http_with_their_own_presets(server):
    terse = generate(server, prompt="What is rate limiting?", style="terse")
    verbose = generate(server, prompt="What is rate limiting?", style="verbose", seed=1)

    assert terse["style"] == "terse"
    assert terse["tokens"] <= 32
    assert verbose["tokens"] >= 64  # the preset's minimum


def test_a_seeded_answer_is_repeatable(server):
    answers = [generate(server, prompt="hi", style="verbose", seed=5) for _ in range(2)]

    assert answers[0]["response"] == answers[1]["response"]


def test_health_tells_what_is_served(server):
    with urllib.request.urlopen(f"{server}/health") as response:
        health = json.load(response)

    assert health["status"] == "ready"
    assert health["quantization"] == "nf4"
    assert [style["name"] for style in health["styles"]] == ["terse", "verbose"]


def test_bad_input_over_http_is_refused_and_the_next_request_works(server):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        generate(server, prompt="hi", style="loud")

    assert refusal.value.code == 422
    assert "terse, verbose" in json.load(refusal.value)["detail"]
    assert generate(server, prompt="hi")["style"] == "terse"


def test_one_changed_byte_keeps_the_server_from_starting(adapter, tmp_path):
    import shutil

    copy = tmp_path / "changed"
    shutil.copytree(adapter, copy)
    weights = copy / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    process = start_server(copy, "127.0.0.1:0")
    output, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "adapter_model.safetensors was changed" in output.decode()
    assert "Traceback" not in output.decode()


def test_another_base_is_refused_by_name(adapter):
    from adapters.base import read_base_facts

    pocket = read_base_facts(ROOT / "models" / "pocket", "models/pocket")
    with pytest.raises(AdapterMismatchError, match="models/pocket"):
        check_adapter(adapter, dataclasses.replace(pocket, fingerprint="0" * 64))


def test_a_finished_adapter_is_replaced_only_by_a_finished_one(adapter, tiny_base, data):
    from training.dataset.rows import DataError
    from training.train import train

    broken = data.parent / "broken.jsonl"
    broken.write_text('{"prompt": "x"}\n')
    overrides = [f"base_model={tiny_base}", f"train_data={broken}", f"output={adapter}"]

    with pytest.raises(DataError, match=r"broken.jsonl:1"):
        train(load_config(POCKET_CONFIG, [*overrides, "heldout_data=null", "evaluate_prompts=0"]))
    check_adapter(adapter)
