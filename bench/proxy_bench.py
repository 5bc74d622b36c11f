#!/usr/bin/env python3
"""The cost of postern-proxy beside nginx, HAProxy, Envoy and a relay that parses nothing: the figures of bench/figures.py.

The proxy runs alone on core 0 (two workers against one: on both), origin and load share core 1. CPU is that of all processes of the
proxy, user and system, per request that reached the origin. The peers take turns; the least of the rounds counts (latencies: the
median of ten rounds). A round counts only if the load's requests, the origin's and the access-log lines agree and all answers were
2xx. Core 1 limits the throughput: compare CPU.

usage: proxy_bench.py [--only F1a,F2b] [--peers postern,nginx] [--rounds N] [--seconds N]
"""
import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile

import load
from figures import LAST, PROXIES, Round, figures
from peers import Peer

ROUNDS = {"F5": 10, "F5m": 10, "F7": 7}  # others: 3


def one_round(figure, peer, origin, options):
    if os.path.exists(peer.log):
        os.unlink(peer.log)
    process = peer.start()
    r = Round(peer, process, origin, options)
    try:
        r.started = load.Client(peer.port, LAST, figure.work.front).first()
        values = figure.measure(r)
    finally:
        process.terminate()
        process.wait(20)
    r.check_log()
    return values, r.problem


def run_figure(figure, names, folder, origin, options):
    """{peer: [values of the rows of one round, ...]}"""
    peers = [Peer(name, figure.work, folder, load.free_port(), origin.ports[figure.kind], origin.ports["kb100"], load.free_port())
             for name in names]
    results = {name: [] for name in names}
    for _ in range(options.rounds or ROUNDS.get(figure.name, 3)):
        for peer in peers:
            try:
                values, problem = one_round(figure, peer, origin, options)
            except (OSError, RuntimeError, AttributeError, ValueError, subprocess.SubprocessError) as error:
                problem = repr(error)
            if problem:
                print(f"{figure.name} {peer.name}: a round does not count: {problem}", file=sys.stderr)
            else:
                results[peer.name].append(values)
    return results


def number(value):
    return "–" if value is None else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def verdict(row, values, ours_before):
    """(text of the aims, reached?)"""
    ours = values.get("postern")
    best = (max if row.higher else min)([values[name] for name in PROXIES[1:] if values.get(name) is not None], default=None)
    texts, reached = [], ours is not None
    for aim in row.aims:
        if aim.against is None:
            base, what = 1.0, f"{aim.factor:g} {row.unit}"
        else:
            base = best if aim.against == "best" else values.get(aim.against, ours_before.get(aim.against))
            what = f"{aim.factor:g} of {aim.against}"
        if base is None or ours is None:
            texts.append(what + ": ?")
            reached = False
            continue
        good = ours >= base * aim.factor if row.higher else ours <= base * aim.factor
        reached = reached and good
        texts.append(what if aim.against is None else f"{what}: {ours / base:.2f}")
    return "; ".join(texts), reached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="figures or their beginnings: F1a,F2")
    parser.add_argument("--peers", default="relay,postern,nginx,haproxy,envoy")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))
    load.build_tools()
    folder = tempfile.mkdtemp(prefix="postern-bench-")
    os.chmod(folder, 0o755)  # nginx's workers are another user
    origin = load.Origin(folder)
    missed = 0
    columns = [name for name in ("relay", "postern", "nginx", "haproxy", "envoy") if name in options.peers.split(",")]
    print("| # | work | unit | " + " | ".join(columns) + " | aim: ours | reached |")
    print("|---|---|---|" + "---|" * len(columns) + "---|---|", flush=True)
    ours_before = {}
    try:
        for figure in figures(*load.make_certificate(folder)):
            if options.only and not any(figure.name.startswith(each) for each in options.only.split(",")):
                continue
            names = [name for name in columns if name in figure.peers]
            results = run_figure(figure, names, folder, origin, options)
            for i, row in enumerate(figure.rows):
                values = {name: row.pick([each[i] for each in rounds]) for name, rounds in results.items() if rounds}
                text, reached = verdict(row, values, ours_before)
                ours_before[row.key] = values.get("postern")
                missed += 0 if reached else 1
                print(f"| {row.key} | {row.title} | {row.unit} | " + " | ".join(number(values.get(name)) for name in columns) +
                      f" | {text} | {'yes' if reached else 'no'} |", flush=True)
    finally:
        origin.stop()
        shutil.rmtree(folder)
    print(f"{missed} rows not reached", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
