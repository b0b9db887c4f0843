"""The identities, whatever a kernel does: no kill is told twice, and none stays untold."""

from __future__ import annotations

from collections.abc import Callable

from doubles.oom_kernel import CGROUPS, Agent, Kernel, settle
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom.receivers.oom import cgroups, reconcile

Step = Callable[[Kernel, Agent], None]
MAYBE = st.one_of(st.none(), st.sampled_from(CGROUPS))


def steps(*, groups: bool) -> st.SearchStrategy[Step]:
    """One thing that happens."""
    cgroup, boolean = st.sampled_from(CGROUPS), st.booleans()
    choices: list[st.SearchStrategy[Step]] = [
        st.builds(lambda c, lost: lambda k, _: k.kill(c, lost=lost), cgroup, boolean),
        st.builds(lambda c: lambda k, _: k.kill(c), cgroup),
        st.builds(lambda c: lambda k, _: k.count_kill(c), cgroup),  # not seen
        st.builds(lambda c, lost: lambda k, _: k.already_dying(c, lost=lost), cgroup, boolean),
        st.just(lambda k, _: k.repeat()),
        st.builds(lambda c: lambda k, _: k.interfering(c), cgroup),
        st.builds(lambda c: lambda k, _: k.gone.add(c), cgroup),
        st.just(lambda _, a: a.drain()),
        st.just(lambda _, a: a.report()),
        st.builds(lambda b, p: lambda _, a: a.check(b, p), MAYBE, MAYBE),
        st.just(lambda _, a: a.check()),
    ]
    if groups:
        choices.append(
            st.builds(
                lambda c, n, twice, lost: lambda k, _: k.group_kill(c, n, twice=twice, lost=lost),
                cgroup,
                st.integers(1, 4),
                boolean,
                st.tuples(boolean, boolean, boolean, boolean),
            )
        )
    return st.one_of(choices)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps(groups=False), max_size=30))
def test_without_group_kills_every_kill_is_told_once_within_two_checks(what: list[Step]) -> None:
    kernel = Kernel(cgroups.V1)
    agent = Agent(kernel)
    agent.check()
    for step in what:
        step(kernel, agent)
        assert agent.told <= kernel.true_kills
    settle(agent)
    assert agent.told == kernel.true_kills
    told = agent.told
    agent.check()
    assert agent.told == told


@settings(max_examples=150, deadline=None)
@given(st.lists(steps(groups=True), max_size=30))
def test_with_group_kills_it_is_never_more_and_lacks_what_the_kernel_blurs(
    what: list[Step],
) -> None:
    kernel = Kernel(cgroups.V2)
    agent = Agent(kernel)
    agent.check()
    for step in what:
        step(kernel, agent)
        assert agent.told <= kernel.true_kills
    settle(agent)
    assert kernel.true_kills - kernel.unused_allowances <= agent.told <= kernel.true_kills
    told = agent.told
    agent.check()
    assert agent.told == told


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(steps(groups=False), max_size=12),
            st.lists(st.sampled_from(CGROUPS), max_size=3),
            st.one_of(st.none(), st.tuples(MAYBE, MAYBE)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_over_restarts_and_crashes_every_kill_is_told_once(
    runs: list[tuple[list[Step], list[int], tuple[int | None, int | None] | None]],
) -> None:
    """A crash forgets what was told since the books were kept; then it is told again, no more.

    A run: what happens, the kills while no agent runs after it, and how it stops, if it does.
    """
    kernel = Kernel(cgroups.V1)
    saved: reconcile.Saved | None = None
    told = 0
    for what, while_down, stop in runs:
        agent = Agent(kernel)
        if saved is not None:
            down = reconcile.since_last_run(saved, *agent.base)
            told += sum(each.count for each in down)
            assert all(each.reason == reconcile.AGENT_DOWN for each in down)
        assert told == agent.base[0]
        agent.check()
        for step in what:
            step(kernel, agent)
        kernel.while_reading = None
        if stop is not None:
            agent.stop(*stop)
            assert told + agent.told <= kernel.true_kills
        saved, kept = agent.kept
        told += kept
        kernel.is_attached = False
        for cgroup in while_down:
            kernel.count_kill(cgroup)
    last = reconcile.since_last_run(saved, kernel.vmstat, kernel.counts())
    assert told + sum(each.count for each in last) == kernel.true_kills
