// ECharts, as much of it as the page needs, and what all its charts have in common.
import { BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, TreemapChart } from "echarts/charts";
import {
  AxisPointerComponent, DataZoomComponent, GridComponent, LegendComponent, MarkLineComponent, TooltipComponent,
  VisualMapContinuousComponent,
} from "echarts/components";
import { init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { colour, onTheme } from "./theme.js";

use([BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, TreemapChart, AxisPointerComponent,
  DataZoomComponent, GridComponent, LegendComponent, MarkLineComponent, TooltipComponent,
  VisualMapContinuousComponent, CanvasRenderer]);

const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

// A chart in an element that has a size. `option` gives what it shows, and is asked again when the theme changes;
// `keep` says whether what the user zoomed to stays.
export class Chart {
  constructor(element, option) {
    this.element = element;
    this.option = option;
    this.chart = init(element, null, { renderer: "canvas" });
    new ResizeObserver(() => {
      const { clientWidth, clientHeight } = element;
      if (clientWidth !== this.chart.getWidth() || clientHeight !== this.chart.getHeight()) this.chart.resize();
    }).observe(element);
    onTheme(() => this.draw());
  }

  draw(more) {
    const text = { color: colour("soft"), fontFamily: getComputedStyle(document.body).fontFamily };
    this.chart.setOption({
      animation: !calm, animationDuration: 250, animationDurationUpdate: 250, textStyle: text, ...this.option(),
    }, { replaceMerge: ["series"], ...more });
  }
}

// What a tooltip looks like; formatters give elements.
export const tooltip = (formatter, more) => ({
  backgroundColor: colour("card"), borderColor: colour("line"), textStyle: { color: colour("text"), fontSize: 12 },
  confine: true, padding: [8, 10], formatter, ...more,
});

export const axis = (more) => ({
  axisLine: { lineStyle: { color: colour("line") } },
  axisTick: { lineStyle: { color: colour("line") } },
  splitLine: { lineStyle: { color: colour("grid") } },
  nameTextStyle: { color: colour("soft") },
  ...more,
  axisLabel: { color: colour("soft"), fontSize: 12, hideOverlap: true, ...(more && more.axisLabel) },
});
