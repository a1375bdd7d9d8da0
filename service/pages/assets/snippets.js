/** The request on the screen, for a shell and for programs. A key never stands in it. */
import {say} from "./announce.js";
import {$} from "./elements.js";

const PLACEHOLDER = "KEY";

/** A word of a POSIX shell. */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A string of Python or JavaScript: what JSON escapes, both read alike. */
const literal = (text) => JSON.stringify(text)
  .replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029").replaceAll("\u007f", "\\u007f");

/** curl reads `;` and `,` in a form's file name as its own, and `-` as its standard input. */
function formFile(name) {
  const plain = name === "-" ? "./-" : name;
  const quoted = `"${plain.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  return /[;,"\\]/.test(plain) ? quoted : plain;
}

/**
 * @param {object} request `address` without a query, `parameters` as pairs, `name` of the file,
 *   whether a key is `keyed`
 * @returns {string} a command
 */
export function curl({address, parameters, name, keyed}) {
  const query = new URLSearchParams(parameters).toString();
  const header = keyed ? ` -H 'Authorization: Bearer ${PLACEHOLDER}'` : "";
  return `curl -F ${shell(`file=@${formFile(name)}`)}${header} ${shell(`${address}?${query}`)}`;
}

/** @returns {string} a program for httpx, which `pip install httpx` installs */
export function python({address, parameters, name, keyed}) {
  const lines = [
    "import httpx",
    "",
    `with open(${literal(name)}, "rb") as clip:`,
    "    response = httpx.post(",
    `        ${literal(address)},`,
    "        params={",
    ...parameters.map(([key, value]) => `            ${literal(key)}: ${literal(value)},`),
    "        },",
    '        files={"file": clip},',
  ];
  if (keyed) lines.push(`        headers={"Authorization": "Bearer ${PLACEHOLDER}"},`);
  lines.push("        timeout=120,", "    )", "answer = response.json()",
    "if response.is_error:", '    raise SystemExit(answer["detail"])',
    'for label in answer["labels"]:', '    print(f"{label[\'score\']:.3f}  {label[\'label\']}")');
  return lines.join("\n");
}

/** @returns {string} a module for Node.js, Deno and Bun */
export function javascript({address, parameters, name, keyed}) {
  const query = parameters.map(([key, value]) => `  [${literal(key)}, ${literal(value)}],`);
  const lines = [
    'import {readFile} from "node:fs/promises";',
    "",
    "const form = new FormData();",
    "// In a page, append the file of an <input type=\"file\"> instead.",
    `form.append("file", new Blob([await readFile(${literal(name)})]), "clip");`,
    "const query = new URLSearchParams([",
    ...query,
    "]);",
    `const response = await fetch(\`${address.replace(/[\\`$]/g, "\\$&")}?\${query}\`, {`,
    '  method: "POST",',
    "  body: form,",
  ];
  if (keyed) lines.push(`  headers: {authorization: "Bearer ${PLACEHOLDER}"},`);
  lines.push("});", "const answer = await response.json();",
    "if (!response.ok) throw new Error(answer.detail);",
    "for (const {label, score} of answer.labels) console.log(score.toFixed(3), label);");
  return lines.join("\n");
}

const LANGUAGES = {curl, python, javascript};
let shown = null;

/** Show the request in the language that is chosen. */
export function show(request) {
  shown = request;
  const chosen = document.querySelector("input[name=language]:checked").value;
  $("code").textContent = LANGUAGES[chosen](shown);
}

for (const choice of document.querySelectorAll("input[name=language]")) {
  choice.addEventListener("change", () => show(shown));
}

$("copy").addEventListener("click", async () => {
  const done = await copied($("code").textContent);
  $("copy").textContent = done ? "Copied" : "Press Ctrl+C to copy";
  say(done ? "Copied." : "It is selected; press Control and C to copy it.");
  setTimeout(() => { $("copy").textContent = "Copy"; }, 3000);
});

/** Without TLS a browser has no clipboard for pages; then the text is selected and copied. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren($("code"));
    return document.execCommand("copy");
  }
}
