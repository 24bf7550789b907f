#!/usr/bin/env python3
"""Fails when a file includes a header of a layer that ARCHITECTURE.md does not allow its own layer to use.

usage: check_arrows.py REPOSITORY     (exit 1 and one line per bad include)
"""
import pathlib
import re
import sys


def allowed_arrows(architecture: str) -> dict[str, set[str]]:
    """The block between the `arrows` fences: "layer: layer layer"; allowed is transitive."""
    block = re.search(r"```arrows\n(.*?)```", architecture, re.S)
    if block is None:
        sys.exit("ARCHITECTURE.md has no ```arrows block")
    direct = {}
    for line in block.group(1).splitlines():
        layer, _, below = line.partition(":")
        direct[layer.strip()] = set(below.split())
    closure = {}
    for layer in direct:
        seen, todo = set(), [layer]
        while todo:
            for below in direct.get(todo.pop(), set()) - seen:
                seen.add(below)
                todo.append(below)
        if layer in seen:
            sys.exit(f"ARCHITECTURE.md: the arrows of {layer} form a cycle")
        closure[layer] = seen
    return closure


def bad_includes(root: pathlib.Path, arrows: dict[str, set[str]]) -> list[str]:
    bad = []
    for layer, below in arrows.items():
        for path in sorted((root / layer).rglob("*")):
            if path.suffix not in {".h", ".cc", ".inc"}:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = re.match(r'\s*#\s*include\s+"([a-z_]+)/', line)
                if match is None or match.group(1) not in arrows:
                    continue
                used = match.group(1)
                if used != layer and used not in below:
                    bad.append(f"{path.relative_to(root)}:{number}: {layer} may not include {used}")
    return bad


def main() -> int:
    root = pathlib.Path(sys.argv[1])
    arrows = allowed_arrows((root / "ARCHITECTURE.md").read_text())
    folders = {p.parent.name for p in root.glob("*/CMakeLists.txt")} - {"tests", "build"}
    missing = sorted(folders - arrows.keys())
    if missing:
        print("ARCHITECTURE.md lists no arrows for:", *missing)
        return 1
    bad = bad_includes(root, arrows)
    print("\n".join(bad) if bad else f"{len(arrows)} layers, all includes follow the arrows")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
