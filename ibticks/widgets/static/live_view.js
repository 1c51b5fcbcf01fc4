// The page's half of LiveView. It keeps the moments of the window, asks for all of them when it
// begins or finds one missing, and draws once a frame, however often it is told something.

const NAMES = ["time", "bid", "ask", "mid", "last", "low", "high", "volume"];
const [TIME, BID, ASK, MID, LAST, LOW, HIGH, VOLUME] = NAMES.keys();
const WINDOWS = [[30, "30s"], [60, "1m"], [300, "5m"], [900, "15m"], [3600, "1h"], [14400, "4h"], [86400, "1d"]];
const SHOWN = [["bid_ask", "Bid / ask", "--ibt-bid"], ["mid", "Mid", "--ibt-mid"], ["last", "Last", "--ibt-last"], ["volume", "Volume", "--ibt-dim"]];
/** Few decimals for what is large, enough for what is small. */
const brief = (value, unit) => `${Math.abs(value) >= 0.1 || value === 0 ? value.toFixed(1) : value.toPrecision(1)} ${unit}`;
const TAPE_ROWS = 200;
/** Milliseconds without a word, of a kernel that speaks every second. */
const SILENT = 5000;
const AXIS = 74;

/** A growing table of numbers, of which the oldest rows are forgotten. */
class Rows {
  constructor(width) {
    this.columns = Array.from({ length: width }, () => new Float64Array(1024));
    this.reset(0);
  }

  reset(base) {
    this.base = base;
    this.n = 0;
  }

  /** Replace what is at and after row `first` by the columns of `block`, `n` numbers each. */
  put(first, block, n, most) {
    this.n = Math.max(0, Math.min(this.n, first - this.base));
    const total = this.n + n;
    if (total > this.columns[0].length) {
      this.columns = this.columns.map((column) => {
        const room = new Float64Array(2 * total);
        room.set(column.subarray(0, this.n));
        return room;
      });
    }
    this.columns.forEach((column, i) => column.set(block.subarray(i * n, (i + 1) * n), this.n));
    this.n = total;
    if (this.n > 2 * most) {
      const gone = this.n - most;
      this.columns.forEach((column) => column.copyWithin(0, gone, this.n));
      this.base += gone;
      this.n = most;
    }
  }

  /** The index of the first row whose time is not before `time`. */
  from(time) {
    const times = this.columns[TIME];
    let low = 0;
    let high = this.n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

/** The bytes of a message as numbers; they may lie at an odd address, and so are copied. */
function numbers(buffer) {
  if (!buffer) return new Float64Array(0);
  const { buffer: bytes, byteOffset, byteLength } = buffer;
  return new Float64Array(bytes.slice(byteOffset, byteOffset + byteLength));
}

function clock(zone) {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
  });
  return (seconds, digits) => {
    const text = format.format(new Date(seconds * 1000));
    return digits ? text : text.slice(0, 8);
  };
}

const known = (value) => value !== undefined && Number.isFinite(value);
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const amount = new Intl.NumberFormat("en-US", { maximumFractionDigits: 4 });

function render({ model, el }) {
  el.classList.add("ibt-frame");
  const root = element("div", "ibt-live", el);
  const rows = new Rows(NAMES.length);
  let tape = [];
  let facts = {};
  let seq = -1;
  let waiting = true;
  let heard = performance.now();
  // ipywidgets marks what it has made without a kernel.
  let alone = el.classList.contains("jupyter-widgets-disconnected");
  let frame = 0;
  let frozen = null;
  let zoomed = null;
  let previous = NaN;
  let said = clock(model.get("tz"));

  // ---- the head ----
  const head = element("div", "ibt-head", root);
  const name = element("span", "ibt-name", head);
  const picker = element("select", "", name);
  picker.setAttribute("aria-label", "contract");
  const last = element("span", "ibt-last", head, "–");
  const labels = {};
  for (const [key, text] of [["change", "Change"], ["bid", "Bid"], ["ask", "Ask"], ["spread", "Spread"], ["rate", "Ticks/s"], ["ticks", "Ticks"], ["time", model.get("tz")], ["age", "Last tick ago"]]) {
    const fact = element("span", "ibt-fact", head);
    const title = element("span", "", fact, text);
    labels[key] = element("span", key === "bid" || key === "ask" ? `ibt-${key}` : "", fact, "–");
    labels[key].heading = title;
  }

  // ---- the controls ----
  const bar = element("div", "ibt-bar", root);
  const pause = element("button", "ibt-pause", element("span", "ibt-group", bar), "❚❚ Pause");
  const windows = element("span", "ibt-group", bar);
  windows.setAttribute("aria-label", "window");
  const windowButtons = WINDOWS.map(([seconds, text]) => {
    const button = element("button", "", windows, text);
    button.dataset.window = seconds;
    button.onclick = () => {
      model.set("window", seconds);
      model.set("paused", false);
      model.save_changes();
    };
    return button;
  });
  const series = element("span", "ibt-group", bar);
  const seriesButtons = SHOWN.map(([key, text, colour]) => {
    const button = element("button", "", series);
    button.dataset.series = key;
    const swatch = element("span", "ibt-swatch", button);
    swatch.style.color = `var(${colour})`;
    button.append(text);
    button.onclick = () => {
      const shown = model.get("shown");
      model.set("shown", shown.includes(key) ? shown.filter((one) => one !== key) : [...shown, key]);
      model.save_changes();
    };
    return button;
  });
  const badge = element("span", "ibt-badge", bar, "…");
  badge.setAttribute("role", "status");

  const note = element("div", "ibt-note", root);

  // ---- the body ----
  const body = element("div", "ibt-body", root);
  const charts = element("div", "ibt-charts", body);
  const readout = element("div", "ibt-readout", charts);
  const side = element("div", "ibt-tape", body);
  const table = element("table", "", side);
  const titles = element("tr", "", element("thead", "", table));
  const [clockTitle] = [`Time ${model.get("tz")}`, "Price", "Size"].map((text) => element("th", "", titles, text));
  const lines = element("tbody", "", table);
  const empty = element("div", "ibt-empty", side, "No trade yet.");

  pause.onclick = () => {
    model.set("paused", !model.get("paused"));
    model.save_changes();
  };
  picker.onchange = () => {
    model.set("contract", Number(picker.value));
    model.set("paused", false);
    model.save_changes();
  };

  // ---- the charts ----
  const colour = (key) => getComputedStyle(root).getPropertyValue(key).trim() || "#888";
  const sync = uPlot.sync(model.model_id ?? Math.random().toString(36));
  const price = (value) => {
    const decimals = facts.decimals ?? 2;
    const format = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    return known(value) ? value.toLocaleString("en-US", format) : "–";
  };
  const visible = (key) => model.get("shown").includes(key);
  const axis = () => ({
    stroke: () => colour("--ibt-dim"),
    grid: { stroke: () => colour("--ibt-grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  });
  const times = (withText) => ({
    ...axis(),
    size: withText ? 28 : 6,
    space: 90,
    values: (u, splits, i, space, step) => splits.map((at) => (withText ? said(at, step < 1).slice(0, step < 1 ? 12 : step < 60 ? 8 : 5) : "")),
  });

  /** Only steps that the shown decimals can tell apart. */
  function steps() {
    const least = -(facts.decimals ?? 2);
    return Array.from({ length: 3 * (8 - least) }, (_, i) => [1, 2, 5][i % 3] * 10 ** (least + Math.floor(i / 3)));
  }

  /** The lowest and highest of what is shown between two times. */
  function extent(u) {
    const [from, to] = u.series[0].idxs ?? [0, 0];
    let low = Infinity;
    let high = -Infinity;
    const take = (values) => {
      for (let i = from; i <= to; i++) {
        const value = values[i];
        if (value === value && value !== null) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    };
    if (visible("bid_ask")) { take(u.data[1]); take(u.data[2]); }
    if (visible("mid")) take(u.data[3]);
    if (visible("last") && u.bounds) { take(u.bounds[0]); take(u.bounds[1]); }
    return [low, high];
  }

  function range(u) {
    let [low, high] = extent(u);
    if (!(low <= high)) return [0, 1];
    const pad = (high - low) * 0.08 || Math.abs(high) * 1e-4 || 1;
    return [low - pad, high + pad];
  }

  function drawUnder(u) {
    const { ctx, bbox } = u;
    if (!known(facts.live_from)) return;
    const x = u.valToPos(facts.live_from, "x", true);
    const right = Math.min(Math.max(x, bbox.left), bbox.left + bbox.width);
    ctx.save();
    ctx.fillStyle = colour("--ibt-dim");
    ctx.globalAlpha = 0.07;
    ctx.fillRect(bbox.left, bbox.top, right - bbox.left, bbox.height);
    ctx.restore();
  }

  function drawOver(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (visible("last") && u.bounds) {
      const [lows, highs] = u.bounds;
      const lasts = u.data[4];
      const [from, to] = u.series[0].idxs ?? [0, -1];
      ctx.strokeStyle = ctx.fillStyle = colour("--ibt-last");
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([]);
      const spans = new Path2D();
      const dots = new Path2D();
      // Where many trades stand side by side, their dots are smaller.
      let trades = 0;
      for (let i = from; i <= to; i++) if (lasts[i] === lasts[i] && lasts[i] !== null) trades += 1;
      const dot = Math.min(2.4, Math.max(0.9, u.width / (5 * trades + 1))) * ratio;
      for (let i = from; i <= to; i++) {
        if (!(lasts[i] === lasts[i]) || lasts[i] === null) continue;
        const x = u.valToPos(u.data[0][i], "x", true);
        if (highs[i] > lows[i]) {
          spans.moveTo(x, u.valToPos(lows[i], "y", true));
          spans.lineTo(x, u.valToPos(highs[i], "y", true));
        }
        const y = u.valToPos(lasts[i], "y", true);
        dots.moveTo(x + dot, y);
        dots.arc(x, y, dot, 0, 2 * Math.PI);
      }
      ctx.globalAlpha = 0.55;
      ctx.stroke(spans);
      ctx.globalAlpha = 1;
      ctx.fill(dots);
    }
    if (known(facts.live_from)) {
      const x = u.valToPos(facts.live_from, "x", true);
      if (x > bbox.left && x < bbox.left + bbox.width) {
        ctx.strokeStyle = ctx.fillStyle = colour("--ibt-up");
        ctx.lineWidth = ratio;
        ctx.setLineDash([4 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textBaseline = "top";
        ctx.fillText("new", x + 4 * ratio, bbox.top + 3 * ratio);
        ctx.fillStyle = colour("--ibt-dim");
        ctx.textAlign = "right";
        ctx.fillText("buffer", x - 4 * ratio, bbox.top + 3 * ratio);
      }
    }
    ctx.restore();
    const at = known(facts.last) && visible("last") ? facts.last : facts.mid;
    if (!known(at)) return;
    const y = u.valToPos(at, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.save();
    const tone = known(facts.last) && visible("last") ? colour("--ibt-last") : colour("--ibt-mid");
    ctx.strokeStyle = ctx.fillStyle = tone;
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    const left = bbox.left + bbox.width + 2 * ratio;
    ctx.fillRect(left, y - 8 * ratio, (AXIS - 6) * ratio, 16 * ratio);
    ctx.fillStyle = "#fff";
    ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.fillText(price(at), left + 5 * ratio, y);
    ctx.restore();
  }

  const cursor = { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { show: false } };
  const step = uPlot.paths.stepped({ align: 1 });
  const chart = new uPlot({
    width: 600, height: 300, ms: 1e-3, legend: { show: false }, cursor, padding: [8, 0, 0, 0],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), model.get("tz")),
    scales: { x: { time: true, auto: false }, y: { auto: true, range } },
    axes: [times(false), { ...axis(), side: 1, size: AXIS, incrs: steps, values: (u, splits) => splits.map(price) }],
    bands: [{ series: [2, 1], fill: () => `color-mix(in srgb, ${colour("--ibt-bid")} 9%, transparent)` }],
    series: [
      {},
      { stroke: () => colour("--ibt-bid"), width: 1.4, paths: step, points: { show: false } },
      { stroke: () => colour("--ibt-ask"), width: 1.4, paths: step, points: { show: false } },
      { stroke: () => colour("--ibt-mid"), width: 1, dash: [2, 2], paths: step, points: { show: false } },
      { stroke: () => colour("--ibt-last"), paths: () => null, points: { show: false } },
    ],
    hooks: {
      drawClear: [drawUnder],
      draw: [drawOver],
      setCursor: [tell],
      setSelect: [zoom],
    },
  }, [[], [], [], [], []], charts);
  const volumes = new uPlot({
    width: 600, height: 90, ms: 1e-3, legend: { show: false }, cursor, padding: [4, 0, 0, 0],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), model.get("tz")),
    scales: { x: { time: true, auto: false }, y: { range: (u, low, high) => [0, (high || 1) * 1.05] } },
    axes: [times(true), { ...axis(), side: 1, size: AXIS, space: 26, values: (u, splits) => splits.map((at) => short.format(at)) }],
    series: [{}, {
      stroke: () => colour("--ibt-last"), fill: () => `color-mix(in srgb, ${colour("--ibt-last")} 55%, transparent)`, width: 0,
      paths: uPlot.paths.bars({ align: 1, size: [0.85, 60] }), points: { show: false },
    }],
    hooks: { drawClear: [drawUnder], setSelect: [zoom] },
  }, [[], []], charts);

  /** What stands under the pointer. */
  function tell(u) {
    const at = u.cursor.idx;
    if (at === null || at === undefined || !(at < u.data[0].length)) {
      readout.textContent = "";
      return;
    }
    const parts = [said(u.data[0][at], true)];
    ["bid", "ask", "mid", "last"].forEach((key, i) => {
      if (known(u.data[i + 1][at]) && u.data[i + 1][at] !== null) parts.push(`${key} ${price(u.data[i + 1][at])}`);
    });
    readout.textContent = parts.join("   ");
  }

  /** A stretch drawn with the mouse is looked at closely, and so held still; a click on Resume goes on. */
  function zoom(u) {
    if (u.select.width < 4) return;
    const from = u.posToVal(u.select.left, "x");
    const to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (!model.get("paused")) {
      model.set("paused", true);
      model.save_changes();
    }
    zoomed = { min: from, max: to };
    for (const one of [chart, volumes]) one.setScale("x", zoomed);
  }

  // ---- drawing ----
  function binned(times_, sizes, seconds) {
    const width = seconds / 120;
    const at = [];
    const sums = [];
    for (let i = 0; i < times_.length; i++) {
      if (!(sizes[i] > 0)) continue;
      const bin = Math.floor(times_[i] / width) * width;
      if (at.length && at[at.length - 1] === bin) sums[sums.length - 1] += sizes[i];
      else { at.push(bin); sums.push(sizes[i]); }
    }
    return [at, sums];
  }

  function drawCharts() {
    const seconds = model.get("window");
    const end = axisEnd();
    // One row before the window, for the lines that come into it from there.
    const from = Math.max(rows.from(end - seconds) - 1, 0);
    const scale = zoomed ?? { min: end - seconds, max: end + seconds * 0.02 };
    const part = rows.columns.map((column) => column.slice(from, rows.n));
    const gaps = (values) => (values.some((value) => value !== value) ? Array.from(values, (value) => (value === value ? value : null)) : values);
    chart.bounds = [part[LOW], part[HIGH]];
    chart.batch(() => {
      chart.setData([part[TIME], gaps(part[BID]), gaps(part[ASK]), gaps(part[MID]), gaps(part[LAST])], false);
      chart.setScale("x", scale);
    });
    volumes.batch(() => {
      volumes.setData(binned(part[TIME], part[VOLUME], seconds), false);
      volumes.setScale("x", scale);
    });
  }

  /** Now, by the clock of the kernel: the page may lie on another machine. */
  function kernelNow() {
    return known(facts.now) ? facts.now + (performance.now() - heard) / 1000 : Date.now() / 1000;
  }

  /** The last tick that is known: of the store, which may be later than what is drawn, or drawn. */
  function lastTick() {
    const drawn = rows.n ? rows.columns[TIME][rows.n - 1] : NaN;
    return Math.max(known(facts.last_tick) && !(facts.last_tick < drawn) ? facts.last_tick : drawn, -Infinity);
  }

  /**
   * Where the axis ends: it goes on with the clock while ticks may come. A feed that nobody
   * captures, or of a closed market, stays in sight: the axis stops a window after its last tick.
   */
  function axisEnd() {
    const drawn = rows.n ? rows.columns[TIME][rows.n - 1] : NaN;
    const now = kernelNow();
    if (!known(drawn)) return now;
    const over = ["no capture", "closed", "ended", "buffer"].includes(facts.state);
    return over && now - drawn > model.get("window") ? drawn : Math.max(now, drawn);
  }

  /** A length of time in its largest unit. */
  function lasting(seconds) {
    const units = [[86400, "d"], [3600, "h"], [60, "min"]];
    const [size, unit] = units.find(([least]) => seconds >= 2 * least) ?? [1, "s"];
    return `${size === 1 && seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds / size)} ${unit}`;
  }

  /** A time with its zone, and its day where that is not the kernel's. */
  function stamp(seconds) {
    const zone = model.get("tz");
    const day = (at) => new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(new Date(at * 1000));
    const date = day(seconds) === day(kernelNow()) ? "" : `${day(seconds)} `;
    return `${date}${said(seconds)} ${zone}`;
  }

  /** What is to be said of streams that are not live. */
  function feedWords() {
    const streams = facts.streams ?? [];
    return streams.filter((one) => one.condition !== "live").map((one) => {
      const code = one.code === null ? "" : ` (${one.code})`;
      const since = one.since === null ? "" : ` since ${stamp(one.since)}`;
      const opens = one.next_open === null ? "" : `, opens at ${stamp(one.next_open)}`;
      const reason = one.reason && one.next_open === null ? ` – ${one.reason}` : "";
      return `${one.tick_type}: ${one.condition}${code}${since}${opens}${reason}`;
    }).join(" · ");
  }

  /** What goes on while no tick comes: the age of the last one. */
  function drawAge() {
    const at = lastTick();
    const age = Math.max(kernelNow() - at, 0);
    labels.age.textContent = known(at) ? lasting(age) : "–";
    root.dataset.age = known(at) ? age : "";
    root.dataset.end = axisEnd();
  }

  function drawTape() {
    const room = Math.max(1, Math.floor((side.clientHeight - 28) / 19));
    const trades = tape.slice(-room).reverse();
    empty.style.display = trades.length ? "none" : "";
    while (lines.rows.length < trades.length) {
      const row = lines.insertRow();
      for (let i = 0; i < 3; i++) row.insertCell();
    }
    while (lines.rows.length > trades.length) lines.deleteRow(-1);
    trades.forEach(([at, paid, size, sign], i) => {
      const { cells } = lines.rows[i];
      cells[0].textContent = said(at, true);
      cells[1].textContent = price(paid);
      cells[1].className = sign > 0 ? "ibt-up" : sign < 0 ? "ibt-down" : "";
      cells[2].textContent = amount.format(size);
    });
  }

  function drawHead() {
    const value = known(facts.last) ? facts.last : facts.mid;
    last.textContent = price(value);
    if (value !== previous) {
      last.className = `ibt-last ${value > previous ? "ibt-up" : value < previous ? "ibt-down" : ""}`;
      previous = value;
    }
    const change = known(facts.close) && facts.close !== null ? value - facts.close : NaN;
    const share = facts.close > 0 ? ` (${change > 0 ? "+" : ""}${((100 * change) / facts.close).toFixed(2)}%)` : "";
    labels.change.textContent = known(change) ? `${change > 0 ? "+" : ""}${price(change)}${share}` : "–";
    labels.change.heading.textContent = facts.close_day ? `Change from close ${facts.close_day}` : "Change of the day";
    labels.change.parentElement.title = facts.close_name ?? "";
    labels.change.className = change > 0 ? "ibt-up" : change < 0 ? "ibt-down" : "";
    labels.bid.textContent = known(facts.bid) ? `${price(facts.bid)} × ${amount.format(facts.bid_size ?? 0)}` : "–";
    labels.ask.textContent = known(facts.ask) ? `${price(facts.ask)} × ${amount.format(facts.ask_size ?? 0)}` : "–";
    const spread = facts.ask - facts.bid;
    labels.spread.textContent = known(spread) ? `${price(spread)} (${brief((1e4 * spread) / ((facts.ask + facts.bid) / 2), "bp")})` : "–";
    labels.rate.textContent = known(facts.rate) && !problem() ? facts.rate.toFixed(facts.rate < 10 ? 1 : 0) : "–";
    labels.ticks.textContent = known(facts.ticks) ? facts.ticks.toLocaleString("en-US") : "–";
    labels.time.textContent = known(facts.time) ? said(facts.time, true) : "–";
  }

  /** What is wrong with the line to the kernel, if anything is: a state, and words. */
  function problem() {
    if (alone) return ["no kernel", `${seq < 0 ? "Not connected to a kernel" : "The kernel of this view has ended"}: run the cell again.`];
    const seconds = Math.floor((performance.now() - heard) / 1000);
    if (facts.state !== "failed" && seconds * 1000 >= SILENT) return ["no answer", `The kernel has not answered for ${seconds} s. If it was started anew, run the cell again.`];
    return null;
  }

  function draw() {
    frame = 0;
    const paused = model.get("paused");
    const told = facts.state === "live" && paused ? "paused" : facts.state ?? "waiting";
    const about = facts.problem ?? (facts.state === "buffer" ? "" : feedWords());
    const [state, words] = problem() ?? [told, about];
    root.dataset.state = state;
    badge.textContent = state.toUpperCase();
    if (note.textContent !== words) note.textContent = words;
    drawAge();
    if (!paused || frozen !== rows) {
      drawCharts();
      drawHead();
      drawTape();
      frozen = paused ? rows : null;
      if (known(facts.last)) root.dataset.last = facts.last;
      if (known(facts.time)) root.dataset.time = facts.time;
      root.dataset.n = facts.ticks ?? 0;
    }
    root.dataset.seq = seq;
    root.dataset.moments = rows.n;
  }

  function redraw() {
    if (!frame) frame = requestAnimationFrame(draw);
  }

  // ---- what the kernel says ----
  function hear(message, buffers) {
    if (message.type === "failed") {
      facts = { ...facts, state: "failed", problem: message.problem };
      redraw();
      return;
    }
    if (message.type === "reset") {
      rows.reset(message.first);
      tape = [];
      frozen = null;
      waiting = false;
    } else if (waiting) {
      return;
    } else if (message.seq !== seq + 1) {
      hello();
      return;
    }
    seq = message.seq;
    heard = performance.now();
    rows.put(message.first, numbers(buffers[0]), message.moments, message.most);
    const trades = numbers(buffers[1]);
    for (let i = 0; i + 3 < trades.length; i += 4) tape.push(trades.subarray(i, i + 4));
    if (tape.length > 2 * TAPE_ROWS) tape = tape.slice(-TAPE_ROWS);
    facts = { ...facts, ...message.facts };
    redraw();
  }

  function hello() {
    waiting = true;
    if (!alone) model.send({ type: "hello" });
  }

  function show() {
    const paused = model.get("paused");
    if (!paused) zoomed = null;
    pause.textContent = paused ? "▶ Resume" : "❚❚ Pause";
    pause.setAttribute("aria-pressed", paused);
    for (const button of windowButtons) button.setAttribute("aria-pressed", Number(button.dataset.window) === model.get("window"));
    for (const button of seriesButtons) button.setAttribute("aria-pressed", visible(button.dataset.series));
    chart.batch(() => {
      chart.setSeries(1, { show: visible("bid_ask") });
      chart.setSeries(2, { show: visible("bid_ask") });
      chart.setSeries(3, { show: visible("mid") });
      chart.setSeries(4, { show: visible("last") });
    });
    volumes.root.style.display = visible("volume") ? "" : "none";
    const contracts = model.get("contracts");
    picker.replaceChildren(...contracts.map(([id, symbol]) => {
      const option = element("option", "", null, symbol);
      option.value = id;
      return option;
    }));
    picker.value = model.get("contract");
    picker.disabled = contracts.length < 2;
    picker.classList.toggle("ibt-alone", contracts.length < 2);
    frozen = paused ? frozen : null;
    fit();
    redraw();
  }

  function fit() {
    const width = Math.max(charts.clientWidth - 6, 200);
    const whole = model.get("height");
    const low = visible("volume") ? Math.round(whole * 0.25) : 0;
    chart.setSize({ width, height: whole - low - (low ? 0 : 24) });
    if (low) volumes.setSize({ width, height: low });
    side.style.height = `${whole + 8}px`;
  }

  const observer = new ResizeObserver(() => { fit(); redraw(); });
  observer.observe(root);
  const retime = () => { said = clock(model.get("tz")); labels.time.heading.textContent = model.get("tz"); clockTitle.textContent = `Time ${model.get("tz")}`; redraw(); };
  model.on("msg:custom", hear);
  model.on("change:paused change:window change:shown change:contract change:contracts change:height", show);
  model.on("change:tz", retime);
  show();
  hello();
  const watch = setInterval(() => {
    // A page that is loaded again can ask before the kernel listens, or listen after it has answered.
    if (waiting) hello();
    redraw(); // the age of the last tick and the axis go on
  }, 1000);
  const end = () => { alone = true; redraw(); };
  model.on("comm_live_update", end);

  return () => {
    clearInterval(watch);
    model.off("comm_live_update", end);
    model.off("msg:custom", hear);
    model.off("change:paused change:window change:shown change:contract change:contracts change:height", show);
    model.off("change:tz", retime);
    observer.disconnect();
    cancelAnimationFrame(frame);
    chart.destroy();
    volumes.destroy();
  };
}

export default { render };
