"""Where a run goes on from, so that all of its processes, on all nodes, go on from the same step.

Process 0 alone writes states, so without a file system that the nodes share only its node has one.
Its state is the run's: the other processes get it from there, whatever lies in their own folders.
What would lose work without a word is refused instead.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer

from training.processes import Processes, TrainingError
from training.state import put_back, read_facts, read_step, read_tensors


@dataclass(frozen=True, slots=True)
class Found:
    """What a process finds in its folder before the first step.

    Attributes:
        process: its name, for people.
        recipe: of the run that it was started for.
        step: that its state goes on from; None without a state, or without one that can be read.
        damaged: why its state cannot be read.
        refused: why its state or its folder must not be used.
    """

    process: str
    recipe: Mapping[str, Any]
    step: int | None = None
    damaged: str | None = None
    refused: str | None = None


def resume(
    state: Path,
    recipe: Mapping[str, Any],
    objective: nn.Module,
    optimizers: Sequence[Optimizer],
    processes: Processes,
) -> int:
    """Bring every process to the step that process 0 has a state of; returns that step.

    Args:
        state: path of the state, the same on every node; only process 0's need exist.
        recipe: what the run is, as JSON.

    Raises:
        TrainingError: in all processes alike, see :func:`agree`; or the state does not fit the
            network.
    """
    step = agree(processes.gather(look(state, recipe, processes)))
    if step is None:
        return 0
    try:
        put_back(
            processes.share(read_tensors(state) if processes.first else {}), objective, optimizers
        )
    except (KeyError, RuntimeError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"{state} is of this recipe and of another network ({str(error).splitlines()[0]}); "
            "choose another folder or remove it"
        ) from None
    return step


def look(state: Path, recipe: Mapping[str, Any], processes: Processes) -> Found:
    """What this process finds; process 0 also makes the folder."""
    recipe = json.loads(json.dumps(dict(recipe)))
    try:
        if processes.first:
            state.parent.mkdir(parents=True, exist_ok=True)
        if not state.exists():
            return Found(processes.name, recipe)
        theirs, step = read_facts(state)["recipe"], read_step(state)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        why = str(error) or type(error).__name__
        return Found(
            processes.name,
            recipe,
            damaged=f"{state} cannot be read ({why}): put a copy in its place, or remove it to "
            "begin anew",
        )
    except OSError as error:
        return Found(
            processes.name, recipe, refused=f"{state.parent} cannot be used ({error.strerror})"
        )
    if theirs != recipe:
        return Found(
            processes.name,
            recipe,
            refused=f"{state} belongs to another recipe ({difference(theirs, recipe)}); "
            "choose another folder or remove it",
        )
    return Found(processes.name, recipe, step)


def agree(found: Sequence[Found]) -> int | None:
    """The step to go on from, None for the beginning; every process decides the same.

    Args:
        found: of each process, in the order of their ranks.

    Raises:
        TrainingError: processes were started for different runs, process 0's state cannot be used,
            or another one has a later state. The text names processes and nodes.
    """
    first, others = found[0], found[1:]
    for other in others:
        if other.recipe != first.recipe:
            raise TrainingError(
                f"{other.process} was started for another run than {first.process} "
                f"({difference(first.recipe, other.recipe)}); give every node the same command "
                "and the same files"
            )
    for one in found:
        if one.refused or (one.damaged and (one is first or first.step is None)):
            where = f"{one.process}: " if others else ""
            raise TrainingError(f"{where}{one.refused or one.damaged}")
    for other in others:
        if (other.step or 0) > (first.step or 0):
            has = "has none" if first.step is None else f"has one of step {first.step}"
            raise TrainingError(
                f"{other.process} has a state of step {other.step}, and {first.process}, whose "
                f"state all processes go on from, {has}: copy the run's folder from the node of "
                "the former to that of the latter, or remove it on both to begin anew"
            )
    return first.step


def difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first field in which two recipes differ, in words."""
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"{name} was {theirs.get(name)!r}, now {ours.get(name)!r}"
    return "in the order of its parts"
