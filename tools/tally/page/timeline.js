// What was held when, by tag.
import { Chart, axis, tooltip } from "./charts.js";
import { choice, h, table, tip } from "./dom.js";
import { byteAxis, bytes, clock, date, shortBytes } from "./format.js";
import { colour, rest, series, seriesCount } from "./theme.js";

const EVENTS = {
  soft: ["above its soft limit", "triangle", "warn"], failed: ["refused by its limit", "diamond", "bad"],
  waits: ["waits at its limit", "rect", "warn"], aborts: ["ends the program at its limit", "diamond", "bad"],
  limit: ["limit set from outside", "circle", "accent"],
};
const MARKED = 40;  // events at most with a line through the picture; all are in the strip below

// The minutes up to where the last publications begin, then those. Each series as a function of the index.
function joined({ recent, minutes }) {
  const start = recent.time.length ? recent.time[0] : Infinity;
  const before = minutes.time.findIndex((time) => time >= start);
  const cut = before < 0 ? minutes.time.length : before;
  const of = (key) => [...minutes[key].slice(0, cut), ...recent[key]];
  const tags = new Map();
  const add = (ring, shift, end) => {
    for (const { tag, first, live, footprint } of ring.tags) {
      if (!tags.has(tag)) {
        tags.set(tag, { live: new Float64Array(cut + recent.time.length),
          footprint: new Float64Array(cut + recent.time.length) });
      }
      const into = tags.get(tag);
      for (let i = 0; i < live.length && first + i < end; ++i) {
        into.live[shift + first + i] = live[i] * 1024;
        into.footprint[shift + first + i] = footprint[i] * 1024;
      }
    }
  };
  add(minutes, 0, cut);
  add(recent, cut, recent.time.length);
  return { time: of("time"), rss: of("rss"), live: of("live"), footprint: of("footprint"), tags };
}

// "/cache" of "/cache/blocks" below "/".
function nextBelow(above, path) {
  if (path === above) return path;
  const end = path.indexOf("/", above === "/" ? 1 : above.length + 1);
  return end < 0 ? path : path.slice(0, end);
}

// What is shown as bands: the tags right below the one that is looked at, each with all below it. One that holds most is
// taken apart again, as far as there are colours.
function bands(all, paths, filter, key) {
  const tags = [...all.tags].map(([tag, values]) => ({ path: paths[tag], values: values[key],
    sum: values[key].reduce((sum, value) => sum + value, 0) })).filter(({ path }) => filter.has(path));
  const whole = tags.reduce((sum, tag) => sum + tag.sum, 0);
  const split = (above, members) => {
    const groups = new Map();
    for (const tag of members) {
      const name = above === null ? tag.path : nextBelow(above, tag.path);
      if (!groups.has(name)) groups.set(name, { name, members: [], sum: 0, isLeaf: name === above });
      const group = groups.get(name);
      group.members.push(tag);
      group.sum += tag.sum;
    }
    return [...groups.values()];
  };
  let groups = split(filter.tag, tags);
  for (let left = 8; left > 0; --left) {
    const large = groups.find((group) => group.sum > whole / 2 && group.members.length > 1 && !group.isLeaf);
    if (!large) break;
    groups = [...groups.filter((group) => group !== large), ...split(large.name, large.members)];
  }
  groups.sort((one, other) => other.sum - one.sum);
  const sumOf = (members) => {
    const values = new Float64Array(all.time.length);
    for (const tag of members) tag.values.forEach((value, i) => { values[i] += value; });
    return values;
  };
  const shown = groups.slice(0, seriesCount);
  const list = shown.map(({ name, members }, i) => ({ name, values: sumOf(members), colour: () => series(i) }));
  let others = sumOf(groups.slice(seriesCount).flatMap(({ members }) => members));
  if (filter.isAll) {
    others = others.map((_, i) => Math.max(0, all[key][i] - list.reduce((sum, band) => sum + band.values[i], 0)));
  }
  // Points count in KiB: what is less for each tag is no band.
  if (others.some((value, i) => value > all[key][i] / 200)) list.push({ name: "all others", values: others, colour: rest });
  return list;
}

export function timeline(root, as) {
  let key = "footprint";
  let report, filter, all, list, marks, chart;
  const place = h("div", { class: "chart", style: "height:430px", role: "img" });
  root.append(h("div", { class: "toolbar" },
    choice("Quantity", [["footprint", "Footprint", "What tags cost in slabs and large blocks"],
      ["live", "Live", "What the program holds"]], key, (value) => { key = value; show(); }),
    choice("Period", [["all", "All"], ["hour", "Last hour"], ["minutes", "Last 10 min"]], "all", zoom)), place);

  function zoom(period) {
    const last = all.time[all.time.length - 1];
    const span = { all: Infinity, hour: 3600e3, minutes: 600e3 }[period];
    chart.chart.dispatchAction({ type: "dataZoom", startValue: Math.max(all.time[0], last - span), endValue: last });
  }

  function tipAt(index) {
    const shown = list.map((band) => [band.name, band.values[index], band.colour()])
      .filter(([, value]) => value > 0).sort((one, other) => other[1] - one[1]);
    return tip(date(all.time[index]), [["RSS", bytes(all.rss[index])],
      ...shown.map(([name, value, mark]) => [name, bytes(value), mark])]);
  }

  function tipOf(event) {
    const lines = [["holds", bytes(event.held)]];
    if (event.asked) lines.push(["asked for", bytes(event.asked)]);
    if (event.soft !== null) lines.push(["soft limit", bytes(event.soft)]);
    if (event.hard !== null) lines.push(["hard limit", bytes(event.hard)]);
    return tip(`${event.path} ${EVENTS[event.kind][0]}`, lines,
      date(event.time) + (event.left_out ? `; ${event.left_out} more like it were left out` : ""));
  }

  function option() {
    const sums = all.time.map((_, i) => list.reduce((sum, band) => sum + band.values[i], 0));
    const most = Math.max(1, ...sums, ...(filter.isAll ? all.rss : []));
    const x = { type: "time", min: all.time[0], max: all.time[all.time.length - 1], ...axis(), splitLine: { show: false } };
    const lines = marks.filter(({ kind }) => kind !== "soft").slice(-MARKED).map((event) => ({
      xAxis: event.time, lineStyle: { color: colour(EVENTS[event.kind][2]), width: 1, type: [3, 3], opacity: 0.7 } }));
    return {
      grid: [{ left: 70, right: 20, top: 56, bottom: 118, outerBoundsMode: "none" },
        { left: 70, right: 20, height: 20, bottom: 72, outerBoundsMode: "none" }],
      legend: { type: "scroll", data: [...list.map(({ name }) => name), "RSS"], top: 0, left: 60, right: 20, itemWidth: 14, itemHeight: 10, icon: "roundRect",
        textStyle: { color: colour("text"), fontSize: 12 }, pageTextStyle: { color: colour("soft") },
        pageIconColor: colour("accent"), pageIconInactiveColor: colour("line"), inactiveColor: colour("line") },
      axisPointer: { link: [{ xAxisIndex: "all" }] },
      tooltip: tooltip((at) => (Array.isArray(at)
        ? at.length ? tipAt(at[0].dataIndex) : "" : at.seriesId === "events" ? tipOf(marks[at.dataIndex]) : ""),
      { trigger: "axis", axisPointer: { type: "line", lineStyle: { color: colour("soft") } } }),
      xAxis: [{ ...x, gridIndex: 0, axisLabel: { show: false }, axisTick: { show: false } }, { ...x, gridIndex: 1 }],
      yAxis: [{ type: "value", gridIndex: 0, ...byteAxis(most), ...axis({ axisLabel: { formatter: shortBytes } }) },
        { gridIndex: 1, type: "value", min: 0, max: 1, name: "events", nameLocation: "middle", nameRotate: 0,
          nameGap: 30, nameTextStyle: { color: colour("soft"), fontSize: 12 }, axisLabel: { show: false },
          axisLine: { show: false }, axisTick: { show: false }, splitLine: { show: false } }],
      dataZoom: [{ type: "inside", xAxisIndex: [0, 1], filterMode: "none", zoomOnMouseWheel: "ctrl" },
        { type: "slider", xAxisIndex: [0, 1], filterMode: "none", height: 28, bottom: 8, left: 70, right: 20,
          borderColor: colour("line"), fillerColor: `${colour("accent")}22`, textStyle: { color: colour("soft") },
          handleStyle: { color: colour("card"), borderColor: colour("accent") },
          moveHandleStyle: { color: colour("line") },
          dataBackground: { lineStyle: { color: colour("soft") }, areaStyle: { color: colour("soft"), opacity: 0.25 } },
          selectedDataBackground: { lineStyle: { color: colour("accent") },
            areaStyle: { color: colour("accent"), opacity: 0.3 } },
          labelFormatter: (time) => clock(time) }],
      series: [  // the first is the one that the slider shows
        filter.isAll && { id: "rss", name: "RSS", type: "line", symbol: "none", z: 5, color: colour("text"),
          lineStyle: { width: 1.5, type: [5, 4], color: colour("text") }, data: all.time.map((time, at) => [time, all.rss[at]]) },
        ...list.map((band, i) => ({
          id: `band${i}`, name: band.name, type: "line", stack: "tags", symbol: "none", color: band.colour(),
          lineStyle: { width: 1, color: colour("card") }, areaStyle: { color: band.colour(), opacity: 0.9 },
          emphasis: { focus: "series" }, data: all.time.map((time, at) => [time, band.values[at]]),
          markLine: i === 0 && lines.length ? { silent: true, symbol: "none", label: { show: false }, data: lines } : undefined,
        })),
        { id: "events", name: "events", type: "scatter", xAxisIndex: 1, yAxisIndex: 1, symbolSize: 13,
          tooltip: { trigger: "item" },
          data: marks.map((event) => ({ value: [event.time, 0.5], symbol: EVENTS[event.kind][1],
            itemStyle: { color: colour(EVENTS[event.kind][2]), borderColor: colour("card"), borderWidth: 1 } })) },
      ].filter(Boolean),
    };
  }

  function show() {
    all = joined(report.history);
    if (!all.time.length) {
      place.hidden = true;
      return;
    }
    place.hidden = false;
    list = bands(all, report.paths, filter, key);
    marks = report.events.filter((event) => filter.has(event.path) && event.time >= all.time[0]);
    place.setAttribute("aria-label", `${key} of ${filter.label} from ${date(all.time[0])} to ` +
      `${date(all.time[all.time.length - 1])}, stacked by tag, with ${marks.length} events at limits`);
    chart = chart || new Chart(place, option);
    chart.draw();
    as(() => h("div", null,
      table("The largest tags at the beginning and now", [{ head: "Tag" }, { head: "First", number: true },
        { head: "Most", number: true }, { head: "Last", number: true }], list.map(({ name, values }) =>
        [name, bytes(values[0]), bytes(Math.max(...values)), bytes(values[values.length - 1])])),
      marks.length ? table("Events at limits", [{ head: "When" }, { head: "Tag" }, { head: "What" },
        { head: "Holds", number: true }, { head: "Asked for", number: true }], marks.map((event) =>
        [date(event.time), event.path, EVENTS[event.kind][0], bytes(event.held),
          event.asked ? bytes(event.asked) : "–"])) : null));
  }

  return { update(now, by) { report = now; filter = by; show(); } };
}
