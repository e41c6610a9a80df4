"""The routes of Laconic's own API."""

from __future__ import annotations

from collections.abc import Mapping

from app.ai_echo import EchoRequestSchema, EchoResponseSchema
from app.reference.operation import (
    EVENTS,
    GENERATES,
    JSON,
    READS_A_BODY,
    STREAM,
    Content,
    Operation,
    Reply,
    replies,
)
from app.schemas import GenerateRequestSchema, GenerateResponseSchema
from app.training_status import TrainingStatusSchema

TAG = "Answers"
PAGE_TAG = "For other pages"

_ANSWER = {
    "response": "Rate limiting restricts how often a client may call a service.",
    "style": "terse",
    "tokens": 13,
    "prompt_tokens": 17,
    "latency": 0.25,
    "finish_reason": "stop",
}

_STREAM = """\
: ping

data: {"delta": "Rate limiting restricts "}

data: {"delta": "how often a client may call a service."}

event: done
data: {"response": "Rate limiting restricts how often a client may call a service.", \
"style": "terse", "tokens": 13, "prompt_tokens": 17, "latency": 0.25, "finish_reason": "stop"}

"""

_ECHO_BODIES = {
    "a message": {"message": "What is rate limiting?", "style": "terse"},
    "a conversation": {
        "message": "How is it built?",
        "history": [
            {"role": "user", "content": "What is rate limiting?"},
            {"role": "assistant", "content": "A cap on how often one may call."},
        ],
    },
}
_ECHO_ANSWER = {name: value for name, value in _ANSWER.items() if name != "prompt_tokens"}
_ECHO_STREAM = """\
: ping

data: {"token": "Rate limiting restricts "}

data: {"token": "how often a client may call a service."}

data: {"done": true, "response": "Rate limiting restricts how often a client may call a service.", \
"style": "terse", "tokens": 13, "latency": 0.25, "finish_reason": "stop"}

"""
_RUN = {
    "state": "running",
    "name": "pocket",
    "step": 40,
    "total_steps": 100,
    "loss": 1.25,
    "eta_seconds": 90.5,
    "memory_gb": 1.5,
    "updated": "2026-01-01T00:00:00+00:00",
}

OPERATIONS: Mapping[str, Operation] = {
    "generate.generate": Operation(
        tag=TAG,
        summary="Answer a question or a conversation in a style",
        description=(
            "Send either `prompt` or `messages`. Settings that are left out, or null, are those of "
            "the style's preset. With `stream: true` the answer comes as server-sent events: "
            "pieces of text as `delta`, then an event `done` with the whole answer, or an event "
            "`error` with a problem document. Lines that begin with a colon mean nothing."
        ),
        body=Content(
            GenerateRequestSchema,
            {
                "a question": {"prompt": "What is rate limiting?", "style": "terse"},
                "a conversation": {
                    "messages": [
                        {"role": "user", "content": "What is rate limiting?"},
                        {"role": "assistant", "content": "A cap on how often one may call."},
                        {"role": "user", "content": "How is it built?"},
                    ],
                    "style": "verbose",
                },
                "other settings": {
                    "prompt": "What is rate limiting?",
                    "temperature": 0,
                    "max_new_tokens": 64,
                    "stop": ["\n\n"],
                },
                "a stream": {"prompt": "What is rate limiting?", "stream": True},
            },
        ),
        replies={
            200: Reply(
                "The answer, whole or as a stream.",
                {
                    JSON: Content(GenerateResponseSchema, {"an answer": _ANSWER}),
                    EVENTS: Content(STREAM, {"a stream": _STREAM}),
                },
            )
        },
        errors=READS_A_BODY | GENERATES,
    ),
    "ai_echo.chat": Operation(
        tag=PAGE_TAG,
        summary="Answer a message",
        description="Send either `message` or `prompt`; other unknown fields are ignored.",
        body=Content(EchoRequestSchema, _ECHO_BODIES),
        replies=replies("The answer.", EchoResponseSchema, {"an answer": _ECHO_ANSWER}),
        errors=READS_A_BODY | GENERATES,
    ),
    "ai_echo.stream": Operation(
        tag=PAGE_TAG,
        summary="Answer a message as a stream",
        description=(
            "Server-sent events: pieces of text as `token`, then one with `done` and the fields of "
            "the whole answer, or one with `error` and the reason."
        ),
        body=Content(EchoRequestSchema, _ECHO_BODIES),
        replies=replies("The stream.", STREAM, {"a stream": _ECHO_STREAM}, media_type=EVENTS),
        errors=READS_A_BODY | GENERATES,
    ),
    "training_status.status": Operation(
        tag=PAGE_TAG,
        summary="How far the newest training run is",
        description="`idle`, and nothing else, when there is no run.",
        replies=replies(
            "The state of the run; null for what the trainer does not know.",
            TrainingStatusSchema,
            {"no run": {"state": "idle"}, "a run": _RUN},
        ),
    ),
}
