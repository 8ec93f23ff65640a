"""Profiles: what models cost, in parameters, multiply-adds, memory and time, at every scale and in every form."""

from polyres.evaluation.profiling.results import Cost, Latency, Profile, Size
from polyres.evaluation.profiling.run import ENGINES, OUTPUT, profile

__all__ = ["ENGINES", "OUTPUT", "Cost", "Latency", "Profile", "Size", "profile"]
