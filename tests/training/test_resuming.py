"""Going on from a state, where several processes on several nodes have to agree on it."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from nodes import run_nodes
from regression import Regression, go, optimizers, rows

from training.processes import Processes, TrainingError
from training.resuming import Found, agree, look
from training.state import put_back, read_step, read_tensors, save_state

RECIPE = {"batch": 8, "seed": 0}


def found(process: int, step: int | None, **more: object) -> Found:
    return Found(f"process {process} (node {process}, host)", RECIPE, step, **more)  # type: ignore[arg-type]


def test_all_go_on_from_the_first_processs_state() -> None:
    assert agree([found(0, None)]) is None
    assert agree([found(0, 4)]) == 4
    assert agree([found(0, 4), found(1, 4)]) == 4
    assert agree([found(0, 4), found(1, None), found(2, 3)]) == 4
    assert agree([found(0, 4), found(1, None, damaged="cannot be read")]) == 4
    assert agree([found(0, None), found(1, None)]) is None


def test_what_would_lose_work_is_refused_by_node_and_step() -> None:
    with pytest.raises(TrainingError) as error:
        agree([found(0, None), found(1, 4)])
    assert str(error.value) == (
        "process 1 (node 1, host) has a state of step 4, and process 0 (node 0, host), whose state "
        "all processes go on from, has none: copy the run's folder from the node of the former to "
        "that of the latter, or remove it on both to begin anew"
    )
    with pytest.raises(TrainingError, match=r"process 2 .* of step 9, .* has one of step 4"):
        agree([found(0, 4), found(1, 4), found(2, 9)])
    with pytest.raises(TrainingError, match=r"process 1 \(node 1, host\): cannot be read"):
        agree([found(0, None), found(1, None, damaged="cannot be read")])
    with pytest.raises(TrainingError, match=r"process 0 .*: cannot be read"):
        agree([found(0, None, damaged="cannot be read"), found(1, 4)])
    with pytest.raises(TrainingError, match=r"^cannot be read"):
        agree([found(0, None, damaged="cannot be read")])
    with pytest.raises(TrainingError, match=r"process 1 .*: of another recipe"):
        agree([found(0, 4), found(1, None, refused="of another recipe")])


def test_nodes_that_were_given_different_commands_are_told_the_difference() -> None:
    other = Found("process 1 (node 1, b)", {"batch": 16, "seed": 0}, 4)
    with pytest.raises(TrainingError) as error:
        agree([found(0, 4), other])
    assert str(error.value) == (
        "process 1 (node 1, b) was started for another run than process 0 (node 0, host) (batch "
        "was 8, now 16); give every node the same command and the same files"
    )


@pytest.mark.parametrize("damage", ["empty", "cut", "no state", "header"])
def test_a_damaged_state_is_a_sentence(tmp_path: Path, damage: str) -> None:
    go(tmp_path)
    state = tmp_path / "state.safetensors"
    whole = state.read_bytes()
    if damage == "no state":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, state)
    else:
        state.write_bytes(
            {
                "empty": b"",
                "cut": whole[: len(whole) // 2],
                "header": struct.pack("<Q", 1 << 60) + whole[8:],
            }[damage]
        )
    with pytest.raises(TrainingError, match=r"state\.safetensors cannot be read \(.*: put a copy"):
        go(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TrainingError, match=r"taken/run cannot be used \(Not a directory\)"):
        go(tmp_path / "taken" / "run")


def test_a_state_of_another_network_is_a_sentence(tmp_path: Path) -> None:
    go(tmp_path)
    wider = Regression()
    wider.head = torch.nn.Linear(16, 5)
    with pytest.raises(TrainingError, match="is of this recipe and of another network"):
        go(tmp_path, wider)


def test_a_state_brings_back_weights_and_moments(tmp_path: Path) -> None:
    objective = Regression()
    several = optimizers(objective)
    loss, _ = objective(next(iter(_one_step())), 0)
    loss.backward()
    for optimizer in several:
        optimizer.step()
    save_state(tmp_path / "state", objective, several, 1, {"recipe": {}})
    again = Regression()
    others = optimizers(again)
    put_back(read_tensors(tmp_path / "state"), again, others)
    assert read_step(tmp_path / "state") == 1
    for mine, theirs in zip(several, others, strict=True):
        assert mine.state
        for here, there in zip(objective.parameters(), again.parameters(), strict=True):
            one, other = mine.state.get(here, {}), theirs.state.get(there, {})
            assert one.keys() == other.keys()
            for name in one:
                assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])), name
    alone = Processes(0, 1, torch.device("cpu"))
    assert look(tmp_path / "state", {}, alone).step == 1


def _one_step() -> list[object]:
    return list(rows(0, 1))


_SCENES = """
import json, os
from pathlib import Path
from regression import LoopSettings, Regression, optimizers, rows, run_loop
from training.processes import TrainingError, join_processes
from training.running import Running

def go(out, processes, steps=6, recipe=None):
    objective = Regression(noise=0.1)
    several = optimizers(objective)
    try:
        ran = run_loop(
            objective, several,
            lambda first, last: list(rows(first, last, processes.rank, 2))[: steps - first],
            LoopSettings(6, 8, warm_up=0.2), Path(out), recipe=recipe or {"batch": 8},
            processes=processes, running=Running(save_every=2),
        )
    except TrainingError as error:
        return str(error)
    weights = [p.tolist() for p in objective.parameters()]
    moments = [
        [o.state.get(p, {})[name].tolist() for name in sorted(o.state.get(p, {}))]
        for o in several for p in objective.parameters()
    ]
    return [ran, weights, moments]

with join_processes("cpu") as processes:
    first = processes.first
    said = {}
    said["whole"] = go("whole", processes)
    go("cut", processes, steps=4)                        # node 0 alone has a state, of step 4
    said["states"] = Path("cut/state.safetensors").exists()
    said["cut"] = go("cut", processes)
    go("later", processes, steps=2)
    if not first:                                        # node 1 brings a later one
        go_on = Path("later"); go_on.mkdir()
    state = Path("later/state.safetensors")
    there = processes.gather(Path("cut/state.safetensors").read_bytes() if first else b"")[0]
    if not first:
        state.write_bytes(there)                         # of step 6
    said["later"] = go("later", processes)
    if not first:
        state.write_bytes(there[:100])                   # and a damaged one
    said["damaged"] = go("later", processes)
    if first:
        state.write_bytes(there[:100])
    said["damaged first"] = go("later", processes)
    said["recipe"] = go("other", processes, recipe={"batch": 8 if first else 16})
    Path("said.json").write_text(json.dumps(said))
"""


@pytest.mark.long
def test_nodes_without_a_shared_file_system_go_on_together_or_say_why_not(tmp_path: Path) -> None:
    """Node 0 goes on from step 4 and node 1 would begin at 0: it used to hang for six hours."""
    nodes = run_nodes(_SCENES, tmp_path)
    assert [node.code for node in nodes] == [0, 0], nodes
    zero, one = (json.loads((tmp_path / f"node{n}" / "said.json").read_text()) for n in range(2))
    assert (zero["states"], one["states"]) == (True, False)
    # What node 1 had no state of ran on as if it had never been stopped, moments and all.
    for scene in ("whole", "cut", "damaged"):
        assert zero[scene] == one[scene], scene
    assert (zero["whole"][0], zero["cut"][0], zero["damaged"][0]) == (6, 2, 4)
    assert zero["whole"][1:] == zero["cut"][1:] == zero["damaged"][1:]
    for scene, text in {
        "later": r"process 1 \(node 1, .*\) has a state of step 6, and process 0 \(node 0, .*\), "
        "whose state all processes go on from, has one of step 2: copy the run's folder",
        "damaged first": r"process 0 \(node 0, .*\): later/state.safetensors cannot be read",
        "recipe": r"process 1 \(node 1, .*\) was started for another run than process 0 .*"
        r"\(batch was 8, now 16\); give every node the same command",
    }.items():
        assert re.match(text, zero[scene]), zero[scene]
        assert zero[scene] == one[scene], scene


_FAILS = """
import sys
import click
from training import watch
from training.processes import TrainingError, join_processes

try:
    with join_processes("cpu") as processes:
        if processes.rank == {rank}:
            {end}
        processes.wait()
        print("came together")
except (TrainingError, ValueError) as error:
    raise SystemExit(f"Error: {{error}}")
"""


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_that_fails_at_its_start_ends_the_others(tmp_path: Path, rank: int) -> None:
    script = _FAILS.format(rank=rank, end='raise ValueError("clips/: there is no such folder")')
    nodes = run_nodes(script, tmp_path)
    assert all(node.code == 1 for node in nodes), nodes
    other = nodes[1 - rank].said
    assert re.search(rf"process {rank} \(node {rank}, .*\) ended: clips/: there is no", other)
    assert "Error: clips/: there is no such folder" in nodes[rank].said
    assert "came together" not in other
    assert abs(nodes[0].seconds - nodes[1].seconds) < 60


@pytest.mark.long
def test_a_node_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    script = _FAILS.format(rank=1, end="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    nodes = run_nodes(script, tmp_path)
    assert all(node.code == 1 for node in nodes), nodes
    assert "Error: another process ended without a word" in nodes[0].said
    assert "came together" not in nodes[0].said


@pytest.mark.long
def test_a_process_that_waits_in_a_collective_hears_of_a_failure_and_of_silence(
    tmp_path: Path,
) -> None:
    """The main thread is out of reach, as it is within NCCL; the other one is stopped, not dead."""
    script = """
import os, signal, subprocess, sys, time
from training import watch
from training.processes import join_processes

watch.SILENCE_SECONDS = 4.0
with join_processes("cpu") as processes:
    processes.wait()
    if processes.rank == 1:
        subprocess.Popen(["sh", "-c", f"sleep 15; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)
"""
    nodes = run_nodes(script, tmp_path)
    assert nodes[0].code == 1, nodes
    assert re.search(
        r"process 0 \(node 0, .*\) ends, because process 1 \(node 1, .*\) has shown no sign of "
        "life for 4 s",
        nodes[0].said,
    ), nodes[0].said
    # Woken, it finds that it was given up.
    assert nodes[1].code == 1, nodes
    assert nodes[1].seconds < 200
