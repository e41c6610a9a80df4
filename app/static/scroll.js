/**
 * Keeps the newest words in view until their question reaches the top, so that nobody has to
 * scroll back to read on; readers who look elsewhere are left alone.
 */

const NEAR_PIXELS = 48;
const GAP_PIXELS = 16;

export class Follower {
  #scroller;
  #button;
  #anchor = null;
  #following = true;

  constructor(scroller, content, button) {
    this.#scroller = scroller;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    button.addEventListener("click", () => this.follow());
    const observer = new ResizeObserver(() => this.#contentChanged());
    observer.observe(content);
    observer.observe(scroller);
  }

  /** Go to the end and stay there, but never so far that the top of `anchor` leaves the view. */
  follow(anchor = null) {
    this.#anchor = anchor;
    this.#following = true;
    this.#contentChanged();
  }

  get #end() {
    return this.#scroller.scrollHeight - this.#scroller.clientHeight;
  }

  get #target() {
    if (this.#anchor === null || !this.#anchor.isConnected) return this.#end;
    const top = this.#anchor.getBoundingClientRect().top;
    const inside = top - this.#scroller.getBoundingClientRect().top + this.#scroller.scrollTop;
    return Math.min(this.#end, Math.max(0, inside - GAP_PIXELS));
  }

  #contentChanged() {
    if (this.#following) this.#scroller.scrollTop = this.#target;
    this.#look();
  }

  #look() {
    const { scrollTop } = this.#scroller;
    const atEnd = this.#end - scrollTop < NEAR_PIXELS;
    if (atEnd && this.#end - this.#target > NEAR_PIXELS) this.#anchor = null; // went there by hand
    this.#following = Math.abs(this.#target - scrollTop) < NEAR_PIXELS;
    this.#button.hidden = atEnd;
  }
}
