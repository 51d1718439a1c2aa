/**
 * One WebSocket to the service, kept up: it comes back by itself, subscribes anew, and says when it is silent.
 *
 * Of each subscription the latest value is kept and handed on once per frame of the screen; nothing queues up.
 */

const SILENT_AFTER_MS = 3_000;
const BROKEN_AFTER_MS = 10_000;
const LOOK_EVERY_MS = 250;
const SLEPT_MS = 2_000;
const AGAIN_AFTER_MS = 1_000;
const ATTEMPTS_UNHEARD_MAX = 3;
const BACKOFF_MS = [250, 500, 1_000, 2_000, 4_000];
const KEPT_IN_ORDER_MAX = 500;
const POLICY = 1008;

/** How far the date is ahead of what the page has lived through: more, once the machine has slept or its clock was set. */
const aheadMs = () => Date.now() - performance.now();

/**
 * @typedef {object} Status
 * @property {"connecting"|"live"|"stale"|"refused"} state
 * @property {string} detail For a person; empty where there is nothing to say.
 * @property {number|null} heardAt performance.now() of the latest message.
 */

export class Stream {
  /**
   * @param {string} key
   * @param {{onStatus: (status: Status) => void, onSession: (session: {account: string, scopes: string[]}) => void,
   *   onRefused: (detail: string) => void}} listener
   */
  constructor(key, listener) {
    this.key = key;
    this.listener = listener;
    this.subscriptions = new Map();
    this.heardAt = null;
    this.attempt = 0;
    this.open = false;
    this.over = false;
    this.refusal = "";
    this.state = "connecting";
    this.scheduled = 0;
    this.retry = 0;
    this.ahead = aheadMs();
    this.looking = setInterval(() => this.look(), LOOK_EVERY_MS);
    this.connect();
  }

  /**
   * Follow something; a subscription of the same name takes the other's place.
   * @param {string} name Of ours, and the subscription's id.
   * @param {object} message channel, symbol and whatever else the channel takes.
   * @param {(data: object, heardAt: number) => void} onValue Told when it came, too, by performance.now().
   * @param {(problem: object) => void} onError Told what stands in a value's place.
   * @param {boolean} [inOrder] Hand on every value rather than the latest.
   */
  subscribe(name, message, onValue, onError, inOrder = false) {
    const before = this.subscriptions.get(name);
    if (before && before.message.symbol !== message.symbol) this.unsubscribe(name);
    const waiting = before && before.message.symbol === message.symbol ? before.waiting : 0;
    const served = before && before.message.symbol === message.symbol ? before.served : false;
    const subscription = { name, message, onValue, onError, inOrder, fresh: [], waiting, served };
    this.subscriptions.set(name, subscription);
    if (this.open) this.begin(subscription);
  }

  /** @param {string} name */
  unsubscribe(name) {
    const subscription = this.subscriptions.get(name);
    if (!subscription) return;
    this.subscriptions.delete(name);
    if (this.open) this.end(subscription);
  }

  /** Leave for good. */
  close() {
    this.over = true;
    clearInterval(this.looking);
    clearTimeout(this.retry);
    cancelAnimationFrame(this.scheduled);
    this.socket?.close();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/stream`);
    this.socket = socket;
    this.dialledAt = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ op: "auth", key: this.key }));
    socket.onmessage = (event) => socket === this.socket && this.hear(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.socket && this.lost(event);
  }

  begin(subscription) {
    subscription.waiting += 1;
    this.send({ op: "subscribe", id: subscription.name, ...subscription.message });
  }

  end({ name, message }) {
    this.send({ op: "unsubscribe", id: name, channel: message.channel, symbol: message.symbol });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  hear(frame) {
    this.heardAt = performance.now();
    if (frame.op === "authenticated") {
      this.open = true;
      this.attempt = 0;
      this.listener.onSession({ account: frame.account, scopes: frame.scopes });
      for (const subscription of this.subscriptions.values()) {
        subscription.waiting = 0;
        subscription.served = false;
        this.begin(subscription);
      }
    } else if (frame.error && !("sequence" in frame)) {
      this.refused(frame.error);
    } else {
      this.take(frame);
    }
    if (this.open) this.become("live", "");
  }

  /** Take a value, what stands in its place, or word that a subscription has begun. */
  take(frame) {
    const subscription = this.subscriptions.get(frame.id);
    if (!subscription || (frame.symbol ?? undefined) !== subscription.message.symbol) return;
    if (frame.op === "subscribed") {
      subscription.waiting -= 1;
      subscription.served = true;
    } else if (frame.channel && subscription.waiting === 0 && "sequence" in frame) {
      if (!subscription.inOrder) subscription.fresh.length = 0;
      else if (subscription.fresh.length >= KEPT_IN_ORDER_MAX) subscription.fresh.shift();
      subscription.fresh.push({ ...frame, heardAt: this.heardAt });
      this.scheduled ||= requestAnimationFrame(() => this.handOn());
    }
  }

  /** A message of ours was refused: the key, or a subscription. */
  refused(problem) {
    if (problem.op === "auth" || !this.open) {
      this.refusal = problem.code === "rate_limited" ? "" : problem.detail;
      this.trouble = problem.detail;
      return;
    }
    const subscription = problem.op === "subscribe" && this.subscriptions.get(problem.id);
    if (!subscription) return;
    subscription.waiting -= 1;
    if (subscription.waiting > 0) return;
    if (subscription.served) this.end(subscription); // The one before it would go on.
    subscription.served = false;
    subscription.fresh.length = 0;
    subscription.onError(problem);
    if (problem.retry === "same_request") setTimeout(() => this.again(subscription), AGAIN_AFTER_MS * (1 + Math.random()));
  }

  /** Ask once more for what was put off, unless something else has been asked for meanwhile. */
  again(subscription) {
    const wanted = this.subscriptions.get(subscription.name) === subscription;
    if (wanted && this.open && subscription.waiting === 0 && !subscription.served) this.begin(subscription);
  }

  handOn() {
    this.scheduled = 0;
    for (const subscription of this.subscriptions.values()) {
      for (const frame of subscription.fresh.splice(0)) {
        if (frame.error) subscription.onError(frame.error);
        else subscription.onValue(frame.data, frame.heardAt);
      }
    }
  }

  lost(event) {
    const known = this.open;
    this.open = false;
    if (this.over) return;
    if ((event.code === POLICY && known) || this.refusal) {
      this.close();
      this.become("refused", this.refusal || event.reason);
      this.listener.onRefused(this.refusal || event.reason);
      return;
    }
    const pauseMs = BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)] * (0.75 + Math.random() / 2);
    this.attempt += 1;
    this.retry = setTimeout(() => this.connect(), pauseMs);
    const unheard = this.heardAt === null && this.attempt >= ATTEMPTS_UNHEARD_MAX ? "no stream comes through" : "";
    const trouble = this.trouble || unheard;
    this.become(this.heardAt === null ? "connecting" : "stale", trouble ? `${trouble}; trying again` : "reconnecting");
    this.trouble = "";
  }

  /** See whether it has fallen silent; venues are told every second, so silence means that something is wrong. */
  look() {
    const now = performance.now();
    const since = now - Math.max(this.heardAt ?? 0, this.dialledAt);
    const ahead = aheadMs();
    const slept = Math.abs(ahead - this.ahead) > SLEPT_MS;
    this.ahead = ahead;
    if (this.socket.readyState <= WebSocket.OPEN && (since > BROKEN_AFTER_MS || slept)) {
      const silent = this.socket;
      this.lost({ code: 1006, reason: "" });
      this.socket = { readyState: WebSocket.CLOSED, close() {} };
      silent.close();
    } else if (this.open && now - this.heardAt > SILENT_AFTER_MS) {
      this.become("stale", "no message");
    }
  }

  become(state, detail) {
    if (state === this.state && detail === this.detail) return;
    this.state = state;
    this.detail = detail;
    this.listener.onStatus({ state, detail });
  }
}
