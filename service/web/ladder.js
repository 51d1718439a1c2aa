/**
 * The merged ladder: only the rows that can be seen are there, made once and written in place, so that twenty books of
 * four hundred levels a second cost little.
 */

import { colourOf } from "./palette.js";
import { difference, spreadBps, text, units } from "./decimal.js";

const PRICE_DECIMALS_MAX = 5;
const SMALL_PRICE_DECIMALS_MAX = 9; // Below 1, where digits begin late.
const QUANTITY_DECIMALS_MAX = 6;
const ROOM = { price: 11, quantity: 9, sum: 10 }; // Letters that app.css gives a column.
const FAR = 6; // So many zeros after the point are counted rather than written.
const SIZES = [
  [12, "T"],
  [9, "B"],
  [6, "M"],
];
const BAR_QUANTILE = 0.95;
const ROW_PX = 21; // As --row in app.css.
const BEYOND = 3; // Rows above and below what can be seen.

const LEFT_OUT = /[…TBM₀-₉]/;

/** Make an element with a class and a role. */
function make(tag, name, role) {
  const element = document.createElement(tag);
  element.className = name;
  if (role) element.setAttribute("role", role);
  return element;
}

/** A cell whose text is written only when it changes. */
class Cell {
  constructor(parent, name, role = "cell") {
    this.element = make("span", name, role);
    this.node = document.createTextNode("");
    this.element.append(this.node);
    this.shown = "";
    this.title = "";
    this.cut = false;
    parent.append(this.element);
  }

  /** Show *value*, which stands for *exact*: where something of it is left out, pointing at it gives the rest. */
  show(value, exact = value) {
    if (value !== this.shown) {
      this.shown = value;
      this.node.data = value;
      this.cut = LEFT_OUT.test(value);
    }
    const title = this.cut ? exact : "";
    if (title !== this.title) this.element.title = this.title = title;
  }
}

class Row {
  constructor(side) {
    this.element = make("div", "level", "row");
    this.element.dataset.side = side;
    this.venue = new Cell(this.element, "venue");
    this.price = new Cell(this.element, "price");
    this.other = new Cell(this.element, "other");
    this.quantity = new Cell(this.element, "quantity");
    this.sum = new Cell(this.element, "sum");
    const gone = make("span", "gone", "cell");
    this.taken = new Cell(gone, "taken", "");
    this.held = new Cell(gone, "held", "");
    this.element.append(gone);
    this.name = "";
    this.level = "";
    this.width = -1;
    this.place = -1;
    this.index = -1;
    this.hide();
  }

  hide() {
    if (!this.element.hidden) this.element.hidden = true;
  }

  /** Stand for the level that is so far from the best one. */
  stand(place, first) {
    if (place !== this.place) {
      this.place = place;
      this.element.style[this.element.dataset.side === "ask" ? "bottom" : "top"] = `${place * ROW_PX}px`;
    }
    if (first + place !== this.index) {
      this.index = first + place;
      this.element.setAttribute("aria-rowindex", this.index);
    }
  }

  show(level, price, other, decimals, sum, width) {
    if (this.element.hidden) this.element.hidden = false;
    if (level.venue !== this.name) {
      this.name = level.venue;
      this.element.dataset.venue = level.venue;
      this.element.className = `level ${colourOf(level.venue)}`;
    }
    if (level.price !== this.level) this.element.dataset.price = this.level = level.price;
    this.venue.show(level.venue);
    this.price.show(align(price, decimals.price, ROOM.price), price);
    this.other.show(align(other, decimals.other, ROOM.price), other);
    this.quantity.show(align(level.quantity, decimals.quantity, ROOM.quantity), level.quantity);
    this.sum.show(align(sum, decimals.quantity, ROOM.sum), sum);
    const byFills = level.held === "0" ? level.taken : difference(level.taken, level.held);
    this.taken.show(byFills === "0" ? "" : byFills);
    this.held.show(level.held === "0" ? "" : level.held);
    if (width !== this.width) {
      this.width = width;
      this.quantity.element.style.backgroundSize = `${width}% 17px`;
    }
  }
}

/** Put decimal points under each other; what there is no room for is cut, and says so. */
function align(amount, wanted, room) {
  const point = amount.indexOf(".");
  const have = point < 0 ? 0 : amount.length - point - 1;
  const whole = amount.length - have - (have ? 1 : 0);
  const decimals = Math.min(wanted, Math.max(0, room - whole - 1));
  if (whole > room || (have && !decimals)) return large(amount.slice(0, whole));
  if (have > decimals) return small(amount, room) ?? `${amount.slice(0, point + decimals)}…`;
  if (have === decimals) return amount;
  return amount + "\u00a0".repeat(decimals - have + (have === 0 ? 1 : 0));
}

/** Shorten a whole number of seven digits or more, too long for its column: 98.76B for 98765432109. */
function large(whole) {
  const [zeros, size] = SIZES.find(([zeros]) => whole.length > zeros);
  return `${whole.slice(0, -zeros)}.${whole.slice(-zeros).slice(0, 2)}${size}`;
}

/** Shorten a number close to 0, of which nothing would be seen: 0.0₈1234 has eight zeros after the point. */
function small(amount, room) {
  const zeros = /^0\.(0*)/.exec(amount)?.[1].length ?? 0;
  if (zeros < FAR) return null;
  const count = String(zeros).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
  return `0.0${count}${amount.slice(zeros + 2, zeros + room - 1 - count.length)}`;
}

function decimalsOf(amount) {
  const point = amount.indexOf(".");
  return point < 0 ? 0 : amount.length - point - 1;
}

/** One side: what is scrolled, as high as all its levels, and the rows that stand in it. */
class Side {
  constructor(root, name, label, onScroll) {
    this.name = name;
    this.group = make("div", `side ${name}s`, "rowgroup");
    this.group.tabIndex = 0;
    this.group.setAttribute("aria-label", label);
    this.sheet = make("div", "sheet", "none");
    this.group.append(this.sheet);
    root.append(this.group);
    this.rows = [];
    this.count = -1;
    this.visible = 0;
    this.scrolled = 0;
    const scroll = () => {
      this.scrolled = Math.abs(this.group.scrollTop);
      onScroll();
    };
    this.group.addEventListener("scroll", scroll, { passive: true });
    new ResizeObserver(() => {
      this.visible = Math.ceil(this.group.clientHeight / ROW_PX);
      onScroll();
    }).observe(this.group);
  }

  /** Make room for so many levels; gives the first and the last that are to be shown. */
  range(count) {
    if (count !== this.count) {
      this.count = count;
      this.sheet.style.height = `${count * ROW_PX}px`;
    }
    const begin = Math.max(0, Math.floor(this.scrolled / ROW_PX) - BEYOND);
    const size = this.visible + 2 * BEYOND;
    while (this.rows.length < size) {
      const row = new Row(this.name);
      this.rows.push(row);
      this.sheet.append(row.element);
    }
    return [begin, Math.min(count, begin + size)];
  }

  /** Show *levels*, the first of which is row number *first* of the table. */
  fill(levels, first, net, decimals, scale) {
    const [begin, end] = this.range(levels.length);
    let sum = 0n;
    for (let place = 0; place < begin; place += 1) sum += units(levels[place].quantity);
    for (let place = begin; place < end; place += 1) {
      const level = levels[place];
      sum += units(level.quantity);
      const width = Math.min(100, Math.round((Number(level.quantity) / scale) * 100));
      const [main, other] = net ? [level.net_price, level.price] : [level.price, level.net_price];
      const row = this.rows[place % this.rows.length];
      row.stand(place, first);
      row.show(level, main, other, decimals, text(sum), width);
    }
    for (const row of this.rows) {
      if (row.place < begin || row.place >= end) row.hide();
    }
  }

  hide() {
    this.rows.forEach((row) => row.hide());
  }
}

export class Ladder {
  /** @param {HTMLElement} root Filled with the table's sides. */
  constructor(root) {
    this.table = root.parentElement;
    const again = () => this.again();
    this.asks = new Side(root, "ask", "Asks, best first", again);
    this.middle = this.between(root);
    this.bids = new Side(root, "bid", "Bids, best first", again);
    this.clear();
  }

  between(root) {
    const group = make("div", "between", "rowgroup");
    this.row = make("div", "middle", "row");
    group.append(this.row);
    root.append(group);
    return new Cell(this.row, "spread");
  }

  /** Forget what was learnt of a symbol's numbers, and show nothing. */
  clear() {
    this.decimals = { price: 0, other: 0, quantity: 0 };
    this.data = null;
    this.asks.hide();
    this.bids.hide();
    this.middle.show("");
  }

  /** Show what is there once more, after scrolling. */
  again() {
    if (this.data && !this.scheduled) {
      this.scheduled = requestAnimationFrame(() => {
        this.scheduled = 0;
        if (this.data) this.show(this.data);
      });
    }
  }

  /**
   * Show a book.
   * @param {object} data As GET /v1/book answers it.
   */
  show(data) {
    this.data = data;
    const net = data.view === "net";
    this.learn(data, net);
    const scale = barScale(data);
    const { asks, bids } = data;
    this.asks.fill(asks, 2, net, this.decimals, scale);
    this.bids.fill(bids, asks.length + 3, net, this.decimals, scale);
    this.middle.show(between(data, net));
    this.number(asks.length + 2, asks.length + bids.length + 2);
  }

  /** Say how many rows there are, of which only some are in the document. */
  number(middle, count) {
    if (count === this.count && middle === this.at) return;
    [this.count, this.at] = [count, middle];
    this.row.setAttribute("aria-rowindex", middle);
    this.table.setAttribute("aria-rowcount", count);
  }

  /** Columns only ever get wider, so that nothing jumps. */
  learn(data, net) {
    const { decimals } = this;
    for (const levels of [data.asks, data.bids]) {
      for (const { price, net_price, quantity } of levels) {
        const [main, other] = net ? [net_price, price] : [price, net_price];
        const most = price.startsWith("0.") ? SMALL_PRICE_DECIMALS_MAX : PRICE_DECIMALS_MAX;
        decimals.price = Math.max(decimals.price, Math.min(most, decimalsOf(main)));
        decimals.other = Math.max(decimals.other, Math.min(most, decimalsOf(other)));
        decimals.quantity = Math.min(QUANTITY_DECIMALS_MAX, Math.max(decimals.quantity, decimalsOf(quantity)));
      }
    }
  }
}

/** Give the quantity that fills a bar: all but the very largest are shown in proportion. */
function barScale({ bids, asks }) {
  const sizes = [...bids, ...asks].map(({ quantity }) => Number(quantity)).sort((one, other) => one - other);
  return sizes[Math.floor((sizes.length - 1) * BAR_QUANTILE)] || 1;
}

function between({ bids, asks, crossed }, net) {
  if (!bids.length || !asks.length) return "one side is empty";
  const of = (level) => units(net ? level.net_price : level.price);
  const [bid, ask] = [of(bids[0]), of(asks[0])];
  const kind = net ? "net spread" : "spread";
  return `${kind} ${text(ask - bid)} · ${spreadBps(bid, ask)} bps${crossed ? " · venues cross" : ""}`;
}
