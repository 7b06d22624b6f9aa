"use strict";
// The row browser. Texts come from models: they are only ever set as textContent.
(() => {
  const $ = (id) => document.getElementById(id);
  const form = $("filters");
  if (!form) return;
  const PAGE = 25;
  const chunks = new Map(); // chunk number -> promise of its prompts and rows
  let index, shown = [], first = 0, open = null, disagreement;

  function make(tag, text, name) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  }

  async function inflate(id) {
    const bytes = Uint8Array.from(atob($(id).textContent), (sign) => sign.charCodeAt(0));
    const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(whole).text());
  }

  const number = (value, digits = 1) => value === null || Number.isNaN(value) ? "–"
    : value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  const key = (row) =>
    [index.systems[index.system[row]][0], index.k[row], index.ids[index.prompt[row]]].join(":");

  // Filters: what the form says, and the same in the address.
  const values = () => Object.fromEntries(new FormData(form));
  const usual = () => ({metric: "precision", judge: "all", sort: index.judges.length > 1 ? "apart" : "low"});

  function write() {
    const said = Object.entries(values()).filter(([name, value]) => value !== "" && value !== usual()[name]);
    if (open !== null) said.push(["row", key(open)]);
    const hash = new URLSearchParams(said).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function read() {
    const said = new URLSearchParams(location.hash.slice(1));
    const names = Array.from(form.elements, (field) => field.name).filter(Boolean);
    if (![...names, "row"].some((name) => said.has(name))) return; // the link of a section
    for (const name of names) form.elements[name].value = said.get(name) ?? usual()[name] ?? "";
    const wanted = said.get("row");
    open = null;
    for (let row = 0; wanted && row < index.prompt.length && open === null; row++)
      if (index.ids[index.prompt[row]] === wanted.split(":").slice(2).join(":") && key(row) === wanted) open = row;
    filter();
    turn(open);
    if (open !== null) detail(open, true);
    else $("detail").replaceChildren(make("p", wanted ? `There is no row ${wanted} in this report.` : "", "muted"));
  }

  function measures(metric, judge) {
    const means = index.means[metric];
    const score = new Float64Array(index.prompt.length), apart = score.slice();
    for (let row = 0; row < score.length; row++) {
      let low = Infinity, high = -Infinity, sum = 0, count = 0;
      for (const of of means) {
        const value = of[row];
        if (value === null) continue;
        low = Math.min(low, value); high = Math.max(high, value); sum += value; count++;
      }
      const one = judge === "all" ? (count ? sum / count : NaN) : means[judge][row] ?? NaN;
      score[row] = one;
      apart[row] = count > 1 ? high - low : NaN;
    }
    return {score, apart};
  }

  function filter() {
    performance.mark("filter-start");
    const said = values();
    const {score, apart} = disagreement = measures(said.metric, said.judge);
    const bound = (text, otherwise) => text === "" || text === undefined ? otherwise : Number(text);
    const low = bound(said.min, -Infinity), high = bound(said.max, Infinity), least = bound(said.apart, -Infinity);
    const task = index.tasks.findIndex(([name]) => name === said.task);
    const system = index.systems.findIndex(([name]) => name === said.system);
    const text = said.find.trim().toLowerCase();
    const found = text && index.ids.map((id, prompt) =>
      id.toLowerCase().includes(text) || index.snippet[prompt].toLowerCase().includes(text));
    const stop = index.finishes.indexOf("stop");
    const means = index.means[said.metric];
    shown = [];
    for (let row = 0; row < score.length; row++) {
      const prompt = index.prompt[row];
      if (task >= 0 && index.task[prompt] !== task || system >= 0 && index.system[row] !== system) continue;
      if (found && !found[prompt]) continue;
      if ((low > -Infinity || high < Infinity) && !(score[row] >= low && score[row] <= high)) continue;
      if (least > -Infinity && !(apart[row] >= least)) continue;
      if (said.state === "unscored" && means.every((of) => of[row] !== null)) continue;
      if (said.state === "unfinished" && index.finish[row] === stop) continue;
      shown.push(row);
    }
    const [by, sign] = {low: [score, 1], high: [score, -1], apart: [apart, -1]}[said.sort] ?? [];
    if (by) { // rows without a score come last
      const place = by.map((value) => Number.isNaN(value) ? Infinity : sign * value);
      shown.sort((a, b) => place[a] === place[b] ? a - b : place[a] - place[b]);
    }
    first = 0;
    list();
    performance.measure("filter", "filter-start");
  }

  function score(value) {
    const cell = make("td", number(value), "n score");
    if (value !== null && !Number.isNaN(value)) cell.style.setProperty("--score", `${value}%`);
    return cell;
  }

  function list() {
    const said = values(), whole = index.prompt.length;
    $("found").textContent = `${shown.length.toLocaleString("en")} of ${whole.toLocaleString("en")} answers`;
    const head = make("tr");
    for (const text of ["Prompt", "Answered by", ...index.judges, "Apart"])
      head.append(make("th", text, text === "Prompt" || text === "Answered by" ? "" : "n"));
    const body = shown.slice(first, first + PAGE).map((row) => {
      const line = make("tr"), cell = make("td"), link = make("a", index.snippet[index.prompt[row]] || "(empty)");
      link.href = `#row=${encodeURIComponent(key(row))}`;
      link.addEventListener("click", (event) => { event.preventDefault(); show(row); });
      cell.append(link);
      line.append(cell, make("td", `${index.systems[index.system[row]][1]} · k ${index.k[row]}`));
      for (const of of index.means[said.metric]) line.append(score(of[row]));
      line.append(make("td", number(disagreement.apart[row]), "n"));
      if (row === open) line.setAttribute("aria-current", "true");
      return line;
    });
    $("list").replaceChildren(make("thead"), make("tbody"));
    $("list").tHead.append(head);
    $("list").tBodies[0].append(...body);
    $("pages").textContent = shown.length ? `${first + 1}–${Math.min(first + PAGE, shown.length)}` : "none";
    $("back").disabled = first === 0;
    $("forth").disabled = first + PAGE >= shown.length;
  }

  function turn(row) { // to the page of the list that has it
    const place = shown.indexOf(row);
    if (place >= 0) first = Math.floor(place / PAGE) * PAGE;
    list();
  }

  function show(row, jump = true) {
    open = row;
    write();
    turn(row);
    return detail(row, jump);
  }

  // One answer, beside the reference and under every judge.
  async function detail(row, jump) {
    let chunk = index.starts.length - 1;
    while (index.starts[chunk][0] > row) chunk--;
    if (!chunks.has(chunk)) chunks.set(chunk, inflate(`chunk-${chunk}`));
    const {prompts, rows} = await chunks.get(chunk);
    if (row !== open) return; // another one was opened meanwhile
    const [from, fromPrompt] = index.starts[chunk], prompt = index.prompt[row];
    const [messages, reference, group] = prompts[prompt - fromPrompt];
    const [answer, tokens, verdicts] = rows[row - from];
    const box = $("detail"), head = make("div", undefined, "head");
    head.append(make("h3", index.systems[index.system[row]][1]), step(row, -1), step(row, 1));
    const finish = index.finishes[index.finish[row]];
    const facts = [index.tasks[index.task[prompt]][1], `prompt ${index.ids[prompt]}`, `group ${group}`,
      `sample ${index.k[row]}`, tokens === null ? "" : `${tokens} tokens`, finish === "stop" ? "" : `ended: ${finish}`];
    const texts = make("div", undefined, "sides");
    texts.append(text("Reference", reference), text("Candidate", answer, "answer"));
    const judged = make("div", undefined, "sides");
    judged.append(...verdicts.map((verdict, judge) => card(index.judges[judge], verdict)));
    box.replaceChildren(head, make("p", facts.filter(Boolean).join(" · "), "caption"),
      ...messages.map(([role, said]) => text(role, said)), texts, ...diff(reference, answer), judged, others(row));
    box.dataset.row = key(row);
    if (jump) box.scrollIntoView({block: "start"});
  }

  function text(title, content, name) {
    const part = make("div", undefined, "text");
    part.append(make("h4", title), make("pre", content, name));
    return part;
  }

  // Two JSON texts as one list of lines, each marked that only one of them has; [] for other texts.
  function diff(reference, answer) {
    const [a, b] = [lines(reference), lines(answer)];
    if (!a || !b || a.length * b.length > 1e6) return [];
    const common = Array.from({length: a.length + 1}, () => new Uint32Array(b.length + 1));
    for (let i = a.length; i--;)
      for (let j = b.length; j--;)
        common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    const part = make("div", undefined, "text"), list = make("pre", undefined, "diff");
    part.append(make("h4", "Difference: − reference, + candidate"), list);
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
      if (i < a.length && j < b.length && a[i] === b[j]) list.append(make("span", `  ${a[i]}\n`)), i++, j++;
      else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1]))
        list.append(make("del", `− ${a[i++]}\n`));
      else list.append(make("ins", `+ ${b[j++]}\n`));
    }
    return [part];
  }

  // An object or a list, also in a fence, with sorted keys and without commas; null for other texts.
  function lines(said) {
    const fence = said.match(/^\s*```(?:json)?\s*\n([\s\S]*?)\n?```\s*$/);
    const sorted = (_, value) => value === null || typeof value !== "object" || Array.isArray(value) ? value :
      Object.fromEntries(Object.entries(value).sort(([x], [y]) => x < y ? -1 : 1));
    try {
      const value = JSON.parse(fence ? fence[1] : said);
      if (value === null || typeof value !== "object") return null;
      return JSON.stringify(value, sorted, 1).split("\n").map((line) => line.replace(/,$/, ""));
    } catch {
      return null;
    }
  }

  function card(judge, verdict) {
    const part = make("div", undefined, "text");
    part.append(make("h4", judge));
    if (verdict === null) {
      part.append(make("p", "did not judge this answer", "muted"));
      return part;
    }
    const [similarity, precision, why, whyNot, missing] = verdict;
    for (const [name, scores, reason] of [["Precision", precision, whyNot], ["Similarity", similarity, why]]) {
      const known = scores.filter((one) => one !== null);
      const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
      const line = make("p", undefined, "scores"), strip = make("span", undefined, "strip");
      for (const one of known) {
        const dot = make("i");
        dot.style.left = `${one}%`;
        strip.append(dot);
      }
      line.append(make("strong", `${name} ${number(mean)}`), strip);
      part.append(line);
      if (scores.length > 1) part.append(make("p", scores.map((one) => one ?? "–").join("  "), "repeats"));
      if (reason) part.append(make("p", reason, "reason"));
    }
    for (const [status, count] of Object.entries(missing))
      part.append(make("p", `${count} without a score: ${status}`, "muted"));
    return part;
  }

  function step(row, by) {
    const button = make("button", by < 0 ? "‹ previous" : "next ›"), to = shown[shown.indexOf(row) + by];
    button.type = "button";
    button.disabled = to === undefined || !shown.includes(row);
    button.addEventListener("click", () => show(to, false));
    return button;
  }

  function others(row) {
    const part = make("p", "Other answers to this prompt: ", "others"), prompt = index.prompt[row];
    const metric = values().metric;
    for (let other = index.prompt.indexOf(prompt); index.prompt[other] === prompt; other++) {
      if (other === row) continue;
      const known = index.means[metric].map((of) => of[other]).filter((one) => one !== null);
      const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      const link = make("a", `${index.systems[index.system[other]][1]} · k ${index.k[other]} (${number(mean)})`);
      const to = other;
      link.href = `#row=${encodeURIComponent(key(other))}`;
      link.addEventListener("click", (event) => { event.preventDefault(); show(to, false); });
      part.append(link, " ");
    }
    return part.childElementCount ? part : make("p");
  }

  function options(name, pairs) {
    form.elements[name].append(...pairs.map(([value, label]) => new Option(label, value)));
    if (pairs.length < 2) form.elements[name].closest("label").hidden = true;
  }

  async function start() {
    index = await inflate("index");
    options("task", index.tasks);
    options("system", index.systems);
    options("judge", index.judges.map((judge, place) => [place, judge]));
    form.elements.sort.value = usual().sort;
    if (index.judges.length < 2) form.elements.apart.closest("label").hidden = true;
    form.addEventListener("input", () => { filter(); write(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => {
      form.elements.sort.value = usual().sort;
      filter();
      write();
    }));
    $("back").addEventListener("click", () => { first -= PAGE; list(); });
    $("forth").addEventListener("click", () => { first += PAGE; list(); });
    window.addEventListener("hashchange", read);
    filter();
    read();
    form.dataset.ready = "true";
  }

  const fail = (error) => { $("found").textContent = `This browser cannot show the rows: ${error.message}`; };
  requestAnimationFrame(() => setTimeout(() => start().catch(fail))); // the page is painted first
})();
