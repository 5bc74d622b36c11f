"""Does a field do anything? Our side runs each case without one of the fields that name it in the list of honoured fields
(src/proxy/honoured_*.inc); then it must not be seen to do what Envoy does with the field.

A field whose configuration is refused without it is shown by that: it is told apart in what is printed.
"""
import json
import os
import sys

from . import case as cases

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import check_fields  # noqa: E402 (after the path)

VARIABLE = "SIDE_WITHOUT"  # JSON: case → [message, field]


def rounds():
    """Dictionaries {case: (message, field)}: so many that each field of the list that names a case is in one."""
    by_case = {}
    for line in check_fields.honoured()[0]:
        suite, _, name = line.text.partition("/")
        if line.kind == "FIELD" and suite == "side_by_side":
            by_case.setdefault(name, []).append((line.message, line.field))
    count = max(map(len, by_case.values()), default=0)
    return [{name: fields[i] for name, fields in by_case.items() if i < len(fields)} for i in range(count)]


def take_out():
    """In the process of our side: from now on configurations are made without what the variable names."""
    wanted = json.loads(os.environ.get(VARIABLE, "{}"))
    if not wanted:
        return
    known = check_fields.protos()

    def changed(case, kind, config):
        if case.name not in wanted:
            return config
        return check_fields.without(config, "envoy.config." + kind, *wanted[case.name], known)
    cases.CHANGED = changed


def judge(taken, ours, envoy, differs):
    """Prints the verdicts of one round; returns (passed, failed)."""
    passed, failed = 0, 0
    for name, (message, field) in taken.items():
        mine, theirs = ours.get(name, {"proxy": "no result"}), envoy.get(name, {"proxy": "no result"})
        if mine.get("refused"):
            print(f"needed {name}: {message}.{field}: {mine['refused'].strip().splitlines()[-1][-200:]}")
        same = not mine.get("refused") and not differs(cases.ALL[name], mine, theirs)
        if same or theirs.get("refused") or theirs.get("proxy"):
            failed += 1
            print(f"FAILED {name}: " + (f"nothing changes without {message}.{field}" if same else f"Envoy says {theirs}"))
        else:
            passed += 1
    return passed, failed
