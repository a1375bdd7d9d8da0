"""What a run will take, before it is started: memory of each GPU, and time.

Memory is counted from shapes, by what autograd keeps for the backward pass, and held against what
it really keeps by tests. Time is multiply-accumulates over a throughput, which is measured on this
machine or said by the user.
"""

from training.prediction.memory import Memory
from training.prediction.networks import (
    predict_network_finetuning,
    predict_probe,
    predict_tuning,
)
from training.prediction.recipes import (
    Forecast,
    predict_finetuning,
    predict_image_teacher,
    predict_pretraining,
    predict_video_teacher,
)
from training.prediction.report import Machine, predict_options, tell, warn
from training.prediction.teachers import teacher_shape

__all__ = [
    "Forecast",
    "Machine",
    "Memory",
    "predict_finetuning",
    "predict_image_teacher",
    "predict_network_finetuning",
    "predict_options",
    "predict_pretraining",
    "predict_probe",
    "predict_tuning",
    "predict_video_teacher",
    "teacher_shape",
    "tell",
    "warn",
]
