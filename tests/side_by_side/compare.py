"""Two observations of one case to a list of differences, after what no two runs share was taken out."""
import fnmatch
import json
import re

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
DATE = re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
EPHEMERAL = re.compile(r"(127\.0\.0\.\d+|\[::1\]):(3[2-9]\d{3}|[45]\d{4}|6[0-5]\d{3})\b")
TIMED = {"x-envoy-upstream-service-time"}
LEFT = "x-envoy-expected-rq-timeout-ms"
LEFT_STEP = 250  # milliseconds: what is left of a timeout at a retry differs a little


def plain(value):
    """Without dates, request ids and the kernel's ports."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and value[0].lower() in TIMED:
            return [value[0], "<milliseconds>" if str(value[1]).isdigit() else value[1]]
        if len(value) == 2 and value[0] == LEFT and str(value[1]).isdigit():
            return [value[0], str(-(-int(value[1]) // LEFT_STEP) * LEFT_STEP)]
        return [plain(v) for v in value]
    if isinstance(value, str):
        value = DATE.sub("<date>", UUID.sub("<uuid>", value))
        return EPHEMERAL.sub(r"\1:<port>", value)
    return value


def differences(ours, envoy, path=""):
    """Pairs (path, text)."""
    if isinstance(ours, dict) and isinstance(envoy, dict):
        out = []
        for key in sorted(set(ours) | set(envoy)):
            out += differences(ours.get(key), envoy.get(key), f"{path}.{key}" if path else key)
        return out
    if isinstance(ours, list) and isinstance(envoy, list) and len(ours) == len(envoy) and path.rsplit(".")[-1] != "headers":
        out = []
        for i, (a, b) in enumerate(zip(ours, envoy)):
            out += differences(a, b, f"{path}[{i}]")
        return out
    if ours == envoy:
        return []
    return [(path, f"ours  {json.dumps(ours)}\n      envoy {json.dumps(envoy)}")]


def compare(case, ours, envoy, allowed):
    """(differences not allowed, names of allowed ones that were met)."""
    bad, met = [], set()
    allows = lambda path: next((n for n in allowed if covers(n, case.name, path)), None)
    for side, seen in (("ours", ours), ("envoy", envoy)):
        for way in ("refused", "proxy"):
            if seen.get(way):
                name = allows(f"{side} {way}")
                met |= {name} if name else set()
                bad += [] if name else [(f"{side} {way}", seen[way].strip())]
    if bad or met:
        return bad, met
    for side, seen in (("ours", ours), ("envoy", envoy)):
        for each in seen.get("client", []):
            if each and isinstance(each[0], str) and each[0].startswith("FAULT"):
                bad.append(("the case itself", f"{side}: {each[0]}"))
    drop = lambda seen: {k: v for k, v in seen.items() if k != "all counters"}
    for path, text in differences(plain(drop(ours)), plain(drop(envoy))):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in case.ignore):
            continue
        name = allows(path)
        if name:
            met.add(name)
        else:
            bad.append((path, text))
    return bad, met


def covers(name, case, path):
    """Whether a name of differences.py ("case: path", with * and ?) speaks of this one."""
    cases, _, paths = name.partition(": ")
    brackets = paths.replace("[", "\0").replace("]", "[]]").replace("\0", "[[]")
    return fnmatch.fnmatchcase(case, cases) and fnmatch.fnmatchcase(path, brackets)
