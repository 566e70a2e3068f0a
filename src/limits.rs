//! Every bound and interval of edgeagent: unit, reason, and source where swarm fixes it.
//!
//! A bound comes with a written answer for *full*. Numbers live here and nowhere else.

/// Longest identifier, in bytes. Swarm's have 25 characters, a container's 64; a longer one is
/// refused where it is read.
pub const ID_MAX_BYTES: usize = 64;

use std::time::Duration;

/// After `exceeded rate limit count of registrations`, wait this long: managers count
/// registrations that follow each other within 8 s (swarmkit `manager/dispatcher/nodes.go`).
pub const REGISTRATION_PAUSE: Duration = Duration::from_secs(9);

// node

/// Connections to the control socket that are served at once; one more is closed unanswered.
pub const CONTROL_CONNECTIONS: usize = 8;

/// Longest request on the control socket, in bytes: `token set` carries a token of some 90. A longer
/// one closes the connection.
pub const CONTROL_REQUEST_MAX_BYTES: usize = 512;

/// A task that can not be removed holds up `edgeagent leave` for this long; then the command ends and
/// tells what is left. Longer than a device needs to come to rest, shorter than a person's patience.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request or an answer on the control socket may take.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first poll for a certificate may be held by the manager; then the person is told
/// that it takes its time.
pub const CERTIFICATE_POLL_FIRST: Duration = Duration::from_secs(2);

/// How long each later poll may be held. A manager answers at once when it has decided, so a node
/// that waits for approval runs a moment after it, for one small call per minute. Swarmkit holds
/// 5 s and pauses up to 30 (`ca/certificates.go`, `GetRemoteSignedCertificate`).
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(60);

/// Pause between two polls; doubled while the manager answers at once.
pub const CERTIFICATE_POLL_PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Longest pause after a poll that was answered at once and decided nothing (the same).
pub const CERTIFICATE_POLL_PAUSE: Duration = Duration::from_secs(30);

/// How long a renewal may take; then it is begun anew, with a pause. Managers sign at once, or
/// within seconds when an external CA does.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(300);

/// While someone follows logs, the rings are looked at this often. Nothing wakes up otherwise.
pub const LOG_FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of log lines that are put into one message: well below the 4 MiB that a manager takes.
pub const LOG_BATCH_MAX_BYTES: usize = 64 * 1024;

/// Log subscriptions that are served at once; one more is answered as complete, with a warning
/// in our log.
pub const LOG_SUBSCRIPTIONS_MAX: usize = 32;

/// Events of the link to the manager that wait for the loop; when full, the streams wait. Each
/// may be as large as [`ASSIGNMENTS_MAX_BYTES`].
pub const LINK_EVENTS_MAX: usize = 1;

/// How often a starting agent tries to get the lock of its `exec-root`…
pub const LOCK_ATTEMPTS: usize = 20;

/// … and the pause between two tries.
pub const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Pause before an identity that can not be used, or a broken enrolment, is tried again.
pub const IDENTITY_RETRY: Duration = Duration::from_secs(20);

/// Pause before the agent looks again whether the `join` that holds the lock has ended: it was
/// told so, unless that was killed.
pub const JOIN_LOCK_RETRY: Duration = Duration::from_secs(1);

/// Largest provisioning file, in bytes: token, addresses and labels. A larger one is an error.
pub const JOIN_FILE_MAX_BYTES: usize = 16 * 1024;

/// How often a node without identity looks for a new provisioning file. Nothing wakes up for it
/// once the node is a member.
pub const JOIN_FILE_LOOK: Duration = Duration::from_secs(30);

/// A time that is surely past, in seconds since 1970: this version was written after the first of
/// January 2026. A device whose clock shows less was never told the time, and joins nothing.
pub const CLOCK_SURELY_PAST_SECONDS: i64 = 1_767_225_600;

/// Pause after the first failed attempt to join with a provisioning file; it doubles…
pub const JOIN_RETRY_FIRST: Duration = Duration::from_secs(5);

/// … up to this.
pub const JOIN_RETRY_MAX: Duration = Duration::from_secs(300);

/// … and up to this while it is the clock that is wrong: it may be set at any time, and then the
/// device is expected to go on.
pub const JOIN_RETRY_CLOCK_MAX: Duration = Duration::from_secs(30);

/// Contents of provisioning files that are remembered as used or refused. The oldest is forgotten
/// for a ninth.
pub const JOIN_FILES_REMEMBERED: usize = 8;

// cli

/// The port that managers listen on when an address names none.
pub const DEFAULT_MANAGER_PORT: u16 = 2377;

/// Addresses that `join` takes; more is a usage error.
pub const JOIN_ADDRESSES_MAX: usize = 16;

/// How long `join` waits for another edgeagent that is changing the node's membership.
pub const JOIN_LOCK_WAIT: Duration = Duration::from_secs(15);

/// Bytes read of a token file; what follows is ignored, and a token cut off is malformed.
pub const TOKEN_FILE_MAX_BYTES: u64 = 4096;
// --- ca ---

/// Characters of the root CA's digest in a join token: 256 bits in base 36 (swarmkit
/// `ca/config.go`, `base36DigestLen`).
pub const TOKEN_DIGEST_CHARS: usize = 50;

/// Characters of the secret in a join token: 128 bits in base 36 (swarmkit `ca/config.go`,
/// `maxGeneratedSecretLength`).
pub const TOKEN_SECRET_CHARS: usize = 25;

/// Longest PEM text, in bytes, of a root CA bundle or a certificate chain. Real ones have 550 to
/// some 8000; a longer one is refused.
pub const PEM_MAX_BYTES: usize = 65_536;

/// Most certificates in a root CA bundle or a chain. Swarm sends one, or two during a rotation;
/// more are refused.
pub const PEM_MAX_CERTIFICATES: usize = 16;

// --- seal ---

/// Largest sealed identity, in bytes: token, key, chain, root bundle and manager list need some
/// 6000. A larger one is not stored, and the one before stays.
pub const IDENTITY_MAX_BYTES: usize = 262_144;

/// Largest sealed task record, in bytes: a spec of some kilobytes, or much more with long
/// environments. A larger one is not stored, and its task must be refused.
pub const TASK_RECORD_MAX_BYTES: usize = 1_048_576;

/// What is read at most, in bytes, of a file that names the hardware; real ones have up to 37.
pub const HARDWARE_ID_MAX_BYTES: usize = 256;
// --- agent ---

/// Tasks that a node holds at once, finished ones kept as history included. For a 513th the one
/// that has been over for longest goes; when none is over, it is reported REJECTED and not kept,
/// and a finished one is ignored. Ours: some 4 kB each.
pub const TASKS_MAX: usize = 512;

/// Bytes of all secrets and configs together, held in memory. One more is left out, and the task
/// that needs it is told so. Room for two of the largest configs (1000 KiB) or four of the largest
/// secrets (500 KiB, swarmkit `manager/controlapi/{config,secret}.go`); with the set that replaces
/// them and the next on its way, most of the 8 MiB that a hostile manager may make us grow.
pub const FILES_MAX_BYTES: usize = 2 * 1024 * 1024;

/// What one secret or config is charged besides its text: identifiers and tree nodes.
pub const FILE_OVERHEAD_BYTES: usize = 256;

/// Managers that are remembered; further ones of a list are left out. Swarm advises 7 at most.
pub const MANAGERS_MAX: usize = 32;

/// Longest text of an error in a task's status, in bytes; the rest is cut. It goes to flash and
/// into the managers' Raft log.
pub const TASK_ERR_MAX_BYTES: usize = 2048;

/// From [`crate::agent::Output::Connect`] to the first session message: 5 s to dial several
/// addresses, 5 s for the dispatcher (swarmkit `agent/session.go`), and slow boards.
pub const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A heartbeat is answered within this, or the link is dead (swarmkit `agent/session.go`).
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest heartbeat period that is obeyed: a manager that says 0 must not keep us busy.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Longest heartbeat period that is obeyed: a dead link must be noticed some time.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(600);

/// First step of the pause between sessions; each is this plus twice the one before
/// (swarmkit `agent/agent.go`).
pub const SESSION_BACKOFF_STEP: Duration = Duration::from_millis(100);

/// Longest pause between sessions (swarmkit `agent/agent.go`).
pub const SESSION_BACKOFF_MAX: Duration = Duration::from_secs(8);

/// A removed node asks this rarely whether it was a mistake. Ours: swarm never stops asking.
pub const REMOVED_RETRY: Duration = Duration::from_secs(3600);

/// A failed operation is tried again after this, plus up to half of it (swarmkit `agent/task.go`
/// has one second and asks for jitter).
pub const OPERATION_RETRY: Duration = Duration::from_secs(1);

/// First pause before an assignments stream with a gap is opened anew; doubles up to
/// [`REWATCH_MAX`]. Ours: swarm has none.
pub const REWATCH_MIN: Duration = Duration::from_millis(500);

/// Longest such pause.
pub const REWATCH_MAX: Duration = Duration::from_secs(60);

/// A node whose certificate the managers refuse asks again this rarely; it has no other use of
/// them. Ours.
pub const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// A node joins anew on its own account at most once in this time, restarts and reboots included.
/// Ours: each time leaves a node record behind that only an operator can remove (anchors.md T8).
pub const REJOIN_INTERVAL: Duration = Duration::from_hours(24);

/// After the managers refused an expired certificate, a node waits up to this long before it
/// joins anew, so that a fleet does not come at once. Ours.
pub const REJOIN_JITTER: Duration = Duration::from_secs(5);

/// First pause after an attempt to join anew that reached nobody; doubles up to
/// [`RENEWAL_BACKOFF_MAX`]. Ours.
pub const REJOIN_RETRY: Duration = Duration::from_secs(30);

/// A root CA bundle that may have taken over is asked for at most this often. Ours.
pub const ROOT_RETRY: Duration = Duration::from_secs(10);

/// Pause between the order to rotate and the renewal (swarmkit `node/node.go`).
pub const ROTATE_PAUSE: Duration = Duration::from_millis(500);

/// First pause after a failed renewal; doubles up to [`RENEWAL_BACKOFF_MAX`] (behaviour.md §6.1).
pub const RENEWAL_BACKOFF_MIN: Duration = Duration::from_secs(1);

/// Longest pause after a failed renewal, and how often the wall clock is asked whether a renewal
/// is due: it may jump.
pub const RENEWAL_BACKOFF_MAX: Duration = Duration::from_secs(3600);
// --- rpc ---

/// Largest message of an assignments stream: a complete set carries every task, secret and config
/// of the node at once, and managers keep finished tasks as history. It is read as it comes, one
/// change at a time. A larger one ends the link; swarmkit's own client takes 2 GiB.
pub const ASSIGNMENTS_MAX_BYTES: usize = 64 << 20;
/// Most changes in one message of an assignments stream, removals included: [`TASKS_MAX`] tasks
/// with the history that managers keep for each, and their secrets and configs. More end the link.
pub const ASSIGNMENTS_MAX_CHANGES: usize = 16 * TASKS_MAX;
/// Most changes that are taken over whole: one of a few bytes takes a thousand in memory. Of
/// further ones only identifiers are kept: a task that is over is left as it is, another refused.
pub const ASSIGNMENTS_MAX_WHOLE: usize = 2 * TASKS_MAX;
/// Bytes of all tasks in one message, 2 kB for each of [`TASKS_MAX`]. Further ones are refused.
pub const ASSIGNMENTS_MAX_TASK_BYTES: usize = TASKS_MAX * (2 << 10);
/// Largest single change: a config of 1000 KiB (swarmkit `manager/controlapi/config.go`) with its
/// labels. A larger one is left out, as if there were no room for it.
pub const ASSIGNMENT_MAX_BYTES: usize = 1200 << 10;
/// Bytes kept of a larger change, and of a text beside the changes: identifiers stand in front.
pub const ASSIGNMENT_HEAD_BYTES: usize = 256;
/// Largest single task; real ones have a few kilobytes, and Linux takes no longer argument or
/// variable. Its lists may take 24 times that while it is read. A larger one is refused.
pub const TASK_MAX_BYTES: usize = 128 << 10;
/// Most mounts, networks, secrets or configs of one task, each. A task with more is dropped.
pub const TASK_MAX_LIST: usize = 1024;
/// Largest message of any other call: a chain or bundle of [`PEM_MAX_BYTES`] and as much again. Its
/// lists may take 28 times that in memory. A larger one ends the call, or the link.
pub const ANSWER_MAX_BYTES: usize = 2 * PEM_MAX_BYTES;
/// Largest message that we send: managers take 4 MiB (swarmkit `manager/manager.go`, `New`). A
/// larger one fails before anything is sent.
pub const REQUEST_MAX_BYTES: usize = 4 << 20;
/// Longest `message` or `err` of a reported status, in bytes; the rest is cut off.
pub const STATUS_TEXT_MAX_BYTES: usize = 4 << 10;
/// Longest text of a gRPC status, in bytes; the rest is cut off.
pub const STATUS_MESSAGE_MAX_BYTES: usize = 2 << 10;
/// Log lines travel in messages of about this many bytes; a single longer line has its own.
pub const LOG_BATCH_BYTES: usize = 64 << 10;
/// Bytes that a manager may send ahead on one stream; more waits at the manager. Held in memory
/// only while nobody reads.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same for a whole connection: above the three streams that a link keeps open, so that their
/// readers can not block an answer.
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of a stream that h2 takes from us before it asks us to wait.
pub const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Largest set of headers that we take; grpc-go sends some 200 bytes. More ends the call.
pub const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// Addresses of one name that are tried; the others are ignored.
pub const ADDRESSES_MAX: usize = 8;
/// From nothing to an open HTTP/2 connection.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls to the CA that are answered at once (swarmkit `ca/certificates.go`).
pub const CA_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeats and status reports (swarmkit `agent/session.go`, `dispatcherRPCTimeout`).
pub const DISPATCHER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the call to the first session message. Twice swarmkit's, for slow links: the manager
/// alone takes up to 0.1 s.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A finished log stream waits this long for the manager to take the rest.
pub const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
// --- logs ---

/// Bytes of one log record's data: the shim cuts longer lines into such pieces, as Docker does
/// (moby `daemon/logger/copier.go`); a longer record in a file is damage.
pub const LOG_PIECE_MAX_BYTES: usize = 16 * 1024;

/// Bytes that a log reader fetches at once: two whole records, small enough to hold one per
/// follower.
pub const LOG_READ_BYTES: usize = 2 * LOG_PIECE_MAX_BYTES;
// image

/// Longest registry host and repository together, in bytes (distribution `reference/reference.go`,
/// `NameTotalLengthMax`). A longer one is refused where it is read.
pub const IMAGE_NAME_MAX_BYTES: usize = 255;

/// Longest tag, in bytes (distribution `reference/regexp.go`). A longer one is refused.
pub const IMAGE_TAG_MAX_BYTES: usize = 128;

/// Largest manifest or index, in bytes: what registries accept (distribution `manifests.go`,
/// `maxManifestBodySize`, 4 MiB). A larger one fails the pull.
pub const MANIFEST_MAX_BYTES: usize = 4 << 20;

/// Largest image configuration, in bytes; real ones have some 10 kB. A larger one fails the pull.
pub const IMAGE_CONFIG_MAX_BYTES: usize = 4 << 20;

/// Most layers of an image: what Docker allows (moby `layer/layer_store.go`, `maxLayerDepth`
/// 125, and 127 in its documentation). More fail the pull.
pub const IMAGE_LAYERS_MAX: usize = 127;

/// Most entries of an index or an archive's list of images. More fail the pull.
pub const INDEX_ENTRIES_MAX: usize = 256;

/// Largest compressed layer, in bytes: far above real ones, below what wraps any counter.
/// A larger one fails the pull.
pub const LAYER_MAX_PACKED_BYTES: u64 = 16 << 30;

/// Largest unpacked layer, in bytes: stops a decompression bomb before it fills a large disk;
/// a small disk reports that it is full. A larger one fails the pull.
pub const LAYER_MAX_BYTES: u64 = 32 << 30;

/// Most entries of a layer: the largest images seen have some 300 000. More fail the pull.
pub const LAYER_ENTRIES_MAX: u64 = 2_000_000;

/// Longest path in a layer, in bytes: the kernel's `PATH_MAX`. A longer one fails the pull.
pub const LAYER_PATH_MAX_BYTES: usize = 4096;

/// Most folders in each other in a layer; in a real path of 4096 bytes twice as many would fit, but
/// each takes a descriptor while it is walked. The deepest seen have some 30. More fail the pull.
pub const LAYER_DEPTH_MAX: usize = 256;

/// A layer may unpack to so many bytes whatever its packed size is.
pub const LAYER_FREE_BYTES: u64 = 64 << 20;

/// Beyond [`LAYER_FREE_BYTES`] a layer may unpack to so many times its packed size. Programs pack 2
/// to 5 times; a file of zeros 1000 times with gzip, more with zstd. More is taken for a bomb and
/// fails the pull.
pub const LAYER_RATIO_MAX: u64 = 200;

/// Most runs of data of a sparse file in a layer: 16 bytes of memory each. More fail the pull.
pub const TAR_SPARSE_MAX_EXTENTS: usize = 64 << 10;

/// So many bytes of a file are written before the kernel is asked to begin to bring them to the disk,
/// so that there is less to wait for when the layer is synced.
pub const LAYER_WRITE_BACK_BYTES: usize = 8 << 20;

/// Bytes that are handed at once to the thread that computes a digest beside the unpacking, and how
/// many such pieces may wait; then the unpacking waits.
pub const DIGEST_PIECE_BYTES: usize = 64 << 10;
/// See [`DIGEST_PIECE_BYTES`].
pub const DIGEST_PIECES: usize = 2;

/// Most bytes of directory names remembered to set their times at the end of a layer. More fail
/// the pull.
pub const LAYER_DIRS_MAX_BYTES: usize = 16 << 20;

/// Largest extended header (PAX or GNU long name) of a tar entry, in bytes: extended attributes
/// have at most 64 KiB each. A larger one fails the pull.
pub const TAR_EXTENSION_MAX_BYTES: u64 = 1 << 20;

/// A use of an image is noted at most once in this time: each note is a write to the flash.
pub const IMAGE_USE_GRAIN: Duration = Duration::from_secs(24 * 3600);

/// Images that were pulled and not used for so long are removed, unless `image-max-age` says
/// otherwise.
pub const IMAGE_DEFAULT_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes that stay free beside the images, unless `image-min-free` says otherwise: room for
/// writable layers, volumes and the sealed state.
pub const IMAGE_DEFAULT_MIN_FREE_BYTES: u64 = 64 << 20;

/// Old images are looked for after each pull and removal, and this often.
pub const IMAGE_COLLECT_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// A download that nobody went on with for so long is removed.
pub const PARTIAL_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most members of an archive given to `image load`. More fail the load.
pub const ARCHIVE_MEMBERS_MAX: usize = 4096;

/// Largest request to a fetch child, in bytes: fits a pipe, so that writing it never waits.
/// A larger one is refused before a child is started.
pub const FETCH_REQUEST_MAX_BYTES: usize = 48 << 10;

/// Largest event of a fetch child, in bytes. A larger one ends the fetch.
pub const FETCH_EVENT_MAX_BYTES: usize = 32 << 10;

/// Longest error message of a fetch child, in bytes; the rest is cut off.
pub const FETCH_MESSAGE_MAX_BYTES: usize = 2 << 10;

/// A fetch child tells its progress at most this often.
pub const FETCH_PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// Bytes of a layer that are read at once: two TLS records.
pub const FETCH_READ_BYTES: usize = 32 << 10;

/// How often a fetch child looks whether another one is done with a layer that both want.
pub const FETCH_TURN_PAUSE: Duration = Duration::from_millis(100);

/// What came within this time is not on flash yet: the kernel writes data of this age (Linux
/// `vm.dirty_expire_centisecs`). A layer that came faster is not written down twice.
pub const PARTIAL_SETTLES: Duration = Duration::from_secs(30);

/// Free space that there must be before a layer's packed bytes are kept beside the layer itself,
/// in sizes of the packed layer: real layers unpack to two or three times their size.
pub const PARTIAL_ROOM: u64 = 4;

/// Tries in a row that bring nothing before a registry that had answered is given up; with
/// [`REGISTRY_RETRY_MIN`] doubling, a minute and a half. Docker has 5 (moby `daemon/config/config.go`).
pub const REGISTRY_RETRIES: u32 = 8;

/// Tries of the very first request when no image of that name is here, so that a link that is down
/// for three seconds rejects no task.
pub const REGISTRY_FIRST_RETRIES: u32 = 3;

/// The first pause before such a try; doubles up to [`REGISTRY_RETRY_MAX`].
pub const REGISTRY_RETRY_MIN: Duration = Duration::from_millis(500);

/// The longest such pause.
pub const REGISTRY_RETRY_MAX: Duration = Duration::from_secs(30);

/// A connection that brought so many bytes was worth making, and the tries are counted anew.
pub const REGISTRY_PROGRESS_BYTES: u64 = 64 << 10;

/// A connection that brings fewer bytes within [`REGISTRY_STALL_TIMEOUT`] is given up: GPRS brings
/// a hundred times as many.
pub const REGISTRY_STALL_BYTES: u64 = 4 << 10;

/// Largest file of registry credentials, in bytes. A larger one fails the pull.
pub const AUTH_FILE_MAX_BYTES: u64 = 256 << 10;

/// Most layers that `max-concurrent-downloads` allows at a time: each is a thread and a connection
/// in the fetch child, some 0.3 MB.
pub const DOWNLOADS_MAX: usize = 8;

/// Least bytes per second that `max-download-rate` takes: shared by [`DOWNLOADS_MAX`] layers it is
/// still no stall.
pub const DOWNLOAD_RATE_MIN: u64 = 4096;

/// A registry must accept a connection within this time.
pub const REGISTRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A registry must begin its answer within this time.
pub const REGISTRY_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a registry on which nothing comes for so long is given up: taking a layer up
/// again costs little.
pub const REGISTRY_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Most redirects in a row, as Docker follows. One more fails the pull.
pub const REGISTRY_REDIRECTS_MAX: usize = 10;

/// Largest header part of a registry's answer, in bytes. A larger one fails the pull.
pub const REGISTRY_HEADER_MAX_BYTES: usize = 32 << 10;

/// Connections to registries that are kept for the next request. One more takes the place of the
/// one that waits longest.
pub const REGISTRY_IDLE_MAX: usize = 4;

/// Largest answer of a token server, in bytes. A larger one fails the pull.
pub const REGISTRY_TOKEN_MAX_BYTES: usize = 64 << 10;

// --- config ---

/// Largest `agent.json`, in bytes; real ones have some hundred. A larger one is refused.
pub const CONFIG_MAX_BYTES: usize = 262_144;

/// What a task's log may hold, in bytes, when `log-opts` says nothing: it is in memory, and a
/// small device runs tens of tasks.
pub const LOG_DEFAULT_BYTES: u64 = 1_048_576;

/// The least that `log-opts.max-size` takes, in bytes: less holds no useful line.
pub const LOG_MIN_BYTES: u64 = 4096;

/// The most that `log-opts.max-file` takes, in files.
pub const LOG_MAX_FILES: u32 = 1000;

// net

/// Bytes of one answer of the kernel over netlink: its own bound for one piece of a list
/// (`net/netlink/af_netlink.c`, `netlink_recvmsg`). A longer one is cut off, and what is cut off
/// is not looked at.
pub const NETLINK_ANSWER_MAX_BYTES: usize = 32 * 1024;

/// Networks of the address pools that are tried for the bridge; then none is free. Docker's
/// pools have 31.
pub const NETWORKS_TRIED: usize = 4096;

/// Ports that all containers of a node publish together: what fits into one transaction to the
/// kernel, whose socket holds 208 KiB. A container with one more is not started.
pub const PUBLISHED_PORTS_MAX: usize = 256;

/// Least `mtu` of the bridge, in bytes: what every host of IPv4 takes (RFC 791).
pub const MTU_MIN: u16 = 576;

/// Largest `mtu`, in bytes: what a veth takes, with room for its header.
pub const MTU_MAX: u16 = 65_520;

/// Bytes of a lease's file: an endpoint, and 256 ports of at most 10 bytes each.
pub const LEASE_MAX_BYTES: u64 = 8 * 1024;

/// Bytes read of the kernel's list of routes; with more, networks that are in use may be taken
/// for free.
pub const ROUTES_MAX_BYTES: u64 = 1 << 20;

// node: containers

/// Bytes read of the host's `/etc/resolv.conf`; what follows is not passed on.
pub const RESOLV_CONF_MAX_BYTES: u64 = 16 * 1024;

// --- spec ---

/// Least memory limit of a container (moby `daemon/daemon_unix.go`, `linuxMinMemory`).
pub const CONTAINER_MEMORY_MIN_BYTES: u64 = 6 * 1024 * 1024;

/// Least CPU limit: 0.01 CPU, for the kernel takes no quota below 1 ms.
pub const CONTAINER_NANO_CPUS_MIN: u64 = 10_000_000;

/// Bytes that one template may expand to, and any value within it: more than the largest secret
/// or config (1000 KiB, swarmkit `manager/controlapi/config.go`). A longer one is an error.
pub const TEMPLATE_MAX_BYTES: usize = 1024 * 1024;

/// Work that one template may do, one per step and per byte made: some tens of milliseconds on a
/// small device. More is an error.
pub const TEMPLATE_MAX_WORK: usize = 8 * 1024 * 1024;

/// Blocks and parentheses within each other in a template; deeper is an error, before the stack
/// ends.
pub const TEMPLATE_MAX_DEPTH: usize = 50;

/// Bytes of a seccomp profile; Docker's own has 18 kB. A larger one rejects the task.
pub const SECCOMP_PROFILE_MAX_BYTES: usize = 256 << 10;

/// Names of calls in all rules of a seccomp profile; no architecture has 500 calls. More reject the
/// task.
pub const SECCOMP_NAMES_MAX: usize = 4096;

/// Conditions on arguments in all rules of a seccomp profile, once for each call that they are for:
/// each takes some 5 of the 4096 instructions of a program, in each architecture; Docker's own has
/// 8. More reject the task.
pub const SECCOMP_CONDITIONS_MAX: usize = 128;

// --- runner: sys, container, shim ---

/// Bytes of the kernel's list of AppArmor profiles that are read; Debian's has some 5 kB. What
/// follows is taken for not loaded.
pub const APPARMOR_PROFILES_MAX_BYTES: u64 = 256 << 10;

/// Instructions of a seccomp program (Linux `BPF_MAXINSNS`). A profile that needs more does not
/// start.
pub const SECCOMP_INSTRUCTIONS_MAX: usize = 4096;

/// Period of CPU limits, microseconds: Docker's (moby `daemon/daemon_unix.go`).
pub const CPU_PERIOD_MICROSECONDS: u64 = 100_000;

/// How often processes of a dying container are killed anew. Those that fork meanwhile are
/// caught by a later round; then removing fails and is tried again by the caller.
pub const CGROUP_KILL_ROUNDS: u32 = 500;

/// Pause between two such rounds.
pub const CGROUP_KILL_PAUSE: Duration = Duration::from_millis(2);

/// Links followed while a path is resolved by hand; as the kernel. One more is `ELOOP`.
pub const SYMLINKS_MAX: usize = 40;

/// Tries of `openat2` while something is renamed around it; then it is an error.
pub const RESOLVE_TRIES: u32 = 32;

/// Bytes read of a container's `/etc/passwd` or `/etc/group`; the rest is not looked at.
pub const ACCOUNT_FILE_MAX_BYTES: u64 = 1 << 20;

/// Bytes of the reason why a container did not start; the rest is cut off.
pub const START_ERROR_MAX_BYTES: usize = 2048;

/// Bytes of a frame between agent and shim without its length; a longer one ends the connection.
pub const SHIM_FRAME_MAX_BYTES: usize = 8 << 10;

/// Bytes of a health probe's output that are kept (moby `daemon/health.go`, `maxOutputLen`); the
/// rest is read and dropped.
pub const PROBE_OUTPUT_MAX_BYTES: usize = 4096;

/// Reads of a probe's output in a row, of [`PROBE_OUTPUT_MAX_BYTES`] each: all that a pipe holds.
pub const PROBE_READS_MAX: usize = 16;

/// Health checks without an interval of their own (moby `daemon/health.go`, as all of these).
pub const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Health checks without a timeout of their own.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Health checks without a number of retries.
pub const PROBE_RETRIES: u32 = 3;

/// Health checks without an interval for the start period.
pub const PROBE_START_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest interval or timeout of a health check; a shorter one is refused (moby
/// `daemon/container.go`, `validateHealthCheck`).
pub const PROBE_TIME_MIN: Duration = Duration::from_millis(1);

/// Bytes of a bundle: 64 secrets and configs of the largest allowed size. More is refused.
pub const BUNDLE_MAX_BYTES: u64 = 64 << 20;

/// Bytes of a record file of a task: an exit record holds one start error.
pub const SHIM_RECORD_MAX_BYTES: u64 = 64 << 10;

/// Connections that a shim serves; a further one is closed at once. The agent needs one, a
/// restarted agent a second while the first dies.
pub const SHIM_CONNECTIONS_MAX: usize = 4;

/// After the container's init ended, output is read for at most this long: something outside
/// may hold the pipe open.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long the agent waits for a shim that closed its socket, or was told to kill, to be gone:
/// longer than [`DRAIN_TIME`]. Then it is killed, or removing fails and is tried again.
pub const SHIM_EXIT_TIME: Duration = Duration::from_secs(4);

/// Highest descriptor that is closed one by one before Linux 5.11, which lacks `close_range`: a
/// shim holds a few dozen, all close-on-exec anyway.
pub const DESCRIPTOR_MAX: i32 = 4096;

// container::copy
/// Files with several names whose first copy is remembered while a volume is filled, one descriptor
/// each; further ones become copies. An image has a few dozen, and 1024 descriptors is the usual limit.
pub const COPY_LINKS_MAX: usize = 256;

/// References whose last pull is remembered, so that many tasks of one service ask the registry
/// once. When full all are forgotten, which costs one question each.
pub const PULLED_MAX: usize = 64;

// rpc, fairness

/// Reads from a manager in a row, of at most 16 kB each, before everything else of the thread has
/// its turn. A flood of small frames is some 5 ms of work per read; more would starve the control
/// socket, and let what h2 queues pile up.
pub const READS_PER_TURN: u8 = 2;

// --- seal: tiers ---

/// Largest answer of a TPM that is read, in bytes: `TPM2_MAX_RESPONSE_SIZE` of all known ones.
pub const TPM_ANSWER_MAX_BYTES: usize = 4096;

/// Largest sized area within an answer, in bytes: a sealed key needs some 120 and 80.
pub const TPM_AREA_MAX_BYTES: usize = 1024;

/// How often a command goes to a TPM that says it is busy; with [`TPM_PAUSE`] doubling, 6 s in
/// all. Ours: a self test takes less than one.
pub const TPM_ATTEMPTS: u32 = 8;

/// The first pause before a busy TPM is asked again.
pub const TPM_PAUSE: Duration = Duration::from_millis(50);

/// How long a software TPM may take for an answer; for a device the kernel has limits of its own.
pub const TPM_ANSWER_WAIT: Duration = Duration::from_secs(20);

/// Least bytes of a key that systemd hands in: as strong as the cipher.
pub const CREDENTIAL_MIN_BYTES: usize = 32;

/// Most bytes of a key that systemd hands in: more is a mistake.
pub const CREDENTIAL_MAX_BYTES: usize = 4096;

// check

/// Oldest kernel, major and minor, that edgeagent promises to work on. Ours: cgroup v2 with all
/// that containers need, and the oldest one that device makers still get from their vendors.
pub const KERNEL_MIN: (u32, u32) = (4, 19);

/// 2026-11-01: a clock before the time when this program was made is wrong. In seconds since 1970.
pub const RELEASED: i64 = 1_793_491_200;

/// With less free space than this, in bytes, an image of some size will not fit.
pub const CHECK_FREE_BYTES: u64 = 256 << 20;

/// A Debian image has some 7000 files.
pub const CHECK_FREE_INODES: u64 = 10_000;

/// How long `check` waits for a manager to accept a connection.
pub const CHECK_DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Segments of IPv6's smallest MTU, 1280 bytes, less its headers; a way with smaller ones is odd.
pub const CHECK_MTU: u32 = 1220;

// policy

/// Patterns of one rule of the policy; more is a mistake in `agent.json`.
pub const POLICY_PATTERNS_MAX: usize = 64;

/// Devices that one task may be given, and that one class may have; more are left out, with a
/// warning. A program of the kernel that knows so many is still small.
pub const DEVICES_MAX: usize = 64;
