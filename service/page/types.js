// Types and limits of JSON schemas in words.

import { h } from "./dom.js";

const WORDS = { number: "number", integer: "whole number", boolean: "true or false", null: "null", object: "object" };

export function typeOf(schema) {
  if (!schema) return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1);
    return h("a", { href: `#schema-${name}` }, name);
  }
  if (schema.enum) return schema.enum.map(String).join(", ");
  if ("const" in schema) return String(schema.const);
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return either.flatMap((each, index) => [index ? " or " : "", typeOf(each)]);
  if (schema.type === "array") return ["list of ", typeOf(schema.items)];
  if (schema.type === "string") return { binary: "file", "date-time": "time, ISO 8601" }[schema.format] ?? "text";
  if (schema.type === "object" && schema.additionalProperties instanceof Object) return ["object of ", typeOf(schema.additionalProperties)];
  return WORDS[schema.type] ?? "anything";
}

export function limits(schema) {
  const all = [schema, ...schema?.anyOf ?? []].filter(Boolean);
  const known = (field) => all.find((each) => field in each)?.[field];
  const said = [
    ["at least ", known("minimum")],
    ["above ", known("exclusiveMinimum")],
    ["at most ", known("maximum")],
    ["below ", known("exclusiveMaximum")],
    ["at most this many: ", known("maxItems")],
    ["at most this many characters: ", known("maxLength")],
    ["like ", known("pattern")],
    ["without it: ", shown(known("default"))],
  ];
  const parts = said.filter(([, value]) => value !== undefined).map(([words, value]) => `${words}\`${value}\``);
  return parts.length ? `(${parts.join("; ")})` : "";
}

// Nothing, an empty list or text: not worth a word.
const shown = (value) => (value === undefined || value === null || value === "" || value.length === 0 ? undefined : JSON.stringify(value));
