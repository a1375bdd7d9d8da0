"""The two graphs on onnxruntime, and what lies between a request and a run of them."""

from service.engine.calibration import Calibration as Calibration
from service.engine.cost import CostModel as CostModel
from service.engine.engine import Engine as Engine
from service.engine.engine import Extracted as Extracted
from service.engine.engine import Selected as Selected
from service.engine.errors import DeadlinePassed as DeadlinePassed
from service.engine.errors import EngineError as EngineError
from service.engine.errors import OutOfMemory as OutOfMemory
from service.engine.options import EngineOptions as EngineOptions
from service.engine.runs import Observer as Observer
from service.engine.work import Work as Work
