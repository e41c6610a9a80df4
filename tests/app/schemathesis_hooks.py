"""What the document cannot say to Schemathesis; test_random_requests.py names this file to it."""

import schemathesis

from app.schemas import MOST_MESSAGES

QUESTION = {"role": "user", "content": "What is rate limiting?"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Make good bodies keep the rules for which JSON Schema has no words; bad ones stay bad."""
    is_good = case.meta is not None and case.meta.generation.mode.is_positive
    if is_good and isinstance(case.body, dict):
        case.body = {**case.body, **dict(_mended(case.body))}


def _mended(body):
    if messages := body.get("messages"):  # the last one has to be a question
        yield "messages", [*messages[: MOST_MESSAGES - 1], QUESTION]
    if body.get("min_new_tokens") and body.get("max_new_tokens"):  # the one is under the other
        yield "min_new_tokens", min(body["min_new_tokens"], body["max_new_tokens"])
    if body.get("top_logprobs"):  # they need their switch
        yield "logprobs", True
    if body.get("top_logprobs") or body.get("logprobs") not in (None, False):
        yield "stream", None  # probabilities come with a whole answer only
    if body.get("max_tokens") == 0:  # for scores of an echo only
        yield "max_tokens", 1
    if body.get("model"):  # its id may name a style, which has to be the same
        yield "style", None
