"use strict";
// Folds what the server sends into the page: replaces parts that have an id, appends log lines, keeps times true.
// Every markup in here was made and escaped by the server; nothing is ever put together from text on this side.
(() => {
  const main = document.getElementById("content");
  const link = document.getElementById("link");
  const box = document.querySelector("#follow input");
  const follow = document.getElementById("follow");
  // A page that stays open for days must not grow without end: this many rows, then the first ones go.
  const MOST_ROWS = 20000;
  let address = main && main.dataset.live;
  let pause = 500, ended = false, socket = null;

  function parse(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return [...template.content.children];
  }

  function say(state, text) {
    link.hidden = false;
    link.className = state;
    if (link.textContent !== text) link.textContent = text;
  }

  // Whether something inside that people use would be lost by replacing it.
  function busy(element) {
    return element.contains(document.activeElement) && document.activeElement !== document.body;
  }

  function fragment(id, html) {
    for (const fresh of parse(html)) {
      const old = document.getElementById(id);
      if (old) {
        const focus = busy(old) && document.activeElement.getAttribute("href");
        for (const details of old.querySelectorAll("details[open]")) {
          const at = [...old.querySelectorAll("details")].indexOf(details);
          const same = fresh.querySelectorAll("details")[at];
          if (same) same.open = true;
        }
        old.replaceWith(fresh);
        if (focus) {
          const same = [...fresh.querySelectorAll("a")].find((a) => a.getAttribute("href") === focus);
          if (same) same.focus({ preventScroll: true });
        }
      } else if (fresh.dataset.into) {
        const list = document.getElementById(fresh.dataset.into);
        if (!list) continue;
        list.prepend(fresh);
        const empty = document.querySelector("#content > .empty");
        if (empty) empty.remove();
        while (list.children.length > 100) list.lastElementChild.remove();
      }
    }
    times();
    tick();
  }

  function lines(html) {
    const log = document.getElementById("log");
    if (!log) return;
    const none = document.getElementById("no-output");
    if (none) none.remove();
    for (const fresh of parse(html)) {
      const old = fresh.id && document.getElementById(fresh.id);
      if (old) {
        old.replaceWith(fresh);
      } else if (fresh.matches("details.step")) {
        log.append(fresh);
      } else {
        const all = log.querySelectorAll(".lines");
        all[all.length - 1].append(fresh);
      }
    }
    const rows = log.getElementsByTagName("i");
    while (rows.length > MOST_ROWS) rows[0].parentElement.remove();
    const last = log.querySelectorAll(".lines > div[id]");
    const count = document.getElementById("lines");
    if (last.length && count) count.textContent = last[last.length - 1].id.slice(1).replace(/\B(?=(\d{3})+$)/g, "\u202f") + " lines";
    if (box.checked) end();
  }

  function end() {
    window.scrollTo({ top: document.documentElement.scrollHeight });
  }

  function receive(text) {
    const message = JSON.parse(text);
    if (message.t === "fragment") {
      fragment(message.id, message.html);
    } else if (message.t === "log" || message.t === "gap") {
      // A gap says of itself which lines it left out.
      lines(message.html);
      address = address.replace(/from=\d+/, "from=" + message.to);
    } else if (message.t === "end") {
      ended = true;
      follow.hidden = true;
      say("up", "finished");
    }
  }

  function connect() {
    socket = new WebSocket(new URL(address, location.href.replace(/^http/, "ws")));
    socket.onopen = () => {
      pause = 500;
      say("up", "live");
    };
    socket.onmessage = (event) => receive(event.data);
    socket.onclose = (event) => {
      socket = null;
      // 1000 is the server's own end: nothing more can change here.
      if (ended || event.code === 1000) return;
      say("down", "connection lost");
      // What changed while nobody listened is not known: ask for everything.
      address = address.replace(/since=\d+/, "since=0");
      setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, 30000);
    };
  }

  function ago(millis) {
    const s = Math.max(0, Math.floor(millis / 1000));
    if (s < 45) return "just now";
    if (s < 5400) return Math.floor((s + 30) / 60) + " min ago";
    if (s < 129600) return Math.floor((s + 1800) / 3600) + " h ago";
    return Math.floor((s + 43200) / 86400) + " days ago";
  }

  function times() {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const text = ago(Date.now() - Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function span(millis) {
    const s = Math.floor(millis / 1000), two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + "." + Math.floor(millis % 1000 / 100) + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + two(s % 60) + " s";
    return Math.floor(s / 3600) + " h " + two(Math.floor(s / 60) % 60) + " min";
  }

  // What goes on ticks. Counted from when it came here, so that the two clocks need not agree.
  const since = new WeakMap();
  function tick() {
    for (const element of document.querySelectorAll("[data-for]")) {
      if (!since.has(element)) since.set(element, performance.now() - Number(element.dataset.for));
      if (!socket) continue;
      element.textContent = span(performance.now() - since.get(element));
    }
  }

  // A link to a line opens the step it is in.
  function target() {
    const row = location.hash.startsWith("#L") && document.getElementById(location.hash.slice(1));
    const step = row && row.closest("details");
    if (step && !step.open) {
      step.open = true;
      row.scrollIntoView({ block: "center" });
    }
  }

  times();
  setInterval(times, 20000);
  tick();
  setInterval(tick, 1000);
  target();
  addEventListener("hashchange", target);
  if (address) {
    connect();
    if (box && address.includes("from=")) {
      follow.hidden = false;
      box.onchange = () => box.checked && end();
      // Scrolling up by hand lets go of the end.
      addEventListener("wheel", (event) => { if (event.deltaY < 0) box.checked = false; }, { passive: true });
      addEventListener("touchmove", () => { box.checked = false; }, { passive: true });
      addEventListener("keydown", (event) => {
        if (["PageUp", "ArrowUp", "Home"].includes(event.key)) box.checked = false;
      });
    }
    addEventListener("online", () => { if (!socket && !ended) { pause = 500; connect(); } });
  }
})();
