// How a request reads in a language. Tokens stand in the environment, not in the sample.

const isEmpty = (value) => Object.keys(value).length === 0;
const indented = (text, spaces) => text.replaceAll("\n", "\n" + " ".repeat(spaces));
const address = ({ url, query }) => (isEmpty(query) ? url : `${url}?${new URLSearchParams(query)}`);
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(request) {
  const { method, body } = request;
  return [
    `curl ${method === "GET" ? "" : `-X ${method} `}${quoted(address(request))}`,
    `-H "Authorization: Bearer $TOKEN"`,
    ...(body ? [`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(body, null, 2))}`] : []),
  ].join(" \\\n  ");
}

const WORDS = { true: "True", false: "False", null: "None" };

// A value as Python writes it: text and numbers as JSON does.
function literal(value, depth = 0) {
  const [begin, end] = ["    ".repeat(depth + 1), "    ".repeat(depth)];
  const block = (open, items, close) => (items.length ? `${open}\n${begin}${items.join(`,\n${begin}`)},\n${end}${close}` : open + close);
  if (Array.isArray(value)) {
    return block("[", value.map((item) => literal(item, depth + 1)), "]");
  }
  if (value !== null && typeof value === "object") {
    return block("{", Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${literal(item, depth + 1)}`), "}");
  }
  return typeof value === "string" ? JSON.stringify(value) : (WORDS[value] ?? String(value));
}

function python({ method, url, query, body, returns }) {
  const result = { json: "response.json()", text: "response.text", nothing: "response.status_code" }[returns];
  return [
    "import os",
    "",
    "import requests",
    "",
    `response = requests.${method.toLowerCase()}(`,
    `    ${JSON.stringify(url)},`,
    `    headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},`,
    ...(isEmpty(query) ? [] : [`    params=${indented(literal(query), 4)},`]),
    ...(body ? [`    json=${indented(literal(body), 4)},`] : []),
    ")",
    "response.raise_for_status()",
    `print(${result})`,
  ].join("\n");
}

function javascript(request) {
  const { method, body, returns } = request;
  const result = { json: "await response.json()", text: "await response.text()", nothing: "response.status" }[returns];
  const headers = ["Authorization: `Bearer ${process.env.TOKEN}`", ...(body ? [`"Content-Type": "application/json"`] : [])];
  return [
    `const response = await fetch(${JSON.stringify(address(request))}, {`,
    ...(method === "GET" ? [] : [`  method: "${method}",`]),
    `  headers: { ${headers.join(", ")} },`,
    ...(body ? [`  body: JSON.stringify(${indented(JSON.stringify(body, null, 2), 2)}),`] : []),
    "});",
    "if (!response.ok) throw new Error((await response.json()).message);",
    `console.log(${result});`,
  ].join("\n");
}

export const LANGUAGES = [
  { name: "curl", write: curl },
  { name: "Python", write: python },
  { name: "JavaScript", write: javascript },
];
