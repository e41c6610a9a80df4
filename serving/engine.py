"""The engine: one thread that owns the model, and the door through which requests come in."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import torch

from adapters.manifest import AdapterManifest
from adapters.styles import Style
from serving.admission import Admission
from serving.answer import Answer
from serving.config import EngineConfig
from serving.core import EngineCore
from serving.detokenizer import Detokenizer
from serving.errors import DeviceLostError, EngineBusyError, EngineNotReadyError, ServingError
from serving.handle import RequestHandle
from serving.loader import LoadedModel, load
from serving.startup import check_start
from serving.types import Completion, EngineStatus, GenerationRequest, Output

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
"""How often an idle engine gives a sign of life."""
_LONGEST_WAIT_SECONDS = 60
"""Nobody is told to come back later than that."""


class ModelEngine:
    """Answers requests with a base model and an adapter; see `serving.types.Engine`.

    The adapter is checked at once; the model is loaded in the engine's own thread, so that a server
    can say "loading" meanwhile. Nothing touches CUDA before `start`.
    """

    def __init__(
        self, config: EngineConfig, *, on_death: Callable[[], None] = lambda: None
    ) -> None:
        """Check the adapter; raises what `serving.startup.check_start` raises.

        `on_death` is called, after every caller was told, when the device is lost for good.
        """
        self._config = config
        self._on_death = on_death
        self._manifest: AdapterManifest = check_start(config)
        self._state: Literal["loading", "ready", "failed", "dead", "stopped"] = "loading"
        self._detail = "the model is being loaded"
        self._loaded: LoadedModel | None = None
        self._core: EngineCore | None = None
        self._admission: Admission | None = None
        # Guards the inbox and the state, so that no request slips in behind a stop.
        self._changed = threading.Condition()
        self._inbox: deque[Answer] = deque()
        self._beat = time.monotonic()
        self._pace = _Pace()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load and then to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what runs, refuse what waits."""
        with self._changed:
            self._state, self._detail = "stopped", "the server is shutting down"
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it; see `serving.types.Engine`."""
        return self.submit(request, streams=False).result()

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> RequestHandle:
        """Begin to answer; see `serving.types.Engine`."""
        accepted = time.monotonic()
        if self._state != "ready" or self._admission is None or self._loaded is None:
            raise EngineNotReadyError(self._detail)
        job, style = self._admission.admit(request)
        handle = RequestHandle(streams=streams)
        allowed = self._config.request_timeout_seconds
        if request.timeout_seconds is not None:
            allowed = min(allowed, request.timeout_seconds)
        answer = Answer(
            job,
            Detokenizer(self._loaded.prompt, job.params.stop),
            streams=streams,
            deadline=accepted + allowed,
            is_cancelled=lambda: handle.cancelled,
            on_text=handle.put,
        )
        answer.on_end = lambda end: self._hand_over(end, handle, answer, style, accepted)
        with self._changed:
            if self._state != "ready":
                raise EngineNotReadyError(self._detail)
            self._refuse_if_full()
            self._inbox.append(answer)
            self._changed.notify()
        return handle

    def status(self) -> EngineStatus:
        """A snapshot, without waiting; see `serving.types.Engine`."""
        model = None if self._loaded is None else self._loaded.model
        on_gpu = model is not None and model.device.type == "cuda"
        idle_seconds = time.monotonic() - self._beat
        state, detail = self._state, self._detail
        if state == "ready" and idle_seconds > self._config.stall_seconds:
            return self._snapshot("stalled", f"no step for {idle_seconds:.0f} seconds", on_gpu)
        return self._snapshot(state, "" if state == "ready" else detail, on_gpu)

    def _snapshot(
        self,
        state: Literal["loading", "ready", "stalled", "failed", "dead", "stopped"],
        detail: str,
        on_gpu: bool,
    ) -> EngineStatus:
        loaded, core = self._loaded, self._core
        return EngineStatus(
            state=state,
            detail=detail,
            model=self._config.base_model or self._manifest.base.name,
            adapter=self._manifest.name,
            adapter_version=self._manifest.version,
            quantization=self._config.quantization,
            device=self._config.device if loaded is None else str(loaded.model.device),
            gpu_memory_gb=torch.cuda.memory_reserved() / 1e9 if on_gpu else 0.0,
            seconds_since_step=time.monotonic() - self._beat,
            kv_cache_tokens=0 if core is None else core.kv_cache_tokens,
            kv_cache_tokens_used=0 if core is None else core.kv_cache_tokens_used,
            num_running=0 if core is None else core.num_running,
            num_waiting=len(self._inbox) + (0 if core is None else core.num_waiting),
            queue_size=self._config.queue_size,
            default_style=self._manifest.default_style,
            styles=self._manifest.styles,
        )

    def _refuse_if_full(self) -> None:
        core = self._core
        assert core is not None
        present = len(self._inbox) + core.num_waiting + core.num_running
        if present >= self._config.max_batch_size + self._config.queue_size:
            waiting = present - core.num_running
            raise EngineBusyError(
                f"{core.num_running} requests are being answered and {waiting} are waiting already",
                retry_after_seconds=self._pace.seconds_for(waiting),
            )

    def _hand_over(
        self,
        end: Output | ServingError,
        handle: RequestHandle,
        answer: Answer,
        style: Style,
        accepted: float,
    ) -> None:
        if isinstance(end, ServingError):
            handle.put(end)
            return
        now = time.monotonic()
        self._pace.note_answer(now)
        handle.put(
            Completion(
                text=end.text,
                style=style.name,
                num_prompt_tokens=len(answer.job.prompt_ids),
                num_tokens=len(end.ids),
                finish_reason=end.finish_reason,
                seconds=now - accepted,
                first_token_seconds=(answer.first_token_at or now) - accepted,
                logprobs=end.logprobs,
                prompt_logprobs=end.prompt_logprobs,
            )
        )

    def _run(self) -> None:
        """The engine thread: load, then answer until stopped or lost."""
        try:
            core = self._load()
        except Exception as error:  # whatever it is, callers must learn of it
            logger.exception("the model could not be loaded")
            with self._changed:
                if self._state == "loading":
                    self._state = "failed"
                    self._detail = f"the model could not be loaded: {error}"
            return
        try:
            while self._take_in(core):
                core.step()
                self._beat = time.monotonic()
        except Exception as error:
            logger.exception("the engine is dead")
            self._die(core, error)
        finally:
            gc.unfreeze()

    def _load(self) -> EngineCore:
        started = time.monotonic()
        self._loaded = loaded = load(self._config)
        core = EngineCore(loaded, self._config)
        core.warm_up(lambda line: logger.info("warm-up: %s", line))
        self._admission = Admission(
            self._config, self._manifest, loaded.prompt, kv_cache_tokens=core.kv_cache_tokens
        )
        self._core = core
        # Python looks through all objects now and then; through those of the libraries and the
        # model it takes up to half a second, in the middle of somebody's answer.
        gc.freeze()
        self._beat = time.monotonic()
        logger.info(
            "%s with adapter %s is ready on %s after %.1f s: %s",
            self._manifest.base.name,
            self._manifest.name,
            loaded.model.device,
            time.monotonic() - started,
            core.describe(),
        )
        with self._changed:
            if self._state == "loading":
                self._state = "ready"
        return core

    def _take_in(self, core: EngineCore) -> bool:
        """Wait for something to do; False when there is nothing left to be done."""
        with self._changed:
            while self._state == "ready" and not self._inbox and core.is_idle:
                self._pace.rest(time.monotonic())
                self._changed.wait(_POLL_SECONDS)
                self._beat = time.monotonic()
            while self._inbox:
                core.add(self._inbox.popleft())
            stopped = self._state != "ready"
        if stopped:
            core.fail_waiting(EngineNotReadyError(self._detail))
        return not (stopped and core.is_idle)

    def _die(self, core: EngineCore, error: Exception) -> None:
        with self._changed:
            self._state, self._detail = "dead", f"the engine failed and must be replaced: {error}"
            while self._inbox:
                core.add(self._inbox.popleft())
        try:
            core.fail_all(DeviceLostError(self._detail))
        finally:
            self._on_death()


class _Pace:
    """How fast answers have been finished lately."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._seconds_per_answer = 1.0

    def note_answer(self, now: float) -> None:
        if self._last is not None:
            gap = min(now - self._last, _LONGEST_WAIT_SECONDS)
            self._seconds_per_answer += 0.1 * (gap - self._seconds_per_answer)
        self._last = now

    def rest(self, now: float) -> None:
        """Nothing is being answered: only what comes from now on counts for the next answer."""
        self._last = now

    def seconds_for(self, num_answers: int) -> int:
        seconds = math.ceil(num_answers * self._seconds_per_answer)
        return min(max(1, seconds), _LONGEST_WAIT_SECONDS)
