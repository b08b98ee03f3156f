"use strict";
// What the page does: asks this director every two seconds while somebody looks, and draws the answers.
// Everything that comes from the director goes into the page as text, never as markup.

const PAUSE_MS = 2000;
const SAMPLES_MAX = 150;
const EVENTS_MAX = 100;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const samples = [];
let bands = [];
let lastSample = 0;
let lastEvent = 0;
let timer = 0;

// ---- asking

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { headers, cache: "no-store" });
  const document = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, document.detail);
  return document;
}

async function look() {
  clearTimeout(timer);
  try {
    const [status, live, events, backends, ring, drains] = await Promise.all([
      ask("/api/v1/status"),
      ask(`/api/v1/live?after=${lastSample}`),
      ask(`/api/v1/events?after=${lastEvent}`),
      ask("/api/v1/backends?limit=1000"),
      ask("/api/v1/ring"),
      ask("/api/v1/drains"),
    ]);
    byId("leave").hidden = !sessionStorage.getItem("token");
    showStatus(status);
    showRing(ring.items, status);
    showLive(live);
    showEvents(events);
    showBackends(backends, drains.items);
  } catch (error) {
    if (error.status === 401) return openDoor(sessionStorage.getItem("token") ? error.message : "");
    pill("bad", error.status ? error.message : "this director does not answer");
  }
  if (!document.hidden) timer = setTimeout(look, PAUSE_MS);
}

// ---- the token

function openDoor(fault) {
  sessionStorage.removeItem("token");
  pill("warn", "token needed");
  byId("door-fault").textContent = fault;
  if (!byId("door").open) byId("door").showModal();
}

byId("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value.trim());
  byId("token").value = "";
  byId("door").close();
  look();
});
byId("door").addEventListener("cancel", (event) => event.preventDefault());
byId("leave").addEventListener("click", () => {
  clearTimeout(timer);
  byId("leave").hidden = true;
  openDoor("");
});

// ---- making elements

function element(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = (value) => Math.round(value).toLocaleString("en");
const rate = (value) => (value > 0 && value < 10 ? value.toFixed(1) : number(value));
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const when = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString("en-GB") : "–");

function micros(value) {
  if (value >= 1e6) return `${value / 1e6} s`;
  return value >= 1000 ? `${value / 1000} ms` : `${value} µs`;
}

function pill(kind, text) {
  byId("state").className = `pill ${kind}`;
  byId("state").textContent = text;
}

// ---- figures and ring

function showStatus(status) {
  byId("version").textContent = `version ${status.version}, since ${when(status.started)}`;
  byId("users").textContent = number(status.users);
  byId("connections").textContent = number(status.connections);
  const up = status.backends - status.backends_down;
  byId("up").textContent = `${number(up)} of ${number(status.backends)}`;
  byId("up").parentElement.className = status.backends_down ? "bad" : "";
  if (!status.handshaked) pill("bad", "joining the ring");
  else if (!status.synced) pill("warn", "ring not synced");
  else pill("good", status.alone ? "serving alone" : "ring synced");
}

function nodesOf(items) {
  const nodes = new Map();
  for (const item of items) {
    if (!item.address || item.type === "removed") continue;
    const name = item.address.includes(":") ? `[${item.address}]:${item.port}` : `${item.address}:${item.port}`;
    const node = nodes.get(name) || { name, sides: [], items: [] };
    node.items.push(item);
    if (item.type) node.sides.push(item.type);
    nodes.set(name, node);
  }
  return [...nodes.values()];
}

function kindOf(node, synced) {
  if (node.sides.includes("self")) return synced ? "good" : "warn";
  const status = node.items.map((item) => item.status);
  if (!node.sides.length) return "far";
  return status.every((text) => text === "synced") ? "good" : "warn";
}

function showRing(items, status) {
  const nodes = nodesOf(items);
  const ring = byId("ring");
  const own = Math.max(0, nodes.findIndex((node) => node.sides.includes("self")));
  const at = (index) => {
    const angle = ((index - own) / nodes.length) * 2 * Math.PI - Math.PI / 2;
    return { x: 85 * Math.cos(angle), y: 85 * Math.sin(angle) };
  };
  const shapes = [];
  nodes.forEach((_, index) => {
    if (nodes.length < 2) return;
    const [from, to] = [at(index), at((index + 1) % nodes.length)];
    const beside = (other) => nodes[other].sides.some((side) => side === "left" || side === "right");
    const ours = index === own ? beside((index + 1) % nodes.length)
      : (index + 1) % nodes.length === own && beside(index);
    const kind = ours ? (status.synced ? "good" : "warn") : "far";
    shapes.push(drawn("path", { class: `link ${kind}`, d: `M${from.x} ${from.y}A85 85 0 0 1 ${to.x} ${to.y}` }));
  });
  nodes.forEach((node, index) => {
    const { x, y } = at(index);
    const group = drawn("g", { class: `${kindOf(node, status.synced)} ${index === own ? "self" : ""}` });
    const out = 1.3;
    group.append(drawn("circle", { cx: x, cy: y, r: index === own ? 13 : 10 }));
    const below = nodes.length < 2 || y >= -20 ? 22 : -18;
    group.append(drawn("text", { x: Math.abs(x) > 20 ? x * out : x, y: y + below }, node.name));
    shapes.push(group);
  });
  const middle = status.alone ? "alone" : status.synced ? "synced" : "not synced";
  shapes.push(drawn("text", { class: "middle", x: 0, y: 0 }, middle));
  if (status.sync_since) {
    shapes.push(drawn("text", { class: "under", x: 0, y: 18 }, `since ${clock(status.sync_since)}`));
  }
  ring.replaceChildren(...shapes);
  const self = nodes[own];
  byId("me").textContent = self && !self.name.endsWith(":0") ? self.name : location.host || "this director";
  byId("directors").replaceChildren(...items.map(directorRow));
}

function directorRow(item) {
  const address = item.address ? `${item.address}:${item.port}` : "unknown";
  const place = item.type || "not a neighbour";
  const ping = item.ping_ms === null || item.type === "self" ? "" : `${item.ping_ms} ms`;
  return element("li", {},
    element("span", { className: "grow", textContent: address }),
    element("span", { className: "quiet", textContent: place }),
    element("span", { textContent: item.status }),
    element("span", { className: "number", textContent: ping }));
}

// ---- logins and latencies

function showLive(live) {
  bands = live.bands_us;
  samples.push(...live.samples);
  samples.splice(0, samples.length - SAMPLES_MAX);
  const last = samples[samples.length - 1];
  if (!last) return;
  lastSample = last.at;
  byId("logins").textContent = rate(last.logins);
  byId("failures").textContent = rate(last.failures);
  byId("failures").parentElement.className = last.failures > 0 ? "bad" : "";
  byId("live-span").textContent = `· last ${Math.round((samples.length * live.step) / 6) / 10} min`;
  byId("rate-from").textContent = `${Math.round((SAMPLES_MAX * live.step) / 60)} min ago`;
  drawRate();
  drawHeat();
  tellLatency();
}

function drawRate() {
  const [width, height] = [600, 146];
  const top = Math.max(1, ...samples.map((sample) => Math.max(sample.logins, sample.failures)));
  const line = (value) => samples.map((sample, index) => {
    const x = width - ((samples.length - 1 - index) / (SAMPLES_MAX - 1)) * width;
    return `${x.toFixed(1)} ${(height - (value(sample) / top) * (height - 8)).toFixed(1)}`;
  });
  const logins = line((sample) => sample.logins);
  const first = logins[0].split(" ")[0];
  byId("rate-top").textContent = `highest ${rate(top)}`;
  byId("rate").replaceChildren(
    drawn("path", { class: "area", d: `M${first} ${height}L${logins.join("L")}L${width} ${height}Z` }),
    drawn("path", { class: "logins", d: `M${logins.join("L")}` }));
  if (samples.some((sample) => sample.failures > 0)) {
    const failed = line((sample) => sample.failures);
    byId("rate").append(drawn("path", { class: "failed", d: `M${failed.join("L")}` }));
  }
}

// One column for each sample, one row for each band; the darker, the more of that sample's logins.
function drawHeat() {
  const canvas = byId("heat");
  const rows = bands.length + 1;
  canvas.width = SAMPLES_MAX;
  canvas.height = rows;
  const pen = canvas.getContext("2d");
  const color = getComputedStyle(document.documentElement).getPropertyValue("--heat");
  samples.forEach((sample, index) => {
    const all = sample.bands.reduce((sum, count) => sum + count, 0);
    sample.bands.forEach((count, band) => {
      if (!count) return;
      const shade = 0.15 + 0.85 * Math.sqrt(count / all);
      pen.fillStyle = `rgba(${color}, ${shade.toFixed(3)})`;
      pen.fillRect(SAMPLES_MAX - samples.length + index, rows - 1 - band, 1, 1);
    });
  });
  if (byId("bands").childElementCount !== rows) {
    const label = (text) => element("li", { textContent: text });
    byId("bands").replaceChildren(...bands.map((end) => label(`≤ ${micros(end)}`)), label("more"));
  }
}

function tellLatency() {
  const sums = bands.concat([0]).map((_, band) => samples.reduce((sum, it) => sum + it.bands[band], 0));
  const all = sums.reduce((sum, count) => sum + count, 0);
  if (!all) {
    byId("latency").textContent = "Nobody has logged in during this time.";
    return;
  }
  const below = (share) => {
    let seen = 0;
    const band = sums.findIndex((count) => (seen += count) >= share * all);
    return band < bands.length ? `within ${micros(bands[band])}` : `in more than ${micros(bands[bands.length - 1])}`;
  };
  byId("latency").textContent =
    `${number(all)} logins: half of them answered ${below(0.5)}, 99 of 100 ${below(0.99)}.`;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => samples.length && drawHeat());

// ---- events and backends

function showEvents(happened) {
  if (happened.last < lastEvent) {
    // The director has been started again.
    lastEvent = 0;
    byId("events").replaceChildren();
    return;
  }
  if (!happened.items.length) return;
  if (!lastEvent) byId("events").replaceChildren();
  lastEvent = happened.last;
  for (const event of happened.items) {
    byId("events").prepend(element("li", { className: event.level },
      element("time", { textContent: clock(event.at), title: when(event.at) }),
      element("span", { className: "grow", textContent: event.text })));
  }
  while (byId("events").childElementCount > EVENTS_MAX) byId("events").lastElementChild.remove();
}

function showBackends(list, drains) {
  const most = Math.max(1, ...list.items.map((item) => item.users));
  byId("backends").replaceChildren(...list.items.map((item) => {
    const drain = drains.find((it) => it.address === item.address);
    const state = drain ? (drain.state === "draining" ? "draining" : `drain: ${drain.state}`) : item.state;
    const kind = drain ? "warn" : item.state === "up" ? "good" : "bad";
    const share = element("meter", { max: most, value: item.users, title: `${number(item.users)} users` });
    share.setAttribute("aria-label", `users of ${item.address}`);
    return element("tr", {},
      element("td", { textContent: item.address }),
      element("td", { textContent: item.tag || "–" }),
      element("td", {}, element("span", { className: `pill ${kind}`, textContent: state })),
      element("td", { className: "health" }, ...healthOf(item.health)),
      element("td", { className: "number", textContent: number(item.vhosts) }),
      element("td", { className: "number", textContent: number(item.users) }),
      element("td", { className: "share" }, share));
  }));
  byId("health-column").hidden = !list.items.some((item) => item.health);
  byId("backends").parentElement.className = byId("health-column").hidden ? "unchecked" : "";
  byId("backends-more").textContent = list.next ? "There are more; the first 1000 are shown." : "";
}

// What the checks of this director say, and what the directors have decided about the backend.
function healthOf(health) {
  if (!health) return ["–"];
  const [kind, text] = { up: ["good", "passes"], down: ["bad", "fails"] }[health.state] || ["warn", "unknown"];
  const pill = element("span", { className: `pill ${kind}`, textContent: text, title: health.failing.join("\n") });
  const why = health.decision === "in-service" ? health.failing : [health.reason, ...health.failing];
  return [pill, element("span", { className: "quiet", textContent: why.join("; ") })];
}

// ---- one user

byId("why-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = byId("user").value;
  try {
    const found = await ask(`/api/v1/users/${encodeURIComponent(user)}/why`);
    byId("why").replaceChildren(...found.items.map(whyOf));
  } catch (error) {
    if (error.status === 401) return openDoor(error.message);
    byId("why").replaceChildren(element("p", { className: "fault", textContent: error.message }));
  }
});

function whyOf(why) {
  const state = why.current_state ? ` (${why.current_state}, weight ${why.current_vhosts})` : "";
  const pairs = [
    ["now on", why.current ? why.current + state : "nowhere"],
    ["hash ring says", why.hashed || "nowhere"],
    ["last refresh", why.last_refresh ? when(why.last_refresh) : "–"],
    ["expires", why.expires ? when(why.expires) : "–"],
    ["hash", String(why.hash)],
    ["tag", why.tag || "none"],
    ...why.extra,
  ];
  const list = element("dl", {});
  for (const [name, value] of pairs) {
    list.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
  }
  return element("div", {}, element("p", { className: "reason", textContent: why.reason }), list);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});
look();
