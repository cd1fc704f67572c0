"""Who may decide, who may not and with which answer; every attempt is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction

from apps.accounts.models import Role, User
from apps.approvals import delegations, rights, services
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Delegation, Record
from apps.approvals.services import Caller
from apps.jobs.flow import restarts
from engine.errors import Conflict, InputError, NotFound
from tests.apps.approvals.gates import (
    approve,
    asked,
    gate,
    operator,
    person,
    records,
    reject,
    request_of,
    step_of,
    viewer,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_approvers_the_operators_of_the_workspace_decide(tmp_path: Path) -> None:
    workspace = gate(tmp_path)
    for able in (operator(), person(Role.ADMIN), person(is_superuser=True)):
        assert approve(asked(workspace), able).status == "approved"
    for unable, refusal in (
        (viewer(), NotAllowed),
        (person(), NotFound),
        (operator(pattern="other"), NotFound),
    ):
        job = asked(workspace)
        with pytest.raises(refusal):
            approve(job, unable)
        assert step_of(job).status == "suspended"
        assert records(job) == [(unable.email, "approve", "refused")]


def test_named_people_and_groups_decide_and_operators_do_not(tmp_path: Path) -> None:
    named, member = viewer(), viewer(groups=("ops",))
    workspace = gate(tmp_path, f"approvers: {{users: [{named.email.upper()}], groups: [ops]}}")
    assert approve(asked(workspace), named).status == "approved"
    assert approve(asked(workspace), member).status == "approved"
    job = asked(workspace)
    for unable in (operator(), person(Role.ADMIN), viewer(groups=("others",))):
        with pytest.raises(NotAllowed, match=f"the approvers are {named.email}, the group ops"):
            approve(job, unable)
        with pytest.raises(NotAllowed):
            reject(job, unable, "no")
    assert step_of(job).status == "suspended"


def test_a_superuser_decides_although_others_are_asked_and_the_record_says_so(
    tmp_path: Path,
) -> None:
    job = asked(gate(tmp_path, f"approvers: {{users: [{viewer().email}]}}"))
    root = person(is_superuser=True)
    assert not rights.waiting_for(root).exists()
    approve(job, root)
    assert (
        Record.objects.get(job_id=job.pk).detail == "as superuser, not among those who were asked"
    )


def test_a_named_person_who_does_not_see_the_workspace_gets_404(tmp_path: Path) -> None:
    stranger = person()
    job = asked(gate(tmp_path, f"approvers: {{users: [{stranger.email}]}}"))
    with pytest.raises(NotFound, match="Job not found"):
        approve(job, stranger)
    assert not rights.waiting_for(stranger).exists()


def test_rights_are_read_when_somebody_decides_and_not_before(tmp_path: Path) -> None:
    member, worker = viewer(groups=("ops",)), operator()
    workspace = gate(tmp_path, "approvers: {groups: [ops]}")
    job, other = asked(workspace), asked(gate(tmp_path))
    assert rights.right_to_decide(member, request_of(job)) is not None
    member.groups.clear()
    with pytest.raises(NotAllowed):
        approve(job, member)
    # its grants are remembered by now
    assert rights.right_to_decide(worker, request_of(other)) is not None
    worker.grants.all().delete()
    with pytest.raises(NotFound):
        approve(other, worker)


def test_who_was_disabled_decides_nothing(tmp_path: Path) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    User.objects.filter(pk=anna.pk).update(is_active=False)
    with pytest.raises(NotFound):
        approve(job, anna)
    assert records(job) == [(anna.email, "approve", "refused")]


@pytest.mark.parametrize("is_superuser", [False, True])
def test_with_separation_nobody_decides_a_job_they_started(
    tmp_path: Path, is_superuser: bool
) -> None:
    starter = operator(is_superuser=is_superuser)
    job = asked(gate(tmp_path, "separation: true"), starter=starter)
    for decision in (approve, reject):
        with pytest.raises(NotAllowed, match="You started this job"):
            decision(job, starter)
    assert not rights.waiting_for(starter).exists()
    assert approve(job, operator()).status == "approved"
    # off by default
    assert approve(asked(gate(tmp_path), starter=starter), starter).status == "approved"


def test_with_separation_who_restarted_the_job_has_started_it_too(tmp_path: Path) -> None:
    starter, other, third = operator(), operator(), operator()
    job = asked(gate(tmp_path, "separation: true"), starter=starter)
    reject(job, other)
    restarts.restart_failed(job.pk, actor=other.email)
    for kept in (starter, other):
        with pytest.raises(NotAllowed, match="You started this job"):
            approve(job, kept)
    assert approve(job, third).status == "approved"


TWO = "min_approvals: 2"


def test_two_approvals_come_from_two_people(tmp_path: Path) -> None:
    job, anna, bert = asked(gate(tmp_path, TWO)), operator(), operator()
    first = approve(job, anna)
    assert (first.status, first.approvals, first.needed) == ("suspended", 1, 2)
    with pytest.raises(Conflict, match="You already approved this"):
        approve(job, anna)
    assert not rights.waiting_for(anna).exists()
    assert rights.waiting_for(bert).count() == 1
    assert approve(job, bert).status == "approved"
    assert step_of(job).output["approved_by"] == f"{anna.email}, {bert.email}"
    assert [outcome for _, _, outcome in records(job)] == ["counted", "late", "done"]


def test_one_rejection_ends_it_also_by_who_had_approved(tmp_path: Path) -> None:
    workspace, anna = gate(tmp_path, TWO), operator()
    job, other = asked(workspace), asked(workspace)
    approve(job, anna)
    assert reject(job, operator(), "no").status == "rejected"
    approve(other, anna)
    assert reject(other, anna, "on second thoughts").status == "rejected"
    assert request_of(other).votes.get().approved is False


def test_the_approval_of_somebody_who_lost_the_right_counts_no_more(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, "min_approvals: 2\napprovers: {groups: [ops]}"))
    gone, bert, carl = (viewer(groups=("ops",)) for _ in range(3))
    approve(job, gone)
    gone.groups.clear()
    assert approve(job, bert).status == "suspended"
    assert approve(job, carl).status == "approved"


def test_all_approve_the_same_form(tmp_path: Path) -> None:
    form = (
        "min_approvals: 2\ninput: {window: {type: string, required: true}, n: {type: integer,"
        " default: 1}}"
    )
    workspace, anna, bert = gate(tmp_path, form), operator(), operator()
    job, other = asked(workspace), asked(workspace)
    approve(job, anna, {"window": "night"})
    with pytest.raises(InputError, match=f"'window' differs from what {anna.email} approved"):
        approve(job, bert, {"window": "now"})
    assert approve(job, bert, {"window": "night", "n": "1"}).status == "approved"
    approve(other, anna, {"window": "night", "n": 5})
    assert approve(other, bert).status == "approved"
    assert step_of(other).output["input"] == {"window": "night", "n": 5}


def test_a_secret_answer_need_not_be_known_to_the_second_person(tmp_path: Path) -> None:
    job = asked(
        gate(
            tmp_path, "min_approvals: 2\ninput: {pin: {type: string, secret: true, required: true}}"
        )
    )
    approve(job, operator(), {"pin": "4711-0815"})
    bert = operator()
    with pytest.raises(InputError) as refusal:
        approve(job, bert, {"pin": "something else"})
    assert "4711" not in str(refusal.value)
    assert approve(job, bert, {"pin": "••••••"}).status == "approved"


def withdraw(job: object, user: User) -> str:
    return services.withdraw(request_of(job).pk, Caller(user, "api")).status  # type: ignore[arg-type]


def test_an_approval_is_taken_back_while_others_are_waited_for(tmp_path: Path) -> None:
    job, anna, bert = asked(gate(tmp_path, TWO)), operator(), operator()
    approve(job, anna)
    with pytest.raises(Conflict, match="nothing to withdraw"):
        withdraw(job, bert)
    with pytest.raises(NotFound):
        withdraw(job, person())
    assert withdraw(job, anna) == "suspended"
    assert approve(job, bert).status == "suspended"
    assert approve(job, anna).status == "approved"
    with pytest.raises(Conflict, match="current: completed"):
        withdraw(job, anna)
    assert (anna.email, "withdraw", "done") in records(job) and (
        bert.email,
        "withdraw",
        "late",
    ) in records(job)


def delegate(job: object, giver: User, taker: User) -> None:
    delegations.delegate(request_of(job).pk, Caller(giver, "api"), taker.email)  # type: ignore[arg-type]


def test_a_delegated_decision_is_the_takers_and_no_longer_the_givers(tmp_path: Path) -> None:
    anna, taker = viewer(), viewer()
    job = asked(gate(tmp_path, f"approvers: {{users: [{anna.email}]}}"))
    with pytest.raises(NotAllowed):
        approve(job, taker)
    delegate(job, anna, taker)
    assert rights.waiting_for(taker).exists()
    assert not rights.waiting_for(anna).exists()
    with pytest.raises(NotAllowed, match=f"delegated this decision to {taker.email}"):
        approve(job, anna)
    approve(job, taker)
    assert (
        Record.objects.filter(job_id=job.pk, outcome="done").last().detail
        == f"in place of {anna.email}"
    )  # type: ignore[union-attr]


def test_a_delegated_decision_can_be_taken_back(tmp_path: Path) -> None:
    anna, taker = viewer(), viewer()
    job = asked(gate(tmp_path, f"approvers: {{users: [{anna.email}]}}"))
    delegate(job, anna, taker)
    for other, refusal in ((taker, Conflict), (operator(), Conflict), (person(), NotFound)):
        with pytest.raises(refusal):
            delegations.take_back(request_of(job).pk, Caller(other, "api"))
    delegations.take_back(request_of(job).pk, Caller(anna, "api"))
    with pytest.raises(NotAllowed):
        approve(job, taker)
    assert approve(job, anna).status == "approved"
    with pytest.raises(Conflict, match="approved by"):
        delegations.take_back(request_of(job).pk, Caller(anna, "api"))
    assert [(what, outcome) for _, what, outcome in records(job)] == [
        ("delegate", "done"),
        ("take_back", "late"),
        ("take_back", "late"),
        ("take_back", "refused"),
        ("take_back", "done"),
        ("approve", "refused"),
        ("approve", "done"),
        ("take_back", "late"),
    ]


def test_a_delegation_does_not_make_two_approvals_of_one_person(tmp_path: Path) -> None:
    anna, bert, taker = viewer(), viewer(), viewer()
    job = asked(
        gate(tmp_path, f"min_approvals: 2\napprovers: {{users: [{anna.email}, {bert.email}]}}")
    )
    delegate(job, anna, taker)
    delegate(job, bert, taker)
    assert approve(job, taker).status == "suspended"
    for nobody in (anna, bert, taker):
        with pytest.raises((NotAllowed, Conflict)):
            approve(job, nobody)
    with pytest.raises(Conflict, match="has already approved in your place"):
        delegations.take_back(request_of(job).pk, Caller(anna, "api"))


def test_a_delegation_is_worth_no_more_than_the_givers_right(tmp_path: Path) -> None:
    giver, taker = viewer(groups=("ops",)), viewer()
    job = asked(gate(tmp_path, "approvers: {groups: [ops]}"))
    delegate(job, giver, taker)
    giver.groups.clear()
    with pytest.raises(NotAllowed):
        approve(job, taker)


def test_who_may_not_delegate_and_to_whom(tmp_path: Path) -> None:
    starter, anna, taker = operator(), operator(), viewer()
    workspace = gate(tmp_path, "separation: true")
    job = asked(workspace, starter=starter)
    for giver, to, refusal in (
        (viewer(), taker, NotAllowed),
        (person(), taker, NotFound),
        (starter, taker, NotAllowed),  # with a puppet they would decide themselves
        (anna, starter, InputError),
        (anna, person(), InputError),
        (anna, operator(), InputError),
        (anna, anna, InputError),
    ):
        with pytest.raises(refusal):
            delegate(job, giver, to)
    assert not Delegation.objects.exists()
    root = person(is_superuser=True)
    named = asked(gate(tmp_path, f"approvers: {{users: [{anna.email}]}}"))
    with pytest.raises(NotAllowed, match="Only an approver of this request"):
        delegate(named, root, taker)
    delegate(job, anna, taker)
    with pytest.raises(NotAllowed):
        delegate(job, taker, viewer())
    assert all(outcome in ("refused", "invalid", "done") for _, _, outcome in records(job))
    assert len(records(job)) == 9


def test_a_late_decision_is_told_who_decided_and_when(tmp_path: Path) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    approve(job, anna)
    for late in (approve, reject):
        with pytest.raises(Conflict) as refusal:
            late(job, operator())
        assert f"current: completed): approved by {anna.email} at 20" in str(refusal.value)
    for unable, kind in ((viewer(), NotAllowed), (person(), NotFound)):
        with pytest.raises(kind):
            approve(job, unable)
    assert [outcome for _, _, outcome in records(job)] == [
        "done",
        "late",
        "late",
        "refused",
        "refused",
    ]


def test_the_inbox_holds_what_waits_for_me(tmp_path: Path) -> None:
    anna, bert, member, root = (
        operator(),
        viewer(),
        viewer(groups=("ops",)),
        person(is_superuser=True),
    )
    open_to_all = asked(gate(tmp_path))
    named = asked(gate(tmp_path, f"approvers: {{users: [{bert.email}], groups: [ops]}}"))
    decided = asked(gate(tmp_path))
    reject(decided, anna)

    def inbox(user: User) -> set[object]:
        return set(rights.waiting_for(user).values_list("job_id", flat=True))

    assert inbox(anna) == {open_to_all.pk} == inbox(root)
    assert inbox(bert) == inbox(member) == {named.pk}
    assert inbox(viewer()) == inbox(person()) == set()


def test_the_record_cannot_be_changed_nor_deleted_and_outlives_the_job(tmp_path: Path) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    approve(job, anna)
    for change in (
        lambda: Record.objects.update(actor="somebody else"),
        lambda: Record.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobs_step WHERE job_id = %s", [job.pk])
    job_id = job.pk
    job.delete()
    anna.delete()
    assert not ApprovalRequest.objects.exists()
    row = Record.objects.get(job_id=job_id)
    assert (row.actor, row.what, row.outcome, row.via, row.address) == (
        anna.email,
        "approve",
        "done",
        "api",
        "192.0.2.1",
    )
    assert row.at is not None
