"""Training that is killed, or finds no room, in processes of its own."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time

import pytest

from training.survival.checkpoints import checkpoint_problems

pytestmark = pytest.mark.slow

KILLS = 5


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with the libraries imported, which takes longer than a tiny run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.survival.tiny_run"])
    return context


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """A run without accidents, and the seconds it took."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(processes, train_tiny, folder) == 0
    began = time.monotonic()  # now that the libraries are imported
    assert run(processes, train_tiny, folder) == 0
    return folder, time.monotonic() - began


@pytest.fixture(scope="module")
def expected(whole):
    """What a run without accidents learns."""
    return weights(whole[0])


def run(processes, function, *arguments, patience=None):
    """Exit code of a process that runs the function; killed after `patience` seconds."""
    process = processes.Process(target=function, args=arguments)
    process.start()
    process.join(patience)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def weights(folder):
    return (folder / "done" / "adapter_model.safetensors").read_bytes()


def train_tiny(folder, callbacks=(), **arguments):
    os.dup2(os.open(folder / "output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    from tests.training.survival import tiny_run

    tiny_run.run_tiny(folder, callbacks=callbacks, save_steps=1, **arguments)


def train_and_die_in_step(step, folder):
    from tests.training.survival import tiny_run

    train_tiny(folder, [tiny_run.signal_in(step, signal.SIGKILL)])


def die_while_saving(step, folder):
    from training.survival.safe_trainer import CrashSafe

    write = CrashSafe._save_scaler  # between the optimizer's file and the others

    def die(trainer, target):
        if trainer.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        write(trainer, target)

    CrashSafe._save_scaler = die
    train_tiny(folder)


def train_on_a_disk_that_is_full_for_two_steps(folder):
    from tests.training.survival import tiny_run

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

    # the adapter still fits, the optimizer's state does not
    train_tiny(folder, [tiny_run.Act(4, limit(12_000)), tiny_run.Act(6, limit(most))])


def steps_of(folder):
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))


def test_a_run_that_is_killed_at_random_moments_ends_like_one_without(
    processes, tmp_path, whole, expected
):
    rng = random.Random(7)
    for _ in range(KILLS):
        code = run(processes, train_tiny, tmp_path, patience=rng.uniform(0.2, 1) * whole[1])
        if code == 0:  # came through; the next one begins anew
            assert weights(tmp_path) == expected
        for step in steps_of(tmp_path):
            assert checkpoint_problems(tmp_path / f"checkpoint-{step}") == []

    assert run(processes, train_tiny, tmp_path) == 0
    assert weights(tmp_path) == expected


@pytest.mark.parametrize("step", [0, 5])
def test_a_run_that_is_killed_within_a_step_ends_like_one_without(
    processes, tmp_path, expected, step
):
    assert run(processes, train_and_die_in_step, step, tmp_path) == -signal.SIGKILL
    assert steps_of(tmp_path) == ([] if step == 0 else [4, 5])

    assert run(processes, train_tiny, tmp_path) == 0

    assert weights(tmp_path) == expected
    assert json.loads((tmp_path / "run.json").read_text())["starts"] == 2


def test_a_checkpoint_that_a_kill_cut_short_was_never_there(processes, tmp_path, expected):
    assert run(processes, die_while_saving, 5, tmp_path) == -signal.SIGKILL
    assert steps_of(tmp_path) == [3, 4]
    assert (tmp_path / ".unfinished-checkpoint-5").is_dir()

    assert run(processes, train_tiny, tmp_path) == 0

    assert weights(tmp_path) == expected
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_full_disk_costs_checkpoints_and_not_the_run(processes, tmp_path, expected):
    assert run(processes, train_on_a_disk_that_is_full_for_two_steps, tmp_path) == 0

    assert weights(tmp_path) == expected
    told = (tmp_path / "output.txt").read_text()
    assert told.count("no checkpoint was written") == 1
    assert "step 5: no checkpoint was written" in told
    assert steps_of(tmp_path) == [11, 12]
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_second_trainer_of_a_run_gives_up_and_does_no_harm(processes, tmp_path, expected):
    from training.survival.run_folder import RunFolder

    with RunFolder.open(tmp_path, {"recipe": "tiny"}):
        assert run(processes, train_tiny, tmp_path) == 1

    assert f"process {os.getpid()}) is at work" in (tmp_path / "output.txt").read_text()
    assert run(processes, train_tiny, tmp_path) == 0
    assert weights(tmp_path) == expected


def test_the_end_of_a_process_by_signal_is_the_end_of_its_lock(processes, tmp_path):
    assert run(processes, train_and_die_in_step, 1, tmp_path) == -signal.SIGKILL

    from training.survival.run_folder import RunFolder

    with RunFolder.open(tmp_path, {"recipe": "tiny"}) as opened:
        assert opened.starts == 2
