// Names for screen readers, and the keyboard's way into what scrolls, where Swagger UI has neither.

function nameFields(table) {
  for (const row of table.querySelectorAll("tr[data-param-name]")) {
    for (const field of row.querySelectorAll("input, select, textarea")) {
      field.setAttribute("aria-label", row.dataset.paramName);
    }
  }
}

function openToKeyboard(part) {
  for (const scrolling of part.querySelectorAll("pre.microlight")) {
    scrolling.tabIndex = 0;
  }
}

export const naming = ({ React: { createElement: h, useEffect, useRef } }) => {
  const afterwards = (change) => (Original) => (properties) => {
    const part = useRef();
    useEffect(() => change(part.current)); // after every rendering, which may have made new elements
    return h("div", { ref: part }, h(Original, properties));
  };
  return { wrapComponents: { parameters: afterwards(nameFields), HighlightCode: afterwards(openToKeyboard) } };
};
