"""A time-stamping service over HTTP (RFC 3161, 3.4) for tests: hands each request to a program and its answer back.

    tsa.py PROGRAM ARGUMENT..

`{in}` and `{out}` among the arguments are files for request and answer, `{number}` counts the requests. The first line on standard
output is the address. It serves until it is killed.
"""
import http.server
import pathlib
import subprocess
import sys
import tempfile

count = 0


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global count
        count += 1
        request = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] != "application/timestamp-query":
            return self.send_error(415)
        with tempfile.TemporaryDirectory() as folder:
            names = {"in": f"{folder}/query", "out": f"{folder}/answer", "number": str(count)}
            pathlib.Path(names["in"]).write_bytes(request)
            words = sys.argv[1:]
            for name, value in names.items():
                words = [word.replace("{" + name + "}", value) for word in words]
            subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            answer = pathlib.Path(names["out"])
            if not answer.exists():
                return self.send_error(500)
            body = answer.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
