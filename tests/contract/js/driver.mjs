// Calls the official client `ollama` as its caller says and prints what came of each call.
//
// Standard input: {"host", "key", "calls": [{"method", "request", "abort_after"?}]}
// Standard output: [{"value"} | {"parts"} | {"error": {"name", "message", "status"}}], as JSON.
// A call with `abort_after` ends its stream after so many parts. Knows no endpoint and no model.

import { readFileSync } from "node:fs";
import { Ollama } from "ollama";

// The client tells of odd answers on standard output, which is for the results here.
console.log = console.error;

async function partsOf(stream, abortAfter) {
  const parts = [];
  try {
    for await (const part of stream) {
      parts.push(part);
      if (parts.length === abortAfter) stream.abort();
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    parts.push("aborted");
  }
  return parts;
}

async function outcomeOf(client, call) {
  try {
    const answer = await client[call.method](call.request);
    if (answer?.[Symbol.asyncIterator]) {
      return { parts: await partsOf(answer, call.abort_after) };
    }
    return { value: answer };
  } catch (error) {
    const { name, message, status_code: status } = error;
    return { error: { name, message, status } };
  }
}

const { host, key, calls } = JSON.parse(readFileSync(0, "utf8"));
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });
const outcomes = [];
for (const call of calls) outcomes.push(await outcomeOf(client, call));
process.stdout.write(JSON.stringify(outcomes));
