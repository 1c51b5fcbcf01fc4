// The tape: the last trades, newest first.

import { makeElement } from "./dom.mjs";
import { formatPrice, formatSize } from "./format.mjs";

const ROW_PX = 19;
const HEADING_PX = 28;

/** The table of trades. */
export class TradeTable {
  /** @param {Element} parent */
  constructor(parent) {
    this.side = makeElement("div", "ibt-tape", parent);
    const table = makeElement("table", "", this.side);
    const titles = makeElement("tr", "", makeElement("thead", "", table));
    [this.timeTitle] = ["Time", "Price", "Size"].map((text) => makeElement("th", "", titles, text));
    this.lines = makeElement("tbody", "", table);
    this.empty = makeElement("div", "ibt-empty", this.side, "No trade yet.");
  }

  /** @param {string} zone */
  setZone(zone) {
    this.timeTitle.textContent = `Time ${zone}`;
  }

  /** @param {number} height - pixels */
  setHeight(height) {
    this.side.style.height = `${height}px`;
  }

  /**
   * Show as many trades as there is room for.
   *
   * @param {Float64Array[]} trades - time, price, size and sign of each, oldest first
   * @param {function(number, boolean=): string} clock
   * @param {number} decimals
   */
  draw(trades, clock, decimals) {
    const shown = newestFirst(trades, this.side.clientHeight);
    const { lines } = this;
    this.empty.style.display = shown.length ? "none" : "";
    while (lines.rows.length < shown.length) {
      const row = lines.insertRow();
      for (let i = 0; i < 3; i++) row.insertCell();
    }
    while (lines.rows.length > shown.length) lines.deleteRow(-1);
    shown.forEach(([time, price, size, sign], i) => {
      const { cells } = lines.rows[i];
      cells[0].textContent = clock(time, true);
      cells[1].textContent = formatPrice(price, decimals);
      cells[1].className = sign > 0 ? "ibt-up" : sign < 0 ? "ibt-down" : "";
      cells[2].textContent = formatSize(size);
    });
  }
}

/**
 * Return the newest trades that fit a height, newest first.
 *
 * @param {Float64Array[]} trades
 * @param {number} height - pixels
 * @returns {Float64Array[]}
 */
export function newestFirst(trades, height) {
  const room = Math.max(1, Math.floor((height - HEADING_PX) / ROW_PX));
  return trades.slice(-room).reverse();
}
