import json

import pytest

from tests.training.shapes import SMALL, write_base
from training.compose import POCKET_FOLDER
from training.resources.model_shape import Linear, read_shape


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


def change_config(base, **values):
    path = base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_shape_of_a_base_is_read_from_its_files(base):
    shape = read_shape(base)

    assert set(shape.linears) == set(SMALL.linears)
    assert shape.num_linear_weights == 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    assert shape.num_other_weights == 2 * 6144 * 64 + 5 * 64
    assert (shape.num_layers, shape.hidden_size, shape.intermediate_size) == (2, 64, 96)
    assert (shape.num_heads, shape.head_size, shape.vocab_size) == (4, 16, 6144)
    assert shape.key_size == 32


def test_the_bundled_base_has_heads_wider_than_its_layers():
    shape = read_shape(POCKET_FOLDER)

    assert (shape.hidden_size, shape.query_size) == (384, 384)
    assert shape.num_layers == 7
    assert Linear("mlp", "down_proj", 960, 384) in shape.linears


def test_a_head_size_of_its_own_is_used(base):
    change_config(base, head_dim=32)

    assert read_shape(base).query_size == 128


def test_the_decoder_of_a_model_for_more_than_text_is_found(base):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({"text_config": config, "vision_config": {}}))

    assert read_shape(base).num_layers == 2


def test_a_missing_size_is_named(base):
    config = json.loads((base / "config.json").read_text())
    del config["num_hidden_layers"]
    (base / "config.json").write_text(json.dumps(config))

    with pytest.raises(ValueError, match="num_hidden_layers"):
        read_shape(base)


@pytest.mark.parametrize("text", ["{", "[]", '"text"'])
def test_a_damaged_config_is_no_traceback(base, text):
    (base / "config.json").write_text(text)

    with pytest.raises(ValueError, match=r"config\.json"):
        read_shape(base)


def test_a_folder_without_weights_is_refused(base):
    (base / "model.safetensors").unlink()

    with pytest.raises(FileNotFoundError, match=r"holds no .*safetensors"):
        read_shape(base)


def test_a_weight_file_that_broke_off_is_refused(base):
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_shape(base)


def test_weights_of_something_else_are_refused(base):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"conv.weight": np.zeros((2, 2))}, base / "model.safetensors")

    with pytest.raises(ValueError, match="no matrices of a first layer"):
        read_shape(base)
