import json
import signal
from pathlib import Path

import pytest

from adapters.prompts import Message
from app.training_status import read_newest
from training import plots
from training.budget import MOST_STEPS
from training.survival.run_folder import RunStoppedError
from training.watch.early_stopping import EarlyStopping
from training.watch.log_file import read_log
from training.watch.run_watch import RunWatch
from training.watch.samples import StyleSamples


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The pictures that were asked for; drawing them takes half a second each."""
    asked = []
    monkeypatch.setattr(plots, "plot_losses", lambda log, png: asked.append((log, png)))
    return asked


def status(folder):
    return json.loads((folder / "status.json").read_text())


def train(run, steps, begin_at=0):
    """Steps with an entry each."""
    run.state.global_step = begin_at
    run.tell("train_begin")
    for step in steps:
        run.step_to(step)
        run.log(loss=4.0 - step / 10, learning_rate=1e-4, num_tokens=(step - begin_at) * 100)
    run.tell("train_end")


def test_a_run_is_told_on_the_screen_in_the_log_and_in_the_status(begin, lines, folder):
    run = begin()
    with run.watch:
        train(run, [1, 2])
        shown = status(folder)

    assert "step 2/10 · loss 3.800 · lr 1.0e-4 ·" in lines.getvalue()
    assert [entry["loss"] for entry in read_log(folder / "log.jsonl")] == [3.9, 3.8]
    assert (shown["state"], shown["step"], shown["loss"]) == ("running", 2, 3.8)


def test_the_status_says_running_before_the_model_is_loaded(begin, folder):
    run = begin()
    with run.watch:
        assert status(folder)["state"] == "running"
        assert status(folder)["step"] is None


def test_leaving_writes_that_the_run_is_finished_and_draws_its_losses(begin, folder, drawn):
    run = begin()
    with run.watch:
        train(run, [1])

    assert status(folder)["state"] == "finished"
    assert drawn == [(folder / "log.jsonl", folder / "plots" / "losses.png")]


def test_without_a_loss_there_is_nothing_to_draw(begin, drawn):
    run = begin()
    with run.watch:
        run.step_to(1)
        run.log(loss=float("nan"))

    assert drawn == []


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ValueError("data.jsonl:3: no prompt"), "data.jsonl:3: no prompt"),
        (KeyError("eval_loss"), "KeyError: 'eval_loss'"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(), "stopped by the user"),
        (RunStoppedError(signal.SIGTERM, Path("runs/x")), "stopped by SIGTERM; the same command"),
    ],
)
def test_an_error_is_passed_on_and_its_reason_written(begin, folder, error, detail):
    run = begin()

    with pytest.raises(type(error)), run.watch:
        raise error

    assert status(folder)["state"] == "failed"
    assert status(folder)["detail"].startswith(detail)
    assert read_newest(folder.parent).state == "failed"


def test_the_last_step_always_gets_an_entry(begin):
    run = begin()
    with run.watch:
        run.step_to(9)
        assert not run.control.should_log
        run.step_to(10)
        assert run.control.should_log


def test_a_step_that_something_else_stops_at_gets_an_entry(begin):
    run = begin()
    run.control.should_training_stop = True
    with run.watch:
        run.step_to(4)

    assert run.control.should_log


def test_other_processes_ask_for_the_last_entry_but_write_nothing(begin, folder, lines):
    run = begin(is_main_process=False)
    run.state.is_world_process_zero = False
    with run.watch:
        train(run, [9, 10])

    assert run.control.should_log
    assert lines.getvalue() == ""
    assert not folder.exists()


def test_a_process_that_the_trainer_calls_another_writes_no_entry(begin, folder, lines):
    run = begin()
    run.state.is_world_process_zero = False
    with run.watch:
        train(run, [1])

    assert lines.getvalue() == ""
    assert not (folder / "log.jsonl").exists()


def test_an_evaluation_is_told_by_style(begin, lines, folder):
    run = begin()
    with run.watch:
        train(run, [1])
        run.log(**{"eval_loss": 1.5, "eval_loss/terse": 1.0, "eval_perplexity": 4.48})

    assert "held-out loss 1.500 (terse 1.000) · perplexity 4.48" in lines.getvalue()
    last = read_log(folder / "log.jsonl")[-1]
    assert (last["event"], last["heldout_loss_by_style"]) == ("evaluation", {"terse": 1.0})


@pytest.mark.parametrize("logs", [None, {}, {"train_runtime": 3.0, "train_loss": 1.0}])
def test_what_is_no_loss_makes_no_entry(begin, folder, logs):
    run = begin()
    with run.watch:
        run.tell("log", logs=logs)

    assert not (folder / "log.jsonl").exists()


def test_further_figures_of_a_method_are_kept(begin, folder):
    run = begin()
    with run.watch:
        run.step_to(1)
        run.log(**{"loss": "0.69", "rewards/margins": 0.25, "note": "text"})

    [entry] = read_log(folder / "log.jsonl")
    assert entry["loss"] == 0.69
    assert entry["metrics"] == {"rewards/margins": 0.25}


def test_a_resumed_run_goes_on_with_log_tokens_and_seconds(begin, folder):
    first = begin()
    with first.watch:
        train(first, range(1, 8))

    second = begin()
    with second.watch:
        train(second, [6, 7], begin_at=5)

    entries = read_log(folder / "log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["tokens"] for entry in entries] == [100, 200, 300, 400, 500, 600, 700]
    assert entries[5]["seconds"] >= entries[4]["seconds"]


def test_a_fresh_run_begins_a_fresh_log(begin, folder):
    for _ in range(2):
        run = begin()
        with run.watch:
            train(run, [1, 2])

    assert [entry["step"] for entry in read_log(folder / "log.jsonl")] == [1, 2]


def test_an_evaluation_before_the_first_step_stays_in_the_log(begin, folder):
    old = begin()
    with old.watch:
        train(old, [1, 2])
    run = begin()
    with run.watch:
        run.log(eval_loss=5.0)
        train(run, [1])

    assert [entry["step"] for entry in read_log(folder / "log.jsonl")] == [0, 1]


def test_a_trainer_built_again_goes_on_from_its_checkpoint(begin, folder):
    run = begin()
    with run.watch:
        train(run, [1, 2, 3])
        train(run, [3, 4], begin_at=2)

    entries = read_log(folder / "log.jsonl")
    assert [(entry["step"], entry["tokens"]) for entry in entries] == [
        (1, 100),
        (2, 200),
        (3, 300),
        (4, 400),
    ]


def test_steps_that_are_not_planned_yet_are_not_told(begin, folder):
    run = begin()
    run.state.max_steps = MOST_STEPS
    with run.watch:
        run.tell("train_begin")
        run.log(eval_loss=1.0)

    assert status(folder)["total_steps"] is None
    assert read_log(folder / "log.jsonl")[0]["total_steps"] is None


def test_a_full_disk_costs_entries_and_not_the_run(begin, folder, lines):
    run = begin()
    with run.watch:
        (folder / "log.jsonl").mkdir()  # cannot be appended to, by root neither
        train(run, [1, 2])

    warnings = [line for line in lines.getvalue().splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "log.jsonl" in warnings[0]
    assert status(folder)["step"] == 2


def test_a_screen_that_is_gone_does_not_end_the_run(begin, folder, lines):
    run = begin()
    lines.write = lambda text: (_ for _ in ()).throw(BrokenPipeError(32, "gone"))
    with run.watch:
        train(run, [1])

    assert len(read_log(folder / "log.jsonl")) == 1


def test_the_callbacks_are_those_that_the_settings_ask_for(begin, pocket_prompt):
    question = [Message("user", "Why?")]

    def kinds(run, questions):
        return [type(callback) for callback in run.watch.callbacks(pocket_prompt, questions)]

    assert kinds(begin(), [question]) == [RunWatch, StyleSamples]
    assert kinds(begin(), []) == [RunWatch]
    assert kinds(begin(sample_prompts=0), [question]) == [RunWatch]
    assert kinds(begin(early_stopping_evaluations=2), []) == [RunWatch, EarlyStopping]


def test_only_questions_that_differ_are_asked(begin, pocket_prompt):
    questions = [[Message("user", text)] for text in ("Why?", "Why?", "How?", "Who?")]
    run = begin(sample_prompts=2)

    samples = run.watch.callbacks(pocket_prompt, questions)[1]

    assert samples._questions == [questions[0], questions[2]]


def test_tensorboard_files_appear_only_when_asked_for(begin, folder):
    run = begin()
    with run.watch:
        train(run, [1])

    assert not (folder / "tensorboard").exists()
