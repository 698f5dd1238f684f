// Decides with the official JavaScript SDK; commands and answers are lines of JSON, as for decide.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

// The SDK lies outside of this folder.
const sdk = createRequire(`${process.argv[2]}/`)("@optimizely/optimizely-sdk");
const SOON_MILLISECONDS = 30_000;
const QUIETLY = [sdk.OptimizelyDecideOption.DISABLE_DECISION_EVENT];
let client = null;

const revision = () => client.getOptimizelyConfig()?.revision ?? null;

const commands = {
  async open({ sdk_key, javascript_template, seconds }) {
    const projectConfigManager = sdk.createPollingProjectConfigManager({
      sdkKey: sdk_key,
      urlTemplate: javascript_template,
      updateInterval: seconds * 1000,
      autoUpdate: true,
    });
    client = sdk.createInstance({ projectConfigManager });
    await client.onReady();
    return revision();
  },
  async load({ file }) {
    const datafile = readFileSync(file, "utf-8");
    client = sdk.createInstance({ projectConfigManager: sdk.createStaticProjectConfigManager({ datafile }) });
    await client.onReady();
    return revision();
  },
  async wait(command) {
    const last = Date.now() + SOON_MILLISECONDS;
    while (Date.now() < last) {
      if (revision() === command.revision) return revision();
      await pause(20);
    }
    return null;
  },
  async decide({ users, experiments, flags, into }) {
    const found = JSON.parse(readFileSync(users, "utf-8")).map((user) => ofUser(user, experiments, flags));
    writeFileSync(into, JSON.stringify(found));
    return found.length;
  },
  async close() {
    client.close();
    return null;
  },
};

function ofUser(user, experiments, flags) {
  const context = client.createUserContext(user.id, user.attributes);
  const variation = (key) => client.getVariation(key, user.id, user.attributes);
  const decision = (key) => {
    const one = context.decide(key, QUIETLY);
    return [one.variationKey, one.ruleKey, one.enabled, one.variables];
  };
  return {
    experiments: Object.fromEntries(experiments.map((key) => [key, variation(key)])),
    flags: Object.fromEntries(flags.map((key) => [key, decision(key)])),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  console.log(JSON.stringify({ answer: await commands[command.do](command) }));
}
process.exit(0);
