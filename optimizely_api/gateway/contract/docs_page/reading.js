// What a reader sees of an operation beside what Swagger UI shows: its release state, the parts that its response may be
// without, and its errors in one line.

const MARKED = "x-release-state";
const COMPOSED = "x-composition";
const isError = (status) => status === "default" || Number(status) >= 400;

export const reading = ({ React: { createElement: h, Fragment } }) => {
  // Errors that operations share are on a page of their own; here is only what an operation says of its own.
  const Errors = ({ errors, shared, Markdown }) =>
    h(
      "section",
      { className: "errors" },
      h("h4", null, "Errors"),
      h(
        "ul",
        null,
        errors
          .keySeq()
          .filter((status) => status !== "default")
          .map((status) =>
            h(
              "li",
              { key: status },
              h("a", { href: `docs/errors#${status}` }, status),
              shared(status) ? null : h(Markdown, { source: errors.getIn([status, "description"]) }),
            ),
          )
          .toArray(),
      ),
    );

  const Parts = ({ parts, Markdown }) =>
    h(
      "section",
      { className: "parts" },
      h("h4", null, "Parts that may be missing"),
      h("p", null, "When their service does not answer; ", h("code", null, "X-Unreachable"), " names them then."),
      h(
        "ul",
        null,
        parts
          .map((part, name) =>
            h("li", { key: name }, h("code", null, name), h(Markdown, { source: part.get("optional") })),
          )
          .valueSeq()
          .toArray(),
      ),
    );

  return {
    components: {
      InfoBasePath: ({ basePath }) =>
        h("p", { className: "base-url" }, "Base URL ", h("code", null, new URL(basePath, document.baseURI).href)),
    },
    wrapComponents: {
      // Without the link of the original, since it stands inside a button; opening an operation makes its address.
      OperationSummaryPath: (_original, { specSelectors }) => ({ operationProps }) => {
        const [path, method] = [operationProps.get("path"), operationProps.get("method")];
        const state = specSelectors.specJson().getIn(["paths", path, method, MARKED]);
        const parts = path.split(/(?=\/)/).flatMap((part, index) => [h("wbr", { key: index }), part]);
        const mark = state && state !== "stable" ? h("span", { className: "release-state" }, state) : null;
        return h(Fragment, null, h("span", { className: "opblock-summary-path", "data-path": path }, parts), mark);
      },
      responses: (Original, { getComponent, specSelectors }) => (properties) => {
        const { responses, path, method } = properties;
        const operation = specSelectors.specJson().getIn(["paths", path, method]);
        const shared = (status) => operation.hasIn(["responses", status, "$ref"]);
        const optional = operation.get(COMPOSED)?.filter((part) => part.has("optional"));
        return h(
          Fragment,
          null,
          h(Original, { ...properties, responses: responses.filterNot((_, status) => isError(status)) }),
          optional?.size ? h(Parts, { parts: optional, Markdown: getComponent("Markdown", true) }) : null,
          h(Errors, {
            errors: responses.filter((_, status) => isError(status)),
            shared,
            Markdown: getComponent("Markdown", true),
          }),
        );
      },
    },
  };
};
