/* The status page: it asks for the overview every few seconds while it is visible. */

const UPDATE_MS = 2000;
const GOOD_STATES = new Set(["captured", "session_closed", "stored"]);

const element = (name) => document.getElementById(name);

function format(number) {
  return number.toLocaleString("en-US");
}

function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
  return `${bytes.toFixed(unit && bytes < 100 ? 1 : 0)} ${units[unit]}`;
}

/* Set a text only where it differs: a screen reader would announce it again. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function cell(text, className = "") {
  const made = document.createElement("td");
  made.className = className;
  made.textContent = text;
  return made;
}

function dayClass(day) {
  if (day.missing > 0.01) return "missing";
  if (day.captured > 0) return "captured";
  return day.ticks ? "ticks" : "";
}

function dayText(day) {
  const parts = [day.date, `${format(day.ticks)} ticks`];
  if (day.captured) parts.push(`${Math.round(100 * day.captured)} % captured`);
  if (day.missing) parts.push(`${Math.round(100 * day.missing)} % missing`);
  return parts.join(", ");
}

function daysCell(days) {
  const made = cell("");
  const list = document.createElement("div");
  list.className = "days";
  for (const day of days) {
    const mark = document.createElement("i");
    mark.className = dayClass(day);
    mark.title = dayText(day);
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", dayText(day));
    list.append(mark);
  }
  made.append(list);
  return made;
}

function streamRow(stream) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = stream.symbol || String(stream.contract_id);
  const state = cell(stream.state.replaceAll("_", " "), GOOD_STATES.has(stream.state) ? "good" : "bad");
  state.title = stream.reason;
  row.append(
    name,
    cell(stream.tick_type),
    state,
    cell(format(stream.ticks), "number"),
    cell(formatBytes(stream.bytes), "number"),
    cell((stream.last_tick ?? "–").slice(0, 19).replace("T", " ")),
    cell(stream.lag_seconds === null ? "–" : `${stream.lag_seconds.toFixed(1)} s`, "number"),
    daysCell(stream.days),
  );
  return row;
}

function clientRow(stream) {
  const row = document.createElement("tr");
  row.append(
    cell(stream.contract_ids.join(", ")),
    cell(stream.tick_types.join(", ")),
    cell(format(stream.clients), "number"),
    cell(format(stream.ticks), "number"),
  );
  return row;
}

function emptyRow(text) {
  const row = document.createElement("tr");
  const only = cell(text);
  only.colSpan = 8;
  row.append(only);
  return row;
}

function fill(table, rows, empty) {
  const body = element(table).tBodies[0];
  const made = document.createElement("tbody");
  made.append(...(rows.length ? rows : [emptyRow(empty)]));
  if (body.innerHTML !== made.innerHTML) body.replaceWith(made);
}

function captureText(capture) {
  if (!capture.running) return capture.enabled ? "The capture does not run." : "No capture.";
  const state = capture.tws_connected ? "connected" : "not connected";
  return `The capture runs, ${state}: ${format(capture.total_streams)} streams.`;
}

function showFigures(overview) {
  const { storage, capture } = overview;
  const figures = {
    ticks: format(storage.ticks),
    files: format(storage.files),
    size: formatBytes(storage.bytes),
    free: formatBytes(storage.free_bytes),
    "ticks/s": format(capture.ticks_per_second ?? 0),
    index: overview.index_connected ? "connected" : "not reachable",
  };
  const items = Object.entries(figures).map(([name, text]) => {
    const group = document.createElement("div");
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    group.append(term, value);
    return group;
  });
  element("figures").replaceChildren(...items);
}

function show(overview) {
  const { capture } = overview;
  setText(element("version"), overview.version);
  setText(element("state"), captureText(capture));
  element("state").className = capture.running && !capture.tws_connected ? "bad" : "";
  setText(element("problem"), capture.running ? (capture.last_problem ?? "") : "");
  element("problem").hidden = !element("problem").textContent;
  showFigures(overview);
  const days = overview.streams[0]?.days;
  setText(element("days-title"), days ? `${days[0].date} to ${days.at(-1).date}` : "days");
  fill("streams", overview.streams.map(streamRow), "No ticks are stored.");
  fill("clients", overview.clients.map(clientRow), "No client reads a live stream.");
}

async function update() {
  try {
    const response = await fetch("status/overview");
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch {
    setText(element("state"), "The service does not answer.");
    element("state").className = "bad";
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await update();
    await new Promise((resolve) => setTimeout(resolve, UPDATE_MS));
  }
}

document.addEventListener("visibilitychange", () => document.hidden || update());
run();
