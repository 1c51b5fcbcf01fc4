import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { source } from "./sources.mjs";

const { Link, MAX_TRADES, toNumbers } = await source("link");
const { COLUMNS } = await source("rows");

let sent;
let clock;
let link;

beforeEach(() => {
  sent = [];
  clock = 0;
  link = new Link((message) => sent.push(message), () => clock, false);
});

const view = (...numbers) => new DataView(Float64Array.from(numbers).buffer);

/** A message with buckets at these times, and trades at them. */
function message(type, seq, first, times, facts = {}) {
  const trades = times.flatMap((time) => [time, 10, 1, 1]);
  return [
    { type, seq, first, buckets: times.length, capacity: 2000, facts },
    [view(...Array(COLUMNS.length).fill(times).flat()), view(...trades)],
  ];
}

test("a snapshot and what follows it are applied", () => {
  link.requestSnapshot();
  assert.deepEqual(sent, [{ type: "snapshot_request" }]);
  assert.equal(link.receive(...message("append", 4, 0, [1])), "ignored");
  assert.equal(link.receive(...message("reset", 5, 0, [1, 2], { ticks: 2 })), "reset");
  assert.equal(link.receive(...message("append", 6, 1, [2.5, 3], { last: 7 })), "append");
  assert.equal(link.rows.count, 3);
  assert.deepEqual(link.facts, { ticks: 2, last: 7 });
  assert.deepEqual(link.trades.map(([time]) => time), [1, 2, 2.5, 3]);
  assert.equal(sent.length, 1);
});

test("a missing message is noticed, and a snapshot requested", () => {
  link.receive(...message("reset", 1, 0, [1]));
  assert.equal(link.receive(...message("append", 3, 1, [2])), "ignored");
  assert.deepEqual(sent, [{ type: "snapshot_request" }]);
  assert.equal(link.receive(...message("append", 4, 2, [3])), "ignored");
  assert.equal(link.rows.count, 1);
  link.receive(...message("reset", 5, 0, [1, 2, 3]));
  assert.equal(link.rows.count, 3);
});

test("the tape is bounded", () => {
  const times = Array.from({ length: 3 * MAX_TRADES }, (_, i) => i);
  link.receive(...message("reset", 1, 0, times));
  assert.equal(link.trades.length, MAX_TRADES);
  assert.equal(link.trades.at(-1)[0], 3 * MAX_TRADES - 1);
});

test("a failure of the kernel is shown with its reason", () => {
  link.receive(...message("reset", 1, 0, [1], { state: "live" }));
  assert.equal(link.receive({ type: "failed", problem: "KeyError: 1" }, []), "failed");
  assert.deepEqual(link.status(false, String), ["failed", "KeyError: 1"]);
  clock = 60_000;
  assert.equal(link.problem(), null, "it is known why there is no answer");
});

test("a kernel that does not answer is noticed", () => {
  link.receive(...message("reset", 1, 0, [1], { state: "live" }));
  clock = 4999;
  assert.deepEqual(link.status(false, String), ["live", ""]);
  clock = 7500;
  const [state, text] = link.status(false, String);
  assert.equal(state, "no answer");
  assert.match(text, /^The kernel has not answered for 7 s\./);
  link.isAlone = true;
  assert.match(link.status(false, String)[1], /^The kernel of this view has ended/);
});

test("a view without a kernel asks for nothing", () => {
  const alone = new Link((message) => sent.push(message), () => clock, true);
  alone.requestSnapshot();
  assert.deepEqual(sent, []);
  assert.deepEqual(alone.problem(), ["no kernel", "Not connected to a kernel: run the cell again."]);
});

test("a paused view shows it only while the feed is live", () => {
  link.receive(...message("reset", 1, 0, [1], { state: "live" }));
  assert.equal(link.status(true, String)[0], "paused");
  link.receive(...message("append", 2, 1, [2], { state: "quiet" }));
  assert.equal(link.status(true, String)[0], "quiet");
});

test("the axis follows the clock of the kernel", () => {
  link.receive(...message("reset", 1, 0, [1000], { state: "live", now: 1002 }));
  assert.equal(link.axisEnd(60), 1002);
  clock = 3000;
  assert.equal(link.kernelNow(), 1005);
  assert.equal(link.axisEnd(60), 1005);
});

test("the axis stops a window after the last tick of a feed that has stopped", () => {
  for (const state of ["no capture", "closed", "ended", "buffer"]) {
    link.receive(...message("reset", 1, 0, [1000], { state, now: 1030 }));
    assert.equal(link.axisEnd(60), 1030);
    link.receive(...message("reset", 1, 0, [1000], { state, now: 1090 }));
    assert.equal(link.axisEnd(60), 1000);
  }
});

test("the last tick is that of the store or of the chart, whichever is later", () => {
  assert.ok(Number.isNaN(link.lastTick()) || link.lastTick() === -Infinity);
  link.receive(...message("reset", 1, 0, [1000], { last_tick: 990 }));
  assert.equal(link.lastTick(), 1000);
  link.receive(...message("append", 2, 1, [1001], { last_tick: 1010 }));
  assert.equal(link.lastTick(), 1010);
});

test("streams that are not live are described", () => {
  const stream = { tick_type: "last", since: null, reason: "", code: null, next_open: null };
  link.facts = {
    streams: [
      { ...stream, condition: "live" },
      { ...stream, condition: "disconnected", since: 5, reason: "connection lost", code: 1100 },
      { ...stream, condition: "closed", reason: "hidden", next_open: 9 },
    ],
  };
  assert.equal(
    link.feedText((at) => `@${at}`),
    "last: disconnected (1100) since @5 – connection lost · last: closed, opens at @9",
  );
});

test("numbers at an odd address are read", () => {
  const bytes = new Uint8Array(17);
  bytes.set(new Uint8Array(Float64Array.of(1.5, 2.5).buffer), 1);
  assert.deepEqual([...toNumbers(new DataView(bytes.buffer, 1, 16))], [1.5, 2.5]);
  assert.equal(toNumbers(undefined).length, 0);
});
