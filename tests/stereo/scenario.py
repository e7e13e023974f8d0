"""A scenario: a function with the steps and expectations, and how it is run. What is
in the name of a variant is all that distinguishes it from the others."""

import functools
import itertools
import json
import shutil
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from rig import paths

from . import judgement
from .cluster import DEFAULTS, FAST, Stereo
from .timeline import merged

TIMINGS = {"20/2/5": FAST, "30/10/10": DEFAULTS}

#: The witness leads Raft, will be gone or not be heard, and nobody shall notice. The nodes
#: have said nothing to one another for long, so PySyncObj dials anew at their first
#: election, and with a password it hangs up on who asks for a vote amid the exchange of
#: keys; then it dials again after five seconds, the whole retry_timeout of the fast timers.
#: Three of the reference do the same.
LEADING_WITNESS_GOES = {"raft": ("witness",), "timing": ("30/10/10",)}

#: Where the remains of failed scenarios are kept, beside the folders of those that run.
REMAINS = Path(tempfile.gettempdir()) / "pg-witness-stereo-failed"

_registry = {}


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    steps: object
    #: Who leads the Raft group when it begins: `primary`, `standby`, `witness`, or as it comes.
    raft: str | None
    timing: str
    pysyncobj: str
    synchronous: bool
    #: Whether it begins with a cluster that is well, or with none.
    formed: bool
    #: In the selection for CI.
    ci: bool
    #: About pg-witness alone.
    only_ours: bool
    #: What of it the reference is known to fail, and why; None: nothing.
    reference: str | None
    arguments: tuple = ()

    @property
    def name(self):
        told = [*map(str, self.arguments)]
        if self.raft:
            told.append(f"{self.raft} leads Raft")
        if self.pysyncobj != paths.NEWEST:
            told.append(f"PySyncObj {self.pysyncobj}")
        if not self.synchronous:
            told.append("asynchronous")
        if self.timing != "20/2/5":
            told.append(self.timing)
        return self.steps.__name__ + (f"[{', '.join(told)}]" if told else "")


@dataclass
class Outcome:
    """What came out of one run; what is not measured is None."""

    scenario: str
    witness: str
    verdict: str = "passed"
    #: The longest time without an acknowledged write.
    outage_s: float | None = None
    #: From the last step before it to the promotion.
    promotion_s: float | None = None
    #: Who led the Raft group, one after the other.
    raft: str = ""
    lost: int = 0
    seconds: float = 0.0
    remains: str = ""


def scenario(raft=(None,), timing=("20/2/5",), pysyncobj=(paths.NEWEST,), synchronous=(True,), formed=True,
             ci=False, only_ours=False, reference=None, **arguments):
    """Registers the function, once for each combination. `ci`: True, or the names of the
    variants that CI runs. `arguments`: further parameters of the function and their values."""
    def register(steps):
        for leader, timers, version, sync, *values in itertools.product(
                raft, timing, pysyncobj, synchronous, *arguments.values()):
            bound = functools.partial(steps, **dict(zip(arguments, values)))
            functools.update_wrapper(bound, steps)
            variant = Variant(bound, leader, timers, version, sync, formed, False, only_ours, reference,
                              tuple(values))
            chosen = ci is True or (ci is not False and variant.name in ci)
            variant = Variant(**{**vars(variant), "ci": chosen})
            assert variant.name not in _registry, variant.name
            _registry[variant.name] = variant
        if ci not in (True, False):
            unknown = set(ci) - set(_registry)
            assert not unknown, f"ci names no variant: {unknown}"
        return steps

    return register


def all_scenarios():
    """name -> variant, in the order in which they are written."""
    from . import scenarios  # noqa: F401  Registers them.
    return dict(_registry)


def run(variant, kind):
    """Runs it with this witness, in this process, and judges. Never raises for a failure."""
    outcome = Outcome(variant.name, kind)
    began = time.monotonic()
    with Stereo(kind, TIMINGS[variant.timing], pysyncobj=variant.pysyncobj,
                synchronous=variant.synchronous) as stereo:
        try:
            _run(variant, stereo, outcome)
        except Exception as error:
            outcome.verdict = f"failed: {str(error).partition(chr(10))[0] or _where(error)}"
            outcome.remains = str(keep_remains(stereo, outcome, error))
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _where(error):
    """The line of the scenario, or of what it called, for an error without words."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {line.name}: {line.line}"


def _run(variant, stereo, outcome):
    if variant.formed:
        stereo.start()
    if variant.raft:
        # In words of the roles at the beginning.
        names = {"primary": stereo.primary, "standby": stereo.standby, "witness": lambda: stereo.witness}
        stereo.give_raft_to(names[variant.raft]().name)
        stereo.await_well()
    if variant.formed:
        stereo.application.await_writes(50)
    began = stereo.began = time.time()
    stereo.step("the scenario begins")
    try:
        variant.steps(stereo)
    finally:
        ended = time.time()
        stereo.step("the scenario ends; what must hold now")
        _measure(stereo, began, ended, outcome)
    outcome.lost = judgement.judge(stereo)


def _measure(stereo, began, ended, outcome):
    before = stereo.application.last_before(began)
    if before is not None:
        outcome.outage_s = round(stereo.application.longest_silence_s(before, ended), 2)
    leads = [event for event in stereo.observer.events("raft", leads=True) if event["time"] <= ended]
    at_begin = [event["subject"] for event in leads if event["time"] < began][-1:]
    since = [event["subject"] for event in leads if event["time"] >= began]
    outcome.raft = " → ".join(name for name, _ in itertools.groupby([*at_begin, *since]))
    outcome.promotion_s = _promotion_s(stereo, began)


def _promotion_s(stereo, began):
    """From the last thing that befell the primary to the first change of it; None when
    that was nothing of ours."""
    primaries = stereo.observer.events("postgres", role="primary")
    before = [event["subject"] for event in primaries if event["time"] < began][-1:]
    changed = next((event["time"] for event in primaries
                    if event["time"] >= began and [event["subject"]] != before), None)
    if changed is None or not before:
        return None
    name = before[0]
    faults = [at for at, text in stereo.steps
              if began < at < changed and text.startswith((f"{name}:", f"{name}'s"))]
    return round(changed - faults[-1], 2) if faults else None


def keep_remains(stereo, outcome, error):
    """One folder with all logs and the story that they tell together; its path."""
    REMAINS.mkdir(exist_ok=True)
    plain = "".join(c if c.isalnum() else "-" for c in outcome.scenario).strip("-")
    folder = Path(tempfile.mkdtemp(prefix=f"{plain}-{outcome.witness}-", dir=REMAINS))
    shutil.copytree(stereo.folder, folder, dirs_exist_ok=True,
                    ignore=lambda _, names: {"postgres"} & set(names) | {n for n in names if n.startswith(".s.")})
    (folder / "failure").write_text(f"{outcome.scenario}, {outcome.witness}\n\n{error}\n")
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    try:
        (folder / "timeline").write_text(merged(stereo))
    except Exception as another:
        (folder / "timeline").write_text(f"{another!r}\n")
    return folder
