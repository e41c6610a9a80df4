"""Puts questions to a model through the server's engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tqdm.auto import tqdm

from adapters.prompts import Message
from adapters.styles import Preset, Style
from serving.config import EngineConfig
from serving.core import EngineCore
from serving.loader import LoadedModel
from serving.sampling import SamplingParams
from serving.scheduler import Job
from serving.types import Output

PRESETS_OFF = Preset(
    temperature=0.0, top_p=1.0, min_new_tokens=0, max_new_tokens=512, do_sample=False
)
PLAIN_INSTRUCTIONS = ("Answer briefly. {}", "Answer in detail. {}")
"""For the shortest and for the longest style."""
_BATCH_SIZE = 32
"""Answers between two moves of the progress bar."""

Answers = dict[str, list[Output]]
"""Answers to the same prompts, by what told the model how to answer."""


class Respondent:
    """A loaded model that answers; what it is asked for runs through `EngineCore`."""

    def __init__(self, loaded: LoadedModel, config: EngineConfig, bar: tqdm[object]) -> None:
        """Take memory for the cache."""
        self._prompt = loaded.prompt
        self._core = EngineCore(loaded, config)
        self._bar = bar

    def ask_styles(
        self, prompts: Sequence[str], styles: Sequence[Style], preset: Preset | None
    ) -> Answers:
        """Every prompt with every style token; None stands for the style's own preset."""
        return self._answer(
            {
                style.name: self._jobs(
                    prompts, style.token, style.preset if preset is None else preset
                )
                for style in styles
            }
        )

    def ask_presets(self, prompts: Sequence[str], styles: Sequence[Style]) -> Answers:
        """Every prompt with every style's preset, but without a style token."""
        return self._answer(
            {style.name: self._jobs(prompts, None, style.preset) for style in styles}
        )

    def ask_plainly(self, prompts: Sequence[str]) -> Answers:
        """Every prompt without a style token, presets off."""
        return self._answer({"no token": self._jobs(prompts, None, PRESETS_OFF)})

    def ask_with_instructions(self, prompts: Sequence[str]) -> Answers:
        """Every prompt with a plain instruction in place of the style token, presets off."""
        return self._answer(
            {
                instruction.format("…"): self._jobs(
                    [instruction.format(words) for words in prompts], None, PRESETS_OFF
                )
                for instruction in PLAIN_INSTRUCTIONS
            }
        )

    def ask_seeds(
        self, prompts: Sequence[str], style: Style, seeds: Sequence[int]
    ) -> list[list[Output]]:
        """Every prompt with the style's preset, once a seed."""
        jobs = [
            self._job(words, style.token, style.preset, seed) for words in prompts for seed in seeds
        ]
        outputs = self._answer({style.name: jobs})[style.name]
        width = len(seeds)
        return [outputs[start : start + width] for start in range(0, len(outputs), width)]

    def _jobs(self, prompts: Sequence[str], token: str | None, preset: Preset) -> list[Job]:
        return [self._job(words, token, preset, seed) for seed, words in enumerate(prompts)]

    def _job(self, words: str, token: str | None, preset: Preset, seed: int) -> Job:
        ids = self._prompt.encode_prompt([Message("user", words)], token)
        return Job(ids, SamplingParams.from_preset(preset, seed=seed))

    def _answer(self, jobs_by_name: Mapping[str, list[Job]]) -> Answers:
        return {name: list(self._run(jobs)) for name, jobs in jobs_by_name.items()}

    def _run(self, jobs: list[Job]) -> Iterator[Output]:
        for start in range(0, len(jobs), _BATCH_SIZE):
            outputs = self._core.run(jobs[start : start + _BATCH_SIZE])
            self._bar.update(len(outputs))
            yield from outputs
