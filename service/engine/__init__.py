"""The two graphs on onnxruntime, and what lies between a request and a run of them."""

from service.engine.cost import CostModel as CostModel
from service.engine.engine import Engine as Engine
from service.engine.engine import EngineOptions as EngineOptions
from service.engine.engine import Extracted as Extracted
from service.engine.engine import Selected as Selected
from service.engine.errors import DeadlinePassed as DeadlinePassed
from service.engine.errors import EngineError as EngineError
