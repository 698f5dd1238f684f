// The filter box: operations whose tag, name, address or summary has all the words.

const matches = (words, text) => words.every((word) => text.toLowerCase().includes(word));

function opsFilter(taggedOperations, phrase) {
  const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
  return taggedOperations
    .map((entry, tag) =>
      entry.update("operations", (operations) =>
        operations.filter((one) => {
          const operation = one.get("operation");
          const names = [tag, operation.get("operationId"), one.get("method"), one.get("path"), operation.get("summary")];
          return matches(words, names.join(" "));
        }),
      ),
    )
    .filter((entry) => entry.get("operations").size > 0);
}

const phraseOf = (layoutSelectors) => {
  const filter = layoutSelectors.currentFilter();
  return typeof filter === "string" && filter !== "true" ? filter : "";
};

const count = (tagged) => tagged.reduce((sum, entry) => sum + entry.get("operations").size, 0);

export const filtering = ({ React: { createElement: h } }) => ({
  fn: { opsFilter },
  statePlugins: {
    layout: {
      wrapSelectors: {
        // What is found is shown, also under a tag that is closed. `original` has the state already.
        isShown: (original, { layoutSelectors }) => (_state, thing, otherwise) =>
          (thing[0] === "operations-tag" && phraseOf(layoutSelectors) !== "") || original(thing, otherwise),
      },
    },
  },
  components: {
    FilterContainer: ({ specSelectors, layoutSelectors, layoutActions }) => {
      const phrase = phraseOf(layoutSelectors);
      const found = count(specSelectors.taggedOperations());
      return h(
        "search",
        { className: "wrapper filter" },
        h("label", { htmlFor: "filter" }, "Find operations"),
        h("input", {
          id: "filter",
          type: "search",
          placeholder: "results, POST, /features ...",
          value: phrase,
          onChange: (event) => layoutActions.updateFilter(event.target.value),
        }),
        h("output", { htmlFor: "filter" }, phrase ? `${found} found` : `${found} operations`),
      );
    },
  },
  wrapComponents: {
    operations: (Original, { specSelectors }) => (properties) =>
      specSelectors.taggedOperations().size === 0
        ? h("p", { className: "wrapper" }, "No operation has all these words.")
        : h(Original, properties),
  },
});
