import json
import re

import pytest

from app.reference.document import OPERATIONS, build_document, methods, path_of
from app.reference.errors import STATUSES
from tests.app.document import APP, DESCRIBED, DOCUMENT, follow, problems_of, resolve, schema
from tests.fakes import READY

ROUTES = {
    (path_of(rule), method.lower()) for rule in APP.url_map.iter_rules() for method in methods(rule)
}
NAMES = [f"{method} {path}" for path, method in DESCRIBED]
each_operation = pytest.mark.parametrize("operation", DESCRIBED.values(), ids=NAMES)


def walk(value):
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inner:
        yield from walk(entry)


def bodies(operation):
    """Every described body: where it stands, its media type, schema and examples."""
    found = [("request", operation["requestBody"])] if "requestBody" in operation else []
    found += [(status, resolve(reply)) for status, reply in operation["responses"].items()]
    for place, holder in found:
        for media_type, content in holder.get("content", {}).items():
            yield place, media_type, content


def test_the_document_is_valid_openapi_3_1():
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate  # slow to import

    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(json.loads(json.dumps(DOCUMENT)), cls=OpenAPIV31SpecValidator)


def test_every_route_is_described():
    assert ROUTES - set(DESCRIBED) == set()


def test_every_described_route_exists():
    assert set(DESCRIBED) - ROUTES == set()


def test_every_description_belongs_to_a_route():
    endpoints = {rule.endpoint for rule in APP.url_map.iter_rules()}
    assert set(OPERATIONS) - endpoints == set()


def test_every_reference_leads_somewhere():
    references = [
        part["$ref"] for part in walk(DOCUMENT) if isinstance(part, dict) and "$ref" in part
    ]
    assert len(references) > 50
    assert all(follow(reference) for reference in references)


def test_no_schema_is_without_use():
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(DOCUMENT)))
    assert set(DOCUMENT["components"]["schemas"]) == used


def test_operations_have_different_ids():
    ids = [operation["operationId"] for operation in DESCRIBED.values()]
    assert len(ids) == len(set(ids))


@each_operation
def test_every_parameter_of_a_path_is_described(operation):
    [(path, _)] = [place for place, found in DESCRIBED.items() if found is operation]
    described = [parameter["name"] for parameter in operation.get("parameters", [])]
    assert described == re.findall(r"{(\w+)}", path)


@each_operation
def test_every_json_body_has_an_example_that_fits_its_schema(operation):
    for place, media_type, content in bodies(operation):
        if "json" in media_type and content["schema"] != {"type": "object"}:
            assert content["examples"], place
            for example in content["examples"].values():
                assert problems_of(example["value"], content["schema"]) == [], (place, media_type)


@each_operation
def test_every_route_says_how_it_fails(operation):
    assert {"200", "500"} <= set(operation["responses"])
    assert all(int(status) in {200, 304, *STATUSES} for status in operation["responses"])


@each_operation
def test_routes_that_read_a_body_say_how_they_refuse_it(operation):
    statuses = set(operation["responses"])
    if "requestBody" in operation:
        assert {"400", "413", "415", "503", "504"} <= statuses
    else:
        assert {"413", "415", "422", "504"}.isdisjoint(statuses)


def test_a_busy_server_says_when_to_come_back():
    for name in ("TooManyRequests", "ServiceUnavailable", "OpenAITooManyRequests"):
        assert "Retry-After" in DOCUMENT["components"]["responses"][name]["headers"]


def test_errors_under_v1_are_openais_and_elsewhere_problem_documents():
    for (path, _), operation in DESCRIBED.items():
        is_openai = path.startswith("/v1/")
        for status, reply in operation["responses"].items():
            reference = reply.get("$ref", "")
            if reference:
                assert ("OpenAI" in reference) == is_openai, (path, status)
                kind = "application/json" if is_openai else "application/problem+json"
                assert list(follow(reference)["content"]) == [kind]


def test_under_v1_a_wrong_field_is_a_400():
    assert "422" not in DESCRIBED["/v1/chat/completions", "post"]["responses"]
    assert "422" in DESCRIBED["/generate", "post"]["responses"]


def test_the_styles_of_the_adapter_can_be_read_from_the_document():
    assert schema("GenerateRequest")["properties"]["style"]["enum"] == ["terse", "verbose", None]
    assert "enum" not in schema("GenerateResponse")["properties"]["style"]


def test_keys_are_sent_as_bearer_tokens():
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert DESCRIBED["/generate", "post"]["security"] == [{"bearer": []}]


def test_a_server_without_keys_asks_for_none(client):
    paths = client.get("/openapi.json").get_json()["paths"]
    assert {str(found["security"]) for path in paths.values() for found in path.values()} == {"[]"}


def test_the_document_is_served_as_json(client):
    response = client.get("/openapi.json")
    assert response.mimetype == "application/json"
    unlocked = build_document(APP.url_map, READY, asks_for_keys=False)
    assert response.get_json() == json.loads(json.dumps(unlocked))


def test_the_page_has_no_inline_script_and_forbids_it(client):
    response = client.get("/docs")
    page = response.get_data(as_text=True)
    assert response.mimetype == "text/html"
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style", page)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_everything_that_the_page_needs_comes_from_this_server(client):
    page = client.get("/docs").get_data(as_text=True)
    needed = re.findall(r'(?:src|href)="([^"]+)"', page)
    script = client.get("/static/docs.js").get_data(as_text=True)
    needed += re.findall(r'from "([^"]+)"|fetch\("([^"]+)"\)', script)[0][:1]
    assert len(needed) >= 5
    for address in needed:
        assert address.startswith("/")
        assert client.get(address).status_code == 200
