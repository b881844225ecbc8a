"""A simulated world around the real operator: whole lives of a rollout in virtual time, under faults chosen by a seed.

Real: queue, reconciler, store, executor, collector, decisions, the shell's event handlers and resync, the router's control. Simulated: the
API server (`kanarya.cluster.fake`), the controllers of the cluster, the router's requests, Prometheus, people, and all that goes wrong. Every
promise of the operator is checked after every event by `oracle`, from what really happened and not from what the operator says.

Run it with `python -m tests.world --lives 1000`; a failing life prints its story, which `stories.py` keeps as a regression.
"""
