// swagger-client, built from the served document: reads, writes and archives by tags and operation ids.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_MODULES, "here.js"));
const SwaggerClient = require("swagger-client");
const bodies = JSON.parse(readFileSync(new URL("../bodies.json", import.meta.url)));

const requestInterceptor = (request) => {
  request.headers.Authorization = `Bearer ${process.env.API_TOKEN}`;
  return request;
};
const client = await new SwaggerClient({ url: `${process.env.API_URL}/v2/swagger.json`, requestInterceptor });
assert.deepEqual(client.errors, []);
const { apis } = client;
const operations = Object.fromEntries(Object.values(apis).flatMap((tag) => Object.entries(tag)));
const project = (await apis.Projects.create_project({ body: { name: "By swagger-client" } })).body;
const project_id = project.id;

for (const [kind, body] of Object.entries(bodies)) {
  const noun = kind.replace(/(?!^)([A-Z])/g, "_$1").toLowerCase();
  const call = async (name, parameters) => (await operations[name](parameters)).body;
  const made = await call(`create_${noun}`, { body: { project_id, ...body } });
  const named = { [`${noun}_id`]: made.id };
  assert.deepEqual(await call(`get_${noun}`, named), made, kind);
  const listed = await call(`list_${noun}s`, { project_id });
  assert(listed.some((one) => one.id === made.id), kind);
  const changed = await call(`update_${noun}`, { ...named, body: { name: "Another" } });
  assert.equal(changed.name, "Another", kind);
  const archive = operations[`delete_${noun}`] ?? operations[`archive_${noun}`];
  if (!archive) continue;
  assert.equal((await archive(named)).status, 204, kind);
  const again = await archive(named).then(() => assert.fail("archived twice"), (error) => error);
  assert.equal(again.status, 410, kind);
}
process.stdout.write(JSON.stringify(Object.keys(bodies)));
