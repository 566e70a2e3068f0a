//! Every (state, desired, outcome) of a task, against a table written from swarm's formal model.
//!
//! The model is swarmkit `design/tla/Tasks.tla`, the agent's transitions; its ORPHANED moves are
//! the dispatcher's and left out. swarmkit's code makes six more than the model and lacks one;
//! we follow the code (style.md §3.2).

use std::collections::BTreeSet;

use TaskState::{
    Accepted, Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Ready, Rejected,
    Remove, Running, Shutdown, Starting,
};
use edgeagent::{
    agent::{
        Op, Outcome,
        task::{Step, decide, settle},
    },
    model::TaskState,
};

/// Transitions that the model gives to an agent, between states that a worker sees.
const MODEL: [(TaskState, TaskState); 13] = [
    (Assigned, Accepted),
    (Assigned, Rejected),
    (Accepted, Preparing),
    (Accepted, Rejected),
    (Preparing, Ready),
    (Preparing, Rejected),
    (Ready, Starting),
    (Ready, Rejected),
    (Starting, Running),
    (Starting, Rejected),
    (Running, Complete),
    (Running, Shutdown),
    (Running, Failed),
];

/// What the code does and the model lacks.
const SIX: [(TaskState, TaskState); 6] = [
    (Assigned, Shutdown),
    (Accepted, Shutdown),
    (Preparing, Shutdown),
    (Ready, Shutdown),
    (Starting, Shutdown),
    (Starting, Failed),
];

/// What the model has and the code never does: a start that fails is FAILED.
const ONLY_IN_MODEL: (TaskState, TaskState) = (Starting, Rejected);

/// A worker meets a task from here on.
const SEEN: [TaskState; 12] = [
    Assigned, Accepted, Preparing, Ready, Starting, Running, Complete, Shutdown, Failed, Rejected,
    Remove, Orphaned,
];

const OPS: [Op; 6] = [Op::Resolve, Op::Prepare, Op::Start, Op::Wait, Op::Shutdown, Op::Remove];

fn outcomes() -> [Outcome; 4] {
    let text = || "why".to_owned();
    [Outcome::Done, Outcome::Cancelled, Outcome::Temporary(text()), Outcome::Fatal(text())]
}

/// The table of swarmkit `Do`: rows are states, columns what is desired below, at, above.
fn written(state: TaskState, desired: TaskState) -> Step {
    if desired >= Shutdown {
        return if state < Complete { Step::Run(Op::Shutdown) } else { Step::Rest };
    }
    match (state, desired) {
        (Preparing, Preparing | Ready | Starting | Running | Complete) => Step::Run(Op::Prepare),
        (Starting, Starting | Running | Complete) => Step::Run(Op::Start),
        (Running, Running | Complete) => Step::Run(Op::Wait),
        (
            New,
            Pending | Assigned | Accepted | Preparing | Ready | Starting | Running | Complete,
        )
        | (Pending, Assigned | Accepted | Preparing | Ready | Starting | Running | Complete)
        | (Assigned, Accepted | Preparing | Ready | Starting | Running | Complete) => {
            Step::Run(Op::Resolve)
        }
        (Accepted, Preparing | Ready | Starting | Running | Complete) => {
            Step::Become(Preparing, "preparing")
        }
        (Ready, Starting | Running | Complete) => Step::Become(Starting, "starting"),
        _ => Step::Rest,
    }
}

#[test]
fn every_decision_is_the_one_in_the_table() {
    for state in TaskState::ALL {
        for desired in TaskState::ALL {
            assert_eq!(decide(state, desired), written(state, desired), "{state:?} {desired:?}");
        }
    }
}

#[test]
fn the_transitions_are_the_models_and_six_more() {
    let mut made = BTreeSet::new();
    for state in SEEN {
        for desired in TaskState::ALL {
            match decide(state, desired) {
                Step::Rest => {}
                Step::Become(next, _) => {
                    made.insert((state, next));
                }
                Step::Run(op) => {
                    for outcome in outcomes() {
                        let next = settle(state, op, &outcome).state;
                        if next != state {
                            made.insert((state, next));
                        }
                    }
                }
            }
        }
    }
    // ACCEPTED and READY have nothing that could fail but a shutdown, which then rejects them.
    let expected: BTreeSet<_> =
        MODEL.into_iter().chain(SIX).filter(|pair| *pair != ONLY_IN_MODEL).collect();
    assert_eq!(made, expected);
}

#[test]
fn no_outcome_of_any_operation_lowers_a_state_or_moves_a_terminal_one() {
    for state in TaskState::ALL {
        for op in OPS {
            for outcome in outcomes() {
                let verdict = settle(state, op, &outcome);
                assert!(state <= verdict.state, "{state:?} {op:?} {outcome:?}");
                if state.is_terminal() {
                    assert_eq!(verdict.state, state, "{op:?} {outcome:?}");
                }
            }
        }
    }
}

#[test]
fn a_terminal_task_rests_whatever_is_desired() {
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        for desired in TaskState::ALL {
            assert_eq!(decide(state, desired), Step::Rest, "{state:?} {desired:?}");
        }
    }
}

#[test]
fn messages_are_the_ones_that_operators_know() {
    let done = [
        (Assigned, Op::Resolve, Accepted, "accepted"),
        (Preparing, Op::Prepare, Ready, "prepared"),
        (Starting, Op::Start, Running, "started"),
        (Running, Op::Wait, Complete, "finished"),
        (Running, Op::Shutdown, Shutdown, "shutdown"),
    ];
    for (state, op, next, message) in done {
        let verdict = settle(state, op, &Outcome::Done);
        assert_eq!((verdict.state, verdict.message), (next, Some(message)));
        assert_eq!(verdict.err.as_deref(), Some(""), "a success clears the error");
    }
    let fatal = [
        (Assigned, Op::Resolve, Rejected, Some("resolving controller failed")),
        (Preparing, Op::Prepare, Rejected, None),
        (Starting, Op::Start, Failed, None),
        (Running, Op::Wait, Failed, None),
        (Running, Op::Shutdown, Failed, None),
        (Ready, Op::Shutdown, Rejected, None),
    ];
    for (state, op, next, message) in fatal {
        let verdict = settle(state, op, &Outcome::Fatal("why".to_owned()));
        assert_eq!((verdict.state, verdict.message), (next, message));
        assert_eq!(verdict.err.as_deref(), Some("why"));
    }
}

#[test]
fn a_temporary_failure_pauses_and_a_cancelled_operation_changes_nothing() {
    for state in TaskState::ALL {
        for op in OPS {
            let verdict = settle(state, op, &Outcome::Temporary("why".to_owned()));
            assert_eq!((verdict.state, verdict.pause), (state, true));
            assert_eq!((verdict.message, verdict.err.as_deref()), (None, Some("why")));
            let verdict = settle(state, op, &Outcome::Cancelled);
            assert_eq!((verdict.state, verdict.pause), (state, false));
            assert_eq!((verdict.message, verdict.err), (None, None));
        }
    }
}
