// openai for Node and Vercel's AI SDK, in their defaults: node node.mjs URL MODEL
import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateText, streamText, tool, jsonSchema } from "ai";
import OpenAI, { APIError } from "openai";

const [url, model] = process.argv.slice(2);
const ask = "What is the weather in Paris for the next 3 days?";
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const turns = [{ role: "user", content: ask }];
const sdk = new OpenAI({ baseURL: `${url}/v1`, apiKey: "x".repeat(20), maxRetries: 0 });
const vercel = createOpenAI({ baseURL: `${url}/v1`, apiKey: "x".repeat(20) });
const version = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

async function joined(parts, text) {
  let said = "";
  for await (const part of parts) said += text(part) ?? "";
  return said;
}

const calls = {
  openai: {
    chat: async () =>
      (await sdk.chat.completions.create({ model, messages: turns })).choices[0].message.content,
    "chat, stream": async () =>
      joined(
        await sdk.chat.completions.create({ model, messages: turns, stream: true }),
        (part) => part.choices[0]?.delta?.content,
      ),
    "chat, tools": async () => {
      const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
      const asked = { model, messages: turns, tools, tool_choice: "required" };
      return (await sdk.chat.completions.create(asked)).choices[0].finish_reason;
    },
    responses: async () => (await sdk.responses.create({ model, input: ask })).output_text,
    "responses, stream": async () =>
      joined(await sdk.responses.create({ model, input: ask, stream: true }), (event) =>
        event.type === "response.output_text.delta" ? event.delta : "",
      ),
    completions: async () =>
      (await sdk.completions.create({ model, prompt: ask, max_tokens: 16 })).choices[0].text,
    embeddings: async () =>
      (await sdk.embeddings.create({ model, input: ask })).data[0].embedding.length,
  },
  ai: {
    generateText: async () =>
      (await generateText({ model: vercel(model), prompt: ask, maxRetries: 0 })).text,
    streamText: async () => {
      let wrong;
      const onError = ({ error }) => (wrong = error);
      const made = streamText({ model: vercel(model), prompt: ask, maxRetries: 0, onError });
      const said = await joined(made.textStream, (part) => part);
      if (wrong) throw wrong;
      return said;
    },
    "generateText, tools": async () => {
      const weather = tool({ inputSchema: jsonSchema(schema), execute: async () => "rain" });
      const asked = { model: vercel(model), prompt: ask, tools: { weather }, maxRetries: 0 };
      return (await generateText(asked)).finishReason;
    },
    "generateText, chat": async () =>
      (await generateText({ model: vercel.chat(model), prompt: ask, maxRetries: 0 })).text,
    embed: async () =>
      (await embed({ model: vercel.textEmbeddingModel(model), value: ask, maxRetries: 0 }))
        .embedding.length,
  },
};

for (const [client, ofClient] of Object.entries(calls))
  for (const [call, make] of Object.entries(ofClient)) {
    const row = { client: `${client} (Node)`, version: version(client), call };
    try {
      const said = await make();
      Object.assign(row, { result: said ? "works" : "failed", said: String(said).slice(0, 120) });
    } catch (error) {
      const status = error instanceof APIError ? error.status : error.statusCode;
      const result = status ? "refused" : "failed";
      Object.assign(row, { result, status, said: String(error?.message ?? error).slice(0, 300) });
    }
    console.log(JSON.stringify(row));
  }
