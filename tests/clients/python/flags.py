"""Reads flags with OpenFeature's own SDK: for each line on standard input one line with all of them.

Usage: flags.py BASE_URL SERVICE
"""

import json
import logging
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

base, service = sys.argv[1:]
logged = []


class Keep(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())


logging.getLogger().addHandler(Keep(logging.WARNING))
api.set_provider(OFREPProvider(base))
context = EvaluationContext(targeting_key="user-7", attributes={"service.name": service})
api.set_evaluation_context(context)
client = api.get_client()

FLAGS = [
    ("boolean", "recommendations", True),
    ("integer", "max_steps", 7),
    ("float", "ratio", 0.75),
    ("string", "model", "large"),
    ("object", "limits", {"rate": 100}),
    ("boolean", "beta", True),
    ("boolean", "nonsense", True),
    ("string", "tidewatch.mode", "own"),
    ("integer", "tidewatch.level", -1),
    ("string", "tidewatch.priority_floor", "own"),
    ("string", "tidewatch.quality", "own"),
    ("float", "tidewatch.shed", -1.0),
]

for _ in sys.stdin:
    seen = {}
    for kind, key, fallback in FLAGS:
        details = getattr(client, f"get_{kind}_details")(key, fallback)
        seen[key] = {
            "value": details.value,
            "reason": details.reason,
            "variant": details.variant,
            "errorCode": details.error_code,
            "metadata": dict(details.flag_metadata),
        }
    print(json.dumps({"seen": seen, "logged": logged}), flush=True)
