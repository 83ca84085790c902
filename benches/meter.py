#!/usr/bin/env python3
"""Exactness of `hufu meter`: metered CPU against what the workload's own rusage says, for a busy loop, short-lived children and
two threads. The bar is 0.5 % or 5 ms, whichever is larger, in a cgroup."""

import pathlib
import subprocess
import tempfile

from house import ROOT, median, run

REPEAT = 3
with tempfile.TemporaryDirectory(prefix="hufu-bench-") as folder:
    folder = pathlib.Path(folder)
    burn, said = folder / "burn", folder / "rusage"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", burn, ROOT / "benches" / "burn.c"], check=True)
    for name, mode, amount in (("5 s busy loop", "loop", 5000), ("150 short children", "children", 150),
                               ("two threads", "threads", 2000)):
        differences, ratios = [], []
        for _ in range(REPEAT):
            _, report = run("hufu", "meter", "--", str(burn), mode, str(amount), str(said), cwd=folder)
            own = int(said.read_text())
            cpu = next(u for u in report["usage"] if u["resource"] == "cpu")
            metered = int(cpu["quantity"])
            differences.append(abs(metered - own))
            ratios.append(metered / own)
        worst = max(differences)
        verdict = "ok" if worst <= max(own * 0.005, 5e6) else "OVER THE BAR"
        print(f"{name}: metered/own median {median(ratios):.5f}, worst difference {worst / 1e6:.2f} ms by {report['source']}: {verdict}")
    missing = [f"{u['resource']} ({u.get('reason')})" for u in report["usage"] if u.get("status") == "missing"]
    print("reported missing, never guessed: " + ("; ".join(missing) or "nothing"))
