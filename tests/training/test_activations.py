import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, Trainer, TrainingArguments

from training.activations import CheckpointFirstLayers
from training.arguments import CHECKPOINTING

pytestmark = pytest.mark.slow


def run(tmp_path, count, *, checkpointing=True):
    """How often each of four layers computed in a step, and the loss after it."""
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    calls = [0] * 4
    for number, layer in enumerate(model.model.layers):

        def note(*_, number=number):
            calls[number] += 1

        layer.mlp.register_forward_pre_hook(note)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        report_to="none",
        use_cpu=True,
        activation_checkpointing=checkpointing,
        activation_checkpointing_kwargs=CHECKPOINTING,
    )
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    callbacks = [CheckpointFirstLayers(count)]
    result = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks).train()
    return calls, result.training_loss


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_the_first_layers_compute_twice_and_the_others_once(tmp_path, count):
    calls, _ = run(tmp_path, count)
    assert calls == [2] * count + [1] * (4 - count)


def test_the_loss_does_not_depend_on_it(tmp_path):
    losses = {run(tmp_path, count)[1] for count in (0, 2, 4)}
    assert len(losses) == 1


def test_nothing_computes_twice_where_checkpointing_is_off(tmp_path):
    calls, _ = run(tmp_path, 4, checkpointing=False)
    assert calls == [1] * 4
