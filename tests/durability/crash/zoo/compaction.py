"""An App that compacts its sessions, by a summarizer with a model of its own."""

import warnings

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.apps.app import EventsCompactionConfig
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer

from durability.crash.script import Script, call

from .kind import Kind
from .tools import look


def make() -> App:
    """Make it."""
    talker = LlmAgent(
        name="talker",
        model=Script(plan=[call("look", place="north"), "Done {told}"]),
        tools=[look],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compaction = EventsCompactionConfig(
            summarizer=LlmEventSummarizer(
                llm=Script(model="summarizer", plan=["In short {told}"])
            ),
            compaction_interval=2,
            overlap_size=0,
        )
        return App(
            name="compact", root_agent=talker, events_compaction_config=compaction
        )


KIND = Kind(
    "compaction",
    make,
    messages=("Go one.", "Go two."),
    app_name="compact",
    # ADK goes on without a summary, since the whole history is still there.
    swallows=("model summarizer",),
)
