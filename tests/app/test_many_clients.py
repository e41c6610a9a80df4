"""200 clients at once of a server that takes 32: everybody is answered, and nothing stays behind.

They come twice: what the first crowd leaves in memory is threads and buffers, which the second one
finds ready; what the second one leaves on top would be lost.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.auth.keys import make_key
from tests.app.crowd import Answer, Crowd
from tests.app.servers import HealthWatch, Server, wait_for

pytestmark = pytest.mark.slow

NUM_CLIENTS = 200
PLACES = 32
NUM_KEYS = 9
REQUESTS_PER_KEY = 4
"""At a time. 32 places can only be taken if some keys have all of theirs, whose next request gets
429, and others have not, whose next one gets 503."""
QUESTION = "words 2 seconds 0.3"
DEADLINE_SECONDS = 5
"""Far more than the 0.6 seconds of an answer, and far less than a second one after it would take
if requests had to wait for each other."""
MOST_BYTES_LEFT = 8 * 2**20


@dataclass(frozen=True)
class Visit:
    """What one crowd met, and what it left."""

    answers: list[Answer]
    health: HealthWatch
    resident_bytes: int
    present: int


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    made = [make_key(f"client{number}") for number in range(NUM_KEYS)]
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(entry for _, entry in made), encoding="utf-8")
    settings = {
        "TEST_PLACES": str(PLACES),
        "LACONIC_API_KEYS_FILE": str(file),
        "LACONIC_CONCURRENT_REQUESTS": str(REQUESTS_PER_KEY),
    }
    with Server(**settings) as server:
        server.key = made[0][0]
        yield [visit(server, tuple(key for key, _ in made)) for _ in range(2)]


def visit(server, keys):
    with HealthWatch(server) as health:
        answers = Crowd(server, NUM_CLIENTS, QUESTION, keys=keys).answers()
    wait_for(lambda: server.probe()["present"] == 0, 1)
    facts = server.probe()
    return Visit(answers, health, resident_bytes(facts["pid"]), facts["present"])


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


def test_every_answer_is_an_answer_or_says_when_to_come_back(visits):
    for visit in visits:
        statuses = Counter(answer.status for answer in visit.answers)
        assert set(statuses) == {200, 429, 503}
        assert statuses[200] == NUM_CLIENTS  # who comes back is answered in the end
        assert all(answer.retry_after > 0 for answer in visit.answers if answer.status != 200)


def test_every_answer_is_there_within_the_deadline(visits):
    for visit in visits:
        assert max(answer.seconds for answer in visit.answers) < DEADLINE_SECONDS


def test_the_server_says_at_once_that_it_lives_meanwhile(visits):
    for visit in visits:
        assert set(visit.health.statuses) == {200}
        assert len(visit.health.seconds) > 50
    # the better of two, as this machine may have something else to do at times
    assert min(visit.health.percentile(0.99) for visit in visits) < 0.1


def test_nothing_is_left_behind(visits):
    first, second = visits
    assert second.present == 0
    assert second.resident_bytes - first.resident_bytes < MOST_BYTES_LEFT
