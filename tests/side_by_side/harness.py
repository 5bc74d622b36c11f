"""Runs every case against postern-proxy and against Envoy and compares what was seen.

How to add a case: in a file `cases_AREA.py` of this folder (it is found by its name) write

    from .case import case, route_to
    from .client import exchange, get
    from .origin import ok

    case("area_what_is_shown", exchange(get("/a"), get("/b")),
         origin=[ok(b"first"), ok(b"second")],
         routes=[route_to(prefix="/", timeout="1s")])

case.py says which options there are, origin.py which answers an origin can give, client.py what a client's own function
may do. Run it: `ENVOY=…/envoy python3 tests/side_by_side_test.py --only 'area_*' --show`, which prints what both saw.
"""
import fnmatch
import glob
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

from . import case as cases
from . import certificates, fields
from .compare import compare
from .differences import DIFFERENCES, FAULTS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENTRY = os.path.join(ROOT, "tests", "side_by_side_test.py")
RUN_SECONDS = 400
VALIDATE_SECONDS = 60


def load_cases():
    for path in sorted(glob.glob(os.path.join(os.path.dirname(__file__), "cases_*.py"))):
        importlib.import_module("." + os.path.basename(path)[:-3], __package__)


def envoy_program():
    """Envoy itself, not the Python script of the package that starts it."""
    given = os.environ.get("ENVOY") or os.path.join(ROOT, "build/venv/bin/envoy")
    root = os.path.dirname(os.path.dirname(given))
    return next(iter(glob.glob(os.path.join(root, "lib/*/site-packages/envoy/_bin/envoy"))), given)


def our_program():
    return os.path.join(os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin")), "postern-proxy")


class Side:
    """One proxy's process of the harness, in a network namespace of its own."""

    def __init__(self, label, program, names, folder, **environment):
        self.folder = os.path.join(folder, label)
        os.makedirs(self.folder)
        certificates.copy(os.path.join(folder, "certificates"), self.folder)
        self.result = os.path.join(self.folder, "result.json")
        arguments = [sys.executable, ENTRY, "--side", program, self.folder, self.result, ",".join(names)]
        # The same seed: the order of sets and dictionaries must not differ between the sides.
        self.process = subprocess.Popen(["unshare", "-n" if os.getuid() == 0 else "-rn", *arguments], stdin=subprocess.DEVNULL,
                                        env=dict(os.environ, PYTHONHASHSEED="0", **environment))

    def wait(self):
        try:
            self.process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        try:
            with open(self.result, encoding="utf-8") as file:
                return json.load(file)
        except OSError:
            return {}


def choose(only, shard):
    """`shard` (i, n): every n-th case, from the i-th on."""
    names = [name for name in cases.ALL if any(fnmatch.fnmatchcase(name, pattern) for pattern in only or ["*"])]
    if not names:
        sys.exit(f"error: no case is named {' or '.join(only)}; --list prints the names")
    return names[shard[0] - 1::shard[1]]


def envoy_validates(folder):
    """Every configuration passes `envoy --mode validate`. Returns what does not."""
    bad = []
    for path in sorted(glob.glob(os.path.join(folder, "envoy", "bootstrap-*.json"))):
        done = subprocess.run([envoy_program(), "--mode", "validate", "-l", "error", "-c", path, "--disable-hot-restart"],
                              cwd=os.path.dirname(path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=VALIDATE_SECONDS, check=False)
        if done.returncode:
            bad.append(f"{os.path.basename(path)}: {done.stdout.decode('utf-8', 'replace')[-1500:]}")
    return bad


def run(only, shard, show, counters):
    names = choose(only, shard)
    folder = tempfile.mkdtemp(prefix="postern-side-by-side-")
    try:
        certificates.make(os.path.join(folder, "certificates"))
        sides = [Side("ours", our_program(), names, folder), Side("envoy", envoy_program(), names, folder)]
        ours, envoy = [side.wait() for side in sides]
        return judge(names, ours, envoy, envoy_validates(folder), show, counters)
    finally:
        if os.environ.get("KEEP"):
            print("kept", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def run_without_fields(only, shard):
    """fields.py: our side without one field of each case, round by round; Envoy with all of them, once."""
    names = choose(only, shard)
    rounds = [{name: field for name, field in every.items() if name in names} for every in fields.rounds()]
    passed, failed, folder = 0, 0, tempfile.mkdtemp(prefix="postern-without-fields-")
    try:
        certificates.make(os.path.join(folder, "certificates"))
        envoy = Side("envoy", envoy_program(), list(rounds[0]), folder).wait()
        for i, taken in enumerate(each for each in rounds if each):
            ours = Side(f"ours-{i}", our_program(), list(taken), folder, **{fields.VARIABLE: json.dumps(taken)}).wait()
            good, bad = fields.judge(taken, ours, envoy, lambda *seen: compare(*seen, {**DIFFERENCES, **FAULTS})[0])
            passed, failed = passed + good, failed + bad
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return passed, failed


def judge(names, ours, envoy, invalid, show, counters):
    """Prints the verdicts; returns (passed, failed)."""
    passed, failed, met, faults = 0, 0, set(), []
    for text in invalid:
        failed += 1
        print("FAILED envoy --mode validate:", text)
    for name in names:
        mine, theirs = ours.get(name, {"proxy": "no result"}), envoy.get(name, {"proxy": "no result"})
        bad, seen = compare(cases.ALL[name], mine, theirs, {**DIFFERENCES, **FAULTS})
        met |= seen
        faults += [f"fault {name}: {FAULTS[each]}" for each in seen if each in FAULTS]
        if show:
            print(json.dumps({name: {"ours": mine, "envoy": theirs}}, indent=1))
        if counters:
            more = {k: (mine.get("all counters", {}).get(k, 0), theirs.get("all counters", {}).get(k, 0)) for k in
                    {*mine.get("all counters", {}), *theirs.get("all counters", {})}}
            print(name, {k: v for k, v in sorted(more.items()) if v[0] != v[1]})
        if bad:
            failed += 1
            print(f"FAILED {name}")
            for path, text in bad:
                print(f"    {path}\n      {text}")
        elif not seen & set(FAULTS):
            passed += 1
    for name in unmet(names, met):
        if name in FAULTS:
            print(f"mended, take it out of differences.py: {name}")
            continue
        failed += 1
        print(f"FAILED differences.py: nothing differs any more at \"{name}\"")
    print("\n".join(sorted(faults)))
    print(f"{len(faults)} known faults met, {len(met - set(FAULTS))} meant differences")
    return passed, failed


def unmet(names, met):
    """Allowed differences of cases that ran and that no difference met."""
    out = []
    for name in (set(DIFFERENCES) | set(FAULTS)) - met:
        pattern = name.partition(": ")[0]
        concerned = [each for each in cases.ALL if fnmatch.fnmatchcase(each, pattern)]
        if concerned and set(concerned) <= set(names):
            out.append(name)
        elif not concerned:
            out.append(name + " (no such case)")
    return sorted(out)
