// What the process is, how much it holds, and what is most worth a look.
import { h, replace } from "./dom.js";
import { bytes, count, date, duration } from "./format.js";

const ICONS = { bad: "✖", warn: "▲", good: "✔", note: "●" };
const WORDS = { bad: "Serious", warn: "Worth a look", good: "Good", note: "Note" };

const tile = (label, value, note) =>
  h("div", { class: "tile" }, h("dt", null, label), h("dd", null, value, h("small", null, note)));

function tiles(report) {
  const { process, fragmentation } = report;
  const ratio = fragmentation.live > 0 ? fragmentation.footprint / fragmentation.live : 0;
  return [
    tile("RSS", bytes(process.rss), "resident, as the kernel counts"),
    tile("Live", bytes(process.live_bytes), `${count(process.blocks)} blocks in use`),
    tile("Footprint", bytes(process.footprint_bytes), "what those take in the heap"),
    tile("Peak", bytes(process.peak_footprint_bytes), "the most the footprint was"),
    tile("Fragmentation", ratio > 0 ? `× ${ratio.toFixed(2)}` : "–", "footprint by live bytes"),
    tile("Allocations", count(process.allocs), `blocks in ${duration(process.time - process.created)}`),
  ];
}

const finding = ({ level, section, text }) => h("li", { class: `finding ${level}` },
  h("span", { class: "icon", "aria-hidden": "true" }, ICONS[level]),
  h("span", null, h("span", { class: "hidden" }, `${WORDS[level]}: `), text, " ",
    section ? h("a", { href: `#${section}` }, "Show") : null));

export function headline(root) {
  return {
    update(report) {
      const { process } = report;
      const since = process.live ? `${duration(process.age_ms)} ago` : date(process.time);
      replace(root,
        h("h1", null, h("code", null, process.command || process.executable || `process ${process.pid}`)),
        h("p", { class: "who" },
          h("span", { class: `state ${process.live ? "live" : "dead"}` }, process.state),
          ` process ${process.pid} · as of ${since} · backend ${process.backend || "unknown"} · tagged by `,
          process.tag_by === "none" ? "the program" : process.tag_by),
        h("dl", { class: "tiles" }, tiles(report)),
        h("ul", { class: "findings" }, report.findings.map(finding)));
    },
  };
}
