"""The table: one row for each scenario, pg-witness and the reference side by side."""

from statistics import median

VERDICT_MAX = 90
KINDS = {"rust": "pg-witness", "python": "patroni_raft_controller"}


def table(outcomes, scenarios):
    """Markdown, in the order of the scenarios, with a column group for each witness."""
    kinds = [kind for kind in KINDS if any(outcome.witness == kind for outcome in outcomes)]
    head = ["scenario"] + [f"{KINDS[kind]}: {what}" for kind in kinds
                           for what in ("outage s", "promotion s", "led Raft", "verdict")]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in scenarios:
        of_this = [outcome for outcome in outcomes if outcome.scenario == name]
        if of_this:
            cells = [cell for kind in kinds
                     for cell in _cells([outcome for outcome in of_this if outcome.witness == kind])]
            lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cells(outcomes):
    """Medians, when it was run several times."""
    if not outcomes:
        return ["", "", "", "not run"]
    failed = [outcome for outcome in outcomes if outcome.verdict != "passed"]
    verdict = failed[0].verdict if failed else "passed"
    if len(outcomes) > 1 and failed:
        verdict = f"{len(failed)} of {len(outcomes)} {verdict}"
    lost = max(outcome.lost for outcome in outcomes)
    if lost:
        verdict += f", {lost} writes lost"
    # The first words say what; all of it is in the folder of the failed run.
    if len(verdict) > VERDICT_MAX:
        verdict = verdict[:VERDICT_MAX].rsplit(" ", 1)[0] + " ..."
    return [_figure([outcome.outage_s for outcome in outcomes]),
            _figure([outcome.promotion_s for outcome in outcomes]),
            outcomes[-1].raft or "-", verdict.replace("|", "/")]


def _figure(values):
    measured = [value for value in values if value is not None]
    if not measured:
        return "-"
    if len(measured) == 1 or min(measured) == max(measured):
        return f"{median(measured):.1f}"
    return f"{median(measured):.1f} ({min(measured):.1f} to {max(measured):.1f})"
