// The tags as areas: what is inside another is below it.
import { Chart, tooltip } from "./charts.js";
import { choice, h, replace, table, tip } from "./dom.js";
import { bytes, count, share } from "./format.js";
import { colour, isDark, series } from "./theme.js";

const label = (path) => (path === "/" ? "/" : path.slice(path.lastIndexOf("/") + 1));

export function treemap(root, as, filterBy) {
  let key = "footprint";
  let report, chart, filter;
  let hues = 0;  // that are given
  let inside = "/";  // the tag that was gone into
  const place = h("div", { class: "chart grow", style: "min-height:420px", role: "img" });
  const alone = h("button", { type: "button", hidden: true, onclick: () => filterBy(inside) });
  root.append(h("div", { class: "toolbar" }, choice("Quantity",
    [["footprint", "Footprint"], ["live", "Live"]], key, (value) => { key = value; show(); }), alone), place);

  // One step towards what was clicked on; the path below the picture goes back.
  function enter({ data }) {
    if (!data || data.index === undefined) return;
    let at = data.index;
    while (report.tags[at].parent >= 0 && report.tags[report.tags[at].parent].path !== inside) at = report.tags[at].parent;
    if (report.tags[at].parent < 0 || !report.tags[at].children.length) return;
    chart.chart.dispatchAction({ type: "treemapRootToNode", seriesIndex: 0, targetNode: report.tags[at].path });
  }

  function entered({ targetNode }) {
    inside = (typeof targetNode === "string" ? targetNode : targetNode.getId()) || "/";
    if (!report.tags.some(({ path }) => path === inside)) inside = "/";
    alone.hidden = inside === "/";
    replace(alone, `Show ${inside} alone everywhere`);
  }

  // A tag with others below it holds what is its own as one more of them.
  function node(index, hue) {
    const tag = report.tags[index];
    // Colours tell apart those that share most of it: a tag that has nearly all is gone into for them.
    const hueOf = (child) => (hue !== null ? hue
      : report.tags[child][key] > tag[key] * 0.6 && report.tags[child].children.length ? null : hues++);
    const children = tag.children.map((child) => node(child, hueOf(child))).filter(({ value }) => value > 0);
    const item = { id: tag.path, name: label(tag.path), path: tag.path, value: tag[key], index, hue };
    if (!children.length) return item;
    const own = tag[`own_${key}`];
    if (own > 0) {
      children.push({ id: `${tag.path}\n`, name: "own", path: tag.path, value: own, index, hue: hue === null ? hues++ : hue,
        isOwn: true });
    }
    return { ...item, value: children.reduce((sum, child) => sum + child.value, 0), children };
  }

  function paint(item, depth) {
    const { children, hue, ...rest } = item;
    const base = series(hue === null ? 0 : hue);
    return { ...rest, itemStyle: { color: base, borderColor: depth < 2 ? colour("card") : base },
      children: children && children.map((child) => paint(child, depth + 1)) };
  }

  function tipOf({ data }) {
    const tag = report.tags[data.index];
    const lines = [["live", bytes(tag.live)], ["footprint", bytes(tag.footprint)], ["peak", bytes(tag.peak)],
      ["blocks", count(tag.blocks)], ["of the process", share(tag.footprint, report.tags[0].footprint)]];
    if (tag.soft !== null) lines.push(["soft limit", bytes(tag.soft)]);
    if (tag.hard !== null) lines.push(["hard limit", bytes(tag.hard)]);
    return tip(data.isOwn ? `${tag.path}, its own` : tag.path, lines);
  }

  function option() {
    const tops = report.tags.map((tag, i) => i).filter((i) => report.tags[i].parent < 0);
    hues = 0;
    const trees = tops.map((i) => paint(node(i, null), 0));
    const whole = trees.length === 1 ? trees[0].children || trees : trees;
    const text = { color: isDark() ? "#0c1218" : "#fff", fontSize: 12, lineHeight: 16 };
    return {
      tooltip: tooltip((at) => (at.data && at.data.index !== undefined ? tipOf(at) : "")),
      series: [{
        id: "tags", type: "treemap", name: "/", roam: false, nodeClick: false, data: whole,
        left: 0, right: 0, top: 0, bottom: 34, leafDepth: 2, visibleMin: 200,
        breadcrumb: { bottom: 0, left: 0, height: 24, itemStyle: { color: colour("veil"), borderColor: colour("line"),
          shadowBlur: 0, textStyle: { color: colour("text") } }, emphasis: { itemStyle: { color: colour("line") } } },
        label: { ...text, formatter: ({ name, value }) => `${name}\n${bytes(value)}`, overflow: "truncate" },
        upperLabel: { show: true, height: 22, ...text, color: colour("text"), fontWeight: 600, formatter: ({ name, value }) => `${name}  ${bytes(value)}` },
        itemStyle: { gapWidth: 2, borderWidth: 2 },
        levels: [{ upperLabel: { show: false }, itemStyle: { gapWidth: 3, borderWidth: 0, borderColor: colour("card") } },
          { itemStyle: { gapWidth: 2, borderWidth: 3 } },
          { itemStyle: { gapWidth: 1, borderWidth: 2 } }],
      }],
    };
  }

  function show() {
    place.setAttribute("aria-label", "Tags by " + key + ": " + report.tags.filter((tag) => tag.depth === 1)
      .slice(0, 8).map((tag) => `${tag.path} ${bytes(tag[key])}`).join(", "));
    if (!chart) {
      chart = new Chart(place, option);
      chart.chart.on("click", enter);
      chart.chart.on("treemaproottonode", entered);
    }
    chart.draw();
    // With new data it is outside again.
    if (report.tags.some(({ path, children }) => path === inside && children.length && inside !== "/")) {
      chart.chart.dispatchAction({ type: "treemapRootToNode", seriesIndex: 0, targetNode: inside });
    } else {
      inside = "/";
      alone.hidden = true;
    }
    as(() => table("Tags", [{ head: "Tag" }, { head: "Live", number: true }, { head: "Footprint", number: true },
      { head: "Peak", number: true }, { head: "Blocks", number: true }, { head: "Limit", number: true }],
    report.tags.filter((tag) => filter.has(tag.path)).map((tag) => [
      h("button", { type: "button", class: "link", "data-key": `tag ${tag.path}`, style: `margin-left:${tag.depth}em`, title: "Show this tag alone",
        onclick: () => filterBy(tag.path) }, tag.path), bytes(tag.live), bytes(tag.footprint), bytes(tag.peak),
      count(tag.blocks), tag.hard !== null ? bytes(tag.hard) : tag.soft !== null ? `${bytes(tag.soft)} soft` : "–"])));
  }

  return { update(now, by) { report = now; filter = by; show(); } };
}
