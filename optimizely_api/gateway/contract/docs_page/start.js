"use strict";

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
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  requestInterceptor: withBearer,
  tryItOutEnabled: false,
  validatorUrl: null,
});
