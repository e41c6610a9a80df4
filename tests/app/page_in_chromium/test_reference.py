"""The page `/docs` shows the whole of `/openapi.json`, and nothing of it becomes active content."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.app.page_in_chromium.conftest import PATIENCE_MILLISECONDS

pytestmark = pytest.mark.slow

ATTACK = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'


@pytest.fixture
def reference(browser: Browser, address: str) -> Iterator[Page]:
    """A page that meets no error, breaks no policy and asks nobody but the server."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    problems, addresses = [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    yield page
    context.close()
    assert problems == []
    assert addresses
    assert [url for url in addresses if not url.startswith(address)] == []


def come(page: Page, address: str, name: str = "") -> None:
    page.goto(f"{address}docs{name}")
    expect(page.locator(".operation").first).to_be_attached()


def test_every_operation_of_the_document_is_shown(reference: Page, address: str):
    come(reference, address)
    document = reference.request.get(f"{address}openapi.json").json()
    described = [
        (method.upper(), path, operation["summary"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    shown = reference.locator(".operation > summary").evaluate_all(
        "all => all.map(summary => [...summary.children].map(child => child.textContent))"
    )
    assert sorted(map(tuple, shown)) == sorted(described)


def test_an_operation_shows_its_fields_its_limits_and_its_errors(reference: Page, address: str):
    come(reference, address, "#generate_generate")
    operation = reference.locator("#generate_generate")
    expect(operation.get_by_role("cell", name="messages[].role *", exact=True)).to_be_visible()
    expect(operation.get_by_role("row", name="temperature")).to_contain_text("from 0; to 2")
    expect(operation.get_by_role("row", name="style").first).to_contain_text('"verbose"')
    for status in ("200", "400", "401", "413", "415", "422", "429", "500", "503", "504"):
        expect(operation.locator(".status", has_text=status)).to_be_visible()


def test_the_command_of_an_operation_is_one_that_the_server_takes(reference: Page, address: str):
    come(reference, address, "#generate_generate")
    command = reference.locator("#generate_generate pre").first.inner_text()
    assert command.startswith(f"curl -s '{address}generate' ")
    body = command.split("-d '")[1].removesuffix("'")
    answered = reference.request.post(f"{address}generate", data=json.loads(body))
    assert answered.ok


def test_words_find_the_operations_that_have_them(reference: Page, address: str):
    come(reference, address)
    reference.get_by_label("Find").fill("prometheus FIGURES")
    expect(reference.locator(".operation:visible")).to_have_count(1)
    expect(reference.locator(".operation:visible .path")).to_have_text("/metrics")
    expect(reference.locator("section:visible")).to_have_count(1)
    reference.get_by_label("Find").fill("")
    expect(reference.locator(".operation:visible .path").first).to_have_text("/generate")


def test_markup_in_the_document_is_shown_as_text(reference: Page, address: str):
    def attack(route: Route) -> None:
        document = route.fetch().json()
        document["info"]["description"] = ATTACK
        operation = document["paths"]["/generate"]["post"]
        operation["summary"] = operation["description"] = ATTACK
        fields = document["components"]["schemas"]["GenerateRequest"]["properties"]
        fields[ATTACK] = {"type": ATTACK, "description": ATTACK, "enum": [ATTACK]}
        route.fulfill(json=document)

    reference.route("**/openapi.json", attack)
    come(reference, address, "#generate_generate")
    expect(reference.locator("#about")).to_have_text(ATTACK)
    expect(reference.locator("#generate_generate")).to_contain_text(ATTACK)
    assert reference.evaluate("window.hacked") is None
    assert reference.locator("main img, main script").count() == 0


def test_a_document_that_cannot_be_read_is_reported(browser: Browser, address: str):
    page = browser.new_page()
    page.route("**/openapi.json", lambda route: route.fulfill(status=503, body="{}"))
    page.goto(f"{address}docs")
    expect(page.get_by_role("alert")).to_contain_text("the server answered 503")
    page.close()


def test_a_phone_shows_the_page_without_scrolling_sideways(reference: Page, address: str):
    reference.set_viewport_size({"width": 360, "height": 740})
    come(reference, address, "#generate_generate")
    assert reference.evaluate("document.documentElement.scrollWidth") <= 360
