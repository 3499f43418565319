"""From audio to text, one file for each family of models."""

from models.recognisers.base import DECODERS, GRAPH, GREEDY, Recogniser
from models.recognisers.registry import load, try_out

__all__ = ["DECODERS", "GRAPH", "GREEDY", "Recogniser", "load", "try_out"]
