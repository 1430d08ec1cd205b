// Shows /openapi.json. It writes text only, never markup.
"use strict";

const made = (name, text, ...children) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
const described = text => {
  const paragraph = made("p", text);
  paragraph.className = "text";
  return paragraph;
};

const show = document_ => {
  const schemas = document_.components.schemas;
  const schemaOf = node => node?.$ref ? schemas[node.$ref.split("/").at(-1)] : node;

  // The fields of a message, with those of its oneofs.
  const fieldsOf = schema => {
    const own = Object.entries(schema?.properties ?? {});
    const parts = [...(schema?.allOf ?? []), ...(schema?.oneOf ?? []), ...(schema?.anyOf ?? [])];
    return [...own, ...parts.flatMap(part => fieldsOf(schemaOf(part)))];
  };
  const typeOf = node => {
    if (node.type === "array") return typeOf(node.items) + "[]";
    const target = schemaOf(node);
    return target?.enum ? "text" : target?.title ?? node.format ?? target?.format ?? node.type ?? "object";
  };
  const listed = schema => {
    const fields = fieldsOf(schema);
    if (fields.length === 0) return described("No fields.");
    return made("ul", "", ...fields.map(([name, field]) =>
      made("li", "", made("code", name), ` (${typeOf(field)}) `, described(field.description))));
  };
  // A request with empty values, to type in.
  const sample = schema => Object.fromEntries(fieldsOf(schema).map(([name, field]) =>
    [name, { boolean: false, integer: 0, array: [], object: {} }[schemaOf(field)?.type] ?? ""]));

  const tags = new Map(document_.tags.map(tag => [tag.name, tag.description]));
  const sections = new Map();
  for (const [path, item] of Object.entries(document_.paths)) {
    const call = item.post;
    const request = schemaOf(Object.values(call.requestBody.content)[0].schema);
    const answer = schemaOf(Object.values(call.responses["200"].content)[0].schema);
    const who = Object.keys(call.security?.[0] ?? {})[0];
    const bearer = who ? ` \\\n  -H "authorization: Bearer $${{ session: "ACCESS_TOKEN", operatorKey: "ADMIN_KEY", serviceKey: "SERVICE_KEY" }[who]}"` : "";
    const details = made("details", "",
      made("summary", "", made("code", path.split("/").at(-1)), who ? ` (${{ session: "a session's token", operatorKey: "an operator's key", serviceKey: "a service's key" }[who]})` : ""),
      described(call.summary === path.split("/").at(-1) ? "" : call.summary), described(call.description),
      made("pre", `curl -H 'content-type: application/json'${bearer} \\\n  -d '${JSON.stringify(sample(request))}' ${location.origin}${path}`),
      made("h4", "Request"), listed(request), made("h4", "Answer"), listed(answer));
    const tag = call.tags[0];
    if (!sections.has(tag)) sections.set(tag, made("section", "", made("h2", tag), described(tags.get(tag))));
    sections.get(tag).append(details);
  }
  document.getElementById("methods").append(...sections.values());
  document.getElementById("state").textContent = `${Object.keys(document_.paths).length} methods`;
};

fetch("/openapi.json")
  .then(answer => answer.json())
  .then(show)
  .catch(error => { document.getElementById("state").textContent = `/openapi.json cannot be shown: ${error.message}`; });
