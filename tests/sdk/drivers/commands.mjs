// What the drivers of SDKs for Node share: commands and answers are lines of JSON, as for python.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const SOON_MILLISECONDS = 30_000;

// The SDKs lie outside of this folder.
export const installed = createRequire(`${process.argv[2]}/`);

// Send a batch of events to another address than the SDK would; returns the status.
export async function send(address, { httpVerb, params }) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(address, { method: httpVerb, headers, body: JSON.stringify(params) });
  await response.arrayBuffer();
  return response.status;
}

// Wait until `revision()` is the wanted one, or any.
export async function until(revision, wanted = null) {
  const last = Date.now() + SOON_MILLISECONDS;
  while (Date.now() < last) {
    const found = revision();
    if (found && (wanted === null || found === wanted)) return found;
    await pause(20);
  }
  return null;
}

// Write the outcome of each user.
export function forEachUser({ users, into }, outcome) {
  const found = JSON.parse(readFileSync(users, "utf-8")).map(outcome);
  writeFileSync(into, JSON.stringify(found));
  return found.length;
}

// Let a user enter an experiment and convert; returns the variation.
export function visit(client, user, experiment) {
  const variation = client.activate(experiment, user.id, user.attributes);
  for (const [key, tags] of user.conversions) client.track(key, user.id, user.attributes, tags);
  return variation;
}

export const fromEach = (keys, value) => Object.fromEntries(keys.map((key) => [key, value(key)]));

export async function serve(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    process.stdout.write(`${JSON.stringify({ answer: await commands[command.do](command) })}\n`);
  }
  process.exit(0);
}
