"""What a request asks of the engine: select, then extract."""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.geometry import downscale, gather_patches
from bundle.reader import Bundle
from bundle.schema import WEIGHTS_FILES
from bundle.tokens import rank, tokens_to_keep
from service.engine.calibration import (
    Calibration,
    Calibrator,
    extractor_noise,
    selector_noise,
)
from service.engine.cost import CostModel, Fit, StageName
from service.engine.cpus import available_cpus
from service.engine.errors import EngineError, OutOfMemory
from service.engine.graphs import (
    EXTRACTOR_OUTPUTS,
    SELECTOR_OUTPUTS,
    Content,
    Graph,
    check_installed,
)
from service.engine.jobs import Arrays, Outputs
from service.engine.options import CPU, CUDA, OPENVINO, TENSORRT, EngineOptions
from service.engine.precision import (
    check_precision,
    check_selection,
    moving_square,
    to_half,
    to_half_apart,
    to_int8,
)
from service.engine.providers import converts, provider_options
from service.engine.restructured import Arranger
from service.engine.runs import Observer, Stage
from service.engine.scheduler import Device, Scheduler
from service.engine.token_limit import TokenLimit

# More rows than any limit of tokens leaves room for.
UNBOUNDED = 1 << 30


@dataclass(frozen=True, slots=True)
class Selected:
    """What the selector says of a clip.

    Attributes:
        scores: float32 [V, N], of every token.
        context: float32 [V, P, D], for the extractor; P is 0 where it has no use for one.
        waited: seconds in the queue.
        ran: seconds of downscaling and of the graph.
    """

    scores: NDArray[np.float32]
    context: NDArray[np.float32]
    waited: float
    ran: float


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the extractor says of a clip.

    Attributes:
        logits: float32 [V, classes].
        video: float32 [V, D], the video token, of which the head makes the logits.
        waited: seconds in the queue.
        ran: seconds of gathering patches and of the graph.
    """

    logits: NDArray[np.float32]
    video: NDArray[np.float32]
    waited: float
    ran: float


class Engine:
    """Runs a bundle's selector and extractor for many requests at once.

    Every wait is on the event loop, every computation in a thread. A request's result does not
    depend on what runs beside it.

    Attributes:
        cost: what work is expected to take.
        providers: the execution providers really used.
        threads: of one inference that has the device to itself.
        shared_threads: of one that shares it with others; all of them together have the CPUs.
        calibration: what was measured at start; None before :meth:`calibrate`.
    """

    def __init__(
        self, bundle: Bundle, options: EngineOptions, observer: Observer | None = None
    ) -> None:
        """Build both sessions.

        Raises:
            EngineError: a provider is not installed, or onnxruntime silently took another one, or
                the network does not fit into the bits asked for.
        """
        manifest = bundle.manifest
        self.geometry, self._macs, self.options = manifest.geometry, manifest.macs, options
        self.turns = options.max_concurrent_inferences or _turns(options)
        self.threads = options.intra_op_threads or available_cpus()
        self.shared_threads = self.threads  # on a GPU, one set of weights
        if options.on_cpu:
            divided = max(1, available_cpus() // self.turns)
            self.shared_threads = options.shared_intra_op_threads or min(self.threads, divided)
        self.precision = options.arithmetic
        self._downscale = manifest.selector.downscale
        self._usual = tokens_to_keep(manifest.sparsity.default, self.geometry.tokens)
        selector = Content(bundle.selector, bundle.selector_weights)
        extractor = Content(bundle.extractor, bundle.extractor_weights)
        # Scores alone, where the extractor has no use for a context.
        selected = SELECTOR_OUTPUTS if self.geometry.context else SELECTOR_OUTPUTS[:1]
        self.selector = self._graph("selector", selector, selected)
        self.extractor = self._graph("extractor", extractor, EXTRACTOR_OUTPUTS)
        if self.precision != "fp32":
            self._check_precision(selector, extractor)
        self.providers = self.extractor.providers
        self.calibration: Calibration | None = None
        self._rows: dict[StageName, dict[int, int]] = {"select": {}, "extract": {}}
        self._selector_tokens = self._downscale.tokens(self.geometry)
        self._preparation = ThreadPoolExecutor(available_cpus(), "preparation")
        self.cost = CostModel(
            {"select": Fit(), "extract": Fit()},
            self._selector_tokens,
            self._runs,
            self.turns,
            lambda due: self._device.backlog_seconds(due),
            lambda: self._device.busy,
        )
        self._select = self._scheduler("select", self.selector, observer)
        self._extract = self._scheduler("extract", self.extractor, observer)
        self._device = Device((self._select, self._extract), self.turns)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a turn."""
        return self._select.waiting + self._extract.waiting

    def waiting_for(self, stage: StageName) -> int:
        """Jobs that wait for a turn of this stage."""
        return {"select": self._select, "extract": self._extract}[stage].waiting

    def batch_tokens(self, stage: StageName) -> int:
        """Tokens that a run may have now; fewer than configured after memory ran out."""
        return {"select": self._select, "extract": self._extract}[stage].limit.tokens

    def worthwhile_rows(self, stage: StageName, tokens: int) -> int:
        """How many rows of this number of tokens are run together, as far as tokens allow.

        On a CPU only as many as were measured to be clearly faster together than one by one. In 8
        bits each is alone: a run's rows share a scale, and no result may depend on its company.
        """
        if self.precision == "int8":
            return 1
        if self.options.batching == "always":
            return UNBOUNDED
        if self.options.batching == "never":
            return 1
        if not self.options.on_cpu:
            return UNBOUNDED
        measured = self._rows[stage]
        if not measured:
            return 1
        return measured[min(measured, key=lambda known: abs(math.log(known / tokens)))]

    def calibrate(self, levels: Sequence[int], usual: int) -> Calibration:
        """Warm both graphs and measure them; blocks, before the first request.

        Args:
            levels: numbers of kept tokens that will be asked for.
            usual: the number kept when nobody asks for a sparsity.
        """
        calibrator = Calibrator(
            self.selector,
            self.extractor,
            self.geometry,
            self._macs,
            self.options.max_batch_tokens,
            self._downscale,
        )
        found = calibrator.run(
            levels, usual, self.options.warm_up_seconds, self.options.calibration_seconds
        )
        self.cost.fits = dict(found.fits)
        self._rows = found.rows
        self.calibration = found
        return found

    async def select(
        self, frames: NDArray[np.uint8], *, deadline: float, due: float | None = None
    ) -> Selected:
        """Score every token of some views.

        Cancelling the caller takes a job out of the queue, and ends its run unless others share it.

        Args:
            frames: uint8 [V, T, H, W, 3].
            deadline: on the monotonic clock.
            due: when the result is wanted; what is due first runs first. By default the deadline.

        Raises:
            DeadlinePassed: it came before all views were run.
            OutOfMemory: the device has no memory for a run.
        """

        def prepare() -> Arrays:
            return {"clip_small": downscale(frames, self._downscale.time, self._downscale.space)}

        outputs, waited, ran = await self._run(
            self._select, prepare, self._selector_tokens, deadline, due
        )
        none = np.empty((len(frames), 0, self.geometry.width), np.float32)
        return Selected(outputs[0], outputs[1] if self.geometry.context else none, waited, ran)

    async def extract(
        self,
        frames: NDArray[np.uint8],
        positions: NDArray[np.int64],
        context: NDArray[np.float32],
        *,
        deadline: float,
        due: float | None = None,
    ) -> Extracted:
        """Look at the kept tokens of some views.

        Cancelling the caller takes a job out of the queue, and ends its run unless others share it.

        Args:
            frames: uint8 [V, T, H, W, 3].
            positions: int64 [V, K], the kept tokens.
            context: float32 [V, P, D], the selector's.
            deadline, due: as in :meth:`select`.

        Raises:
            DeadlinePassed: it came before all views were run.
            OutOfMemory: the device has no memory for a run.
        """

        def prepare() -> Arrays:
            geometry = self.geometry
            patches = gather_patches(frames, positions, geometry.patch, geometry.tubelet)
            inputs: dict[str, NDArray[np.generic]] = {"patches": patches, "positions": positions}
            if geometry.context:
                inputs["context"] = context
            return inputs

        outputs, waited, ran = await self._run(
            self._extract, prepare, positions.shape[1], deadline, due
        )
        return Extracted(outputs[0], outputs[1], waited, ran)

    def close(self) -> None:
        """Let what runs end, and the threads with it."""
        self._device.close()
        self._preparation.shutdown(wait=True, cancel_futures=True)

    async def _run(
        self,
        scheduler: Scheduler,
        prepare: Callable[[], Arrays],
        tokens: int,
        deadline: float,
        due: float | None,
    ) -> tuple[Outputs, float, float]:
        """Prepare and run; gives the outputs, seconds waited, and seconds of everything else."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        try:
            with scheduler.preparing():
                inputs = await loop.run_in_executor(self._preparation, prepare)
        except MemoryError:
            raise OutOfMemory from None
        prepared = time.monotonic() - began
        job = await self._device.run(scheduler, inputs, tokens, deadline, due)
        scheduler.stage.waited(job.waited)
        return job.done.result(), job.waited, prepared + job.ran

    def _graph(self, name: str, content: Content, outputs: tuple[str, ...]) -> Graph:
        options = self.options
        check_installed(options.execution_providers)
        if content.weights is not None:
            _check_takes_weights(name, options)
        arranged = content, content
        if set(options.execution_providers) <= {CUDA, CPU}:
            arranged = self._arranged(name, content)
        alone = shared = self._reduced(name, arranged[0])
        if arranged[1].graph != arranged[0].graph:
            shared = self._reduced(name, arranged[1])
        told = provider_options(options, name, self.geometry, self._usual, self._downscale)
        return Graph(name, alone, outputs, options, self.threads, told, self.shared_threads, shared)

    def _noise(self, name: str, content: Content) -> Arrays | None:
        """What a rearranged graph is held against itself on; None where it needs its weights."""
        if content.weights is not None:
            return None
        if name == "selector":
            return selector_noise(self.geometry, self._downscale, rows=1)
        few = min(3, self.geometry.tokens)
        return extractor_noise(self.geometry, [few, max(1, few - 1)])

    def _arranged(self, name: str, content: Content) -> tuple[Content, Content]:
        """The graph in the forms that a run by itself and one beside others take."""
        arranger = Arranger(name, content.graph, self.geometry.tokens, self._noise(name, content))
        on_gpu = not self.options.on_cpu
        threads = (1, 1) if on_gpu else (self.threads, self.shared_threads)
        forms = {count: arranger.arranged(on_gpu=on_gpu, threads=count) for count in {*threads}}
        alone, shared = (dataclasses.replace(content, graph=forms[count]) for count in threads)
        return alone, shared

    def _reduced(self, name: str, content: Content) -> Content:
        """The graph in the bits that the precision asks for."""
        options = self.options
        if self.precision == "fp16" and converts(options.execution_providers):
            return _halved(name, content)
        if self.precision == "int8":
            if not options.on_cpu:
                raise EngineError("LOOKWHEN_PRECISION=int8 is for CPUs; GPUs take fp16")
            return Content(to_int8(content.graph))
        if self.precision == "bf16" and options.execution_providers[0] != OPENVINO:
            raise EngineError(
                f"LOOKWHEN_PRECISION=bf16 takes LOOKWHEN_EXECUTION_PROVIDERS={OPENVINO},{CPU}; "
                "GPUs take fp16, onnxruntime on CPUs int8"
            )
        return content

    def _check_precision(self, selector: Content, extractor: Content) -> None:
        """Raise EngineError if so few bits are too few for this network.

        Both graphs look at something that moves before a still picture: noise, of which no token
        stands out, would not show whether the selector still ranks what it should.
        """
        single = dataclasses.replace(self.options, execution_providers=(CPU,))
        frames = moving_square(self.geometry)
        feeds: Arrays = {
            "clip_small": downscale(frames, self._downscale.time, self._downscale.space)
        }
        reference = Graph("selector", selector, self.selector.outputs, single, self.threads)
        found = check_selection(self.selector, reference, feeds, self._usual)
        positions = np.sort(rank(found[0])[:, : self._usual], axis=1)
        feeds = {
            "patches": gather_patches(
                frames, positions, self.geometry.patch, self.geometry.tubelet
            ),
            "positions": positions,
            "lengths": np.array([positions.shape[1]], np.int64),
        }
        if self.geometry.context:
            feeds["context"] = found[1]
        reference = Graph("extractor", extractor, EXTRACTOR_OUTPUTS, single, self.threads)
        check_precision(self.extractor, reference, feeds)

    def _scheduler(self, stage: StageName, graph: Graph, observer: Observer | None) -> Scheduler:
        dense = self._selector_tokens if stage == "select" else self.geometry.tokens
        return Scheduler(
            Stage(stage, graph, self.cost, observer),
            TokenLimit(self.options.max_batch_tokens, dense),
            lambda tokens: self.worthwhile_rows(stage, tokens),
            self.options.max_padding_ratio,
            0.0 if self.options.on_cpu else self.options.max_batch_wait_seconds,
        )

    def _runs(self, stage: StageName, tokens: int, views: int) -> int:
        """Runs that this number of views takes on its own."""
        scheduler = self._select if stage == "select" else self._extract
        return math.ceil(views / scheduler.rules.room(tokens))


def _halved(name: str, content: Content) -> Content:
    if content.weights is None:
        return Content(to_half(content.graph))
    return Content(*to_half_apart(content.graph, content.weights, WEIGHTS_FILES[f"{name}.onnx"]))


def _check_takes_weights(name: str, options: EngineOptions) -> None:
    """Raise EngineError where a graph that keeps its weights outside itself cannot be run."""
    file = f"this bundle keeps its {name}'s weights in a file of their own, {name}.weights"
    first = options.execution_providers[0]
    if first in (TENSORRT, OPENVINO):
        raise EngineError(
            f"{file}, which {first} cannot read from memory. Set LOOKWHEN_EXECUTION_PROVIDERS="
            f"{CUDA + ',' + CPU if first == TENSORRT else CPU}"
        )
    if options.arithmetic == "int8":
        raise EngineError(
            f"{file}, which onnxruntime cannot quantise. Set LOOKWHEN_PRECISION=fp32, or fp16 on a "
            "GPU"
        )


def _turns(options: EngineOptions) -> int:
    """Two on CPUs: of one run's threads some always wait for the others, and the second run takes
    what that leaves (`python -m benchmarks.cpu`)."""
    return 2 if options.on_cpu and available_cpus() > 1 else 1
