"""Many clients of a server at once, in a process of their own: their work is not the server's.

`Crowd` begins them; what follows it runs in that process, as `python -m tests.app.crowd PLAN`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from tests.app.servers import ROOT, Server


@dataclass(frozen=True)
class Plan:
    """What each client does."""

    port: int
    num_clients: int
    prompt: str
    keys: tuple[str, ...] = ()
    """Shared among the clients; none for a server that asks for none."""
    restless: bool = False
    """Ask again and again until told to stop, instead of until answered once."""


@dataclass(frozen=True)
class Answer:
    """What a request came to."""

    request_id: str
    status: int | None
    """None for a connection that was refused, or broke before the answer was complete."""
    retry_after: int | None
    began: float
    """On the clock of `time.monotonic`, which all processes of a machine share."""
    seconds: float


class Crowd:
    """Clients that ask, each one question after the other, until they are called back."""

    def __init__(self, server: Server, num_clients: int, prompt: str, **more: object) -> None:
        plan = Plan(server.port, num_clients, prompt, **more)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "tests.app.crowd", json.dumps(asdict(plan))]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answers(self, timeout_seconds: float = 60) -> list[Answer]:
        """What all requests came to; restless clients ask nothing new from here on."""
        try:
            written, _ = self._process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        assert self._process.returncode == 0
        return [Answer(**answer) for answer in json.loads(written)]


PAUSE_SECONDS = 0.05
"""Between the questions of a restless client."""


async def ask(plan: Plan, client: int, number: int) -> Answer:
    """One request on a connection of its own."""
    request_id, began = f"{client}-{number}", time.monotonic()
    body = json.dumps({"prompt": plan.prompt})
    lines = ["POST /generate HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"X-Request-ID: {request_id}"]
    if plan.keys:
        lines.append(f"Authorization: Bearer {plan.keys[client % len(plan.keys)]}")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
        writer.write("\r\n".join([*lines, "", body]).encode())
        status, retry_after = await read_answer(reader)
        writer.close()
    except (OSError, EOFError):
        status, retry_after = None, None
    return Answer(request_id, status, retry_after, began, time.monotonic() - began)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, int | None]:
    """Status and Retry-After of an answer, once it is complete."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    await reader.readexactly(int(headers["content-length"]))
    retry_after = headers.get("retry-after")
    return int(first.split()[1]), None if retry_after is None else int(retry_after)


async def come_back_until_answered(plan: Plan, client: int) -> list[Answer]:
    """A client that waits as long as it is told to before it asks again."""
    answers = [await ask(plan, client, 0)]
    while answers[-1].status != 200 and answers[-1].retry_after is not None:
        await asyncio.sleep(answers[-1].retry_after)
        answers.append(await ask(plan, client, len(answers)))
    return answers


async def ask_until_told(plan: Plan, client: int, told: asyncio.Event) -> list[Answer]:
    """A client that does not care what it is told."""
    answers: list[Answer] = []
    while not told.is_set():
        answers.append(await ask(plan, client, len(answers)))
        await asyncio.sleep(PAUSE_SECONDS)
    return answers


async def send_all(plan: Plan) -> list[Answer]:
    """The answers to all clients; the end of the standard input tells them to stop."""
    told = asyncio.Event()
    if plan.restless:
        visits = [ask_until_told(plan, client, told) for client in range(plan.num_clients)]
    else:
        visits = [come_back_until_answered(plan, client) for client in range(plan.num_clients)]
    clients = asyncio.gather(*visits)
    await asyncio.to_thread(sys.stdin.read)
    told.set()
    return [answer for answers in await clients for answer in answers]


if __name__ == "__main__":
    found = asyncio.run(send_all(Plan(**json.loads(sys.argv[1]))))
    sys.stdout.write(json.dumps([asdict(answer) for answer in found]))
