"""One training run, from rows to a finished adapter folder. Read `train` from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from adapters.manifest import AdapterManifest
from adapters.prompts import FORMAT_VERSION
from serving.base_model import choose_device, compute_dtype
from training.budget import TimeBudget
from training.config import TrainConfig
from training.evaluate import judge
from training.material import Material, gather_material
from training.model import cast_trained, load_trainable
from training.parallel.process_agreement import everyones, from_first
from training.parallel.processes import Process
from training.report import summary
from training.resources.checkup.device import memory_of
from training.resources.model_shape import read_shape
from training.resources.plan import Plan, Room, choose_plan, row_lengths
from training.survival.divergence import DivergedError
from training.survival.out_of_memory import halve_micro_batch, with_fitting_micro_batch
from training.survival.placing import clear_up, put_in_place
from training.survival.run_folder import RunFolder, RunStoppedError, fingerprint
from training.trainers import Surroundings, make_trainer
from training.watch.run_watch import RunWatch

_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
_CLOSING_SHARE = 0.08
"""Of a time budget, kept for saving and judging; judging asks as many questions as it has time."""


def train(config: TrainConfig, *, fresh: bool = False, seconds_used: float = 0.0) -> Path:
    """Train an adapter, judge it through the server's engine, and return its folder.

    An adapter of that name that is there already stays in place until the new one is complete. A
    run of the same settings that was interrupted is gone on with, unless `fresh`.

    Args:
        config: settings of the run.
        fresh: discard what an interrupted run has learned.
        seconds_used: what a time budget has lost before this call.

    Raises:
        ValueError: before any model is loaded, DataError listing every row that cannot be used;
            or training was stopped because its numbers had become useless.
        FileNotFoundError: there is no such base model.
        RunStoppedError: a signal asked to stop; the run can go on.
    """
    budget = TimeBudget(config.hours * 3600, used_seconds=seconds_used) if config.hours else None
    process = Process.current()
    output = config.output_folder
    with contextlib.ExitStack() as stack:
        with process.agreeing():
            process.check_start(choose_device(config.device))  # before anything is made
            output.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=f".{config.name}-", dir=output.parent)
            temporary = Path(stack.enter_context(hidden))
            material = gather_material(config, temporary / config.name)
            room = _measure_room(config, material.base_folder)
        room = _smallest(room)
        with process.agreeing():
            plan = choose_plan(
                room.shape,
                config,
                row_lengths(material.examples.train.to_dict(), config.method),
                room.free_bytes,
                num_gpus=process.count,
                dtype_bytes=room.dtype_bytes,
            )
            run = stack.enter_context(_open_run(config, material, process, fresh=fresh))
            if process.count == 1:  # folders of other processes look the same
                clear_up(config.name, output, temporary)
            watch = stack.enter_context(RunWatch(config, is_main_process=process.is_first))
        if budget is not None and run is not None:
            budget.add_used(run.seconds_used)
        around = Surroundings(process, run, watch, budget, room)
        try:
            scores = _fit(config, material, plan, around)
        except DivergedError:  # which all processes come to together
            with process.agreeing():
                raise
        process.leave()
        if run is None:
            return output
        manifest = _write_manifest(config, material, scores)
        questions = material.examples.heldout_questions[: config.evaluate_prompts]
        if questions:
            left = None if budget is None else budget.seconds - budget.elapsed()
            report = judge(material.folder, manifest, questions, config, seconds=left)
            watch.say(summary(report))
        put_in_place(material.folder, output)
        run.finish()
    return output


def _measure_room(config: TrainConfig, base_folder: Path) -> Room:
    device = choose_device(config.device)
    _, free = memory_of(device)
    return Room(read_shape(base_folder), free, compute_dtype(device).itemsize)


def _smallest(room: Room) -> Room:
    """What the GPUs of all processes have room for: they must come to one plan."""
    free = [bytes_ for bytes_ in everyones(room.free_bytes) if bytes_ is not None]
    return dataclasses.replace(room, free_bytes=min(free, default=None))


@contextlib.contextmanager
def _open_run(
    config: TrainConfig, material: Material, process: Process, *, fresh: bool
) -> Iterator[RunFolder | None]:
    """The folder of the run, which the first process owns; None in the others."""
    if not process.is_first:
        yield None
        return
    facts = fingerprint(config, material.base.fingerprint, material.data_sha256())
    with RunFolder.open(config.run_folder, facts, keep=config.keep_checkpoints, fresh=fresh) as run:
        yield run


def _fit(
    config: TrainConfig, material: Material, plan: Plan, around: Surroundings
) -> dict[str, Any]:
    """Train and write the adapter's weights; returns losses and measurements.

    Raises:
        RunStoppedError: a signal asked to stop; what was learned is in a checkpoint.
    """

    def attempt(micro_batch_size: int) -> dict[str, Any]:
        batches = material.first_batches() if config.lora_init == "eva" else ()
        began = time.monotonic()
        torch.manual_seed(config.seed)  # a new adapter begins with random numbers
        model = load_trainable(
            config, material.base_folder, material.prompt, material.token_ids, batches
        )
        loading = time.monotonic() - began
        final = dataclasses.replace(plan, micro_batch_size=micro_batch_size)
        trainer, final = make_trainer(config, material, model, around, final)
        budget = around.budget
        if budget is not None:
            # judging loads the base twice, with and without the adapter
            budget.reserved_seconds = _CLOSING_SHARE * budget.seconds + 2 * loading
            budget.begin_steps()
        result = trainer.train()
        if trainer.stopped_by is not None:
            around.process.leave()
            raise RunStoppedError(trainer.stopped_by, config.run_folder)
        _take_best(trainer, around)
        scores = _save(trainer, material.folder, is_first=around.process.is_first)
        return {
            "train_loss": result.training_loss,
            "train_seconds": result.metrics["train_runtime"],
            "steps": result.global_step,
            "micro_batch_size": final.micro_batch_size,
            "checkpointed_layers": final.checkpointed_layers,
            "checkpointed_mlps": final.checkpointed_mlps,
            "estimated_memory_gb": final.estimate.allocated / 1e9,
            **scores,
        }

    smallest = 2 if config.method == "kto" else 1
    if around.process.count == 1:
        return with_fitting_micro_batch(attempt, plan.micro_batch_size, smallest=smallest)
    try:
        return attempt(plan.micro_batch_size)
    except torch.OutOfMemoryError as error:  # starting anew would leave the others waiting
        half = halve_micro_batch(plan.micro_batch_size, smallest=smallest)
        raise ValueError(f"out of memory; set micro_batch_size to {half}") from error


def _take_best(trainer: Any, around: Surroundings) -> None:
    """Go back to the checkpoint with the lowest held-out loss, if that is not the last one."""
    best = None if around.run is None else around.run.checkpoints.best()
    path = from_first(None if best is None else str(best))
    if path is None or Path(path).name == f"checkpoint-{trainer.state.global_step}":
        return
    trainer.model.load_adapter(path, "default", is_trainable=True)
    around.watch.say(f"the held-out loss was lowest at {Path(path).name}; that one is kept")


def _save(trainer: Any, folder: Path, *, is_first: bool) -> dict[str, Any]:
    """Write the adapter as the server computes, half the size on a GPU; losses are its own."""
    model = trainer.model
    cast_trained(model, model.dtype)
    if is_first:
        model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's template, all blanks
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    scores: dict[str, Any] = {
        "train_losses": [[entry["step"], float(entry["loss"])] for entry in history]
    }
    if trainer.eval_dataset is not None:
        found = trainer.evaluate()
        scores |= {
            name.replace("eval_", "heldout_", 1): value
            for name, value in found.items()
            if "loss" in name or "perplexity" in name
        }
    if model.device.type == "cuda":
        scores["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return scores


def _write_manifest(
    config: TrainConfig, material: Material, scores: dict[str, Any]
) -> AdapterManifest:
    return AdapterManifest(
        name=config.name,
        version=config.version,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        base=material.base,
        styles=config.styles,
        token_ids=material.token_ids,
        default_style=config.styles[0].name,
        prompt_format_version=FORMAT_VERSION,
        template_sha256=material.prompt.template_sha256,
        rope_factor=config.rope_factor,
        training=_describe_run(config, material),
        scores=scores,
    ).save(material.folder)


def _describe_run(config: TrainConfig, material: Material) -> dict[str, Any]:
    report = material.examples.report
    return {
        "config": config.to_dict(),
        "data": report.to_dict(),
        "lengths": {
            style: {"p10": found.p10, "p50": found.p50, "p90": found.p90}
            for style, found in report.train.answer_tokens.items()
        },
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
