"""`GET /` and `GET /static/<file>`: what is served, how, and that it needs nobody else."""

import hashlib
import re
from html.parser import HTMLParser

import pytest
from flask.testing import FlaskClient

from app import page

OWN_TEXTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in sorted(page.FOLDER.iterdir())
    if path.is_file()
}
SCRIPTS = {
    name: text
    for name, text in OWN_TEXTS.items()
    if name.endswith(".js") and not name.startswith("docs")  # those belong to another page
}
VENDOR = page.FOLDER / "vendor"
SERVED = [*page.OWN_FILES, *page.VENDORED_FILES]


class Elements(HTMLParser):
    """Collects every start tag with its attributes, and the text right after it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def named(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def elements() -> Elements:
    return Elements(OWN_TEXTS[page.PAGE])


def test_the_page_is_html_and_browsers_ask_whether_it_changed(client: FlaskClient):
    response = client.get("/")
    again = client.get("/", headers={"If-None-Match": response.headers["ETag"]})

    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert b"<!doctype html>" in response.data
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("name", SERVED)
def test_a_file_comes_whole_and_with_its_type(client: FlaskClient, name: str):
    types = {
        "js": "text/javascript; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "svg": "image/svg+xml",
    }
    response = client.get(f"/static/{name}")

    assert response.status_code == 200
    assert response.content_type == types[name.rpartition(".")[2]]
    assert response.data == (page.FOLDER / name).read_bytes()
    assert response.headers["ETag"] == f'"{hashlib.sha256(response.data).hexdigest()}"'


def test_only_files_with_a_version_in_their_name_are_kept_for_good(client: FlaskClient):
    lasting = {
        name for name in SERVED if client.get(f"/static/{name}").cache_control.immutable is True
    }

    assert lasting == {name for name in SERVED if re.search(r"-\d+\.\d+\.\d+\.js$", name)}
    assert lasting == set(page.VENDORED_FILES)


def test_every_file_of_the_folder_is_served_and_no_other_is_listed():
    present = {str(path.relative_to(page.FOLDER)) for path in page.FOLDER.rglob("*.*")}
    unserved = {name for name in present if name.endswith((".LICENSE", "README.md", ".html"))}

    assert present - unserved == set(SERVED)


@pytest.mark.parametrize(
    "name",
    [
        "../page.py",
        "..%2fpage.py",
        "%2e%2e/page.py",
        "vendor/../app.js",
        "vendor%2f..%2f..%2fpage.py",
        "%2fetc%2fpasswd",
        "vendor/README.md",
        "vendor/",
        "index.html",
        "APP.JS",
        "app.js%00",
        "app.js/",
        "",
    ],
)
def test_any_other_name_is_not_found(client: FlaskClient, name: str):
    response = client.get(f"/static/{name}", follow_redirects=True)

    assert response.status_code == 404
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
def test_nothing_can_be_sent_to_the_page(client: FlaskClient, path: str):
    assert client.post(path, json={}).status_code == 405


def test_the_page_may_run_and_reach_its_own_server_only(client: FlaskClient):
    rules = client.get("/").headers["Content-Security-Policy"].split("; ")
    policy = {name: values for name, *values in (rule.split() for rule in rules)}

    assert policy["default-src"] == ["'none'"]
    assert {name: policy[name] for name in ("script-src", "style-src", "connect-src")} == {
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
    }
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == ["'none'"]
    assert "unsafe" not in " ".join(rules)
    assert policy["require-trusted-types-for"] == ["'script'"]
    assert policy["trusted-types"] == ["dompurify"]


def test_vendored_files_are_what_their_list_says():
    rows = re.findall(
        r"^\| \[`(\S+)`\].*\| `([0-9a-f]{64})` \|$",
        (VENDOR / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    present = {path.name for path in VENDOR.iterdir()} - {"README.md"}

    assert {name for name, _ in rows} == present
    assert {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in present} == (
        dict(rows)
    )
    scripts = {name.removesuffix(".js") for name in present if name.endswith(".js")}
    assert {f"{name}.LICENSE" for name in scripts} <= present


def test_the_page_has_no_inline_script_and_no_inline_style(elements: Elements):
    assert all("src" in script for script in elements.named("script"))
    assert not elements.named("style")
    names = {name for _, attributes in elements.found for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


@pytest.mark.parametrize("name", OWN_TEXTS)
def test_no_file_of_the_page_names_another_server(name: str):
    urls = re.findall(r"(?:https?|wss?):?//[^\s\"'`)]*|[\"'(]//\w[^\"')]*", OWN_TEXTS[name])

    # the name of a format, which nobody fetches
    assert [url for url in urls if url != "http://www.w3.org/2000/svg"] == []


def test_everything_that_the_page_refers_to_is_served(client: FlaskClient, elements: Elements):
    addresses = [link["href"] for link in elements.named("link")]
    addresses += [script["src"] for script in elements.named("script")]
    for text in SCRIPTS.values():
        imported = re.findall(r"^import .*? from \"\./(.+)\";$", text, re.MULTILINE)
        addresses += [f"/static/{name}" for name in imported]

    assert len(addresses) > 30
    assert {path for path in addresses if client.get(path).status_code != 200} == set()


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_hands_text_to_the_html_parser_or_the_compiler(name: str):
    risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment"
    risky += (
        r"|setHTMLUnsafe|DOMParser|srcdoc|\beval\b|new Function|setAttribute\(\"style|javascript:"
    )

    assert re.findall(risky, SCRIPTS[name]) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_is_and_stays_small(name: str):
    assert SCRIPTS[name].startswith("/**")
    assert SCRIPTS[name].count("\n") <= 300


def test_every_control_of_the_page_has_a_name(elements: Elements):
    labelled = {label.get("for") for label in elements.named("label")}
    fields = elements.named("input", "textarea", "select")

    assert fields
    assert [
        field for field in fields if field["id"] not in labelled and "aria-label" not in field
    ] == []
    for (tag, attributes), text in zip(elements.found, elements.texts, strict=True):
        if tag == "button" and "aria-label" not in attributes:
            following = OWN_TEXTS[page.PAGE].partition(f'id="{attributes.get("id", "")}"')[2]
            assert text.strip() or re.match(r"[^>]*>.*?</svg>\s*\w", following)


def test_every_id_that_a_script_looks_for_is_in_the_page_once(elements: Elements):
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    wanted = {
        name
        for text in SCRIPTS.values()
        for name in re.findall(r"(?:find|getElementById)\(\"([\w-]+)\"\)", text)
    }

    assert len(ids) == len(set(ids))
    assert len(wanted) > 20
    assert wanted - set(ids) == set()


def test_answers_are_announced_and_motion_can_be_switched_off(elements: Elements):
    (log,) = [attributes for _, attributes in elements.found if attributes.get("id") == "log"]

    assert (log["role"], log["aria-live"]) == ("log", "polite")
    assert "@media (prefers-reduced-motion: reduce)" in OWN_TEXTS["style.css"]
