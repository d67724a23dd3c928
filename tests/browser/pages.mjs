// The pages in a real browser, against the demo: TV is the service, PROVIDER its development provider.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { TV, PROVIDER, CHROMIUM, ARTEFACTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };
const SCREEN = { width: 1920, height: 1080 };
const PATIENCE = 30_000;

let browser;
before(async () => {
  mkdirSync(ARTEFACTS, { recursive: true });
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
});
after(() => browser.close());

// === vocabulary ===

/** Runs `look` on a page of its own, and fails if that page complained of anything. */
async function visit(path, options, look) {
  const context = await browser.newContext({ viewport: DESK, locale: "en", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
  page.on("console", (line) => line.type() === "error" && !line.text().startsWith("Failed to load resource") && complaints.push(line.text()));
  try {
    await page.goto(TV + path);
    await look(page, context);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
  }
}

async function created(label = "Living-room TV") {
  const body = JSON.stringify({ label });
  const answer = await fetch(`${TV}/sessions`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  assert.equal(answer.status, 201);
  return answer.json();
}

/** Presses a button on the provider's page. */
async function press(action, code = "") {
  const body = new URLSearchParams({ user_code: code, action });
  const answer = await fetch(`${PROVIDER}/device`, { method: "POST", body, redirect: "manual" });
  assert.equal(answer.status, 303, action);
}

async function begun(page) {
  await page.getByRole("button", { name: "Sign in with Demo provider" }).click();
  await page.waitForSelector("#code");
  return code(page);
}

const code = (page) => page.textContent("#code");
const status = (page, wanted) => page.waitForSelector(`main[data-status="${wanted}"]`);
const heading = (page) => page.textContent(".headline");

/** Takes a picture and lets axe look for what keeps people out. */
async function inspect(page, name) {
  await page.screenshot({ path: `${ARTEFACTS}/${name}.png`, fullPage: true });
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], name);
}

/** Nothing sticks out to the right. */
async function fits(page) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${content} px do not fit into ${window} px`);
}

const pixels = (page, selector) => page.$eval(selector, (element) => parseFloat(getComputedStyle(element).fontSize));

// === what people do ===

test("a person signs in, and the page that began it claims the tokens", () =>
  visit("/", {}, async (page) => {
    await inspect(page, "start");
    const shown = await begun(page);
    await inspect(page, "pending-owner");
    assert.match(await page.textContent(".ring span"), /^\d+:\d\d$/);
    await press("approve", shown);
    await status(page, "authorized");
    await inspect(page, "authorized");
    await page.getByRole("button", { name: "Claim the tokens" }).click();
    await page.waitForSelector("#tokens pre:not(:empty)");
    assert.ok(JSON.parse(await page.textContent("#tokens pre")).access_token.length > 10);
    await status(page, "claimed");
    await inspect(page, "claimed");
    await page.reload();
    await status(page, "claimed");
    assert.equal(await page.locator("#owner").count(), 0, "a page that was loaded again is a watcher's");
  }));

test("a person declines, and gets a new code under the same address", () =>
  visit("/", {}, async (page) => {
    const first = await begun(page);
    const address = page.url();
    await press("deny", first);
    await status(page, "denied");
    assert.equal(await heading(page), "The sign-in was declined");
    await inspect(page, "denied");
    await page.getByRole("button", { name: "Get a new code" }).click();
    await status(page, "pending");
    assert.notEqual(await code(page), first);
    assert.equal(page.url(), address);
    await press("approve", await code(page));
    await status(page, "authorized");
  }));

test("a code expires, and is renewed", () =>
  visit("/", {}, async (page) => {
    const first = await begun(page);
    await press("expire-soon", first);
    await status(page, "expired");
    await inspect(page, "expired");
    await page.getByRole("button", { name: "Get a new code" }).click();
    await status(page, "pending");
    assert.notEqual(await code(page), first);
    await page.getByRole("button", { name: "Cancel" }).click();
    await status(page, "cancelled");
    await inspect(page, "cancelled");
  }));

test("the provider goes down and comes back", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, {}, async (page) => {
    await press("reset");
    try {
      await page.waitForSelector("main[data-unreachable]");
      assert.match(await page.textContent(".status"), /is not answering at the moment/);
      assert.equal(await code(page), session.user_code);
      await inspect(page, "unreachable");
    } finally {
      await press("up");
    }
    await press("approve", session.user_code);
    await page.getByRole("button", { name: "Check now" }).click();
    await status(page, "authorized");
  });
});

test("the poller crashes three times, is counted, and the sign-in succeeds", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, {}, async (page) => {
    for (let crash = 0; crash < 3; crash += 1) await press("crash", session.user_code);
    await page.waitForFunction(() => document.querySelector(".restarts").textContent === "3");
    await inspect(page, "crashed");
    await press("approve", session.user_code);
    await status(page, "authorized");
    assert.equal(await page.textContent(".restarts"), "3");
  });
});

test("without JavaScript the page is read again by itself", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, { javaScriptEnabled: false }, async (page) => {
    assert.equal(await code(page), session.user_code);
    assert.equal(await page.locator("[data-do]:visible").count(), 0, "no button that does nothing");
    assert.match(await page.textContent("time"), /^\d\d:\d\d UTC$/);
    await page.screenshot({ path: `${ARTEFACTS}/no-javascript.png`, fullPage: true });
    await press("approve", session.user_code);
    await status(page, "authorized");
  });
});

test("what was sent to the background catches up", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, {}, async (page, context) => {
    await context.setOffline(true);
    await press("approve", session.user_code);
    await context.setOffline(false);
    await status(page, "authorized");
  });
});

test("where events do not get through, held-back answers do", async () => {
  const session = await created();
  await visit("/livez", {}, async (page) => {
    await page.route("**/events", (route) => route.fulfill({ status: 502 }));
    await page.goto(`${TV}/sessions/${session.id}`);
    await press("approve", session.user_code);
    await status(page, "authorized");
  });
});

// === where it is looked at ===

for (const [name, options] of Object.entries({
  phone: { viewport: PHONE, isMobile: true, hasTouch: true },
  "phone-dark-german": { viewport: PHONE, colorScheme: "dark", locale: "de-AT" },
  tv: { viewport: SCREEN },
  "tv-dark-spanish": { viewport: SCREEN, colorScheme: "dark", locale: "es" },
  "zoomed-to-400-percent": { viewport: { width: 320, height: 256 } },
})) {
  test(`the page fits and is accessible: ${name}`, async () => {
    const session = await created();
    await visit(`/sessions/${session.id}`, options, async (page) => {
      await page.waitForSelector(".ring:not([hidden])");
      await fits(page);
      await inspect(page, name);
      if (options.viewport === SCREEN) {
        const [height, window] = await page.evaluate(() => [document.documentElement.scrollHeight, innerHeight]);
        assert.ok(height <= window, "nobody scrolls a TV");
        assert.ok((await pixels(page, "#code")) >= 90 && (await pixels(page, ".address")) >= 30 && (await pixels(page, ".warning")) >= 22);
      }
      if (options.colorScheme === "dark") {
        const ground = await page.$eval(".card", (card) => getComputedStyle(card).backgroundColor);
        assert.ok(ground.match(/\d+/g).slice(0, 3).every((part) => Number(part) < 60), ground);
      }
      const language = options.locale?.slice(0, 2) ?? "en";
      assert.equal(await page.getAttribute("html", "lang"), language);
    });
  });
}

test("a keyboard reaches what can be done, and copies the code", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
    const copy = page.getByRole("button", { name: "Copy the code" });
    for (let stops = 0; stops < 10 && !(await copy.evaluate((button) => button === document.activeElement)); stops += 1) {
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Enter");
    await page.getByText("Copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), session.user_code);
  });
});

test("a screen reader is told of the end", async () => {
  const session = await created();
  await visit(`/sessions/${session.id}`, {}, async (page) => {
    await page.evaluate(() => (globalThis.live = document.querySelector("[role=status]")));
    await press("deny", session.user_code);
    await status(page, "denied");
    const said = await page.evaluate(() => globalThis.live.isConnected && globalThis.live.textContent);
    assert.equal(said, "The sign-in was declined. Nobody was signed in.", "in the same live region");
  });
});

test("a label is text, whatever it says", async () => {
  const label = `<img src=x onerror=alert(1)><script>alert(2)</script>"'>`;
  const session = await created(label);
  await visit(`/sessions/${session.id}`, {}, async (page) => {
    assert.equal(await page.textContent(".device bdi"), label);
    assert.equal(await page.locator("main img, main script").count(), 0);
    await fits(page);
  });
});
