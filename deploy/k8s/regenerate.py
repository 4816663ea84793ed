"""
Write the files of this folder that are made of others: `.venv/bin/python deploy/k8s/regenerate.py`.

nats-users.yaml comes from the table of what each role may do at NATS; monitoring/rules.yaml from the rules that every
Prometheus is given (deploy/observability). A test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

from hypha.server.nats_users import helm_users

_HERE = Path(__file__).parent
_RULES = _HERE.parent / "observability" / "prometheus" / "rules" / "hypha.yml"

_USERS_HEAD = """\
# The users of NATS and the subjects that each may use, for its Helm chart, beside nats-values.yaml. The chart writes
# what is between << and >> as it is: passwords come from the environment. Written by regenerate.py; do not edit.
config:
  merge:
    authorization:
      timeout: 5
      users:
"""
_RULES_HEAD = """\
# deploy/observability/prometheus/rules/hypha.yml, for the Prometheus operator. Written by regenerate.py; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hypha
  labels:
    release: kube-prometheus-stack
spec:
"""


def generated() -> dict[Path, str]:
    """Return what each file must hold."""
    return {_HERE / "nats-users.yaml": _users(), _HERE / "monitoring" / "rules.yaml": _rules()}


def _users() -> str:
    lines = []
    for user in helm_users():
        lines += [f"- user: {user['user']}", f"  password: {user['password']}", "  permissions:"]
        for what, subjects in user["permissions"].items():
            lines += [f"    {what}:", "      allow:", *(f"        - {json.dumps(one)}" for one in subjects["allow"])]
    return _USERS_HEAD + indent("\n".join(lines), 8 * " ") + "\n"


def _rules() -> str:
    return _RULES_HEAD + indent(_RULES.read_text(), "  ")


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
