// The page's side of App Engine's Channel API, served by pytest-channelstub.
//
// A socket connects, then polls for as long as it is open. The server holds a poll until
// there is something to say, so that messages arrive at once and nothing runs in between.
(() => {
  "use strict";

  const goog = (globalThis.goog = globalThis.goog || {});
  const appengine = (goog.appengine = goog.appengine || {});
  if (appengine.Channel) return; // loaded twice: what the page has set stays

  // Kept, so that a page under test may put doubles in their place.
  const fetch = globalThis.fetch.bind(globalThis);
  const setTimeout = globalThis.setTimeout;
  // Undefined but for https, and for pages of this machine.
  const locks = navigator.locks;

  // Where the script came from: BASE_URL is relative to it. A script that was evaluated as
  // text, as jQuery's getScript does, came from the page's own server.
  const ORIGIN = globalThis.document?.currentScript?.src || location.href;
  // How long the server may hold a poll, in seconds.
  const WAIT = 30;
  // A browser opens six connections to a server at most. So many sockets of an origin have
  // their polls held, and leave the others to the pages; further ones poll now and then.
  const MOST_HELD = 4;
  // A page that is late for its next poll by so many seconds is taken to be gone.
  const GRACE = 5;
  // The server takes no longer pause, and setTimeout none beyond 24 days.
  const LONGEST_PAUSE_MS = 3_600_000;

  const CONNECTING = 0;
  const OPEN = 1;
  const CLOSING = 2;
  const CLOSED = 3;

  const ignore = () => {};
  const sockets = new Set();

  // What ends a socket: the `code` and `description` that `onerror` is given.
  class Failure extends Error {
    constructor(code, description) {
      super(description);
      this.code = code;
    }
  }

  function Channel(token) {
    if (!(this instanceof Channel)) return new Channel(token);
    this.token_ = String(token);
  }

  Channel.prototype.open = function (handler) {
    return new Socket(this.token_, handler || new Socket.Handler());
  };

  class Socket {
    constructor(token, handler) {
      this.readyState = CONNECTING;
      this.onopen = handler.onopen || ignore;
      this.onmessage = handler.onmessage || ignore;
      this.onerror = handler.onerror || ignore;
      this.onclose = handler.onclose || ignore;
      this.token_ = token;
      this.page_ = Math.random().toString(36).slice(2);
      this.aborter_ = new AbortController();
      this.ended_ = new Promise((resolve) => this.aborter_.signal.addEventListener("abort", resolve));
      this.isHeld_ = false;
      this.connected_ = request(this, "connect");
      sockets.add(this);
      run(this);
    }

    // Send a message to the app, as a POST to /_ah/channel/receive; false if not open.
    send(data) {
      if (this.readyState !== OPEN) return false;
      const key = this.token_.split("-").slice(4).join("-"); // the client id
      post(new URLSearchParams({ key, msg: data })).catch((failure) => report(this, failure));
      return true;
    }

    async close() {
      if (this.readyState >= CLOSING) return;
      this.readyState = CLOSING;
      this.aborter_.abort();
      // A disconnect that arrives before the connect would leave the client connected.
      await this.connected_.catch(ignore);
      await fetch(url(this, "disconnect"), { keepalive: true }).catch(ignore);
      end(this);
    }
  }

  Socket.ReadyState = { CONNECTING, OPEN, CLOSING, CLOSED };
  Socket.BASE_URL = "/_ah/channel/";
  Socket.Handler = function () {};
  for (const name of ["onopen", "onmessage", "onerror", "onclose"]) {
    Socket.Handler.prototype[name] = function () {};
  }
  // The pause after a poll that the server answered without holding it, in milliseconds.
  Socket.POLLING_TIMEOUT_MS = 500;
  // The pauses before a request is made again when the connection broke, in milliseconds.
  Socket.RETRY_DELAYS_MS = [50, 100, 200, 400, 800, 1600, 3200];

  async function run(socket) {
    try {
      await socket.connected_;
      if (socket.readyState !== CONNECTING) return;
      socket.readyState = OPEN;
      notify(socket, "onopen", {});
      while (socket.readyState === OPEN) await poll(socket);
    } catch (failure) {
      if (socket.readyState >= CLOSING) return;
      socket.readyState = CLOSED;
      report(socket, failure);
      end(socket);
    }
  }

  async function poll(socket) {
    if (!socket.isHeld_) await takeTurn(socket);
    const began = Date.now();
    const message = await request(socket, "poll");
    if (socket.readyState !== OPEN) return;
    if (message !== null) {
      notify(socket, "onmessage", { data: message });
    } else {
      const early = pollingTimeout() - (Date.now() - began);
      if (early > 0) await pause(socket, Math.min(early, pollingTimeout()));
    }
  }

  // Have this socket's polls held, if fewer than four of the origin's are; the browser frees
  // the lock when the socket ends, or its page does.
  async function takeTurn(socket) {
    for (let number = 0; locks && number < MOST_HELD && !socket.isHeld_; number++) {
      await new Promise((resolve) => {
        const hold = (lock) => {
          socket.isHeld_ = lock !== null;
          resolve();
          return lock && socket.ended_;
        };
        const name = `channelstub-poll-${number}`;
        locks.request(name, { ifAvailable: true }, hold).catch(resolve);
      });
    }
  }

  // Repeat a request until there is an answer: the message, or null for no message.
  async function request(socket, command) {
    for (let tries = 0; ; tries++) {
      try {
        return await requestOnce(socket, command);
      } catch (failure) {
        const final = failure.code >= 400 && failure.code < 500;
        const delays = Socket.RETRY_DELAYS_MS;
        if (final || tries >= delays.length || socket.readyState >= CLOSING) throw failure;
        await pause(socket, delays[tries]);
        if (socket.readyState >= CLOSING) throw failure;
      }
    }
  }

  async function requestOnce(socket, command) {
    // A connect is never aborted: nobody could say whether it had arrived.
    const signal = command === "poll" ? socket.aborter_.signal : undefined;
    const response = await fetch(url(socket, command), { cache: "no-store", signal });
    const body = await response.arrayBuffer();
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(body);
    if (!response.ok) throw new Failure(response.status, response.statusText || text);
    return command === "poll" && response.headers.has("Content-Type") ? text : null;
  }

  async function post(body) {
    const response = await fetch(resolve("receive"), { method: "POST", body });
    if (!response.ok) throw new Failure(response.status, response.statusText);
  }

  function url(socket, command) {
    const query = new URLSearchParams({ command, channel: socket.token_, page: socket.page_ });
    if (command === "poll" && socket.isHeld_) query.set("wait", WAIT);
    if (command !== "disconnect") query.set("next_poll_within", pollingTimeout() / 1000 + GRACE);
    return resolve(`dev?${query}`);
  }

  function resolve(path) {
    return new URL(Socket.BASE_URL + path, ORIGIN);
  }

  function pollingTimeout() {
    return Math.min(Math.max(0, Number(Socket.POLLING_TIMEOUT_MS) || 0), LONGEST_PAUSE_MS);
  }

  function pause(socket, milliseconds) {
    const time = new Promise((resolve) => setTimeout(resolve, milliseconds));
    return Promise.race([time, socket.ended_]);
  }

  function report(socket, failure) {
    const code = failure instanceof Failure ? failure.code : 0;
    notify(socket, "onerror", { code, description: failure.message });
  }

  function end(socket) {
    socket.readyState = CLOSED;
    socket.aborter_.abort();
    if (sockets.delete(socket)) notify(socket, "onclose", {});
  }

  // An exception in a handler is the page's, reported as any other; the socket goes on.
  function notify(socket, name, argument) {
    try {
      if (typeof socket[name] === "function") socket[name](argument);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  globalThis.addEventListener("pagehide", () => {
    for (const socket of sockets) {
      if (socket.readyState >= CLOSING) continue;
      socket.readyState = CLOSING;
      socket.aborter_.abort();
      fetch(url(socket, "disconnect"), { keepalive: true }).catch(ignore);
    }
  });

  // A page that the browser kept, and now shows again, learns that its sockets are closed.
  globalThis.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const socket of [...sockets]) end(socket);
  });

  appengine.Channel = appengine.DevChannel = Channel;
  appengine.Socket = appengine.DevSocket = Socket;
})();
