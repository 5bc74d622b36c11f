#!/usr/bin/env python3
"""Our protos say what the official ones say: for every message and enumeration of api/ that Envoy or Istio publish, each
field has the official name, number, type, label and oneof, and no official field is missing.

The official descriptors are those embedded in the Go modules that Envoy and Istio publish their API as; they are fetched by
name and version from the Go module proxy and read from the sources, nothing is compiled. Ours come from protoc. Messages are
read with the package `protobuf` (PyPI).
"""
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, "build", "descriptors-venv")
PROTOBUF = "protobuf==5.29.5"
# What our files are compared with: the Go module, and the prefix of our files that it covers.
MODULES = [
    ("github.com/envoyproxy/go-control-plane/envoy", "v1.40.0", "envoy/"),
    ("github.com/cncf/xds/go", "v0.0.0-20260202195803-dba9d589def2", "xds/"),
    ("istio.io/api", "v1.32.0", "istio/"),
]


def in_venv():
    """Runs again with a Python that has the protobuf package."""
    python = os.path.join(VENV, "bin", "python3")
    if sys.executable == python:
        return
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=120)
    if subprocess.run([python, "-c", "import google.protobuf"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "-q", PROTOBUF], check=True, timeout=300)
    os.execv(python, [python, os.path.abspath(__file__)])


in_venv()
from google.protobuf import descriptor_pb2  # noqa: E402  (only there now)

Field = descriptor_pb2.FieldDescriptorProto


def module_folder(module, version):
    """Where the Go module proxy's copy lies."""
    go = subprocess.run([os.path.join(ROOT, "tools", "find_go.sh"), os.path.join(ROOT, "build", "go-toolchain")],
                        capture_output=True, text=True, check=True, timeout=600).stdout.strip()
    with tempfile.TemporaryDirectory() as work:
        with open(os.path.join(work, "go.mod"), "w", encoding="utf-8") as file:
            file.write("module descriptors\n\ngo 1.26\n")
        env = dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=mod")
        answer = subprocess.run([go, "mod", "download", "-json", f"{module}@{version}"], cwd=work, env=env,
                                capture_output=True, text=True, check=True, timeout=600).stdout
    return json.loads(answer)["Dir"]


GO_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v", '"': b'"', "\\": b"\\"}
GO_PIECE = re.compile(r'\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(.)|([^\\]+)', re.S)


def go_string(text):
    out = b""
    for piece in GO_PIECE.finditer(text):
        if piece.group(1):
            out += bytes([int(piece.group(1), 16)])
        elif piece.group(2):
            out += chr(int(piece.group(2), 16)).encode()
        elif piece.group(3):
            out += GO_ESCAPES[piece.group(3)]
        else:
            out += piece.group(4).encode()
    return out


def embedded(path):
    """The file descriptor in a generated Go source: a string constant, or a list of bytes in older ones."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    start = re.search(r"(?:const|var) file_\w+_rawDesc = (\[\]byte\{)?", text)
    if start is None:
        return None
    if start.group(1):
        return bytes(int(each, 16) for each in re.findall(r"0x([0-9a-f]{2})", text[start.end():text.index("}", start.end())]))
    line = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(\+?)')
    at = start.end()
    out = b""
    while True:
        piece = line.match(text, at)
        out += go_string(piece.group(1))
        at = piece.end()
        if not piece.group(2):
            return out


def walk(package, messages, enums, out):
    for message in messages:
        name = f"{package}.{message.name}"
        out[name] = message
        walk(name, message.nested_type, message.enum_type, out)
    for enum in enums:
        out[f"{package}.{enum.name}"] = enum


def official(modules):
    out = {}
    for module, version, _ in modules:
        for folder, _, files in os.walk(module_folder(module, version)):
            for name in files:
                if not name.endswith(".pb.go"):
                    continue
                raw = embedded(os.path.join(folder, name))
                if raw is None:
                    continue
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                walk(file.package, file.message_type, file.enum_type, out)
    return out


def ours():
    """Full name → (descriptor, file)."""
    protos = []
    for folder, _, files in os.walk(os.path.join(ROOT, "api")):
        protos += [os.path.relpath(os.path.join(folder, name), os.path.join(ROOT, "api")) for name in files if name.endswith(".proto")]
    with tempfile.NamedTemporaryFile() as target:
        subprocess.run(["protoc", "-I", ".", "--descriptor_set_out=" + target.name, *sorted(protos)],
                       cwd=os.path.join(ROOT, "api"), check=True, timeout=120)
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read())
    out = {}
    for file in files.file:
        found = {}
        walk(file.package, file.message_type, file.enum_type, found)
        out.update({name: (each, file.name) for name, each in found.items()})
    return out


def label(field, message):
    """What shows on the wire and in JSON: repeated or not, presence, and the oneof it is in."""
    if field.label == Field.LABEL_REPEATED:
        return "repeated"
    if field.proto3_optional:
        return "optional"
    if field.HasField("oneof_index"):
        return "oneof " + message.oneof_decl[field.oneof_index].name
    return "singular"


def describe(field, message):
    kind = Field.Type.Name(field.type)[5:].lower()
    return f"{label(field, message)} {kind} {field.type_name.lstrip('.')}".strip() + f" = {field.number}"


def compare_messages(name, mine, theirs):
    differences = []
    mine_fields = {field.name: field for field in mine.field}
    for field in theirs.field:
        expected = describe(field, theirs)
        if field.name not in mine_fields:
            differences.append(f"{name}.{field.name} is not declared: {expected}")
        elif describe(mine_fields[field.name], mine) != expected:
            differences.append(f"{name}.{field.name} is {describe(mine_fields[field.name], mine)}, officially {expected}")
    known = {field.name for field in theirs.field}
    differences += [f"{name}.{field.name} is not official" for field in mine.field if field.name not in known]
    return differences


def compare_enums(name, mine, theirs):
    mine_values = {value.name: value.number for value in mine.value}
    their_values = {value.name: value.number for value in theirs.value}
    return [f"{name}: {value} is {mine_values.get(value)}, officially {their_values.get(value)}"
            for value in sorted(mine_values.keys() | their_values.keys())
            if mine_values.get(value) != their_values.get(value)]


def main():
    passed = failed = 0
    theirs = official(MODULES)
    prefixes = tuple(prefix for _, _, prefix in MODULES)
    for name, (mine, file) in sorted(ours().items()):
        if not file.startswith(prefixes):
            continue
        if name not in theirs:
            differences = [f"{name} ({file}) is not official"]
        elif isinstance(mine, descriptor_pb2.EnumDescriptorProto):
            differences = compare_enums(name, mine, theirs[name])
        else:
            differences = compare_messages(name, mine, theirs[name])
        passed += not differences
        failed += bool(differences)
        for difference in differences:
            print("FAILED", difference)
    for module, version, prefix in MODULES:
        print(f"compared {prefix}* with {module} {version}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
