"""Turns a request into a job, or refuses what can never be answered."""

from __future__ import annotations

import dataclasses

from adapters.manifest import AdapterManifest
from adapters.prompts import PromptError, PromptFormat
from adapters.styles import Preset, Style
from serving.config import EngineConfig
from serving.errors import InvalidRequestError
from serving.sampling import SamplingParams
from serving.scheduler import Job
from serving.types import MOST_LOGPROBS, GenerationRequest


class Admission:
    """Knows the styles, the prompt format and the limits of a server; safe to share."""

    def __init__(
        self,
        config: EngineConfig,
        manifest: AdapterManifest,
        prompt: PromptFormat,
        *,
        kv_cache_tokens: int,
    ) -> None:
        """Keep what requests are checked against."""
        self._config, self._manifest, self._prompt = config, manifest, prompt
        self._kv_cache_tokens = kv_cache_tokens

    def admit(self, request: GenerationRequest) -> tuple[Job, Style]:
        """The job of a request, and its style.

        Raises:
            InvalidRequestError: it can never be answered as it stands.
        """
        try:
            style = self._manifest.style(request.style)
        except KeyError:
            known = ", ".join(style.name for style in self._manifest.styles)
            raise InvalidRequestError(
                "style", f"Unknown style {request.style!r}. Choose one of: {known}."
            ) from None
        _check_sampling(request)
        params = SamplingParams.from_preset(
            self._merge(request, style.preset),
            seed=request.seed,
            top_k=request.top_k or 0,
            stop=request.stop,
        )
        params = dataclasses.replace(params, logprobs=request.logprobs)
        if _only_scores(request):
            params = dataclasses.replace(params, min_new_tokens=0, max_new_tokens=0)
        job = Job(self._encode(request, style), params)
        if request.prompt_logprobs:
            job.scored = self._prompt.find_words(request.messages, style.token)
        if job.num_tokens_at_most > self._kv_cache_tokens:
            raise InvalidRequestError(
                "max_new_tokens",
                f"{len(job.prompt_ids)} prompt tokens and up to {params.max_new_tokens} new ones "
                f"can never fit into the {self._kv_cache_tokens} tokens of this server's cache. "
                "Ask for fewer, or raise kv_cache_gb.",
            )
        return job, style

    def _encode(self, request: GenerationRequest, style: Style) -> list[int]:
        try:
            ids = self._prompt.encode_prompt(request.messages, style.token)
        except PromptError as error:
            raise InvalidRequestError("prompt", str(error)) from error
        if len(ids) > self._config.max_prompt_tokens:
            raise InvalidRequestError(
                "prompt",
                f"The prompt has {len(ids)} tokens; at most {self._config.max_prompt_tokens} "
                "are accepted. Shorten it.",
            )
        return ids

    def _merge(self, request: GenerationRequest, preset: Preset) -> Preset:
        """The style's preset with the values that the request sets itself."""
        most = self._config.max_new_tokens
        for name in ("max_new_tokens", "min_new_tokens"):
            value = getattr(request, name)
            if value is not None and value > most:
                raise InvalidRequestError(name, f"{value} is over this server's limit of {most}.")
        low, high = request.min_new_tokens, request.max_new_tokens
        if _only_scores(request):
            high = 1  # as few as a preset can have
        if high is None and preset.max_new_tokens > most:
            high = most  # the limit holds for presets as well
        if low is None and high is not None:
            low = min(preset.min_new_tokens, high)  # whoever asks for less wants less
        if high is None and low is not None:
            high = max(preset.max_new_tokens, low)
        try:
            return preset.override(
                temperature=request.temperature,
                top_p=request.top_p,
                min_new_tokens=low,
                max_new_tokens=high,
            )
        except ValueError as error:
            field_name = str(error).split()[0]
            raise InvalidRequestError(field_name, f"{error}.") from error


def _only_scores(request: GenerationRequest) -> bool:
    """Whether the prompt is to be scored and nothing generated."""
    return request.prompt_logprobs and request.max_new_tokens == 0


def _check_sampling(request: GenerationRequest) -> None:
    """Refuse what a device could not compute with."""
    if request.top_k is not None and not 0 <= request.top_k < 2**31:
        raise InvalidRequestError("top_k", f"Must be 0 to 2^31 - 1, not {request.top_k}.")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise InvalidRequestError("seed", f"Must be 0 to 2^63 - 1, not {request.seed}.")
    if request.logprobs is not None and not 0 <= request.logprobs <= MOST_LOGPROBS:
        raise InvalidRequestError(
            "logprobs", f"Must be 0 to {MOST_LOGPROBS}, not {request.logprobs}."
        )
    if "" in request.stop:
        raise InvalidRequestError("stop", "An empty text would end every answer at once.")
