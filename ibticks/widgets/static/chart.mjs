// The charts: prices with bid and ask, and the volume below them. uPlot is a global of the bundle.

import { makeElement, themeColours } from "./dom.mjs";
import { formatCompact, formatPrice, isKnown } from "./format.mjs";
import { ASK, BID, HIGH, LAST, LOW, MID, TIME, VOLUME } from "./rows.mjs";

/* global uPlot */

/** @typedef {import("./link.mjs").Link} Link */

const AXIS_PX = 74;
const VOLUME_BARS = 120;
const VOLUME_SHARE = 0.25;
const MIN_WIDTH_PX = 200;
const MIN_ZOOM_PX = 4;
const FONT = "system-ui, sans-serif";
/** Share of the window that stays free after its last tick. */
const MARGIN = 0.02;

const isNumber = (value) => value === value && value !== null;

/**
 * Return the sums of sizes in bars of equal width.
 *
 * @param {Float64Array} times - seconds since 1970
 * @param {Float64Array} sizes
 * @param {number} windowSeconds
 * @returns {[number[], number[]]} - starts of the bars, and their sums
 */
export function volumeBars(times, sizes, windowSeconds) {
  const width = windowSeconds / VOLUME_BARS;
  const starts = [];
  const sums = [];
  for (let i = 0; i < times.length; i++) {
    if (!(sizes[i] > 0)) continue;
    const start = Math.floor(times[i] / width) * width;
    if (starts.length && starts[starts.length - 1] === start) sums[sums.length - 1] += sizes[i];
    else { starts.push(start); sums.push(sizes[i]); }
  }
  return [starts, sums];
}

/**
 * Return the values with null instead of NaN, which uPlot leaves a gap for.
 *
 * @param {Float64Array} values
 * @returns {Float64Array|Array<?number>}
 */
export function withGaps(values) {
  const hasGap = values.some((value) => value !== value);
  return hasGap ? Array.from(values, (value) => (value === value ? value : null)) : values;
}

/**
 * Return the lowest and highest number between two indices of some columns.
 *
 * @param {Array<ArrayLike<?number>>} columns
 * @param {number} from
 * @param {number} to - inclusive
 * @returns {[number, number]} - Infinity and -Infinity where there is none
 */
export function extent(columns, from, to) {
  let low = Infinity;
  let high = -Infinity;
  for (const values of columns) {
    for (let i = from; i <= to; i++) {
      const value = values[i];
      if (isNumber(value)) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
  }
  return [low, high];
}

/**
 * Return the range of an axis: an extent with some room around it.
 *
 * @param {[number, number]} lowAndHigh
 * @returns {[number, number]}
 */
export function padded([low, high]) {
  if (!(low <= high)) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 1e-4 || 1;
  return [low - room, high + room];
}

/**
 * Return the steps of a price axis that a number of decimals can tell apart.
 *
 * @param {number} decimals
 * @returns {number[]}
 */
export function priceSteps(decimals) {
  return Array.from({ length: 3 * (8 + decimals) }, (_, i) => [1, 2, 5][i % 3] * 10 ** (Math.floor(i / 3) - decimals));
}

/**
 * Return the digits of a time axis whose labels are some seconds apart.
 *
 * @param {number} step - seconds
 * @returns {number}
 */
export function timeDigits(step) {
  return step < 1 ? 12 : step < 60 ? 8 : 5;
}

/** The price chart and the volume chart, which share the time axis. */
export class Charts {
  /**
   * @param {Element} parent
   * @param {Element} root - of the view, which has the theme's colours
   * @param {object} model - of anywidget
   * @param {Link} link
   * @param {function(): function(number, boolean=): string} clock - returns the current clock
   * @param {function(): void} onZoom - called when the user has zoomed in
   */
  constructor(parent, root, model, link, clock, onZoom) {
    this.parent = parent;
    this.model = model;
    this.link = link;
    this.clock = clock;
    this.onZoom = onZoom;
    this.colour = themeColours(root);
    /** @type {?{min: number, max: number}} - the zoomed part of the time axis */
    this.zoomed = null;
    this.readout = makeElement("div", "ibt-readout", parent);
    const sync = uPlot.sync(model.model_id ?? Math.random().toString(36));
    const cursor = {
      sync: { key: sync.key, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { show: false },
    };
    this.prices = new uPlot(this.priceOptions(cursor), [[], [], [], [], []], parent);
    this.volumes = new uPlot(this.volumeOptions(cursor), [[], []], parent);
  }

  /** Options that both charts share. */
  commonOptions(cursor) {
    return {
      width: 600, ms: 1e-3, legend: { show: false }, cursor,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), this.model.get("tz")),
    };
  }

  priceOptions(cursor) {
    const { colour } = this;
    const line = (key, width, options) => ({
      stroke: () => colour(key), width, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false }, ...options,
    });
    return {
      ...this.commonOptions(cursor), height: 300, padding: [8, 0, 0, 0],
      scales: { x: { time: true, auto: false }, y: { auto: true, range: (u) => padded(this.priceExtent(u)) } },
      axes: [this.timeAxis(false), {
        ...this.axis(), side: 1, size: AXIS_PX,
        incrs: () => priceSteps(this.decimals),
        values: (u, splits) => splits.map((price) => formatPrice(price, this.decimals)),
      }],
      bands: [{ series: [2, 1], fill: () => `color-mix(in srgb, ${colour("--ibt-bid")} 9%, transparent)` }],
      series: [
        {},
        line("--ibt-bid", 1.4),
        line("--ibt-ask", 1.4),
        line("--ibt-mid", 1, { dash: [2, 2] }),
        { stroke: () => colour("--ibt-last"), paths: () => null, points: { show: false } },
      ],
      hooks: {
        drawClear: [(u) => this.shadeBuffer(u)],
        draw: [(u) => this.drawOver(u)],
        setCursor: [(u) => this.readOut(u)],
        setSelect: [(u) => this.zoom(u)],
      },
    };
  }

  volumeOptions(cursor) {
    const { colour } = this;
    return {
      ...this.commonOptions(cursor), height: 90, padding: [4, 0, 0, 0],
      scales: { x: { time: true, auto: false }, y: { range: (u, low, high) => [0, (high || 1) * 1.05] } },
      axes: [this.timeAxis(true), {
        ...this.axis(), side: 1, size: AXIS_PX, space: 26, values: (u, splits) => splits.map(formatCompact),
      }],
      series: [{}, {
        stroke: () => colour("--ibt-last"),
        fill: () => `color-mix(in srgb, ${colour("--ibt-last")} 55%, transparent)`,
        width: 0, paths: uPlot.paths.bars({ align: 1, size: [0.85, 60] }), points: { show: false },
      }],
      hooks: { drawClear: [(u) => this.shadeBuffer(u)], setSelect: [(u) => this.zoom(u)] },
    };
  }

  axis() {
    return {
      stroke: () => this.colour("--ibt-dim"),
      grid: { stroke: () => this.colour("--ibt-grid"), width: 1 },
      ticks: { show: false },
      font: `11px ${FONT}`,
    };
  }

  timeAxis(hasLabels) {
    const label = (at, step) => (hasLabels ? this.clock()(at, step < 1).slice(0, timeDigits(step)) : "");
    return {
      ...this.axis(), size: hasLabels ? 28 : 6, space: 90,
      values: (u, splits, i, space, step) => splits.map((at) => label(at, step)),
    };
  }

  get decimals() {
    return this.link.facts.decimals ?? 2;
  }

  isVisible(series) {
    return this.model.get("shown").includes(series);
  }

  priceExtent(u) {
    const columns = [];
    if (this.isVisible("bid_ask")) columns.push(u.data[1], u.data[2]);
    if (this.isVisible("mid")) columns.push(u.data[3]);
    if (this.isVisible("last") && u.bounds) columns.push(...u.bounds);
    const [from, to] = u.series[0].idxs ?? [0, 0];
    return extent(columns, from, to);
  }

  // ---- drawing on the canvas ----

  /** Shade the time of the buffer. */
  shadeBuffer(u) {
    const { ctx, bbox } = u;
    const from = this.link.facts.live_from;
    if (!isKnown(from)) return;
    const x = u.valToPos(from, "x", true);
    const right = Math.min(Math.max(x, bbox.left), bbox.left + bbox.width);
    ctx.save();
    ctx.fillStyle = this.colour("--ibt-dim");
    ctx.globalAlpha = 0.07;
    ctx.fillRect(bbox.left, bbox.top, right - bbox.left, bbox.height);
    ctx.restore();
  }

  drawOver(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (this.isVisible("last") && u.bounds) this.drawTrades(u);
    if (isKnown(this.link.facts.live_from)) this.drawLiveBorder(u);
    ctx.restore();
    this.drawLastPrice(u);
  }

  /** Draw a dot for the last trade of each bucket, and a line from its lowest to its highest. */
  drawTrades(u) {
    const { ctx } = u;
    const [lows, highs] = u.bounds;
    const lasts = u.data[4];
    const [from, to] = u.series[0].idxs ?? [0, -1];
    ctx.strokeStyle = ctx.fillStyle = this.colour("--ibt-last");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([]);
    const ranges = new Path2D();
    const dots = new Path2D();
    let trades = 0;
    for (let i = from; i <= to; i++) if (isNumber(lasts[i])) trades += 1;
    // Where many trades stand side by side, their dots are smaller.
    const radius = Math.min(2.4, Math.max(0.9, u.width / (5 * trades + 1))) * devicePixelRatio;
    for (let i = from; i <= to; i++) {
      if (!isNumber(lasts[i])) continue;
      const x = u.valToPos(u.data[0][i], "x", true);
      if (highs[i] > lows[i]) {
        ranges.moveTo(x, u.valToPos(lows[i], "y", true));
        ranges.lineTo(x, u.valToPos(highs[i], "y", true));
      }
      const y = u.valToPos(lasts[i], "y", true);
      dots.moveTo(x + radius, y);
      dots.arc(x, y, radius, 0, 2 * Math.PI);
    }
    ctx.globalAlpha = 0.55;
    ctx.stroke(ranges);
    ctx.globalAlpha = 1;
    ctx.fill(dots);
  }

  /** Draw the line between the buffer and what came live. */
  drawLiveBorder(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const x = u.valToPos(this.link.facts.live_from, "x", true);
    if (!(x > bbox.left && x < bbox.left + bbox.width)) return;
    ctx.strokeStyle = ctx.fillStyle = this.colour("--ibt-up");
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `${11 * ratio}px ${FONT}`;
    ctx.textBaseline = "top";
    ctx.fillText("new", x + 4 * ratio, bbox.top + 3 * ratio);
    ctx.fillStyle = this.colour("--ibt-dim");
    ctx.textAlign = "right";
    ctx.fillText("buffer", x - 4 * ratio, bbox.top + 3 * ratio);
  }

  /** Draw a line at the last price, and its label on the axis. */
  drawLastPrice(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const { facts } = this.link;
    const isTrade = isKnown(facts.last) && this.isVisible("last");
    const value = isTrade ? facts.last : facts.mid;
    if (!isKnown(value)) return;
    const y = u.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = this.colour(isTrade ? "--ibt-last" : "--ibt-mid");
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    const left = bbox.left + bbox.width + 2 * ratio;
    ctx.fillRect(left, y - 8 * ratio, (AXIS_PX - 6) * ratio, 16 * ratio);
    ctx.fillStyle = "#fff";
    ctx.font = `600 ${11 * ratio}px ${FONT}`;
    ctx.textBaseline = "middle";
    ctx.fillText(formatPrice(value, this.decimals), left + 5 * ratio, y);
    ctx.restore();
  }

  // ---- pointer ----

  /** Show the values under the pointer. */
  readOut(u) {
    const at = u.cursor.idx;
    if (at === null || at === undefined || !(at < u.data[0].length)) {
      this.readout.textContent = "";
      return;
    }
    const texts = [this.clock()(u.data[0][at], true)];
    ["bid", "ask", "mid", "last"].forEach((key, i) => {
      const value = u.data[i + 1][at];
      if (isKnown(value)) texts.push(`${key} ${formatPrice(value, this.decimals)}`);
    });
    this.readout.textContent = texts.join("   ");
  }

  /** Zoom to the interval selected with the mouse, which pauses the view; Resume zooms out. */
  zoom(u) {
    if (u.select.width < MIN_ZOOM_PX) return;
    const min = u.posToVal(u.select.left, "x");
    const max = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.onZoom();
    this.zoomed = { min, max };
    for (const chart of [this.prices, this.volumes]) chart.setScale("x", this.zoomed);
  }

  // ---- from outside ----

  /** Draw the rows of the window. */
  draw() {
    const { rows } = this.link;
    const seconds = this.model.get("window");
    const end = this.link.axisEnd(seconds);
    // One row before the window, for the lines that enter it from there.
    const from = Math.max(rows.indexOf(end - seconds) - 1, 0);
    const scale = this.zoomed ?? { min: end - seconds, max: end + seconds * MARGIN };
    const columns = rows.columns.map((column) => column.slice(from, rows.count));
    this.prices.bounds = [columns[LOW], columns[HIGH]];
    this.prices.batch(() => {
      const lines = [BID, ASK, MID, LAST].map((number) => withGaps(columns[number]));
      this.prices.setData([columns[TIME], ...lines], false);
      this.prices.setScale("x", scale);
    });
    this.volumes.batch(() => {
      this.volumes.setData(volumeBars(columns[TIME], columns[VOLUME], seconds), false);
      this.volumes.setScale("x", scale);
    });
  }

  /** Show the series that the model names, and no other. */
  setSeries() {
    const shown = ["bid_ask", "bid_ask", "mid", "last"];
    this.prices.batch(() => {
      shown.forEach((series, i) => this.prices.setSeries(i + 1, { show: this.isVisible(series) }));
    });
    this.volumes.root.style.display = this.isVisible("volume") ? "" : "none";
  }

  /** Fit the charts into the width of their parent and the height of the model. */
  fit() {
    const width = Math.max(this.parent.clientWidth - 6, MIN_WIDTH_PX);
    const total = this.model.get("height");
    const volume = this.isVisible("volume") ? Math.round(total * VOLUME_SHARE) : 0;
    this.prices.setSize({ width, height: total - volume - (volume ? 0 : 24) });
    if (volume) this.volumes.setSize({ width, height: volume });
  }

  destroy() {
    this.prices.destroy();
    this.volumes.destroy();
  }
}
