"""What the bench scripts share: the programs, a whole small house on this machine, and the kernel's book of a process."""

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from socket import create_connection, socket

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("HUFU_BIN_DIR", ROOT / "target" / "release"))
PROVISION = r"""for place in $(cat outside); do echo 0 > "$place"; done
request=$(cat)
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
sample_ms = {sample_ms}
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


# Told to stop, a bench ends as by ctrl-c: with everything that it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def program(name):
    path = BIN / name
    if not path.is_file():
        raise SystemExit(f"{path} is not there; run: make release")
    return str(path)


def tool(name):
    """A program of the distribution, on the search path or where only root looks."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise SystemExit(f"{name} is missing; run: scripts/setup {name}")
    return path


def listens(port):
    try:
        create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


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


def free_port():
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def remove_cgroup(folder):
    """It empties a moment after its last process has been killed."""
    for _ in range(50):
        try:
            return folder.rmdir()
        except OSError:
            time.sleep(0.1)


def median(values):
    return statistics.median(values)


class Parties:
    """A root, a platform and a buyer with their papers, and nodes, in one folder; everything ends with the `with` block. `inside`
    turns an agent's command line into one that runs in a place of the caller's."""

    def __init__(self, inside=list):
        self.inside = inside
        self.processes = []

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="hufu-bench-")
        self.at = pathlib.Path(self.folder.name)
        try:
            self.certify()
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def certify(self):
        self.hufu("key", "new", "--out", "root.key")
        self.hufu("pki", "root", "--key", "root.key", "--subject", "CN=bench-root,C=CN", "--out", "root.pem")
        for name, subject in (("platform", "CN=s1/platform"), ("buyer", "CN=buyer-1")):
            self.hufu("key", "new", "--out", f"{name}.key")
            self.hufu("key", "csr", "--key", f"{name}.key", "--subject", subject, "--out", f"{name}.csr")
            self.issue(f"{name}.csr", f"{name}.pem")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        self.clean()
        self.folder.cleanup()

    def clean(self):
        """Takes away what the programs left outside the folder."""

    def hufu(self, *arguments, statuses=(0,)):
        return run("hufu", *arguments, cwd=self.at, statuses=statuses)

    def issue(self, csr, out):
        self.hufu("pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", csr, "--out", out)

    def start(self, *command):
        """Its output is in the file that `process.log` names."""
        log = self.at / f"{len(self.processes)}.log"
        with open(log, "ab") as file:
            process = subprocess.Popen(command, cwd=self.at, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        process.log = log
        self.processes.append(process)
        return process

    def serve(self, *more):
        """The platform; `more` says what it is told of its broker and database."""
        self.platform = self.start(
            program("hufu-platform"), "serve", "--dir", "platform", "--site", "s1", "--key", "platform.key", "--cert",
            "platform.pem", "--trust", "root.pem", "--listen", "127.0.0.1:0", *more)
        said = self.at / "platform" / "platform.json"
        self.ready = json.loads(until("the platform", lambda: said.exists() and said.read_text()))

    def node(self, folder, node, broker, config):
        """A node that was certified, with more of its configuration; its agent."""
        self.hufu("init", "--dir", folder, "--site", "s1", "--node", node, "--broker", broker, "--trust", "root.pem",
                  "--platform-cert", "platform.pem")
        self.issue(f"{folder}/node.csr", f"{node}.pem")
        self.hufu("init", "--dir", folder, "--cert", f"{node}.pem")
        with open(self.at / folder / "hufu.toml", "a") as file:
            file.write(config)
        return self.start(*self.inside([program("hufu"), "agent", "--config", f"{folder}/hufu.toml"]))

    def buy(self, node, number, term, limit_s=60):
        who = ("--platform", f"http://{self.ready['http']}", "--key", "buyer.key", "--cert", "buyer.pem", "--trust",
               "root.pem", "--state", f"contract-{number}")
        for what, *more in (("browse", "--node", f"s1/{node}", "--product", "small"), ("order", "--term", term, "--ceiling", "1000")):
            asked = ("buyer", what, *who, *more)
            until(f"{what} at {node}", lambda: self.hufu(*asked, statuses=(0, 1, 69))[0] == 0, limit_s)


class House(Parties):
    """One node with workloads. The broker is the platform's own, or a mosquitto. Workloads start from the cgroups of the files
    `outside`, because what the kernel holds for a process stays where the process was made."""

    def __init__(self, window_s=60, sample_ms=1000, mosquitto=False, inside=list, outside=()):
        super().__init__(inside)
        self.window_s = window_s
        self.sample_ms = sample_ms
        self.mosquitto = mosquitto
        self.outside = outside

    def open(self):
        self.serve(*self.broker())
        (self.at / "provision.sh").write_text(PROVISION)
        (self.at / "outside").write_text("\n".join(map(str, self.outside)))
        config = NODE_TOML.format(window_s=self.window_s, sample_ms=self.sample_ms)
        self.agent = self.node("node", "n1", self.ready["broker"], config)
        until("the link", lambda: (self.status() or {}).get("linked"))

    def broker(self):
        """What the platform is told of its broker."""
        if not self.mosquitto:
            return ["--embedded-broker"]
        port = free_port()
        (self.at / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        self.start(tool("mosquitto"), "-c", "mosquitto.conf")
        until("mosquitto", lambda: listens(port))
        return ["--broker", f"127.0.0.1:{port}"]

    def clean(self):
        for path in self.at.glob("*.pid"):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass
            # The orders go on without their agent, and so do their cgroups: cgtop and collectd would look at them for ever.
            for folder in pathlib.Path("/sys/fs/cgroup").glob(f"**/hufu-bench/{path.stem}"):
                remove_cgroup(folder)

    def status(self):
        return self.hufu("status", "--config", "node/hufu.toml", statuses=(0, 69))[1]

    def order(self, number, term):
        self.buy("n1", number, term)
