// The page's half of LiveView: it connects the kernel's messages and the model with the drawing, and
// draws once a frame at most, however many messages come.

import { Charts } from "./chart.mjs";
import { Controls } from "./controls.mjs";
import { isDisconnected, makeElement } from "./dom.mjs";
import { clockOf, formatStamp, isKnown } from "./format.mjs";
import { Head } from "./head.mjs";
import { Link } from "./link.mjs";
import { TradeTable } from "./tape.mjs";

const REFRESH_MS = 1000;
const TAPE_MARGIN_PX = 8;
const VIEW_TRAITS = ["paused", "window", "shown", "contract", "contracts", "height"];
const TRAIT_EVENTS = VIEW_TRAITS.map((name) => `change:${name}`).join(" ");

/** One view of a live stream in the page. */
class LiveView {
  /**
   * @param {object} model - of anywidget
   * @param {Element} el
   */
  constructor(model, el) {
    el.classList.add("ibt-frame");
    this.model = model;
    this.root = makeElement("div", "ibt-live", el);
    this.clock = clockOf(model.get("tz"));
    const setModel = (name, value) => {
      model.set(name, value);
      model.set("paused", false);
      model.save_changes();
    };
    this.link = new Link((message) => model.send(message), () => performance.now(), isDisconnected(el));
    this.head = new Head(this.root, (contract) => setModel("contract", contract));
    this.controls = new Controls(this.root, model);
    const body = makeElement("div", "ibt-body", this.root);
    const charts = makeElement("div", "ibt-charts", body);
    this.charts = new Charts(charts, this.root, model, this.link, () => this.clock, () => this.pause());
    this.tape = new TradeTable(body);
    this.frame = 0;
    this.isFrozen = false; // whether the charts show the moment of the pause
    this.setZone();
    this.connect();
  }

  connect() {
    const { model } = this;
    const handlers = [
      ["msg:custom", (message, buffers) => this.receive(message, buffers)],
      [TRAIT_EVENTS, () => this.update()],
      ["change:tz", () => this.setZone()],
      ["comm_live_update", () => { this.link.isAlone = true; this.redraw(); }],
    ];
    for (const [events, handler] of handlers) model.on(events, handler);
    this.disconnect = () => { for (const [events, handler] of handlers) model.off(events, handler); };
    this.observer = new ResizeObserver(() => { this.fit(); this.redraw(); });
    this.observer.observe(this.root);
    this.update();
    this.link.requestSnapshot();
    this.timer = setInterval(() => {
      // A page that is loaded again may ask before the kernel listens, or listen after its answer.
      if (this.link.isWaiting) this.link.requestSnapshot();
      this.redraw(); // the age of the last tick and the time axis follow the clock
    }, REFRESH_MS);
  }

  get isPaused() {
    return this.model.get("paused");
  }

  pause() {
    if (this.isPaused) return;
    this.model.set("paused", true);
    this.model.save_changes();
  }

  receive(message, buffers) {
    const effect = this.link.receive(message, buffers);
    if (effect === "ignored") return;
    if (effect === "reset") this.isFrozen = false;
    this.redraw();
  }

  setZone() {
    const zone = this.model.get("tz");
    this.clock = clockOf(zone);
    this.head.setZone(zone);
    this.tape.setZone(zone);
    this.redraw();
  }

  /** Show what a trait of the model has become. */
  update() {
    const { model, isPaused } = this;
    if (!isPaused) this.charts.zoomed = null;
    this.controls.draw(isPaused, model.get("window"), model.get("shown"));
    this.charts.setSeries();
    this.head.setContracts(model.get("contracts"), model.get("contract"));
    if (!isPaused) this.isFrozen = false;
    this.fit();
    this.redraw();
  }

  fit() {
    this.charts.fit();
    this.tape.setHeight(this.model.get("height") + TAPE_MARGIN_PX);
  }

  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const { link, isPaused } = this;
    const zone = this.model.get("tz");
    const [state, text] = link.status(isPaused, (at) => formatStamp(at, link.kernelNow(), zone));
    this.controls.setStatus(state, text);
    const { dataset } = this.root;
    dataset.state = state;
    const lastTick = link.lastTick();
    const age = isKnown(lastTick) ? Math.max(link.kernelNow() - lastTick, 0) : NaN;
    this.head.setAge(age);
    dataset.age = isKnown(age) ? age : "";
    dataset.end = link.axisEnd(this.model.get("window"));
    if (!isPaused || !this.isFrozen) this.drawData(dataset, isPaused);
    dataset.seq = link.sequence;
    dataset.buckets = link.rows.count;
  }

  drawData(dataset, isPaused) {
    const { link } = this;
    const { facts } = link;
    this.charts.draw();
    this.head.draw(facts, this.clock, link.problem() === null);
    this.tape.draw(link.trades, this.clock, facts.decimals ?? 2);
    this.isFrozen = isPaused;
    if (isKnown(facts.last)) dataset.last = facts.last;
    if (isKnown(facts.time)) dataset.time = facts.time;
    dataset.n = facts.ticks ?? 0;
  }

  destroy() {
    clearInterval(this.timer);
    this.disconnect();
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.charts.destroy();
  }
}

function render({ model, el }) {
  const view = new LiveView(model, el);
  return () => view.destroy();
}

export default { render };
