"""Runs `python -m training train` in processes that have the libraries imported already."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

TOGETHER_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """What became of a command, process by process."""

    exit_codes: list[int | None]
    outputs: list[str]


class Command:
    """The command with the settings of a tiny run on the CPU; processes meet as under torchrun."""

    def __init__(self, work: Path, base: Path):
        self.work, self.base = work, base
        self.rows = write_rows(work / "rows.jsonl", "number", 17)
        self.heldout = write_rows(work / "heldout.jsonl", "item", 5)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["training.train"])

    def arguments(self, name: str, **settings) -> list[str]:
        values = {
            "name": name,
            "base_model": self.base,
            "train_data": self.rows,
            "heldout_data": self.heldout,
            "output": self.work / "store" / name,
            "runs": self.work / "runs",
            "device": "cpu",
            "quantization": "none",
            "max_steps": 7,
            "effective_batch_size": 4,
            "micro_batch_size": 0,
            "logging_steps": 1,
            "evaluate_steps": 3,
            "evaluate_prompts": 0,
            "sample_prompts": 0,
        } | settings
        pairs = [f"--set={name}={value}" for name, value in values.items()]
        return ["train", "--config", "training/configs/pocket.yaml", *pairs]

    def run(self, count: int, name: str, disturb=None, **settings) -> Ended:
        """Run it in `count` processes; `disturb(rank)` is called in each one before it begins."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        files = [self.work / f"{name}-{rank}.txt" for rank in range(count)]
        several = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes = [
            self._context.Process(
                target=_train_as,
                args=(rank, several if count > 1 else {}, file, disturb),
                kwargs={"arguments": self.arguments(name, **settings)},
            )
            for rank, file in enumerate(files)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(TOGETHER_SECONDS)
            process.kill()
            process.join()
        outputs = [file.read_text(encoding="utf-8") for file in files]
        return Ended([process.exitcode for process in processes], outputs)

    def log(self, name: str, event: str) -> list[dict]:
        lines = (self.work / "runs" / name / "log.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def write_rows(path: Path, thing: str, count: int) -> Path:
    """Answers of both styles in turn, no two of the same length."""
    rows = [
        {
            "prompt": f"What is {thing} {n // 2}?",
            "completion": "A number, " * (n % 7 + 3 * (n % 2)) + "at length.",
            "style": ("terse", "verbose")[n % 2],
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stop_second(rank: int) -> None:
    """The second process, or the only one, gets SIGTERM during the fourth step."""
    if rank == int(os.environ.get("WORLD_SIZE", "1")) - 1:
        from tests.training.survival.tiny_run import signal_in
        from training.watch.run_watch import RunWatch

        before = RunWatch.callbacks
        RunWatch.callbacks = lambda *given: [*before(*given), signal_in(3, signal.SIGTERM)]


def _train_as(rank, several, file, disturb, arguments):
    os.environ |= {name: str(value) for name, value in several.items()}
    if several:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with file.open("w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if disturb is not None:
        disturb(rank)
    from training.__main__ import main

    sys.argv = ["training", *arguments]
    sys.exit(main())
