// The messages of the kernel, and what the page knows from them.

import { SILENCE_MS } from "./dom.mjs";
import { isKnown } from "./format.mjs";
import { COLUMNS, Rows } from "./rows.mjs";

/**
 * One stream of the shown contract.
 *
 * @typedef {object} StreamFacts
 * @property {string} tick_type
 * @property {string} condition
 * @property {?number} since - seconds since 1970
 * @property {string} reason
 * @property {?number} code - IB's number
 * @property {?number} next_open - seconds since 1970
 */

/**
 * The latest figures, as the kernel sends them; times in seconds since 1970.
 *
 * @typedef {object} Facts
 * @property {string} [state] - "buffer", "ended", "failed", or the condition of the feed
 * @property {string} [problem]
 * @property {number} [now] - the kernel's clock
 * @property {number} [time]
 * @property {?number} [last_tick]
 * @property {?number} [live_from]
 * @property {number} [decimals]
 * @property {number} [ticks]
 * @property {number} [rate]
 * @property {number} [bid]
 * @property {number} [ask]
 * @property {number} [bid_size]
 * @property {number} [ask_size]
 * @property {number} [mid]
 * @property {number} [last]
 * @property {?number} [close]
 * @property {string} [close_day]
 * @property {string} [close_name]
 * @property {StreamFacts[]} [streams]
 */

/** Number of trades that the tape stores. */
export const MAX_TRADES = 200;

const STOPPED_STATES = ["no capture", "closed", "ended", "buffer"];

/** The page's end of the comm: it applies messages in sequence, and asks for a snapshot otherwise. */
export class Link {
  /**
   * @param {function(object): void} send - to the kernel
   * @param {function(): number} elapsed - a monotonic clock, milliseconds
   * @param {boolean} isAlone - whether there is no kernel
   */
  constructor(send, elapsed, isAlone) {
    this.send = send;
    this.elapsed = elapsed;
    this.isAlone = isAlone;
    this.rows = new Rows(COLUMNS.length);
    /** @type {Float64Array[]} - time, price, size and sign of each trade */
    this.trades = [];
    /** @type {Facts} */
    this.facts = {};
    this.sequence = -1;
    this.isWaiting = true;
    this.receivedAt = elapsed();
  }

  /** Ask the kernel for a snapshot; messages until it comes are ignored. */
  requestSnapshot() {
    this.isWaiting = true;
    if (!this.isAlone) this.send({ type: "snapshot_request" });
  }

  /**
   * Apply a message of the kernel.
   *
   * @param {object} message
   * @param {DataView[]} buffers - the columns of the buckets, and the trades
   * @returns {"reset"|"append"|"failed"|"ignored"} - what it did
   */
  receive(message, buffers) {
    if (message.type === "failed") {
      this.facts = { ...this.facts, state: "failed", problem: message.problem };
      return "failed";
    }
    if (message.type === "reset") {
      this.rows.reset(message.first);
      this.trades = [];
      this.isWaiting = false;
    } else if (this.isWaiting) {
      return "ignored";
    } else if (message.seq !== this.sequence + 1) {
      this.requestSnapshot();
      return "ignored";
    }
    this.sequence = message.seq;
    this.receivedAt = this.elapsed();
    this.rows.put(message.first, toNumbers(buffers[0]), message.buckets, message.capacity);
    const trades = toNumbers(buffers[1]);
    for (let i = 0; i + 3 < trades.length; i += 4) this.trades.push(trades.subarray(i, i + 4));
    if (this.trades.length > 2 * MAX_TRADES) this.trades = this.trades.slice(-MAX_TRADES);
    this.facts = { ...this.facts, ...message.facts };
    return message.type;
  }

  /** Milliseconds since the last message. */
  get silence() {
    return this.elapsed() - this.receivedAt;
  }

  /**
   * Return what is wrong with the connection to the kernel: a state and a text; null if nothing is.
   *
   * @returns {?[string, string]}
   */
  problem() {
    if (this.isAlone) {
      const subject = this.sequence < 0 ? "Not connected to a kernel" : "The kernel of this view has ended";
      return ["no kernel", `${subject}: run the cell again.`];
    }
    const seconds = Math.floor(this.silence / 1000);
    if (this.facts.state !== "failed" && seconds * 1000 >= SILENCE_MS) {
      const advice = "If it was restarted, run the cell again.";
      return ["no answer", `The kernel has not answered for ${seconds} s. ${advice}`];
    }
    return null;
  }

  /**
   * Return the time by the clock of the kernel: the page may be on another machine.
   *
   * @returns {number} - seconds since 1970
   */
  kernelNow() {
    return isKnown(this.facts.now) ? this.facts.now + this.silence / 1000 : Date.now() / 1000;
  }

  /**
   * Return the time of the last known tick: of the store, which may be later than the chart, or of
   * the chart.
   *
   * @returns {number} - seconds since 1970; -Infinity or NaN where there is none
   */
  lastTick() {
    const drawn = this.rows.lastTime;
    const stored = this.facts.last_tick;
    return Math.max(isKnown(stored) && !(stored < drawn) ? stored : drawn, -Infinity);
  }

  /**
   * Return the end of the time axis: it follows the clock while ticks may come. Where no process
   * captures, or the market is closed, it stops once the last tick is a window old.
   *
   * @param {number} windowSeconds
   * @returns {number} - seconds since 1970
   */
  axisEnd(windowSeconds) {
    const drawn = this.rows.lastTime;
    const now = this.kernelNow();
    if (!isKnown(drawn)) return now;
    const isStopped = STOPPED_STATES.includes(this.facts.state);
    return isStopped && now - drawn > windowSeconds ? drawn : Math.max(now, drawn);
  }

  /**
   * Describe the streams that are not live.
   *
   * @param {function(number): string} stamp - formats a time
   * @returns {string}
   */
  feedText(stamp) {
    const streams = this.facts.streams ?? [];
    return streams.filter((stream) => stream.condition !== "live").map((stream) => {
      const code = stream.code === null ? "" : ` (${stream.code})`;
      const since = stream.since === null ? "" : ` since ${stamp(stream.since)}`;
      const opens = stream.next_open === null ? "" : `, opens at ${stamp(stream.next_open)}`;
      const reason = stream.reason && stream.next_open === null ? ` – ${stream.reason}` : "";
      return `${stream.tick_type}: ${stream.condition}${code}${since}${opens}${reason}`;
    }).join(" · ");
  }

  /**
   * Return the state that the badge shows, and the text below it.
   *
   * @param {boolean} isPaused
   * @param {function(number): string} stamp - formats a time
   * @returns {[string, string]}
   */
  status(isPaused, stamp) {
    const { state, problem } = this.facts;
    const shown = state === "live" && isPaused ? "paused" : state ?? "waiting";
    return this.problem() ?? [shown, problem ?? (state === "buffer" ? "" : this.feedText(stamp))];
  }
}

/**
 * Return the bytes of a message as numbers; they may begin at an odd address, and so are copied.
 *
 * @param {DataView} [view]
 * @returns {Float64Array}
 */
export function toNumbers(view) {
  if (!view) return new Float64Array(0);
  const { buffer, byteOffset, byteLength } = view;
  return new Float64Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
