// The API reference: openapi.json in words.

import { json } from "./api.js";
import { byId, h, table } from "./dom.js";
import { showProblem } from "./problem.js";
import { limits, typeOf } from "./types.js";

const VERBS = ["get", "post", "put", "delete"];

async function show() {
  let document;
  try {
    document = await json("/openapi.json");
  } catch (error) {
    showProblem(byId("problem"), error, show);
    return;
  }
  const operations = Object.entries(document.paths).flatMap(([path, verbs]) => (
    VERBS.filter((verb) => verb in verbs).map((verb) => ({ path, verb, id: `${verb}${path.replaceAll(/[^a-z]+/gu, "-")}`, ...verbs[verb] }))));
  byId("about").prepend(`Version ${document.info.version}. `);
  byId("contents").replaceChildren(...operations.map((each) => h("li", {}, h("a", { href: `#${each.id}` }, name(each)), h("span", { class: "hint" }, ` ${each.summary}`))));
  byId("operations").replaceChildren(...operations.map(operation));
  byId("schemas").replaceChildren(...Object.entries(document.components.schemas).map(schema));
  // The element that the address names was not there when the page was loaded.
  if (location.hash) window.document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

const name = ({ verb, path }) => [h("span", { class: "verb" }, verb.toUpperCase()), h("code", {}, path)];

function operation(each) {
  return h("section", { class: "card operation", id: each.id, "aria-labelledby": `${each.id}-title` },
    h("h2", { id: `${each.id}-title` }, name(each)),
    prose(each.description ? `${each.summary}. ${each.description}` : `${each.summary}.`),
    each.parameters?.length ? [h("h3", {}, "Parameters"), fields("Parameters", each.parameters.map(parameter))] : null,
    each.requestBody ? body(each.requestBody) : null,
    h("h3", {}, "Answers"),
    fields("Answers", Object.entries(each.responses).map(answer), "Status"));
}

const parameter = (each) => ({ name: each.name, note: each.in, type: typeOf(each.schema), text: [each.description, limits(each.schema)] });

function body({ content }) {
  const kinds = Object.keys(content);
  const form = content["multipart/form-data"]?.schema;
  return [
    h("h3", {}, "Body"),
    h("p", {}, kinds.flatMap((kind, index) => [index ? ", " : "", h("code", {}, kind)])),
    form?.properties ? fields("Fields of the form", flattened("", form)) : null,
  ];
}

// The fields of an object and of the objects in it, with dots between their names.
function flattened(prefix, { properties, required = [] }) {
  return Object.entries(properties).flatMap(([key, value]) => {
    const path = prefix + key;
    const [inner, mark] = object(value);
    const row = { name: path, note: required.includes(key) ? "required" : "", type: typeOf(value), text: [value.description, limits(value)] };
    return inner ? [row, ...flattened(`${path}${mark}.`, inner)] : [row];
  });
}

// What an object, a list of objects, or one that may be left out consists of, and what stands behind its name.
function object(value) {
  for (const each of [value, ...value.anyOf ?? []]) {
    if (each.properties) return [each, ""];
    if (each.items?.properties) return [each.items, "[]"];
  }
  return [null, ""];
}

function answer([status, { description, content }]) {
  const kinds = Object.entries(content ?? {});
  const types = kinds.flatMap(([kind, { schema: what }], index) => [index ? ", " : "", what && (what.$ref || what.type) ? typeOf(what) : h("code", {}, kind)]);
  return { name: status, type: types.length ? types : "–", text: [description] };
}

function schema([title, what]) {
  const rows = Object.entries(what.properties ?? {}).map(([key, value]) => ({ name: key, type: typeOf(value), text: [value.description, limits(value)] }));
  return h("section", { class: "card operation", id: `schema-${title}` },
    h("h3", {}, h("code", {}, title)),
    what.description ? prose(what.description) : null,
    rows.length ? fields(title, rows) : h("p", {}, typeOf(what)));
}

function fields(caption, rows, head = "Name") {
  const columns = [
    { title: head, heads: true, cell: (row) => [h("code", {}, row.name), row.note ? h("span", { class: "hint" }, ` ${row.note}`) : null] },
    { title: "Type", cell: (row) => h("div", { class: "type" }, row.type) },
    { title: "Meaning", wide: true, cell: (row) => row.text.filter(Boolean).map((text) => marked(`${text} `)) },
  ];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table(caption, columns, rows));
}

const prose = (text) => text.split(/\n\s*\n/u).map((part) => h("p", {}, marked(part)));

// `This` is code.
const marked = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));

show();
