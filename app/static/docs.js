// Shows /openapi.json. Everything becomes text nodes: nothing of the document is read as HTML.

import { fieldsOf, resolve } from "/static/docs-schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element with properties and children; texts become text nodes. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) element[key] = value;
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A paragraph in which `words` are code. */
function prose(text, className = "") {
  const parts = text.split("`");
  return make("p", { className }, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}

function table(rows) {
  const head = make("tr", {}, ...["Field", "Kind", "Meaning"].map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    make("tr", {}, make("td", {}, row.name, row.isRequired ? " *" : ""), make("td", {}, row.kind), make("td", {}, row.meaning)),
  );
  return make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** The fields and the examples of a body in one media type. */
function contentOf(specification, mediaType, content) {
  const rows = fieldsOf(specification, content.schema ?? {});
  const examples = Object.entries(content.examples ?? {}).flatMap(([name, found]) => [
    make("p", { className: "faint" }, name),
    make("pre", { tabIndex: 0 }, written(found.value)),
  ]);
  return make("div", {}, make("p", { className: "faint" }, mediaType), rows.length ? table(rows) : null, ...examples);
}

function bodyOf(specification, content) {
  return Object.entries(content ?? {}).map(([mediaType, found]) => contentOf(specification, mediaType, found));
}

/** The first request example as a command. */
function commandOf(method, path, operation) {
  const example = Object.values(operation.requestBody?.content?.["application/json"]?.examples ?? {})[0];
  const place = location.origin + path.replace(/\{(\w+)\}/g, (_, name) =>
    operation.parameters?.find((parameter) => parameter.name === name)?.example ?? name);
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = operation.security?.length ? " -H 'Authorization: Bearer KEY'" : "";
  if (!example) return `curl -s ${quoted(place)}${key}`;
  const verb = method === "post" ? "" : ` -X ${method.toUpperCase()}`;
  return `curl -s ${quoted(place)}${verb}${key} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(example.value))}`;
}

function replyOf(specification, status, found) {
  const reply = resolve(specification, found);
  const headers = Object.keys(reply.headers ?? {});
  return make(
    "details",
    { className: "reply" },
    make("summary", {}, make("span", { className: `status ${status >= 400 ? "wrong" : ""}` }, status), ` ${reply.description}`),
    headers.length ? make("p", { className: "faint" }, `Headers: ${headers.join(", ")}`) : null,
    ...bodyOf(specification, reply.content),
  );
}

function operationOf(specification, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => ({
    name: parameter.name, isRequired: parameter.required, kind: parameter.schema.type, meaning: parameter.description,
  }));
  const body = bodyOf(specification, operation.requestBody?.content);
  const replies = Object.entries(operation.responses).map(([status, found]) => replyOf(specification, status, found));
  return make(
    "details",
    { className: "operation", id: operation.operationId },
    make(
      "summary", {},
      make("span", { className: `method ${method}` }, method.toUpperCase()),
      make("span", { className: "path" }, path),
      make("span", { className: "faint" }, operation.summary),
    ),
    prose(operation.description),
    parameters.length ? table(parameters) : null,
    make("pre", { tabIndex: 0 }, commandOf(method, path, operation)),
    body.length ? make("h3", {}, "What it takes") : null,
    ...body,
    make("h3", {}, "What it answers"),
    ...replies,
  );
}

function show(specification) {
  document.getElementById("title").textContent = `${specification.info.title}: the API`;
  document.getElementById("about").replaceChildren(...prose(specification.info.description).childNodes);
  const groups = new Map();
  for (const [path, methods] of Object.entries(specification.paths)) {
    for (const method of METHODS.filter((name) => name in methods)) {
      const [tag] = methods[method].tags;
      const group = groups.get(tag) ?? make("section", {}, make("h2", {}, tag));
      group.append(operationOf(specification, path, method, methods[method]));
      groups.set(tag, group);
    }
  }
  document.getElementById("operations").replaceChildren(...groups.values());
}

/** Leaves what has all the words in its address, its summary or its description. */
function find(words) {
  const wanted = words.toLowerCase().split(/\s+/);
  for (const group of document.querySelectorAll("section")) {
    const operations = [...group.querySelectorAll(".operation")];
    for (const operation of operations) {
      const text = operation.textContent.toLowerCase();
      operation.hidden = !wanted.every((word) => text.includes(word));
    }
    group.hidden = operations.every((operation) => operation.hidden);
  }
}

function openNamed() {
  const operation = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (operation?.matches(".operation")) {
    operation.open = true;
    operation.scrollIntoView();
  }
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  show(await response.json());
  document.getElementById("find").addEventListener("input", (event) => find(event.target.value));
  addEventListener("hashchange", openNamed);
  openNamed();
} catch (error) {
  document.getElementById("operations").replaceChildren(
    make("p", { className: "wrong", role: "alert" }, `/openapi.json could not be shown: ${error.message}.`),
  );
}
