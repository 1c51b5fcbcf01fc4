// The page's half of StoreBrowser: a row for each stream, a column for each day.

const CELL = 16;
const ROW = 18;
const TOP = 22;
const LEFT = 6;
const LEVELS = 5;
/** Milliseconds a kernel may take to say that it knows of a pick. */
const SILENT = 5000;

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

const count = new Intl.NumberFormat("en-US");

function time(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.round((seconds % 3600) / 60);
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds.toFixed(0)} s`;
}

function render({ model, el }) {
  const root = element("div", "ibt-store", el);
  const head = element("div", "ibt-store-head", root);
  element("span", "ibt-store-title", head, "Store");
  const about = element("span", "", head);
  const legend = element("span", "ibt-store-legend", head, "fewer ");
  for (let level = 1; level <= LEVELS; level++) {
    element("i", "", legend).style.cssText = `background: var(--ibt-fill); opacity: ${0.18 + (0.82 * level) / LEVELS}`;
  }
  legend.append("more ticks");
  element("i", "", legend).style.background = "var(--ibt-gap)";
  legend.append("gap");
  const grid = element("div", "ibt-store-grid", root);
  const names = element("div", "ibt-store-names", grid);
  const canvas = element("canvas", "", grid);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "grid");
  canvas.setAttribute("aria-label", "ticks by stream and day; arrow keys move, Enter selects");
  const foot = element("div", "ibt-store-foot", root);
  foot.setAttribute("aria-live", "polite");
  // ipywidgets marks what it has made without a kernel.
  let alone = el.classList.contains("jupyter-widgets-disconnected");
  let answer = 0;
  let at = null;
  let cells = [];

  const colour = (key) => getComputedStyle(root).getPropertyValue(key).trim();

  function read() {
    const rows = model.get("rows");
    cells = rows.map((row) => new Map(row.days.map((day, i) => [day, [row.ticks[i], row.gaps[i]]])));
    names.replaceChildren(...rows.map((row) => {
      const line = element("div", "", null, row.symbol);
      element("span", "", line, row.tick_type);
      return line;
    }));
    const days = model.get("days");
    about.textContent = rows.length ? `${rows.length} streams · ${days.length} days · ${count.format(rows.reduce((sum, row) => sum + row.ticks.reduce((a, b) => a + b, 0), 0))} ticks` : "nothing stored yet";
    draw();
    grid.scrollLeft = grid.scrollWidth;
  }

  function draw() {
    const rows = model.get("rows");
    const days = model.get("days");
    const width = LEFT + Math.max(days.length, 1) * CELL + LEFT;
    const height = TOP + rows.length * ROW + 4;
    const ratio = devicePixelRatio;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.cssText = `width:${width}px;height:${height}px;flex:none`;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    ctx.font = "10px system-ui, sans-serif";
    ctx.fillStyle = colour("--ibt-dim");
    let free = 0;
    days.forEach((day, column) => {
      const x = LEFT + column * CELL;
      if (x < free || (column && days[column - 1].slice(0, 7) === day.slice(0, 7))) return;
      const text = new Date(`${day}T00:00Z`).toLocaleDateString("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
      ctx.fillText(text, x, 14);
      free = x + ctx.measureText(text).width + 8;
    });
    const most = Math.log1p(Math.max(1, ...rows.flatMap((row) => row.ticks)));
    rows.forEach((row, line) => {
      days.forEach((day, column) => {
        const [x, y] = [LEFT + column * CELL, TOP + line * ROW + 2];
        const [ticks, gap] = cells[line].get(column) ?? [0, 0];
        ctx.globalAlpha = ticks ? 0.18 + 0.82 * Math.ceil((LEVELS * Math.log1p(ticks)) / most) / LEVELS : 0.07;
        ctx.fillStyle = ticks ? colour("--ibt-fill") : colour("--ibt-dim");
        ctx.fillRect(x, y, CELL - 2, ROW - 4);
        if (gap > 0) {
          ctx.globalAlpha = 1;
          ctx.fillStyle = colour("--ibt-gap");
          ctx.fillRect(x, y + ROW - 7, Math.max(2, (CELL - 2) * Math.min(gap / 86400, 1)), 3);
        }
      });
    });
    ctx.globalAlpha = 1;
    const picked = model.get("picked");
    outline(ctx, rows.findIndex((row) => row.contract_id === picked.contract_id && row.tick_type === picked.tick_type), days.indexOf(picked.date), "--ibt-text", 2);
    if (at) outline(ctx, at[0], at[1], "--ibt-dim", 1);
  }

  function outline(ctx, line, column, key, width) {
    if (line < 0 || column < 0) return;
    ctx.strokeStyle = colour(key);
    ctx.lineWidth = width;
    ctx.strokeRect(LEFT + column * CELL - 0.5, TOP + line * ROW + 1.5, CELL - 1, ROW - 3);
  }

  function tell() {
    const rows = model.get("rows");
    const days = model.get("days");
    const picked = model.get("picked");
    const [line, column] = at ?? [rows.findIndex((row) => row.contract_id === picked.contract_id && row.tick_type === picked.tick_type), days.indexOf(picked.date)];
    const row = rows[line];
    root.classList.toggle("ibt-store-alone", alone);
    if (alone && !at) {
      foot.textContent = "No kernel answers: run the cell again to select a day.";
      return;
    }
    if (!row || column < 0) {
      foot.textContent = "A click selects a day of a stream: it is browser.selection then.";
      return;
    }
    const [ticks, gap] = cells[line]?.get(column) ?? [0, 0];
    foot.textContent = `${row.symbol} ${row.tick_type} · ${days[column]} · ${count.format(ticks)} ticks${gap > 0 ? ` · ${time(gap)} missing` : ""}`;
  }

  function under(event) {
    const line = Math.floor((event.offsetY - TOP) / ROW);
    const column = Math.floor((event.offsetX - LEFT) / CELL);
    return line >= 0 && line < model.get("rows").length && column >= 0 && column < model.get("days").length ? [line, column] : null;
  }

  function pick(place) {
    if (!place) return;
    const row = model.get("rows")[place[0]];
    const date = model.get("days")[place[1]];
    const picked = model.get("picked");
    if (picked.date === date && picked.contract_id === row.contract_id && picked.tick_type === row.tick_type) return;
    clearTimeout(answer);
    answer = setTimeout(end, SILENT);
    model.set("picked", { contract_id: row.contract_id, tick_type: row.tick_type, date });
    model.save_changes();
  }

  canvas.onmousemove = (event) => { at = under(event); draw(); tell(); };
  canvas.onmouseleave = () => { at = null; draw(); tell(); };
  canvas.onclick = (event) => pick(under(event));
  canvas.onkeydown = (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [down, right] = steps[event.key] ?? [];
    if (down !== undefined) {
      const [line, column] = at ?? [0, model.get("days").length - 1 - right];
      at = [
        Math.min(Math.max(line + down, 0), model.get("rows").length - 1),
        Math.min(Math.max(column + right, 0), model.get("days").length - 1),
      ];
      draw();
      tell();
    } else if (event.key === "Enter") {
      pick(at);
    } else {
      return;
    }
    event.preventDefault();
  };
  const end = () => { alone = true; at = null; again(); };
  const hear = () => { clearTimeout(answer); alone = false; again(); };
  const again = () => { draw(); tell(); };
  model.on("change:rows change:days", read);
  model.on("change:picked", again);
  model.on("comm_live_update", end);
  model.on("msg:custom", hear);
  // Only once it stands on the page are its colours and its width known.
  const observer = new ResizeObserver(read);
  observer.observe(root);
  tell();
  return () => {
    observer.disconnect();
    model.off("change:rows change:days", read);
    model.off("change:picked", again);
    model.off("comm_live_update", end);
    model.off("msg:custom", hear);
    clearTimeout(answer);
  };
}

export default { render };
