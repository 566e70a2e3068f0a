//! Conversations about tasks: from assignment to removal, through restarts and failures.

use edgeagent::{
    agent::{Due, Input, Op, Outcome, Output, Start},
    limits::{TASK_ERR_MAX_BYTES, TASKS_MAX},
    model::{Change, ContainerId, ContainerStatus, LinkLoss, TaskRecord, TaskState, TaskStatus},
};

use crate::{
    desk::{Desk, told},
    nouns::{
        complete, id, in_state, incremental, node, secretive, session, settlement, task, update,
    },
};

fn fatal(text: &str) -> Outcome {
    Outcome::Fatal(text.into())
}

fn remove(name: &str) -> Vec<Change> {
    vec![Change::RemoveTask(id(name))]
}

/// A desk with `t1` running.
fn running() -> Desk {
    let mut desk = Desk::new().registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(20, "t1", Op::Resolve);
    desk.done(30, "t1", Op::Prepare);
    desk.done(40, "t1", Op::Start);
    assert_eq!(desk.state("t1"), TaskState::Running);
    desk.reported(50, "t1", TaskState::Accepted);
    desk.reported(50, "t1", TaskState::Running);
    desk
}

fn stored(name: &str, state: TaskState) -> TaskRecord {
    let status = TaskStatus { state, ..TaskStatus::default() };
    TaskRecord { task: task(name, TaskState::Running), status }
}

#[test]
fn a_task_goes_from_assigned_to_complete() {
    let mut desk = Desk::new().registered(0);
    let set = complete("1", vec![update(task("t1", TaskState::Running))]);
    assert_eq!(told(&desk.assign(10, set)), ["resolve t1"]);
    assert_eq!(
        told(&desk.done(20, "t1", Op::Resolve)),
        ["persist t1 accepted", "report t1 accepted", "prepare t1"]
    );
    assert_eq!(
        told(&desk.done(30, "t1", Op::Prepare)),
        ["persist t1 starting", "start t1"],
        "one report is under way"
    );
    assert_eq!(told(&desk.reported(31, "t1", TaskState::Accepted)), ["report t1 starting"]);
    assert_eq!(told(&desk.reported(32, "t1", TaskState::Starting)), [""; 0]);
    assert_eq!(
        told(&desk.done(40, "t1", Op::Start)),
        ["persist t1 running", "report t1 running", "wait t1"]
    );
    assert_eq!(told(&desk.reported(41, "t1", TaskState::Running)), [""; 0]);
    assert_eq!(told(&desk.done(50, "t1", Op::Wait)), ["persist t1 complete", "report t1 complete"]);
    let status = &desk.agent.record(&id("t1")).unwrap().status;
    assert_eq!((status.message.as_str(), status.err.as_str()), ("finished", ""));
}

#[test]
fn a_rolling_update_prepares_first_and_starts_when_told() {
    let mut desk = running();
    let set = incremental("1", "2", vec![update(task("t2", TaskState::Ready))]);
    assert_eq!(told(&desk.assign(100, set)), ["resolve t2"]);
    desk.done(110, "t2", Op::Resolve);
    assert_eq!(told(&desk.done(120, "t2", Op::Prepare)), [""; 0], "it pauses at READY");
    assert_eq!(told(&desk.reported(125, "t2", TaskState::Accepted)), ["report t2 ready"]);
    let set = incremental("2", "3", vec![update(task("t1", TaskState::Shutdown))]);
    assert_eq!(told(&desk.assign(130, set)), ["cancel t1"]);
    assert_eq!(told(&desk.settle(140, "t1", Op::Wait, Outcome::Cancelled)), ["shutdown t1"]);
    assert_eq!(
        told(&desk.done(150, "t1", Op::Shutdown)),
        ["persist t1 shutdown", "report t1 shutdown"]
    );
    let set = incremental("3", "4", vec![update(task("t2", TaskState::Running))]);
    assert_eq!(told(&desk.assign(160, set)), ["persist t2 starting", "start t2"]);
}

#[test]
fn a_drained_node_stops_its_tasks_and_keeps_them_until_they_are_removed() {
    let mut desk = running();
    let set = incremental("1", "2", vec![update(task("t1", TaskState::Shutdown))]);
    assert_eq!(told(&desk.assign(100, set)), ["cancel t1"]);
    let set = incremental("2", "3", vec![update(task("t1", TaskState::Remove))]);
    assert_eq!(told(&desk.assign(101, set)), [""; 0], "once is enough");
    desk.settle(110, "t1", Op::Wait, Outcome::Cancelled);
    desk.done(120, "t1", Op::Shutdown);
    assert_eq!(desk.state("t1"), TaskState::Shutdown);
    assert_eq!(told(&desk.assign(130, incremental("3", "4", remove("t1")))), ["remove t1"]);
    assert_eq!(told(&desk.done(140, "t1", Op::Remove)), ["erase t1"]);
    assert!(desk.agent.record(&id("t1")).is_none());
    assert_eq!(told(&desk.reported(150, "t1", TaskState::Shutdown)), [""; 0]);
}

#[test]
fn a_container_that_ends_while_it_is_being_stopped_has_ended_by_itself() {
    let mut desk = running();
    desk.assign(100, incremental("1", "2", vec![update(task("t1", TaskState::Shutdown))]));
    let out = told(&desk.settle(110, "t1", Op::Wait, fatal("task: non-zero exit (1)")));
    assert_eq!(out, ["persist t1 failed", "report t1 failed"]);
}

#[test]
fn a_gap_is_discarded_and_the_stream_opened_anew_with_growing_pauses() {
    let mut desk = running();
    let mut clock = 100_000;
    let mut pauses = Vec::new();
    desk.timeout(clock);
    for round in 0..6 {
        let set = incremental("nonsense", "9", remove("t1"));
        assert_eq!(told(&desk.assign(clock, set)), [""; 0], "nothing of it is applied");
        let stray = incremental("1", "2", remove("t1"));
        assert_eq!(told(&desk.assign(clock, stray)), [""; 0], "the chain is broken");
        let (at, due) = desk.deadline();
        assert_eq!(due, Due::Watch, "round {round}");
        pauses.push(at - clock);
        clock = at + 1;
        assert_eq!(told(&desk.timeout(clock)), ["watch"]);
        let set = complete("5", vec![update(task("t1", TaskState::Running))]);
        assert_eq!(told(&desk.assign(clock, set)), [""; 0], "equal: ignored");
    }
    assert!(pauses[0] <= 500 && 4_000 < pauses[5], "{pauses:?}");
    let set = incremental("5", "6", vec![update(task("t2", TaskState::Running))]);
    assert_eq!(told(&desk.assign(clock, set)), ["resolve t2"]);
    desk.assign(clock, incremental("nonsense", "7", vec![]));
    assert!(desk.deadline().0 <= clock + 500, "a good message mends the pace");
}

#[test]
fn a_complete_set_removes_what_it_does_not_list() {
    let mut desk = running();
    let set = complete("2", vec![update(task("t2", TaskState::Running))]);
    assert_eq!(told(&desk.assign(100, set)), ["cancel t1", "resolve t2"]);
    // Whatever comes of the old operation is nobody's business.
    assert_eq!(told(&desk.settle(110, "t1", Op::Wait, Outcome::Done)), ["remove t1"]);
    assert_eq!(told(&desk.done(120, "t1", Op::Remove)), ["erase t1"]);
}

#[test]
fn a_removed_task_has_nothing_more_to_say() {
    let mut desk = Desk::new().registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(20, "t1", Op::Resolve);
    desk.assign(30, incremental("1", "2", remove("t1")));
    assert_eq!(told(&desk.reported(40, "t1", TaskState::Accepted)), [""; 0], "one was queued");
    assert_eq!(told(&desk.settle(50, "t1", Op::Prepare, Outcome::Done)), ["remove t1"]);
}

#[test]
fn a_task_that_is_assigned_again_while_it_is_removed_is_not_lost() {
    let mut desk = running();
    desk.assign(100, incremental("1", "2", remove("t1")));
    let set = incremental("2", "3", vec![update(task("t1", TaskState::Running))]);
    assert_eq!(told(&desk.assign(110, set)), [""; 0]);
    desk.settle(120, "t1", Op::Wait, Outcome::Cancelled);
    assert_eq!(told(&desk.done(130, "t1", Op::Remove)), ["erase t1", "resolve t1"]);
    assert_eq!(desk.state("t1"), TaskState::Assigned);

    desk.assign(200, incremental("3", "4", remove("t1")));
    desk.assign(210, incremental("4", "5", vec![update(task("t1", TaskState::Running))]));
    desk.assign(220, incremental("5", "6", remove("t1")));
    desk.settle(230, "t1", Op::Resolve, Outcome::Cancelled);
    assert_eq!(told(&desk.done(240, "t1", Op::Remove)), ["erase t1"], "removed again");
}

#[test]
fn a_removal_that_fails_is_tried_again_and_given_up_only_when_it_is_hopeless() {
    let mut desk = running();
    desk.assign(100, incremental("1", "2", remove("t1")));
    desk.settle(110, "t1", Op::Wait, Outcome::Cancelled);
    let busy = Outcome::Temporary("device busy".into());
    assert_eq!(told(&desk.settle(120, "t1", Op::Remove, busy)), [""; 0]);
    let (at, due) = desk.deadline();
    assert_eq!(due, Due::Operation);
    assert!((1_120..=1_620).contains(&at), "{at}");
    assert_eq!(told(&desk.timeout(at + 1)), ["remove t1"]);
    assert_eq!(told(&desk.settle(3_000, "t1", Op::Remove, fatal("broken"))), ["erase t1"]);
}

#[test]
fn a_temporary_failure_is_shown_and_tried_again_after_a_second() {
    let mut desk = Desk::new().registered(0);
    desk.assign(0, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(0, "t1", Op::Resolve);
    desk.reported(0, "t1", TaskState::Accepted);
    desk.reported(0, "t1", TaskState::Preparing);
    let busy = || Outcome::Temporary("registry unreachable".into());
    assert_eq!(told(&desk.settle(100, "t1", Op::Prepare, busy())), ["report t1 preparing"]);
    assert_eq!(desk.agent.record(&id("t1")).unwrap().status.err, "registry unreachable");
    let (at, due) = desk.deadline();
    assert_eq!(due, Due::Operation);
    assert!((1_100..=1_600).contains(&at), "{at}");
    assert_eq!(told(&desk.timeout(at + 1)), ["prepare t1"]);
    desk.reported(at + 1, "t1", TaskState::Preparing);
    let out = desk.settle(at + 2, "t1", Op::Prepare, busy());
    assert_eq!(told(&out), [""; 0], "the same failure is not told twice");
    // A stop does not wait for the next attempt.
    let set = incremental("1", "2", vec![update(task("t1", TaskState::Shutdown))]);
    assert_eq!(told(&desk.assign(at + 3, set)), ["shutdown t1"]);
    desk.done(at + 4, "t1", Op::Shutdown);
    assert_eq!(desk.agent.record(&id("t1")).unwrap().status.err, "", "a success clears it");
}

#[test]
fn an_operation_that_ends_itself_as_cancelled_does_not_spin() {
    let mut desk = running();
    assert_eq!(told(&desk.settle(100, "t1", Op::Wait, Outcome::Cancelled)), [""; 0]);
    assert_eq!(desk.deadline().1, Due::Operation);
    assert_eq!(told(&desk.timeout(1_700)), ["wait t1"]);
}

#[test]
fn failures_before_a_start_reject_and_later_ones_fail() {
    let mut desk = Desk::new().registered(0);
    let tasks = ["t1", "t2", "t3"].map(|name| update(task(name, TaskState::Running)));
    desk.assign(0, complete("1", tasks.into()));
    let out = desk.settle(1, "t1", Op::Resolve, fatal("no such feature"));
    assert_eq!(told(&out), ["persist t1 rejected", "report t1 rejected"]);
    let status = |desk: &Desk, name| desk.agent.record(&id(name)).unwrap().status.clone();
    assert_eq!(status(&desk, "t1").message, "resolving controller failed");
    assert_eq!(status(&desk, "t1").err, "no such feature");
    desk.done(2, "t2", Op::Resolve);
    desk.settle(3, "t2", Op::Prepare, fatal(&"ä".repeat(TASK_ERR_MAX_BYTES)));
    assert_eq!(status(&desk, "t2").state, TaskState::Rejected);
    assert_eq!(status(&desk, "t2").message, "preparing");
    assert_eq!(status(&desk, "t2").err.len(), TASK_ERR_MAX_BYTES);
    desk.done(4, "t3", Op::Resolve);
    desk.done(5, "t3", Op::Prepare);
    desk.settle(6, "t3", Op::Start, fatal("no such program"));
    assert_eq!(status(&desk, "t3").state, TaskState::Failed);
    assert_eq!(status(&desk, "t3").message, "starting");
}

#[test]
fn an_agent_that_starts_again_waits_for_its_running_tasks_before_anything_else() {
    let records = vec![
        stored("t1", TaskState::Running),
        stored("t2", TaskState::Starting),
        stored("t3", TaskState::Failed),
        TaskRecord {
            task: secretive("t4", TaskState::Running),
            ..stored("t4", TaskState::Accepted)
        },
        TaskRecord {
            task: secretive("t5", TaskState::Running),
            ..stored("t5", TaskState::Running)
        },
    ];
    let desk = Desk::start(Start { records, ..Start::default() });
    assert_eq!(told(&desk.first), ["wait t1", "start t2", "wait t5", "connect m1:2377"]);
    let mut desk = desk;
    let out = desk.at(10, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(
        told(&out),
        [
            "heartbeat",
            "watch",
            "report t1 running",
            "report t2 starting",
            "report t3 failed",
            "report t4 preparing",
            "report t5 running"
        ]
    );
    let mut list: Vec<Change> =
        ["t1", "t2"].map(|name| update(task(name, TaskState::Running))).into();
    list.push(update(in_state(task("t3", TaskState::Shutdown), TaskState::Failed)));
    list.push(update(secretive("t4", TaskState::Running)));
    list.push(update(secretive("t5", TaskState::Running)));
    assert_eq!(told(&desk.assign(20, complete("1", list))), ["prepare t4"]);
}

#[test]
fn a_container_that_is_gone_after_a_reboot_has_failed() {
    let records = vec![stored("t1", TaskState::Running)];
    let mut desk = Desk::start(Start { records, ..Start::default() });
    let out = told(&desk.settle(5, "t1", Op::Wait, fatal("No such container: web.1.t1")));
    assert_eq!(out, ["persist t1 failed"], "nobody listens yet");
    let out = desk.at(10, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch", "report t1 failed"]);
}

#[test]
fn a_task_without_a_record_begins_where_the_manager_says() {
    let mut desk = Desk::new().registered(0);
    let list = vec![
        update(in_state(task("t1", TaskState::Running), TaskState::Running)),
        update(in_state(task("t2", TaskState::Shutdown), TaskState::Failed)),
        update(task("t3", TaskState::Shutdown)),
    ];
    assert_eq!(told(&desk.assign(10, complete("1", list))), ["wait t1", "shutdown t3"]);
    assert_eq!(desk.state("t2"), TaskState::Failed, "kept as history");
    desk.settle(20, "t1", Op::Wait, fatal("No such container: web.1.t1"));
    assert_eq!(desk.state("t1"), TaskState::Failed);
    assert_eq!(told(&desk.assign(30, incremental("1", "2", remove("t2")))), ["remove t2"]);
    assert_eq!(told(&desk.done(40, "t2", Op::Remove)), ["erase t2"]);
}

#[test]
fn history_that_was_never_ours_is_not_reported() {
    let mut desk = Desk::new().registered(0);
    let list = vec![update(in_state(task("t1", TaskState::Shutdown), TaskState::Complete))];
    desk.assign(10, complete("1", list));
    desk.lost(20, LinkLoss::Broken("reset".into()));
    assert_eq!(told(&desk.timeout(200)), ["connect m1:2377 s1"]);
    let out = desk.at(210, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch"]);
}

#[test]
fn a_lowered_desired_state_and_the_managers_idea_of_our_status_are_ignored() {
    let mut desk = running();
    let lower = update(in_state(task("t1", TaskState::Ready), TaskState::Failed));
    assert_eq!(told(&desk.assign(100, incremental("1", "2", vec![lower]))), [""; 0]);
    let record = desk.agent.record(&id("t1")).unwrap();
    assert_eq!(record.task.desired_state, TaskState::Running);
    assert_eq!(record.status.state, TaskState::Running);
}

#[test]
fn the_container_is_told_from_the_start_on() {
    let mut desk = Desk::new().registered(0);
    desk.assign(0, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(1, "t1", Op::Resolve);
    let container = ContainerStatus { id: ContainerId::new("c1").unwrap(), pid: 7, exit_code: 0 };
    let mut prepared = settlement(Outcome::Done);
    prepared.container = Some(ContainerStatus { pid: 0, ..container.clone() });
    let input = Input::Settled { task: id("t1"), op: Op::Prepare, settlement: prepared };
    desk.at(2, input);
    let out = desk.reported(2, "t1", TaskState::Accepted);
    let Some(Output::Report(_, status)) = out.first() else { panic!("{out:?}") };
    assert_eq!(status.state, TaskState::Starting);
    assert_eq!(status.container.as_ref().map(|c| c.pid), Some(0), "as dockerd");
    let mut started = settlement(Outcome::Done);
    started.container = Some(container.clone());
    desk.at(3, Input::Settled { task: id("t1"), op: Op::Start, settlement: started });
    let status = |desk: &Desk| desk.agent.record(&id("t1")).unwrap().status.container.clone();
    assert_eq!(status(&desk), Some(container.clone()));
    let mut ended = settlement(fatal("task: non-zero exit (3)"));
    ended.container = Some(ContainerStatus { pid: 0, exit_code: 3, ..container });
    let out = desk.at(4, Input::Settled { task: id("t1"), op: Op::Wait, settlement: ended });
    let Some(Output::Persist(record)) = out.first() else { panic!("{out:?}") };
    assert_eq!(record.status.container.as_ref().map(|c| c.exit_code), Some(3));
}

#[test]
fn a_prepared_container_is_not_told_before_its_start() {
    let mut desk = Desk::new().registered(0);
    desk.assign(0, complete("1", vec![update(task("t1", TaskState::Ready))]));
    desk.done(1, "t1", Op::Resolve);
    let mut prepared = settlement(Outcome::Done);
    let container = ContainerStatus { id: ContainerId::new("c1").unwrap(), pid: 0, exit_code: 0 };
    prepared.container = Some(container);
    desk.at(2, Input::Settled { task: id("t1"), op: Op::Prepare, settlement: prepared });
    let out = desk.reported(2, "t1", TaskState::Accepted);
    let Some(Output::Report(_, status)) = out.first() else { panic!("{out:?}") };
    assert_eq!((status.state, &status.container), (TaskState::Ready, &None), "as dockerd");
}

#[test]
fn an_answer_to_nothing_is_ignored() {
    let mut desk = running();
    assert_eq!(told(&desk.done(100, "t1", Op::Start)), [""; 0]);
    assert_eq!(told(&desk.done(101, "t9", Op::Start)), [""; 0]);
    assert_eq!(told(&desk.reported(102, "t9", TaskState::Running)), [""; 0]);
    assert_eq!(desk.state("t1"), TaskState::Running);
}

#[test]
fn one_task_too_many_is_rejected_and_not_kept() {
    let mut desk = Desk::new().registered(0);
    let mut list: Vec<Change> =
        (0..TASKS_MAX).map(|n| update(task(&format!("a{n}"), TaskState::Running))).collect();
    list.push(update(task("z1", TaskState::Running)));
    list.push(update(in_state(task("z2", TaskState::Shutdown), TaskState::Failed)));
    let out = desk.assign(10, complete("1", list));
    let reports: Vec<&Output> = out.iter().filter(|o| matches!(o, Output::Report(..))).collect();
    let [Output::Report(name, status)] = reports[..] else { panic!("{reports:?}") };
    assert_eq!((name, status.state), (&id("z1"), TaskState::Rejected));
    assert!(status.err.contains("512 tasks"), "{}", status.err);
    assert_eq!(desk.agent.records().count(), TASKS_MAX);
    assert_eq!(told(&desk.reported(20, "z1", TaskState::Rejected)), [""; 0]);
}
