// The page's half of StoreBrowser: a heat map with a row for each stream and a column for each day.

import { SILENCE_MS, isDisconnected, makeElement, themeColours } from "./dom.mjs";

const CELL_PX = 16;
const ROW_PX = 18;
const TOP_PX = 22;
const LEFT_PX = 6;
const LEVELS = 5;
const DAY_SECONDS = 86400;
const EMPTY_OPACITY = 0.07;
const KEY_STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const tickCount = new Intl.NumberFormat("en-US");

/**
 * One stream, as the kernel sends it.
 *
 * @typedef {object} StreamRow
 * @property {number} contract_id
 * @property {string} tick_type
 * @property {string} symbol
 * @property {number[]} days - columns
 * @property {number[]} ticks - of each of these days
 * @property {number[]} gaps - seconds of each of these days
 */

/**
 * Format the length of a gap.
 *
 * @param {number} seconds
 * @returns {string}
 */
export function formatGap(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.round((seconds % 3600) / 60);
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds.toFixed(0)} s`;
}

/**
 * Return the opacity of a cell: one of a few levels, by the logarithm of its ticks.
 *
 * @param {number} ticks
 * @param {number} maxTicks - of any cell
 * @returns {number}
 */
export function cellOpacity(ticks, maxTicks) {
  if (!ticks) return EMPTY_OPACITY;
  const level = Math.ceil((LEVELS * Math.log1p(ticks)) / Math.log1p(Math.max(1, maxTicks)));
  return levelOpacity(level);
}

const levelOpacity = (level) => 0.18 + (0.82 * level) / LEVELS;

/**
 * Return the cell after an arrow key: `[row, column]`, inside the map.
 *
 * @param {?[number, number]} cell - without one, the key starts at the last day
 * @param {[number, number]} step
 * @param {number} rows
 * @param {number} columns
 * @returns {[number, number]}
 */
export function moveCell(cell, [down, right], rows, columns) {
  const [row, column] = cell ?? [0, columns - 1 - right];
  return [
    Math.min(Math.max(row + down, 0), rows - 1),
    Math.min(Math.max(column + right, 0), columns - 1),
  ];
}

/** One map of a store in the page. */
class StoreBrowser {
  /**
   * @param {object} model - of anywidget
   * @param {Element} el
   */
  constructor(model, el) {
    this.model = model;
    this.isAlone = isDisconnected(el);
    this.timer = 0;
    /** @type {?[number, number]} - the cell under the pointer, or of the keyboard */
    this.cell = null;
    /** @type {Map<number, [number, number]>[]} - ticks and gap by day, of each row */
    this.cells = [];
    this.build(el);
    this.colour = themeColours(this.root);
    this.listen();
    this.writeFoot();
  }

  /** @returns {StreamRow[]} */
  get rows() {
    return this.model.get("rows");
  }

  /** @returns {string[]} - ISO dates */
  get days() {
    return this.model.get("days");
  }

  build(el) {
    this.root = makeElement("div", "ibt-store", el);
    const head = makeElement("div", "ibt-store-head", this.root);
    makeElement("span", "ibt-store-title", head, "Store");
    this.summary = makeElement("span", "", head);
    const legend = makeElement("span", "ibt-store-legend", head, "fewer ");
    for (let level = 1; level <= LEVELS; level++) {
      makeElement("i", "", legend).style.cssText = `background: var(--ibt-fill); opacity: ${levelOpacity(level)}`;
    }
    legend.append("more ticks");
    makeElement("i", "", legend).style.background = "var(--ibt-gap)";
    legend.append("gap");
    this.grid = makeElement("div", "ibt-store-grid", this.root);
    this.names = makeElement("div", "ibt-store-names", this.grid);
    this.canvas = makeElement("canvas", "", this.grid);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "grid");
    this.canvas.setAttribute("aria-label", "ticks by stream and day; arrow keys move, Enter selects");
    this.foot = makeElement("div", "ibt-store-foot", this.root);
    this.foot.setAttribute("aria-live", "polite");
  }

  listen() {
    const { model, canvas } = this;
    canvas.onmousemove = (event) => this.setCell(this.cellAt(event));
    canvas.onmouseleave = () => this.setCell(null);
    canvas.onclick = (event) => this.pick(this.cellAt(event));
    canvas.onkeydown = (event) => this.onKey(event);
    const handlers = [
      ["change:rows change:days", () => this.read()],
      ["change:picked", () => this.redraw()],
      ["comm_live_update", () => this.setAlone()],
      ["msg:custom", () => this.onAnswer()],
    ];
    for (const [events, handler] of handlers) model.on(events, handler);
    this.disconnect = () => { for (const [events, handler] of handlers) model.off(events, handler); };
    // The colours and the width are known only once the element is in the page.
    this.observer = new ResizeObserver(() => this.read());
    this.observer.observe(this.root);
  }

  // ---- kernel ----

  /** Show that no kernel responds. */
  setAlone() {
    this.isAlone = true;
    this.setCell(null);
  }

  /** Note that the kernel has received a pick. */
  onAnswer() {
    clearTimeout(this.timer);
    this.isAlone = false;
    this.redraw();
  }

  pick(cell) {
    if (!cell) return;
    const { contract_id, tick_type } = this.rows[cell[0]];
    const date = this.days[cell[1]];
    const picked = this.model.get("picked");
    if (picked.date === date && picked.contract_id === contract_id && picked.tick_type === tick_type) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.setAlone(), SILENCE_MS);
    this.model.set("picked", { contract_id, tick_type, date });
    this.model.save_changes();
  }

  // ---- pointer and keyboard ----

  setCell(cell) {
    this.cell = cell;
    this.redraw();
  }

  cellAt(event) {
    const row = Math.floor((event.offsetY - TOP_PX) / ROW_PX);
    const column = Math.floor((event.offsetX - LEFT_PX) / CELL_PX);
    const isInside = row >= 0 && row < this.rows.length && column >= 0 && column < this.days.length;
    return isInside ? [row, column] : null;
  }

  onKey(event) {
    const step = KEY_STEPS[event.key];
    if (step) this.setCell(moveCell(this.cell, step, this.rows.length, this.days.length));
    else if (event.key === "Enter") this.pick(this.cell);
    else return;
    event.preventDefault();
  }

  // ---- drawing ----

  /** Read the rows and days of the model. */
  read() {
    const { rows, days } = this;
    this.cells = rows.map((row) => new Map(row.days.map((day, i) => [day, [row.ticks[i], row.gaps[i]]])));
    this.names.replaceChildren(...rows.map((row) => {
      const line = makeElement("div", "", null, row.symbol);
      makeElement("span", "", line, row.tick_type);
      return line;
    }));
    const total = rows.reduce((sum, row) => sum + row.ticks.reduce((a, b) => a + b, 0), 0);
    this.summary.textContent = rows.length
      ? `${rows.length} streams · ${days.length} days · ${tickCount.format(total)} ticks`
      : "nothing stored yet";
    this.draw();
    this.grid.scrollLeft = this.grid.scrollWidth;
  }

  redraw() {
    this.draw();
    this.writeFoot();
  }

  draw() {
    const { canvas, rows, days } = this;
    const width = LEFT_PX + Math.max(days.length, 1) * CELL_PX + LEFT_PX;
    const height = TOP_PX + rows.length * ROW_PX + 4;
    const ratio = devicePixelRatio;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.cssText = `width:${width}px;height:${height}px;flex:none`;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    this.drawMonths(ctx);
    const maxTicks = Math.max(1, ...rows.flatMap((row) => row.ticks));
    rows.forEach((_, row) => days.forEach((__, column) => this.drawCell(ctx, row, column, maxTicks)));
    ctx.globalAlpha = 1;
    this.outline(ctx, this.pickedCell(), "--ibt-text", 2);
    if (this.cell) this.outline(ctx, this.cell, "--ibt-dim", 1);
  }

  drawMonths(ctx) {
    const { days } = this;
    ctx.font = "10px system-ui, sans-serif";
    ctx.fillStyle = this.colour("--ibt-dim");
    let end = 0;
    days.forEach((day, column) => {
      const x = LEFT_PX + column * CELL_PX;
      if (x < end || (column && days[column - 1].slice(0, 7) === day.slice(0, 7))) return;
      const month = { month: "short", year: "numeric", timeZone: "UTC" };
      const text = new Date(`${day}T00:00Z`).toLocaleDateString("en-GB", month);
      ctx.fillText(text, x, 14);
      end = x + ctx.measureText(text).width + 8;
    });
  }

  drawCell(ctx, row, column, maxTicks) {
    const [x, y] = [LEFT_PX + column * CELL_PX, TOP_PX + row * ROW_PX + 2];
    const [ticks, gap] = this.cells[row].get(column) ?? [0, 0];
    ctx.globalAlpha = cellOpacity(ticks, maxTicks);
    ctx.fillStyle = this.colour(ticks ? "--ibt-fill" : "--ibt-dim");
    ctx.fillRect(x, y, CELL_PX - 2, ROW_PX - 4);
    if (gap > 0) {
      ctx.globalAlpha = 1;
      ctx.fillStyle = this.colour("--ibt-gap");
      ctx.fillRect(x, y + ROW_PX - 7, Math.max(2, (CELL_PX - 2) * Math.min(gap / DAY_SECONDS, 1)), 3);
    }
  }

  outline(ctx, [row, column], key, width) {
    if (row < 0 || column < 0) return;
    ctx.strokeStyle = this.colour(key);
    ctx.lineWidth = width;
    ctx.strokeRect(LEFT_PX + column * CELL_PX - 0.5, TOP_PX + row * ROW_PX + 1.5, CELL_PX - 1, ROW_PX - 3);
  }

  /** Return the picked cell; -1 for its row or column where none is picked. */
  pickedCell() {
    const { contract_id, tick_type, date } = this.model.get("picked");
    const row = this.rows.findIndex((one) => one.contract_id === contract_id && one.tick_type === tick_type);
    return [row, this.days.indexOf(date)];
  }

  /** Describe the cell under the pointer, or the picked one. */
  writeFoot() {
    this.root.classList.toggle("ibt-store-alone", this.isAlone);
    if (this.isAlone && !this.cell) {
      this.foot.textContent = "The kernel does not respond: run the cell again to select a day.";
      return;
    }
    const [row, column] = this.cell ?? this.pickedCell();
    const stream = this.rows[row];
    if (!stream || column < 0) {
      this.foot.textContent = "A click selects a day of a stream: it is browser.selection then.";
      return;
    }
    const [ticks, gap] = this.cells[row]?.get(column) ?? [0, 0];
    const missing = gap > 0 ? ` · ${formatGap(gap)} missing` : "";
    this.foot.textContent =
      `${stream.symbol} ${stream.tick_type} · ${this.days[column]} · ${tickCount.format(ticks)} ticks${missing}`;
  }

  destroy() {
    this.observer.disconnect();
    this.disconnect();
    clearTimeout(this.timer);
  }
}

function render({ model, el }) {
  const browser = new StoreBrowser(model, el);
  return () => browser.destroy();
}

export default { render };
