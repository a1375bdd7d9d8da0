"""One graph as onnxruntime sessions, built from verified bytes on checked providers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from bundle.schema import WEIGHTS_FILES
from service.engine import cuda
from service.engine.errors import EngineError
from service.engine.jobs import Arrays, Outputs
from service.engine.options import CUDA, EngineOptions
from service.engine.pinned_memory import PinnedMemory, Place, best_allocator
from service.engine.providers import with_threads

SELECTOR_OUTPUTS = ("scores", "context")
EXTRACTOR_OUTPUTS = ("logits", "video")


@dataclass(frozen=True, slots=True)
class Content:
    """A verified graph, and what it keeps outside itself.

    Attributes:
        graph: the graph, as ONNX.
        weights: content of the file in which it keeps its weights; None where it is whole.
    """

    graph: bytes
    weights: bytes | None = None


class Graph:
    """A graph and how it is called; every call blocks until it has run.

    Where runs go on side by side, on all threads each, every operator of one waits for threads that
    the others have: such runs take fewer. onnxruntime's threads belong to a session, so that there
    are two of them; one when both would have as many threads.

    Attributes:
        outputs: names of what a run gives.
        providers: the execution providers really used.
        arenas: onnxruntime's names of the arenas that keep memory between runs; empty for none.
        place: gives memory to put an input of this thread's next run into; None where any will do.
    """

    def __init__(
        self,
        name: str,
        content: bytes | Content,
        outputs: Sequence[str],
        options: EngineOptions,
        threads: int,
        provider_options: Sequence[Mapping[str, str]] | None = None,
        shared_threads: int = 0,
        shared_content: Content | None = None,
    ) -> None:
        """Build the session, or both.

        Args:
            name: "selector" or "extractor".
            content: the graph, with its weights where it keeps them outside itself.
            outputs: names of what a run gives.
            threads: of a run that has the device to itself.
            shared_threads: of one that shares it with others; 0 for as many.
            shared_content: the graph in the form that such a run takes; None for the same.

        Raises:
            EngineError: a provider is not installed, or onnxruntime silently took another one.
        """
        self.outputs = tuple(outputs)
        given = Content(content) if isinstance(content, bytes) else content
        self._alone = _session(name, given, options, threads, provider_options)
        self._shared = self._alone
        if shared_threads not in (0, threads):
            self._shared = _session(
                name, shared_content or given, options, shared_threads, provider_options
            )
        self.providers: tuple[str, ...] = tuple(self._alone.get_providers())
        self.arenas = f"gpu:{options.device_id}"
        if options.on_cpu:
            self.arenas = "cpu:0" if options.cpu_memory_arena else ""
        # On a CPU that would only be one copy more.
        self.place: Place | None = None
        if not options.on_cpu:
            self.place = PinnedMemory(best_allocator(options.device_id)).place

    @property
    def shares(self) -> bool:
        """Whether runs that share the device have a session of their own."""
        return self._shared is not self._alone

    def run(
        self, feeds: Arrays, options: ort.RunOptions | None = None, *, shared: bool = False
    ) -> Outputs:
        """Run the graph.

        Args:
            feeds: every input, [B, ...].
            options: onnxruntime's, with which a run can be ended from elsewhere.
            shared: whether other runs are on the device at the same time.

        Returns:
            selector: scores float32 [B, N] and, where it hands one on, context float32 [B, P, D];
            extractor: logits float32 [B, classes], video float32 [B, D].
        """
        session = self._shared if shared else self._alone
        return tuple(session.run(self.outputs, feeds, options))


def check_installed(wanted: Sequence[str]) -> None:
    """Raise EngineError if onnxruntime does not have a provider at all."""
    installed = ort.get_available_providers()
    if absent := [provider for provider in wanted if provider not in installed]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(absent)}, but the installed "
            f"onnxruntime has only {', '.join(installed)}. Install the onnxruntime package for "
            "that device, or change the setting"
        )


def _session(
    name: str,
    content: Content,
    options: EngineOptions,
    threads: int,
    provider_options: Sequence[Mapping[str, str]] | None,
) -> ort.InferenceSession:
    wanted = options.execution_providers
    check_installed(wanted)
    configuration = ort.SessionOptions()
    configuration.intra_op_num_threads = threads
    configuration.inter_op_num_threads = 1
    configuration.log_severity_level = 3
    configuration.enable_cpu_mem_arena = options.cpu_memory_arena
    spinning = "1" if options.intra_op_spinning else "0"
    configuration.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    if (weights := content.weights) is not None:
        # Else onnxruntime would look for a file of that name in the working directory.
        file = WEIGHTS_FILES[f"{name}.onnx"]
        configuration.add_external_initializers_from_files_in_memory(
            [file], [weights], [len(weights)]
        )
    providers: list[Any] = list(wanted)
    if provider_options is not None:
        providers = [
            (provider, with_threads(provider, told, threads))
            for provider, told in zip(wanted, provider_options, strict=True)
        ]
    unwanted: Sequence[str] = ()
    if CUDA in wanted:
        cuda.preload()
        unwanted = cuda.UNWANTED_FUSIONS
    try:
        session = ort.InferenceSession(
            content.graph, configuration, providers=providers, disabled_optimizers=unwanted,
            # Else it says on standard output what went wrong, and goes on without the provider.
            enable_fallback=0,
        )  # fmt: skip
    except Exception as error:  # onnxruntime's errors share no base but this
        if CUDA in wanted and (reason := cuda.failure(str(error))):
            raise EngineError(f"the {name} cannot run on CUDA: {reason}") from None
        raise EngineError(f"onnxruntime cannot load the {name}: {error}") from None
    used = session.get_providers()
    if missing := [provider for provider in wanted if provider not in used]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(missing)}, but onnxruntime runs the "
            f"{name} on {', '.join(used)}: "
            + (cuda.why_not() if CUDA in missing else "the device or its libraries cannot be used")
        )
    # onnxruntime keeps the graph's bytes to try other providers, which is refused above. They hold
    # every weight a second time.
    vars(session).pop("_model_bytes", None)
    return session
