import json
import shutil

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file

from serving.base_model import choose_device, compute_dtype, grow_embeddings, load_base

pytestmark = pytest.mark.slow

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")


def test_the_processor_can_always_be_chosen():
    assert choose_device("cpu") == torch.device("cpu")


@needs_no_cuda
def test_auto_is_the_processor_where_there_is_no_cuda():
    assert choose_device("auto") == torch.device("cpu")


@needs_no_cuda
def test_cuda_that_is_missing_is_refused():
    with pytest.raises(ValueError, match="no CUDA device"):
        choose_device("cuda")


def test_the_processor_computes_in_full_precision():
    assert compute_dtype(torch.device("cpu")) == torch.float32


def test_unquantized_weights_are_those_of_the_file(tiny):
    want = load_file(tiny.base / "model.safetensors")
    have = load_base(tiny.base, "cpu", "none").state_dict()
    assert have.keys() == want.keys()
    assert all(torch.equal(have[name], want[name]) for name in want)


def test_weights_saved_in_half_precision_are_computed_with_in_full(tiny, tmp_path):
    load_base(tiny.base, "cpu", "none").bfloat16().save_pretrained(tmp_path)
    model = load_base(tmp_path, "cpu", "none")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_nf4_quantizes_every_linear_layer_but_the_last(tiny):
    model = load_base(tiny.base, "cpu", "nf4")
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    others = [module for module in linears if not isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert others == [model.lm_head]
    assert len(linears) == 2 * 7 + 1


def test_nf4_is_quantized_twice_and_computed_with_in_full_precision(tiny):
    layer = load_base(tiny.base, "cpu", "nf4").model.layers[0].mlp.up_proj
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == torch.float32


def test_weights_in_a_pickle_are_refused(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "base" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        load_base(tmp_path / "base", "cpu", "none")


def test_embeddings_with_room_do_not_grow(tiny):
    model = load_base(tiny.base, "cpu", "none")
    model.resize_token_embeddings(390)  # no multiple of 64, as other people's models may be
    before = model.get_input_embeddings().weight.clone()
    grow_embeddings(model, 390)
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_embeddings_grow_to_a_multiple_of_64_and_keep_their_rows(tiny):
    model = load_base(tiny.base, "cpu", "none")
    before = model.get_input_embeddings().weight.clone()
    grow_embeddings(model, 385)
    after = model.get_input_embeddings().weight
    assert after.shape == (448, 64)
    assert model.get_output_embeddings().weight.shape == (448, 64)
    assert torch.equal(after[:384], before)


def test_stretched_positions_turn_as_those_of_a_shorter_text(tiny):
    plain = load_base(tiny.base, "cpu", "none")
    stretched = load_base(tiny.base, "cpu", "none", rope_factor=4.0)

    angles = [
        model.model.rotary_emb(torch.zeros(1), torch.tensor([[float(position)]]))[1]
        for model, position in ((plain, 3), (stretched, 12))
    ]

    torch.testing.assert_close(angles[1], angles[0])
    assert stretched.config.max_position_embeddings == 4 * plain.config.max_position_embeddings


def test_positions_that_are_stretched_already_are_not_stretched_again(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {**config["rope_parameters"], "rope_type": "linear", "factor": 2.0}
    path.write_text(json.dumps(config))

    with pytest.raises(ValueError, match=r"rope_factor needs plain rotary positions; .* linear"):
        load_base(tmp_path / "base", "cpu", "none", rope_factor=2.0)
