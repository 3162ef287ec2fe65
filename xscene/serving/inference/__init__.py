"""The Open Inference Protocol: its one servicer, for every service that serves models with it."""

from xscene.serving.inference.repository import Repository, RepositoryLimits
from xscene.serving.inference.servicer import Engine, InferenceServicer
from xscene.serving.inference.shared_memory import Regions
from xscene.serving.inference.tensors import TensorLimits

__all__ = ["Engine", "InferenceServicer", "Regions", "Repository", "RepositoryLimits", "TensorLimits"]
