import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./sources.mjs";

const { COLUMNS, Rows, TIME } = await source("rows");

/** A block of rows whose columns are all their times. */
const block = (...times) => Float64Array.from(Array(COLUMNS.length).fill(times).flat());
const times = (rows) => [...rows.columns[TIME].subarray(0, rows.count)];

test("rows are appended and the newest replaced", () => {
  const rows = new Rows(COLUMNS.length);
  rows.put(0, block(1, 2), 2, 100);
  rows.put(1, block(2.5, 3), 2, 100);
  assert.deepEqual(times(rows), [1, 2.5, 3]);
  assert.equal(rows.lastTime, 3);
});

test("a table grows beyond its first room", () => {
  const rows = new Rows(COLUMNS.length);
  const many = Array.from({ length: 3000 }, (_, i) => i);
  for (const at of many) rows.put(at, block(at), 1, 5000);
  assert.deepEqual(times(rows), many);
});

test("the oldest rows are dropped, and numbers stay", () => {
  const rows = new Rows(COLUMNS.length);
  for (let at = 0; at < 100; at++) {
    rows.put(at, block(at), 1, 10);
    assert.ok(rows.count <= 20);
    assert.equal(rows.base + rows.count, at + 1);
  }
  rows.put(99, block(990), 1, 10);
  assert.equal(rows.lastTime, 990);
});

test("a reset begins at another number", () => {
  const rows = new Rows(COLUMNS.length);
  rows.put(0, block(1, 2, 3), 3, 100);
  rows.reset(50);
  assert.equal(rows.count, 0);
  assert.ok(Number.isNaN(rows.lastTime));
  rows.put(50, block(9), 1, 100);
  assert.deepEqual(times(rows), [9]);
});

test("a time is found by bisection", () => {
  const rows = new Rows(COLUMNS.length);
  rows.put(0, block(1, 2, 2, 5), 4, 100);
  assert.deepEqual([0, 1, 2, 3, 5, 6].map((at) => rows.indexOf(at)), [0, 0, 1, 3, 3, 4]);
});
