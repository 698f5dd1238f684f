// optimizely-x-node-client: every kind that it knows is created, read, changed where it changes with PATCH, and archived.
// It changes most kinds with PUT, which the API has never had: those are a 405.
const assert = require("node:assert");
const OptimizelyClient = require("optimizely-x-node-client");

console.log = () => {}; // it prints what it gets
const client = new OptimizelyClient({ accessToken: process.env.API_TOKEN });
client.baseUrl = process.env.API_URL + "/v2/";

async function payload(call, status) {
  const response = await call;
  assert.equal(response.statusCode, status);
  return typeof response.payload === "string" && response.payload ? JSON.parse(response.payload) : response.payload;
}

async function refused(call, code) {
  const error = await call.then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(error.code, code);
}

async function wholeLife(kind, body, putOptions) {
  const project_id = body.project_id;
  const made = await payload(create(kind, body), 201);
  assert.deepEqual(await payload(client[`get${kind}`]({ id: made.id }), 200), made);
  // Some lists insist on an id, which the API ignores.
  const listed = await payload(client[`get${kind}s`]({ id: 1, project_id, per_page: 100 }), 200);
  assert(listed.some((one) => one.id === made.id));
  if (putOptions) await refused(client[`update${kind}`](putOptions(made), { name: "Another" }), "method_not_allowed");
  if (client[`delete${kind}`]) {
    await payload(client[`delete${kind}`]({ id: made.id }), 204);
    await refused(client[`delete${kind}`]({ id: made.id }), "gone");
  }
  return made;
}

function create(kind, body) {
  if (kind === "Attribute") return client.createAttribute(body);
  if (kind === "Audience") return client.createAudience({ id: 1, ...body }); // it insists on an id, which it sends
  return client[`create${kind}`]({}, body);
}

async function main() {
  const project = await payload(client.createProject({ name: "By the X client" }), 201);
  const of = { project_id: project.id };
  assert.equal((await payload(client.getProject({ id: project.id }), 200)).name, "By the X client");
  assert.equal((await payload(client.getProjects({}), 200)).length, 1);
  await refused(client.updateProject({ id: project.id, name: "Another" }), "method_not_allowed");
  const byId = (made) => ({ id: made.id });
  await wholeLife("Attribute", { ...of, key: "plan" }, byId);
  await wholeLife("Audience", { ...of, name: "Visitors" }, byId);
  await wholeLife("Campaign", { ...of, name: "Greetings" }, (made) => ({ campaign_id: made.id }));
  await wholeLife("Page", { ...of, name: "Home", edit_url: "https://shop.example/" }, byId);

  const variations = [{ name: "Original", weight: 5000 }, { name: "Green", weight: 5000 }];
  const where = { edit_url: "https://shop.example/" };
  const body = { ...of, name: "Button", url_targeting: where, variations };
  const experiment = await payload(client.createExperiment({ action: "publish" }, body), 201);
  const started = await payload(client.updateExperiment({ id: experiment.id, action: "start" }, {}), 200);
  assert.equal(started.status, "running");
  const renamed = await payload(client.updateExperiment({ id: experiment.id }, { name: "Another" }), 200);
  assert.equal(renamed.name, "Another");
  await payload(client.getExperimentResults({ id: experiment.id }), 204);
  await payload(client.deleteExperiment({ id: experiment.id }), 204);

  const page = await payload(client.createPage({}, { ...of, name: "Other", edit_url: "https://shop.example/b" }), 201);
  const custom = await payload(client.createCustomEvent({ project_id: project.id }, { key: "order" }), 201);
  const click = { name: "Buy", event_type: "click", config: { selector: ".buy" } };
  const inPage = await payload(client.createInPageEvent({ page_id: page.id }, click), 201);
  assert.equal((await payload(client.getEvents({ ...of }), 200)).length, 4); // two pages are events too
  await payload(client.deleteCustomEvent({ project_id: project.id, event_id: custom.id }), 204);
  await payload(client.deleteInPageEvent({ page_id: page.id, event_id: inPage.id }), 204);
  process.stdout.write(JSON.stringify(["Attribute", "Audience", "Campaign", "Page", "Experiment", "Event", "Project"]));
}

main().catch((error) => { console.error(error); process.exit(1); });
