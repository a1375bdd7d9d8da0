"""The frame of every training: identity, state, loop, result and its provenance.

A training says what is its own in a :class:`Run`: what is learnt, from which batches, by which
recipe, and how its result is saved. :func:`carry_out` does what all of them have in common.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch.optim import Optimizer

from training.datasets import Batches
from training.datasets.loading import StepShare
from training.loop import LoopSettings, Objective, run_loop
from training.processes import Processes
from training.provenance import current_commit
from training.running import Running


class TrainingRecipe(Protocol):
    """What the frame reads of a recipe, which is a dataclass whose fields are JSON."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def batch(self) -> int: ...

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One training before its first step.

    Attributes:
        name: of the training, for provenance.
        recipe: what a person chose; every field of it is part of the run's identity.
        loop: the loop's part of the recipe.
        objective: what is learnt.
        optimizers: of what is trained of it.
        batches: the batches of some steps.
        prepare: what this process makes of them before they are learnt from, if anything.
        identity: what else tells this run from others; a state of another run is refused.
        data: what it learns from, for provenance.
        save: writes the result to a path, with the facts of its making.
        file: the result's name.
        rows: what the rows of a batch are, for the count of those seen.
        continues: the facts of the checkpoint that the run goes on from; {} where it starts from
            random weights, None where that is not said.
        name_lost: whether the facts name the clips that could not be read, or count them.
        more: further facts.
        commit: the code's, as it is when the run is made up, not when it ends.
    """

    name: str
    recipe: TrainingRecipe
    loop: LoopSettings
    objective: Objective
    optimizers: Sequence[Optimizer]
    batches: Callable[[StepShare], Batches]
    prepare: Callable[[Batches], Iterable[Any]] | None = None
    identity: Mapping[str, Any]
    data: str
    save: Callable[[Path, dict[str, Any]], None]
    file: str = "checkpoint.safetensors"
    rows: str = "clips"
    continues: Mapping[str, Any] | None = None
    name_lost: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    commit: str = field(default_factory=current_commit)

    def facts(self, done: int) -> dict[str, Any]:
        """What a network says of its making after ``done`` steps."""
        before = self.continues or {}
        seen = f"{self.rows}_seen"
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "name": self.name,
            "data": self.data,
            "steps": done,
            seen: done * self.recipe.batch + int(before.get(seen, 0)),
            **({} if self.continues is None else {"continues": dict(before)}),
            "commit": self.commit,
            **self.more,
        }


def carry_out(
    run: Run,
    out: Path,
    *,
    processes: Processes,
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
) -> Path:
    """Carry a run out, or the rest of it; returns the path of its result.

    A run that has ended before changes nothing, unless its result is missing.

    Args:
        out: folder of state, log and result.
        workers: processes that decode.

    Raises:
        TooManyLost: more clips cannot be read than may be.
        TrainingError, ValueError: see :func:`training.loop.run_loop`.
    """
    read: list[Batches] = []

    def load(first: int, last: int) -> Iterable[Any]:
        batches = run.batches(
            StepShare(
                batch=run.recipe.batch,
                seed=run.recipe.seed,
                first=first,
                last=last,
                workers=workers,
                rank=processes.rank,
                world=processes.world,
                pin=processes.pins,
            )
        )
        read.append(batches)
        return batches if run.prepare is None else run.prepare(batches)

    result = out / run.file
    ran = run_loop(
        run.objective.to(processes.device),
        run.optimizers,
        load,
        run.loop,
        out,
        recipe={**dataclasses.asdict(run.recipe), **run.identity},
        processes=processes,
        running=running,
    )
    mine = {name for batches in read for name in batches.ledger.lost}
    lost = sorted(set().union(*processes.gather(mine)))
    if processes.first and (ran or not result.exists()):
        unreadable = lost if run.name_lost else len(lost)
        run.save(result, {**run.facts(run.loop.steps), "unreadable": unreadable})
    processes.wait()
    return result
