"use strict";
// Brings the figure of a board's lines to life: a cursor, two marks and their distance, other parts of the time, the way to the log and
// back, and what comes while the job runs. Every figure is made by the server; what is put together here is moments and numbers.
(() => {
  const figure = () => document.getElementById("wave");
  const view = () => document.getElementById("wave-view");
  const log = document.getElementById("log");
  // Pixels within which an edge is meant, and that make a choice of what was a click.
  const NEAR = 8, DRAGGED = 5;
  let cursor = null, drag = null, busy = false, again = null;

  const number = (name) => { const text = figure().dataset[name]; return text === undefined ? null : Number(text); };
  const span = () => number("to") - number("from");

  // Moments of a list in which each is told as how long it is after the one before.
  function moments(text) {
    let at = number("from");
    return text ? text.split(" ").map((by) => (at += Number(by))) : [];
  }

  function place(at) {
    return (100 * (at - number("from")) / span()).toFixed(4) + "%";
  }

  function shown(at) {
    const micros = Math.round(at / 1000), seconds = Math.floor(micros / 1e6);
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    return (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(seconds % 60) + "." + String(micros % 1e6).padStart(6, "0");
  }

  function distance(ns) {
    const [unit, word] = ns < 1e3 ? [1, "ns"] : ns < 1e6 ? [1e3, "µs"] : ns < 1e9 ? [1e6, "ms"] : [1e9, "s"];
    return Number((ns / unit).toFixed(6)) + " " + word;
  }

  function tell() {
    const [a, b] = [number("a"), number("b")], parts = [];
    if (cursor !== null) parts.push("cursor " + shown(cursor));
    if (a !== null) parts.push("A " + shown(a));
    if (b !== null) parts.push("B " + shown(b));
    if (a !== null && b !== null) parts.push("apart " + distance(Math.abs(a - b)));
    document.querySelector("#wave-told .marks").textContent = parts.join(", ");
  }

  function draw() {
    const box = view();
    for (const name of ["A", "B"]) {
      const at = number(name.toLowerCase()), group = box.querySelector(".set." + name);
      group.toggleAttribute("hidden", at === null || at < number("from") || at > number("to"));
      if (at === null) continue;
      const line = group.querySelector("line");
      line.setAttribute("x1", place(at));
      line.setAttribute("x2", place(at));
      group.querySelector("text").setAttribute("x", place(at));
    }
    const line = box.querySelector(".cursor");
    line.toggleAttribute("hidden", cursor === null);
    if (cursor !== null) {
      line.setAttribute("x1", place(cursor));
      line.setAttribute("x2", place(cursor));
    }
    tell();
  }

  // The address says what is seen, so that it can be given to somebody else.
  function address() {
    const query = new URLSearchParams(location.search);
    for (const name of ["from", "to", "a", "b"]) {
      const value = number(name);
      if (value === null) query.delete(name); else query.set(name, value);
    }
    history.replaceState(history.state, "", location.pathname + "?" + query + location.hash);
  }

  function set(name, at) {
    figure().dataset[name] = Math.round(at);
    draw();
    address();
  }

  // The moment that a point of the screen is.
  function under(event) {
    const box = view().getBoundingClientRect();
    const part = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return number("from") + part * span();
  }

  // The nearest edge: of the row that is pointed at, or of any.
  function edge(at, event, within) {
    const rows = [...view().querySelectorAll(".trace:not(.console)")];
    const row = event && rows.find((one) => {
      const box = one.getBoundingClientRect();
      return event.clientY >= box.top - 16 && event.clientY <= box.bottom + 3;
    });
    let best = null;
    for (const one of row ? [row] : rows) {
      for (const moment of moments(one.dataset.at)) {
        if (best === null || Math.abs(moment - at) < Math.abs(best - at)) best = moment;
      }
    }
    return best !== null && Math.abs(best - at) <= within ? best : null;
  }

  function next(by) {
    const from = cursor === null ? (by > 0 ? number("from") - 1 : number("to") + 1) : cursor;
    let best = null;
    for (const one of view().querySelectorAll(".trace:not(.console)")) {
      for (const moment of moments(one.dataset.at)) {
        if ((moment - from) * by > 0 && (best === null || (moment - best) * by < 0)) best = moment;
      }
    }
    if (best === null) return;
    cursor = best;
    draw();
  }

  // The last line of the log that had begun by then.
  function line(at) {
    let moment = number("from"), found = 0;
    for (const pair of figure().dataset.lines.split(" ")) {
      const [by, line] = pair.split(":").map(Number);
      moment += by;
      if (moment > at && found) break;
      found = line;
    }
    return found;
  }

  function choose(at) {
    set("a", at);
    const found = line(at);
    if (!found) return;
    const row = document.getElementById("L" + found);
    if (!log || !row) {
      if (log) location.assign(figure().dataset.attempt + "?line=" + found + "&from=" + number("from") + "&to=" + number("to") + "#L" + found);
      return;
    }
    figure().classList.add("pinned");
    const step = row.closest("details");
    if (step) step.open = true;
    said = String(found);
    row.querySelector("a").click();
    row.scrollIntoView({ block: "center" });
  }

  // The same figure for another time, or as it is by now.
  async function show(asked, grown) {
    if (busy) { if (!grown) again = asked; return; }
    busy = true;
    const query = new URLSearchParams();
    for (const name of ["a", "b"]) if (number(name) !== null) query.set(name, number(name));
    for (const [name, value] of Object.entries(asked)) if (value !== null) query.set(name, typeof value === "number" ? Math.max(0, Math.round(value)) : value);
    try {
      const answer = await fetch(figure().dataset.attempt + "/waveform?" + query);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("wave");
      if (fresh) {
        const old = figure(), open = old.querySelector("details")?.open, focused = view()?.contains(document.activeElement);
        const pinned = old.classList.contains("pinned");
        for (const extra of fresh.querySelectorAll("script, link")) extra.remove();
        old.replaceWith(document.adoptNode(fresh));
        if (open && fresh.querySelector("details")) fresh.querySelector("details").open = true;
        fresh.classList.toggle("pinned", pinned);
        begin();
        if (focused) view().focus({ preventScroll: true });
        draw();
        if (!grown) address();
      }
    } catch { /* The next one may come through. */ }
    busy = false;
    if (again) { const asked = again; again = null; show(asked); }
  }

  const window_ = (from, to) => {
    const end = number("end"), length = Math.min(Math.max(to - from, 1000), end);
    const first = Math.min(Math.max(from, 0), end - length);
    show({ from: first, to: first + length });
  };

  function zoom(times, at) {
    const part = (at - number("from")) / span(), length = span() / times;
    window_(at - part * length, at + (1 - part) * length);
  }

  const keys = {
    ArrowRight: () => next(1),
    ArrowLeft: () => next(-1),
    "+": () => zoom(2, cursor ?? number("from") + span() / 2),
    "-": () => zoom(0.5, cursor ?? number("from") + span() / 2),
    a: () => { if (cursor !== null) set("a", cursor); },
    b: () => { if (cursor !== null) set("b", cursor); },
    Enter: () => { if (cursor !== null) choose(cursor); },
    Escape: () => { cursor = null; figure().classList.remove("pinned"); delete figure().dataset.a; delete figure().dataset.b; draw(); address(); },
  };

  function begin() {
    const box = view();
    box.classList.add("alive");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Waveform. Arrow keys: edges. Plus and minus: zoom. A and B: marks. Enter: to the log.");
    box.onpointermove = (event) => {
      if (drag) {
        const choice = box.querySelector(".choice"), at = under(event), [low, high] = [Math.min(drag.at, at), Math.max(drag.at, at)];
        choice.toggleAttribute("hidden", Math.abs(event.clientX - drag.x) < DRAGGED);
        choice.setAttribute("x", place(low));
        choice.setAttribute("width", (100 * (high - low) / span()).toFixed(4) + "%");
      }
      cursor = under(event);
      draw();
    };
    box.onpointerleave = () => { cursor = null; draw(); };
    box.onpointerdown = (event) => { if (event.button === 0) drag = { x: event.clientX, at: under(event) }; };
    box.onpointerup = (event) => {
      const from = drag;
      drag = null;
      if (!from) return;
      box.querySelector(".choice").toggleAttribute("hidden", true);
      const at = under(event);
      if (Math.abs(event.clientX - from.x) >= DRAGGED) return window_(Math.min(from.at, at), Math.max(from.at, at));
      const near = edge(at, event, NEAR * span() / box.getBoundingClientRect().width) ?? at;
      if (event.shiftKey) set("b", near); else choose(near);
    };
    box.onwheel = (event) => {
      // Without these keys the wheel scrolls the page, as everywhere.
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      zoom((event.deltaY || event.deltaX) < 0 ? 1.5 : 1 / 1.5, under(event));
    };
    box.onkeydown = (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    };
    for (const link of figure().querySelectorAll("nav a, td a[href$='#wave']")) {
      link.onclick = (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const query = new URLSearchParams(link.search);
        if (link.closest("td")) {
          for (const name of ["a", "b"]) if (query.has(name)) set(name, Number(query.get(name)));
        } else {
          show({ from: query.get("from"), to: query.get("to") });
        }
      };
    }
  }

  // From a line of the log to its moment: which line is chosen stands in the address.
  let said = new URLSearchParams(location.search).get("line");
  function look() {
    const now = new URLSearchParams(location.search).get("line");
    if (now === said) return;
    said = now;
    if (!now || !view()) return;
    figure().classList.add("pinned");
    show({ from: number("from"), to: number("to"), line: now });
  }

  // What is still under way is looked at again, with pauses that are long beside what it takes.
  async function grow() {
    if (!figure().dataset.grows) return;
    const begun = performance.now();
    if (!view()) {
      await show({}, true);
    } else if (!document.hidden && !drag) {
      const all = number("from") === 0 && number("to") === number("end");
      if (all) await show({ from: 0, to: "18446744073709551615" }, true);
      else if (number("to") === number("end")) await show({ from: number("from"), to: "18446744073709551615" }, true);
      else await show({ from: number("from"), to: number("to") }, true);
    }
    setTimeout(grow, Math.max(1000, 9 * (performance.now() - begun)));
  }

  if (!figure()) return;
  if (view()) { begin(); draw(); }
  if (log) for (const kind of ["click", "keyup"]) document.addEventListener(kind, () => setTimeout(look, 0));
  setTimeout(grow, 1000);
})();
