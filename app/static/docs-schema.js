// Schemas of an OpenAPI document as rows of a table.

const DEEPEST = 5;

/** What a reference stands for; anything else stands for itself. */
export function resolve(specification, found) {
  if (!found?.$ref) return found ?? {};
  const path = found.$ref.slice(2).split("/");
  return path.reduce((place, name) => place[name], specification);
}

/** One row for each field, those inside of others with a path such as messages[].role. */
export function fieldsOf(specification, schema, prefix = "", depth = 0) {
  const { properties, required = [] } = resolve(specification, schema);
  if (!properties || depth > DEEPEST) return [];
  const last = ([, one], [, other]) => Boolean(one.writeOnly) - Boolean(other.writeOnly); // ignored fields
  return Object.entries(properties).sort(last).flatMap(([name, field]) => {
    const place = prefix + name;
    const row = {
      name: place,
      isRequired: required.includes(name),
      kind: kindOf(specification, field),
      meaning: [field.description, limitsOf(field)].filter(Boolean).join(" "),
    };
    const [inner, mark] = innerOf(specification, field);
    return [row, ...fieldsOf(specification, inner, `${place}${mark}.`, depth + 1)];
  });
}

/** The schema whose fields a field holds, and how its path goes on. */
function innerOf(specification, field) {
  const items = resolve(specification, field).items;
  if (items) return [items, "[]"];
  const choices = field.anyOf ?? [];
  return [choices.find((choice) => resolve(specification, choice).properties) ?? field, ""];
}

function kindOf(specification, field) {
  const schema = resolve(specification, field);
  if (schema.anyOf) return schema.anyOf.map((choice) => kindOf(specification, choice)).join(" or ");
  if (schema.type === undefined && schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  const types = [schema.type ?? "any"].flat();
  return types.map((type) => (type === "array" ? `list of ${kindOf(specification, schema.items ?? {})}` : type)).join(" or ");
}

function limitsOf(field) {
  const found = [];
  const isExact = (limit) => Math.abs(limit) <= Number.MAX_SAFE_INTEGER; // a wrong digit is worse than none
  const add = (name, text) => name in field && isExact(field[name]) && found.push(`${text} ${field[name]}`);
  add("minimum", "from");
  add("exclusiveMinimum", "above");
  add("maximum", "to");
  add("minLength", "characters from");
  add("maxLength", "characters to");
  add("minItems", "entries from");
  add("maxItems", "entries to");
  if (field.enum && field.type !== undefined) found.push(`one of ${field.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  return found.length ? `(${found.join("; ")})` : "";
}
