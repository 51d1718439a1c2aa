/**
 * The depth chart: how much rests up to each price, as steps.
 */

import uPlot from "uplot";

const DRAWN_EVERY_MS = 250;
const LARGE = 10_000;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

/** Write what stands at an axis: as fine as its steps, with a point wherever the browser is from. */
const prices = (_, splits, axis, space, step) => splits.map((at) => at.toFixed(decimalsFor(step)));
const quantities = (_, splits, axis, space, step) =>
  splits.map((at) => (at >= LARGE ? compact.format(at) : at.toFixed(decimalsFor(step))));
const decimalsFor = (step) => Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));

/** Sum a side's quantities from the best price on; floats do for a picture. */
function steps(levels, priceOf) {
  let sum = 0;
  return levels.map((level) => [priceOf(level), (sum += Number(level.quantity))]);
}

/** Bring both sides under one row of prices, as the chart wants them. */
function table({ bids, asks, view }) {
  const priceOf = view === "net" ? (level) => Number(level.net_price) : (level) => Number(level.price);
  const at = new Map();
  const put = (points, place) => {
    for (const [price, sum] of points) {
      const row = at.get(price) ?? [null, null];
      row[place] = Math.max(row[place] ?? 0, sum);
      at.set(price, row);
    }
  };
  put(steps(bids, priceOf), 0);
  put(steps(asks, priceOf), 1);
  const prices = [...at.keys()].sort((one, other) => one - other);
  return [prices, prices.map((price) => at.get(price)[0]), prices.map((price) => at.get(price)[1])];
}

export class DepthChart {
  /** @param {HTMLElement} root Its size decides the chart's. */
  constructor(root) {
    this.root = root;
    this.data = [[], [], []];
    this.drawnAt = 0;
    this.later = 0;
    this.build();
    this.resizing = new ResizeObserver(() => this.plot.setSize(this.size()));
    this.resizing.observe(root);
  }

  /** Leave nothing behind that listens. */
  close() {
    clearTimeout(this.later);
    this.resizing.disconnect();
    this.plot.destroy();
  }

  size() {
    return { width: Math.max(160, this.root.clientWidth), height: Math.max(120, this.root.clientHeight) };
  }

  /** Make the chart in the colours of the theme. */
  build() {
    this.plot?.destroy();
    const style = getComputedStyle(this.root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const probe = (name) => {
      this.root.style.color = `var(${name})`;
      const seen = getComputedStyle(this.root).color;
      this.root.style.color = "";
      return seen;
    };
    const [bid, ask, ink, line] = ["--bid", "--ask", "--ink-2", "--line"].map(probe);
    const faint = (seen) => `color-mix(in srgb, ${seen} 18%, transparent)`;
    const font = `11px ${colour("--mono")}`;
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const series = (label, stroke, align) => ({
      label,
      stroke,
      fill: faint(stroke),
      width: 1.5,
      spanGaps: true,
      points: { show: false },
      paths: uPlot.paths.stepped({ align }),
    });
    this.plot = new uPlot(
      {
        ...this.size(),
        padding: [8, 24, 0, 0],
        legend: { show: false },
        cursor: { show: true, points: { show: false }, drag: { x: false, y: false } },
        scales: { x: { time: false }, y: { range: (_, low, high) => [0, high || 1] } },
        axes: [
          { ...axis, size: 28, space: 80, values: prices },
          { ...axis, size: 48, values: quantities },
        ],
        series: [{}, series("Bids", bid, -1), series("Asks", ask, 1)],
      },
      this.data,
      this.root,
    );
  }

  /** @param {object|null} book As GET /v1/book answers it. */
  show(book) {
    this.book = book;
    const wait = this.drawnAt + DRAWN_EVERY_MS - performance.now();
    if (wait <= 0) this.draw();
    else this.later ||= setTimeout(() => this.draw(), wait);
  }

  draw() {
    clearTimeout(this.later);
    this.later = 0;
    this.drawnAt = performance.now();
    this.data = this.book ? table(this.book) : [[], [], []];
    this.plot.setData(this.data);
  }
}
