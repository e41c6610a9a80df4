"""One thread that owns the model and answers requests from a bounded queue."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

import torch

from adapters.manifest import AdapterManifest
from adapters.prompts import PromptError
from adapters.styles import Preset, Style
from serving.config import EngineConfig
from serving.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineNotReadyError,
    GenerationError,
    InvalidRequestError,
)
from serving.loader import LoadedModel, load
from serving.runner import Output, Row, generate
from serving.sampler import SamplingParams
from serving.startup import check_start
from serving.types import Completion, EngineStatus, GenerationRequest

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""How often an idle engine looks whether it was stopped."""


@dataclass
class _Job:
    """A request on its way through the queue."""

    row: Row
    style: Style
    accepted: float
    done: threading.Event = field(default_factory=threading.Event)
    output: Output | None = None
    error: Exception | None = None
    abandoned: bool = False


class ModelEngine:
    """Answers requests with a base model and an adapter; see `serving.types.Engine`.

    The adapter is checked at once; the model is loaded in the engine's own thread, so that a server
    can say "loading" meanwhile. Nothing touches CUDA before `start`.
    """

    def __init__(self, config: EngineConfig) -> None:
        """Check the adapter; raises what `serving.startup.check_start` raises."""
        self._config = config
        self._manifest: AdapterManifest = check_start(config)
        self._queue: queue.Queue[_Job] = queue.Queue(config.queue_size)
        # Held while a request is put into the queue, so that none slips in behind a stop.
        self._admission = threading.Lock()
        self._state: Literal["loading", "ready", "failed", "stopped"] = "loading"
        self._detail = "the model is being loaded"
        self._loaded: LoadedModel | None = None
        self._num_running = 0
        self._seconds_per_batch = 1.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load and then to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what runs, refuse what waits."""
        with self._admission:
            self._state, self._detail = "stopped", "the server is shutting down"
            self._fail_waiting()
        if self._thread.is_alive():
            self._thread.join()

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it; see `serving.types.Engine`."""
        started = time.monotonic()
        if self._state != "ready" or self._loaded is None:
            raise EngineNotReadyError(self._detail)
        job = self._admit(request, self._loaded, started)
        with self._admission:
            if self._state != "ready":
                raise EngineNotReadyError(self._detail)
            try:
                self._queue.put_nowait(job)
            except queue.Full:
                raise EngineBusyError(
                    f"{self._config.queue_size} requests are waiting already",
                    retry_after_seconds=self._estimate_wait(),
                ) from None
        if not job.done.wait(self._config.request_timeout_seconds):
            job.abandoned = True
            raise DeadlineExceededError(
                f"not finished within {self._config.request_timeout_seconds:g} seconds"
            )
        if job.error is not None:
            raise job.error
        assert job.output is not None
        return Completion(
            text=self._loaded.prompt.decode(job.output.ids).strip(),
            style=job.style.name,
            num_prompt_tokens=len(job.row.prompt_ids),
            num_tokens=len(job.output.ids),
            finish_reason=job.output.finish_reason,
            seconds=time.monotonic() - started,
        )

    def status(self) -> EngineStatus:
        """A snapshot, without waiting; see `serving.types.Engine`."""
        model = None if self._loaded is None else self._loaded.model
        on_gpu = model is not None and model.device.type == "cuda"
        return EngineStatus(
            state=self._state,
            detail="" if self._state == "ready" else self._detail,
            model=self._config.base_model or self._manifest.base.name,
            adapter=self._manifest.name,
            adapter_version=self._manifest.version,
            quantization=self._config.quantization,
            device=self._config.device if model is None else str(model.device),
            gpu_memory_gb=torch.cuda.memory_reserved() / 1e9 if on_gpu else 0.0,
            num_running=self._num_running,
            num_waiting=self._queue.qsize(),
            queue_size=self._config.queue_size,
            default_style=self._manifest.default_style,
            styles=self._manifest.styles,
        )

    def _admit(self, request: GenerationRequest, loaded: LoadedModel, started: float) -> _Job:
        """Turn a request into a row, refusing what can never be answered."""
        try:
            style = self._manifest.style(request.style)
        except KeyError:
            known = ", ".join(style.name for style in self._manifest.styles)
            raise InvalidRequestError(
                "style", f"Unknown style {request.style!r}. Choose one of: {known}."
            ) from None
        preset = self._merge(request, style.preset)
        try:
            ids = loaded.prompt.encode_prompt(request.messages, style.token)
        except PromptError as error:
            raise InvalidRequestError("prompt", str(error)) from error
        if len(ids) > self._config.max_prompt_tokens:
            raise InvalidRequestError(
                "prompt",
                f"The prompt has {len(ids)} tokens; at most {self._config.max_prompt_tokens} "
                "are accepted. Shorten it.",
            )
        return _Job(Row(ids, SamplingParams(preset, request.seed)), style, started)

    def _merge(self, request: GenerationRequest, preset: Preset) -> Preset:
        """The style's preset with the values that the request sets itself."""
        most = self._config.max_new_tokens
        for name in ("max_new_tokens", "min_new_tokens"):
            value = getattr(request, name)
            if value is not None and value > most:
                raise InvalidRequestError(name, f"{value} is over this server's limit of {most}.")
        low, high = request.min_new_tokens, request.max_new_tokens
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

    def _estimate_wait(self) -> int:
        batches = 1 + self._queue.qsize() // self._config.max_batch_size
        return max(1, round(batches * self._seconds_per_batch))

    def _run(self) -> None:
        """The engine thread: load, then answer until stopped."""
        started = time.monotonic()
        try:
            self._loaded = loaded = load(self._config)
        except Exception as error:  # whatever it is, callers must learn of it
            logger.exception("the model could not be loaded")
            self._state, self._detail = "failed", f"the model could not be loaded: {error}"
            return
        logger.info(
            "%s with adapter %s (%s) is ready on %s after %.1f s",
            self._manifest.base.name,
            self._manifest.name,
            self._config.quantization,
            loaded.model.device,
            time.monotonic() - started,
        )
        if self._state == "loading":
            self._state = "ready"
        while self._state == "ready":
            self._answer(self._next_jobs(), loaded)

    def _next_jobs(self) -> list[_Job]:
        """Wait a moment for a request, then take along those that wait too."""
        jobs: list[_Job] = []
        try:
            jobs.append(self._queue.get(timeout=_POLL_SECONDS))
            while len(jobs) < self._config.max_batch_size:
                jobs.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return [job for job in jobs if not job.abandoned]

    def _answer(self, jobs: list[_Job], loaded: LoadedModel) -> None:
        if not jobs:
            return
        self._num_running = len(jobs)
        started = time.monotonic()
        try:
            outputs = generate(
                loaded.model,
                [job.row for job in jobs],
                eos_ids=loaded.eos_ids,
                suppressed_ids=loaded.suppressed_ids,
                abandoned=lambda: [job.abandoned for job in jobs],
            )
        except Exception as error:  # the thread must outlive any request
            self._retry_alone(jobs, loaded, error)
            return
        finally:
            self._num_running = 0
        self._seconds_per_batch = time.monotonic() - started
        for job, output in zip(jobs, outputs, strict=True):
            job.output = output
            job.done.set()

    def _retry_alone(self, jobs: list[_Job], loaded: LoadedModel, error: Exception) -> None:
        """Let the request that failed a batch fail by itself."""
        logger.error("a batch of %d failed", len(jobs), exc_info=error)
        if len(jobs) == 1:
            jobs[0].error = GenerationError("the model failed on this request; see the log")
            jobs[0].done.set()
            return
        for job in jobs:
            self._answer([job], loaded)

    def _fail_waiting(self) -> None:
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return
            job.error = EngineNotReadyError(self._detail)
            job.done.set()
