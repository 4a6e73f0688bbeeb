"""The names of all telemetry events, and a handler that logs one line a job.

Events go through `oban.telemetry`: attach a handler with
`oban.telemetry.attach(id, events, handler)`; it is called with the name and a dict.

| event | fields |
|---|---|
| `adk.oban.job.start` | `job_id`, `args`, `agent`, `queue`, `attempt`, `system_time` |
| `adk.oban.job.complete` | `duration` (ms), `event_count`, `job_id`, `events`, `args`, and `agent`, `queue`, `attempt`, `model_calls`, `usage`, `text`, `error_code` |
| `adk.oban.job.exception` | `duration` (ms), `job_id`, `args`, `agent`, `queue`, `attempt`, `max_attempts`, `model_calls`, `error_type`, `error_message` |
| `adk.scheduled_job.start` | `system_time`, `job_id`, `args` |
| `adk.scheduled_job.stop` | `duration` (ms), `job_id`, `args`, `result` (the final text, or the error), and the fields of `complete` or `exception` |
"""
