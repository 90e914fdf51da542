const box = document.querySelector("#filter"), order = document.querySelector("#order"), count = document.querySelector("#count");
const list = document.querySelector("#jobs"), dialog = document.querySelector("#zoom");
const cards = [...list.children];
const texts = new Map(cards.map(card => [card, [...card.querySelectorAll(".find")].map(e => e.textContent).join(" ").toLowerCase()]));

function update() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const [field, sign] = order.value.split(" ");
  const value = card => card.dataset[field] === undefined ? -Infinity : sign * card.dataset[field];
  list.append(...(field ? [...cards].sort((a, b) => value(b) - value(a)) : cards));
  for (const card of cards) card.hidden = !words.every(word => texts.get(card).includes(word));
  const shown = cards.filter(card => !card.hidden).length;
  count.textContent = shown === cards.length ? `${shown}` : `${shown} of ${cards.length}`;
}

document.querySelector("#tools").hidden = false;
box.addEventListener("input", update);
order.addEventListener("change", update);
list.addEventListener("click", event => {
  const pictures = event.target.closest(".pictures");
  if (!pictures) return;
  const large = document.createElement("div");
  large.className = "pictures";
  large.append(...[...pictures.children].map(child => child.cloneNode(true)));
  dialog.replaceChildren(large);
  dialog.showModal();
});
dialog.addEventListener("click", () => dialog.close());
