// Samples of each operation's request, made of the `x-example` values of the contract.

import { LANGUAGES } from "./languages.js";

const EXAMPLE = "x-example";
let chosen = LANGUAGES[0].name; // for the next operation too

const examplesIn = (parameters, place) =>
  parameters.filter((one) => one.in === place && one[EXAMPLE] !== undefined);

// {method, url, query, body}: the request that the examples of an operation's parameters make.
export function exampleRequest(operation, path, method, base) {
  const parameters = operation.parameters ?? [];
  const filled = examplesIn(parameters, "path").reduce(
    (text, one) => text.replace(`{${one.name}}`, encodeURIComponent(one[EXAMPLE])),
    path,
  );
  const query = Object.fromEntries(examplesIn(parameters, "query").map((one) => [one.name, one[EXAMPLE]]));
  const [body] = examplesIn(parameters, "body").map((one) => one[EXAMPLE]);
  const returns = operation.responses["204"] && !operation.responses["200"] ? "nothing" : mediaOf(operation);
  return { method: method.toUpperCase(), url: base + filled, query, body, returns };
}

const mediaOf = (operation) => (operation.produces?.[0] ?? "json").includes("json") ? "json" : "text";

export const sampling = ({ React: { createElement: h, Fragment, useState } }) => {
  const Samples = ({ request, id }) => {
    const [language, setLanguage] = useState(chosen);
    const choose = (name) => {
      chosen = name;
      setLanguage(name);
    };
    const text = LANGUAGES.find((one) => one.name === language).write(request);
    return h(
      "section",
      { className: "samples" },
      h(
        "header",
        null,
        h("h4", null, "Request sample"),
        h(
          "div",
          { className: "languages", role: "group", "aria-label": "Language of the sample" },
          LANGUAGES.map(({ name }) =>
            h("button", { key: name, type: "button", "aria-pressed": name === language, onClick: () => choose(name) }, name),
          ),
        ),
        // Without a secure context, browsers have no clipboard.
        navigator.clipboard
          ? h("button", { type: "button", className: "copy", onClick: () => navigator.clipboard.writeText(text) }, "Copy")
          : null,
      ),
      h("pre", { tabIndex: 0, "aria-label": `Request sample in ${language}`, id: `sample-${id}` }, h("code", null, text)),
    );
  };

  return {
    wrapComponents: {
      responses: (Original, { specSelectors }) => (properties) => {
        const { path, method } = properties;
        const operation = specSelectors.specResolvedSubtree(["paths", path, method]).toJS();
        const base = new URL(specSelectors.basePath(), document.baseURI).href;
        return h(
          Fragment,
          null,
          h(Samples, { request: exampleRequest(operation, path, method, base), id: operation.operationId }),
          h(Original, properties),
        );
      },
      // "Try it out" begins with the same body. Swagger UI would show its example as text above it, too.
      parameterRow: (Original) => (properties) => {
        const { param } = properties;
        return h(Original, param?.get("in") === "body" ? { ...properties, param: param.delete(EXAMPLE) } : properties);
      },
      ParamBody: (Original) => (properties) => {
        const { pathMethod, specSelectors } = properties;
        const parameters = specSelectors.specResolvedSubtree(["paths", ...pathMethod, "parameters"]);
        const example = parameters.find((one) => one.get("in") === "body").get(EXAMPLE);
        const getSampleSchema = () => JSON.stringify(example, null, 2);
        return h(Original, example ? { ...properties, fn: { ...properties.fn, getSampleSchema } } : properties);
      },
    },
  };
};
