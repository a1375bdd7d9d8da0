"""The commands of ``lookwhen``: what people type, where each is, the first sentence of its help.

Nothing is imported before a command is called: ``lookwhen --help`` must not wait for torch or
onnxruntime. A test compares the sentences with those of the commands.
"""

import functools

import click

from lookwhen.deferred import PROGRAM, Deferred, Group, Program, TrainGroup
from service import __version__

_HELP = {"help_option_names": ["-h", "--help"]}

_trains = functools.partial(Deferred, extras=("train",))


def _log_plainly() -> None:
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")


# fmt: off
TEACHERS = Group(
    "teachers",
    help="Train local teachers, and store what a teacher says of clips.",
    commands=[
        _trains("image", "training.teachers.__main__:train_image_command",
                "Train an image teacher on frames of clips, without labels; write it to OUT."),
        _trains("video", "training.teachers.__main__:train_video_command",
                "Train a video teacher on labelled clips; write it to OUT."),
        _trains("store", "training.teachers.__main__:store",
                "Store in OUT what TEACHER, with WEIGHTS, says of every clip of the data set."),
    ],
)

DATA = Group(
    "data",
    help="Look at data sets before training on them.",
    commands=[
        _trains("check", "training.datasets.__main__:main",
                "Say what a data set holds and, with --decode, whether every clip of it decodes."),
    ],
)

TRAIN = TrainGroup(
    "train",
    help="Train and evaluate networks. `lookwhen train FOLDER` makes a bundle of your own clips.",
    callback=_log_plainly,
    commands=[
        _trains("own", "lookwhen.own:main",
                "Make a bundle that serves of the clips in FOLDER: one sub-folder for each class."),
        DATA,
        _trains("render", "training.moving_things.__main__:render_store",
                "Render a store of CLIPS into the folder OUT."),
        _trains("sheet", "training.moving_things.__main__:sheet",
                "Write a picture (.png) of one rendered clip of each label, what moves outlined."),
        TEACHERS,
        _trains("pretrain", "training.pretrain.__main__:main",
                "Pre-train on the clips of KIND at PATH; write state, log and checkpoint to OUT."),
        _trains("finetune", "training.finetune.__main__:main",
                "Train CHECKPOINT on the labels of a data set; write checkpoints to OUT."),
        _trains("tune", "training.tune.__main__:main",
                "Tune CHECKPOINT, a published network, for part of its tokens, and train its "
                "selector."),
        _trains("lite", "training.lite.__main__:main",
                "Train LITE's selector for CHECKPOINT, a published network, and tune the network "
                "to it."),
        _trains("builtin", "training.moving_things.supervised.command:main",
                "Train the built-in model on the rendered clips in DATA; write it to OUT."),
        _trains("probe", "training.probe.__main__:main",
                "Measure CHECKPOINT's features on a data set by linear classifiers."),
        _trains("evaluate", "training.evaluation.evaluate:main",
                "Measure CHECKPOINT on the clips of DATA, decoded from their compressed files."),
        _trains("calibrate", "lookwhen.calibrating:main",
                "Fit when BUNDLE is how sure, and when it has no answer; write it to OUT."),
        _trains("pool", "training.evaluation.__main__:pool",
                "Take the clips of several files of PREDICTIONS as one measurement."),
        _trains("plot", "training.evaluation.__main__:plot",
                "Draw accuracy over multiply-accumulates of some REPORTS."),
        _trains("baselines", "training.baselines.__main__:main",
                "Print the cost of CONFIG with each method, and of LookWhen beside it."),
    ],
)

BUNDLE = Group(
    "bundle",
    help="Look into bundles.",
    commands=[
        Deferred("show", "lookwhen.bundle:show",
                 "Verify a bundle and say what is in it; without DIRECTORY the built-in one."),
        _trains("unpack", "export.unpack:main",
                "Write the weights of BUNDLE, or of the built-in one, to OUT as a checkpoint."),
    ],
)

MODEL = Group(
    "model",
    help="Look at networks.",
    commands=[
        _trains("cost", "model.__main__:main",
                "Print the parameters of CONFIG and its multiply-accumulates by sparsity."),
    ],
)

COMMANDS = [
    Deferred("serve", "lookwhen.serve:serve",
             "Serve a bundle over HTTP until SIGTERM or Ctrl-C."),
    Deferred("classify", "lookwhen.classify:classify",
             "Classify video files, here or by a running service."),
    Deferred("explain", "lookwhen.explain:explain",
             "Write to OUT which parts of CLIP the extractor looked at."),
    Deferred("timeline", "lookwhen.timeline:timeline",
             "Print what happens when in VIDEO, which may last for hours."),
    Deferred("watch", "lookwhen.watch:watch",
             "Print what begins and what ends in SOURCE as it happens, a JSON document a line."),
    Deferred("similar", "lookwhen.similar:similar",
             "Find clips in FOLDER that show the same, or with --to what is like CLIP."),
    Deferred("bench", "lookwhen.bench.command:bench",
             "Measure what this machine, or a running service, serves at each sparsity."),
    Deferred("sample", "training.moving_things.sample:sample",
             "Write one fresh clip to OUT (an .mp4) and print its true label."),
    Deferred("key", "lookwhen.key:key",
             "Make a key for a client: `lookwhen key NAME >> keys.txt`."),
    BUNDLE,
    TRAIN,
    _trains("export", "export.__main__:main",
            "Export CHECKPOINT as a bundle directory OUT."),
    _trains("import", "lookwhen.importing:import_command",
            "Make a bundle directory OUT of a public checkpoint: a file, a folder, or a hub's "
            "OWNER/NAME."),
    MODEL,
    _trains("models", "training.systems.__main__:main",
            "Print parameters and multiply-accumulates of the paper's systems beside the published "
            "ones."),
    Deferred("completion", "lookwhen.completion:completion",
             "Print what makes a shell complete the commands and options of lookwhen."),
]
# fmt: on


@click.group(cls=Program, commands=COMMANDS, context_settings=_HELP)
@click.version_option(__version__, prog_name=PROGRAM)
def main() -> None:
    """Video classification whose cost is a request parameter.

    Start with `lookwhen serve`, then `lookwhen sample clip.mp4` and
    `lookwhen classify clip.mp4 --url http://127.0.0.1:8000`.
    """
