import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./sources.mjs";

const format = await source("format");

test("only finite numbers are known", () => {
  assert.deepEqual([0, -1.5, NaN, Infinity, null, undefined].map(format.isKnown), [true, true, false, false, false, false]);
});

test("prices have their decimals", () => {
  assert.equal(format.formatPrice(1234.5, 2), "1,234.50");
  assert.equal(format.formatPrice(1.08345, 5), "1.08345");
  assert.equal(format.formatPrice(NaN, 2), "–");
});

test("sizes and large numbers are short", () => {
  assert.equal(format.formatSize(0.12345), "0.1235");
  assert.equal(format.formatCompact(12_345), "12.3K");
});

test("small values keep a digit", () => {
  assert.deepEqual([0, 0.1, 12.34, 0.0123].map((value) => format.formatBrief(value, "bp")), ["0.0 bp", "0.1 bp", "12.3 bp", "0.01 bp"]);
});

test("durations have one unit", () => {
  const texts = [0.26, 9.94, 10, 119, 120, 7199, 7200, 172_800].map(format.formatDuration);
  assert.deepEqual(texts, ["0.3 s", "9.9 s", "10 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
});

test("times are in their zone", () => {
  const at = Date.parse("2025-01-10T14:30:05.250Z") / 1000;
  assert.equal(format.clockOf("UTC")(at), "14:30:05");
  assert.equal(format.clockOf("America/New_York")(at, true), "09:30:05.250");
});

test("another day is named", () => {
  const [at, later] = ["2025-01-10T23:59:00Z", "2025-01-11T00:01:00Z"].map((text) => Date.parse(text) / 1000);
  assert.equal(format.formatStamp(at, at, "UTC"), "23:59:00 UTC");
  assert.equal(format.formatStamp(at, later, "UTC"), "2025-01-10 23:59:00 UTC");
  assert.equal(format.formatStamp(at, later, "America/New_York"), "18:59:00 America/New_York");
});
