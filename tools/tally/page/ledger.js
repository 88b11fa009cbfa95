// RSS as the sum that it is.
import { Chart, axis, tooltip } from "./charts.js";
import { h, table, tip } from "./dom.js";
import { byteAxis, bytes, share, shortBytes } from "./format.js";
import { colour, rest, series } from "./theme.js";

// What the program uses, what the heap keeps for it, what Tally takes; the rest is no heap.
const KINDS = { live: 0, in_slabs: 1, empty_slabs: 4, dirty: 4, kept: 4, free_pages: 4, metadata: 6, recorder: 6 };

export function ledger(root, as) {
  const place = h("div", { class: "chart grow", role: "img" });
  root.append(place);
  let report;
  let steps = [];

  const colourOf = (key) => (key === "rss" ? colour("text") : key in KINDS ? series(KINDS[key]) : rest());

  function option() {
    const most = Math.max(1, ...steps.map((step) => step.to));
    return {
      grid: { left: 8, right: 128, top: 4, bottom: 8, containLabel: true },
      tooltip: tooltip(({ dataIndex }) => tip(steps[dataIndex].label,
        [["bytes", bytes(steps[dataIndex].bytes)], ["of RSS", share(steps[dataIndex].bytes, report.process.rss)]],
        steps[dataIndex].help)),
      xAxis: { type: "value", ...axis({ axisLabel: { formatter: shortBytes } }), ...byteAxis(most, 4), max: most },
      yAxis: {
        type: "category", inverse: true, data: steps.map((step) => step.label),
        ...axis({ axisLabel: { color: colour("text") }, axisTick: { show: false } }),
      },
      series: [
        { type: "bar", stack: "rss", silent: true, itemStyle: { color: "transparent" }, tooltip: { show: false },
          data: steps.map((step) => step.from) },
        { type: "bar", stack: "rss", barMaxWidth: 24, barCategoryGap: "28%",
          data: steps.map((step) => ({
            value: step.to - step.from,
            itemStyle: { color: colourOf(step.key), borderRadius: 3, opacity: step.bytes < 0 ? 0.45 : 1 },
          })),
          label: { show: true, position: "right", color: colour("text"), fontSize: 12,
            formatter: ({ dataIndex }) => (steps[dataIndex].key === "rss" ? bytes(steps[dataIndex].bytes)
              : `${bytes(steps[dataIndex].bytes)}  ${share(steps[dataIndex].bytes, report.process.rss)}`) } },
      ],
    };
  }

  let chart;
  return {
    update(now) {
      report = now;
      let sum = 0;
      steps = report.ledger.filter((part) => part.bytes !== 0).map((part) => {
        const start = sum;
        sum += part.bytes;
        return { ...part, from: Math.max(0, Math.min(start, sum)), to: Math.max(start, sum) };
      });
      steps.push({ key: "rss", label: "RSS", bytes: sum, from: 0, to: sum, help: "resident, as the kernel counts it" });
      place.setAttribute("aria-label", "RSS is the sum of " +
        steps.map((step) => `${step.label} ${bytes(step.bytes)}`).join(", "));
      place.style.minHeight = `${steps.length * 34 + 40}px`;
      chart = chart || new Chart(place, option);
      chart.draw();
      as(() => table("Parts of RSS", [{ head: "Part" }, { head: "Bytes", number: true }, { head: "Share", number: true },
        { head: "What it is" }], steps.map((step) =>
        [step.label, bytes(step.bytes), share(step.bytes, report.process.rss), step.help])));
    },
  };
}
