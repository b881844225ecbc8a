"""Pure decisions: from (spec, run, observations, time) to verdicts and moves."""
