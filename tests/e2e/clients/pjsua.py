"""A phone on PJSIP, driven as baresip's ctrl_tcp drives one: netstrings of JSON, commands in, answers and events out.

Arguments: control address, own address, account as `user@domain`, edge as `host:port;transport=…`, CA file or `-`.
"""
import json
import queue
import socket
import sys
import threading

import pjsua2 as pj

NAMES = {
    pj.PJSIP_INV_STATE_INCOMING: "CALL_INCOMING",
    pj.PJSIP_INV_STATE_EARLY: "CALL_RINGING",
    pj.PJSIP_INV_STATE_CONFIRMED: "CALL_ESTABLISHED",
    pj.PJSIP_INV_STATE_DISCONNECTED: "CALL_CLOSED",
}


class Control:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)))
        self.commands = queue.Queue()
        self.peer = None
        self.waiting = []
        self.lock = threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        peer, _ = self.listener.accept()
        with self.lock:
            self.peer = peer
            for text in self.waiting:
                peer.sendall(text)
        data = b""
        while chunk := peer.recv(65536):
            data += chunk
            while b":" in data:
                length, rest = data.split(b":", 1)
                if len(rest) <= int(length):
                    break
                self.commands.put(json.loads(rest[: int(length)]))
                data = rest[int(length) + 1 :]
        self.commands.put({"command": "quit", "params": ""})

    def say(self, value):
        text = json.dumps(value).encode()
        text = b"%d:%s," % (len(text), text)
        with self.lock:
            if self.peer is None:
                self.waiting.append(text)
            else:
                self.peer.sendall(text)

    def tell(self, kind, param=""):
        self.say({"event": True, "type": kind, "param": str(param)})


class Call(pj.Call):
    def __init__(self, phone, call_id=pj.PJSUA_INVALID_ID):
        super().__init__(phone, call_id)
        self.phone = phone
        phone.calls.append(self)

    def onCallState(self, prm):
        info = self.getInfo()
        if info.state in NAMES:
            self.phone.control.tell(NAMES[info.state], info.lastStatusCode)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED and self in self.phone.calls:
            self.phone.calls.remove(self)

    def onCallMediaState(self, prm):
        media = [str(m.status) for m in self.getInfo().media]
        self.phone.control.tell("CALL_MEDIA", ",".join(media))

    def onCallTransferRequest(self, prm):
        self.phone.control.tell("CALL_TRANSFER", prm.dstUri)
        prm.statusCode = 202
        prm.newCall = Call(self.phone)

    def onCallReplaceRequest(self, prm):
        self.phone.control.tell("CALL_REPLACE")

    def onCallTransferStatus(self, prm):
        self.phone.control.tell("TRANSFER_STATUS", prm.statusCode)

    def onCallReplaced(self, prm):
        Call(self.phone, prm.newCallId)


class Phone(pj.Account):
    def __init__(self, control):
        super().__init__()
        self.control = control
        self.calls = []

    def onRegState(self, prm):
        good = prm.code // 100 == 2
        self.control.tell("REGISTER_OK" if good else "REGISTER_FAIL", prm.code)

    def onIncomingCall(self, prm):
        call = Call(self, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 180
        call.answer(answer)
        self.control.tell("CALL_INCOMING")

    def onInstantMessage(self, prm):
        self.control.tell("MESSAGE", prm.msgBody)


class Watched(pj.Buddy):
    def __init__(self, control):
        super().__init__()
        self.control = control

    def onBuddyState(self):
        info = self.getInfo()
        self.control.tell("BLF", "%s %s" % (info.subStateName, info.presStatus.statusText))


def operation(status=0):
    parameter = pj.CallOpParam(True)
    parameter.statusCode = status
    return parameter


def perform(phone, command, params):
    last = phone.calls[-1] if phone.calls else None
    if command == "dial":
        Call(phone).makeCall(params, operation())
    elif command == "accept":
        last.answer(operation(200))
    elif command == "busy":
        last.answer(operation(486))
    elif command == "hangup":
        last.hangup(operation())
    elif command == "hold":
        last.setHold(operation())
    elif command in ("resume", "reinvite"):
        again = operation()
        again.opt.flag = pj.PJSUA_CALL_UNHOLD
        last.reinvite(again)
    elif command == "transfer":
        last.xfer(params, operation())
    elif command == "attended":
        phone.calls[0].xferReplaces(phone.calls[-1], operation())
    elif command == "message":
        target, text = params.split(" ", 1)
        config = pj.BuddyConfig()
        config.uri = target
        phone.writer = pj.Buddy()
        phone.writer.create(phone, config)
        send = pj.SendInstantMessageParam()
        send.content = text
        phone.writer.sendInstantMessage(send)
    elif command == "watch":
        config = pj.BuddyConfig()
        config.uri, config.subscribe = params, True
        phone.watched = Watched(phone.control)
        phone.watched.create(phone, config)
    elif command == "unregister":
        phone.setRegistration(False)
    else:
        raise ValueError(command)


def main():
    control_at, own, aor, edge, ca = sys.argv[1:6]
    user, domain = aor.split("@")
    host, _, parameter = edge.partition(";")
    transport = parameter.removeprefix("transport=")
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
    config.logConfig.level = config.logConfig.consoleLevel = 4
    config.medConfig.threadCnt = 1
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    listen = pj.TransportConfig()
    listen.boundAddress = own
    if ca != "-":
        listen.tlsConfig.CaListFile = ca
        listen.tlsConfig.verifyServer = True
    kinds = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
    endpoint.transportCreate(kinds[transport], listen)
    endpoint.libStart()
    account = pj.AccountConfig()
    account.idUri = f"sip:{aor}"
    account.regConfig.registrarUri = f"sip:{domain};{parameter}"
    account.regConfig.timeoutSec = 600
    account.sipConfig.proxies.append(f"sip:{host};{parameter};lr")
    account.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, f"pw-{user}"))
    account.callConfig.prackUse = pj.PJSUA_100REL_OPTIONAL
    account.callConfig.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
    account.callConfig.timerMinSESec, account.callConfig.timerSessExpiresSec = 90, 90
    account.mediaConfig.transportConfig.boundAddress = own
    account.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_DISABLED
    phone = Phone(Control(control_at))
    phone.create(account)
    while True:
        endpoint.libHandleEvents(20)
        while not phone.control.commands.empty():
            asked = phone.control.commands.get()
            if asked["command"] == "quit":
                return
            try:
                perform(phone, asked["command"], asked["params"])
                phone.control.say({"response": True, "ok": True, "data": ""})
            except Exception as error:  # whatever it is, the story is told
                phone.control.say({"response": True, "ok": False, "data": str(error)})


main()
