// swagger-parser validates the served document, by the schema of Swagger 2.0 and by its specification.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_MODULES, "here.js"));
const SwaggerParser = require("@apidevtools/swagger-parser");
const document = await SwaggerParser.validate(`${process.env.API_URL}/v2/swagger.json`);
const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
process.stdout.write(JSON.stringify(operations.map((one) => one.operationId).filter(Boolean)));
