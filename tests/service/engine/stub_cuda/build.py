"""``python build.py SITE``: CUDA's libraries as stubs, for the onnxruntime in SITE.

They lie in SITE where NVIDIA's packages put theirs, and the driver's in SITE/driver. Each library
has all symbols that onnxruntime wants of it, under their versions. What matters is written in C
beside this file; the rest does nothing and succeeds.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
# Which file says what a library does.
WRITTEN = {
    "libcudart.so.13": "runtime.c",
    "libcublas.so.13": "products.c",
    "libcublasLt.so.13": "products.c",
    "libcurand.so.10": None,
    "libcuda.so.1": None,
}
# The driver's symbols have no version.
UNVERSIONED = {"cuTensorMapEncodeTiled": "libcuda.so.1"}
_DEFINED = re.compile(r"^(?!static)[a-z].*?\b(_*cu\w+)\(", re.MULTILINE)


def wanted(provider: Path) -> dict[str, list[str]]:
    """Symbols that the provider's library takes from others, by library."""
    listed = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", str(provider)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = defaultdict(list)
    for line in listed.splitlines():
        symbol, _, library = line.split()[-1].partition("@")
        library = library.lstrip("@") or UNVERSIONED.get(symbol, "")
        if library in WRITTEN:
            found[library].append(symbol)
    return found


def build(site: Path) -> None:
    """Compile the libraries into ``site``, with the headers that are there."""
    symbols = wanted(site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so")
    for library, file in WRITTEN.items():
        written = (HERE / file).read_text() if file else ""
        known = set(_DEFINED.findall(written))
        rest = "".join(
            f"int {symbol}() {{ return 0; }}\n"
            for symbol in symbols[library]
            if symbol not in known
        )
        driver = library in UNVERSIONED.values()
        out = site / "driver" if driver else site / "nvidia/cu13/lib"
        out.mkdir(parents=True, exist_ok=True)
        source, versions = out / f"{library}.c", out / f"{library}.map"
        source.write_text(written + rest)
        versions.write_text(f"{'' if driver else library} {{ global: *; }};\n")
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", "-w", "-I", str(site / "nvidia/cu13/include"),
             str(source), "-o", str(out / library), f"-Wl,-soname,{library}",
             f"-Wl,--version-script={versions}"],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    build(Path(sys.argv[1]))
