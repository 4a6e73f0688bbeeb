"""A session with earlier turns."""

from .kind import Kind
from .lone import make

KIND = Kind("history", make, messages=("Go one.", "Go two.", "Go three."))
