// Calls the official client `openai` as its caller says and prints what came of each call.
//
// Standard input: {"host", "key", "calls": [{"method", "args", "helper"?, "abort_after"?}]}
// Standard output: [{"value"} | {"parts", "final"?} | {"error": {…}}], as JSON.
// `method` is a path into the client, as "chat.completions.create"; with `helper` the stream is one
// of the client's own stream helpers, and `final` names the method that returns its whole answer.
// A call with `abort_after` ends its stream after so many parts. Knows no endpoint and no model.

import { readFileSync } from "node:fs";
import OpenAI from "openai";

// The client may warn on standard output, which is for the results here.
console.log = console.error;

function bound(client, path) {
  const names = path.split(".");
  const last = names.pop();
  const owner = names.reduce((place, name) => place[name], client);
  return owner[last].bind(owner);
}

async function partsOf(stream, abortAfter) {
  const parts = [];
  for await (const part of stream) {
    parts.push(part);
    if (parts.length === abortAfter) {
      stream.controller.abort();
      parts.push("aborted");
      break;
    }
  }
  return parts;
}

async function answerOf(client, call) {
  const made = bound(client, call.method)(...call.args);
  if (call.helper) {
    const parts = await partsOf(made, call.abort_after);
    return { parts, final: await made[call.helper]() };
  }
  const { data, response } = await made.withResponse();
  if (data?.[Symbol.asyncIterator] && !Array.isArray(data?.data)) {
    return { parts: await partsOf(data, call.abort_after) };
  }
  return { value: data, request_id: response.headers.get("x-request-id") };
}

function describe(error) {
  const name = error.constructor.name;
  const { message, status, code, type, param } = error;
  const isOwn = name in OpenAI && error instanceof OpenAI[name];
  return { name, is_own: isOwn, message, status, code, type, param };
}

const { host, key, calls } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: `${host}/v1`, apiKey: key, maxRetries: 0 });
const outcomes = [];
for (const call of calls) {
  try {
    outcomes.push(await answerOf(client, call));
  } catch (error) {
    outcomes.push({ error: describe(error) });
  }
}
process.stdout.write(JSON.stringify(outcomes));
