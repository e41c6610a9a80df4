"""What can go wrong while answering.

ServingError
├── InvalidRequestError        the request can never be answered as it stands; names the field
├── EngineBusyError            the queue is full; come back later
├── EngineNotReadyError        still loading, failed to load or stopped
├── DeadlineExceededError      the answer was not finished in time
├── RequestCancelledError      whoever asked does not want the answer any more
├── GenerationError            this one request failed inside the model
└── DeviceLostError            nothing can run any more until the process is replaced
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of everything the engine raises on purpose."""


class InvalidRequestError(ServingError):
    """The request cannot be answered; `field` names what to change and the message says how."""

    def __init__(self, field: str, message: str) -> None:
        """Keep the field apart from the message."""
        super().__init__(message)
        self.field = field


class EngineBusyError(ServingError):
    """The queue is full; `retry_after_seconds` estimates when a place is free."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        """Keep the estimate for the caller."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineNotReadyError(ServingError):
    """The engine cannot answer now; the message says why."""


class DeadlineExceededError(ServingError):
    """The request waited or ran for longer than allowed."""


class GenerationError(ServingError):
    """The model failed on this request."""


class RequestCancelledError(ServingError):
    """The request was cancelled by its caller."""


class DeviceLostError(ServingError):
    """The device failed for good; a new process is needed."""
