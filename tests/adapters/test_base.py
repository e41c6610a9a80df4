import json
import shutil
import struct

import pytest

from adapters.base import read_base_facts

# Large enough that the slices read from a shard leave gaps between them.
DATA = bytes(range(256)) * 4096
CONFIG = {"architectures": ["TinyForCausalLM"], "vocab_size": 400, "hidden_size": 16}


def write_weights(path, data=DATA, tensor="weight"):
    """A safetensors file with one tensor of bytes."""
    header = json.dumps(
        {tensor: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    )
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)


def with_changed(data, start, end):
    """The same bytes, each one changed from `start` to `end` (parts of the whole, 0 to 1)."""
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(byte ^ 255 for byte in data[first:last]) + data[last:]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    write_weights(folder / "model.safetensors")
    return folder


@pytest.fixture
def two_shards(folder):
    (folder / "model.safetensors").unlink()
    write_weights(folder / "model-00001-of-00002.safetensors", tensor="first")
    write_weights(folder / "model-00002-of-00002.safetensors", tensor="second")
    return folder


def fingerprint(folder):
    return read_base_facts(folder, "tiny").fingerprint


def test_the_facts_name_the_architecture_and_the_size_of_the_vocabulary(folder):
    facts = read_base_facts(folder, "models/tiny")
    assert (facts.name, facts.architecture, facts.vocab_size) == (
        "models/tiny",
        "TinyForCausalLM",
        400,
    )


def test_a_model_of_text_and_images_has_the_vocabulary_of_its_text_part(folder):
    (folder / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 77}}))
    assert read_base_facts(folder, "tiny").vocab_size == 77


def test_an_architecture_nobody_named_is_unknown(folder):
    (folder / "config.json").write_text('{"vocab_size": 400}')
    assert read_base_facts(folder, "tiny").architecture == "unknown"


def test_a_fingerprint_is_a_sha256(folder):
    assert len(bytes.fromhex(fingerprint(folder))) == 32


def test_a_copied_folder_has_the_same_facts(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert read_base_facts(copy, "tiny") == read_base_facts(folder, "tiny")


def test_the_fingerprint_of_a_model_is_the_same_in_every_release(folder):
    # Every adapter carries a fingerprint; another way to count it would shut them all out.
    (folder / "model.safetensors").unlink()
    for number in (3, 1, 5, 2, 4):
        write_weights(folder / f"model-{number}.safetensors", DATA[number:70_000])
    assert fingerprint(folder) == (
        "658f9762281b2dc67d90e7175b475804768c5bf81ef84ee4d85b5aa016b2c9cf"
    )


def test_files_that_say_nothing_about_the_model_do_not_count(folder):
    before = fingerprint(folder)
    (folder / "README.md").write_text("A small model.")
    assert fingerprint(folder) == before


def test_another_config_is_another_model(folder):
    before = fingerprint(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 1e6}))
    assert fingerprint(folder) != before


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_another_tokenizer_is_another_model(folder, name):
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(b"one")
    before = fingerprint(folder)
    (folder / name).write_bytes(b"two")
    assert fingerprint(folder) != before


def test_another_header_is_another_model(folder):
    before = fingerprint(folder)
    write_weights(folder / "model.safetensors", tensor="tensor")
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1 / 16), (0.47, 0.53), (0.5, 1), (15 / 16, 1), (0.01, 0.99)]
)
def test_a_fine_tune_of_any_part_is_another_model(folder, start, end):
    before = fingerprint(folder)
    write_weights(folder / "model.safetensors", with_changed(DATA, start, end))
    assert fingerprint(folder) != before


@pytest.mark.parametrize("size", [1, 5, 15, 16, 17, 1000])
def test_every_byte_of_a_very_small_shard_counts(folder, size):
    small = DATA[:size]
    write_weights(folder / "model.safetensors", small)
    before = fingerprint(folder)
    for position in range(size):
        changed = small[:position] + b"\xff" + small[position + 1 :]
        write_weights(folder / "model.safetensors", changed)
        assert (fingerprint(folder) == before) == (changed == small)


@pytest.mark.parametrize("number", [1, 2])
def test_a_change_in_any_shard_is_another_model(two_shards, number):
    before = fingerprint(two_shards)
    shard = two_shards / f"model-0000{number}-of-00002.safetensors"
    shard.write_bytes(with_changed(shard.read_bytes(), 0.45, 0.55))
    assert fingerprint(two_shards) != before


def test_a_model_without_its_second_shard_is_another_model(two_shards):
    before = fingerprint(two_shards)
    (two_shards / "model-00002-of-00002.safetensors").unlink()
    assert fingerprint(two_shards) != before


def test_two_shards_in_a_copied_folder_have_the_same_fingerprint(two_shards, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # The other way round, so that no order of the disk can play a part.
    for path in sorted(two_shards.iterdir(), reverse=True):
        shutil.copyfile(path, elsewhere / path.name)
    assert fingerprint(elsewhere) == fingerprint(two_shards)


@pytest.mark.parametrize("size", [0, 4, 7, 8, 20])
def test_weights_cut_off_in_the_header_are_malformed(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        fingerprint(folder)


@pytest.mark.parametrize("missing", [1, 1000, len(DATA) // 2, len(DATA)])
def test_weights_cut_off_in_the_data_are_malformed(folder, missing):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        fingerprint(folder)


def test_a_folder_without_weights_is_not_found(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        fingerprint(folder)


def test_pickled_weights_are_no_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        fingerprint(folder)


def test_a_folder_without_a_config_is_not_found(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        fingerprint(folder)


@pytest.mark.parametrize("text", ["", "{", '{"architectures": []}', '{"vocab_size": "many"}', "[]"])
def test_a_malformed_config_is_a_value_error(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011  the promise is the kind of error
        fingerprint(folder)
