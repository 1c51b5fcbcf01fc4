// The bar of buttons: pause, windows, series; and the badge with its note.

import { makeElement } from "./dom.mjs";

const WINDOWS = [[30, "30s"], [60, "1m"], [300, "5m"], [900, "15m"], [3600, "1h"], [14400, "4h"], [86400, "1d"]];
const SERIES = [
  ["bid_ask", "Bid / ask", "--ibt-bid"], ["mid", "Mid", "--ibt-mid"],
  ["last", "Last", "--ibt-last"], ["volume", "Volume", "--ibt-dim"],
];

/** The buttons, which set traits of the model. */
export class Controls {
  /**
   * @param {Element} root
   * @param {object} model - of anywidget
   */
  constructor(root, model) {
    const update = (values) => {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      model.save_changes();
    };
    const bar = makeElement("div", "ibt-bar", root);
    this.pause = makeElement("button", "ibt-pause", makeElement("span", "ibt-group", bar), "❚❚ Pause");
    this.pause.onclick = () => update({ paused: !model.get("paused") });
    const windows = makeElement("span", "ibt-group", bar);
    windows.setAttribute("aria-label", "window");
    this.windowButtons = WINDOWS.map(([seconds, text]) => {
      const button = makeElement("button", "", windows, text);
      button.dataset.window = seconds;
      button.onclick = () => update({ window: seconds, paused: false });
      return button;
    });
    const series = makeElement("span", "ibt-group", bar);
    this.seriesButtons = SERIES.map(([key, text, colour]) => {
      const button = makeElement("button", "", series);
      button.dataset.series = key;
      makeElement("span", "ibt-swatch", button).style.color = `var(${colour})`;
      button.append(text);
      button.onclick = () => update({ shown: toggle(model.get("shown"), key) });
      return button;
    });
    this.badge = makeElement("span", "ibt-badge", bar, "…");
    this.badge.setAttribute("role", "status");
    this.note = makeElement("div", "ibt-note", root);
  }

  /**
   * Show which buttons are pressed.
   *
   * @param {boolean} isPaused
   * @param {number} windowSeconds
   * @param {string[]} shown - names of the series
   */
  draw(isPaused, windowSeconds, shown) {
    this.pause.textContent = isPaused ? "▶ Resume" : "❚❚ Pause";
    this.pause.setAttribute("aria-pressed", isPaused);
    for (const button of this.windowButtons) {
      button.setAttribute("aria-pressed", Number(button.dataset.window) === windowSeconds);
    }
    for (const button of this.seriesButtons) {
      button.setAttribute("aria-pressed", shown.includes(button.dataset.series));
    }
  }

  /**
   * Show the state, and a text below it.
   *
   * @param {string} state
   * @param {string} text
   */
  setStatus(state, text) {
    this.badge.textContent = state.toUpperCase();
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}

/**
 * Return a list without an item, or with it at its end.
 *
 * @param {string[]} list
 * @param {string} item
 * @returns {string[]}
 */
export function toggle(list, item) {
  return list.includes(item) ? list.filter((other) => other !== item) : [...list, item];
}
