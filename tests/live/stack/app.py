"""A web app that counts its visits in redis; exits at once when it is told to be broken."""

import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import urlopen

VERSION = os.environ["VERSION"]


def visits():
    with open("/run/secrets/redis", encoding="ascii") as file:
        password = file.read().split()[1]
    with socket.create_connection(("gateway", 6379), timeout=5) as redis:
        redis.sendall(f"AUTH {password}\r\nINCR visits\r\n".encode())
        answers = redis.makefile("r")
        assert answers.readline() == "+OK\n", "AUTH"
        return int(answers.readline().lstrip(":"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            text = f"version {VERSION}, visit {visits()}\n" if self.path == "/app" else "well\n"
            self.send_response(200)
        except (OSError, AssertionError) as error:
            text = f"redis: {error!r}\n"
            self.send_response(502)
        self.end_headers()
        self.wfile.write(text.encode())


if sys.argv[1:] == ["check"]:
    urlopen("http://127.0.0.1:8000/health", timeout=5)
elif VERSION == "broken":
    sys.exit("this version is broken")
else:
    print(f"serving version {VERSION}")
    HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
