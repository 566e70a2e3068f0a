//! The harness proves itself: what it asks of edgeagent holds for dockerd.

use std::time::Duration;

use crate::fixture::{Service, world};

#[test]
#[cfg_attr(not(all(root, program = "dockerd")), ignore = "needs root and dockerd")]
fn a_stock_worker_runs_a_service() {
    let world = world();
    let _worker = world.docker_worker("w1");
    world.manager.await_node("w1", "ready", Duration::from_secs(20));

    let service = Service::create(
        &world.manager,
        "w1",
        "stock",
        &[
            "--network",
            "host",
            &world.images.busybox,
            "sh",
            "-c",
            "echo hello; echo oops >&2; exec sleep 1000",
        ],
    );
    let tasks = service.await_running(1, Duration::from_secs(30));
    assert!(tasks[0].pid > 0, "{tasks:?}");
    service.await_log("hello", Duration::from_secs(10));
    let (out, err) = service.logs(&[]);
    assert_eq!((out.as_str(), err.as_str()), ("hello\n", "oops\n"));
    assert_eq!(service.containers().len(), 1);
    service.remove();
}
