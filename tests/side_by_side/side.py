"""One side: a network namespace in which one proxy runs the cases of one group after the other. Both sides have the same
addresses and ports, so that the configuration is the same byte for byte and nothing has to be translated.

Run as a process of its own by harness.py; prints nothing, writes what was observed to a file.
"""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request

from . import case as cases
from . import client as clients
from . import fields
from . import origin as origins
from . import wire as wires

AT_ONCE = 48
START_SECONDS = 30
CASE_SECONDS = 40
HTTP_COUNTERS = ["downstream_rq_total", *[f"downstream_rq_{n}xx" for n in range(1, 6)], "downstream_cx_total",
                 "downstream_cx_protocol_error"]
CLUSTER_COUNTERS = ["upstream_rq_total", "upstream_cx_total", "upstream_rq_retry", "upstream_rq_timeout",
                    "upstream_rq_pending_overflow"]
BLACK_HOLE_RULE = f"""
table ip hole {{
  chain input {{
    type filter hook input priority 0;
    ip daddr {origins.BLACK_HOLE_ADDRESS} drop
  }}
}}
"""


def admin(path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{cases.ADMIN_PORT}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


class Proxy:
    def __init__(self, program, folder, index):
        self.output = os.path.join(folder, f"proxy-{index}.out")
        # Envoy says a warning for every listener about connection limits: errors are enough.
        command = [program, "-c", f"bootstrap-{index}.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error",
                   "--file-flush-interval-msec", "50", "--drain-time-s", "1"]
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if "LIVE" in admin("/ready"):
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                with open(self.output, encoding="utf-8", errors="replace") as output:
                    raise RuntimeError(f"{os.path.basename(program)} did not start: {output.read()[-3000:]}")
            time.sleep(0.02)

    def stop(self):
        """How it ended when it was told to: a crash is an observation too."""
        died = self.process.poll()
        if died is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        return died


def quiet(names):
    """Waits until nothing of the cases is under way."""
    deadline = time.monotonic() + 4
    pattern = re.compile(r"^(?:http|tcp)\.(\w+)\.downstream_(?:cx|rq)_active: ([1-9]\d*)$", re.MULTILINE)
    while time.monotonic() < deadline:
        busy = [name for name, _ in pattern.findall(admin("/stats?filter=downstream_(cx|rq)_active")) if name in names]
        if not busy:
            break
        time.sleep(0.05)
    time.sleep(0.3)  # logs are written every 50 ms


def counters(group):
    values = {}
    for line in admin("/stats").splitlines():
        name, _, value = line.rpartition(": ")
        if value.isdigit():
            values[name] = int(value)
    out = {}
    for each in group:
        wanted = [f"cluster.{cluster['name']}.{name}" for cluster in each.build_clusters() for name in CLUSTER_COUNTERS]
        if f"http.{each.name}.downstream_rq_total" in values:
            wanted += [f"http.{each.name}.{name}" for name in HTTP_COUNTERS]
        else:
            wanted += [f"tcp.{each.name}.downstream_cx_total"]
        wanted += [each.fill(name) for name in each.counters]
        out[each.name] = {name.replace(each.name, "$case"): values.get(name, 0) for name in wanted}
    all_of = {each.name: {} for each in group}
    for name, value in values.items():
        part = next((p for p in name.split(".") if p in all_of), None)
        if part and value:
            all_of[part][name.replace(part, "$case")] = value
    return out, all_of


def read_log(each, folder):
    path = os.path.join(folder, "logs", each.name)
    try:
        with open(path, encoding="latin1") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    if each.log_text is None:
        lines = [json.loads(line) for line in lines]
    return sorted(lines, key=json.dumps) if each.sort_log else lines


def run_case(each, folder):
    client = clients.Client(each, folder)
    try:
        each.client(client)
    except Exception:  # a mistake in the case: it must show, on the side where it happened
        client.record.append(["FAULT " + traceback.format_exc(limit=-4)])
    finally:
        client.close()
    return client.record


def start_origins(group):
    started = {}
    for each in group:
        for suffix, port in each.origin_ports().items():
            scripts = {"": each.origin, **each.origins}
            started[each.name, suffix] = origins.Origin(port, scripts[suffix], prepare=each.prepare)
    return started


def run_group(program, group, folder, index):
    with open(os.path.join(folder, f"bootstrap-{index}.json"), "w", encoding="utf-8") as file:
        json.dump(cases.bootstrap_of(group), file, indent=1)
    started = start_origins(group)
    out = {each.name: {} for each in group}
    proxy = None
    try:
        proxy = Proxy(program, folder, index)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {each.name: pool.submit(run_case, each, folder) for each in group}
            for name, future in running.items():
                out[name]["client"] = future.result()
        quiet({each.name for each in group})
        compared, everything = counters(group)
        for each in group:
            out[each.name]["counters"] = compared[each.name]
            out[each.name]["all counters"] = everything[each.name]
        for each in group:
            out[each.name]["log"] = read_log(each, folder)
            for suffix in each.origin_ports():
                out[each.name][f"origin {suffix}".strip()] = started[each.name, suffix].connections
    except (RuntimeError, OSError) as error:
        for each in group:
            out[each.name] = {"proxy": str(error)}
    finally:
        died = proxy.stop() if proxy else None
        for each in group:
            started_here = [started[each.name, suffix] for suffix in each.origin_ports()]
            for one in started_here:
                one.close()
    if died is not None:
        with open(proxy.output, encoding="utf-8", errors="replace") as output:
            text = output.read()[-3000:]
        for each in group:
            out[each.name]["proxy"] = f"ended by itself with {died}: {text}"
    return out


def refused(program, group, folder):
    """Cases whose configuration the proxy refuses, with what it says. Only asked when all of them together do not start."""
    out = {}

    def validate(each):
        path = os.path.join(folder, f"validate-{each.name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(cases.bootstrap_of([each]), file, indent=1)
        done = subprocess.run([program, "--mode", "validate", "-l", "error", "-c", path, "--disable-hot-restart"], cwd=folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        if done.returncode:
            out[each.name] = done.stdout.decode("utf-8", "replace")[-600:]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(validate, group))
    return out


def main(program, folder, names, result):
    os.chdir(folder)
    fields.take_out()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if shutil.which("nft"):
        subprocess.run(["nft", "-f", "-"], input=BLACK_HOLE_RULE, text=True, check=True)
    os.makedirs("logs", exist_ok=True)
    out = {}
    for index, group in enumerate(cases.groups([cases.ALL[name] for name in names])):
        found = run_group(program, group, folder, index)
        if "did not start" in found[group[0].name].get("proxy", ""):
            bad = refused(program, group, folder)
            good = [each for each in group if each.name not in bad]
            if bad and good:
                found = run_group(program, good, folder, index)
            found.update({name: {"refused": text} for name, text in bad.items()})
        out.update(found)
    with open(result, "w", encoding="utf-8") as file:
        json.dump(out, file, default=wires.show)  # cases note bytes too
    sys.stdout.flush()
    os._exit(0)  # origins may still have threads that wait
