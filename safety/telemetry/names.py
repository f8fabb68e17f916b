"""Every name that telemetry uses: the pinned GenAI conventions of OpenTelemetry, and Pawl's own.

The conventions are in development and rename things between releases. 1.41.0 is the last release of OpenTelemetry's
semantic conventions that holds the GenAI ones, and the one that collectors and viewers know; in their repository of
their own, the token metrics have other names.
"""

from enum import StrEnum

CONVENTIONS = "1.41.0"
"""Release of https://github.com/open-telemetry/semantic-conventions that every `gen_ai.*` name here is from."""
SCHEMA_URL = f"https://opentelemetry.io/schemas/{CONVENTIONS}"
SCOPE = "pawl"
"""Name of the instrumentation scope."""


class Operation(StrEnum):
    """Values of `gen_ai.operation.name`."""

    CHAT = "chat"
    TEXT_COMPLETION = "text_completion"
    EXECUTE_TOOL = "execute_tool"
    INVOKE_AGENT = "invoke_agent"
    INVOKE_WORKFLOW = "invoke_workflow"


# Of the conventions: attributes.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
WORKFLOW = "gen_ai.workflow.name"
AGENT = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
OUTPUT_TYPE = "gen_ai.output.type"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a name, no secret
EVALUATION = "gen_ai.evaluation.result"
"""Name of an event."""
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
SERVER = "server.address"
SERVER_PORT = "server.port"
ERROR = "error.type"

# Of the conventions: metrics, with the boundaries of their buckets.
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105
TOKEN_BOUNDARIES = [float(4**power) for power in range(14)]
OPERATION_DURATION = "gen_ai.client.operation.duration"
DURATION_BOUNDARIES = [0.01 * 2**power for power in range(14)]

# Pawl's own: attributes.
CAMPAIGN = "pawl.campaign"
TASK = "pawl.task"
ROUND = "pawl.round"
NODE = "pawl.node"
LEVER = "pawl.lever"
DIAGNOSIS = "pawl.diagnosis"
FATE = "pawl.fate"
STATUS = "pawl.status"
VERSION = "pawl.version"
PREVIOUS = "pawl.version.previous"
CANDIDATE = "pawl.candidate"
RACE = "pawl.race"
OUTCOME = "pawl.outcome"
BITS = "pawl.race.bits"
BILL_TOKENS = "pawl.race.bill.tokens"
BILL_VERIFICATIONS = "pawl.race.bill.verifications"
ACTOR = "pawl.actor"
VERDICT = "pawl.verdict"
PARKED = "pawl.parked"
ITEM = "pawl.item"
STOP = "pawl.stop"
USE = "pawl.sandbox.use"
ENDING = "pawl.sandbox.ending"
CPU_SECONDS = "pawl.cpu_seconds"
ACCEPTED = "pawl.verification.accepted"
LOOKED_UP = "pawl.verification.looked_up"
VERIFICATIONS = "pawl.verifications"
JOB = "pawl.job"
JOB_STATE = "pawl.job.state"
STEPS = "pawl.training.steps"
UNTRUSTED = "pawl.untrusted"
"""Marks what a sandboxed program said of itself."""
MODEL = "pawl.model"
LIMIT = "pawl.limit"
"""Which of a budget's limits a fraction is of."""
SCOPE_OF_LIMIT = "pawl.limit.scope"
"""Whether that limit is the campaign's, a round's, a candidate's or the day's."""
EVENT_KIND = "pawl.event"
"""What an event of the meter stands for: used, a sealed race's bill, or lost."""

# Pawl's own: metrics.
COST = "pawl.cost"
ROUNDS = "pawl.rounds"
RACES = "pawl.races"
BUDGET_USED = "pawl.budget.used"
