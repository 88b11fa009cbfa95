// What speedscope, the real one in a browser, makes of profiles.
//
// usage: speedscope.mjs MODULES CHROMIUM FILE...
//   MODULES   the folder with speedscope and playwright-core
//   CHROMIUM  the browser
// Prints JSON: {FILE: [[function, total, self]...]}, of its table of functions.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, executablePath, ...files] = process.argv.slice(2);
const { chromium } = createRequire(modules + "/")("playwright-core");
// It draws by WebGL, which machines without a graphics card emulate; root has no sandbox.
const args = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath, args });
const found = {};
for (const file of files) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`${file}: ${error.message}`));
  await page.goto(pathToFileURL(modules + "/speedscope/dist/release/index.html").href);
  await page.setInputFiles("input#file", file);
  await page.getByText("Sandwich").click();
  await page.waitForSelector("td");
  found[file] = await page.$$eval("tr", (rows) =>
    rows
      .map((row) => [...row.querySelectorAll("td")].map((cell) => cell.innerText.trim()))
      .filter((cells) => cells.length === 3)
      .map(([total, self, name]) => [name, total, self]),
  );
  await page.close();
}
await browser.close();
console.log(JSON.stringify(found));
