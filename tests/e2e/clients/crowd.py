"""Connections that do next to nothing: `crowd.py idle|tls|slow COUNT HOST PORT OWN_HOST`. Says `ready` once all are up.

Those that are slow send a byte a second, of a request that is never whole.
"""
import socket
import ssl
import sys
import time

kind, count, host, port, own = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
crowd = []
for _ in range(count):
    line = socket.create_connection((host, port), timeout=60, source_address=(own, 0))
    crowd.append(anyone.wrap_socket(line, server_hostname="edge.test") if kind == "tls" else line)
print("ready", flush=True)
text = b"REGISTER sip:acme.test SIP/2.0\r\nX-Slow: " + b"x" * 3600
for at in range(len(text)):
    begun = time.monotonic()
    if kind == "slow":
        for line in crowd:
            line.send(text[at : at + 1])
    time.sleep(max(0, 1 - (time.monotonic() - begun)))
