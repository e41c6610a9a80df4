import pytest
import torch
from torch import nn

from adapters.prompts import Example
from training.pocket.batches import NOT_LEARNED, Batch, batches_of
from training.pocket.nf4 import round_to_nf4
from training.pocket.pretrain import PocketConfig, build_model
from training.pocket.step import ReplayedStep, Step, answer_loss

TINY = PocketConfig(
    vocab_size=64, hidden_size=64, num_layers=2, num_heads=2, num_key_value_heads=1,
    intermediate_size=128, max_position_embeddings=64, batch_tokens=96,
)  # fmt: skip


def tiny_model():
    torch.manual_seed(0)
    return build_model(TINY, eos_id=2, bos_id=1)


def examples_of(lengths):
    return [
        Example([1, *(3 + (index + place) % 60 for place in range(length - 2)), 2], length // 2)
        for index, length in enumerate(lengths)
    ]


def batch_of(lengths, batch_tokens=96):
    (batch,) = batches_of(examples_of(lengths), batch_tokens)
    return batch


# Batches


def test_every_id_to_learn_comes_up_once():
    examples = examples_of([5, 17, 9, 30, 12, 31])
    batches = list(batches_of(examples, 96))
    learned = sorted(
        target for batch in batches for target in batch.targets.flatten().tolist()
        if target != NOT_LEARNED
    )  # fmt: skip
    assert learned == sorted(
        token for example in examples for token in example.input_ids[example.prompt_length :]
    )


def test_a_target_is_the_id_that_follows():
    example = Example([1, 7, 8, 9, 2], prompt_length=3)
    (batch,) = batches_of([example], 16)
    assert batch.ids[0, :5].tolist() == [1, 7, 8, 9, 2]
    assert batch.targets[0, :5].tolist() == [NOT_LEARNED, NOT_LEARNED, 9, 2, NOT_LEARNED]


def test_a_length_has_one_shape_however_many_rows_there_are():
    assert batch_of([9]).ids.shape == batch_of([9, 10, 12]).ids.shape == (6, 16)


@pytest.mark.parametrize("lengths", [[40], [5, 40]])
def test_an_example_that_is_too_long_is_told(lengths):
    with pytest.raises(ValueError, match="batch_tokens must be at least 48"):
        list(batches_of(examples_of(lengths), 32))


def test_no_examples_make_no_batch():
    assert list(batches_of([], 32)) == []


# Loss


def test_the_loss_is_that_of_the_model_row_by_row():
    model, batch = tiny_model(), batch_of([9, 12, 16])
    logits = torch.cat([model(row[None]).logits for row in batch.ids])
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=NOT_LEARNED
    )
    torch.testing.assert_close(answer_loss(model, batch, rounded=False), expected)


def test_a_rounded_loss_is_that_of_a_rounded_model():
    model, rounded, batch = tiny_model(), tiny_model(), batch_of([9, 12, 16])
    with torch.no_grad():
        for name, weight in rounded.model.layers.named_parameters():
            if "proj" in name:
                weight.copy_(round_to_nf4(weight))
    loss = answer_loss(model, batch, rounded=True)
    torch.testing.assert_close(loss, answer_loss(rounded, batch, rounded=False))
    loss.backward()
    assert all(weight.grad.any() for name, weight in model.named_parameters() if "proj" in name)


# Steps


def test_steps_lower_the_loss():
    model, batch = tiny_model(), batch_of([9, 12, 16])
    learn = Step(model, weight_decay=0.1)
    losses = [learn(batch, 1e-2, rounded=False).item() for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_step_is_that_of_adamw_on_clipped_gradients():
    model, plain, batch = tiny_model(), tiny_model(), batch_of([9, 12, 16])
    learn = Step(model, weight_decay=0.0)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    for learning_rate in (1e-3, 5e-3, 2e-3):
        learn(batch, learning_rate, rounded=False)
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.zero_grad()
        answer_loss(plain, batch, rounded=False).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    for weight, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)


def test_only_matrices_but_not_the_embedding_decay():
    model, batch = tiny_model(), batch_of([9])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    nothing = Batch(batch.ids, torch.full_like(batch.targets, NOT_LEARNED))
    nothing.targets[0, 0] = 3
    Step(model, weight_decay=0.5)(nothing, 0.0, rounded=False)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    model.lm_head.weight.data.zero_()  # no gradient reaches the body then
    Step(model, weight_decay=0.5)(nothing, 0.1, rounded=False)
    for name, weight in model.model.named_parameters():
        factor = 0.95 if "proj" in name else 1.0
        torch.testing.assert_close(weight.detach(), factor * before[f"model.{name}"])


@pytest.mark.gpu
def test_a_replayed_step_is_the_step():
    batches = [
        batch_of(lengths).to(torch.device("cuda"))
        for lengths in ([9, 12, 16], [30, 20], [5], [31, 17, 18], [6, 7, 8, 9], [25])
    ]
    models = [tiny_model().cuda(), tiny_model().cuda()]
    steps = [Step(models[0], 0.1), ReplayedStep(models[1], 0.1)]
    computed = []
    models[1].model.norm.register_forward_hook(lambda *_: computed.append(True))
    for turn in range(4):
        computed.clear()
        for batch in batches:
            losses = [learn(batch, 1e-3 * (turn + 1), rounded=turn >= 2).item() for learn in steps]
            assert losses[1] == pytest.approx(losses[0], rel=2e-3)
        # Both lengths come three times a turn: each is computed, recorded and replayed.
        assert bool(computed) == (turn in (0, 2))
    for weight, expected in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(weight, expected, atol=2e-3, rtol=0)
