// The time buckets of a window, as the kernel sends them.

/** Columns of a bucket, in the order of the kernel's message. */
export const COLUMNS = ["time", "bid", "ask", "mid", "last", "low", "high", "volume"];
export const [TIME, BID, ASK, MID, LAST, LOW, HIGH, VOLUME] = COLUMNS.keys();

const INITIAL_ROWS = 1024;

/** A growing table of numbers whose oldest rows are dropped. */
export class Rows {
  /** @param {number} width - number of columns */
  constructor(width) {
    /** @type {Float64Array[]} */
    this.columns = Array.from({ length: width }, () => new Float64Array(INITIAL_ROWS));
    this.reset(0);
  }

  /**
   * Remove every row.
   *
   * @param {number} base - the number that the next first row has
   */
  reset(base) {
    this.base = base;
    this.count = 0;
  }

  /**
   * Replace the rows from one on.
   *
   * @param {number} first - the number of the first row to replace
   * @param {Float64Array} block - column after column, `count` numbers each
   * @param {number} count
   * @param {number} capacity - least number of rows that are stored; at most twice as many
   */
  put(first, block, count, capacity) {
    this.count = Math.max(0, Math.min(this.count, first - this.base));
    const total = this.count + count;
    if (total > this.columns[0].length) {
      this.columns = this.columns.map((column) => {
        const grown = new Float64Array(2 * total);
        grown.set(column.subarray(0, this.count));
        return grown;
      });
    }
    this.columns.forEach((column, i) => column.set(block.subarray(i * count, (i + 1) * count), this.count));
    this.count = total;
    if (this.count > 2 * capacity) {
      const dropped = this.count - capacity;
      this.columns.forEach((column) => column.copyWithin(0, dropped, this.count));
      this.base += dropped;
      this.count = capacity;
    }
  }

  /**
   * Return the index of the first row whose time is not before a time.
   *
   * @param {number} time - seconds since 1970
   * @returns {number}
   */
  indexOf(time) {
    const times = this.columns[TIME];
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Time of the last row, seconds since 1970; NaN where there is none. */
  get lastTime() {
    return this.count ? this.columns[TIME][this.count - 1] : NaN;
  }
}
