/** Joins the parts of the page; everything else knows only what it is given. */

import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { newConversation } from "./conversation.js";
import { find, make } from "./element.js";
import { Health } from "./health.js";
import { History } from "./history.js";
import { notify } from "./notice.js";
import { Follower } from "./scroll.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { StyleSwitch } from "./styles.js";

const OPEN_KEY = "laconic.open";
const SLOW_MILLISECONDS = 600;

const history = new History();
const settings = new Settings();
const styles = new StyleSwitch(find("styles"));
const health = new Health();
const sidebar = new Sidebar(history);
const composer = new Composer();
const follower = new Follower(find("scroller"), find("content"), find("newest"));
const chat = new Chat({ log: find("log"), history, settings, styles });

function showConversation() {
  const { title, id, turns } = chat.conversation;
  find("title").textContent = title;
  document.title = turns.length === 0 ? "Laconic" : `${title} – Laconic`;
  find("welcome").hidden = turns.length > 0;
  composer.showBusy(chat.busy);
  sidebar.show(id);
  rememberOpen(id);
}

/** Each tab reopens its own conversation. */
function rememberOpen(id) {
  try {
    sessionStorage.setItem(OPEN_KEY, id);
  } catch {
    // The page will begin with a new one.
  }
}

function lastOpen() {
  try {
    return history.get(sessionStorage.getItem(OPEN_KEY));
  } catch {
    return null;
  }
}

async function open(conversation) {
  await chat.open(conversation);
  follower.follow();
  if (matchMedia("(pointer: fine)").matches) composer.focus(); // no keyboard jumps up on a phone
}

async function remove(ids) {
  if (ids.includes(chat.conversation.id)) await chat.open(newConversation());
  const removed = ids.map((id) => history.get(id)).filter((item) => item !== null);
  for (const { id } of removed) history.remove(id);
  const words = removed.length === 1 ? "Conversation deleted." : "All conversations deleted.";
  const undo = () => removed.forEach((conversation) => history.save(conversation));
  notify(words, { label: "Undo", run: undo });
}

function showHealth() {
  const { report } = health;
  if (report !== null) {
    if (report.styles?.length > 0) styles.show(report.styles, report.default_style);
    find("model").textContent = [report.adapter, report.adapter_version].filter(Boolean).join(" ");
    find("model").title = `Model ${report.model} on ${report.device}`;
  }
  const words = bannerText();
  const banner = find("banner");
  banner.hidden = words === "";
  if (banner.dataset.words === words) return; // the same news is not announced twice
  banner.dataset.words = words;
  const now = make("button", { type: "button", class: "small-button" }, "Try now");
  now.addEventListener("click", () => health.check());
  banner.replaceChildren(make("span", {}, words), ...(health.state === "unreachable" ? [now] : []));
}

function bannerText() {
  const { state, report } = health;
  if (state === "ready") return "";
  if (state === "asking") return "Connecting to the server …";
  if (state === "loading") return "The model is loading. Questions can be answered in a moment.";
  if (state === "unreachable") return "The server cannot be reached. Trying again …";
  return `The server cannot answer now. ${report.detail || `It is ${state}.`}`;
}

function keyDown(event) {
  if (event.key === "Escape" && chat.busy && !find("settings").open) chat.stop();
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const typing = event.target.closest?.("input, textarea, dialog") !== null;
  if (event.key === "/" && plain && !typing) {
    event.preventDefault();
    composer.focus();
  }
}

function start() {
  chat.addEventListener("change", showConversation);
  chat.addEventListener("failed", ({ detail }) => {
    if (detail.status === 0 || detail.status === 503) health.check();
  });
  chat.addEventListener("asked", ({ detail }) => follower.follow(detail));
  composer.addEventListener("ask", ({ detail }) => chat.ask(detail));
  composer.addEventListener("stop", () => chat.stop());
  sidebar.addEventListener("new", () => open(newConversation()));
  sidebar.addEventListener("open", ({ detail }) => open(history.get(detail) ?? newConversation()));
  sidebar.addEventListener("remove", ({ detail }) => remove([detail]));
  history.addEventListener("change", () => sidebar.show(chat.conversation.id));
  history.addEventListener("full", () => {
    notify("This browser has no room for more conversations. Export them and delete some.");
  });
  styles.addEventListener("change", () => {
    settings.showPresets(styles.presets);
    find("log").classList.toggle("one-style", styles.names.length < 2);
  });
  health.addEventListener("change", showHealth);
  find("delete-all").addEventListener("click", () => {
    settings.close();
    remove(history.titles.map(({ id }) => id));
  });
  for (const sample of document.querySelectorAll(".sample")) {
    sample.addEventListener("click", () => chat.ask(sample.textContent));
  }
  addEventListener("keydown", keyDown);
  setTimeout(() => health.state === "asking" && showHealth(), SLOW_MILLISECONDS);
  health.check();
  open(lastOpen() ?? newConversation());
}

start();
