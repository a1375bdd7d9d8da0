"""From a person's clips to a network that is measured and calibrated, within some minutes."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bundle.answers import AnswerFacts
from bundle.sampling import Framing
from bundle.scores import SOFTMAX, probabilities_of
from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import ModelConfig
from model.writing import whole_file
from training.calibration.fitting import fit
from training.calibration.looks import Looks
from training.calibration.temperature import CalibrationError
from training.datasets import DataSet, split_off
from training.evaluation.statistics import Estimate
from training.loop import OutOfTime
from training.own.cache import Scaled, missing, scale
from training.own.clips import OwnClips, check_classes, class_sizes, counts
from training.own.figures import as_json, estimate, predict_clips, said
from training.own.forecast import Timing, minutes, take_time
from training.own.framing import FramingChoice, choose_framing, look
from training.own.probing import (
    FrozenFeatures,
    Predicted,
    cross_validated,
    frozen_features,
    learn_head,
    places_of,
    with_probe,
)
from training.own.tuning import epochs_within, recipe_for, tune
from training.processes import Processes, TrainingError
from training.progress import Counter, uncounted
from training.provenance import current_commit, file_digest

# Of a class: fewer cannot be both learnt from and held out; fewer are not worth fine-tuning on.
FEWEST_CLIPS, FEWEST_TUNED = 3, 8
# Clips that the framing is chosen by, and that the time is told by.
_LOOKED, _TIMED = 40, 8
# The probe and the fine-tuned network are compared at these.
_COMPARED = (0.7, 0.9)
# Of the clips held out, those that may be called unknown; and how many there must be to tell.
_UNKNOWN_SHARE, FEWEST_THRESHOLD = 0.05, 20
# Seconds kept for the end: measuring, calibrating and the export.
_END = 60.0


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What a person may turn.

    minutes: for all of it. probe_only: no fine-tuning. framing: None lets the rule choose.
    hold_out: share of the clips that fine-tuning is measured on. sparsity: that the temperature is
    fitted at, and that requests have by default, one of ``probing.SPARSITIES``. workers: processes
    that decode. lost_share: clips that may be unreadable.
    """

    minutes: float = 15.0
    probe_only: bool = False
    framing: Framing | None = None
    hold_out: float = 0.2
    sparsity: float = 0.9
    seed: int = 0
    workers: int = 1
    lost_share: float = 0.01


@dataclass(frozen=True, slots=True)
class OwnResult:
    """The network, and how good it is.

    facts, as they stand in the checkpoint, hold framing and temperature. tuned: fine-tuned, or the
    probe. accuracy: by sparsity, on ``clips`` clips that it has not
    learnt from.
    """

    model: LookWhen
    tuned: bool
    accuracy: dict[float, Estimate]
    clips: int
    facts: dict[str, Any]
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class _Model:
    """A candidate with what it said of clips that it has not learnt from."""

    model: LookWhen
    predicted: Predicted
    facts: dict[str, Any]


def train_own(
    own: OwnClips,
    start: Path,
    out: Path,
    settings: OwnSettings,
    *,
    until: float,
    processes: Processes,
    mirroring: str,
    data: str,
    say: Callable[[str], None],
    count: Counter = uncounted,
) -> OwnResult:
    """Do all of it, or what is left of it: every part goes on where it was stopped.

    Args:
        own: the clips, mirrored as the person says.
        start: checkpoint of the network that is learnt from.
        out: folder of pictures, features, states and the result.
        until: when its minutes are over, of ``time.monotonic``.
        mirroring: a sentence on it.
        data: what provenance says of the clips.
        say: tells the person a line.

    Raises:
        DataSetError: clips or classes too few, or too many of them unreadable.
        CheckpointError, TrainingError: the start cannot be read, fine-tuning cannot go on, or there
            are several processes.
    """
    if processes.world > 1:
        raise TrainingError("own clips are learnt from in one process: leave torchrun out")
    check_classes(own.clips, FEWEST_CLIPS)
    out.mkdir(parents=True, exist_ok=True)
    parent, before = load_checkpoint(start)
    for sentence in (counts(own.clips), own.grouping, mirroring):
        say(sentence)
    choice = _framing(own.clips, settings, out / "framing.json")
    say(f"framing: {choice.name}; {choice.why}")

    def scaled(clips: DataSet, folder: Path, only: int | None = None) -> Scaled:
        share = settings.lost_share if only is None else 1.0
        return scale(
            clips, folder, choice.name, parent.config, workers=settings.workers,
            lost_share=share, only=only, count=count,
        )  # fmt: skip

    folder, test_folder = out / "pictures" / "clips", out / "pictures" / "test"
    why_not = _why_not_tuned(own.clips, settings)
    timing = take_time(
        lambda some: scaled(own.clips, folder, some).clips, _TIMED, start, parent, processes,
        tuned=not why_not,
    )  # fmt: skip
    todo = len(missing(own.clips, folder))
    todo += 0 if own.test is None else len(missing(own.test, test_folder))
    left = until - time.monotonic()
    say(_plan(timing, todo, len(own.clips), settings, left, why_not, parent.config))
    clips, places, _ = scaled(own.clips, folder)
    features = frozen_features(
        parent, clips, out / "features", weights=file_digest(start), device=processes.device,
        count=count,
    )  # fmt: skip
    probed = cross_validated(features, seed=settings.seed, count=count)
    say(f"linear probe, in folds: {said(probed, settings.sparsity)}")
    facts: dict[str, Any] = {
        "name": "training.own",
        "data": f"{data}, {len(clips)} clips",
        "commit": current_commit(),
        "mirror": clips.mirror_by_label,
        "framing": choice.name,
        "task": type(clips.task).__name__,
        "continues": before,
    }
    best = probe = _probe(features, parent, probed, settings, int(before.get("clips_seen", 0)))
    if timing.step is not None:
        there = out / "probe.safetensors"
        save_checkpoint(
            probe.model,
            there,
            {**facts, **probe.facts, **_answer_facts(_calibrated(probed), settings)},
        )
        say(f"{there} is the probe; `lookwhen export` makes a bundle of it")
        tuning = _Tuning(
            features, own.clips.subset(places), choice.name, parent, start, out / "finetune",
            settings, processes, data, say, count,
        )  # fmt: skip
        best = tuning.carry_out(timing, until - _END) or probe
    answer = _calibrated(best.predicted)
    errors = _errors(best.predicted, answer, settings.sparsity)
    say("temperature {:.2f}: calibration error {:.1%} before, {:.1%} after".format(
        answer.temperature_at(settings.sparsity), *errors))  # fmt: skip
    say(_unknown_said(answer, settings.sparsity))
    facts |= {**_answer_facts(answer, settings), **best.facts}
    tuned = best is not probe
    report: dict[str, Any] = {
        **facts,
        "settings": asdict(settings),
        "framing_because": choice.why,
        "grouping": own.grouping,
        "probe": as_json(probed),
        "result": {"tuned": tuned, **as_json(best.predicted)},
        "calibration_error": {"before": errors[0], "after": errors[1]},
    }
    if own.test is not None:
        test = own.test.subset(scaled(own.test, test_folder).places)
        (measured,) = predict_clips(
            [best.model], test, choice.name, processes, workers=settings.workers
        )
        say(f"test: {said(measured, settings.sparsity)}")
        report["test"] = as_json(measured)
    checkpoint = out / "checkpoint.safetensors"
    save_checkpoint(best.model, checkpoint, facts)
    with whole_file(out / "report.json") as part:
        part.write_text(json.dumps(report, indent=2) + "\n")
    accuracy = {sparsity: estimate(best.predicted, sparsity) for sparsity in best.predicted.logits}
    return OwnResult(
        best.model, tuned, accuracy, len(best.predicted.clips), facts, checkpoint
    )  # fmt: skip


def _probe(
    features: FrozenFeatures,
    parent: LookWhen,
    predicted: Predicted,
    settings: OwnSettings,
    seen: int,
) -> _Model:
    """The probe that learns from all clips; what it is worth, those of the folds tell."""
    clips = features.clips
    head = learn_head(features, range(len(clips)), seed=settings.seed)
    recipe = {"probe": True, "seed": settings.seed}
    model = with_probe(parent, head, clips.labels)
    return _Model(model, predicted, {"recipe": recipe, "clips_seen": seen + len(clips)})


def _framing(clips: DataSet, settings: OwnSettings, path: Path) -> FramingChoice:
    """What the person says, what was chosen before, or what the rule chooses."""
    if settings.framing is not None:
        return FramingChoice(settings.framing, "as you say")
    if path.exists():
        return FramingChoice(**json.loads(path.read_text()))
    choice = choose_framing(look(clips, _LOOKED, settings.seed))
    with whole_file(path) as part:
        part.write_text(json.dumps(asdict(choice)) + "\n")
    return choice


def _why_not_tuned(clips: DataSet, settings: OwnSettings) -> str:
    """Why there is to be no fine-tuning; empty where there is."""
    if settings.probe_only:
        return "no fine-tuning, as you say"
    number, label = class_sizes(clips)[0]
    if number < FEWEST_TUNED:
        return f"no fine-tuning: it takes {FEWEST_TUNED} clips of a class, {label} has {number}"
    return ""


def _plan(
    timing: Timing,
    todo: int,
    clips: int,
    settings: OwnSettings,
    left: float,
    why_not: str,
    config: ModelConfig,
) -> str:
    """How long it will take, in a sentence."""
    scaling, probing = todo * timing.scaling, clips * timing.showing
    text = f"scaling {todo} clips: {minutes(scaling)}; linear probe: {minutes(probing)}; "
    if timing.step is None:
        return text + why_not
    looking = clips * timing.looking
    if looking:
        text += f"the stem's looks: {minutes(looking)}; "
    left -= scaling + probing + looking + _END
    epochs = epochs_within(left, timing.step, clips, recipe_for(config))
    if not epochs:
        return text + f"no time for fine-tuning within {settings.minutes:g} min"
    return text + f"then about {epochs:.0f} epochs of fine-tuning within {settings.minutes:g} min"


def _looks(predicted: Predicted) -> Looks:
    """What was said of the clips, as a bundle would have said it of their one view."""
    logits = {s: found.numpy()[:, None] for s, found in predicted.logits.items()}
    return Looks("own", predicted.clips, logits, {})


def _calibrated(predicted: Predicted) -> AnswerFacts:
    """A temperature for each sparsity and, of clips enough, a threshold of the best score below
    which an answer is unknown: of no more than a twentieth of these clips."""
    answer = fit([_looks(predicted)], [], share=_UNKNOWN_SHARE).answer
    if len(predicted.clips) < FEWEST_THRESHOLD:
        return answer.model_copy(update={"unknown": None})
    return answer


def _errors(predicted: Predicted, answer: AnswerFacts, sparsity: float) -> tuple[float, float]:
    """The calibration error before and after, on the clips that the temperature was fitted on."""
    looks = _looks(predicted)
    before, after = (
        CalibrationError.of(
            probabilities_of(looks.logits[sparsity], facts, sparsity), looks.targets
        ).value
        for facts in (SOFTMAX, answer)
    )
    return before, after


def _answer_facts(answer: AnswerFacts, settings: OwnSettings) -> dict[str, Any]:
    """How a checkpoint says it; a release that knows no ``answer`` takes the one temperature."""
    return {
        "temperature": answer.temperature_at(settings.sparsity),
        "answer": answer.model_dump(mode="json", exclude_defaults=True),
    }


def _unknown_said(answer: AnswerFacts, sparsity: float) -> str:
    threshold = answer.unknown_below(sparsity)
    if threshold is None:
        return f"no threshold for what is unknown: it takes {FEWEST_THRESHOLD} clips held out"
    return (
        f"unknown is what scores below {threshold:.2f}; `lookwhen train calibrate` learns from "
        "clips in which none of the classes happens"
    )


@dataclass(frozen=True, slots=True)
class _Tuning:
    """Fine-tuning, and the probe that it must beat on the clips held out."""

    features: FrozenFeatures
    originals: DataSet  # of the features' pictures, in their order
    framing: Framing
    parent: LookWhen
    start: Path
    out: Path
    settings: OwnSettings
    processes: Processes
    data: str
    say: Callable[[str], None]
    count: Counter

    def carry_out(self, timing: Timing, until: float) -> _Model | None:
        """The fine-tuned network; None where the probe is as good or there is no time."""
        clips, seed = self.features.clips, self.settings.seed
        train, held = split_off(clips, self.settings.hold_out, seed)
        assert timing.step is not None  # fine-tuning was asked for
        looking = len(train) * timing.looking
        epochs = self._epochs(len(train), timing.step, until - time.monotonic() - looking)
        if not epochs:
            self.say("no time is left for fine-tuning; --minutes gives it more")
            return None
        head = learn_head(self.features, places_of(train, clips), seed=seed)
        probe = with_probe(self.parent, head, clips.labels)
        headed = self.out / "start.safetensors"
        if not headed.exists():  # its digest is part of the run's identity
            save_checkpoint(probe, headed, load_checkpoint(self.start)[1])
        recipe = replace(recipe_for(self.parent.config), epochs=epochs, seed=seed)
        try:
            done = tune(
                recipe, headed, self.out, train, held, processes=self.processes, data=self.data,
                seconds=until - time.monotonic(), looking=looking, workers=self.settings.workers,
                count=self.count,
            )  # fmt: skip
        except OutOfTime as error:
            self.say(f"time was over before fine-tuning was measured, the probe is taken: {error}")
            return None
        if not done.whole:
            self.say("time was over before the last step: the best step so far is taken")
        model, facts = load_checkpoint(done.checkpoint)
        ours, theirs = predict_clips(
            [model, probe], self.originals.subset(places_of(held, clips)), self.framing,
            self.processes, workers=self.settings.workers,
        )  # fmt: skip
        self.say(f"fine-tuned, held out: {said(ours, self.settings.sparsity)}")
        self.say(f"the probe on these:   {said(theirs, self.settings.sparsity)}")
        if _quality(ours) <= _quality(theirs):
            self.say("fine-tuning gained nothing: the probe is taken, and learns from all clips")
            return None
        return _Model(
            model, ours, {"recipe": facts["recipe"], "clips_seen": facts["clips_seen"]}
        )  # fmt: skip

    def _epochs(self, clips: int, step: float, seconds: float) -> float:
        """As many as there is time for; of a run that goes on, those that it was begun with."""
        plan = self.out / "plan.json"
        if plan.exists():
            return float(json.loads(plan.read_text())["epochs"])
        epochs = epochs_within(seconds, step, clips, recipe_for(self.parent.config))
        if epochs:
            self.out.mkdir(parents=True, exist_ok=True)
            with whole_file(plan) as part:
                part.write_text(json.dumps({"epochs": epochs, "step_seconds": step}) + "\n")
        return epochs


def _quality(predicted: Predicted) -> float:
    """Clips answered rightly, at the sparsities compared."""
    return float(sum(predicted.right(sparsity).sum() for sparsity in _COMPARED))
