// optimizely-mcp-server's client of the API, led to ours by OPTIMIZELY_BASE_URL: every kind that it knows.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const dist = join(process.env.NODE_MODULES, "@simonecoelhosfo/optimizely-mcp-server/dist");
const load = (file) => import(pathToFileURL(join(dist, file)).href);
const { OptimizelyAPIHelper } = await load("api/OptimizelyAPIHelper.js");
const { ConfigManager } = await load("config/ConfigManager.js");
const bodies = JSON.parse(readFileSync(new URL("../bodies.json", import.meta.url)));

console.log = console.error; // standard output is for what was done

async function refused(call, status) {
  const error = await call.then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(error.status, status, error.message);
  return error;
}

const configuration = new ConfigManager();
await configuration.loadConfig();
const { baseUrl } = configuration.getOptimizelyConfig();
assert.equal(baseUrl, process.env.OPTIMIZELY_BASE_URL);
const api = new OptimizelyAPIHelper(process.env.API_TOKEN, {
  baseUrl,
  requestsPerMinute: 6000,
  requestsPerSecond: 100,
});

const project = await api.createProject({ name: "By the MCP server", platform: "web" });
const project_id = project.id;
assert.deepEqual(await api.getProject(project_id), project);
assert.deepEqual((await api.listProjects()).map((one) => one.id), [project_id]);
assert.equal((await api.updateProject(project_id, { description: "Changed" })).description, "Changed");

const list = (kind) => (kind === "Group" ? api.listGroups({ project_id }) : api[`list${kind}s`](project_id));
const create = (kind, body) =>
  ["Page", "Campaign"].includes(kind)
    ? api[`create${kind}`](project_id, body)
    : api[`create${kind}`]({ project_id, ...body });
const update = (kind, made, body) =>
  kind === "Campaign" ? api.updateCampaign(project_id, made.id, body) : api[`update${kind}`](made.id, body);
const read = (kind, id) => (kind === "Campaign" ? api.getCampaign(project_id, id) : api[`get${kind}`](id));
const remove = (kind, id) => (kind === "Campaign" ? api.deleteCampaign(project_id, id) : api[`delete${kind}`](id));

const kinds = ["Attribute", "Page", "ListAttribute", "Feature", "Group", "Campaign", "Experiment"];
for (const kind of kinds) {
  const made = await create(kind, bodies[kind]);
  assert.deepEqual(await read(kind, made.id), made, kind);
  const listed = await list(kind);
  assert((listed.data ?? listed).some((one) => one.id === made.id), kind);
  assert.equal((await update(kind, made, { name: "Another" })).name, "Another", kind);
  await remove(kind, made.id);
  const archived = await read(kind, made.id);
  assert(archived.archived || archived.status === "archived", kind);
}

await refused(api.createExtension(project_id, bodies.Extension), 404); // at an address that the API has never had

const audience = await api.createAudience({ project_id, name: "Visitors", conditions: "[]" });
assert.equal((await api.updateAudience(audience.id, { name: "Others" })).name, "Others");
await refused(api.deleteAudience(audience.id), 405); // it tells its users to archive instead

const order = await api.createEvent({ project_id, key: "order", name: "Order", event_type: "custom" });
assert.equal((await api.getEvent(order.id)).key, "order");
const taken = api.createAttribute({ project_id, key: "plan", name: "Plan" });
await assert.rejects(taken, /HTTP 400/); // archived attributes keep their keys

const body = { project_id, ...bodies.Experiment };
const experiment = await api.createExperiment(body);
for (const [action, status] of [["start", "running"], ["pause", "paused"], ["resume", "running"]]) {
  assert.equal((await api.updateExperiment(experiment.id, {}, action)).status, status);
}
await api.getExperimentResults(experiment.id);
const changes = await api.getChangeHistory(project_id, { per_page: 100 });
assert(changes.length > 10);
process.stdout.write(JSON.stringify([...kinds, "Audience", "Event", "Project"]));
process.exit(0);
