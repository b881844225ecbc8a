"""Patches of the rules about weight: up needs proof, down needs nothing."""

from __future__ import annotations

from tests.mutation.patch import Patch

WEIGHT = (
    # -- up needs proof ---------------------------------------------------------------------------------------------------
    Patch(
        "the weight rises on worse than slo",
        "decision/stages.py",
        'if verdict.kind is not Kind.GOOD:\n            return verdict.reason, f"{metric}',
        'if verdict.kind is Kind.BAD:\n            return verdict.reason, f"{metric}',
        "decision/test_lifecycle.py::test_worse_than_slo_holds_and_is_given_up_after_its_time",
    ),
    Patch(
        "the first weight does not wait for the first copies",
        "decision/stages.py",
        "_problems(draft) or _unshown(draft)",
        "_problems(draft)",
        "decision/test_preflight.py::test_preflight_waits_for_the_first_copies_where_requests_come",
    ),
    Patch(
        "copies worse than slo keep the first weight back for a while only",
        "decision/stages.py",
        "        if verdict.kind is Kind.WITHIN:\n",
        "        if verdict.kind is Kind.WITHIN and left > 0:\n",
        "decision/test_preflight.py::test_copies_that_are_worse_than_slo_hold_the_first_weight_as_they_hold_a_step",
    ),
    Patch(
        "the first weight does not wait for comparisons",
        "decision/stages.py",
        "        elif counted and verdict.reason ==",
        "        elif left > 0 and verdict.reason ==",
        "decision/test_preflight.py::test_copies_that_cannot_be_compared_hold_the_first_weight",
    ),
    Patch(
        "the wait for copies goes on when those counted are lost",
        "decision/state.py",
        ', "sampled_since": None}',
        "}",
        "decision/test_preflight.py::test_preflight_waits_anew_for_copies_when_those_it_had_counted_are_lost",
    ),
    Patch(
        "samples older than the last weight change count as proof",
        "decision/observing.py",
        "> max(draft.world.started, run.weight_since)",
        "> draft.world.started",
        "decision/test_route.py::test_no_weight_rises_on_samples_from_before_the_last_weight_change",
    ),
    Patch(
        "samples older than the process count as proof",
        "decision/observing.py",
        "> max(draft.world.started, run.weight_since)",
        "> run.weight_since",
        "decision/test_route.py::test_no_weight_rises_on_samples_from_before_the_process_began",
    ),
    Patch(
        "samples too young to be counted are proof",
        "decision/observing.py",
        "return reading.newest_counted > max(",
        "return (reading.newest or 0.0) > max(",
        "decision/test_route.py::test_no_weight_rises_on_samples_from_before_the_last_weight_change",
    ),
    Patch(
        "samples of a foreign weight are proof",
        "decision/observing.py",
        "reading.newest_counted <= max(run.proof_since, draft.state.doubted_until)",
        "reading.newest_counted <= draft.state.doubted_until",
        "decision/test_route.py::test_after_a_foreign_rise_the_next_weight_needs_newer_samples",
    ),
    Patch(
        "samples of times that a clock set back brings again are proof",
        "decision/observing.py",
        "reading.newest_counted <= max(run.proof_since, draft.state.doubted_until)",
        "reading.newest_counted <= run.proof_since",
        "decision/test_clocks.py::test_the_run_after_a_clock_was_set_back_waits_as_well",
    ),
    Patch(
        "nobody notices a clock that was set back while nothing was noted",
        "controller/reconcile.py",
        "        elif stepped < -CLOCK_STEP_SECONDS:\n",
        "        elif stepped < -1e9:\n",
        "controller/test_faults.py::test_a_clock_set_back_between_two_runs_brings_no_sample_again",
    ),
    Patch(
        "samples from before a lower weight was written are proof",
        "controller/reconcile.py",
        "                state, memory.lowering = lowered(state, self._clock()), False\n",
        "                memory.lowering = False\n",
        "controller/test_foreign_hands.py::test_no_sample_from_before_a_lower_weight_was_written_allows_a_rise",
    ),
    Patch(
        "the weight rises while pods of the candidate are missing",
        "decision/stages.py",
        '    if world.pods.ready < draft.replicas:\n        return "CandidateNotReady"',
        '    if world.pods.ready < 0:\n        return "CandidateNotReady"',
        "decision/test_silence.py::test_no_ready_pod_for_a_minute_is_taken_back",
    ),
    Patch(
        "a required offline report is not asked for",
        "decision/stages.py",
        " + _unproven(draft)",
        "",
        "decision/test_offline.py::test_preflight_holds_and_goes_on_with_a_report_that_passed",
    ),
    Patch(
        "a report of another model passes for this one's",
        "decision/offline.py",
        "if report.verdict != PASSED:",
        'if report.verdict == "missing":',
        "decision/test_offline.py::test_preflight_holds_and_goes_on_with_a_report_that_passed",
    ),
    Patch(
        "one pod with a report speaks for all",
        "decision/offline.py",
        "if len(reports) < replicas:",
        "if not reports:",
        "decision/test_offline.py::test_preflight_holds_and_goes_on_with_a_report_that_passed",
    ),
    Patch(
        "an old sample of a report counts",
        "telemetry/offline.py",
        " >= look.stale_before and",
        " >= 0 and",
        "inference/test_offline_report.py::test_what_no_server_of_ours_says_is_not_told",
    ),
    Patch(
        "preflight lets a candidate without all its pods through",
        "decision/stages.py",
        "    if world.pods.ready < draft.replicas:\n        found.append",
        "    if world.pods.ready < 0:\n        found.append",
        "decision/test_lifecycle.py::test_a_run_that_lasts_too_long_expires",
    ),
    Patch(
        "a step ends before its time",
        "decision/stages.py",
        "left = run.step_since + step.duration_seconds - draft.now",
        "left = run.step_since - draft.now",
        "decision/test_lifecycle.py::test_a_good_candidate_takes_every_step_in_order_and_is_promoted",
    ),
    Patch(
        "drift does not block promotion",
        "decision/stages.py",
        "    if verdict.kind is Kind.GOOD:\n        return None",
        "    if verdict.kind is not None:\n        return None",
        "decision/test_silence.py::test_drift_blocks_promotion_and_nothing_else",
    ),
    Patch(
        "mode Observe gives weight",
        "decision/stages.py",
        "weight = 0 if run.observing else planned",
        "weight = planned",
        "decision/test_observe.py::test_a_good_candidate_walks_through_every_step_at_weight_0",
    ),
    Patch(
        "a raise is not announced before it is written",
        "controller/reconcile.py",
        '        await save(self._api, plan, state)\n        await self._at("after-intent")',
        '        await self._at("after-intent")',
        "controller/test_faults.py::test_a_raise_is_announced_in_the_checkpoint_before_it_is_on_the_route",
    ),
    Patch(
        "a raise is written before it is announced",
        "controller/reconcile.py",
        '        await save(self._api, plan, state)\n        await self._at("after-intent")\n        try:\n            await self._executor.carry_out(plan, view, action)',
        '        try:\n            await self._executor.carry_out(plan, view, action)\n            await save(self._api, plan, state)\n            await self._at("after-intent")',
        "controller/test_faults.py::test_a_raise_is_announced_in_the_checkpoint_before_it_is_on_the_route",
    ),
    Patch(
        "a raise that met a conflict counts as done",
        "controller/reconcile.py",
        '            return state.model_copy(update={"intent": None})\n        await',
        "        await",
        "controller/test_faults.py::test_an_upward_write_is_lost_to_somebody_who_was_faster",
    ),
    # -- down needs nothing -----------------------------------------------------------------------------------------------
    Patch(
        "more than abort is fine",
        "decision/threshold.py",
        "if abort_rate > abort and",
        "if abort_rate < abort and",
        "decision/test_lifecycle.py::test_a_fault_that_begins_later_is_taken_back_from_there",
    ),
    Patch(
        "two bad requests are enough",
        "decision/threshold.py",
        "    if abort_rate > abort and bad_at_abort >= FEWEST_BAD:",
        "    if abort_rate > abort:",
        "decision/test_formulas.py::test_two_bad_events_are_never_enough_to_call_it_bad",
    ),
    Patch(
        "live requests are not judged alone",
        "decision/judge.py",
        "    return live if live.kind is Kind.BAD and pool.kind is not Kind.BAD else pool",
        "    return pool",
        "decision/test_formulas.py::test_live_alone_can_be_bad_though_the_pool_is_good",
    ),
    Patch(
        "an unfinished rollback waits for what is read first",
        "controller/reconcile.py",
        "        await self._overdue_rollback(memory)\n",
        "",
        "controller/test_faults.py::test_a_decided_rollback_is_written_before_anything_is_read",
    ),
    Patch(
        "a rollback whose write failed is forgotten",
        "controller/reconcile.py",
        "        if rolling or lowering:\n            memory.state = state\n",
        "",
        "controller/test_faults.py::test_a_decided_rollback_is_written_before_anything_is_read",
    ),
    Patch(
        "the way down comes after other work",
        "controller/reconcile.py",
        "        for action in decision.actions:\n"
        "            if isinstance(action, LowerWeight):\n"
        "                memory.lowering = lowering\n"
        "                await self._executor.carry_out(plan, view, action)\n"
        "                state, memory.lowering = lowered(state, self._clock()), False\n"
        "        if lowering:\n"
        "            memory.state = state\n"
        "        for action in decision.actions:\n"
        "            if not isinstance(action, LowerWeight | RaiseWeight):\n"
        "                async with self._turns.take(patience(memory)):\n"
        "                    await self._executor.carry_out(plan, view, action)\n",
        "        for action in decision.actions:\n"
        "            if not isinstance(action, LowerWeight | RaiseWeight):\n"
        "                async with self._turns.take(patience(memory)):\n"
        "                    await self._executor.carry_out(plan, view, action)\n"
        "        for action in decision.actions:\n"
        "            if isinstance(action, LowerWeight):\n"
        "                await self._executor.carry_out(plan, view, action)\n",
        "controller/test_faults.py::test_the_way_down_waits_for_no_other_write_of_its_pass",
    ),
    Patch(
        "of two downward writes the higher one wins",
        "decision/draft.py",
        "weight = min(known.weight for known in (action, *earlier))",
        "weight = max(known.weight for known in (action, *earlier))",
        "decision/test_route.py::test_of_several_downward_writes_only_the_lowest_is_made",
    ),
    Patch(
        "a rollback ends before weight 0 is on the route",
        "decision/ending.py",
        '    if draft.actions:\n        return draft.say(run.reason, f"{run.message}; writing',
        '    if not draft.now:\n        return draft.say(run.reason, f"{run.message}; writing',
        "decision/test_route.py::test_a_rollback_is_repeated_until_it_holds",
    ),
    Patch(
        "a failed pass is not repeated",
        "controller/queue.py",
        "            return delay\n",
        "            return None\n",
        "controller/test_queue.py::test_a_failed_pass_is_tried_again_and_reported",
    ),
    Patch(
        "an abort waits for Prometheus",
        "controller/reconcile.py",
        "state.stable is not None and not asked:",
        "state.stable is not None:",
        "controller/test_reconcile.py::test_an_ending_that_people_ask_for_waits_for_no_sample",
    ),
    Patch(
        "a candidate without pods keeps its weight",
        "decision/ending.py",
        "    if since is not None and now - since >= UNREADY_SECONDS:",
        "    if since is not None and now - since < 0:",
        "decision/test_silence.py::test_no_ready_pod_for_a_minute_is_taken_back",
    ),
    Patch(
        "a crash-looping candidate keeps its weight",
        "decision/ending.py",
        "    if pods.crash_looping:\n",
        "    if not pods.crash_looping and now < 0:\n",
        "decision/test_silence.py::test_a_crash_loop_is_taken_back_without_waiting_for_metrics",
    ),
)
