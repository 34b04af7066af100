"""Checks a webhook as its receivers do: `verify.py SECRET`, headers and body as JSON on standard input."""

import json
import sys

from standardwebhooks.webhooks import Webhook

delivery = json.load(sys.stdin)
# Old deliveries are refused, as replays.
Webhook(sys.argv[1]).verify(delivery["body"].encode(), delivery["headers"])
try:
    Webhook(sys.argv[1]).verify(delivery["body"].encode() + b" ", delivery["headers"])
except Exception:
    print("verified")
