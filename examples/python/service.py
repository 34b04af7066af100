"""A service that reads what Tidewatch tells it as OpenFeature flags: it refuses what the priority floor
leaves out and a share of the rest, and says which mode runs.

    pip install -r requirements.txt
    TIDEWATCH_URL=http://127.0.0.1:9517 SERVICE=cart LISTEN=8080 python service.py
    curl -i -H 'x-priority: low' http://127.0.0.1:8080/
"""

import itertools
import json
import math
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote
from urllib.request import Request, urlopen

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

BASE = os.environ.get("TIDEWATCH_URL", "http://127.0.0.1:9517")
SERVICE = os.environ.get("SERVICE", "cart")
PRIORITIES = ["low", "normal", "high", "critical"]

api.set_provider(OFREPProvider(BASE, timeout=2.0))
api.set_evaluation_context(EvaluationContext(targeting_key=SERVICE))
flags = api.get_client()

# What holds while Tidewatch says nothing: the SDK gives these defaults back when it cannot be asked.
told = {"mode": "normal", "floor": "low", "shed": 0.0, "recommendations": True}
own = dict(told)
count = itertools.count()


def refresh():
    """Asks for the flags once, and says which mode runs."""
    global told
    mode = flags.get_string_details("tidewatch.mode", own["mode"])
    told = {
        "mode": mode.value,
        "floor": flags.get_string_value("tidewatch.priority_floor", own["floor"]),
        "shed": flags.get_float_value("tidewatch.shed", own["shed"]),
        "recommendations": flags.get_boolean_value("recommendations", own["recommendations"]),
    }
    # Told by Tidewatch, and not our own default: say that it runs.
    if "sequence" in mode.flag_metadata:
        said = {"mode": mode.value, "sequence": mode.flag_metadata["sequence"], "instance": "one"}
        url = f"{BASE}/api/v1/modes/{quote(SERVICE, safe='')}/ack"
        headers = {"content-type": "application/json"}
        urlopen(Request(url, json.dumps(said).encode(), headers), timeout=2).close()


def follow():
    """Once a second rather than at each request: a request must not wait for Tidewatch."""
    while True:
        try:
            refresh()
        except OSError as error:
            print(f"tidewatch: {error}", flush=True)
        time.sleep(1)


def is_refused(priority):
    if PRIORITIES.index(priority) < PRIORITIES.index(told["floor"]):
        return True
    if priority == "critical":
        return False
    # Spread evenly: of four with a share of 0.25, each fourth.
    n, shed = next(count), told["shed"]
    return math.floor((n + 1) * shed) > math.floor(n * shed)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        priority = self.headers.get("x-priority", "normal")
        if is_refused(priority if priority in PRIORITIES else "normal"):
            self.send_response(503)
            self.send_header("retry-after", "5")
            self.end_headers()
            return
        body = json.dumps({"mode": told["mode"], "recommendations": told["recommendations"]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("LISTEN", "8080"))), Handler)
print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
threading.Thread(target=follow, daemon=True).start()
server.serve_forever()
