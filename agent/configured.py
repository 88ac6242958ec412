"""What a configuration comes to, as the rest of the agent knows it: programs, rules and drivers."""

from agent.config import Config, ProgramTable
from agent.control.equipment import Equipment
from agent.core.policy import Blackout, Policy, WorkloadRule
from agent.core.program import Program
from agent.core.site import Terms
from agent.openadr.settings import VenSettings
from drivers.registry import build_gpu, build_jobs, build_meter


def programs_of(config: Config) -> tuple[Program, ...]:
    """The programs as the core knows them."""
    return tuple(
        Program(
            name=table.name,
            market_context=table.market_context,
            levels=table.levels,
            emergency=table.emergency,
            change=table.change,
            percent=table.percent,
            ramp_down_s=table.ramp_down,
            ramp_up_s=table.ramp_up,
            margin=table.margin,
            firm=table.firm,
            min_notice_s=table.min_notice,
            shed_on_test=table.shed_on_test,
            baseline_window_s=table.baseline_window,
            when_blind=table.when_blind,
            blind_after_s=table.blind_after,
            ven=table.ven,
        )
        for table in config.program
    )


def policy_of(config: Config) -> Policy:
    """The site's rules as the core knows them."""
    policy, governor = config.policy, config.governor
    return Policy(
        max_import_w=config.site.max_import,
        min_import_w=config.site.min_import,
        slew_down_w_per_s=float("inf") if governor.slew_down is None else governor.slew_down,
        slew_up_w_per_s=float("inf") if governor.slew_up is None else governor.slew_up,
        dwell_s=governor.dwell,
        max_turns_per_h=governor.max_turns_per_h,
        rebound_guard_s=policy.rebound_guard,
        cap_floor_share=policy.cap_floor,
        min_pause_s=policy.min_pause,
        lease_grace_s=policy.lease_grace,
        open_lease_s=policy.open_lease,
        max_reasserts=policy.max_reasserts,
        min_notice_s=policy.min_notice,
        blackouts=tuple(Blackout(b.start, b.end, b.why) for b in config.blackout),
        rules=tuple(
            WorkloadRule(
                w.name, w.class_, Terms(w.tier, w.may_pause, w.max_pause, w.weight), w.labels
            )
            for w in config.workload
        ),
        default_terms=Terms(policy.default_tier, policy.default_may_pause),
        default_class=policy.default_class,
    )


def others_contexts(config: Config, name: str) -> frozenset[str]:
    """The market contexts that are for other VENs than `name` alone, as their tables say."""
    listed = {ven.name: set(ven.market_contexts) for ven in config.ven}
    mine = listed.pop(name, set())
    return frozenset().union(*listed.values()) - mine


def may_come(program: ProgramTable, ven: VenSettings, config: Config) -> bool:
    """Whether events of a program may come to a VEN."""
    context, listed = program.market_context, ven.market_contexts
    return (
        program.ven in (None, ven.name)
        and (not listed or context in ("*", *listed))
        and context not in others_contexts(config, ven.name)
    )


def equipment_of(config: Config) -> Equipment:
    """The site's drivers, built and not yet opened."""
    return Equipment(
        build_gpu(config.gpu_settings),
        [build_jobs(settings) for settings in config.jobs_settings],
        build_meter(config.meter_settings),
        policy_of(config),
    )
