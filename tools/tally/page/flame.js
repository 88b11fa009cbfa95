// The flame graph, or upside down the icicle.
import { Chart, tooltip } from "./charts.js";
import { choice, h, replace, table, tip } from "./dom.js";
import { bytes, count, date, duration, share } from "./format.js";
import { matcher, Stacks } from "./stacks.js";
import { colour, isDark, rest, series, seriesCount } from "./theme.js";

const ROW = 21;
const LABELLED = 28;  // pixels that a box has at least for its name
const METRICS = [["live", "Live", "Not freed yet"], ["allocated", "Allocated", "Ever, since sampling began"],
  ["peak", "Peak", "Live when the footprint was largest"], ["growth", "Growth", "Live now, less what was live before"]];

const mix = (one, other, part) => {
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(one), parts(other)];
  return `rgb(${a.map((value, i) => Math.round(value * part + b[i] * (1 - part))).join(",")})`;
};
const hash = (text) => [...text].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 997, 7) / 997;

export function flame(root, as) {
  const view = { metric: "live", unit: "bytes", down: true, byLine: false, search: "" };
  let report, filter, stacks, hits, chart;
  let boxes = [];
  let width = 0;
  let deepest = 0;
  let top = 0;
  let focus = 0;
  let hues = new Map();

  const place = h("div", { class: "flame", tabindex: "0", role: "application", "aria-label": "Flame graph",
    "aria-describedby": "flame-keys" });
  const scroll = h("div", { class: "flame-scroll" }, place);
  const said = h("div", { class: "hidden", "aria-live": "polite", id: "flame-said" });
  const found = h("output", { id: "flame-found", class: "soft" });
  const legend = h("div", { class: "legend", "aria-hidden": "true" });
  const facts = h("p", { class: "soft keys" });
  const panel = h("aside", { class: "details", "aria-label": "The chosen frame" });
  const search = h("input", { type: "search", id: "flame-search", placeholder: "name, file, library or /regex/",
    "aria-label": "Search frames", spellcheck: "false", autocomplete: "off",
    oninput: () => { view.search = search.value; find(); draw(); } });
  const back = h("button", { type: "button", id: "flame-reset", onclick: () => zoom(0) }, "Zoom out");
  const lines = h("input", { type: "checkbox", id: "flame-lines",
    onchange: () => { view.byLine = lines.checked; rebuild(); } });
  root.append(h("div", { class: "toolbar" },
    choice("Amount", METRICS, view.metric, (value) => { view.metric = value; weigh(); }),
    choice("Unit", [["bytes", "Bytes"], ["objects", "Blocks"]], view.unit, (value) => { view.unit = value; weigh(); }),
    choice("Direction", [["icicle", "Icicle", "Callers on top"], ["flame", "Flame", "Callers at the bottom"]], "icicle",
      (value) => { view.down = value === "icicle"; draw(); }),
    h("label", { class: "check" }, lines, "by line"), back, search, found),
  h("div", { class: "flame-and-details" }, h("div", { class: "flame-side" }, scroll, legend,
    facts, h("p", { id: "flame-keys", class: "soft keys" }, "Keys: arrows move, Enter zooms in, Escape out, / searches.")),
  panel), said);

  const text = (value) => (view.unit === "bytes" ? bytes(value) : `${count(value)} blocks`);
  const metricName = () => METRICS.find(([key]) => key === view.metric)[1].toLowerCase();

  // Modules keep their colours, the largest first; code of no file is grey.
  function colourModules() {
    const sums = new Map();
    for (const { module, own } of stacks.functionsByAmount()) sums.set(module, (sums.get(module) || 0) + own);
    hues = new Map([...sums].filter(([module]) => module).sort((one, other) => other[1] - one[1])
      .map(([module], i) => [module, i]));
    replace(legend, [...hues].slice(0, seriesCount).map(([module, i]) =>
      h("span", null, h("i", { style: `background:${series(i)}` }), module)));
  }

  function fillOf(node, above) {
    const base = colour("card");
    if (hits && !hits.found[node]) return mix(rest(), base, isDark() ? 0.3 : 0.22);
    if (hits) return colour("match");
    const hue = hues.get(stacks.module(node));
    const hex = hue === undefined || hue >= seriesCount ? rest() : series(hue);
    const part = (isDark() ? 0.34 : 0.3) + 0.16 * hash(stacks.name(node));
    return mix(hex, base, above ? part / 2 : part);
  }

  function shapeOf(box) {
    const x = box.from * width;
    const level = view.down ? box.depth : deepest - box.depth;
    return { x: x + 0.5, y: level * ROW + 0.5, width: Math.max(0.5, (box.to - box.from) * width - 1), height: ROW - 2, r: 2 };
  }

  function renderItem(params) {
    const box = boxes[params.dataIndex];
    const shape = shapeOf(box);
    const isFocus = box.node === focus;
    const label = shape.width > LABELLED ? { type: "text", style: { text: stacks.name(box.node), overflow: "truncate",
      width: shape.width - 8, ellipsis: "…", fontSize: 12, fill: hits && hits.found[box.node] ? colour("on-match")
        : colour("text") } } : null;
    return { type: "rect", shape, z2: isFocus ? 10 : 1, textContent: label,
      textConfig: { position: "insideLeft", distance: 4, inside: true },
      style: { fill: fillOf(box.node, box.above), stroke: isFocus ? colour("accent") : "transparent",
        lineWidth: isFocus ? 2.5 : 0 },
      emphasis: { style: { stroke: colour("text"), lineWidth: 1.5 } } };
  }

  function tipOf({ dataIndex }) {
    const { node } = boxes[dataIndex];
    return tip(stacks.name(node), [[metricName(), text(stacks.total[node])],
      ["of all", share(stacks.total[node], stacks.total[0])], ["itself", text(stacks.own[node])]],
    [stacks.place(node), stacks.module(node)].filter(Boolean).join(" in "));
  }

  const option = () => ({
    animation: false,
    tooltip: tooltip(tipOf),
    series: [{ id: "frames", type: "custom", coordinateSystem: "none", renderItem, 
      // By ids that tell what has a name: ECharts does not take a name from a box again.
      data: boxes.map((box) => ({ value: box.node, id: `${box.node}${shapeOf(box).width > LABELLED ? "" : "narrow"}` })) }],
  });

  function draw() {
    if (!stacks) return;
    width = place.clientWidth;
    boxes = stacks.layout(top, 0.8 / Math.max(400, width));
    deepest = boxes.reduce((most, { depth }) => Math.max(most, depth), 0);
    place.style.height = `${(deepest + 1) * ROW + 2}px`;
    if (!chart) {
      chart = new Chart(place, option);
      chart.chart.on("click", ({ dataIndex }) => zoom(boxes[dataIndex].node));
      new ResizeObserver(() => place.clientWidth !== width && draw()).observe(scroll);
    } else if (place.clientHeight !== chart.chart.getHeight() || width !== chart.chart.getWidth()) {
      chart.chart.clear();  // else it would draw what it has once more
      chart.chart.resize();
    }
    chart.draw();
    if (!view.down) scroll.scrollTop = scroll.scrollHeight;
    back.disabled = top === 0;
    place.dataset.boxes = boxes.length;
    place.dataset.top = stacks.name(top);
  }

  function zoom(node) {
    top = node;
    select(node);
  }

  function select(node) {
    focus = node;
    const what = `${stacks.name(node)}, ${text(stacks.total[node])}, ${share(stacks.total[node], stacks.total[0])} of ${metricName()}`;
    said.textContent = what;
    describe();
    draw();
    const box = boxes.find((one) => one.node === node);
    if (box) {
      const { y } = shapeOf(box);
      if (y < scroll.scrollTop) scroll.scrollTop = y;
      if (y + ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + ROW - scroll.clientHeight;
    }
  }

  function tellFacts() {
    const { taken, rate, begun, lost, cut, complaints } = report.profile;
    facts.textContent = [`${count(taken)} samples since ${date(begun)}, one in ${bytes(rate)}.`,
      lost ? `${count(lost)} more were lost for want of room.` : "",
      cut ? `${count(cut)} stacks are cut short for want of room.` : "", ...complaints.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`)].filter(Boolean).join(" ");
  }

  function describe() {
    const { sums, lived, tags } = stacks.details(focus, filter, view.unit);
    const most = Math.max(1, ...lived);
    const steps = [...report.profile.lifetimes.map((ms) => `< ${duration(ms)}`), "longer"];
    replace(panel, h("h3", null, stacks.name(focus)),
      h("p", { class: "soft" }, [stacks.place(focus), stacks.module(focus)].filter(Boolean).join(" in ") ||
        "All stacks. Choose a frame to see what it is about."),
      h("dl", null, METRICS.map(([key, label]) => [h("dt", null, label),
        h("dd", null, text(sums[key]), key === view.metric ? h("small", null, ` ${share(sums[key], stacks.total[0])}`) : null)])),
      tags.length ? [h("h4", null, "Live, by tag"), h("dl", null, tags.filter(([, value]) => value > 0).slice(0, 6)
        .map(([path, value]) => [h("dt", { class: "path", title: path }, path), h("dd", null, text(value))]))] : null,
      lived.some((blocks) => blocks > 0) ? [h("h4", null, "Freed after"), h("div", { class: "lived" }, lived.map((blocks, i) =>
        h("div", { title: `${count(blocks)} blocks` }, h("span", null, steps[i]),
          h("meter", { min: 0, max: most, value: blocks, "aria-label": `${steps[i]}: ${count(blocks)} blocks` }),
          h("span", { class: "number" }, count(blocks)))))] : null);
  }

  function find() {
    hits = null;
    search.setCustomValidity("");
    search.removeAttribute("aria-invalid");
    found.textContent = "";
    if (view.search.trim() === "") return;
    try {
      hits = stacks.search(matcher(view.search.trim()));
      found.textContent = hits.frames === 0 ? "nothing found"
        : `${text(hits.sum)}, ${share(hits.sum, stacks.total[0])} in ${count(hits.frames)} ${hits.frames === 1 ? "frame" : "frames"}`;
    } catch (error) {
      search.setAttribute("aria-invalid", "true");
      found.textContent = `no regular expression: ${error.message}`;
    }
  }

  // The node that an arrow leads to, among those that are drawn.
  function neighbour(key) {
    const at = boxes.find(({ node }) => node === focus);
    const isDrawn = (node) => boxes.some((box) => box.node === node);
    if (!at) return top;
    const inward = view.down ? "ArrowDown" : "ArrowUp";
    if (key === "ArrowUp" || key === "ArrowDown") {
      const next = key === inward ? (at.above ? boxes.find((box) => box.depth === at.depth + 1).node
        : stacks.children[focus].find(isDrawn)) : stacks.parent[focus];
      return next === undefined || next < 0 ? focus : next;
    }
    const row = boxes.filter((box) => box.depth === at.depth).sort((one, other) => one.from - other.from);
    const i = row.indexOf(at) + (key === "ArrowRight" ? 1 : -1);
    return row[i] ? row[i].node : focus;
  }

  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow")) select(neighbour(event.key));
    else if (event.key === "Enter" || event.key === " ") zoom(focus);
    else if (event.key === "Escape" || event.key === "Backspace") zoom(Math.max(0, top === focus ? stacks.parent[top] : top));
    else if (event.key === "Home") zoom(0);
    else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  });

  function weigh() {
    stacks.weigh(view.metric, view.unit, filter);
    if (stacks.total[top] === 0) top = 0;
    if (stacks.total[focus] === 0) focus = 0;
    find();
    colourModules();
    describe();
    draw();
    place.setAttribute("aria-label", `Flame graph of ${metricName()} ${view.unit}, ${filter.label}: ${text(stacks.total[0])}`);
    as(() => table("Functions", [{ head: "Function" }, { head: "In" }, { head: "Itself", number: true },
      { head: "With what it calls", number: true }, { head: "Share", number: true }],
    stacks.functionsByAmount().sort((one, other) => other.own - one.own || other.total - one.total).slice(0, 100)
      .map((one) => [one.name, one.module, text(one.own), text(one.total), share(one.total, stacks.total[0])])));
  }

  // Frames that are still there stay chosen, by their names from the outermost on.
  function rebuild() {
    const names = (node) => (stacks ? stacks.pathTo(node).slice(1).map((one) => stacks.name(one)) : []);
    const [oldTop, oldFocus] = [names(top), names(focus)];
    stacks = new Stacks(report.profile, report.paths, view.byLine);
    const find = (path) => path.reduce((at, name) => {
      const next = at < 0 ? undefined : stacks.children[at].find((child) => stacks.name(child) === name);
      return next === undefined ? -1 : next;
    }, 0);
    top = Math.max(0, find(oldTop));
    focus = Math.max(0, find(oldFocus));
    weigh();
  }

  return {
    update(now, by) {
      const isNew = now !== report;
      report = now;
      filter = by;
      if (!report.profile) return;
      tellFacts();
      isNew ? rebuild() : weigh();
    },
  };
}
