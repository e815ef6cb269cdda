"""Runs as jobs of a scheduler: scripts, submission, state, cancelling and resubmission."""
