// Where memory is taken and not in use: by tag and size, and by how full slabs are.
import { Chart, axis, tooltip } from "./charts.js";
import { h, table, tip } from "./dom.js";
import { bytes, count, share } from "./format.js";
import { colour, ramp, series } from "./theme.js";

const ROWS = 22;

export function heat(root, as) {
  const place = h("div", { class: "chart grow", role: "img" });
  const none = h("p", { class: "none" }, "Nothing is free in slabs here.");
  root.append(place, none);
  let chart, rows, sizes, cells;

  function arrange(classes) {
    const sums = new Map();
    for (const one of classes) sums.set(one.path, (sums.get(one.path) || 0) + one.free);
    const largest = [...sums].sort((one, other) => other[1] - one[1]).map(([path]) => path);
    rows = largest.slice(0, ROWS);
    if (largest.length > ROWS) rows.push("all others");
    sizes = [...new Set(classes.map((one) => one.size))].sort((one, other) => one - other);
    const at = new Map();
    for (const one of classes) {
      const row = largest.indexOf(one.path) < ROWS ? rows.indexOf(one.path) : ROWS;
      const key = row * sizes.length + sizes.indexOf(one.size);
      const cell = at.get(key) || { row, column: sizes.indexOf(one.size), free: 0, footprint: 0, slabs: 0, pinned: 0,
        blocks: 0 };
      cell.free += one.free;
      cell.footprint += one.footprint;
      cell.slabs += one.slabs;
      cell.pinned += one.sparse_free;
      cell.blocks += one.live_blocks;
      at.set(key, cell);
    }
    cells = [...at.values()].filter((cell) => cell.free > 0);
  }

  function option() {
    const most = Math.max(...cells.map((cell) => cell.free));
    return {
      grid: { left: 8, right: 16, top: 8, bottom: 76, containLabel: true },
      tooltip: tooltip(({ dataIndex }) => {
        const cell = cells[dataIndex];
        return tip(`${rows[cell.row]}, blocks of ${bytes(sizes[cell.column])}`, [["free", bytes(cell.free)],
          ["of its footprint", share(cell.free, cell.footprint)], ["footprint", bytes(cell.footprint)],
          ["slabs", count(cell.slabs)], ["pinned in sparse slabs", bytes(cell.pinned)],
          ["live blocks", count(cell.blocks)]]);
      }),
      xAxis: { type: "category", data: sizes.map(bytes), splitArea: { show: false },
        ...axis({ axisLabel: { rotate: sizes.length > 14 ? 55 : 0 }, splitLine: { show: false } }),
        name: "block size", nameLocation: "middle", nameGap: sizes.length > 14 ? 50 : 26 },
      yAxis: { type: "category", inverse: true, data: rows,
        ...axis({ axisLabel: { color: colour("text"), width: 210, overflow: "truncate" }, splitLine: { show: false } }) },
      // By the square root, for a few large ones would leave the others pale.
      visualMap: { type: "continuous", min: 0, max: Math.sqrt(most), dimension: 2, calculable: true,
        orient: "horizontal", left: "center", bottom: 0, itemWidth: 12, itemHeight: 180, precision: 1,
        inRange: { color: ramp() }, text: ["more free", "less"], textStyle: { color: colour("soft") },
        formatter: (value) => bytes(value ** 2), hoverLink: false },
      series: [{ type: "heatmap", data: cells.map((cell) => [cell.column, cell.row, Math.sqrt(cell.free)]),
        itemStyle: { borderColor: colour("card"), borderWidth: 2, borderRadius: 3 },
        emphasis: { itemStyle: { borderColor: colour("text"), borderWidth: 2 } } }],
    };
  }

  return {
    update(report, filter) {
      arrange(report.classes.filter((one) => filter.has(one.path)));
      place.hidden = cells.length === 0;
      none.hidden = cells.length !== 0;
      if (cells.length) {
        place.style.minHeight = `${Math.max(260, rows.length * 24 + 130)}px`;
        place.setAttribute("aria-label", `Free bytes by tag and block size; most in ${rows.slice(0, 3).join(", ")}`);
        chart = chart || new Chart(place, option);
        chart.draw();
      }
      as(() => table("Free bytes by tag and block size", [{ head: "Tag" }, { head: "Size", number: true },
        { head: "Free", number: true }, { head: "Of footprint", number: true }, { head: "Slabs", number: true },
        { head: "Pinned", number: true }], [...cells].sort((one, other) => other.free - one.free).slice(0, 100)
        .map((cell) => [rows[cell.row], bytes(sizes[cell.column]), bytes(cell.free), share(cell.free, cell.footprint),
          count(cell.slabs), bytes(cell.pinned)])));
    },
  };
}

const STEPS = ["< 10 %", "10–20", "20–30", "30–40", "40–50", "50–60", "60–70", "70–80", "80–90", "≥ 90 %"];

export function fill(root, as) {
  const place = h("div", { class: "chart grow", style: "min-height:300px", role: "img" });
  root.append(place);
  let chart, sums;

  function option() {
    const all = sums.reduce((sum, slabs) => sum + slabs, 0);
    return {
      grid: { left: 8, right: 12, top: 28, bottom: 28, containLabel: true },
      tooltip: tooltip(({ dataIndex, value }) => tip(`slabs ${STEPS[dataIndex]}${dataIndex % 9 ? " %" : ""} full`,
        [["slabs", count(value)], ["of all", share(value, all)]])),
      xAxis: { type: "category", data: STEPS, ...axis({ axisLabel: { interval: 0, fontSize: 11 } }),
        name: "in use", nameLocation: "middle", nameGap: 28 },
      yAxis: { type: "value", minInterval: 1, ...axis({ axisLabel: { formatter: count } }), name: "slabs" },
      series: [{ type: "bar", barCategoryGap: "18%", label: { show: true, position: "top", color: colour("soft"),
        formatter: ({ value }) => (value ? count(value) : "") },
      data: sums.map((value, i) => ({ value, itemStyle: { color: series(i < 2 ? 1 : i < 5 ? 4 : 2),
        borderRadius: [3, 3, 0, 0] } })) }],
    };
  }

  return {
    update(report, filter) {
      sums = STEPS.map(() => 0);
      for (const one of report.classes) {
        if (filter.has(one.path)) one.fill.forEach((slabs, i) => { sums[i] += slabs; });
      }
      place.setAttribute("aria-label", "Slabs by how full they are: " +
        STEPS.map((step, i) => `${step}: ${sums[i]}`).join(", "));
      chart = chart || new Chart(place, option);
      chart.draw();
      as(() => table("Slabs by how full they are", [{ head: "In use" }, { head: "Slabs", number: true }],
        STEPS.map((step, i) => [step, count(sums[i])])));
    },
  };
}
