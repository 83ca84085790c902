// Holds docs/asyncapi.yaml to the official AsyncAPI parser, and messages to its schemas.
//
//   validate.mjs DOCUMENT GOLDEN            the document is valid, and each of its examples is of its schema and of the golden files
//   validate.mjs DOCUMENT --record FILE     each line of FILE (`TOPIC RETAIN HEX`, as mosquitto_sub -F '%t %r %x' writes them) is a
//                                           message that its channel allows
//
// One JSON object on standard output; exit status 0 when nothing is wrong, 1 otherwise. Programs of ours send nothing that no
// schema names, so a recorded message is also held to the schemas without any further members. Node 18 or later.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const require = createRequire(path.resolve("target/node/package.json"));
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv");

/** The parsed document with every reference resolved; problems of any weight are an error. */
async function read(file) {
  const { document, diagnostics } = await new Parser().parse(fs.readFileSync(file, "utf8"));
  const said = diagnostics.map((one) => `${one.path.join(".")}: ${one.message}`);
  return { document, said };
}

/** A copy in which every object schema that names its members allows no others. */
function closed(schema) {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== "object") return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  if (copy.type === "object" && copy.properties && !("additionalProperties" in copy)) copy.additionalProperties = false;
  return copy;
}

const ajv = new Ajv({ strict: false, allErrors: true, validateSchema: false });
const compiled = new Map();
/** What is wrong with a value; an empty list when nothing is. */
function problems(schema, value, isClosed) {
  const key = isClosed ? "closed" : "open";
  const known = compiled.get(schema) ?? {};
  known[key] ??= ajv.compile(isClosed ? closed(schema) : schema);
  compiled.set(schema, known);
  return known[key](value) ? [] : known[key].errors.map((one) => `${one.instancePath || "/"} ${one.message}`);
}

/** The `contentSchema` of an envelope's payload. */
function inner(schema) {
  const found = (schema.allOf ?? []).map((part) => part.properties?.payload?.contentSchema).filter(Boolean);
  return found[0];
}

/** Strict base64url without padding; undefined for anything else. */
function unbase64url(text) {
  const octets = Buffer.from(text, "base64url");
  return octets.toString("base64url") === text ? octets : undefined;
}

/** What is wrong with an envelope: with itself, or with what it carries. */
function envelopeProblems(schema, envelope, isClosed) {
  const found = problems(schema, envelope, isClosed);
  if (found.length > 0) return found;
  const octets = unbase64url(envelope.payload);
  if (octets === undefined) return ["/payload is not base64url"];
  try {
    const payload = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(octets));
    return problems(inner(schema), payload, isClosed).map((one) => `payload ${one}`);
  } catch (error) {
    return [`/payload: ${error.message}`];
  }
}

/** What is wrong with octets that should be one DER SEQUENCE. */
function derProblems(schema, octets) {
  if (octets.length > schema.maxLength) return [`${octets.length} octets`];
  if (octets[0] !== 0x30) return ["no DER SEQUENCE"];
  let length = octets[1], start = 2;
  if (length > 127) {
    start += length - 128;
    length = octets.subarray(2, start).reduce((sum, octet) => sum * 256 + octet, 0);
  }
  return start + length === octets.length ? [] : ["not one DER value from the first octet to the last"];
}

/** What is wrong with a payload as a message of one kind. */
function messageProblems(message, octets) {
  if (message.payload.format === "binary") return derProblems(message.payload, octets);
  let value;
  try {
    value = JSON.parse(octets.toString("utf8"));
  } catch (error) {
    return [`no JSON: ${error.message}`];
  }
  if (octets.length > 65536) return [`${octets.length} octets`];
  const check = inner(message.payload) === undefined ? problems : envelopeProblems;
  return check(message.payload, value, true);
}

/** Every schema with examples, and examples of it. */
function* examples(node, where) {
  if (node === null || typeof node !== "object") return;
  if (Array.isArray(node.examples) && (node.type === "object" || node.properties)) {
    for (const example of node.examples) yield { where, schema: node, example };
  }
  for (const [name, value] of Object.entries(node)) if (name !== "examples") yield* examples(value, `${where}/${name}`);
}

/** Long octets inside an example. */
function* octetsOf(value) {
  if (typeof value === "string" && value.length >= 80) yield value;
  else if (value !== null && typeof value === "object") for (const one of Object.values(value)) yield* octetsOf(one);
}

function der(file) {
  const octets = fs.readFileSync(file);
  if (!file.endsWith(".crt")) return octets;
  return Buffer.from(octets.toString().replace(/-----[^-]+-----|\s/g, ""), "base64");
}

async function checkDocument(file, golden) {
  const { document, said } = await read(file);
  const wrong = [...said];
  if (!document) return { wrong };
  const json = document.json();
  const known = new Set(fs.readdirSync(golden).map((name) => der(path.join(golden, name)).toString("base64url")));
  const envelopes = new Set(fs.readdirSync(golden).filter((name) => /^envelope[a-z-]*\.json$/.test(name))
    .map((name) => JSON.stringify(JSON.parse(fs.readFileSync(path.join(golden, name), "utf8")))));
  let count = 0;
  for (const [name, message] of Object.entries(json.components.messages)) {
    for (const example of message.examples ?? []) {
      count += 1;
      const check = inner(message.payload) === undefined ? problems : envelopeProblems;
      wrong.push(...check(message.payload, example.payload, true).map((one) => `example of ${name}: ${one}`));
      const isOurs = inner(message.payload) === undefined || envelopes.has(JSON.stringify(example.payload));
      if (!isOurs) wrong.push(`example of ${name}: not a golden envelope`);
    }
  }
  for (const { where, schema, example } of examples(json.components.schemas, "schemas")) {
    count += 1;
    wrong.push(...problems(schema, example, true).map((one) => `example at ${where}: ${one}`));
    for (const text of octetsOf(example)) if (!known.has(text)) wrong.push(`example at ${where}: octets of no golden file`);
  }
  const operations = Object.values(json.operations);
  for (const [name, operation] of Object.entries(json.operations)) {
    if (operation.bindings?.mqtt?.qos !== 1) wrong.push(`operation ${name}: no QoS 1`);
  }
  return {
    wrong, examples: count, version: json.asyncapi,
    channels: Object.fromEntries(Object.values(json.channels).map((channel) => [channel.address, Object.keys(channel.messages)])),
    replies: operations.filter((operation) => operation.reply).map((operation) => [operation.channel.address, operation.reply.channel.address, operation.action]),
    again: operations.filter((operation) => operation["x-delivery"]).map((operation) => [operation.channel.address, operation["x-delivery"].kind]),
  };
}

async function checkRecord(file, record) {
  const { document, said } = await read(file);
  if (!document) return { wrong: said };
  const channels = Object.values(document.json().channels).map((channel) => {
    const pattern = channel.address.replace(/\{(site|node)\}/g, "[a-z0-9_-]{1,64}");
    return { channel, pattern: new RegExp(`^${pattern}$`) };
  });
  const wrong = [], seen = {}, errors = {};
  for (const line of fs.readFileSync(record, "utf8").split("\n").filter((line) => line.startsWith("hufu/"))) {
    const [topic, , hex] = line.split(" ");
    const octets = Buffer.from(hex ?? "", "hex");
    const found = channels.find(({ pattern }) => pattern.test(topic))?.channel;
    if (!found) {
      wrong.push(`${topic}: no such channel`);
      continue;
    }
    const tried = Object.entries(found.messages).map(([name, message]) => [name, messageProblems(message, octets)]);
    const good = tried.filter(([, why]) => why.length === 0).map(([name]) => name);
    if (good.length !== 1) {
      wrong.push(`${topic}: ${good.length} kinds of message fit: ${JSON.stringify(tried)}`);
      continue;
    }
    const kind = `${found.address} ${good[0]}`;
    seen[kind] = (seen[kind] ?? 0) + 1;
    if (octets[0] === 0x7b && topic.endsWith("/re")) {
      const code = JSON.parse(unbase64url(JSON.parse(octets).payload)).body?.error?.code;
      if (code) errors[code] = (errors[code] ?? 0) + 1;
    }
  }
  return { wrong, seen, errors };
}

const [file, how, record] = process.argv.slice(2);
const told = how === "--record" ? await checkRecord(file, record) : await checkDocument(file, how);
console.log(JSON.stringify(told));
process.exitCode = told.wrong.length === 0 ? 0 : 1;
