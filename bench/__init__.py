"""The benchmark: ours beside stock Oban and the bare ADK, in one run on one machine."""
