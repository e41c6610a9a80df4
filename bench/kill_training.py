"""Kills a training with `kill -9` at random moments, and looks whether anything is lost.

python -m bench.kill_training --kills 100 --tiny --preload           # a random base of two layers
python -m bench.kill_training --kills 5 --set evaluate_prompts=2     # the bundled base, as users do
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from adapters.manifest import WEIGHTS_NAME, AdapterMismatchError, check_adapter
from training.survival.checkpoints import checkpoint_problems
from training.survival.run_folder import RECORD_NAME

RESUMED = "going on from step"
NAME = "killed"
_POLL_SECONDS = 0.01


@dataclass
class Count:
    """What happened."""

    kills: int = 0
    kills_before_the_first_checkpoint: int = 0
    starts: int = 0
    resumes: int = 0
    """Starts that went on from a checkpoint and lived to say so."""
    errors: int = 0
    """Starts that ended by themselves and not well."""
    finished: int = 0
    equal: int = 0
    """Finished runs whose weights are, byte for byte, those of a run without kills."""
    damaged_checkpoints: int = 0
    corrupt_adapters: int = 0
    seconds: float = 0.0


class Started(Protocol):
    """A training under way."""

    pid: int | None

    def code(self) -> int | None:
        """Its exit code, None while it runs."""

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""


class Spawned:
    """`python -m training train`, as users type it."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        """Start it; what it tells goes to the log."""
        with log.open("wb") as file:
            command = [sys.executable, "-m", "training", *arguments]
            self._process = subprocess.Popen(command, stdout=file, stderr=file)
        self.pid: int | None = self._process.pid

    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()


class Forked:
    """The same command in a fork of a process that has imported the libraries already."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        """Start it; what it tells goes to the log."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["training.train"])
        self._process = context.Process(target=_command, args=(list(arguments), log))
        self._process.start()
        self.pid: int | None = self._process.pid

    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join()


def _command(arguments: list[str], log: Path) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["training", *arguments]
    from training.__main__ import main

    raise SystemExit(main())


@dataclass(frozen=True)
class Place:
    """Where a run lies, and how it is started."""

    folder: Path
    settings: tuple[str, ...]
    config: Path
    start: type[Spawned] | type[Forked]

    @property
    def run(self) -> Path:
        """Its checkpoints."""
        return self.folder / "runs" / NAME

    @property
    def adapter(self) -> Path:
        """Its result."""
        return self.folder / "store" / NAME

    @property
    def log(self) -> Path:
        """What the latest start has told."""
        return self.folder / "log.txt"

    def begin(self) -> Started:
        """Start the trainer."""
        given = [f"name={NAME}", f"runs={self.folder / 'runs'}", f"output={self.adapter}"]
        options = [word for value in (*given, *self.settings) for word in ("--set", value)]
        return self.start(["train", "--config", str(self.config), *options], self.log)

    def pid(self) -> int | None:
        """The process that has opened the run last."""
        try:
            pid: int = json.loads((self.run / RECORD_NAME).read_text(encoding="utf-8"))["pid"]
        except (OSError, ValueError):
            return None
        return pid

    def weights_sha256(self) -> str:
        """Identifies what was learned."""
        return hashlib.sha256((self.adapter / WEIGHTS_NAME).read_bytes()).hexdigest()

    def checkpoints(self) -> list[Path]:
        """Those that stand under a final name."""
        return list(self.run.glob("checkpoint-*"))


def wait_until_open(place: Place, process: Started) -> None:
    """Wait until the process has opened the run, or has ended."""
    while process.code() is None and place.pid() != process.pid:
        time.sleep(_POLL_SECONDS)


def wait(process: Started, seconds: float = float("inf")) -> int | None:
    """Exit code; None when the time is over."""
    deadline = time.monotonic() + seconds
    while (code := process.code()) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return code


def look(place: Place, count: Count) -> None:
    """Count what a process that is gone has left damaged."""
    count.damaged_checkpoints += sum(bool(checkpoint_problems(p)) for p in place.checkpoints())
    count.resumes += RESUMED in place.log.read_text(encoding="utf-8", errors="replace")
    if place.adapter.exists():
        try:
            check_adapter(place.adapter)
        except AdapterMismatchError:
            count.corrupt_adapters += 1


def note_end(place: Place, count: Count, code: int, expected: str) -> None:
    """Count a process that ended by itself."""
    if code == 0:
        count.finished += 1
        count.equal += place.weights_sha256() == expected
    else:
        count.errors += 1
        print(place.log.read_text(encoding="utf-8", errors="replace")[-2000:], file=sys.stderr)


def kill_at_random(place: Place, kills: int, whole: tuple[str, float], seed: int) -> Count:
    """Kill so often, at moments spread evenly over a run, and let the last run end.

    Args:
        place: of the run.
        kills: how many.
        whole: digest of the weights of a run without kills, and its seconds once it was open.
        seed: of the moments.
    """
    expected, seconds = whole
    rng, count = random.Random(seed), Count()
    began = time.monotonic()
    while True:
        process = place.begin()
        count.starts += 1
        wait_until_open(place, process)
        last = count.kills == kills
        code = wait(process) if last else wait(process, rng.uniform(0, seconds))
        if code is None:
            process.kill()
            count.kills += 1
            count.kills_before_the_first_checkpoint += not place.checkpoints()
            print(f"\rkill {count.kills}/{kills}", end="", file=sys.stderr, flush=True)
        else:
            note_end(place, count, code, expected)
        look(place, count)
        if (last and code is not None) or count.errors:
            break
    print(file=sys.stderr)
    count.seconds = time.monotonic() - began
    return count


def run_whole(place: Place) -> tuple[str, float]:
    """Digest of the weights of a run without kills, and its seconds once it was open.

    Raises:
        RuntimeError: it did not end well.
    """
    process = place.begin()
    wait_until_open(place, process)
    began = time.monotonic()
    if wait(process) != 0:
        raise RuntimeError(place.log.read_text(encoding="utf-8", errors="replace")[-2000:])
    return place.weights_sha256(), time.monotonic() - began


def main() -> int:
    """Train without kills, train with kills, compare; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20, help="of a run without kills")
    parser.add_argument("--save-steps", type=int, default=2)
    parser.add_argument("--config", type=Path, default=Path("training/configs/pocket.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--tiny", action="store_true", help="train a tiny random base")
    parser.add_argument("--preload", action="store_true", help="import the libraries only once")
    parser.add_argument("--seed", type=int, default=1)
    given: Any = parser.parse_args()
    settings = (
        f"max_steps={given.steps}",
        f"save_steps={given.save_steps}",
        "evaluate_prompts=0",
        *given.settings,
    )
    start = Forked if given.preload else Spawned
    with tempfile.TemporaryDirectory(prefix="laconic-kills-") as folder:
        if given.tiny:
            from bench.tiny_base import make_tiny_base

            base = make_tiny_base(Path(folder) / "base")
            settings += (f"base_model={base}", "quantization=none")
        whole, killed = (
            Place(Path(folder) / name, settings, given.config, start) for name in ("whole", "cut")
        )
        for place in (whole, killed):
            place.folder.mkdir()
        reference = run_whole(whole)
        count = kill_at_random(killed, given.kills, reference, given.seed)
    for name, value in asdict(count).items():
        print(f"{name.replace('_', ' '):36} {value:10,.0f}")
    per_kill = count.seconds / max(count.kills, 1)
    print(f"{'seconds per kill':36} {per_kill:10,.1f}")
    whole_seconds = {"whole_run_seconds": reference[1], "seconds_per_kill": per_kill}
    print(json.dumps({**asdict(count), "steps": given.steps, **whole_seconds}))
    lost = count.errors or count.damaged_checkpoints or count.corrupt_adapters
    return int(bool(lost) or count.equal != count.finished)


if __name__ == "__main__":
    raise SystemExit(main())
