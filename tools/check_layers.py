#!/usr/bin/env python3
"""Checks every #include "..." under src/ against layers.txt; reports unknown folders, climbing includes and cycles.

usage: check_layers.py [ROOT]      exit status 1 when something is reported
"""
import os
import re
import sys

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
MAY_CLIMB = re.compile(r"_(test|fuzz|bench)\.cc$")
# Programs hold only a main(): they may use every library.
UNLAYERED = {"programs"}


def read_layers(path):
    layers, errors = {}, []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            folder, _, deps = line.partition(":")
            for dep in deps.split():
                if dep not in layers:
                    errors.append(f"layers.txt:{number}: {folder} names {dep}, which is not above it")
            layers[folder.strip()] = set(deps.split())
    return layers, errors


def main():
    layers, errors = read_layers(os.path.join(ROOT, "layers.txt"))
    src = os.path.join(ROOT, "src")
    for directory, _, names in os.walk(src):
        folder = os.path.relpath(directory, src)
        sources = [n for n in names if n.endswith((".h", ".cc"))]
        if not sources or folder in UNLAYERED:
            continue
        if folder not in layers:
            errors.append(f"src/{folder}: not in layers.txt")
            continue
        for name in sources:
            if MAY_CLIMB.search(name):
                continue
            path = os.path.join(directory, name)
            with open(path, encoding="utf-8") as file:
                text = file.read()
            for header in INCLUDE.findall(text):
                target = os.path.dirname(header)
                if target in layers and target != folder and target not in layers[folder]:
                    errors.append(f"src/{folder}/{name}: {folder} may not include {target} ({header})")
                if not target and not os.path.exists(os.path.join(directory, header)):
                    errors.append(f'src/{folder}/{name}: include "{header}" needs its folder')
    for error in errors:
        print(error)
    print(f"layers: {len(layers)} folders, {len(errors)} errors")
    return 1 if errors else 0


sys.exit(main())
