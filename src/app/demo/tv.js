// The TV: begins a session, watches it, claims the tokens. The secret stays in this page's memory.
"use strict";

const at = (id) => document.getElementById(id);
const words = {
  starting: "Asking the provider for a code…",
  pending: "Waiting for you to approve…",
  authorized: "Signed in. The tokens wait to be claimed.",
  claimed: "Signed in, and the tokens were claimed.",
  denied: "The sign-in was denied.",
  expired: "The code has expired.",
  cancelled: "The sign-in was cancelled.",
  failed: "The sign-in failed.",
};
let current = null;

async function answered(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({ title: response.statusText }));
  throw new Error(`${problem.title ?? "Error"}: ${problem.detail ?? response.status}`);
}

function complain(error) {
  at("problem").textContent = error ? error.message : "";
  at("problem").hidden = !error;
}

function show(session) {
  const { status } = session;
  const pending = status === "pending";
  at("code").textContent = session.user_code;
  at("link").textContent = session.verification_uri;
  at("link").href = session.verification_uri_complete ?? session.verification_uri;
  at("watch").href = `/sessions/${session.id}`;
  at("status").textContent = words[status] + (session.failure ? ` ${session.failure.detail}` : "");
  at("reachable").textContent = session.provider_reachable ? "yes" : "no, still trying";
  at("revision").textContent = session.revision;
  at("claim").hidden = status !== "authorized";
  at("cancel").hidden = !pending && status !== "authorized";
  at("again").hidden = pending || status === "authorized";
}

async function begin() {
  complain(null);
  at("begin").disabled = true;
  try {
    const response = await fetch("/sessions", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
      body: JSON.stringify({ label: "Demo TV" }),
    });
    const session = await answered(response);
    current = { id: session.id, secret: session.secret, key: crypto.randomUUID(), expires: Date.parse(session.expires_at), live: true };
    at("off").hidden = true;
    at("on").hidden = false;
    at("tokens").hidden = true;
    show(session);
    watch(current, session.revision);
  } catch (error) {
    complain(error);
  } finally {
    at("begin").disabled = false;
  }
}

async function watch(session, revision) {
  while (session === current) {
    try {
      const response = await fetch(`/sessions/${session.id}`, { headers: { "If-None-Match": `"${revision}"`, Prefer: "wait=30" } });
      if (response.status === 304) continue;
      const seen = await answered(response);
      revision = seen.revision;
      if (session !== current) return;
      show(seen);
      complain(null);
      session.live = seen.status === "pending" || seen.status === "authorized";
      if (!session.live) return;
    } catch (error) {
      complain(error);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

async function tick() {
  if (!current) return;
  const left = Math.max(0, Math.round((current.expires - Date.now()) / 1000));
  at("left").textContent = current.live ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "–";
  const response = await fetch(`/demo/crashes/${current.id}`).catch(() => null);
  if (response?.ok) at("crashes").textContent = `${await response.text()} times`;
}

async function owner(path, options) {
  complain(null);
  const headers = { Authorization: `Bearer ${current.secret}`, "Idempotency-Key": current.key };
  try {
    return await answered(await fetch(`/sessions/${current.id}${path}`, { ...options, headers }));
  } catch (error) {
    complain(error);
    return null;
  }
}

at("begin").addEventListener("click", begin);
at("again").addEventListener("click", begin);
at("cancel").addEventListener("click", () => owner("", { method: "DELETE" }));
at("claim").addEventListener("click", async () => {
  const tokens = await owner("/claim", { method: "POST" });
  if (!tokens) return;
  at("tokens").textContent = JSON.stringify(tokens, null, 2);
  at("tokens").hidden = false;
});
setInterval(tick, 1000);
