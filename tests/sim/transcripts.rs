//! Conversations about the session: registration, loss, leaders, certificates, the end.

use std::time::Duration;

use edgeagent::{
    agent::{Due, Input, Op, Outcome, Output, SessionPhase, Start},
    limits::{
        FILES_MAX_BYTES, HEARTBEAT_MAX, HEARTBEAT_MIN, REGISTRATION_PAUSE, REMOVED_RETRY,
        RENEWAL_BACKOFF_MAX, SESSION_BACKOFF_MAX,
    },
    model::{
        Change, ConfigId, IssuanceState, LinkLoss, NodeRecord, NodeRole, SecretId, TaskState,
        UnixTime,
    },
};

use crate::{
    desk::{Desk, WALL, told},
    nouns::{complete, id, incremental, node, peer, secret, secretive, session, task, update},
};

fn broken() -> LinkLoss {
    LinkLoss::Broken("reset".into())
}

#[test]
fn a_node_registers_beats_and_watches() {
    let mut desk = Desk::new();
    assert_eq!(told(&desk.first), ["connect m1:2377"]);
    assert_eq!(desk.deadline(), (20_000, Due::Registration));
    assert_eq!(desk.agent.session().phase, SessionPhase::Connecting);
    let out = desk.at(80, Input::Session(session("s1", &["m1", "m2"], Some(node()))));
    assert_eq!(told(&out), ["managers 2", "heartbeat", "watch"]);
    assert_eq!(desk.agent.session().phase, SessionPhase::Ready);
    assert_eq!(desk.agent.session().manager, Some("m1:2377"));
    assert_eq!(desk.agent.session().node, Some(&node()));
    assert_eq!(desk.deadline(), (5_080, Due::HeartbeatAnswer));
    assert_eq!(told(&desk.at(90, Input::HeartbeatAck { period: Duration::from_secs(5) })), [""; 0]);
    assert_eq!(desk.deadline(), (5_090, Due::Heartbeat));
    assert_eq!(told(&desk.timeout(5_089)), [""; 0]);
    assert_eq!(told(&desk.timeout(5_090)), ["heartbeat"]);
    let out = desk.at(5_100, Input::Session(session("s1", &["m2", "m1"], Some(node()))));
    assert_eq!(told(&out), [""; 0], "nothing is new");
}

#[test]
fn a_heartbeat_period_is_kept_within_reason() {
    let mut desk = Desk::new();
    desk.at(0, Input::Session(session("s1", &["m1"], Some(node()))));
    desk.at(0, Input::HeartbeatAck { period: Duration::ZERO });
    let shortest = u64::try_from(HEARTBEAT_MIN.as_millis()).unwrap();
    assert_eq!(desk.deadline(), (shortest, Due::Heartbeat));
    desk.timeout(shortest);
    desk.at(shortest, Input::HeartbeatAck { period: Duration::MAX });
    let longest = u64::try_from(HEARTBEAT_MAX.as_millis()).unwrap();
    assert_eq!(desk.deadline(), (shortest + longest, Due::Heartbeat));
}

#[test]
fn an_unanswered_heartbeat_ends_the_link_and_the_session_is_resumed() {
    let mut desk = Desk::new();
    desk.at(0, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&desk.timeout(4_999)), [""; 0]);
    let out = desk.timeout(5_000);
    assert!(matches!(&out[..], [Output::Lost(LinkLoss::Broken(_)), Output::Close]), "{out:?}");
    assert!(matches!(desk.agent.session().last_loss, Some(LinkLoss::Broken(_))));
    let (at, due) = desk.deadline();
    assert_eq!(due, Due::Connect);
    assert!(at < 5_101, "the first pause is below 100 ms");
    assert_eq!(desk.agent.session().phase, SessionPhase::BackingOff);
    assert_eq!(told(&desk.timeout(5_100)), ["connect m1:2377 s1"]);
}

#[test]
fn a_manager_that_never_answers_is_given_up_after_the_bound() {
    let mut desk = Desk::new();
    assert_eq!(told(&desk.timeout(19_999)), [""; 0]);
    assert_eq!(told(&desk.timeout(20_000)), ["close"]);
    assert!(matches!(desk.agent.session().last_loss, Some(LinkLoss::Unreachable(_))));
}

#[test]
fn pauses_grow_to_their_bound_and_shrink_with_a_registration() {
    let mut desk = Desk::new();
    let (mut clock, mut longest) = (0, 0);
    for _ in 0..200 {
        desk.lost(clock, LinkLoss::Unreachable("refused".into()));
        let (at, due) = desk.deadline();
        assert_eq!(due, Due::Connect);
        longest = longest.max(at - clock);
        clock = at + 1;
        assert_eq!(told(&desk.timeout(clock)), ["connect m1:2377"]);
    }
    let bound = u64::try_from(SESSION_BACKOFF_MAX.as_millis()).unwrap();
    assert!((bound / 2..=bound).contains(&longest), "{longest}");
    desk.at(clock, Input::Session(session("s1", &["m1"], Some(node()))));
    desk.lost(clock, broken());
    assert!(desk.deadline().0 <= clock + 100);
}

#[test]
fn a_rate_limit_is_waited_out() {
    let mut desk = Desk::new();
    desk.lost(100, LinkLoss::RateLimited);
    let pause = u64::try_from(REGISTRATION_PAUSE.as_millis()).unwrap();
    assert!(desk.deadline().0 >= 100 + pause);
}

#[test]
fn after_a_change_of_leader_a_new_session_gets_every_stored_status() {
    let mut desk = Desk::new().registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(20, "t1", Op::Resolve);
    assert_eq!(told(&desk.lost(30, LinkLoss::SessionInvalid)), ["close"]);
    // The image is pulled while nobody listens.
    assert_eq!(told(&desk.done(40, "t1", Op::Prepare)), ["persist t1 starting", "start t1"]);
    assert_eq!(told(&desk.timeout(140)), ["connect m1:2377"], "the old session is void");
    let out = desk.at(150, Input::Session(session("s2", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch", "report t1 starting"]);
}

#[test]
fn what_comes_from_a_link_that_is_gone_counts_for_nothing() {
    let mut desk = Desk::new().registered(0);
    desk.lost(10, broken());
    let set = complete("1", vec![update(task("t1", TaskState::Running))]);
    assert_eq!(told(&desk.assign(11, set)), [""; 0]);
    let message = session("s9", &["m9"], Some(node()));
    assert_eq!(told(&desk.at(12, Input::Session(message))), [""; 0]);
    assert_eq!(told(&desk.lost(13, LinkLoss::Removed("gone".into()))), [""; 0]);
    assert_eq!(told(&desk.at(14, Input::HeartbeatAck { period: Duration::ZERO })), [""; 0]);
    assert_eq!(desk.agent.session().phase, SessionPhase::BackingOff);
}

#[test]
fn seeds_remain_when_managers_are_learned_and_an_empty_list_changes_nothing() {
    let start = Start { seeds: vec!["seed:2377".into()], ..Start::default() };
    let mut desk = Desk::start(start);
    assert_eq!(told(&desk.first), ["connect seed:2377"]);
    let out = desk.at(0, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["managers 1", "heartbeat", "watch"]);
    assert_eq!(told(&desk.at(1, Input::Session(session("s1", &[], Some(node()))))), [""; 0]);
    let mut clock = 1;
    let mut dialled = std::collections::BTreeSet::new();
    for _ in 0..40 {
        desk.lost(clock, LinkLoss::Unreachable("refused".into()));
        clock = desk.deadline().0 + 1;
        dialled.extend(told(&desk.timeout(clock)));
    }
    assert!(dialled.contains("connect seed:2377 s1"), "{dialled:?}");
    assert!(dialled.contains("connect m1:2377 s1"), "{dialled:?}");
}

#[test]
fn managers_that_alternate_cost_a_few_writes() {
    let mut desk = Desk::new().registered(0);
    let mut stores = 0;
    for at in 1..200_u64 {
        let list: &[&str] = if at % 2 == 0 { &["m1", "m2"] } else { &["m1", "m3"] };
        let out = desk.at(at, Input::Session(session("s1", list, Some(node()))));
        stores += told(&out).iter().filter(|line| line.starts_with("managers")).count();
    }
    assert!((1..=4).contains(&stores), "{stores}");
}

#[test]
fn a_node_without_any_manager_waits_without_haste() {
    let mut desk = Desk::start(Start { seeds: vec![String::new()], ..Start::default() });
    assert_eq!(told(&desk.first), [""; 0], "an empty address is none");
    assert_eq!(desk.deadline().1, Due::Connect);
    assert!(desk.deadline().0 >= 8_000);
    assert_eq!(told(&desk.timeout(8_200)), [""; 0]);
    assert!(desk.deadline().0 >= 16_000);
}

#[test]
fn a_changed_description_is_told_at_once_in_the_same_session() {
    let mut desk = Desk::new();
    assert_eq!(told(&desk.at(10, Input::Described)), [""; 0], "not before registration");
    let out = desk.at(80, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["close", "connect m1:2377 s1"]);
    let out = desk.at(90, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch"]);
    assert_eq!(told(&desk.at(95, Input::Described)), ["close", "connect m1:2377 s1"]);
    desk.lost(100, broken());
    assert_eq!(told(&desk.at(100, Input::Described)), [""; 0], "the next link carries it");
    assert_eq!(told(&desk.timeout(201)), ["connect m1:2377 s1"]);
    let out = desk.at(210, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch"], "it was told already");
}

#[test]
fn a_removed_node_removes_its_tasks_and_hardly_ever_asks_again() {
    let mut desk = Desk::new().registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    let loss = || LinkLoss::Removed("node was removed from swarm".into());
    assert_eq!(told(&desk.lost(20, loss())), ["close", "cancel t1"]);
    assert_eq!(desk.agent.session().phase, SessionPhase::Removed);
    assert_eq!(told(&desk.settle(30, "t1", Op::Resolve, Outcome::Cancelled)), ["remove t1"]);
    assert_eq!(told(&desk.done(40, "t1", Op::Remove)), ["erase t1"]);
    assert_eq!(desk.agent.records().count(), 0);
    let hour = u64::try_from(REMOVED_RETRY.as_millis()).unwrap();
    for attempt in 0..3 {
        let (at, due) = desk.deadline();
        assert_eq!(due, Due::Connect);
        assert!(at >= 20 + (attempt + 1) * hour);
        assert_eq!(told(&desk.timeout(at + 1)), ["connect m1:2377"]);
        let loss = if attempt == 1 { broken() } else { loss() };
        assert_eq!(told(&desk.lost(at + 2, loss)), ["close"]);
        assert_eq!(desk.agent.session().phase, SessionPhase::Removed);
    }
    let at = desk.deadline().0 + 1;
    desk.timeout(at);
    desk.at(at, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(desk.agent.session().phase, SessionPhase::Ready, "it was a mistake");
}

#[test]
fn a_session_message_without_a_node_is_no_removal() {
    let mut desk = Desk::new().registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    assert_eq!(told(&desk.at(20, Input::Session(session("s1", &["m1"], None)))), [""; 0]);
    assert_eq!(desk.agent.session().phase, SessionPhase::Ready);
}

#[test]
fn a_node_leaves_when_its_last_task_is_gone() {
    let mut desk = Desk::new().registered(0);
    let tasks = vec![
        update(task("t1", TaskState::Running)),
        update(crate::nouns::in_state(task("t2", TaskState::Shutdown), TaskState::Failed)),
    ];
    desk.assign(10, complete("1", tasks));
    assert_eq!(told(&desk.at(20, Input::Leave)), ["close", "cancel t1", "remove t2"]);
    assert_eq!(told(&desk.done(30, "t2", Op::Remove)), ["erase t2"]);
    assert_eq!(told(&desk.settle(30, "t1", Op::Resolve, Outcome::Done)), ["remove t1"]);
    assert_eq!(told(&desk.at(31, Input::Leave)), [""; 0]);
    assert_eq!(told(&desk.done(40, "t1", Op::Remove)), ["erase t1", "left"]);
    assert_eq!(desk.agent.session().phase, SessionPhase::Left);
    assert_eq!(desk.agent.deadline(), None);
    assert_eq!(told(&desk.timeout(1_000_000)), [""; 0]);
    assert_eq!(told(&Desk::new().at(1, Input::Leave)), ["close", "left"]);
}

fn validity(from: i64, to: i64) -> Option<(UnixTime, UnixTime)> {
    Some((UnixTime::from_seconds(WALL + from), UnixTime::from_seconds(WALL + to)))
}

fn certified(desk: &mut Desk, ms: u64, from: i64, to: i64) {
    let (not_before, not_after) = validity(from, to).unwrap();
    desk.at(ms, Input::Certificate { not_before, not_after });
}

fn tell(desk: &mut Desk, ms: u64, node: NodeRecord) -> Vec<String> {
    told(&desk.at(ms, Input::Session(session("s1", &["m1"], Some(node)))))
}

fn rotate() -> NodeRecord {
    NodeRecord { certificate: IssuanceState::Rotate, ..node() }
}

#[test]
fn an_order_to_rotate_is_obeyed_after_a_short_pause_and_once() {
    let mut desk =
        Desk::start(Start { validity: validity(0, 7_776_000), ..Start::default() }).registered(0);
    assert_eq!(tell(&mut desk, 1_000, rotate()), [""; 0]);
    assert_eq!(tell(&mut desk, 1_100, rotate()), [""; 0]);
    assert_eq!(desk.deadline(), (1_500, Due::Renewal));
    assert_eq!(told(&desk.timeout(1_500)), ["renew"]);
    assert_eq!(tell(&mut desk, 1_600, rotate()), [""; 0], "it is being done");
    certified(&mut desk, 2_000, 0, 7_776_000);
    assert_eq!(told(&desk.timeout(4_000)), [""; 0]);
    tell(&mut desk, 4_100, rotate());
    assert_eq!(told(&desk.timeout(4_600)), ["renew"], "a later order is a new one");
}

#[test]
fn a_failed_renewal_is_tried_again_ever_more_rarely() {
    let mut desk = Desk::new().registered(0);
    tell(&mut desk, 0, rotate());
    assert_eq!(told(&desk.timeout(500)), ["renew"]);
    let (mut clock, mut longest) = (500, 0);
    for _ in 0..30 {
        desk.at(clock, Input::RenewalFailed);
        // Keep the session out of it.
        while desk.deadline().1 != Due::Renewal {
            let at = desk.deadline().0 + 1;
            desk.timeout(at);
            desk.at(at, Input::HeartbeatAck { period: Duration::from_secs(500) });
        }
        let at = desk.deadline().0 + 1;
        assert!(at >= clock + 1_000, "never faster than once a second");
        longest = longest.max(at - clock);
        clock = at;
        assert_eq!(told(&desk.timeout(clock)), ["renew"]);
    }
    let bound = u64::try_from(RENEWAL_BACKOFF_MAX.as_millis()).unwrap();
    assert!((bound / 2..=bound + 600_000).contains(&longest), "{longest}");
}

#[test]
fn time_renews_between_a_fifth_and_a_third_and_never_without_a_session() {
    let start = || Start { validity: validity(0, 1_000), ..Start::default() };
    let mut desk = Desk::start(start());
    assert_eq!(told(&desk.timeout(19_000)), [""; 0], "nobody has told the role");
    let out = desk.at(19_001, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch"]);
    let mut renewed = None;
    for second in 20..700 {
        let out = told(&desk.timeout(second * 1_000));
        if out.contains(&"renew".to_owned()) {
            renewed = Some(second);
            break;
        }
        desk.at(second * 1_000, Input::HeartbeatAck { period: Duration::from_secs(5) });
    }
    assert!(renewed.is_some_and(|second| (200..=351).contains(&second)), "{renewed:?}");

    let mut late = Desk::start(Start { validity: validity(-1_000, 100), ..Start::default() });
    let out = late.at(1, Input::Session(session("s1", &["m1"], Some(node()))));
    assert_eq!(told(&out), ["heartbeat", "watch", "renew"], "past 35 % already");
}

#[test]
fn a_promoted_node_never_renews_until_it_is_demoted() {
    let start = Start { validity: validity(-1_000, 100), ..Start::default() };
    let mut desk = Desk::start(start);
    let promoted = |role, desired_role| NodeRecord { role, desired_role, ..rotate() };
    let (worker, manager) = (NodeRole::Worker, NodeRole::Manager);
    let out = tell(&mut desk, 1, promoted(worker, manager));
    assert_eq!(out, ["heartbeat", "watch"]);
    desk.at(2, Input::HeartbeatAck { period: Duration::from_secs(500) });
    assert_eq!(tell(&mut desk, 3, promoted(manager, manager)), [""; 0]);
    assert_eq!(tell(&mut desk, 4, promoted(manager, worker)), [""; 0]);
    assert_eq!(told(&desk.timeout(60_000)), [""; 0]);
    // A link that is lost makes the role unknown, not harmless.
    desk.lost(60_001, broken());
    assert_eq!(told(&desk.timeout(60_200)), ["connect m1:2377 s1"]);
    assert_eq!(told(&desk.timeout(61_000)), [""; 0]);
    let out = tell(&mut desk, 61_001, node());
    assert_eq!(out, ["heartbeat", "watch", "renew"], "demoted");
}

#[test]
fn secrets_are_for_tasks_that_name_them_and_their_own_come_first() {
    let mut desk = Desk::new().registered(0);
    let s1 = SecretId::new("s1").unwrap();
    let (t1, t2) = (id("t1"), id("t2"));
    let content = |desk: &Desk, task| {
        let data = desk.agent.secret(task, &s1).and_then(|secret| secret.data.as_ref());
        data.map(|data| String::from_utf8_lossy(data.expose()).into_owned())
    };
    let changes = vec![
        update(secretive("t1", TaskState::Running)),
        update(task("t2", TaskState::Running)),
        secret("s1", "common"),
    ];
    desk.assign(10, complete("1", changes));
    assert_eq!(content(&desk, &t1).as_deref(), Some("common"));
    assert_eq!(content(&desk, &t2), None, "it does not name it");
    assert!(desk.agent.config(&t1, &ConfigId::new("c1").unwrap()).is_none());
    desk.assign(20, incremental("1", "2", vec![secret("s1.t1", "own")]));
    assert_eq!(content(&desk, &t1).as_deref(), Some("own"));
    // Its own secret goes with the task; the common one stays.
    desk.assign(30, incremental("2", "3", vec![Change::RemoveTask(t1.clone())]));
    desk.settle(40, "t1", Op::Resolve, Outcome::Cancelled);
    desk.done(50, "t1", Op::Remove);
    let again = vec![update(secretive("t1", TaskState::Running))];
    desk.assign(60, incremental("3", "4", again));
    assert_eq!(content(&desk, &t1).as_deref(), Some("common"));
    // A removal and an addition in one message, in the wrong order.
    let swap = vec![secret("s1", "newer"), Change::RemoveSecret(s1.clone())];
    desk.assign(70, incremental("4", "5", swap));
    assert_eq!(content(&desk, &t1).as_deref(), Some("newer"));
    desk.assign(80, incremental("5", "6", vec![secret("s1", &"x".repeat(FILES_MAX_BYTES))]));
    assert_eq!(content(&desk, &t1), None, "no room");
    desk.assign(90, incremental("6", "7", vec![secret("s1", "small")]));
    assert_eq!(content(&desk, &t1).as_deref(), Some("small"));
    desk.assign(100, complete("8", vec![update(secretive("t1", TaskState::Running))]));
    assert_eq!(content(&desk, &t1), None, "a complete set starts afresh");
    assert!(!format!("{:?}", desk.agent).contains("small"));
}

#[test]
fn managers_are_remembered_with_the_link_that_served() {
    let start = Start { managers: vec![peer("m1"), peer("m2")], ..Start::default() };
    let mut desk = Desk::start(start);
    let mut bad = 0;
    let mut clock = 0;
    // m1 never answers, m2 always does.
    let mut out = std::mem::take(&mut desk.first);
    for _ in 0..50 {
        let Some(Output::Connect { peer, .. }) = out.first() else { panic!("{out:?}") };
        if peer.addr == "m1:2377" {
            bad += 1;
            desk.lost(clock, LinkLoss::Unreachable("refused".into()));
        } else {
            desk.at(clock, Input::Session(session("s1", &["m1", "m2"], Some(node()))));
            desk.lost(clock, LinkLoss::SessionInvalid);
        }
        clock = desk.deadline().0 + 1;
        out = desk.timeout(clock);
    }
    assert!(bad < 25, "{bad} of 50 went to the bad one");
}

#[test]
fn a_node_with_an_expired_certificate_joins_anew_and_keeps_its_tasks_until_it_knows_better() {
    let refused = || LinkLoss::Refused("certificate expired".into());
    let start = Start { validity: validity(-1_000, 10), token: true, ..Start::default() };
    let mut desk = Desk::start(start).registered(0);
    desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
    desk.done(20, "t1", Op::Resolve);
    desk.lost(9_000, refused());
    assert_eq!(desk.deadline().1, Due::Connect, "the clock says that it is valid");
    desk.lost(9_000, broken());
    let at = desk.deadline().0 + 1;
    desk.timeout(at);
    let clock = at + 10_000;
    assert_eq!(told(&desk.lost(clock, refused())), ["close"]);
    let (at, due) = desk.deadline();
    assert_eq!(due, Due::Rejoin);
    assert_eq!(told(&desk.timeout(at + 1)), ["rejoin"]);
    assert!(desk.agent.record(&id("t1")).is_some(), "its task goes on");
    let (not_before, not_after) = validity(30, 40).unwrap();
    let at = UnixTime::from_seconds(WALL + 30);
    let out = desk.at(40_000, Input::Rejoined { at, not_before, not_after });
    assert_eq!(told(&out), ["connect m1:2377"], "no session of the old node is resumed");
    desk.at(40_010, Input::Session(session("s2", &["m1"], Some(node()))));
    assert_eq!(desk.state("t1"), TaskState::Preparing, "nobody has said anything of it yet");
    let out = told(&desk.assign(40_020, complete("9", vec![])));
    assert_eq!(out, ["cancel t1"], "the new node has no such task");
    // It expires once more within the day.
    desk.lost(60_000, broken());
    let at = desk.deadline().0 + 1;
    desk.timeout(at);
    for _ in 0..5 {
        desk.lost(desk.deadline().0, refused());
        let (at, due) = desk.deadline();
        assert_eq!(due, Due::Connect, "and not to join");
        desk.timeout(at + 1);
    }
}

#[test]
fn a_removed_node_never_joins_anew_and_keeps_its_tasks_only_if_told_to() {
    for keep_when_removed in [false, true] {
        let start = Start {
            validity: validity(-1_000, 10),
            token: true,
            keep_when_removed,
            ..Start::default()
        };
        let mut desk = Desk::start(start).registered(0);
        desk.assign(10, complete("1", vec![update(task("t1", TaskState::Running))]));
        let out = told(&desk.lost(20, LinkLoss::Removed("was removed".into())));
        let gone: &[&str] = if keep_when_removed { &["close"] } else { &["close", "cancel t1"] };
        assert_eq!(out, gone);
        let (at, due) = desk.deadline();
        assert_eq!(due, Due::Connect);
        assert!(u64::try_from(REMOVED_RETRY.as_millis()).unwrap() <= at);
        desk.timeout(at + 1);
        desk.lost(at + 2, LinkLoss::Refused("certificate expired".into()));
        assert_eq!(desk.deadline().1, Due::Connect, "it expired meanwhile, and that is the end");
        assert_eq!(desk.agent.session().phase, SessionPhase::Removed);
    }
}
