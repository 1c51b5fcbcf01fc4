import assert from "node:assert/strict";
import { test } from "node:test";

import { source } from "./sources.mjs";

const { cellOpacity, formatGap, moveCell } = await source("store_browser");

test("gaps are written in hours, minutes or seconds", () => {
  assert.deepEqual([5, 90, 3600, 5400].map(formatGap), ["5 s", "2 min", "1 h 0 min", "1 h 30 min"]);
});

test("cells have one of a few opacities", () => {
  assert.equal(cellOpacity(0, 100), 0.07);
  assert.equal(cellOpacity(100, 100), 1);
  assert.ok(cellOpacity(1, 100_000) < cellOpacity(1000, 100_000));
});

test("arrow keys stay inside the map", () => {
  assert.deepEqual(moveCell([0, 0], [-1, 0], 2, 3), [0, 0]);
  assert.deepEqual(moveCell([0, 0], [1, 0], 2, 3), [1, 0]);
  assert.deepEqual(moveCell([1, 2], [0, 1], 2, 3), [1, 2]);
});

test("the first key begins at the last day", () => {
  assert.deepEqual(moveCell(null, [1, 0], 2, 3), [1, 2]);
  assert.deepEqual(moveCell(null, [0, -1], 2, 3), [0, 2]);
});
