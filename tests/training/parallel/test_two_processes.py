"""Several processes train as one does: the same result, told once, stopped and resumed together."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.conftest import ROOT
from tests.training.parallel.command_processes import Command, stop_second

pytestmark = pytest.mark.slow

WEIGHTS = "adapter_model.safetensors"
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def command(tiny_base, tmp_path_factory):
    return Command(tmp_path_factory.mktemp("several"), tiny_base)


@pytest.fixture(scope="module")
def alone(command):
    """One process, seven steps: an epoch of seventeen rows has five, of which one has one row."""
    assert command.run(1, "alone").exit_codes == [0]
    return command.work / "store" / "alone"


@pytest.fixture(scope="module")
def together(command):
    """The same with two."""
    return command.run(2, "together")


def assert_same_adapter(one, other):
    import torch
    from safetensors.torch import load_file

    expected = load_file(one / WEIGHTS)
    for name, tensor in load_file(other / WEIGHTS).items():
        assert torch.allclose(tensor, expected[name], atol=1e-5), name


def folders(command):
    return {path.name for path in (command.work / "store").iterdir()}


def test_two_processes_learn_what_one_learns(command, alone, together):
    assert together.exit_codes == [0, 0]
    assert_same_adapter(alone, command.work / "store" / "together")


def test_the_losses_of_each_step_are_those_of_one_process(command, alone, together):
    events = [("training", "loss"), ("training", "grad_norm"), ("evaluation", "heldout_loss")]
    for event, name in events:
        expected = [(entry["step"], entry[name]) for entry in command.log("alone", event)]
        found = [(entry["step"], entry[name]) for entry in command.log("together", event)]

        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx(
            [value for _, value in expected], rel=1e-4
        )
    assert [entry["step"] for entry in command.log("together", "training")] == [*range(1, 8)]


def test_the_first_process_writes_and_speaks_for_both(command, alone, together):
    run = command.work / "runs" / "together"

    assert together.outputs[1] == ""
    assert together.outputs[0].count("step 7/7 · loss") == 1
    assert {"alone", "together"} <= folders(command)
    assert not [name for name in folders(command) if name.startswith(".")]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert json.loads((run / "run.json").read_text())["starts"] == 1


@pytest.mark.parametrize(("first", "then"), [(2, 2), (2, 1), (1, 2)])
def test_a_stopped_run_goes_on_with_as_many_processes_or_others(command, alone, first, then):
    name = f"stopped-{first}-{then}"

    stopped = command.run(first, name, disturb=stop_second)
    assert stopped.exit_codes == [128 + signal.SIGTERM] * first
    assert "the same command goes on" in stopped.outputs[0]
    assert not any(stopped.outputs[1:])
    assert (command.work / "runs" / name / "checkpoint-4").is_dir()
    assert not [folder for folder in folders(command) if name in folder]

    resumed = command.run(then, name)
    assert resumed.exit_codes == [0] * then
    assert "going on from step 4" in resumed.outputs[0]
    assert_same_adapter(alone, command.work / "store" / name)


def test_a_time_budget_ends_both_at_the_same_step(command):
    ended = command.run(2, "budget", hours=6 / 3600, max_steps=-1, evaluate_steps=0)

    assert ended.exit_codes == [0, 0]
    steps = json.loads((command.work / "store" / "budget" / "manifest.json").read_text())
    last = command.work / "runs" / "budget" / f"checkpoint-{steps['scores']['steps']}"
    parts = [json.loads((last / f"continuation-{rank}.json").read_text()) for rank in (0, 1)]
    assert [part["complete"] for part in parts] == [True, True]


def broken_rows(command):
    path = command.work / "broken.jsonl"
    path.write_text('{"prompt": "x"}\n')
    return {"train_data": path}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (broken_rows, "broken.jsonl:1"),
        (lambda _: {"lerning_rate": 1}, "did you mean learning_rate?"),
        (lambda _: {"effective_batch_size": 3}, "must be a multiple of 2"),
        (lambda _: {"learning_rate": 1e30}, "before it did harm"),
    ],
    ids=["data", "setting", "batch", "divergence"],
)
def test_a_problem_of_all_is_told_once(command, settings, told):
    ended = command.run(2, "problem", **settings(command))

    assert ended.exit_codes == [2, 2]
    assert ended.outputs[0].count(told) == 1
    assert ended.outputs[0].count("error:") == 1
    assert "Traceback" not in ended.outputs[0]
    assert ended.outputs[1] == ""
    assert not [name for name in folders(command) if "problem" in name]


def test_rows_of_both_are_named_when_the_numbers_become_useless(command):
    told = command.run(2, "useless", learning_rate=1e30).outputs[0]

    rows = told.partition("counted from 1: ")[2].partition(";")[0].split(", ")
    assert len(set(rows)) == 4


def hide_rows_from_second(rank):
    if rank == 1:
        import training.train

        def fail(*_):
            raise OSError("no such disk")

        training.train.gather_material = fail


def test_a_problem_of_the_second_process_is_told_by_the_first(command):
    ended = command.run(2, "second", disturb=hide_rows_from_second)

    assert ended.exit_codes == [2, 2]
    assert "error: process 1: no such disk" in ended.outputs[0]
    assert ended.outputs[1] == ""


def test_a_folder_that_another_trainer_uses_stops_both(command):
    import fcntl

    run = command.work / "runs" / "taken"
    run.mkdir(parents=True)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = command.run(2, "taken")

    assert ended.exit_codes == [2, 2]
    assert ended.outputs[0].count("another trainer") == 1


def run_out_of_memory(rank):
    import torch

    import training.train

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    training.train.load_trainable = fail


def test_out_of_memory_names_the_micro_batch_to_set(command):
    ended = command.run(2, "large", disturb=run_out_of_memory)

    assert ended.exit_codes == [2, 2]
    assert "error: out of memory; set micro_batch_size to 1" in ended.outputs[0]


def stop_while_loading(rank):
    import training.train

    training.train.load_trainable = lambda *_: signal.raise_signal(signal.SIGTERM)


def test_sigterm_before_the_first_step_leaves_nothing_behind(command):
    ended = command.run(2, "loading", disturb=stop_while_loading)

    assert ended.exit_codes == [128 + signal.SIGINT] * 2
    assert "stopped at once" in ended.outputs[0]
    assert not [name for name in folders(command) if "loading" in name]


def test_the_gpu_with_the_least_free_memory_decides(monkeypatch):
    from training import train
    from training.resources.plan import Room

    monkeypatch.setattr(train, "everyones", lambda own: [own, own - 5, own + 5])

    assert train._smallest(Room(shape=None, free_bytes=20, dtype_bytes=2)).free_bytes == 15


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_are_learned_by_two(command, tiny_adapter, method):
    rows = command.work / f"{method}.jsonl"
    answers = [
        {"prompt": f"What is {n}?", "chosen": "A number.", "rejected": "A number, at length."}
        if method == "dpo"
        else {"prompt": f"What is {n}?", "completion": f"Number {n}.", "label": n % 2 == 0}
        for n in range(9)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in answers))

    ended = command.run(
        2, method, method=method, adapter=tiny_adapter, train_data=rows, heldout_data="null",
        validation_share=0, evaluate_steps=0, max_steps=3, micro_batch_size=2,
    )  # fmt: skip

    assert ended.exit_codes == [0, 0], ended.outputs
    first, _, last = [entry["loss"] for entry in command.log(method, "training")]
    assert last < first


def start_torchrun(arguments):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*torchrun, "-m", "training", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_under_torchrun_a_problem_is_told_before_all_are_ended(command):
    process = start_torchrun(command.arguments("refused", **broken_rows(command)))
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode != 0
    assert output.count("broken.jsonl:1") == 1
    assert "training/train.py" not in output  # no traceback of ours
    assert "terminate called" not in output


def test_sigterm_to_torchrun_stops_and_saves(command):
    log = command.work / "runs" / "signalled" / "log.jsonl"
    process = start_torchrun(command.arguments("signalled", max_steps=100_000, evaluate_steps=0))
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (log.exists() and log.read_text()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()

    assert process.returncode != 0
    assert output.count("SIGTERM: finishing this step and saving") == 1
    assert output.count("stopped by SIGTERM; the same command goes on") == 1
    assert "training/train.py" not in output  # no traceback of ours
    assert list(log.parent.glob("checkpoint-*"))
    assert not [name for name in folders(command) if "signalled" in name]
