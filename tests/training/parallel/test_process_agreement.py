"""Two processes of one training stop together, save together, and go on together."""

import contextlib
import multiprocessing
import os
import signal
import socket

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.survival.tiny_run"])
    return context


def train_as(rank, port, folder, stop_in, full_in):
    """One of two processes; the second one gets the signal, and finds the disk full."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.dup2(os.open(folder / f"output-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    from tests.training.survival import tiny_run
    from training.survival.run_folder import RunFolder

    class Full(tiny_run.TinyTrainer):
        def _save_rng_state(self, output_dir):
            if rank == 1 and self.state.global_step == full_in:
                raise OSError("disk full")
            super()._save_rng_state(output_dir)

    stop = [] if stop_in is None or rank == 0 else [tiny_run.signal_in(stop_in, signal.SIGTERM)]
    with contextlib.ExitStack() as stack:
        run = None
        if rank == 0:
            run = stack.enter_context(RunFolder.open(folder, {"recipe": "tiny"}, keep=9))
        trainer = tiny_run.make_trainer(run, micro_batch_size=2, trainer=Full, callbacks=stop)
        trainer.train()
        if run is not None and trainer.stopped_by is None:
            trainer.model.save_pretrained(folder / "done", save_embedding_layers=False)
    (folder / f"stopped-{rank}").write_text(f"{trainer.state.global_step} {trainer.stopped_by}")


def train(processes, folder, stop_in=None, full_in=None):
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = [
        processes.Process(target=train_as, args=(rank, port, folder, stop_in, full_in))
        for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(240)
        process.kill()
    assert [process.exitcode for process in both] == [0, 0]
    return [(folder / f"stopped-{rank}").read_text() for rank in (0, 1)]


def test_a_signal_to_one_process_stops_both_and_both_go_on(processes, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(processes, whole) == ["12 None", "12 None"]

    stopped = train(processes, cut, stop_in=4, full_in=3)

    assert stopped == ["5 15", "5 15"]
    names = {path.name for path in (cut / "checkpoint-5").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
    assert {"continuation-0.json", "continuation-1.json"} <= names
    # what one of them cannot write, none of them has written
    assert not (cut / "checkpoint-3").exists()
    assert "step 3: no checkpoint was written" in (cut / "output-0.txt").read_text()
    assert train(processes, cut) == ["12 None", "12 None"]
    weights = [folder / "done" / "adapter_model.safetensors" for folder in (whole, cut)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
