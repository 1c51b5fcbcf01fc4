// The head of the view: contract, last price and figures.

import { makeElement } from "./dom.mjs";
import { formatBrief, formatDuration, formatPrice, formatSize, isKnown } from "./format.mjs";

/** @typedef {import("./link.mjs").Facts} Facts */

const FIGURES = [
  ["change", "Change"], ["bid", "Bid"], ["ask", "Ask"], ["spread", "Spread"],
  ["rate", "Ticks/s"], ["ticks", "Ticks"], ["time", ""], ["age", "Last tick ago"],
];

/**
 * Return the text of each figure.
 *
 * @param {Facts} facts
 * @param {function(number, boolean=): string} clock
 * @param {boolean} isConnected - whether the kernel answers; else the rate is unknown
 * @returns {Object<string, string>}
 */
export function figureTexts(facts, clock, isConnected) {
  const decimals = facts.decimals ?? 2;
  const price = (value) => formatPrice(value, decimals);
  const quote = (value, size) => (isKnown(value) ? `${price(value)} × ${formatSize(size ?? 0)}` : "–");
  const change = dayChange(facts);
  const sign = change > 0 ? "+" : "";
  const percent = facts.close > 0 ? ` (${sign}${((100 * change) / facts.close).toFixed(2)}%)` : "";
  const spread = facts.ask - facts.bid;
  const basisPoints = formatBrief((1e4 * spread) / ((facts.ask + facts.bid) / 2), "bp");
  const rate = facts.rate;
  return {
    last: price(lastPrice(facts)),
    change: isKnown(change) ? `${sign}${price(change)}${percent}` : "–",
    bid: quote(facts.bid, facts.bid_size),
    ask: quote(facts.ask, facts.ask_size),
    spread: isKnown(spread) ? `${price(spread)} (${basisPoints})` : "–",
    rate: isKnown(rate) && isConnected ? rate.toFixed(rate < 10 ? 1 : 0) : "–",
    ticks: isKnown(facts.ticks) ? facts.ticks.toLocaleString("en-US") : "–",
    time: isKnown(facts.time) ? clock(facts.time, true) : "–",
  };
}

/**
 * Return the last price: of a trade, or the mid.
 *
 * @param {Facts} facts
 * @returns {number|undefined}
 */
export function lastPrice(facts) {
  return isKnown(facts.last) ? facts.last : facts.mid;
}

/**
 * Return the change of the day, from the previous close; NaN where that is unknown.
 *
 * @param {Facts} facts
 * @returns {number}
 */
export function dayChange(facts) {
  return isKnown(facts.close) && facts.close !== null ? lastPrice(facts) - facts.close : NaN;
}

const directionClass = (change) => (change > 0 ? "ibt-up" : change < 0 ? "ibt-down" : "");

/** The elements of the head. */
export class Head {
  /**
   * @param {Element} root
   * @param {function(number): void} onContract - called with the contract that the user picks
   */
  constructor(root, onContract) {
    const head = makeElement("div", "ibt-head", root);
    this.picker = makeElement("select", "", makeElement("span", "ibt-name", head));
    this.picker.setAttribute("aria-label", "contract");
    this.picker.onchange = () => onContract(Number(this.picker.value));
    this.last = makeElement("span", "ibt-last", head, "–");
    this.previous = NaN;
    /** @type {Object<string, HTMLElement>} */
    this.headings = {};
    /** @type {Object<string, HTMLElement>} */
    this.values = {};
    for (const [key, text] of FIGURES) {
      const figure = makeElement("span", "ibt-fact", head);
      this.headings[key] = makeElement("span", "", figure, text);
      this.values[key] = makeElement("span", key === "bid" || key === "ask" ? `ibt-${key}` : "", figure, "–");
    }
  }

  /**
   * Show the contracts there are.
   *
   * @param {Array<[number, string]>} contracts - ids and symbols
   * @param {number} shown - id of the shown one
   */
  setContracts(contracts, shown) {
    this.picker.replaceChildren(...contracts.map(([id, symbol]) => {
      const option = makeElement("option", "", null, symbol);
      option.value = id;
      return option;
    }));
    this.picker.value = shown;
    this.picker.disabled = contracts.length < 2;
    this.picker.classList.toggle("ibt-alone", contracts.length < 2);
  }

  /** @param {string} zone - heading of the time */
  setZone(zone) {
    this.headings.time.textContent = zone;
  }

  /** @param {number} seconds - age of the last tick; NaN where there is none */
  setAge(seconds) {
    this.values.age.textContent = isKnown(seconds) ? formatDuration(seconds) : "–";
  }

  /**
   * Show the figures.
   *
   * @param {Facts} facts
   * @param {function(number, boolean=): string} clock
   * @param {boolean} isConnected
   */
  draw(facts, clock, isConnected) {
    const { last, ...texts } = figureTexts(facts, clock, isConnected);
    this.last.textContent = last;
    const value = lastPrice(facts);
    if (value !== this.previous) {
      this.last.className = `ibt-last ${directionClass(value - this.previous)}`;
      this.previous = value;
    }
    for (const [key, text] of Object.entries(texts)) this.values[key].textContent = text;
    const day = facts.close_day;
    this.headings.change.textContent = day ? `Change from close ${day}` : "Change of the day";
    this.values.change.parentElement.title = facts.close_name ?? "";
    this.values.change.className = directionClass(dayChange(facts));
  }
}
