/**
 * A text that the browser keeps for the page. Where it keeps nothing for pages, the page does while it is open.
 */

export class Kept {
  /**
   * @param {() => Storage} store Gives one of the browser's stores; looking at them is refused in some browsers.
   * @param {string} name
   */
  constructor(store, name) {
    this.store = store;
    this.name = name;
    this.here = null;
  }

  /** @returns {string|null} */
  get() {
    try {
      return this.store().getItem(this.name);
    } catch {
      return this.here;
    }
  }

  /** @param {string|null} text Null for nothing. */
  set(text) {
    this.here = text;
    try {
      if (text === null) this.store().removeItem(this.name);
      else this.store().setItem(this.name, text);
    } catch {
      // It stays here.
    }
  }
}
