"use strict";
// Folds what the server sends into the page: replaces parts that have an id, appends log lines, keeps times true; and
// lets the log be read by keyboard. Every markup in here was made and escaped by the server; nothing is ever put
// together from text on this side.
(() => {
  const main = document.getElementById("content");
  const link = document.getElementById("link");
  const log = document.getElementById("log");
  const follow = document.getElementById("follow");
  const box = follow && follow.querySelector("input");
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

  // What an element inside a part that is replaced is known by, before and after.
  function key(element) {
    const near = element.closest("[id]");
    const own = element.getAttribute("href") || element.name || element.textContent;
    return [near && near.id, element.tagName, own, element.form && element.form.action].join("\n");
  }

  function replace(old, fresh) {
    const active = document.activeElement, within = active !== document.body && old.contains(active);
    const focus = within && key(active), value = within && active.value;
    const open = new Set([...old.querySelectorAll("details[open]")].map(key));
    old.replaceWith(fresh);
    for (const details of fresh.querySelectorAll("details")) {
      if (open.has(key(details))) details.open = true;
    }
    if (!focus) return;
    const all = [fresh, ...fresh.querySelectorAll("a, button, input, select, summary, [tabindex]")];
    const same = all.find((element) => key(element) === focus);
    if (same) {
      same.focus({ preventScroll: true });
      if (value && same.matches("input")) same.value = value;
    }
  }

  function fragment(id, html) {
    for (const fresh of parse(html)) {
      const old = document.getElementById(id);
      if (old) {
        replace(old, fresh);
      } else if (fresh.dataset.into) {
        const list = document.getElementById(fresh.dataset.into);
        if (!list) continue;
        list.prepend(fresh);
        const empty = document.querySelector("#content > .empty");
        if (empty) empty.remove();
        while (list.children.length > 100) list.lastElementChild.remove();
      }
      times(fresh);
      // The tab says how it stands, also from behind another one.
      if (fresh.dataset.title) document.title = fresh.dataset.title;
      if (navigator.clipboard) copies();
      if (fresh.dataset.icon) document.getElementById("icon").setAttribute("href", fresh.dataset.icon);
    }
    later();
  }

  // What is to be pasted elsewhere gets a button for that, which is of no use without a script.
  function copies() {
    for (const text of document.querySelectorAll("pre.answer:not([data-copy])")) {
      text.dataset.copy = "";
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.textContent = "Copy";
      button.onclick = async () => {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "\u2713 Copied";
      };
      text.after(button);
    }
  }

  // What the server told is true when it comes; what goes on is looked after once a frame, however much came.
  let due = false;
  function later() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      tick();
    });
  }

  function lines(html) {
    if (!log) return;
    const none = document.getElementById("no-output");
    if (none) none.remove();
    for (const fresh of parse(html)) {
      clock(fresh);
      const old = fresh.id && document.getElementById(fresh.id);
      if (old) {
        replace(old, fresh);
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
    const number = last.length ? last[last.length - 1].id.slice(1) : "";
    if (number && count) count.textContent = number.replace(/\B(?=(\d{3})+$)/g, "\u202f") + (number === "1" ? " line" : " lines");
    if (box.checked) end();
  }

  // Where the window was scrolled to last: what goes up from there was done by hand, by whatever means.
  let top = 0;
  function end() {
    window.scrollTo({ top: document.documentElement.scrollHeight });
    top = window.scrollY;
  }

  function scrolled() {
    // What was taken off the page above the end is nobody's scrolling.
    const rest = document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
    if (window.scrollY < top - 1 && rest > 2) box.checked = false;
    top = window.scrollY;
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
      box.checked = false;
      say("up", "finished");
    }
  }

  function connect() {
    socket = new WebSocket(new URL(address, location.href.replace(/^http/, "ws")));
    socket.onopen = () => {
      pause = 500;
      say("up", ended ? "finished" : "live");
    };
    socket.onmessage = (event) => receive(event.data);
    socket.onclose = (event) => {
      socket = null;
      // 1000 is the server's own end: nothing more can change here.
      if (event.code === 1000) return;
      if (!ended) say("down", "connection lost");
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

  // How long ago something was, or when where the reader is; the other one is the title.
  let absolute = false;
  function times(part) {
    for (const time of part.querySelectorAll("time[datetime]")) {
      const words = [ago(Date.now() - Date.parse(time.dateTime)), new Date(time.dateTime).toLocaleString()];
      const text = words[Number(absolute)];
      if (time.textContent !== text) time.textContent = text;
      time.title = words[Number(!absolute)];
    }
  }

  const two = (n) => String(n).padStart(2, "0");
  function span(millis) {
    const s = Math.floor(millis / 1000);
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

  // The lines that are selected; `at` is the end that moves.
  let from = 0, at = 0;
  const row = (number) => document.getElementById("L" + number);

  function select(first, last, show) {
    for (const old of log.querySelectorAll(".sel")) old.classList.remove("sel");
    [from, at] = [first, last];
    const low = Math.min(first, last), high = Math.max(first, last);
    for (let number = low; number <= high; number++) if (row(number)) row(number).classList.add("sel");
    const name = low === high ? low : low + "-" + high;
    const query = new URLSearchParams(location.search);
    query.set("line", name);
    history.replaceState(null, "", log.dataset.attempt + "?" + query + "#L" + low);
    if (show && row(last)) {
      const step = row(last).closest("details");
      if (step) step.open = true;
      row(last).scrollIntoView({ block: "nearest" });
    }
  }

  function move(by, extend) {
    const next = at ? at + by : Number((log.querySelector(".lines > div[id]") || { id: "L0" }).id.slice(1));
    if (row(next)) select(extend && from ? from : next, next, true);
  }

  // A link to a line opens the step it is in; one to a line that is not here leads to where it is.
  function target() {
    const found = /^#L(\d+)(?:-L?(\d+))?$/.exec(location.hash);
    if (!log || !found) return;
    const asked = /^(\d+)(?:-(\d+))?$/.exec(new URLSearchParams(location.search).get("line") || "");
    const first = Number(found[1]);
    const last = Number(found[2] || (asked && Number(asked[1]) === first && asked[2]) || first);
    if (row(first)) {
      const step = row(first).closest("details");
      if (step) step.open = true;
      select(first, last, false);
      row(first).scrollIntoView({ block: "center" });
      if (box) box.checked = false;
    } else if (!asked || Number(asked[1]) !== first) {
      location.replace(log.dataset.attempt + "?line=" + first + (last > first ? "-" + last : "") + "#L" + first);
    }
  }

  // Times of lines: since the job began, or of the day where the reader is.
  function clock(part) {
    if (!log.dataset.since) return;
    for (const time of part.matches("i") ? [part] : part.querySelectorAll(".lines > div > i, :scope > i")) {
      if (!time.dataset.offset) time.dataset.offset = time.textContent;
      if (!absolute) {
        time.textContent = time.dataset.offset;
        continue;
      }
      const seconds = time.dataset.offset.split(":").reduce((sum, digits) => sum * 60 + Number(digits), 0);
      const moment = new Date(Number(log.dataset.since) + seconds * 1000);
      time.textContent = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":");
      time.title = moment.toLocaleString();
    }
  }

  // What is chosen is kept in the browser; one that keeps nothing for us shows it as long as the page is open.
  function kept(name, value) {
    try {
      return value === undefined ? localStorage.getItem("sai-" + name) : localStorage.setItem("sai-" + name, value);
    } catch { return ""; }
  }

  // How the log is shown, for all logs.
  const views = document.querySelectorAll("#views [data-view]");
  function view(name, set) {
    const on = document.body.classList.toggle("view-" + name, set);
    for (const button of document.querySelectorAll("[data-view=" + name + "]")) button.setAttribute("aria-pressed", on);
    if (name === "clock") {
      absolute = on;
      if (log) clock(log);
      times(document);
    } else if (name === "step" && on) {
      const all = [...log.querySelectorAll("details.step")];
      const one = (at && row(at) && row(at).closest("details")) || all.find((step) => step.open) || all[0];
      for (const step of all) step.open = step === one;
    } else if (name === "step") {
      for (const step of log.querySelectorAll("details.step")) step.open = true;
    }
    if (name === "nowrap" || name === "clock") kept(name, on ? "1" : "");
  }

  function steps(by) {
    const all = [...log.querySelectorAll("details.step")];
    const here = all.findIndex((step) => step.getBoundingClientRect().bottom > 60);
    const next = all[Math.min(Math.max((here < 0 ? all.length : here) + by, 0), all.length - 1)];
    if (!next) return;
    if (document.body.classList.contains("view-step")) for (const step of all) step.open = step === next;
    next.scrollIntoView({ block: "start" });
    next.querySelector("summary").focus({ preventScroll: true });
  }

  // What is typed to a board goes without loading the page anew.
  const typing = document.getElementById("typing");
  if (typing) {
    let waits = Promise.resolve();
    const told = typing.querySelector("[role=status]"), text = typing.querySelector("[name=text]");
    typing.addEventListener("submit", (event) => {
      if (event.submitter && event.submitter.name) return;
      event.preventDefault();
      const fields = new URLSearchParams(new FormData(typing));
      text.value = "";
      // One after the other, so that they come in order.
      waits = waits.then(async () => {
        try {
          const answer = await fetch(typing.action, { method: "POST", body: fields, redirect: "manual" });
          if (answer.type !== "opaqueredirect") throw new Error(answer.status);
          told.textContent = "";
        } catch {
          told.textContent = "This was not sent: " + fields.get("text");
        }
      });
    });
  }

  function go(selector) {
    const found = document.querySelector(selector);
    if (found) found.click();
    return found;
  }

  const keys = {
    "?": () => { const help = document.getElementById("keys"); if (help) help.open ? help.close() : help.showModal(); },
    "/": () => { const field = document.getElementById("q"); if (field) field.focus(); },
    n: () => go("#next"),
    N: () => go("#previous"),
    j: () => move(1, false),
    k: () => move(-1, false),
    J: () => move(1, true),
    K: () => move(-1, true),
    "]": () => steps(1),
    "[": () => steps(-1),
    z: () => { for (const step of log.querySelectorAll("details.step")) step.open = false; },
    Z: () => { for (const step of log.querySelectorAll("details.step")) step.open = true; },
    w: () => view("nowrap"),
    e: () => view("errors"),
    s: () => view("step"),
    t: () => view("clock"),
    f: () => view("full"),
    F: () => { if (follow && !follow.hidden) { box.checked = !box.checked; if (box.checked) end(); } },
    g: () => window.scrollTo({ top: 0 }),
    G: () => window.scrollTo({ top: document.documentElement.scrollHeight }),
  };

  if (navigator.clipboard) copies();
  if (kept("clock")) view("clock", true);
  else times(document);
  setInterval(() => times(document), 20000);
  tick();
  setInterval(tick, 1000);
  const switcher = document.getElementById("times");
  if (switcher && !log && document.querySelector("time[datetime]")) {
    switcher.parentElement.hidden = false;
    switcher.onclick = () => view("clock");
  }
  if (log) {
    document.getElementById("views").hidden = false;
    if (kept("nowrap")) view("nowrap", true);
    for (const button of views) button.addEventListener("click", () => view(button.dataset.view));
    document.getElementById("help").addEventListener("click", keys["?"]);
    // A click on a number selects its line, with the shift key all from the last one on; no page is loaded for that.
    log.addEventListener("click", (event) => {
      const number = event.target.closest(".lines > div > a");
      if (!number || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const line = Number(number.parentElement.id.slice(1));
      select(event.shiftKey && from ? from : line, line, false);
    });
    // A link to a line of this attempt that is here needs no page either.
    document.addEventListener("click", (event) => {
      const to = event.target.closest("#error a");
      const found = to && /#L(\d+)$/.exec(to.href);
      if (!found || !row(found[1]) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      select(Number(found[1]), Number(found[1]), true);
      row(found[1]).scrollIntoView({ block: "center" });
    });
  }
  addEventListener("keydown", (event) => {
    const typing = event.target.matches && event.target.matches("input:not([type=checkbox]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (event.key === "Escape" && document.body.classList.contains("view-full")) view("full", false);
    // Where there is no log, there are times all the same.
    const act = (log || event.key === "t") && Object.hasOwn(keys, event.key) && keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  target();
  addEventListener("hashchange", target);
  // Who signs in comes back to the same line.
  for (const sign of document.querySelectorAll("a.sign-in")) {
    sign.addEventListener("click", () => {
      const url = new URL(sign.href);
      const to = location.pathname + location.search + location.hash;
      if (url.searchParams.has("to")) url.searchParams.set("to", to);
      sign.href = url.pathname + url.search;
    });
  }
  if (address) {
    connect();
    if (box && document.querySelector("#job-head.under-way")) {
      follow.hidden = false;
      box.onchange = () => box.checked && end();
      addEventListener("scroll", scrolled, { passive: true });
    }
    addEventListener("online", () => { if (!socket) { pause = 500; connect(); } });
  }
})();
