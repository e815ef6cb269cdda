"""Recording a run from inside its program: status, metrics, artifacts, environment."""
