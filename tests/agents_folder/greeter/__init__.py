"""An agents folder as `adk create` lays it out."""

from . import agent as agent
