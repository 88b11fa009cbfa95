// Stacks whose blocks have been live for long.
import { h, replace } from "./dom.js";
import { bytes, count, date, duration } from "./format.js";
import { Stacks } from "./stacks.js";

const AGES = [["0", "any age"], ["10000", "10 s"], ["60000", "1 min"], ["600000", "10 min"], ["3600000", "1 h"],
  ["21600000", "6 h"], ["86400000", "1 day"]];
const COLUMNS = [
  { key: "name", head: "Allocated by" }, { key: "path", head: "Tag" },
  { key: "bytes", head: "Bytes", number: true, show: bytes }, { key: "objects", head: "Blocks", number: true, show: count },
  { key: "share", head: "Of its live", number: true, show: (value) => `${Math.round(value * 100)} %` },
  { key: "oldest", head: "Oldest", number: true, show: duration },
  { key: "median", head: "Half are older than", number: true, show: duration },
];
const FIRST = 25;

export function stale(root, as) {
  const sort = { key: "bytes", down: true };
  let age = null;
  let most = FIRST;
  let report, filter, stacks;
  const select = h("select", { id: "stale-age", onchange: () => { age = select.value; most = FIRST; show(); } },
    AGES.map(([value, label]) => h("option", { value }, label)));
  const sum = h("output", { class: "soft", id: "stale-sum" });
  const head = h("tr");
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: () => { most += 100; show(); } }, "Show more");
  root.append(h("div", { class: "toolbar" }, h("label", null, "Live for more than ", select), sum),
    h("div", { class: "scroll" }, h("table", { id: "stale-table" },
      h("caption", { class: "hidden" }, "Stacks with old live blocks"), h("thead", null, head), body)), more);

  // By what half of the process's sampled life is: what is older than that was there early.
  function usualAge() {
    const { time, begun } = report.profile;
    const fits = AGES.filter(([value]) => Number(value) <= (time - begun) / 4);
    return fits[fits.length - 1][0];
  }

  function rowsOf() {
    const { samples, sites } = report.profile;
    // Stacks that differ in the C++ library's part alone are one.
    const stackOf = (site) => sites.own[site] * report.paths.length + sites.tag[site];
    const live = new Map();
    sites.live.forEach((value, site) => live.set(stackOf(site), (live.get(stackOf(site)) || 0) + value));
    const byStack = new Map();
    samples.site.forEach((site, i) => {
      const old = samples.age[i];
      if (old < Number(age) || !filter.has(report.paths[sites.tag[site]])) return;
      const key = stackOf(site);
      if (!byStack.has(key)) byStack.set(key, { key, site, bytes: 0, objects: 0, oldest: 0, ages: [] });
      const row = byStack.get(key);
      row.bytes += samples.bytes[i];
      row.objects += samples.objects[i];
      row.oldest = Math.max(row.oldest, old);
      row.ages.push(old);
    });
    return [...byStack.values()].map((row) => {
      row.ages.sort((one, other) => one - other);
      const node = stacks.into[sites.own[row.site]];
      const path = report.paths[sites.tag[row.site]];
      const id = stacks.pathTo(node).map((at) => stacks.name(at) + stacks.line[at]).join(";") + path;
      return { ...row, id, node, path, name: stacks.name(node),
        median: row.ages[row.ages.length >> 1], share: Math.min(1, row.bytes / Math.max(1, live.get(row.key))) };
    });
  }

  // A row is known again by its stack and tag: what was opened stays open as a new report comes.
  const opened = new Set();

  function heads() {
    replace(head, COLUMNS.map(({ key, head: label, number }) => h("th", { scope: "col", class: number ? "number" : null,
      "aria-sort": sort.key === key ? (sort.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", "data-sort": key, onclick: () => {
      sort.down = sort.key === key ? !sort.down : key !== "name" && key !== "path";
      sort.key = key;
      heads();
      show();
      head.querySelector(`[data-sort=${key}]`).focus();
    } }, label, h("span", { "aria-hidden": "true" }, sort.key === key ? (sort.down ? " ▾" : " ▴") : "")))));
  }

  function frames(node) {
    return h("ol", { class: "frames" }, stacks.pathTo(node).slice(1).reverse().map((at) =>
      h("li", null, h("code", null, stacks.name(at)), " ", h("span", { class: "soft" },
        [stacks.place(at), stacks.module(at)].filter(Boolean).join(" in ")))));
  }

  const firstCell = (row) => h("td", null, h("details", { open: opened.has(row.id),
    ontoggle: ({ target }) => (target.open ? opened.add(row.id) : opened.delete(row.id)) },
  h("summary", { "data-key": row.id }, h("code", { class: "name", title: row.name }, row.name),
    stacks.place(row.node) ? h("small", { class: "soft" }, ` ${stacks.place(row.node).replace(/.*\//, "")}`) : null),
  frames(row.node)));

  function show() {
    const rows = rowsOf().sort((one, other) => {
      const [a, b] = sort.down ? [other[sort.key], one[sort.key]] : [one[sort.key], other[sort.key]];
      return typeof a === "string" ? a.localeCompare(b) : a - b;
    });
    sum.textContent = `${bytes(rows.reduce((all, row) => all + row.bytes, 0))} in ${count(rows.length)} stacks, as of ` +
      date(report.profile.time);
    replace(body, rows.length ? rows.slice(0, most).map((row) => h("tr", null, firstCell(row),
      h("td", { class: "path" }, row.path), COLUMNS.slice(2).map(({ key, show: text }) =>
        h("td", { class: "number" }, text(row[key])))))
      : h("tr", null, h("td", { colspan: COLUMNS.length, class: "soft" }, "No sampled block is as old.")));
    more.hidden = rows.length <= most;
  }

  heads();
  return {
    update(now, by) {
      if (now !== report && now.profile) stacks = new Stacks(now.profile, now.paths, true);
      report = now;
      filter = by;
      if (!report.profile) return;
      if (age === null) select.value = age = usualAge();
      show();
    },
  };
}
