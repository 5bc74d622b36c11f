#!/usr/bin/env python3
"""Each field that postern-proxy accepts names a test that sets it (docs/decisions/honoured_or_refused.md).

The list is src/proxy/honoured_*.inc, from which the program refuses everything else; that it does is shown by
HonouredFields.* of proxy_test. Here every line of it must name a field of api/ and a test that exists and sets that field:

    Suite.Name                a googletest case of src/, whose text, fixture or helpers name the field
    some_test/test_name       a function of tests/some_test.py, whose text or helpers name the field
    side_by_side/case_name    a case beside Envoy, in whose configuration the field of that message is set

`tests/side_by_side_test.py --without-fields` goes further: it takes the field out of our side's configuration, and what is
seen must differ then. --sets prints which cases set which field.
"""
import copy
import glob
import os
import re
import sys
import types

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r'POSTERN_(MESSAGE|FIELD|NO_EFFECT)\((\S+?)(?:,\s+"([^"]*)")?\)$')


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def protos():
    """Message → {field: what it holds, of a map the values}, of all files of api/."""
    out = {}
    declares = re.compile(r"^(?:repeated )?(?:map<\w+, (\S+)>|(\S+)) (\w+) = \d+")
    for path in glob.glob(os.path.join(ROOT, "api", "**", "*.proto"), recursive=True):
        scope = []  # names of messages; "" for what has none: oneof, enum, service
        for line in (each.strip() for each in read(path).splitlines()):
            if line.startswith("package "):
                package = line[8:].rstrip(";")
            elif line.endswith("{"):
                word, name = line.split()[:2]
                scope.append(name if word == "message" else "")
                if word == "message":
                    out[".".join([package, *filter(None, scope)])] = {}
            elif line == "}":
                scope.pop()
            elif found := declares.match(line):
                held = (found.group(1) or found.group(2)).lstrip(".")
                owner = out.get(".".join([package, *filter(None, scope)]))
                if owner is not None:
                    owner[found.group(3)] = held
    return out


class Honoured:
    """One line of the list."""

    def __init__(self, place, message, field, kind, text):
        self.place, self.message, self.field, self.kind, self.text = place, message, field, kind, text


def honoured():
    out, bad = [], []
    for path in sorted(glob.glob(os.path.join(ROOT, "src/proxy/honoured_*.inc"))):
        message = None
        for number, line in enumerate(read(path).splitlines(), 1):
            place = f"{os.path.relpath(path, ROOT)}:{number}"
            found = LINE.match(line)
            if not found:
                if line and not line.startswith("//") and line != "POSTERN_CHECKED_ELSEWHERE":
                    bad.append(f"{place}: not a line of the list")
            elif found.group(1) == "MESSAGE":
                message = found.group(2)
            else:
                out.append(Honoured(place, message, found.group(2), found.group(1), found.group(3) or ""))
    return out, bad


def places(value, message, known):
    """Each field that is set in the JSON of a message: (the object it stands in, its message, its name)."""
    message = value.get("@type", "").rpartition("/")[2] or message
    for name, inner in list(value.items()):
        held = known.get(message, {}).get(name)
        if not held:
            continue
        yield value, message, name
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict):
                for part in one.values() if is_map(one, held, known) else [one]:
                    if isinstance(part, dict):
                        yield from places(part, held, known)


def is_map(value, held, known):
    """A map of messages: its keys are no fields."""
    return bool(value) and "@type" not in value and all(isinstance(each, dict) for each in value.values()) and \
        not set(value) <= set(known.get(held, {}))


def without(value, root, message, field, known):
    """The JSON of a message without one field, wherever it stands in it."""
    out = copy.deepcopy(value)
    for where, each, name in list(places(out, root, known)):
        if (each, name) == (message, field):
            where.pop(name, None)
    return out


def cases():
    """Case beside Envoy → the fields its configuration sets."""
    sys.path.insert(0, os.path.join(ROOT, "tests"))
    sys.modules.setdefault("hpack", types.ModuleType("hpack"))  # only to run them
    for name in ("Encoder", "Decoder", "HPACKError"):
        setattr(sys.modules["hpack"], name, getattr(sys.modules["hpack"], name, object))
    from side_by_side import case, harness
    harness.load_cases()
    known, out = protos(), {}
    for name, each in case.ALL.items():
        config = case.bootstrap_of([each])
        out[name] = {(message, field) for _, message, field in places(config, "envoy.config.bootstrap.v3.Bootstrap", known)}
    return out


def chunks(text, begin):
    """Name → text of each top-level piece of a file; a piece begins where `begin` matches and has the groups' names."""
    starts = list(begin.finditer(text))
    ends = [each.start() for each in starts[1:]] + [len(text)]
    out = {}
    for start, end in zip(starts, ends):
        name = ".".join(filter(None, start.groups()))
        out[name] = out.get(name, "") + text[start.start():end]
    return out


CC = re.compile(r"^(?:TEST(?:_F|_P)?\((\w+), (\w+)\)|(?:class|struct) (\w+)|(?:\w[\w:<>,&* ]*?)[ &*](\w+)(?:\(|\[\] =| = ).*)", re.M)
PY = re.compile(r"^(?:def (\w+)\(|class (\w+)|([A-Z_]+) = )", re.M)


def with_helpers(name, pieces, depth=2):
    """The text of a test and of those pieces of its file that it names."""
    text, taken = pieces[name], {name}
    for _ in range(depth):
        for other, piece in pieces.items():
            if other not in taken and "." not in other and len(other) > 2 and re.search(rf"\b{other}\b", text):
                taken.add(other)
                text += piece
    return text


def tests():
    """Name → text, of googletest cases and functions of the black-box suites."""
    out = {}
    for path in glob.glob(os.path.join(ROOT, "src", "**", "*_test.cc"), recursive=True):
        shared = "".join(read(each) for each in glob.glob(os.path.join(os.path.dirname(path), "*_test.h")))
        pieces = chunks(shared + "\n" + read(path), CC)
        out.update({name: with_helpers(name, pieces) for name in pieces if "." in name})
    for path in glob.glob(os.path.join(ROOT, "tests", "*_test.py")):
        pieces = chunks(read(path), PY)
        module = os.path.basename(path)[:-3]
        out.update({f"{module}/{name}": with_helpers(name, pieces) for name in pieces if name.startswith("test_")})
    return out


def check(line, known, texts, sets):
    """What is wrong with a line, or nothing."""
    if line.field not in known.get(line.message, {}) and line.message not in known:
        return f"no message {line.message}"
    if line.kind == "NO_EFFECT":
        return "" if line.text else "the reason is missing"
    if line.text.startswith("side_by_side/"):
        case = line.text.partition("/")[2]
        if case not in sets:
            return f"there is no case {case}"
        return "" if (line.message, line.field) in sets[case] else f"{case} does not set it"
    if line.text not in texts:
        return f'there is no test "{line.text}"'
    return "" if re.search(rf"\b{line.field}\b", texts[line.text]) else f"{line.text} does not name it"


def main():
    if sys.argv[1:] == ["--sets"]:
        for name, fields in cases().items():
            print("\n".join(f"{name} {message}.{field}" for message, field in sorted(fields)))
        return 0
    lines, bad = honoured()
    known, texts, sets = protos(), tests(), cases()
    for line in lines:
        if wrong := check(line, known, texts, sets):
            bad.append(f"{line.place}: {line.message}.{line.field}: {wrong}")
    print("\n".join(bad), end="\n" if bad else "")
    shown = sum(line.kind == "FIELD" for line in lines)
    print(f"{shown} honoured fields with a test, {len(lines) - shown} without an effect, {len(bad)} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
