import { filtering } from "./filtering.js";
import { naming } from "./naming.js";
import { reading } from "./reading.js";
import { sampling } from "./sampling.js";

// People paste the bare token; the API wants the scheme in front of it (RFC 6750 section 2.1).
function withBearer(request) {
  const token = request.headers.Authorization;
  if (token && !/^bearer /i.test(token)) {
    request.headers.Authorization = "Bearer " + token.trim();
  }
  return request;
}

window.ui = SwaggerUIBundle({
  url: new URL("v2/swagger.json", document.baseURI).href,
  dom_id: "#contract",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [filtering, naming, reading, sampling],
  layout: "BaseLayout",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  docExpansion: "none",
  filter: true,
  persistAuthorization: false,
  requestInterceptor: withBearer,
  syntaxHighlight: { theme: "tomorrow-night" }, // the default's red is too dark for its ground
  tryItOutEnabled: false,
  validatorUrl: null,
});
