import json

import pytest

from tests.training.shapes import SMALL, settings, write_base
from training.resources.checkup.base_model import check_base, find_base


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


def offline(name):
    raise OSError(f"nobody answers about {name}")


def never_asked(name):
    raise AssertionError(f"the hub was asked for {name}")


def test_a_folder_is_found_without_asking_the_hub(base):
    assert find_base(settings(base_model=str(base)), never_asked) == (base, [])


def test_nothing_is_downloaded(monkeypatch):
    asked = []

    def fake_download(name, *, allow_patterns, local_files_only):
        asked.append((name, local_files_only))
        raise OSError("not here")

    monkeypatch.setattr("serving.startup.snapshot_download", fake_download)

    find_base(settings(base_model="owner/model"), offline)

    assert asked == [("owner/model", True)]


def test_a_model_of_the_hub_is_a_warning_with_the_size_of_the_download():
    folder, [finding] = find_base(settings(base_model="owner/model"), lambda name: 14_500_000_000)

    assert folder is None
    assert finding.level == "warning"
    assert "14.5 GB" in finding.text
    assert "hf download owner/model" in finding.fix


def test_a_model_that_the_hub_does_not_give_is_a_problem_with_its_reason():
    folder, [finding] = find_base(settings(base_model="owner/model"), offline)

    assert folder is None
    assert finding.level == "problem"
    assert "nobody answers about owner/model" in finding.text


def test_a_whole_base_is_fine(base):
    shape, [finding] = check_base(base, settings())

    assert shape is not None
    assert set(shape.linears) == set(SMALL.linears)
    assert finding.level == "ok"
    assert "MistralForCausalLM" in finding.text


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_a_problem(base, name):
    (base / name).unlink()

    shape, [finding] = check_base(base, settings())

    assert shape is None
    assert finding.level == "problem"
    assert finding.fix


def test_a_download_that_broke_off_is_a_problem(base):
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    shape, [finding] = check_base(base, settings())

    assert shape is None
    assert "model.safetensors" in finding.text


def test_every_missing_shard_is_named(base):
    shards = ["model.safetensors", "model-2.safetensors", "model-3.safetensors"]
    index = {"weight_map": {f"weight {number}": shard for number, shard in enumerate(shards)}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))

    _, findings = check_base(base, settings())

    assert [finding.text.split()[-1] for finding in findings] == sorted(shards[1:])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 5}'])
def test_a_damaged_list_of_shards_is_a_problem(base, text):
    (base / "model.safetensors.index.json").write_text(text)

    _, [finding] = check_base(base, settings())

    assert "model.safetensors.index.json is damaged" in finding.text


def test_matrices_to_train_that_the_base_lacks_are_a_problem(base):
    _, [finding] = check_base(base, settings(target_modules=("c_attn",)))

    assert "no c_attn" in finding.text
    assert "target_modules" in finding.fix
