// OpenAI's client for Node: chat completions, responses, embeddings, and what it makes of errors. As checks.py has it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [site, prefix] = [JSON.parse(process.argv[2]), process.argv[3]];
const { default: OpenAI } = createRequire(`${prefix}/`)("openai");
const { version } = JSON.parse(readFileSync(`${prefix}/node_modules/openai/package.json`, "utf8"));

const checks = [];
const check = (what, purpose, run) => checks.push({ what, purpose, run });
const HI = [{ role: "user", content: "Hello!" }];
const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==";

function isAnAnswer(text) {
  assert.equal(typeof text, "string");
  assert.ok(text.length > 10, text);
}

check("`chat.completions.create`", "chat", async (client, model) => {
  const told = await client.chat.completions.create({ model, messages: HI, temperature: 0 });
  isAnAnswer(told.choices[0].message.content);
  assert.match(told._request_id, /^req_/);
});

check("`chat.completions.create({stream: true})`, with usage", "chat", async (client, model) => {
  const asked = { model, messages: HI, temperature: 0, stream: true, stream_options: { include_usage: true } };
  let [text, usage] = ["", null];
  for await (const chunk of await client.chat.completions.create(asked)) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  isAnAnswer(text);
  assert.ok(usage.completion_tokens > 3);
});

check("`chat.completions.stream`, a call of a tool", "tool", async (client, model) => {
  const tools = [{ type: "function", function: { name: "weather", parameters: CITY } }];
  const told = await client.chat.completions.stream({ model, messages: HI, tools, temperature: 0 }).finalMessage();
  assert.equal(told.tool_calls[0].function.name, "weather");
});

check("`chat.completions.create`, an image", "vision", async (client, model) => {
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
  const messages = [{ role: "user", content: [{ type: "text", text: "What is this?" }, image] }];
  const told = await client.chat.completions.create({ model, messages, max_tokens: 8 });
  assert.ok(told.usage.prompt_tokens > 20);
});

check("`responses.create`", "chat", async (client, model) => {
  const told = await client.responses.create({ model, input: "Hello!", temperature: 0 });
  isAnAnswer(told.output_text);
  assert.equal(told.status, "completed");
});

check("`responses.stream`, thoughts", "think", async (client, model) => {
  const told = await client.responses.stream({ model, input: "Hello!", temperature: 0 }).finalResponse();
  assert.deepEqual(told.output.map((item) => item.type), ["reasoning", "message"]);
});

check("`embeddings.create`, base64 as it comes", "embed", async (client, model) => {
  const told = await client.embeddings.create({ model, input: ["one", "two"] });
  assert.deepEqual(told.data.map((entry) => entry.index), [0, 1]);
  assert.ok(told.data[0].embedding.length > 8);
});

check("unknown model: `NotFoundError`", "chat", async (client, model) => {
  const asking = client.chat.completions.create({ model: `${model}x`, messages: HI });
  await assert.rejects(asking, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
});

async function outcome(run, model) {
  const client = new OpenAI({ baseURL: `${site.url}/v1`, apiKey: "none", maxRetries: 0 });
  try {
    return { ok: true, note: (await run(client, model)) ?? "" };
  } catch (error) {
    console.error(error);
    return { ok: false, note: `${error.name}: ${error.message}`.replaceAll(/\s+/g, " ").slice(0, 300) };
  }
}

const results = [];
for (const { what, purpose, run } of checks) {
  for (const [on, models] of Object.entries(site.models)) {
    if (purpose in models) results.push({ what, on, ...(await outcome(run, models[purpose])) });
  }
}
console.log(JSON.stringify({ version: `${version}, Node ${process.versions.node}`, results }));
