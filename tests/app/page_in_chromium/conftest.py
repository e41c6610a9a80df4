"""The chat page in a real browser, served by a real server around a fake engine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from werkzeug.serving import make_server

from app import create_app
from app.config import WebConfig
from tests.app.page_in_chromium.engine import GapEngine

CHROMIUM = shutil.which("chromium")
PATIENCE_MILLISECONDS = 15_000


@dataclass
class Visitor:
    """Somebody in front of the page, who notices everything that goes wrong."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    """Messages of the console and errors of scripts."""
    addresses: list[str] = field(default_factory=list)
    """Everything that the page asked for."""

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def come(self) -> None:
        """Open the page, or reload it, and wait until it knows the styles."""
        self.page.goto(self.address)
        expect(self.page.get_by_role("radio").first).to_be_attached()

    def choose(self, style: str) -> None:
        self.page.get_by_role("radio", name=style, exact=True).check()

    def ask(self, question: str) -> None:
        """Type a question and press Enter."""
        self.field.fill(question)
        self.field.press("Enter")

    def ask_and_wait(self, question: str) -> None:
        """Ask, and wait until every answer is complete."""
        turns = self.page.locator(".turn").count()
        self.ask(question)
        expect(self.page.locator(".turn")).to_have_count(turns + 1)
        self.wait()

    def wait(self) -> None:
        expect(self.button("Stop")).to_be_hidden()
        expect(self.page.locator(".answer[aria-busy]")).to_have_count(0)

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Your question", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.locator(".answer")

    @property
    def words(self) -> Locator:
        """What was answered, without names and figures."""
        return self.page.locator(".answer .prose")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def expects(self, words: str) -> None:
        """Something did go wrong, as it should, and the console may say so."""
        assert [problem for problem in self.problems if words in problem]
        self.problems = [problem for problem in self.problems if words not in problem]


Enter = Callable[..., Visitor]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine (Debian: apt install chromium)")
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def engine() -> GapEngine:
    return GapEngine()


@pytest.fixture
def address(engine: GapEngine) -> Iterator[str]:
    """Where the page is; pings are frequent, as this server notices only then who has gone."""
    app = create_app(engine, WebConfig(sse_ping_seconds=0.05))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/"
    engine.open.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def enter(browser: Browser, address: str) -> Iterator[Enter]:
    """Opens the page for somebody new; nobody may meet an error or be sent to another server."""
    visitors: list[Visitor] = []

    def come(**options: object) -> Visitor:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        visitor = Visitor(context.new_page(), address)
        visitors.append(visitor)
        visitor.come()
        return visitor

    yield come
    for visitor in visitors:
        visitor.page.context.close()
        assert visitor.problems == []
        outside = [url for url in visitor.addresses if not url.startswith((address, "blob:"))]
        assert outside == []


@pytest.fixture
def visitor(enter: Enter) -> Visitor:
    return enter()
