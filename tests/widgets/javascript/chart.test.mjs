import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./sources.mjs";

const { extent, padded, priceSteps, timeDigits, volumeBars, withGaps } = await source("chart");
const { dayChange, figureTexts, lastPrice } = await source("head");
const { newestFirst } = await source("tape");
const { toggle } = await source("controls");

test("volume is summed by bars of the window", () => {
  const [starts, sums] = volumeBars([0, 0.5, 1, 2.2], [1, 2, 3, 0], 120);
  assert.deepEqual([starts, sums], [[0, 1], [3, 3]]);
});

test("missing values are gaps, and a column without any is not copied", () => {
  const full = Float64Array.of(1, 2);
  assert.equal(withGaps(full), full);
  assert.deepEqual(withGaps(Float64Array.of(1, NaN)), [1, null]);
});

test("the extent of columns leaves out what is missing", () => {
  assert.deepEqual(extent([[5, null, 1], [NaN, 7, 2]], 0, 1), [5, 7]);
  assert.deepEqual(extent([], 0, 1), [Infinity, -Infinity]);
});

test("the price axis has room around its extent", () => {
  assert.deepEqual(padded([Infinity, -Infinity]), [0, 1]);
  assert.deepEqual(padded([100, 200]), [92, 208]);
  const [low, high] = padded([50, 50]);
  assert.ok(low < 50 && high > 50);
});

test("the steps of the price axis begin at the last decimal", () => {
  assert.deepEqual(priceSteps(2).slice(0, 4).map((step) => step.toFixed(2)), ["0.01", "0.02", "0.05", "0.10"]);
  assert.equal(priceSteps(0)[0], 1);
});

test("the time axis shows the digits that its steps differ in", () => {
  assert.deepEqual([0.25, 1, 30, 60].map(timeDigits), [12, 8, 8, 5]);
});

test("figures are written from the latest facts", () => {
  const facts = {
    bid: 10, ask: 10.02, bid_size: 3, last: 10.01, close: 10, decimals: 2, rate: 2.5, ticks: 1234, time: 0,
  };
  assert.deepEqual(figureTexts(facts, (at) => `@${at}`, true), {
    last: "10.01", change: "+0.01 (+0.10%)", bid: "10.00 × 3", ask: "10.02 × 0",
    spread: "0.02 (20.0 bp)", rate: "2.5", ticks: "1,234", time: "@0",
  });
  assert.equal(figureTexts(facts, String, false).rate, "–", "unknown while the kernel does not answer");
});

test("figures that are unknown are dashes", () => {
  const { last, change, bid, spread, rate, ticks, time } = figureTexts({ close: null }, String, true);
  assert.deepEqual([last, change, bid, spread, rate, ticks, time], Array(7).fill("–"));
});

test("without a trade, the mid is the last price", () => {
  assert.equal(lastPrice({ mid: 5 }), 5);
  assert.equal(dayChange({ mid: 5, close: 4 }), 1);
  assert.ok(Number.isNaN(dayChange({ mid: 5, close: null })));
});

test("the tape has its newest trade first, and no more than fit", () => {
  assert.deepEqual(newestFirst([1, 2, 3, 4], 28 + 2 * 19), [4, 3]);
  assert.deepEqual(newestFirst([1, 2], 0), [2]);
});

test("a series is toggled", () => {
  assert.deepEqual(toggle(["mid"], "last"), ["mid", "last"]);
  assert.deepEqual(toggle(["mid", "last"], "mid"), ["last"]);
});
