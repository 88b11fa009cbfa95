// Puts the page together: its parts, the filter of tags that holds for all of them, and what feeds them.
import { h, replace } from "./dom.js";
import { flame } from "./flame.js";
import { date } from "./format.js";
import { fill, heat } from "./fragmentation.js";
import { headline } from "./headline.js";
import { ledger } from "./ledger.js";
import { startLive } from "./live.js";
import { Report, TagFilter } from "./report.js";
import { stale } from "./stale.js";
import { PARTS } from "./texts.js";
import { startTheme } from "./theme.js";
import { timeline } from "./timeline.js";
import { treemap } from "./treemap.js";

const VIEWS = { ledger, time: timeline, tags: treemap, stacks: flame, fragmentation: heat, slabs: fill, stale };
const byId = (id) => document.getElementById(id);

let report = null;
const views = [];

function filterBy(text) {
  byId("tag").value = text;
  update();
}

function update() {
  if (!report) return;
  const filter = new TagFilter(byId("tag").value, report.paths);
  byId("tag").toggleAttribute("data-on", !filter.isAll);
  document.querySelectorAll(".of").forEach((of) => { of.textContent = filter.isAll ? "" : filter.label; });
  for (const view of views) view.update(report, filter);
}

// A figure of a chart, what it means, and the same as a table, made when it is opened.
function part({ id, title, short, means, todo, wide, profile, unfiltered }) {
  const body = h("div", { class: "body" });
  const inside = h("div");
  const details = h("details", { class: "as-table" }, h("summary", null, "As a table"), inside);
  let make = null;
  const fillIn = () => { if (details.open && make) replace(inside, make()); };
  details.addEventListener("toggle", fillIn);
  const as = (maker) => { make = maker; fillIn(); };
  const section = h("section", { id, class: `card ${wide || ""}`, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title, unfiltered ? null : h("span", { class: "of" })), h("p", { class: "short" }, short), body,
    id === "stale" ? null : details,
    h("div", { class: "why" }, h("p", null, h("b", null, "What it means. "), means), h("p", null, h("b", null, "What to do. "), todo)));
  const view = VIEWS[id](body, as, filterBy);
  const lack = profile ? h("div", { class: "lack", hidden: true }, h("p", null, "This record has no profile of stacks."),
    h("p", null, "Start the program with one, and make the report again:"),
    h("pre", null, "TALLY_SAMPLE=512K tally run PROGRAM\ntally report PID")) : null;
  if (lack) section.insertBefore(lack, body);
  return { section, update(now, filter) {
    if (lack) {
      lack.hidden = Boolean(now.profile);
      for (const other of section.children) {
        if (other !== lack && !["H2", "P"].includes(other.tagName)) other.hidden = !now.profile;
      }
    }
    view.update(now, filter);
  } };
}

function build() {
  const hero = h("section", { class: "hero", id: "summary", "aria-label": "Summary" });
  const parts = PARTS.map(part);
  replace(byId("main"), hero, h("div", { class: "grid" }, parts.map(({ section }) => section)));
  replace(byId("nav"), PARTS.map(({ id, name }) => h("a", { href: `#${id}` }, name)));
  views.push(headline(hero), ...parts);
}

function show(data) {
  if (!views.length) build();
  const { scrollX, scrollY } = window;
  const { key } = document.activeElement.dataset;
  report = new Report(data);
  document.title = `${report.process.pid} ${report.process.command} – Tally`;
  replace(byId("tag-list"), report.tags.map((tag) => h("option", { value: tag.path })));
  replace(byId("foot"), `Made by Tally ${report.tally_version} from the record of process ${report.process.pid}, ` +
    `written ${date(report.process.time)}. Times are of this browser's zone.`);
  update();
  if (key && !document.activeElement.dataset.key) {
    const same = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (same) same.focus({ preventScroll: true });
  }
  window.scrollTo({ left: scrollX, top: scrollY, behavior: "instant" });
  document.documentElement.dataset.shown = String(Number(document.documentElement.dataset.shown || 0) + 1);
}

function notice(text, isBad) {
  byId("notice").hidden = text === "";
  byId("notice").textContent = text;
  byId("notice").className = isBad ? "bad" : "";
}

startTheme(byId("theme"));
byId("tag").addEventListener("input", update);
const data = JSON.parse(byId("tally-data").textContent);
if (data.live) {
  byId("live").hidden = false;
  notice("Asking the server …", false);
  startLive({ select: byId("process"), pause: byId("pause"), show, notice });
} else {
  show(data);
}
