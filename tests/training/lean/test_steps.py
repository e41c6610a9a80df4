"""Short steps do what long ones do."""

import torch
from torch import nn
from transformers import TrainingArguments

from training.lean.steps import ShortSteps


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.trained = nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 1))

    def forward(self, x, labels):
        return {"loss": (self.trained(self.frozen(x)) - labels).square().mean()}


def make_trainer(folder, model=None):
    rows = [{"x": torch.randn(2), "labels": torch.randn(1)} for _ in range(4)]
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_steps": 3}
    return ShortSteps(
        model or Model(),
        TrainingArguments(folder, save_strategy="no", **settings),
        train_dataset=rows,
    )


def test_modules_change_their_mode_with_the_model(tmp_path):
    model = make_trainer(tmp_path).model

    for mode in (True, False, False, True):
        model.train(mode)
        assert {module.training for module in model.modules()} == {mode}
    model.eval()
    assert not model.trained[0].training


def test_a_model_whose_parts_were_loaded_to_answer_is_trained_in_training_mode(tmp_path):
    model = Model()
    model.trained.eval()  # as transformers loads what PEFT then wraps

    trainer = make_trainer(tmp_path, model)
    trainer.model.train()

    assert {module.training for module in model.modules()} == {True}


def test_gradients_are_gone_after_a_step_and_weights_have_moved(tmp_path):
    trainer = make_trainer(tmp_path)
    before = trainer.model.trained[1].weight.clone()

    trainer.train()

    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert not torch.equal(trainer.model.trained[1].weight, before)


def test_gradients_can_be_kept_as_zeros(tmp_path):
    model = make_trainer(tmp_path).model
    model(torch.ones(1, 2), torch.ones(1, 1))["loss"].backward()

    model.zero_grad(set_to_none=False)

    assert all(p.grad.eq(0).all() for p in model.trained.parameters())
