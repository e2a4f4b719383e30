// Keeps the board of the page Now up to date: a fragment every half minute, without taking the reader's place away.
"use strict";
(() => {
  const board = document.getElementById("board");
  const trouble = document.getElementById("live-trouble");
  const news = document.getElementById("live-news");
  const on = document.getElementById("live-on");
  const every = 30000;
  let timer = 0;
  document.getElementById("live-switch").hidden = false;

  const emptyCount = () => (document.getElementById("count-empty") || { textContent: "" }).textContent.trim();

  async function refresh() {
    window.clearTimeout(timer);
    if (on.checked && !document.hidden) {
      try {
        const answer = await fetch(board.dataset.from, { headers: { Accept: "application/json" } });
        if (answer.status === 401 || answer.status === 403 || answer.redirected) {
          window.location.reload();  // logged out meanwhile: the page leads to the login and back
          return;
        }
        if (!answer.ok) throw new Error(String(answer.status));
        show(await answer.text());
        trouble.textContent = "";
      } catch (error) {
        trouble.textContent = trouble.dataset.text;
        document.body.classList.add("stale");
      }
    }
    timer = window.setTimeout(refresh, every);
  }

  function show(markup) {
    const before = emptyCount();
    const focused = board.contains(document.activeElement) ? document.activeElement.id : "";
    board.innerHTML = markup;
    document.body.classList.remove("stale");
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus({ preventScroll: true });
    const alarm = board.querySelector(".alarm");
    if (alarm && emptyCount() !== before) news.textContent = alarm.textContent.replace(/\s+/g, " ").trim();
  }

  on.addEventListener("change", refresh);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  timer = window.setTimeout(refresh, every);
  document.body.dataset.ready = "1";
})();
