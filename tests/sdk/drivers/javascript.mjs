// Runs the official JavaScript SDK.
import { readFileSync } from "node:fs";

import { forEachUser, fromEach, installed, send, serve, until, visit } from "./commands.mjs";

const sdk = installed("@optimizely/optimizely-sdk");
const BATCH_SIZE = 10;
const QUIETLY = [sdk.OptimizelyDecideOption.DISABLE_DECISION_EVENT];
let client = null;

const revision = () => client.getOptimizelyConfig()?.revision;

await serve({
  async open({ sdk_key, javascript_template, seconds, events }) {
    const projectConfigManager = sdk.createPollingProjectConfigManager({
      sdkKey: sdk_key,
      urlTemplate: javascript_template,
      updateInterval: seconds * 1000,
      autoUpdate: true,
    });
    const eventProcessor = sdk.createBatchEventProcessor({
      batchSize: BATCH_SIZE,
      eventDispatcher: { dispatchEvent: async (event) => ({ statusCode: await send(events, event) }) },
    });
    client = sdk.createInstance({ projectConfigManager, eventProcessor });
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
    return until(revision, command.revision);
  },
  async decide(command) {
    return forEachUser(command, (user) => ofUser(user, command));
  },
  async visit(command) {
    const count = forEachUser(command, (user) => visit(client, user, command.experiment));
    await client.flushImmediately(); // else the SDK drops the last events of this turn of the loop
    await client.close();
    return count;
  },
});

function ofUser(user, { experiments, flags }) {
  const context = client.createUserContext(user.id, user.attributes);
  return {
    experiments: fromEach(experiments, (key) => client.getVariation(key, user.id, user.attributes)),
    flags: fromEach(flags, (key) => {
      const one = context.decide(key, QUIETLY);
      return [one.variationKey, one.ruleKey, one.enabled, one.variables];
    }),
  };
}
