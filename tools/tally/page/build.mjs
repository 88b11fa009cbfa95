// Bundles the page into one HTML file that loads nothing.
//
// usage: node build.mjs OUTPUT
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const options = { bundle: true, minify: true, write: false, target: "es2020", legalComments: "none" };
const text = async (entry, more) =>
  (await build({ ...options, entryPoints: [entry], ...more })).outputFiles[0].text.trim();

// Within a script element `</script` would end it.
const script = (await text("main.js", { format: "iife" })).replaceAll("</script", "<\\/script");
const style = await text("style.css");
const page = readFileSync("index.html", "utf8")
  .replace("SCRIPT_HASH", () => "sha256-" + createHash("sha256").update(script).digest("base64"))
  .replace("/* STYLE */", () => style)
  .replace("/* SCRIPT */", () => script);
writeFileSync(process.argv[2], page);
