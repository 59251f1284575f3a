"""Studies: found, listed, renamed, deleted; and what is cleaned up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from nas_cntk.errors import StudyError, UsageError
from nas_cntk.records import cleaning, leases, studies, trials
from nas_cntk.records.cleaning import Waste
from nas_cntk.records.database import Records, locate
from nas_cntk.records.leases import Lease, Owner
from nas_cntk.records.studies import Study
from nas_cntk.records.tables import ARCHITECTURES
from nas_cntk.records.trials import Finished, Outcome, Verdict
from nas_cntk.search.storage import open_storage

MakeStudy = Callable[..., Study]


def finish_one(records: Records, study: Study, key: str) -> None:
    import optuna

    lease = leases.claim(records, study.study_id, 10, Owner.current())
    assert isinstance(lease, Lease)
    storage = open_storage(records)
    opened = optuna.load_study(study_name=study.name, storage=storage)
    trial = opened.ask()
    trial.suggest_float("x", 0.0, 1.0)
    leases.begin_scoring(records, lease, trial.number)
    outcome = Outcome(Verdict("PRUNED", "cost: 1", key), '{"nodes": []}', None)
    trials.record_outcomes(records, [(lease, outcome)])
    opened.tell(trial, state=optuna.trial.TrialState.PRUNED)
    leases.finish(records, lease, trial.number)
    storage.engine.dispose()


def test_the_newest_study_is_found_without_a_name(records: Records, make_study: MakeStudy) -> None:
    make_study("one")
    make_study("two")
    assert studies.find_study(records, None).name == "two"
    assert studies.find_study(records, "one").name == "one"


def test_an_unknown_study_is_named_beside_the_known_ones(records: Records, make_study: MakeStudy) -> None:
    with pytest.raises(StudyError, match="holds no study yet"):
        studies.find_study(records, None)
    make_study("one")
    with pytest.raises(StudyError, match="no study 'none'.*it has one"):
        studies.find_study(records, "none")


def test_free_names_count_up_past_optunas_own_studies(records: Records, make_study: MakeStudy) -> None:
    import optuna

    assert studies.free_name(records, "digits-plain") == "digits-plain-1"
    make_study("digits-plain-1")
    storage = open_storage(records)
    optuna.create_study(study_name="digits-plain-2", storage=storage)
    storage.engine.dispose()
    assert studies.free_name(records, "digits-plain") == "digits-plain-3"


def test_a_list_counts_finished_trials(records: Records, make_study: MakeStudy) -> None:
    finish_one(records, make_study("one"), "a")
    make_study("two")
    assert [(row.name, row.finished, row.target, row.running) for row in studies.list_studies(records)] == [
        ("two", 0, 5, False),
        ("one", 1, 5, False),
    ]


def test_a_history_reads_each_trial_once(
    records: Records, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("one")
    history = trials.History(records, study.study_id)
    assert history.trials() == []
    read: list[int] = []
    honest = trials._finished

    def noted(row: sa.RowMapping, completed: str | None) -> Finished:
        read.append(row["ordinal"])
        return honest(row, completed)

    for key in "abc":
        finish_one(records, study, key)
    monkeypatch.setattr(trials, "_finished", noted)
    monkeypatch.setattr(trials, "FEW", 1)
    assert [trial.verdict.key for trial in history.trials()] == ["a", "b", "c"]
    finish_one(records, study, "d")
    read.clear()
    assert [trial.verdict.key for trial in history.trials()] == ["a", "b", "c", "d"]
    assert read == [3]
    monkeypatch.undo()
    assert history.trials() == trials.finished_trials(records, study.study_id)
    assert trials.finished_trials(records, study.study_id, "b") == history.trials()[1:2]


def test_finished_trials_are_found_by_an_index(records: Records, make_study: MakeStudy) -> None:
    # Else every look at a study takes time with the square of its trials: 0.6 s at 1,500.
    if records.location.server:
        pytest.skip("a server joins by hashing")
    study = make_study("one")
    for query in (trials._finished_query(study.study_id), studies._finished_count(study.study_id)):
        text = str(query.compile(records.engine, compile_kwargs={"literal_binds": True}))
        with records.transaction() as connection:
            plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
        assert "INDEX ncntk_trials_number (study_id=? AND number=?)" in plan, plan


def test_renaming_renames_for_optuna_too(records: Records, make_study: MakeStudy) -> None:
    import optuna

    make_study("one")
    make_study("two")
    with pytest.raises(StudyError, match="already a study"):
        studies.rename_study(records, "one", "two")
    with pytest.raises(UsageError, match="no name"):
        studies.rename_study(records, "one", " ")
    studies.rename_study(records, "one", "uno")
    storage = open_storage(records)
    assert sorted(optuna.get_all_study_names(storage)) == ["two", "uno"]
    storage.engine.dispose()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J", " a", "a" * 201])
def test_a_name_is_one_that_can_be_typed_and_read(name: str) -> None:
    with pytest.raises(UsageError, match="no name for a study"):
        studies.check_name(name)


def test_deleting_leaves_nothing_of_the_study_and_everything_of_the_others(
    db: str, records: Records, make_study: MakeStudy
) -> None:
    one, two = make_study("one"), make_study("two")
    finish_one(records, one, "a")
    finish_one(records, one, "b")
    finish_one(records, two, "b")
    assert studies.delete_study(records, "one") == 2
    with pytest.raises(StudyError):
        studies.find_study(records, "one")
    assert [t.verdict.key for t in trials.finished_trials(records, two.study_id)] == ["b"]
    records.close()
    engine = sa.create_engine(locate(db).url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            if "study_id" in table.c:
                found = set(connection.execute(sa.select(table.c.study_id)).scalars())
                assert found <= {two.study_id}, table.name
        ids = [
            set(connection.execute(sa.select(metadata.tables[name].c.trial_id)).scalars())
            for name in ("trials", "trial_params")
        ]
        assert ids[0] == ids[1]
        assert list(connection.execute(sa.select(ARCHITECTURES.c.key)).scalars()) == ["b"]
    engine.dispose()


def test_a_study_that_is_being_searched_is_not_deleted(records: Records, make_study: MakeStudy) -> None:
    study = make_study("one")
    leases.claim(records, study.study_id, 1, Owner.current())
    with pytest.raises(StudyError, match="being searched"):
        studies.delete_study(records, "one")
    assert studies.find_study(records, "one").name == "one"


def test_what_a_run_changes_is_recorded_and_what_it_does_not_is_not(records: Records, make_study: MakeStudy) -> None:
    study = make_study()
    assert studies.change_study(records, study, target=5, sampler={"name": "random"}, config={"data": "digits"}) == []
    changed = studies.change_study(records, study, target=9, sampler={"name": "tpe", "n": 1}, config={"data": "digits"})
    assert changed == ["trials", "sampler"]
    kept = studies.changes(records, study.study_id)
    assert [(c["setting"], c["before"], c["after"]) for c in kept] == [
        ("trials", 5, 9),
        ("sampler", {"name": "random"}, {"name": "tpe", "n": 1}),
    ]
    now = studies.find_study(records, study.name)
    assert now.target == 9 and now.sampler == {"name": "tpe", "n": 1} and now.config == study.config


def test_cleaning_finds_what_kills_leave_and_nothing_else(records: Records, make_study: MakeStudy) -> None:
    import optuna

    study = make_study("one", running=1)
    finish_one(records, study, "a")
    storage = open_storage(records)
    optuna.create_study(study_name="begun", storage=storage)
    theirs = optuna.create_study(study_name="optunas-own", storage=storage)
    theirs.tell(theirs.ask(), 1.0)
    storage.engine.dispose()
    waste = cleaning.find_waste(records)
    assert waste.empty_studies == ("begun",)
    assert waste.dead_trials == (("one", 0),)
    assert len(waste.lines()) >= 2
    cleaning.remove_waste(records, waste)
    assert cleaning.find_waste(records) == Waste((), (), 0, 0)
    assert set(studies.study_names(records)) == {"one", "optunas-own"}
    assert len(trials.finished_trials(records, study.study_id)) == 1
    storage = open_storage(records)
    states = [t.state.name for t in optuna.load_study(study_name="one", storage=storage).get_trials()]
    storage.engine.dispose()
    assert states == ["FAIL", "PRUNED"]


@pytest.mark.parametrize(
    "says", ["table studies already exists", "UNIQUE constraint failed: alembic_version.version_num"]
)
def test_two_processes_may_make_optunas_tables_at_once(
    records: Records, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    import optuna

    made: Callable[..., object] = optuna.storages.RDBStorage
    failures = [sa.exc.IntegrityError("INSERT", {}, Exception(says))]

    def first_too_late(*arguments: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return made(*arguments, **options)

    monkeypatch.setattr(optuna.storages, "RDBStorage", first_too_late)
    storage = open_storage(records)
    assert storage.get_all_studies() == [] and not failures
    storage.engine.dispose()
