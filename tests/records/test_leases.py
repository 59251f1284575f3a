"""Leases: who may work on which ordinal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from nas_cntk.errors import RecordsError
from nas_cntk.records import leases
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Lease, Nothing, Owner, claim
from nas_cntk.records.studies import Study
from nas_cntk.records.tables import TRIALS

MakeStudy = Callable[..., Study]


def dead_owner() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Owner("dead", Owner.current().host, process.pid, "1")


def lease(found: Lease | Nothing) -> Lease:
    assert isinstance(found, Lease)
    return found


def test_ordinals_come_in_order_and_end_at_the_target(records: Records, make_study: MakeStudy) -> None:
    study, me = make_study(), Owner.current()
    for expected in range(3):
        mine = lease(claim(records, study.study_id, 3, me))
        assert mine.ordinal == expected and mine.kills == 0
        leases.finish(records, mine, expected)
    assert claim(records, study.study_id, 3, me) == Nothing(0)
    assert lease(claim(records, study.study_id, 4, me)).ordinal == 3


def test_two_live_owners_never_hold_one_ordinal(records: Records, make_study: MakeStudy) -> None:
    study, me, other = make_study(), Owner.current(), Owner.current()
    # This process's own number in an earlier life counts as dead; so the other one is another process, which lives.
    other = replace(other, pid=os.getppid(), started=None)
    assert lease(claim(records, study.study_id, 2, me)).ordinal == 0
    assert lease(claim(records, study.study_id, 2, other)).ordinal == 1
    assert claim(records, study.study_id, 2, me) == Nothing(2)


def test_a_released_ordinal_is_free_and_no_kill_is_counted(records: Records, make_study: MakeStudy) -> None:
    study, me = make_study(running=1), Owner.current()
    mine = lease(claim(records, study.study_id, 2, me))
    leases.begin_scoring(records, mine, 0)
    leases.release(records, mine)
    assert lease(claim(records, study.study_id, 2, Owner.current())) == replace(mine, owner=lease_owner(records, mine))


def lease_owner(records: Records, of: Lease) -> Owner:
    with records.transaction() as connection:
        row = connection.execute(TRIALS.select().where(TRIALS.c.ordinal == of.ordinal)).mappings().one()
    return Owner(row["owner"], row["host"], row["pid"], row["started"])


@pytest.mark.parametrize("scoring, kills", [(False, 0), (True, 1)])
def test_a_dead_owner_is_found_and_a_death_while_scoring_counts(
    records: Records, make_study: MakeStudy, scoring: bool, kills: int
) -> None:
    study = make_study(running=1)
    theirs = lease(claim(records, study.study_id, 5, dead_owner()))
    if scoring:
        leases.begin_scoring(records, theirs, 0)
    assert leases.zombies(records, study.study_id, Owner.current()) == [0]
    mine = lease(claim(records, study.study_id, 5, Owner.current()))
    assert (mine.ordinal, mine.kills) == (0, kills)


def test_who_was_taken_over_can_write_nothing(records: Records, make_study: MakeStudy) -> None:
    study = make_study(running=1)
    theirs = lease(claim(records, study.study_id, 5, dead_owner()))
    mine = lease(claim(records, study.study_id, 5, Owner.current()))
    with pytest.raises(RecordsError, match="taken over"):
        leases.begin_scoring(records, theirs, 0)
    leases.release(records, theirs)
    leases.finish(records, theirs, 0)
    leases.begin_scoring(records, mine, 0)


def test_a_process_on_another_host_is_judged_by_its_heartbeat(records: Records, make_study: MakeStudy) -> None:
    study, there = make_study(), Owner("there", "elsewhere", 1, None)
    theirs = lease(claim(records, study.study_id, 1, there))
    assert claim(records, study.study_id, 1, Owner.current()) == Nothing(1)
    with records.transaction() as connection:
        connection.execute(TRIALS.update().values(heartbeat=time.time() - leases.STALE - 1))
    assert lease(claim(records, study.study_id, 1, Owner.current())).ordinal == theirs.ordinal


def test_a_number_used_again_by_another_process_is_no_life_sign(records: Records, make_study: MakeStudy) -> None:
    if Owner.current().started is None:
        pytest.skip("this system does not tell when a process started")
    study = make_study()
    claim(records, study.study_id, 1, Owner("then", Owner.current().host, os.getppid(), "12345"))
    assert lease(claim(records, study.study_id, 1, Owner.current())).ordinal == 0


def test_while_another_process_asks_nameless_trials_are_left_alone(records: Records, make_study: MakeStudy) -> None:
    study = make_study(running=2)
    other = Owner("other", Owner.current().host, os.getppid(), None)
    theirs = lease(claim(records, study.study_id, 5, other))
    me = Owner.current()
    claim(records, study.study_id, 5, me)
    assert leases.zombies(records, study.study_id, me) == []
    leases.begin_scoring(records, theirs, 1)
    assert leases.zombies(records, study.study_id, me) == [0]


def test_the_heartbeat_beats(records: Records, make_study: MakeStudy) -> None:
    study, me = make_study(), Owner.current()
    claim(records, study.study_id, 1, me)
    with records.transaction() as connection:
        connection.execute(TRIALS.update().values(heartbeat=0.0))
    with leases.heartbeat(records, me, every=0.01):
        deadline = time.monotonic() + 5
        beat = 0.0
        while not beat and time.monotonic() < deadline:
            time.sleep(0.01)
            with records.transaction() as connection:
                beat = connection.execute(TRIALS.select()).mappings().one()["heartbeat"]
    assert beat > 0
