"use strict";
// Asks for this page again, each answer held back until there is news, and shows the new one in place of the old.
(async () => {
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  let tag = null;
  let failures = 0;
  for (;;) {
    const main = document.querySelector("main");
    if ("settled" in main.dataset) return;
    const headers = { Accept: "text/html", Prefer: "wait=" + (tag ? main.dataset.wait || 55 : 0) };
    if (tag) headers["If-None-Match"] = tag;
    try {
      const answer = await fetch(location.pathname, { headers, cache: "no-store" });
      if (answer.status === 404) {
        main.textContent = "This sign-in is over.";
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = page.querySelector("main");
        main.replaceChildren(...next.childNodes);
        for (const name of Object.keys(main.dataset)) delete main.dataset[name];
        Object.assign(main.dataset, next.dataset);
        tag = answer.headers.get("ETag");
      } else if (answer.status !== 304) {
        throw new Error("unexpected status");
      }
      failures = 0;
    } catch {
      failures += 1;
      await pause(Math.min(2 ** failures, 30));
    }
  }
})();
