// node validate.mjs FILE: prints what @asyncapi/parser says of a document, one line a finding; exit 1 if it is invalid.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const [file] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
for (const { severity, range, path, message } of diagnostics) {
  console.log(`${["error", "warning", "info", "hint"][severity]} ${file}:${range.start.line + 1} ${path.join(".")}: ${message}`);
}
if (document) {
  console.log(`ok: ${document.channels().all().length} channels, ${document.operations().all().length} operations`);
}
process.exit(document ? 0 : 1);
