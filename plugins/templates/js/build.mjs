// Makes a component of a JavaScript module: `node build.mjs SOURCE OUT [WIT]`.

import { rename, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, out, wit = "wit"] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath: source,
  witPath: wit,
  worldName: "plugin",
  // Nothing but the service's own functions is imported: no output, no clock, no chance, no network.
  disableFeatures: ["stdio", "random", "clocks", "http", "fetch-event"],
});
// At one stroke, so that no one ever sees half of it.
await writeFile(`${out}.new`, component);
await rename(`${out}.new`, out);
