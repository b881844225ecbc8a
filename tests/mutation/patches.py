"""Small patches that each take away a rule that keeps people safe, and the test that notices: all of them."""

from __future__ import annotations

from tests.mutation.patch import Patch
from tests.mutation.weight import WEIGHT

PATCHES = (
    *WEIGHT,
    # -- silence is not success -------------------------------------------------------------------------------------------
    Patch(
        "few samples are enough",
        "decision/threshold.py",
        "    if total < need:\n",
        "    if total < 1:\n",
        "decision/test_formulas.py::test_threshold_at_its_edges",
    ),
    Patch(
        "a metric that could not be read keeps its last verdict",
        "decision/judge.py",
        "        if reason is not None and verdicts[metric].kind is not Kind.BAD:",
        "        if reason is not None and verdicts[metric].kind is Kind.INSUFFICIENT:",
        "decision/test_silence.py::test_no_silence_ever_raises_a_weight",
    ),
    Patch(
        "no requests at all are fine",
        "decision/judge.py",
        "if everywhere is None and settled and counts.candidate.requests == 0:",
        "if everywhere is None and settled and counts.candidate.requests < 0:",
        "decision/test_formulas.py::test_silence_is_told_apart",
    ),
    Patch(
        "missing data never ends a run",
        "decision/ending.py",
        "lasted >= policy.after_seconds:",
        "lasted < 0:",
        "decision/test_silence.py::test_silence_that_lasts_is_taken_back_by_its_policy",
    ),
    Patch(
        "what an empty answer did not show is passed over",
        "decision/observing.py",
        "    return reading.blank and (",
        "    return not reading and (",
        "decision/test_silence.py::test_a_look_at_nothing_passes_over_nothing",
    ),
    Patch(
        "comparisons that were not made do not matter",
        "decision/judge.py",
        "counts.compared < FEWEST_COMPARED * counts.attempted\n",
        "counts.compared < 0\n",
        "decision/test_formulas.py::test_a_match_rate_of_too_few_comparisons_means_nothing",
    ),
    # -- method Sequential ------------------------------------------------------------------------------------------------
    Patch(
        "the last stage before promotion is no surer than the others",
        "decision/judge.py",
        "if self.last else confidence.advance",
        "if not confidence else confidence.advance",
        "decision/test_sequential_runs.py::test_good_is_as_sure_as_an_abort_where_nobody_looks_again",
    ),
    Patch(
        "windows of the last look are forgotten",
        "decision/observing.py",
        "rings=looked(run.rings, run.counts, analysis)",
        "rings={}",
        "decision/test_sequential_runs.py::test_a_late_fault_is_found_by_a_window",
    ),
    Patch(
        "good requests before a storm hide it",
        "decision/sequential.py",
        "storm is not None and span.number <= storm:",
        "storm is not None and span.number == storm:",
        "decision/statistics/test_sequential.py::test_good_requests_before_a_storm_do_not_hide_it",
    ),
    Patch(
        "the first of two equally bad tracks to be shown bad is to blame",
        "decision/sequential.py",
        "return _is_above(span.counts.stable_bad, span.counts.stable_total, abort)",
        "return False",
        "decision/statistics/test_sequential.py::test_of_two_equally_bad_tracks_neither_is_to_blame_because_it_was_shown_first",
    ),
    Patch(
        "one burst of a dense look is a fault",
        "decision/statistics/dispersion.py",
        "LOWEST, HIGHEST = 1.0, 12.0",
        "LOWEST, HIGHEST = 1.0, 5.0",
        "decision/test_sequential_runs.py::test_the_requests_of_a_dense_look_are_taken_to_be_correlated",
    ),
    Patch(
        "stable's own failures excuse the candidate for ever",
        "decision/ending.py",
        "now - run.storm_since >= STORM_SECONDS:",
        "now < run.storm_since:",
        "decision/test_sequential_runs.py::test_a_storm_interrupts_and_the_run_begins_again_when_it_may_be_over",
    ),
    Patch(
        "an interrupted revision is tried again at once, and again",
        "decision/lifecycle.py",
        "if draft.now < calm and",
        "if draft.now < 0 and",
        "decision/test_sequential_runs.py::test_an_interrupted_run_waits_longer_each_time_and_a_retry_does_not_wait",
    ),
    # -- a crash at any instant -------------------------------------------------------------------------------------------
    Patch(
        "after a start the weight is the higher of the two",
        "decision/lifecycle.py",
        "weight = min(run.weight, actual)",
        "weight = max(run.weight, actual)",
        "decision/test_route.py::test_after_a_restart_the_weight_is_the_lower_of_route_and_checkpoint",
    ),
    Patch(
        "an intent outlives the process",
        "decision/lifecycle.py",
        '    state = state.model_copy(update={"intent": None})\n',
        "",
        "decision/test_route.py::test_after_a_restart_the_weight_is_the_lower_of_route_and_checkpoint",
    ),
    Patch(
        "a rollback that reached the route is forgotten",
        "decision/lifecycle.py",
        "    if route is not None and route.rolled_back == run.id and run.stage",
        "    if not run.id and run.stage",
        "decision/test_route.py::test_a_rollback_that_reached_only_the_route_is_finished_after_a_restart",
    ),
    # -- stable is pinned, ours is ours -----------------------------------------------------------------------------------
    Patch(
        "a foreign rise is adopted",
        "decision/keeping.py",
        "        draft.act(LowerWeight(min(actual, run.weight)))",
        "        draft.act(LowerWeight(actual))",
        "decision/test_route.py::test_a_foreign_rise_is_written_back_at_once",
    ),
    Patch(
        "whoever raises the weight again and again keeps the candidate from being judged",
        "decision/keeping.py",
        "draft.update_run(proof_since=draft.now)",
        "draft.update_run(weight_since=draft.now, watermark=draft.now)",
        "decision/test_route.py::test_foreign_rises_at_every_look_keep_nothing_from_being_judged",
    ),
    Patch(
        "what comes while the last step becomes the soak is lost",
        "decision/stages.py",
        "**draft.run.onward())",
        "weight_since=draft.now, watermark=draft.now, **draft.run.anew())",
        "decision/test_promotion.py::test_between_the_last_step_and_the_soak_nothing_is_lost",
    ),
    Patch(
        "what was counted before a foreign cut still counts",
        "decision/keeping.py",
        "**run.afresh(now)}",
        '"weight_since": now, "watermark": now}',
        "decision/test_route.py::test_a_foreign_cut_is_earned_again_not_written_back",
    ),
    Patch(
        "a rolled-back revision is tried again by itself",
        "decision/lifecycle.py",
        "    if revision == state.rejected and world.retry",
        "    if not revision and world.retry",
        "decision/test_lifecycle.py::test_a_rejected_revision_is_not_tried_again_until_asked",
    ),
    Patch(
        "the stable Service moves to pods that are not there",
        "decision/stages.py",
        "        if new.available < draft.replicas:",
        "        if new.available < 0:",
        "decision/test_promotion.py::test_the_switch_waits_for_the_new_stable_at_full_size",
    ),
    Patch(
        "adoption ends while stable's Deployment still is what somebody made of it",
        "decision/lifecycle.py",
        "        and stable.intact\n",
        "",
        "decision/test_lifecycle.py::test_adoption_waits_for_available_pods_of_its_own_template",
    ),
    Patch(
        "a Deployment has rolled as soon as enough of its pods are available, whatever their template",
        "cluster/observe.py",
        'status.get("replicas", 0) > status.get("updatedReplicas", 0)',
        'status.get("availableReplicas", 0) > status.get("updatedReplicas", 0)',
        "cluster_objects/test_observe.py::test_a_stable_rolls_until_no_pod_of_an_older_template_is_left",
    ),
    Patch(
        "the second of two rollouts on one target is obeyed",
        "controller/acceptance.py",
        "        if older and (shares or serves):",
        "        if older and shares and not serves:",
        "controller/test_reconcile.py::test_the_younger_of_two_rollouts_on_one_target_or_service_is_refused",
    ),
    Patch(
        "an object of ours without its label is nobody's",
        "controller/shell.py",
        "(name == target or names.is_of(key[1], name))",
        "name == target",
        "controller/test_shell.py::test_what_is_written_to_our_objects_wakes_their_rollout_with_or_without_our_label",
    ),
    Patch(
        "a newer revision takes over a run",
        "decision/ending.py",
        "if identity is not None and identity.revision != run.candidate.revision:",
        "if identity is None and now < 0:",
        "decision/test_lifecycle.py::test_a_newer_revision_ends_the_run_at_weight_zero_before_its_own_begins",
    ),
)
