"use strict";
// Follows one sign-in: told of news by events (or by held-back answers where events do not get through), it asks for this page
// again and puts what has changed in place of the old. Where it began the sign-in itself, its memory holds the secret.
const find = (selector) => document.querySelector(selector);
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const here = () => location.pathname;
const isSettled = () => "settled" in find("main").dataset;
const status = () => find("main").dataset.status;

let tag = null; // of the page as it is shown
let ahead = 0; // how far the service's clock is ahead of ours, in ms
let owned = null; // {secret, key} of the sign-in that this page began
let watching = 0; // counts what watches; an older watcher ends by itself
let loading = null;

// === the page as it is ===

function parts(root) {
  return [...root.querySelectorAll("[data-part]")];
}

const served = new Map();

/** Puts the new page in place of the old, part by part, so that what stays is neither read aloud again nor loses the focus. */
function show(page) {
  const [main, next] = [find("main"), page.querySelector("main")];
  const [before, after] = [parts(main), parts(next)];
  document.title = page.title;
  for (const { name } of [...main.attributes]) main.removeAttribute(name);
  for (const { name, value } of next.attributes) main.setAttribute(name, value);
  if (before.map((part) => part.dataset.part).join() !== after.map((part) => part.dataset.part).join()) {
    main.replaceChildren(...next.childNodes);
    for (const part of parts(main)) served.set(part.dataset.part, part.innerHTML);
    find("h1").focus();
  } else {
    after.forEach((part, at) => {
      const html = part.innerHTML;
      if (served.get(part.dataset.part) === html) return;
      served.set(part.dataset.part, html);
      before[at].replaceChildren(...part.childNodes);
    });
  }
  wake();
}

/** Shows what works only with a script. */
function wake() {
  for (const button of document.querySelectorAll("main [data-do]")) button.hidden = false;
  const owner = find("#owner");
  if (owner && owned) {
    owner.hidden = false;
    for (const each of owner.querySelectorAll("[data-on]")) each.hidden = !each.dataset.on.split(" ").includes(status());
  }
  tick();
}

function tick() {
  const ring = find(".ring");
  if (!ring) return;
  const [from, until] = [Number(ring.dataset.from), Number(ring.dataset.until)];
  const left = Math.max(0, until - Date.now() - ahead);
  const seconds = Math.round(left / 1000);
  const [minutes, rest] = [Math.floor(seconds / 60), String(seconds % 60).padStart(2, "0")];
  ring.querySelector("span").textContent = minutes > 99 ? `${Math.round(minutes / 60)} h` : `${minutes}:${rest}`;
  ring.querySelector(".arc").setAttribute("stroke-dasharray", `${Math.min(100, (100 * left) / Math.max(1, until - from))} 100`);
  ring.classList.toggle("soon", left < 60000);
  ring.hidden = false;
}

function say(id, speaks) {
  const line = find(id);
  line.textContent = speaks ? line.dataset.says : "";
}

// === watching ===

/** Asks for the page, held back for up to `wait` seconds while there is no news. One question at a time. */
async function load(wait = 0) {
  while (loading) await loading.catch(() => {});
  loading = ask(wait);
  try {
    await loading;
  } finally {
    loading = null;
  }
}

async function ask(wait) {
  const headers = { Accept: "text/html", "Accept-Language": document.documentElement.lang };
  if (tag) headers["If-None-Match"] = tag;
  if (wait && tag) headers.Prefer = `wait=${wait}`;
  const answer = await fetch(here(), { headers, cache: "no-store" });
  const date = Date.parse(answer.headers.get("Date"));
  if (date && !wait) ahead = date - Date.now();
  if (answer.status === 404) return over();
  if (answer.status !== 304) {
    if (!answer.ok) throw new Error("unexpected status");
    // Style and script are here already; those of another page have another nonce, which the policy would complain about.
    const text = (await answer.text()).replace(/<(style|script) nonce[^]*?<\/\1>/g, "");
    show(new DOMParser().parseFromString(text, "text/html"));
    tag = answer.headers.get("ETag");
  }
  say("#offline", false);
}

/** The service has forgotten the sign-in; what was shown of its end stays. */
function over() {
  watching += 1;
  if (isSettled()) return;
  const main = find("main");
  const line = document.createElement("p");
  line.className = "headline";
  line.textContent = main.dataset.gone;
  main.replaceChildren(line);
  main.dataset.settled = "";
}

function watch() {
  watching += 1;
  const turn = watching;
  if (typeof EventSource === "undefined") return poll(turn);
  const source = new EventSource(`${here()}/events`);
  let heard = false;
  const stop = () => source.close();
  const retire = () => {
    if (turn !== watching) stop();
    return turn !== watching;
  };
  source.addEventListener("session", async () => {
    if (retire()) return;
    heard = true;
    await load().catch(() => say("#offline", true));
    if (!isSettled()) return;
    stop();
    linger(turn);
  });
  source.addEventListener("open", () => say("#offline", false));
  source.addEventListener("error", () => {
    if (retire()) return;
    if (source.readyState !== EventSource.CLOSED) return say("#offline", !isSettled());
    // Refused for good: it does not exist here, or something in between does not let it through.
    poll(turn);
  });
  // The first event comes at once, unless something in between holds it back.
  setTimeout(() => {
    if (heard || retire() || source.readyState !== EventSource.OPEN) return;
    stop();
    poll(turn);
  }, 6000);
}

async function poll(turn) {
  let failures = 0;
  while (turn === watching && !isSettled()) {
    try {
      await load(25);
      failures = 0;
    } catch {
      failures += 1;
      say("#offline", true);
      await pause(Math.min(2 ** failures, 15));
    }
  }
  linger(turn);
}

/** A sign-in that was denied or has expired may yet be given a new code by its owner. */
async function linger(turn) {
  while (turn === watching && ["denied", "expired"].includes(status())) {
    await pause(10);
    if (turn !== watching || document.hidden) continue;
    await load().catch(() => {});
    if (turn === watching && !isSettled()) return watch();
  }
}

document.addEventListener("visibilitychange", async () => {
  if (document.hidden || !status()) return;
  await load().catch(() => {});
  // A phone that was put away may have lost its connection without being told.
  if (!isSettled()) {
    check();
    watch();
  }
});

function check() {
  return fetch(`${here()}/check`, { method: "POST" }).catch(() => {});
}

// === what people press ===

async function copy(button) {
  const code = find("#code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) return;
  }
  const words = button.textContent;
  button.textContent = button.dataset.done;
  await pause(2);
  button.textContent = words;
}

const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** What only the owner may ask for. */
async function demand(path, method) {
  const headers = { Authorization: `Bearer ${owned.secret}`, "Idempotency-Key": owned.key };
  const answer = await fetch(here() + path, { method, headers });
  if (!answer.ok) throw new Error("refused");
  return answer;
}

const deeds = {
  copy,
  async check() {
    await check();
    await load();
  },
  cancel: () => demand("", "DELETE"),
  async renew() {
    await demand("/renew", "POST");
    await load();
    watch();
  },
  async claim() {
    const tokens = await (await demand("/claim", "POST")).json();
    find("#tokens pre").textContent = JSON.stringify(tokens, null, 2);
    find("#tokens").hidden = false;
  },
};

async function begin(choice) {
  const main = find("main");
  say("main .status", true);
  const answer = await fetch("/sessions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": random() },
    body: JSON.stringify({ provider: choice.dataset.provider, label: main.dataset.label }),
  });
  if (!answer.ok) throw new Error("refused");
  const { id, secret } = await answer.json();
  owned = { secret, key: random() };
  history.pushState(null, "", `/sessions/${id}`);
  await load();
  watch();
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  button.disabled = true;
  if (find("#trouble")) say("#trouble", false);
  try {
    await (button.dataset.provider ? begin(button) : deeds[button.dataset.do](button));
  } catch {
    if (button.dataset.provider) say("main .status", false);
    if (find("#trouble")) {
      find("#owner").hidden = false;
      say("#trouble", true);
    }
  } finally {
    button.disabled = false;
  }
});

addEventListener("popstate", () => location.reload());
setInterval(tick, 1000);
setInterval(() => {
  if ("demo" in find("main").dataset && !isSettled() && !document.hidden && !loading) load().catch(() => {});
}, 2000);
for (const choice of document.querySelectorAll("[data-provider]")) choice.disabled = false;
if (status()) {
  for (const part of parts(document)) served.set(part.dataset.part, part.innerHTML);
  wake();
  load().catch(() => {});
  if (isSettled()) linger(watching);
  else watch();
}
