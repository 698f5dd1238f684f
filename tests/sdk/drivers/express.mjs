// Runs the official middleware for Express with the JavaScript SDK 3 that it brings. It cannot tell by which rule or
// variation a feature is on; and where a feature is tested, asking sends an event.
import { forEachUser, fromEach, installed, send, serve, until, visit } from "./commands.mjs";

const express = installed("@optimizely/express");
const LOG_ERRORS = 4; // LogLevel.ERROR of the SDK's logging
const SHORTEST_INTERVAL_MILLISECONDS = 1000; // below, the SDK polls every five minutes
const READERS = { boolean: "Boolean", double: "Double", integer: "Integer", string: "String" };
let middleware = null;
const sent = [];

// Standard output is for answers, and the middleware and the SDK write to it.
console.log = console.error;

// What the middleware gives to one request: a client of its own, and the datafile.
function ofRequest() {
  const request = {};
  middleware(request, {}, () => {});
  return request.optimizely;
}

const revision = () => ofRequest().datafile.revision;

await serve({
  async open({ sdk_key, javascript_template, seconds, events }) {
    const eventDispatcher = {
      dispatchEvent(event, callback) {
        sent.push(send(events, event).then((statusCode) => callback({ statusCode })));
      },
    };
    const updateInterval = Math.max(seconds * 1000, SHORTEST_INTERVAL_MILLISECONDS);
    const datafileOptions = { urlTemplate: javascript_template, autoUpdate: true, updateInterval };
    const options = { sdkKey: sdk_key, logLevel: LOG_ERRORS, eventDispatcher, datafileOptions };
    middleware = express.initialize(options).middleware;
    return until(revision);
  },
  async wait(command) {
    return until(revision, command.revision);
  },
  async decide(command) {
    const { client, datafile } = ofRequest();
    return forEachUser(command, (user) => ofUser(client, datafile, user, command));
  },
  async visit(command) {
    const count = forEachUser(command, (user) => visit(ofRequest().client, user, command.experiment));
    await Promise.all(sent);
    return count;
  },
});

function ofUser(client, datafile, user, { experiments, flags }) {
  return {
    experiments: fromEach(experiments, (key) => client.getVariation(key, user.id, user.attributes)),
    flags: fromEach(flags, (key) => {
      const enabled = client.isFeatureEnabled(key, user.id, user.attributes);
      return [null, null, enabled, variables(client, datafile, key, user)];
    }),
  };
}

function variables(client, datafile, flag, user) {
  const found = datafile.featureFlags.find(({ key }) => key === flag)?.variables ?? [];
  const value = ({ key, type }) =>
    client[`getFeatureVariable${READERS[type]}`](flag, key, user.id, user.attributes);
  return Object.fromEntries(found.map((variable) => [variable.key, value(variable)]));
}
