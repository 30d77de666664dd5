// The line to the server: it comes back by itself. Knows frames, and nothing of what they say.

const PAUSES_MS = [300, 1000, 2000, 4000, 8000, 15000];
const SILENCE_MS = 30000;
const SESSION_ENDED = 4401;
const NOT_ALLOWED = 4403;

/**
 * `onFrame(frame)` for everything that comes; `onState("open"|"lost"|"ended")` when that changes;
 * `isBusy()` says whether silence would be strange.
 */
export class Line {
  constructor({ onFrame, onState, isBusy }) {
    this.state = "";
    this.onFrame = onFrame;
    this.onState = onState;
    this.isBusy = isBusy;
    this.failures = 0;
    this.heardAt = 0;
    // Over once there is a line, or known that there is none for now.
    this.begun = new Promise((resolve) => (this.begin = resolve));
    window.addEventListener("online", () => this.retryNow());
    window.addEventListener("offline", () => this.drop());
    setInterval(() => this.doubt(), SILENCE_MS / 3);
    this.open();
  }

  /** Send a frame; false where there is no line. */
  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      this.retryNow();
      return false;
    }
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/chats`);
    this.socket = socket;
    socket.addEventListener("open", () => this.opened(socket));
    socket.addEventListener("close", (event) => this.closed(socket, event.code));
    socket.addEventListener("message", (event) => {
      if (socket === this.socket) {
        this.heardAt = performance.now();
        this.onFrame(JSON.parse(event.data));
      }
    });
  }

  opened(socket) {
    if (socket === this.socket) {
      this.failures = 0;
      this.heardAt = performance.now();
      this.change("open");
    }
  }

  closed(socket, code) {
    if (socket !== this.socket) {
      return;
    }
    this.socket = null;
    if (code === SESSION_ENDED || code === NOT_ALLOWED) {
      this.change("ended");
      return;
    }
    this.change("lost");
    const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), pause * (0.75 + Math.random() / 2));
  }

  /** The browser says that there is no network, or nothing has been heard for too long. */
  drop() {
    const socket = this.socket;
    if (socket) {
      this.closed(socket, 0);
      socket.close();
    }
  }

  retryNow() {
    if (!this.socket && this.state !== "ended") {
      this.open();
    }
  }

  doubt() {
    const isSilent = performance.now() - this.heardAt > SILENCE_MS;
    if (this.socket?.readyState === WebSocket.OPEN && isSilent && this.isBusy()) {
      this.drop();
    }
  }

  change(state) {
    if (state !== this.state) {
      this.state = state;
      this.onState(state);
      this.begin();
    }
  }
}
