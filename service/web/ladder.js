/**
 * The merged ladder: rows are made once and written in place, so that twenty books a second cost little.
 */

import { colourOf } from "./palette.js";
import { difference, spreadBps, text, units } from "./decimal.js";

const PRICE_DECIMALS_MAX = 5;
const QUANTITY_DECIMALS_MAX = 6;
const BAR_QUANTILE = 0.95;

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
    parent.append(this.element);
  }

  show(value) {
    if (value === this.shown) return;
    this.shown = value;
    this.node.data = value;
  }
}

class Row {
  constructor(side) {
    this.element = make("div", "level", "row");
    this.element.dataset.side = side;
    this.bar = make("i", "bar");
    this.bar.setAttribute("aria-hidden", "true");
    this.venue = new Cell(this.element, "venue");
    this.price = new Cell(this.element, "price");
    this.other = new Cell(this.element, "other");
    this.quantity = new Cell(this.element, "quantity");
    this.quantity.element.prepend(this.bar);
    this.sum = new Cell(this.element, "sum");
    const gone = make("span", "gone", "cell");
    this.taken = new Cell(gone, "taken", "");
    this.held = new Cell(gone, "held", "");
    this.element.append(gone);
    this.colour = "";
    this.name = "";
    this.width = -1;
    this.hide();
  }

  hide() {
    if (this.element.hidden) return;
    this.element.hidden = true;
  }

  show(level, price, other, decimals, sum, width) {
    if (this.element.hidden) this.element.hidden = false;
    if (level.venue !== this.name) {
      this.name = level.venue;
      this.element.dataset.venue = level.venue;
      this.element.className = `level ${colourOf(level.venue)}`;
      this.venue.element.title = level.venue;
    }
    if (level.price !== this.element.dataset.price) this.element.dataset.price = level.price;
    this.venue.show(level.venue);
    this.price.show(align(price, decimals.price));
    this.other.show(align(other, decimals.other));
    this.quantity.show(align(level.quantity, decimals.quantity));
    this.sum.show(align(sum, decimals.quantity));
    const byFills = level.held === "0" ? level.taken : difference(level.taken, level.held);
    this.taken.show(byFills === "0" ? "" : byFills);
    this.held.show(level.held === "0" ? "" : level.held);
    if (width !== this.width) {
      this.width = width;
      this.bar.style.transform = `scaleX(${width / 100})`;
    }
  }
}

/** Put decimal points under each other; what is finer than there is room for is cut, and says so. */
function align(amount, decimals) {
  const point = amount.indexOf(".");
  const have = point < 0 ? 0 : amount.length - point - 1;
  if (have > decimals) return `${amount.slice(0, point + decimals)}…`; // The element's title and data have the rest.
  if (have === decimals) return amount;
  return amount + "\u00a0".repeat(decimals - have + (have === 0 ? 1 : 0));
}

function decimalsOf(amount) {
  const point = amount.indexOf(".");
  return point < 0 ? 0 : amount.length - point - 1;
}

export class Ladder {
  /** @param {HTMLElement} root Filled with the table. */
  constructor(root) {
    this.asks = this.side(root, "ask", "Asks, best first");
    this.middle = this.spread(root);
    this.bids = this.side(root, "bid", "Bids, best first");
    this.clear();
  }

  side(root, name, label) {
    const group = make("div", `side ${name}s`, "rowgroup");
    group.tabIndex = 0;
    group.setAttribute("aria-label", label);
    root.append(group);
    return { name, group, rows: [] };
  }

  spread(root) {
    const group = make("div", "between", "rowgroup");
    const row = make("div", "middle", "row");
    group.append(row);
    root.append(group);
    return new Cell(row, "spread");
  }

  /** Forget what was learnt of a symbol's numbers, and show nothing. */
  clear() {
    this.decimals = { price: 0, other: 0, quantity: 0 };
    for (const { rows } of [this.asks, this.bids]) rows.forEach((row) => row.hide());
    this.middle.show("");
  }

  /**
   * Show a book.
   * @param {object} data As GET /v1/book answers it.
   */
  show(data) {
    const net = data.view === "net";
    this.learn(data, net);
    const scale = barScale(data);
    this.fill(this.asks, data.asks, net, scale);
    this.fill(this.bids, data.bids, net, scale);
    this.middle.show(between(data, net));
  }

  /** Columns only ever get wider, so that nothing jumps. */
  learn(data, net) {
    const { decimals } = this;
    for (const levels of [data.asks, data.bids]) {
      for (const { price, net_price, quantity } of levels) {
        const [main, other] = net ? [net_price, price] : [price, net_price];
        decimals.price = Math.min(PRICE_DECIMALS_MAX, Math.max(decimals.price, decimalsOf(main)));
        decimals.other = Math.min(PRICE_DECIMALS_MAX, Math.max(decimals.other, decimalsOf(other)));
        decimals.quantity = Math.min(QUANTITY_DECIMALS_MAX, Math.max(decimals.quantity, decimalsOf(quantity)));
      }
    }
  }

  fill(side, levels, net, scale) {
    const { rows, group, name } = side;
    while (rows.length < levels.length) {
      const row = new Row(name);
      rows.push(row);
      group.append(row.element);
    }
    let sum = 0n;
    for (let place = 0; place < levels.length; place += 1) {
      const level = levels[place];
      sum += units(level.quantity);
      const width = Math.min(100, Math.round((Number(level.quantity) / scale) * 100));
      const [main, other] = net ? [level.net_price, level.price] : [level.price, level.net_price];
      rows[place].show(level, main, other, this.decimals, text(sum), width);
    }
    for (let place = levels.length; place < rows.length; place += 1) rows[place].hide();
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
