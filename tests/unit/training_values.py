"""Strategies for the trainer's domain types, each value such that its request is valid."""

from hypothesis import strategies as st

from tests.unit.codec_values import (
    build,
    longs,
    maybe_limits,
    models,
    moments,
    names,
    reindex_ids,
    several_names,
    some,
    words,
)
from xscene import types

run_ids = reindex_ids
bundles = st.from_regex(r"[a-z0-9_-][a-z0-9._-]{0,63}", fullmatch=True)
states = st.sampled_from(types.RunState)
doubles = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | doubles | words


def nested(inner):
    return st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2)


def depth(value):
    """Levels of lists and mappings."""
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


values = st.recursive(scalars, nested, max_leaves=6).filter(lambda value: depth(value) < 8)
configs = build(
    types.RunConfig,
    recipe=names,
    datasets=several_names,
    parent_run_id=st.just("") | run_ids,
    seed=longs,
    overrides=st.dictionaries(names, values, max_size=3),
)
metrics = st.dictionaries(names, doubles, max_size=3)
runs = build(
    types.Run,
    run_id=run_ids,
    config=configs,
    state=states,
    created_at=moments,
    updated_at=moments,
    metrics=metrics,
    error=words,
    **dict.fromkeys(("step", "num_steps", "next_offset"), longs),
)
events = st.one_of(
    build(types.RunEvent, offset=longs, time=moments, **{kind: what})
    for kind, what in {
        "state": states,
        "log": words,
        "metrics": build(types.RunMetrics, step=longs, values=metrics),
        "checkpoint": build(types.RunCheckpoint, step=longs, best=st.booleans()),
    }.items()
)
outcomes = build(types.PublishOutcome, service=names, loaded=st.booleans(), reason=words)
REQUESTS = {
    "create_run": build(types.RunOrder, run_id=run_ids, config=configs),
    "list_runs": build(
        types.RunListing,
        states=st.lists(states, unique=True).map(tuple),
        page_size=maybe_limits,
        page_token=words,
    ),
}
RESPONSES = {
    **dict.fromkeys(("create_run", "get_run", "cancel_run"), runs),
    "list_runs": build(types.RunPage, runs=some(runs), next_page_token=words),
    "watch_run": events,
    "publish_bundle": build(types.Publication, model=models, outcomes=some(outcomes)),
}
