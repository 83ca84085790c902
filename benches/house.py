"""What the bench scripts share: the programs, a whole small house on this machine, and the kernel's book of a process."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("HUFU_BIN_DIR", ROOT / "target" / "release"))
PROVISION = r"""request=$(cat)
no=$(printf %s "$request" | sed 's/.*"contract_no":"\([0-9a-f]*\)".*/\1/')
case $request in
  *'"verb":"start"'*)
    places=$(printf %s "$request" | sed 's/.*"procs_files":\[\([^]]*\)\].*/\1/' | tr -d '"' | tr ',' ' ')
    setsid sh -c 'for p in "$@"; do echo 0 > "$p"; done; while :; do sleep 5; done' - $places < /dev/null > /dev/null 2>&1 &
    echo $! > "$no.pid"
    echo "{\"pid\":$!}" ;;
  *) kill -9 "-$(cat "$no.pid")" ;;
esac
"""
NODE_TOML = """
[metering]
sample_ms = 1000
window_s = {window_s}
[provision]
place = "hufu-bench"
command = ["sh", "./provision.sh"]
[[product]]
id = "small"
name = "a hundredth of a core"
cpu_millicores = 10
memory_bytes = 1048576
[[product.tariff.price]]
resource = "cpu"
price = "36"
[[product.tariff.price]]
resource = "memory"
price = "1"
"""


def program(name):
    path = BIN / name
    if not path.is_file():
        raise SystemExit(f"{path} is not there; run: make release")
    return str(path)


def run(name, *arguments, cwd=None, statuses=(0,)):
    """Runs one of our programs to its end; returns its status and its JSON."""
    done = subprocess.run([program(name), "--json", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode not in statuses:
        raise SystemExit(f"{name} {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def until(what, look, limit_s=60):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"waited {limit_s} s for: {what}")


def cpu_ns(pid):
    """CPU time of a process's living threads, by the scheduler's book."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def rss_bytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


def median(values):
    return statistics.median(values)


class House:
    """PKI, platform with its broker inside, one node, one buyer; everything ends with the `with` block."""

    def __init__(self, window_s=60):
        self.window_s = window_s
        self.processes = []

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="hufu-bench-")
        self.at = pathlib.Path(self.folder.name)
        self.hufu("key", "new", "--out", "root.key")
        self.hufu("pki", "root", "--key", "root.key", "--subject", "CN=bench-root,C=CN", "--out", "root.pem")
        for name, subject in (("platform", "CN=s1/platform"), ("buyer", "CN=buyer-1")):
            self.hufu("key", "new", "--out", f"{name}.key")
            self.hufu("key", "csr", "--key", f"{name}.key", "--subject", subject, "--out", f"{name}.csr")
            self.issue(f"{name}.csr", f"{name}.pem")
        self.platform = self.start(
            "hufu-platform", "serve", "--dir", "platform", "--site", "s1", "--key", "platform.key", "--cert",
            "platform.pem", "--trust", "root.pem", "--embedded-broker")
        said = self.at / "platform" / "platform.json"
        self.ready = json.loads(until("the platform", lambda: said.exists() and said.read_text()))
        self.hufu("init", "--dir", "node", "--site", "s1", "--node", "n1", "--broker", self.ready["broker"], "--trust",
                  "root.pem", "--platform-cert", "platform.pem")
        self.issue("node/node.csr", "n1.pem")
        self.hufu("init", "--dir", "node", "--cert", "n1.pem")
        with open(self.at / "node" / "hufu.toml", "a") as config:
            config.write(NODE_TOML.format(window_s=self.window_s))
        (self.at / "provision.sh").write_text(PROVISION)
        self.agent = self.start("hufu", "agent", "--config", "node/hufu.toml")
        until("the link", lambda: (self.status() or {}).get("linked"))
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        for path in self.at.glob("*.pid"):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass
        self.folder.cleanup()

    def hufu(self, *arguments, statuses=(0,)):
        return run("hufu", *arguments, cwd=self.at, statuses=statuses)

    def issue(self, csr, out):
        self.hufu("pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", csr, "--out", out)

    def start(self, name, *arguments):
        log = open(self.at / f"{name}.log", "ab")
        process = subprocess.Popen([program(name), *arguments], cwd=self.at, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def status(self):
        return self.hufu("status", "--config", "node/hufu.toml", statuses=(0, 69))[1]

    def order(self, number, term):
        who = ("--platform", f"http://{self.ready['http']}", "--key", "buyer.key", "--cert", "buyer.pem", "--trust",
               "root.pem", "--state", f"contract-{number}")
        ask = ("buyer", "browse", *who, "--node", "s1/n1", "--product", "small")
        until("an offer", lambda: self.hufu(*ask, statuses=(0, 1, 69))[0] == 0)
        self.hufu("buyer", "order", *who, "--term", term, "--ceiling", "1000")
