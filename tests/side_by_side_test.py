#!/usr/bin/env python3
"""postern-proxy beside Envoy 1.40: the same configuration, the same bytes, the same answers (tests/side_by_side/harness.py).

    side_by_side_test.py [--only PATTERN]... [--shard I/N] [--show] [--counters] [--list]

--only    cases by name, with * and ?          --shard  every N-th case from the I-th on
--show    print everything both sides saw      --counters  print all counters that differ, compared or not
--without-fields   our side without the fields that name a case: each must be missed (side_by_side/fields.py)
Environment: ENVOY (default build/venv/bin/envoy), POSTERN_BIN (default bin), KEEP=1 keeps the folder of the run.
SIDE_BY_SIDE=I/N is the default of --shard.
"""
import argparse
import importlib.util
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def with_packages():
    """The cases speak HTTP/2 by the hpack package, which is where Envoy is."""
    if importlib.util.find_spec("hpack"):
        return
    given = os.environ.get("ENVOY")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    python = os.path.join(os.path.dirname(given) if given else os.path.join(root, "build/venv/bin"), "python")
    if not os.path.exists(python) or os.environ.get("SIDE_BY_SIDE_PYTHON"):
        sys.exit(f"error: no package hpack; run {python} -m pip install hpack")
    os.execve(python, [python, os.path.abspath(__file__), *sys.argv[1:]], dict(os.environ, SIDE_BY_SIDE_PYTHON="1"))


def main():
    with_packages()
    from side_by_side import case, harness, side
    harness.load_cases()
    if sys.argv[1:2] == ["--side"]:
        program, folder, result, names = sys.argv[2:6]
        side.main(program, folder, names.split(","), result)
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", metavar="PATTERN")
    parser.add_argument("--shard", default=os.environ.get("SIDE_BY_SIDE", "1/1"))
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--counters", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--without-fields", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(case.ALL))
        return 0
    shard = tuple(int(part) for part in arguments.shard.split("/"))
    if arguments.without_fields:
        passed, failed = harness.run_without_fields(arguments.only, shard)
    else:
        passed, failed = harness.run(arguments.only, shard, arguments.show, arguments.counters)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
