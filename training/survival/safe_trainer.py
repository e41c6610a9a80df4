"""A mixin for the trainers of transformers and TRL: whatever happens, training can go on.

Written for transformers 5.23: it overrides methods of the trainer that are not public.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from training.parallel.process_agreement import everyones, from_first, largest, raise_together
from training.survival.continuation import Continuation
from training.survival.divergence import DivergedError, GradientWatch
from training.survival.run_folder import RunFolder
from training.survival.stop_signals import StopSignals

_logger = logging.getLogger(__name__)
# Steps that gradients are given to settle; a time budget knows no count of steps beforehand.
_LONGEST_WARMUP = 200
# How torch and safetensors tell that a file could not be written; neither raises OSError.
_DISK_TROUBLE = ("PytorchStreamWriter", "unexpected pos", "os error", "I/O error")


class CrashSafe(Trainer):  # type: ignore[misc]
    """Put it before a trainer: `class StyleTrainer(CrashSafe, SFTTrainer)`.

    `train()` goes on from the newest whole checkpoint of the run, and what comes out is what an
    uninterrupted training would have given, bit for bit on a CPU. Checkpoints are whole or not
    there. SIGTERM and Ctrl-C save and return; see `stopped_by`.
    """

    def __init__(self, *args: Any, run: RunFolder | None, **kwargs: Any) -> None:
        """`run` is the folder that the first process owns; None in the other processes."""
        super().__init__(*args, **kwargs)
        self.stopped_by: signal.Signals | None = None
        """The signal that ended `train()` before its time."""
        self._run = run
        self._signals = StopSignals()
        self._continuation = Continuation()
        self._began = 0.0
        self._cut_short = self._evaluation_due = False
        self._save_trouble_told = False
        self._step_loss: torch.Tensor | None = None
        self._watch = GradientWatch()
        # would wait for the device after every micro-batch; `_get_grad_norm` looks once a step
        self.args.logging_nan_inf_filter = False
        self.add_callback(_Safety(self))

    def train(self, **options: Any) -> TrainOutput:
        """Train, from the newest whole checkpoint if there is one.

        Raises:
            DivergedError: losses or gradients became useless; earlier checkpoints are kept.
        """
        found = None if self._run is None else self._run.checkpoints.newest()
        checkpoint = from_first(None if found is None else str(found))
        if checkpoint is not None:
            self._continuation = Continuation.load(Path(checkpoint), self.args.process_index)
        with StopSignals() as self._signals:
            result = super().train(resume_from_checkpoint=checkpoint, **options)
        # it may have come during the last step, too late for that step to notice
        self.stopped_by = self.stopped_by or self._signals.received
        return result

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One micro-batch; its loss is remembered on the device until the step is judged."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._step_loss = loss if self._step_loss is None else self._step_loss + loss
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The norm, looked at before the optimizer uses the gradients: one wait for the device."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        assert self._step_loss is not None
        # Each process has losses of its own, and may have got a signal that others did not get.
        bad_loss = (~torch.isfinite(self._step_loss)).float()
        told = torch.stack([bad_loss, torch.full_like(bad_loss, self._signals.received or 0)])
        everything = torch.stack([torch.as_tensor(norm).to(told), *largest(told)])
        norm_value, bad, received = everything.tolist()
        self._step_loss = None
        problem = self._watch.problem(norm_value, loss_is_finite=not bad)
        if problem is not None:
            raise DivergedError(self._advice(problem))
        self.stopped_by = signal.Signals(int(received)) if received else None
        return norm

    def _run_epoch(self, **options: Any) -> None:
        # The trainer takes a step before it looks whether there is one left to take.
        done = self._continuation.complete or self.state.global_step >= self.state.max_steps
        self.control.should_training_stop |= done
        if not self.control.should_training_stop:
            super()._run_epoch(**options)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        # Loss and time of the whole training, not only of what this process did of it.
        started = start_time - self._continuation.seconds
        return super()._finalize_training(trial, num_train_samples, started)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        # Even drawing batches takes a random number; training must not notice that it was judged.
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            metrics: dict[str, float] = super()._evaluate(*args, **kwargs)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best: bool = super()._determine_best_metric(metrics, trial)
        if is_best:
            self.control.should_save = True  # what is best must be there to go back to
        return is_best

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The trained adapter as it is in memory: rows of the embedding, not whole copies of it."""
        folder = Path(output_dir or self.args.output_dir)
        self.model.save_pretrained(
            folder,
            state_dict=state_dict,
            save_embedding_layers=False,
            selected_adapters=list(self.model.active_adapters),  # a frozen reference is not ours
            is_main_process=self.args.should_save,
        )
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's template, all blanks

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.store_flos()
        try:
            self._store_checkpoint()
        except OSError as error:
            if self.is_world_process_zero() and not self._save_trouble_told:
                _logger.warning(
                    "step %d: no checkpoint was written, and the next one is tried as planned; "
                    "earlier ones are whole. %s",
                    self.state.global_step,
                    error,
                )
            self._save_trouble_told = True
            return
        self._save_trouble_told = False
        if self._run is not None:
            if self.state.best_global_step == self.state.global_step:
                self._run.checkpoints.mark_best(self.state.global_step)
            self._run.note_time()

    def _store_checkpoint(self) -> None:
        """All processes write into one folder, which the first one puts in place."""
        if self._run is None:
            folder = from_first(None)
            if folder is not None:
                raise_together(self._write_part(folder))
            return
        told = False

        def write(folder: Path) -> None:
            nonlocal told
            told = True
            from_first(str(folder))
            raise_together(self._write_part(str(folder)))

        try:
            self._run.checkpoints.save(self.state.global_step, write)
        finally:
            if not told:
                from_first(None)

    def _write_part(self, folder: str) -> str | None:
        """Write what this process has to write; what went wrong with the disk, if anything."""
        try:
            self.save_model(folder, _internal_call=True)
            self._save_optimizer_and_scheduler(folder)
            self._save_scaler(folder)
            self._save_rng_state(folder)
            self._continue_from_here().save(Path(folder), self.args.process_index)
            if self.args.should_save:
                for callback in (*self.callback_handler.callbacks, self.control):
                    if isinstance(callback, ExportableState):
                        self.state.stateful_callbacks[type(callback).__name__] = callback.state()
                self.state.save_to_json(str(Path(folder) / "trainer_state.json"))
        except (OSError, RuntimeError, SafetensorError) as error:
            known = isinstance(error, OSError) or any(sign in str(error) for sign in _DISK_TROUBLE)
            if not known:
                raise
            return str(error).partition("\n")[0]
        return None

    def _continue_from_here(self) -> Continuation:
        metrics = getattr(self, "_metrics", {}).get("train", {})
        return Continuation(
            loss_since_log=self._tr_loss.item(),
            loss_before_log=self._total_loss_scalar,
            last_logged_step=self._globalstep_last_logged,
            seconds=self._continuation.seconds + time.time() - self._began,
            num_tokens=getattr(self, "_total_train_tokens", 0),
            metrics={name: list(values) for name, values in metrics.items()},
            complete=self.control.should_training_stop and not self._cut_short,
            evaluation_due=self._evaluation_due,
        )

    def _take_up(self) -> None:
        """Set what the trainer has just reset, once it is about to train."""
        self._began = time.time()
        # a checkpoint brings the intervals it was made with, but those may have been changed
        self.state.compute_steps(self.args, self.state.max_steps)
        warmup = min(self.args.get_warmup_steps(self.state.max_steps), _LONGEST_WARMUP)
        self._watch = GradientWatch(warmup, skips_overflow=self.accelerator.scaler is not None)
        if self.state.global_step == 0:
            return
        if self.is_world_process_zero():
            sys.stderr.write(f"going on from step {self.state.global_step}\n")
        before = self._continuation
        self._tr_loss += before.loss_since_log
        self._total_loss_scalar = before.loss_before_log
        self._globalstep_last_logged = before.last_logged_step
        self._initial_global_step = 0
        if hasattr(self, "_metrics"):
            self._metrics["train"].update({name: [*v] for name, v in before.metrics.items()})
            self._total_train_tokens = before.num_tokens
        if before.evaluation_due:
            self._determine_best_metric(self._evaluate(None, None), None)
        if self._run is not None and self.state.best_global_step == self.state.global_step:
            self._run.checkpoints.mark_best(self.state.global_step)

    def _advice(self, problem: str) -> str:
        rate = self.args.learning_rate
        kept = None if self._run is None else self._run.checkpoints.newest()
        rows = ", ".join(str(row) for share in everyones(self._rows_of_step()) for row in share)
        return (
            f"training stopped at step {self.state.global_step + 1} before it did harm: {problem}\n"
            f"  - kept: {kept or 'no checkpoint yet'}\n"
            f"  - examples of this step, counted from 1: {rows or 'unknown'}; look at them\n"
            f"  - lower learning_rate (it is {rate:g}; try {rate / 2:g}), or max_grad_norm, or "
            "make warmup_fraction longer, and train anew with --fresh"
        )

    def _rows_of_step(self) -> list[int]:
        """Which examples this process has in the step under way."""
        loader = self.callback_handler.train_dataloader
        accumulation = self.args.gradient_accumulation_steps
        epoch, step = int(self.state.epoch or 0), self.state.global_step
        loader.set_epoch(epoch)
        batches = list(loader.batch_sampler)
        first = step % -(-len(batches) // accumulation) * accumulation
        return [row + 1 for batch in batches[first : first + accumulation] for row in batch]


class _Safety(TrainerCallback):  # type: ignore[misc]
    """Comes after all other callbacks, so that it knows what they have decided."""

    def __init__(self, trainer: CrashSafe) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take up what the checkpoint has kept."""
        self._trainer._take_up()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save the last step in any case; on a signal, make this the last one."""
        trainer = self._trainer
        if trainer.stopped_by is not None:
            trainer._cut_short = not control.should_training_stop
            trainer._evaluation_due = control.should_evaluate
            control.should_evaluate = False  # may take longer than the one who stops us waits
            control.should_training_stop = True
        control.should_save |= control.should_training_stop

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save what early stopping ends with."""
        control.should_save |= control.should_training_stop

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write down the time used."""
        if self._trainer._run is not None:
            self._trainer._run.note_time()
