"use strict";
/* Draws what the page's data says. Names reach the page through textContent or `safe`, never as markup. */
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement, CATEGORIES = ["parameters", "buffers", "inputs", "activations", "gradients",
  "activation_gradients", "optimizer_state", "optimizer_temporaries", "workspace", "communication", "unattributed"];
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const MEASURES = [["kept for backward", 1, "activations"], ["parameters", 0, "parameters"],
  ["gradients", 2, "gradients"], ["optimizer state", 3, "optimizer_state"], ["all of these", -1, "buffers"]];
const ROWS_AT_FIRST = 100;
const state = {pass: data.passes.length - 1, range: "steady", axis: "time", measure: 0, table: "modules",
  sort: null, filter: "", all: false, pinned: null};
const $ = id => document.getElementById(id);
const safe = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
/* ties to even, as Python rounds them, so that one figure reads alike wherever it stands */
const number = (value, digits) =>
  value.toLocaleString("en-US", {minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven"});
const inUnit = (bytes, power) => power === 0 ? `${number(bytes, 0)} B` : `${number(bytes / 1024 ** power, 1)} ${UNITS[power]}`;
function size(bytes) {
  if (Math.abs(bytes) < 1024) return inUnit(bytes, 0);
  if (data.power === 0 || Math.abs(bytes) / 1024 ** data.power >= 0.05) return inUnit(bytes, data.power);
  let power = 0;
  while (power + 1 < UNITS.length && Math.abs(bytes) >= 1024 ** (power + 1)) power++;
  return inUnit(bytes, power);
}
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const colour = category => data.paints[category][isDark() ? "dark" : "colour"];
const variable = name => getComputedStyle(root).getPropertyValue(name).trim();

/* -- the timeline, unpacked: each series is told only where it changes -- */
function spread(places, levels, count) {
  const column = new Array(count);
  for (let i = 0, next = 0, level = 0; i < count; i++) {
    if (next < places.length && places[next] === i) level = levels[next++];
    column[i] = level;
  }
  return column;
}
function unpack(timeline) {
  if (timeline.values) return timeline;
  const count = timeline.events.length;
  timeline.values = {};
  timeline.totals = new Array(count).fill(0);
  for (const [category, [places, levels]] of Object.entries(timeline.series)) {
    timeline.values[category] = spread(places, levels, count);
    timeline.values[category].forEach((level, i) => timeline.totals[i] += level);
  }
  if (timeline.reserved) timeline.held = spread(...timeline.reserved, count);
  timeline.x = {events: timeline.events.slice(), time: []};
  let last = -Infinity;  /* places must grow, or stacking would add two events up */
  for (const ns of timeline.ns) timeline.x.time.push(last = Math.max(ns / 1e6, last + 1e-7));
  return timeline;
}
const current = () => data.passes[state.pass];
const timelineOf = () => unpack(current().timeline);
function floorIndex(column, value) {
  let low = 0, high = column.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (column[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}
const periodRange = period => state.axis === "time" ? period.ns.map(ns => ns / 1e6) : period.events;
function rangeOf(timeline) {
  const x = timeline.x[state.axis];
  const whole = [x[0], x[x.length - 1]];
  const steady = state.axis === "time" ? timeline.steady.map(ns => ns / 1e6) : timeline.steadyEvents;
  const [begin, end] = state.range === "steady" && current().hasSteadySteps ? steady : whole;
  return end > begin ? [begin, end] : whole;
}
function layoutBase() {
  return {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: variable("--ink"), size: 12,
    family: getComputedStyle(document.body).fontFamily}, margin: {l: 62, r: 8, t: 10, b: 42}};
}
function drawTimeline() {
  $("range").hidden = !current().hasSteadySteps;  // else there is only the whole recording to choose
  const timeline = timelineOf(), x = timeline.x[state.axis], unit = 1024 ** data.power, dim = variable("--dim");
  const shown = Object.keys(timeline.series);
  const traces = shown.map(category => {
    const paint = data.paints[category], fill = colour(category);
    return {type: "scatter", mode: "lines", name: paint.label, x, y: timeline.values[category].map(v => v / unit),
      stackgroup: "memory", line: {shape: "hv", width: 0, color: fill}, hoverinfo: "none", fillcolor: fill,
      fillpattern: paint.hatch ? {shape: paint.hatch, fgcolor: paint.ink, bgcolor: fill, size: 6, fillmode: "replace"} : {}};
  });
  traces.push({type: "scatter", mode: "lines", x, y: timeline.totals.map(v => v / unit), hoverinfo: "none",
    line: {shape: "hv", width: 1.2, color: variable("--ink")}, showlegend: false, name: "total"});
  if (timeline.held) traces.push({type: "scatter", mode: "lines", x, y: timeline.held.map(v => v / unit), hoverinfo: "none",
    line: {shape: "hv", width: 1.2, dash: "dash", color: variable("--ink")}, name: "reserved by the allocator"});
  const at = timeline.peakAt;
  const top = Math.max([...timeline.totals, ...(timeline.held || [])].reduce((a, b) => Math.max(a, b), 0) / unit * 1.17, 1e-9);
  const range = rangeOf(timeline), width = range[1] - range[0];
  const shapes = [], annotations = [{x: x[at], y: timeline.totals[at] / unit, text: `<b>peak ${size(current().peak)}</b>`,
    showarrow: true, arrowhead: 2, arrowsize: 1, arrowcolor: "#d0342c", ax: x[at] > range[0] + width * .8 ? -46 : x[at] < range[0] + width * .2 ? 46 : 0, ay: -24, font: {color: variable("--ink")}}];
  for (const phase of timeline.phases) {
    const [x0, x1] = periodRange(phase), fill = data.phaseColours[phase.name] || data.phaseColours[""];
    shapes.push({type: "rect", xref: "x", yref: "paper", x0, x1, y0: .955, y1: 1, line: {width: 0}, fillcolor: fill, opacity: .85});
    shapes.push({type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: .955, line: {width: 0}, fillcolor: fill, opacity: .12, layer: "below"});
    if (x1 - x0 > width * .075) annotations.push({x: (x0 + x1) / 2, y: .978, yref: "paper", yanchor: "middle", text: safe(phase.name), showarrow: false, font: {size: 10.5, color: "#1b2330"}});
  }
  for (const step of timeline.steps) {
    const x0 = periodRange(step)[0];
    shapes.push({type: "line", xref: "x", yref: "paper", x0, x1: x0, y0: 0, y1: 1, line: {color: dim, width: 1, dash: "dot"}});
    annotations.push({x: x0, y: 0, yref: "paper", yanchor: "bottom", xanchor: "left", text: safe(step.name), showarrow: false, font: {size: 10, color: dim}, bgcolor: variable("--card"), opacity: .85});
  }
  const line = variable("--line");
  const layout = {...layoutBase(), hovermode: "x", shapes, annotations, dragmode: "zoom",
    legend: {orientation: "h", y: -0.17, traceorder: "normal"},
    xaxis: {range, title: {text: state.axis === "time" ? "time (ms)" : "allocator event", standoff: 6}, showgrid: false, zeroline: false, tickformat: ",",
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "solid", spikecolor: variable("--ink"), spikesnap: "cursor"},
    yaxis: {range: [0, top], title: {text: `allocated (${UNITS[data.power]})`}, gridcolor: line, zeroline: false, tickformat: ",", fixedrange: true}};
  const plot = $("timeline");
  Plotly.react(plot, traces, layout, {responsive: true, displayModeBar: false});
  if (!plot.dataset.wired) {
    plot.dataset.wired = "yes";
    const moment = event => floorIndex(timelineOf().x[state.axis], event.xvals ? event.xvals[0] : event.points[0].x);
    plot.on("plotly_hover", event => { if (state.pinned === null) showMoment(moment(event)); });
    plot.on("plotly_click", event => { state.pinned = state.pinned === null ? moment(event) : null; showMoment(state.pinned === null ? moment(event) : state.pinned); });
    plot.on("plotly_unhover", () => { if (state.pinned === null) showMoment(timelineOf().peakAt); });
  }
  showMoment(state.pinned === null ? timeline.peakAt : state.pinned);
}
function showMoment(index) {
  const timeline = timelineOf(), panel = $("moment");
  const parts = Object.keys(timeline.series).map(category => [category, timeline.values[category][index]]).filter(part => part[1]);
  parts.sort((a, b) => b[1] - a[1]);
  const event = timeline.events[index];
  const phase = timeline.phases.filter(p => p.events[0] <= event && event < p.events[1]).pop();
  const where = [index === timeline.peakAt ? "the peak" : "", phase ? phase.name : "outside every phase",
    `event ${number(event, 0)}`, `${number(timeline.ns[index] / 1e6, 2)} ms`, state.pinned !== null ? "pinned" : ""];
  const table = element("table");
  for (const [category, bytes] of parts) {
    const row = table.insertRow(), name = row.insertCell();
    name.className = "text";
    name.append(swatch(category), data.paints[category].label);
    row.append(sizeCell(bytes));
  }
  panel.replaceChildren(element("h3", size(timeline.totals[index]), {"data-bytes": timeline.totals[index]}),
    element("div", where.filter(Boolean).join(" · "), {class: "where"}), table, element("h4", "Largest blocks then"), blocksAt(timeline, index));
}
function blocksAt(timeline, index) {
  const table = element("table", undefined, {id: "largest"});
  for (const block of timeline.largest[floorIndex(timeline.largestAt, index)]) {
    const [bytes, category, label, module, operator, phase, line] = timeline.blocks[block];
    const row = table.insertRow(), words = row.insertCell();
    words.className = "text";
    const name = label || module || operator || line || data.paints[CATEGORIES[category]].label;
    words.append(swatch(CATEGORIES[category]), name);
    const further = [label ? module : "", operator, line, phase].filter(word => word && word !== name).join(" · ");
    if (further) words.append(element("div", further, {class: "of"}));
    row.append(sizeCell(bytes));
  }
  return table;
}
function swatch(category) {
  const made = element("span", undefined, {class: "swatch", "data-category": category});
  made.style.background = colour(category);
  return made;
}
const sizeCell = bytes => element("td", size(bytes), {"data-bytes": bytes, title: `${number(bytes, 0)} B`, class: bytes ? "" : "zero"});

/* -- modules -- */
const LEAST_SHARE = 1 / 500;  /* of the module above: less would be no wider than its border */
function joinedSmall(modules, value) {
  /* the modules to draw; small ones of one parent are one, and nothing is below it. Parents stand before children */
  const small = new Map(), hidden = new Set(), drawn = [];
  modules.forEach((module, index) => {
    const share = module.parent === null ? 1 : value(module.all) / value(modules[module.parent].all);
    if (!(share > 0 && share < LEAST_SHARE)) return;
    if (!small.has(module.parent)) small.set(module.parent, []);
    small.get(module.parent).push(index);
  });
  for (const found of small.values()) if (found.length > 1) found.forEach(index => hidden.add(index));
  modules.forEach((module, index) => {
    if (hidden.has(module.parent)) hidden.add(index);
    else if (!hidden.has(index) && value(module.all) > 0) drawn.push({...module, id: `m${index}`});
  });
  for (const [parent, found] of small) {
    if (found.length < 2 || hidden.has(parent)) continue;
    const sum = key => found.reduce((sums, index) => sums.map((size, i) => size + modules[index][key][i]), [0, 0, 0, 0]);
    const name = `${number(found.length, 0)} small modules`;
    drawn.push({id: `s${parent}`, parent, path: name, name, type: "", all: sum("all"), own: sum("own")});
  }
  return drawn;
}
const hasModules = pass => pass.modules.some(module => module.all.some(size => size > 0));
function drawIcicle() {
  $("modules").hidden = !hasModules(current());
  if ($("modules").hidden) return;
  const modules = current().modules, [label, column, category] = MEASURES[state.measure];
  const value = figures => column < 0 ? figures.reduce((a, b) => a + b, 0) : figures[column];
  const shown = joinedSmall(modules, value);
  const total = shown.length ? value(shown[0].all) : 0;
  const text = shown.map(module => module.name || (module.path ? module.path.split(".").pop() : data.name));
  const details = shown.map(module => {
    const words = [`<b>${safe(module.path || data.name)}</b>`, safe(module.type), `${label} ${size(value(module.all))}, own ${size(value(module.own))}`,
      ...["parameters", "kept for backward", "gradients", "optimizer state"].map((name, i) => `${name} ${size(module.all[i])}`)];
    return words.filter(Boolean).join("<br>");
  });
  const base = colour(category), pale = isDark() ? "#2c3542" : "#eef1f6";
  const trace = {type: "icicle", ids: shown.map(m => m.id), labels: text.map(safe), values: shown.map(m => value(m.all)),
    parents: shown.map(m => m.parent === null ? "" : `m${m.parent}`), branchvalues: "total", customdata: details,
    hovertemplate: "%{customdata}<extra></extra>", text: shown.map(m => size(value(m.all))), textinfo: "label+text",
    sort: false, tiling: {orientation: "v", pad: 1}, pathbar: {side: "top", thickness: 24}, maxdepth: 6,
    marker: {colors: shown.map(m => Math.sqrt(value(m.all) / (total || 1))), colorscale: [[0, pale], [1, base]], cmin: 0, cmax: 1, line: {color: variable("--card"), width: 1}}};
  const layout = {...layoutBase(), margin: {l: 2, r: 2, t: 30, b: 2}};
  if (!shown.length) layout.annotations = [{text: `nothing here: ${label}`, showarrow: false, x: .5, y: .5, xref: "paper", yref: "paper"}];
  if (!shown.length) Object.assign(layout, {xaxis: {visible: false}, yaxis: {visible: false}});
  Plotly.react($("icicle"), shown.length ? [trace] : [], layout, {responsive: true, displayModeBar: false});
}

/* -- tables -- */
const TABLES = {
  modules: {title: "modules", columns: ["module", "type", "parameters", "kept for backward", "gradients", "optimizer state", "transient, at most"], texts: 2, unsummed: [6], sort: 3,
    rows: pass => pass.modules.map(m => [m.path || "(the model itself)", m.type, ...m.own, m.transient])},
  operators: {title: "operators", get columns() {
      const extent = `in the ${current().hasSteadySteps ? "steady steps" : "whole recording"}`;
      return ["operator", "at the peak", "together, at most", `allocated ${extent}`, `allocations ${extent}`];
    }, texts: 1, unsummed: [2], counts: [4], sort: 1,
    rows: pass => pass.operators},
  sites: {title: "source lines", columns: ["line", "function", "category", "at the peak"], texts: 3, unsummed: [], sort: 3,
    rows: pass => pass.sites}};
function drawTable() {
  const kind = TABLES[state.table], sort = state.sort || {column: kind.sort, descending: true};
  const wanted = state.filter.toLowerCase();
  const rows = kind.rows(current()).filter(row => !wanted || row.slice(0, kind.texts).some(text => text.toLowerCase().includes(wanted)));
  const {column, descending} = sort;
  rows.sort((a, b) => (column < kind.texts ? (a[column] < b[column] ? -1 : a[column] > b[column] ? 1 : 0) : a[column] - b[column]) * (descending ? -1 : 1));
  const head = element("tr");
  kind.columns.forEach((title, index) => {
    const cell = element("th", undefined, {scope: "col", class: index < kind.texts ? "text" : ""});
    if (index === column) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const button = element("button", title, {type: "button"});
    button.onclick = () => {
      state.sort = {column: index, descending: index === column ? !descending : index >= kind.texts};
      drawTable();
      $("rows").tHead.rows[0].cells[index].firstChild.focus();  /* the heading that was pressed is a new one now */
    };
    cell.append(button);
    head.append(cell);
  });
  const counts = kind.counts || [];
  const cell = (value, index) => index < kind.texts ? element("td", value, {class: "text"})
    : counts.includes(index) ? element("td", number(value, 0), {"data-count": value}) : sizeCell(value);
  const body = element("tbody");
  const visible = state.all ? rows : rows.slice(0, ROWS_AT_FIRST);
  for (const row of visible) {
    const line = element("tr");
    line.append(...row.map(cell));
    body.append(line);
  }
  const sums = kind.columns.map((_, index) => index === 0 ? `total of ${number(rows.length, 0)}` : index < kind.texts || kind.unsummed.includes(index) ? "" : rows.reduce((sum, row) => sum + row[index], 0));
  const foot = element("tr");
  foot.append(...sums.map((value, index) => value === "" || index === 0 ? element("td", value, {class: index < kind.texts ? "text" : ""}) : cell(value, index)));
  const parts = [element("thead"), body, element("tfoot")];
  parts[0].append(head); parts[2].append(foot);
  $("rows").replaceChildren(...parts);
  $("more").hidden = visible.length === rows.length;
  $("more").textContent = `show all ${number(rows.length, 0)} rows`;
}

/* -- choices -- */
function choices(id, options, get, set) {
  const draw = () => $(id).replaceChildren(...options.map(([value, label]) => {
    const button = element("button", label, {type: "button", "data-value": value, "aria-pressed": String(get() === value)});
    button.onclick = () => { set(value); draw(); };
    return button;
  }));
  draw();
}
function drawAll() { drawTimeline(); drawIcicle(); drawTable(); }
function paintStatic() {
  for (const mark of document.querySelectorAll("[data-category]")) mark.style.background = colour(mark.dataset.category);
}
choices("passes", data.passes.map((pass, index) => [index, pass.name]), () => state.pass, value => { state.pass = value; state.pinned = null; drawAll(); });
$("passes").hidden = data.passes.length < 2;
choices("range", [["steady", "steady steps"], ["whole", "whole recording"]], () => state.range, value => { state.range = value; drawTimeline(); });
choices("axis", [["time", "by time"], ["events", "by event"]], () => state.axis, value => { state.axis = value; drawTimeline(); });
choices("measure", MEASURES.map((measure, index) => [index, measure[0]]), () => state.measure, value => { state.measure = value; drawIcicle(); });
const filled = Object.entries(TABLES).filter(([, kind]) => data.passes.some(pass => kind.rows(pass).length));
if (filled.length) state.table = filled[0][0];
choices("table", filled.map(([key, kind]) => [key, kind.title]), () => state.table, value => { state.table = value; state.sort = null; state.all = false; drawTable(); });
$("filter").oninput = event => { state.filter = event.target.value; drawTable(); };
$("more").onclick = () => { state.all = true; drawTable(); };
$("theme").onclick = () => { root.dataset.theme = isDark() ? "light" : "dark"; paintStatic(); drawAll(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { paintStatic(); drawAll(); });
paintStatic();
drawTable();
requestAnimationFrame(() => setTimeout(() => { drawTimeline(); drawIcicle(); root.dataset.ready = "yes"; performance.mark("drawn"); }, 0));
})();
