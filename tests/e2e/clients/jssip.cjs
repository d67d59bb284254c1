// A phone on JsSIP, as in a browser: SIP over WebSocket with TLS. Driven as baresip's ctrl_tcp drives one: netstrings of JSON,
// commands in, answers and events out.
//
// Arguments: control address, account as `user@domain`, edge as `host:port`. NODE_EXTRA_CA_CERTS names who vouches for the edge.
// Media is none of this phone's business: where a browser has WebRTC it has a plain description.
"use strict";
const net = require("node:net");

const [controlAt, aor, edge] = process.argv.slice(2);
const user = aor.split("@")[0];

class PeerConnection extends EventTarget {
  signalingState = "stable";
  iceGatheringState = "complete";
  iceConnectionState = "new";
  localDescription = null;
  remoteDescription = null;
  describe(type) {
    const sdp = ["v=0", `o=- ${Date.now()} 1 IN IP4 127.0.0.1`, "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
      "m=audio 21900 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv", ""].join("\r\n");
    return Promise.resolve({ type, sdp });
  }
  createOffer() { return this.describe("offer"); }
  createAnswer() { return this.describe("answer"); }
  setLocalDescription(description) { this.localDescription = description; return Promise.resolve(); }
  setRemoteDescription(description) { this.remoteDescription = description; return Promise.resolve(); }
  addTrack() {}
  getSenders() { return []; }
  close() { this.signalingState = "closed"; }
}
globalThis.window = globalThis;
globalThis.RTCPeerConnection = PeerConnection;
globalThis.RTCSessionDescription = class { constructor(described) { Object.assign(this, described); } };
const JsSIP = require("jssip");

let peer = null;
const waiting = [];
function say(value) {
  const text = Buffer.from(JSON.stringify(value));
  const whole = Buffer.concat([Buffer.from(`${text.length}:`), text, Buffer.from(",")]);
  if (peer) peer.write(whole); else waiting.push(whole);
}
const tell = (type, param = "") => say({ event: true, type, param: String(param) });

const silent = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };
const media = { mediaConstraints: { audio: true, video: false }, mediaStream: silent, pcConfig: { iceServers: [] } };
const ua = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(`wss://${edge}`)],
  uri: `sip:${aor}`,
  password: `pw-${user}`,
  register_expires: 600,
  session_timers: true,
});
const calls = [];
ua.on("registered", () => tell("REGISTER_OK"));
ua.on("registrationFailed", (why) => tell("REGISTER_FAIL", why.cause));
ua.on("newMessage", (came) => came.originator === "remote" && tell("MESSAGE", came.request.body));
ua.on("newRTCSession", ({ originator, session }) => {
  calls.push(session);
  if (originator === "remote") tell("CALL_INCOMING");
  session.on("progress", (made) => made.originator === "remote" && tell("CALL_RINGING"));
  session.on("confirmed", () => tell("CALL_ESTABLISHED"));
  session.on("refer", (asked) => { tell("CALL_TRANSFER", asked.request.refer_to.uri); asked.accept(null, media); });
  for (const end of ["ended", "failed"]) {
    session.on(end, (why) => { calls.splice(calls.indexOf(session), 1); tell("CALL_CLOSED", why.cause); });
  }
});

// A new offer must wait until the one before it is done with.
async function offered(act) {
  while (!act()) await new Promise((later) => setTimeout(later, 10));
}
const last = () => calls[calls.length - 1];
const commands = {
  dial: (target) => ua.call(target, media),
  accept: () => last().answer(media),
  hangup: () => last().terminate(),
  hold: () => offered(() => last().hold()),
  resume: () => offered(() => last().unhold()),
  transfer: (target) => last().refer(target),
  attended: () => calls[0].refer(last().remote_identity.uri, { replaces: last() }),
  message: (params) => {
    const [target, ...text] = params.split(" ");
    ua.sendMessage(target, text.join(" "));
  },
  watch: (target) => {
    const lamp = ua.subscribe(target, "dialog", "application/dialog-info+xml", { expires: 600, contentType: "text/plain" });
    lamp.on("notify", (final, request, body) => tell("BLF", /<state>confirmed/.test(body) ? "busy" : "idle"));
    lamp.subscribe();
  },
  quit: () => process.exit(0),
};

net.createServer((socket) => {
  peer = socket;
  waiting.splice(0).forEach((text) => socket.write(text));
  socket.on("error", commands.quit);
  socket.on("close", commands.quit);
  let data = Buffer.alloc(0);
  socket.on("data", async (chunk) => {
    data = Buffer.concat([data, chunk]);
    for (let colon; (colon = data.indexOf(":")) > 0; ) {
      const length = Number(data.subarray(0, colon));
      if (data.length < colon + length + 2) return;
      const asked = JSON.parse(data.subarray(colon + 1, colon + 1 + length));
      data = data.subarray(colon + length + 2);
      try {
        await commands[asked.command](asked.params);
        say({ response: true, ok: true, data: "" });
      } catch (error) {
        say({ response: true, ok: false, data: String(error) });
      }
    }
  });
}).listen(Number(controlAt.split(":")[1]), controlAt.split(":")[0], () => ua.start());
