"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.ariaSort === "descending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => { const text = row.cells[column].textContent.trim(), n = parseFloat(text); return isNaN(n) ? text : n; };
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)));
    table.tBodies[0].append(...(up ? rows : rows.reverse()));
  }));
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b));
}
const grid = document.getElementById("suspects");
if (grid) {
  const species = document.getElementById("species"), order = document.getElementById("order"), cards = [...grid.children];
  const show = () => {
    for (const card of cards) card.hidden = species.value !== "" && !card.dataset.species.split("|").includes(species.value);
    const key = order.value, value = card => key === "rank" ? Number(card.dataset.rank) : card.dataset[key];
    grid.append(...cards.sort((a, b) => compare(value(a), value(b)) || a.dataset.rank - b.dataset.rank));
    document.getElementById("shown").textContent = `${cards.filter(card => !card.hidden).length} of ${cards.length} shown`;
  };
  species.addEventListener("change", show);
  order.addEventListener("change", show);
  show();
}
const bar = document.getElementById("marks");
if (bar) {
  const cards = [...grid.children], download = document.getElementById("download"), clear = document.getElementById("clear");
  const others = document.getElementById("others"), key = `softlabels marks ${bar.dataset.page}`;
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(key)) || {}; } catch { /* a browser that keeps nothing: the page works */ }
  const questions = {"": "what is there too, or instead?", right: "what is there too?", wrong: "what is there instead?"};
  const verdict = card => card.querySelector("input:checked")?.value || "";
  const other = card => card.querySelector("select").value;
  const marked = () => cards.filter(verdict);
  const update = () => {
    for (const card of cards) {
      const select = card.querySelector("select"), noise = select.querySelector("[value=noise]");
      select.disabled = verdict(card) === "" || (verdict(card) === "right" && "background" in card.dataset);
      select.options[0].textContent = verdict(card) === "wrong" ? "unknown" : "nothing, or unknown";
      card.querySelector(".which").textContent = questions[verdict(card)];
      if (noise) noise.disabled = verdict(card) === "right";
      if (select.disabled || (noise?.selected && noise.disabled)) select.value = "";
      card.classList.toggle("right", verdict(card) === "right");
      card.classList.toggle("wrong", verdict(card) === "wrong");
    }
    const right = marked().filter(card => verdict(card) === "right").length, all = marked().length;
    document.getElementById("count").textContent = `${all} of ${cards.length} marked (${right} right, ${all - right} wrong)`;
    download.disabled = clear.hidden = all === 0;
    kept = Object.fromEntries(marked().map(card => [card.dataset.row, [verdict(card), other(card)]]));
    try { localStorage.setItem(key, JSON.stringify(kept)); } catch { /* as above */ }
  };
  for (const card of cards) {
    if (others) card.querySelector("select").append(others.content.cloneNode(true));
    const has = new Set(card.dataset.has.split("\n"));
    for (const option of card.querySelectorAll("option")) if (option.value && has.has(option.value)) option.remove();
    const [said, named] = kept[card.dataset.row] || ["", ""];
    for (const input of card.querySelectorAll("input")) input.checked = input.value === said;
    card.querySelector("select").value = named;
    card.addEventListener("change", update);
  }
  download.addEventListener("click", () => {
    const rows = marked().sort((a, b) => a.dataset.rank - b.dataset.rank).map(card => `${verdict(card)},${other(card)},${card.dataset.row}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`\ufeff${[bar.dataset.header, ...rows].join("\n")}\n`], {type: "text/csv"}));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  clear.addEventListener("click", () => {
    for (const input of bar.ownerDocument.querySelectorAll("#suspects input:checked")) input.checked = false;
    update();
  });
  update();
}
const hint = () => {
  for (const box of document.querySelectorAll(".scroll, .wide")) {
    const aside = box.scrollWidth > box.clientWidth + 1, down = box.scrollHeight > box.clientHeight + 1;
    if (!box.previousElementSibling?.classList.contains("hint")) {
      box.insertAdjacentHTML("beforebegin", '<p class="hint"></p>');
      box.tabIndex = 0;
    }
    const text = [aside ? "sideways \u2192" : "", down ? "down \u2193" : ""].filter(Boolean).join(" and ");
    box.previousElementSibling.textContent = text && `scroll ${text}`;
    box.previousElementSibling.hidden = text === "";
    box.classList.toggle("more", aside);
    box.classList.toggle("below", down);
  }
};
addEventListener("resize", hint);
hint();
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
