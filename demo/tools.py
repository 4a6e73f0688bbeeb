"""Tools that read text files: real ones, which need no model to be true."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

from oban import current_job, telemetry

BEGUN = "demo.tool.begun"
"""The event of a slow tool that has begun: the demo kills its process then."""

_SLOW = 1.0  # seconds
_MOST = 200_000  # characters
_FILLER = frozenset(
    "a an and are as at be but by for from has have if in into is it its no not of on "
    "or so than that the their they this to was were when which with".split()
)


def read_file(path: str) -> dict[str, str]:
    """Read a text file.

    Args:
        path: Where it is.

    Returns:
        Its title (the first line with text) and how it begins.
    """
    text = _read(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return {"title": first.lstrip("# ").strip(), "beginning": text[:400]}


def count(path: str) -> dict[str, int]:
    """Count the words, sentences and lines of a text file.

    Args:
        path: Where it is.
    """
    text = _read(path)
    return {
        "words": len(re.findall(r"\w+", text)),
        "sentences": len(_sentences(text)),
        "lines": len(text.splitlines()),
    }


def headings(path: str) -> list[str]:
    """List the Markdown headings of a text file, without its title.

    Args:
        path: Where it is.
    """
    return re.findall(r"^##+\s+(.+?)\s*$", _read(path), re.MULTILINE)


def key_sentences(path: str, most: int = 1) -> list[str]:
    """Find the sentences of a text file that hold most of its frequent words.

    Args:
        path: Where it is.
        most: How many sentences to return.
    """
    text = _read(path)
    weights = Counter(_words(text))

    def weight(sentence: str) -> float:
        words = _words(sentence)
        return sum(weights[word] for word in set(words)) / (8 + len(words))

    sentences = _sentences(text)
    best = sorted(sentences, key=weight, reverse=True)[: max(1, int(most))]
    return sorted(best, key=sentences.index)


async def weigh_sentences(path: str) -> list[str]:
    """Weigh all sentences of a text file, slowly, and find the one that matters most.

    Args:
        path: Where it is.
    """
    if (job := current_job()) is not None:
        telemetry.execute(BEGUN, {"job_id": job.id, "attempt": job.attempt})
    await asyncio.sleep(_SLOW)
    return key_sentences(path)


TOOLS = (read_file, count, headings, key_sentences)


def _read(path: str) -> str:
    return Path(path).read_text("utf-8", errors="replace")[:_MOST]


def _words(text: str) -> list[str]:
    return [w for w in re.findall(r"[a-zäöüß]{3,}", text.lower()) if w not in _FILLER]


def _sentences(text: str) -> list[str]:
    """Split prose into sentences, headings and list marks left out."""
    prose = " ".join(
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith(("#", "-", "*", "|", "`", ">"))
    )
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+", prose) if len(s) > 20]
